"""What all models behind an endpoint have in common: the key, the server if it is ours, the name, and the parts of a
message.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from harness.adapter import Adapter
from harness.clock import Clock
from harness.errors import SampleError, UserError, counted
from harness.records import Request

from . import ServedSpec
from .content import Encoder
from .endpoint import Endpoint, Pace, Stopped
from .replies import Denied
from .server import Server


class Behind(Adapter):
    """A model behind an endpoint; its kinds add what is asked of it."""

    spec: ServedSpec
    clock: Clock

    def __init__(self, spec: ServedSpec) -> None:
        super().__init__(spec)
        self.concurrency = max(1, spec.concurrency)
        self.encoder = Encoder(spec.image_limit_px, spec.image_limit_mb, spec.detail)
        self.server: Server | None = None
        self._endpoint: Endpoint | None = None
        self.name = spec.model
        self.scaled: set[str] = set()
        """The keys of the images that the endpoint's limits made smaller."""

    def load(self, device: str, clock: Clock) -> None:
        """Find the key, start the server if it is ours, and learn the model's name if the settings do not say it.

        Raises UserError where the key is not set, the server does not start, or nobody answers.
        """
        self.clock = clock
        spec, base_url = self.spec, self.spec.base_url
        if spec.launch is not None:
            self.server = Server(spec.launch, spec, device)
            base_url = self.server.start()
        key = os.environ.get(spec.api_key_env, "").strip() if spec.api_key_env else ""
        if spec.api_key_env and not key:
            raise UserError(f"the environment variable {spec.api_key_env} that is to hold the key is not set.")
        if not (key.isascii() and key.isprintable()):
            raise UserError(f"what the environment variable {spec.api_key_env} holds is no key.")
        pace = Pace(self.concurrency, spec.requests_per_minute, spec.tokens_per_minute)
        self._endpoint = Endpoint(base_url, key, pace, spec.timeout_s, max(0, spec.retries))
        if not self.name:
            self.name = self._first_name(self._endpoint)

    def close(self) -> None:
        if self._endpoint is not None:
            self._endpoint.close()
        if self.server is not None:
            self.server.end()

    def remarks(self) -> list[str]:
        """What is to be told of the cell: how many images the endpoint's limits made smaller."""
        scaled, self.scaled = len(self.scaled), set()
        return [f"{counted(scaled, 'image')} made smaller for the endpoint's limits"] if scaled else []

    @property
    def endpoint(self) -> Endpoint:
        """Where it is asked, once it is loaded."""
        assert self._endpoint is not None
        return self._endpoint

    def content(self, request: Request) -> tuple[str | list[dict[str, Any]], int]:
        """The parts in their order; a plain text where there are no media, as some endpoints take no other."""
        text = request.text
        tokens = sum(1 if not character.isascii() else 0.25 for character in f"{self.spec.system}{text}")
        if all(isinstance(part, str) for part in request.parts):
            return text, int(tokens)
        parts: list[dict[str, Any]] = []
        for part in request.parts:
            if isinstance(part, str):
                parts.append({"type": "text", "text": part})
                continue
            sent = self.encoder.part(part)
            tokens += sent.tokens
            if sent.scaled:
                self.scaled.add(part.key)
            parts.append(sent.part)
        return parts, int(tokens)

    def _first_name(self, endpoint: Endpoint) -> str:
        """The first model that the endpoint lists; raises UserError where it lists none."""
        try:
            listed = endpoint.get("/models").get("data")
            names = [str(entry["id"]) for entry in listed or () if isinstance(entry, Mapping) and entry.get("id")]
        except (Denied, SampleError, Stopped) as error:
            raise UserError(f"{endpoint.base_url}: {error}. Say the model's name with models.NAME.model=...") from error
        if not names:
            raise UserError(f"{endpoint.base_url} lists no model. Say its name with models.NAME.model=...")
        return names[0]
