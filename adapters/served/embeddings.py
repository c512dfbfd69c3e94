"""An embedding model behind an endpoint: texts by their list, what holds media one by one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from harness.errors import SampleError
from harness.records import Request

from .base import Behind
from .replies import Denied

TEXTS = 16
"""The most texts of one call."""


class ServedEmbeddings(Behind):
    """Asks a model by /embeddings. Requests that hold media are sent as a message, which vLLM takes there."""

    def embed(self, inputs: Sequence[Request]) -> np.ndarray:
        texts = [i for i, request in enumerate(inputs) if all(isinstance(part, str) for part in request.parts)]
        others = sorted({*range(len(inputs))} - {*texts})
        parts = [texts[start : start + TEXTS] for start in range(0, len(texts), TEXTS)] + [[i] for i in others]
        with ThreadPoolExecutor(self.concurrency) as pool:
            found = list(pool.map(lambda part: self._vectors([inputs[i] for i in part]), parts))
        rows = dict(zip((i for part in parts for i in part), (row for rows in found for row in rows), strict=True))
        vectors = np.array([rows[i] for i in range(len(inputs))], np.float32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)

    def _vectors(self, requests: Sequence[Request]) -> list[Any]:
        contents = [self.content(request) for request in requests]
        texts = [content for content, _ in contents if isinstance(content, str)]
        asked: dict[str, Any] = {"input": texts}
        if not texts:
            asked = {"messages": [{"role": "user", "content": content} for content, _ in contents]}
        body = {"model": self.name, **asked, "encoding_format": "float", **self.spec.extra_body}
        try:
            found = self.endpoint.ask("/embeddings", body, _rows, sum(tokens for _, tokens in contents))
        except Denied as error:
            raise SampleError(str(error)) from error
        if len(found) != len(requests):
            raise SampleError(f"the endpoint gave {len(found)} vectors for {len(requests)} requests")
        return found


def _rows(reply: dict[str, Any]) -> list[Any]:
    """The vectors of a reply, in the order of what was asked."""
    listed = sorted(reply.get("data") or (), key=lambda entry: entry.get("index", 0))
    return [entry["embedding"] for entry in listed]
