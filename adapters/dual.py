"""What dual encoders have in common, whichever library loads them: one part in, one vector of length one out.

A dual encoder was trained to embed an image (or a sound) and a text apart. It has no joint embedding of several parts,
and an average of two would be an emulation, so such a request is refused as this sample's error.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.adapter import Adapter
from harness.errors import SampleError
from harness.records import Media, Modality, Request, Route

from .text import plain

if TYPE_CHECKING:
    import numpy as np
    import torch

    from harness.clock import Clock


@dataclass
class Inputs:
    """A prepared batch."""

    n: int
    """How many requests there are."""
    kinds: dict[Modality, tuple[list[int], Any]]
    """For each kind of part, the rows of the requests that have it, and the tensors of `host_inputs`."""
    texts: list[str]
    """The parts that are text, in order."""


class DualEncoder(Adapter):
    """Embeds requests of one text, one image or one sound each."""

    clock: Clock
    encodes: tuple[Modality, ...] = ("text", "image")
    marks: re.Pattern[str] | None = None
    """What the tokenizer takes for special tokens; a text that mentions one is not one."""

    @abstractmethod
    def host_inputs(self, kind: Modality, parts: Sequence[Any]) -> Any:
        """Tensors for `parts` (str or Media) of one kind, on the host."""

    @abstractmethod
    def longer_than_context(self, texts: Sequence[str], inputs: Any) -> Sequence[bool]:
        """For each text whether `host_inputs` cut it, when it made these tensors of them all."""

    @abstractmethod
    def features(self, kind: Modality, inputs: Any) -> torch.Tensor:
        """Embeddings [n, d] of what `host_inputs` returned, in any dtype, not normalised."""

    def prepare(self, requests: Sequence[Request], route: Route) -> Inputs:
        """Decode, resize and tokenise; raises SampleError for a request of several parts or of a kind not encoded."""
        grouped: dict[Modality, list[tuple[int, Any]]] = defaultdict(list)
        for row, request in enumerate(requests):
            if len(request.parts) != 1:
                raise SampleError(
                    f"{self.spec.checkpoint} embeds one text, image or sound at a time; it has no joint embedding of "
                    f"{len(request.parts)} parts."
                )
            part = request.parts[0]
            kind: Modality = part.kind if isinstance(part, Media) else "text"
            if kind not in self.encodes:
                known = " and ".join(self.encodes)
                raise SampleError(f"{self.spec.checkpoint} does not encode {kind}; it encodes {known}.")
            grouped[kind].append((row, plain(part, self.marks) if isinstance(part, str) else part))
        kinds: dict[Modality, tuple[list[int], Any]] = {}
        for kind, members in grouped.items():
            kinds[kind] = [row for row, _ in members], self.host_inputs(kind, [part for _, part in members])
        return Inputs(len(requests), kinds, [part for _, part in grouped["text"]])

    def text_cut(self, inputs: Inputs) -> Sequence[bool]:
        """Whether the text of each request is longer than the context."""
        if not inputs.texts:
            return ()
        rows, tensors = inputs.kinds["text"]
        cut = [False] * inputs.n
        for row, flag in zip(rows, self.longer_than_context(inputs.texts, tensors), strict=True):
            cut[row] = flag
        return cut

    def embed(self, inputs: Inputs) -> np.ndarray:
        """Embeddings float32 [n, d]; each row is normalised to length one in float32, whatever the model's dtype."""
        import numpy as np
        import torch

        found = []
        with torch.no_grad(), self.clock.phase("encode"):
            for kind, (rows, tensors) in inputs.kinds.items():
                found.append((rows, torch.nn.functional.normalize(self.features(kind, tensors).float(), dim=-1)))
        vectors = np.empty((inputs.n, found[0][1].shape[1]), dtype=np.float32)
        for rows, features in found:
            vectors[rows] = features.cpu().numpy()
        return vectors
