"""ViLT for visual question answering: a classifier over a closed set of answers (the 3,129 frequent ones of VQA v2).

Its answer is the likeliest label; asked to choose, it ranks the choices that are among its labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import SampleError
from harness.records import Answer, Request, Route

from ..text import longer_texts, marks_of, plain
from .base import Tensors, TransformersAdapter, context_length, one_image_each

if TYPE_CHECKING:
    import numpy as np
    import torch

    from harness.clock import Clock

UNKNOWN = -1e4
"""The log-likelihood given to a choice that the model has no label for: it cannot be its answer. Finite, for JSON."""


@dataclass
class Questions:
    """A prepared batch."""

    tensors: Tensors
    choices: list[list[int | None]]
    """For each choice of each request the index of its label, or None where the model has no such label."""
    texts: list[str]


class LabelAnswers(TransformersAdapter):
    """ViltForQuestionAnswering and others like it: image and question in, logits over `config.id2label` out."""

    auto_class = "AutoModelForVisualQuestionAnswering"
    needs = ("image",)

    def load(self, device: str, clock: Clock) -> None:
        super().load(device, clock)
        self.labels = dict(self.model.config.id2label)
        self.index = {_plain(label): i for i, label in self.labels.items()}
        self.marks = marks_of(self.processor.tokenizer, self.processor)
        self.context = context_length(self.processor.tokenizer, self.model)

    def prepare(self, requests: Sequence[Request], route: Route) -> Questions:
        """Decode, resize, tokenise; questions longer than the context (40 tokens for ViLT) are cut off."""
        images = one_image_each(requests, type(self.model).__name__)
        choices = [[self.index.get(_plain(c)) for c in r.choices] for r in requests] if route == "rank" else []
        for request, known in zip(requests, choices, strict=False):
            if not any(index is not None for index in known):
                shown = ", ".join(request.choices[:5]) + (", …" if len(request.choices) > 5 else "")
                raise SampleError(f"{self.spec.checkpoint} has none of the choices ({shown}) among its labels.")
        texts = [plain(request.text, self.marks) for request in requests]
        tensors = self.processor(
            images=images,
            text=texts,
            padding=True,
            truncation=True,
            max_length=self.context,
            return_tensors="pt",
        )
        return Questions(self.to_host(tensors), choices, texts)

    def text_cut(self, inputs: Questions) -> list[bool]:
        return longer_texts(self.processor.tokenizer, inputs.texts, inputs.tensors["input_ids"], self.context, True)

    def generate(self, inputs: Questions) -> list[Answer]:
        """The likeliest label of each request."""
        best = self._log_likelihoods(inputs).argmax(dim=-1).tolist()
        sent = inputs.tensors["attention_mask"].sum(dim=1).tolist()
        return [Answer(self.labels[i], tokens_in=n) for i, n in zip(best, sent, strict=True)]

    def rank(self, inputs: Questions) -> list[np.ndarray]:
        """The log-likelihood of each choice's label, or `UNKNOWN` where the model has no such label: n arrays, float32
        [choices]."""
        import numpy as np

        logs = self._log_likelihoods(inputs).cpu().numpy()
        return [
            np.array([UNKNOWN if i is None else row[i] for i in indices], dtype=np.float32)
            for row, indices in zip(logs, inputs.choices, strict=True)
        ]

    def _log_likelihoods(self, inputs: Questions) -> torch.Tensor:
        import torch

        with torch.no_grad(), self.clock.phase("encode"):
            return self.model(**self.to_device(inputs.tensors)).logits.float().log_softmax(dim=-1)


def _plain(label: str) -> str:
    return " ".join(label.lower().split())
