"""Closed questions that are answered by embedding: the query's vector against the vectors of a sample's choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from harness.config.specs import PromptSpec
from harness.dataset import Dataset
from harness.errors import SampleError
from harness.records import Language, Request, Sample
from harness.run.faults import caught, describe
from harness.run.items import Outcome, check
from harness.task import Task


class ChoiceVectors:
    """Turns the vectors of questions into scores for their choices.

    `ask` embeds requests, one outcome each, at most `batch_size` of them at a time; scores are cosines times `scale`.
    """

    def __init__(
        self,
        task: Task,
        dataset: Dataset,
        prompt: PromptSpec,
        language: Language,
        *,
        ask: Callable[[list[Request]], list[Outcome]],
        batch_size: int,
        scale: float,
    ) -> None:
        self.task, self.dataset, self.prompt = task, dataset, prompt
        self.language: Language = language
        self.ask, self.batch_size, self.scale = ask, batch_size, scale
        self.labels = self._label_vectors()

    def scores(self, samples: Sequence[Sample], outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Float32 [choices] for each sample from its query vector [d]; an error stays or becomes the outcome."""
        vectors = [self.labels] * len(samples) if self.labels is not None else self._vectors(samples)
        return [
            next((x for x in (outcome, choices) if isinstance(x, Exception)), None) or self.scale * (choices @ outcome)
            for outcome, choices in zip(outcomes, vectors, strict=True)
        ]

    def _label_vectors(self) -> np.ndarray | None:
        """Label vectors [k, d], once for the cell, where every sample has the data set's labels and the same texts."""
        first = self.dataset[0]
        texts = caught(self._candidates, first)
        shared = not first.choices and all(
            caught(self._candidates, self.dataset[i]) == texts for i in (len(self.dataset) // 2, len(self.dataset) - 1)
        )
        if not shared:
            return None
        (vectors,) = self._vectors([first])
        if isinstance(vectors, Exception):
            raise vectors
        return vectors

    def _candidates(self, sample: Sample) -> tuple[tuple[str, ...], ...]:
        """The texts of each choice of a sample; raises SampleError where it has no choice."""
        check(sample)
        try:
            found = self.task.candidates(sample, self.dataset, self.prompt)
        except Exception as error:
            raise SampleError(f"The choices cannot be worded: {describe(error)}") from error
        if not found:
            raise SampleError("There is no choice to choose from.")
        return found

    def _vectors(self, samples: Sequence[Sample]) -> list[Outcome]:
        """Float32 [choices, d] for each sample: the normalised mean of each choice's texts, each text embedded once.

        Where a text cannot be embedded, or a sample has no choices, the error stands in the vectors' place.
        """
        candidates = [caught(self._candidates, sample) for sample in samples]
        known = [choices for choices in candidates if not isinstance(choices, Exception)]
        texts = list(dict.fromkeys(text for choices in known for wordings in choices for text in wordings))
        rows: list[Outcome] = []
        for start in range(0, len(texts), self.batch_size):
            some = texts[start : start + self.batch_size]
            rows += self.ask([Request((text,), language=self.language) for text in some])
        by_text = dict(zip(texts, rows, strict=True))
        vectors: list[Outcome] = []
        for choices in candidates:
            if isinstance(choices, Exception):
                vectors.append(choices)
                continue
            used = [by_text[text] for wordings in choices for text in wordings]
            failed = next((row for row in used if isinstance(row, Exception)), None)
            if failed is not None:
                vectors.append(failed)
                continue
            means = np.stack([np.mean([by_text[text] for text in wordings], axis=0) for wordings in choices])
            vectors.append(means / np.linalg.norm(means, axis=1, keepdims=True))
        return vectors
