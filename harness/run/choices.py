"""Closed questions that are answered by embedding: the query's vector against the vectors of a sample's choices.

Each sample is scored with the texts of its own choices, whatever those of others are. What samples share is embedded
once for the cell: vectors are kept by text and, where samples have the very same texts, the matrix of them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.config.specs import PromptSpec
from harness.dataset import Dataset
from harness.errors import SampleError
from harness.media import Memory
from harness.records import Language, Request, Sample
from harness.run.faults import caught, describe
from harness.run.items import Outcome, check
from harness.task import Task

ROOM = 2**27
"""How many bytes of vectors are kept by text, and as many of matrices: 128 MiB, some 60,000 texts of 512 numbers."""

Texts = tuple[tuple[str, ...], ...]
"""For each choice of a sample, the texts whose mean embedding stands for it."""


@dataclass
class _Matrix:
    """The vectors of a sample's choices."""

    vectors: np.ndarray
    """Float32 [choices, d], each row of length one."""
    cut: bool
    """Whether one of the texts was cut."""
    owner: str
    """The sample that alone has had these texts so far; "" once another has had them too."""


class ChoiceVectors:
    """Turns the vectors of questions into scores for their choices.

    `ask` embeds requests, one outcome each, at most `batch_size` of them at a time, and `was_cut` says afterwards
    whether a request's text was cut; scores are cosines times `scale`.
    """

    def __init__(
        self,
        task: Task,
        dataset: Dataset,
        prompt: PromptSpec,
        language: Language,
        *,
        ask: Callable[[list[Request]], list[Outcome]],
        was_cut: Callable[[Request], bool],
        batch_size: int,
        scale: float,
    ) -> None:
        self.task, self.dataset, self.prompt = task, dataset, prompt
        self.language: Language = language
        self.ask, self.was_cut, self.batch_size, self.scale = ask, was_cut, batch_size, scale
        self._by_text, self._matrices = Memory(ROOM), Memory(ROOM)

    def scores(
        self, samples: Sequence[Sample], outcomes: Sequence[Outcome], *, timed: bool = False
    ) -> tuple[list[Outcome], list[bool]]:
        """For each sample its scores, float32 [choices], from its query's vector [d], and whether a text of its choices
        was cut. An error stays, or becomes the outcome.

        Where it is `timed`, texts that no other sample has had are embedded anew, as a new question's would be.
        """
        found = [
            next((x for x in (outcome, choices) if isinstance(x, Exception)), choices)
            for outcome, choices in zip(outcomes, self._of_samples(samples, timed), strict=True)
        ]
        scores = [
            self.scale * (choices.vectors @ outcome) if isinstance(choices, _Matrix) else choices
            for outcome, choices in zip(outcomes, found, strict=True)
        ]
        return scores, [isinstance(choices, _Matrix) and choices.cut for choices in found]

    def _candidates(self, sample: Sample) -> Texts:
        """The texts of each choice of a sample; raises SampleError where it has no choice."""
        check(sample)
        try:
            found = self.task.candidates(sample, self.dataset, self.prompt)
        except Exception as error:
            raise SampleError(f"The choices cannot be worded: {describe(error)}") from error
        if not found:
            raise SampleError("There is no choice to choose from.")
        return found

    def _of_samples(self, samples: Sequence[Sample], timed: bool) -> list[_Matrix | Exception]:
        """The vectors of each sample's choices; where a text cannot be embedded or there is no choice, the error."""
        texts = [caught(self._candidates, sample) for sample in samples]
        # Equal texts are asked for once. A task may give many samples one and the same object, and then its texts, of
        # which there may be thousands, are not even compared.
        same: dict[int, Texts] = {}
        first: dict[Texts, Texts] = {}
        for own in texts:
            if not isinstance(own, Exception) and id(own) not in same:
                same[id(own)] = first.setdefault(own, own)
        found: dict[int, _Matrix | Exception] = {}
        missing: dict[int, tuple[Texts, str]] = {}
        for sample, own in zip(samples, texts, strict=True):
            if isinstance(own, Exception) or id(same[id(own)]) in found:
                continue
            own = same[id(own)]
            known = self._matrices.get(own)
            if known is None or (timed and known.owner == sample.id):
                missing.setdefault(id(own), (own, sample.id))
            else:
                found[id(own)] = known
        found |= dict(zip(missing, self._made(list(missing.values()), timed), strict=True))
        matrices: list[_Matrix | Exception] = []
        for sample, own in zip(samples, texts, strict=True):
            matrix = own if isinstance(own, Exception) else found[id(same[id(own)])]
            if isinstance(matrix, _Matrix) and matrix.owner != sample.id:
                matrix.owner = ""
            matrices.append(matrix)
        return matrices

    def _made(self, wanted: Sequence[tuple[Texts, str]], timed: bool) -> list[_Matrix | Exception]:
        """The matrix of each set of texts that some sample has: the normalised mean of each choice's texts."""
        texts = dict.fromkeys(text for choices, _ in wanted for wordings in choices for text in wordings)
        rows = self._embedded(list(texts), timed)
        made: list[_Matrix | Exception] = []
        for choices, sample_id in wanted:
            failed = next((row for c in choices for text in c if isinstance(row := rows[text], Exception)), None)
            if failed is not None:
                made.append(failed)
                continue
            means = np.stack([np.mean([rows[text][0] for text in wordings], axis=0) for wordings in choices])
            lengths = np.linalg.norm(means, axis=1, keepdims=True)
            if not lengths.all():
                made.append(SampleError("The vectors of a choice's texts cancel one another out."))
                continue
            vectors = means / lengths
            cut = any(rows[text][1] for wordings in choices for text in wordings)
            made.append(_Matrix(vectors, cut, sample_id))
            self._matrices.put(choices, made[-1], vectors.nbytes)
        return made

    def _embedded(self, texts: Sequence[str], timed: bool) -> dict[str, Outcome]:
        """For each text its vector [d] and whether it was cut, or the error that took their place."""
        rows: dict[str, Outcome] = {} if timed else {text: self._by_text.get(text) for text in texts}
        missing = [text for text in texts if rows.get(text) is None]
        for start in range(0, len(missing), self.batch_size):
            some = missing[start : start + self.batch_size]
            requests = [Request((text,), language=self.language) for text in some]
            for text, request, row in zip(some, requests, self.ask(requests), strict=True):
                rows[text] = row
                if not isinstance(row, Exception):  # one that failed may fare better with another sample
                    rows[text] = row, self.was_cut(request)
                    self._by_text.put(text, rows[text], row.nbytes)
        return rows
