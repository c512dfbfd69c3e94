"""Classification: the model says which of the data set's labels fits, by embedding, by ranking, or when it is asked.

On the route `embed` the mean of several texts stands for each label (a prompt ensemble), as in CLIP's zero-shot
evaluation. A generated answer is mapped to a label; one that maps to none counts as wrong and as unmapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from harness.config.specs import PromptSpec
from harness.dataset import Dataset
from harness.metrics import Scored, averaged
from harness.metrics.classification import classification_scores, map_to_label
from harness.records import Language, Record, Request, Route, Sample
from harness.task import Scoring, Task, placed


@lru_cache(16)
def _worded(wordings: tuple[str, ...], labels: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The texts of each label. All samples with the same labels are given the same object: there may be many texts."""
    return tuple(tuple(wording.format(label=label) for wording in wordings) for label in labels)


class Classification(Task):
    """Labels by similarity, by the score of each label, or by generating text."""

    name = "classification"
    routes = ("embed", "rank", "generate")
    metrics = (
        "accuracy", "balanced_accuracy", "precision_macro", "recall_macro", "f1_macro", "f1_micro", "f1_weighted",
        "unmapped_rate", "top5_accuracy", "ece",
    )  # fmt: skip

    def request(self, sample: Sample, route: Route, dataset: Dataset, prompt: PromptSpec) -> Request:
        if route == "embed":
            return Request(sample.media, language=sample.language)
        labels = self.choices(sample, dataset)
        listed = (", " if sample.language == "en" else "、").join(labels)
        text = prompt.classification[sample.language].format(question=sample.question, choices=listed).strip()
        return Request(placed(sample.media, text), labels, self.spec.max_new_tokens, language=sample.language)

    def candidates(self, sample: Sample, dataset: Dataset, prompt: PromptSpec) -> tuple[tuple[str, ...], ...]:
        heard = all(medium.kind == "audio" for medium in sample.media)
        wordings = (prompt.audio_labels if heard else prompt.image_labels)[sample.language]
        return _worded(tuple(wordings), self.choices(sample, dataset))

    def score(self, records: Sequence[Record], scoring: Scoring) -> list[Scored]:
        labels = scoring.labels
        predicted = [_predicted(record, labels, scoring.language) for record in records]
        true = [record.references[0] for record in records]
        scores = None
        if records and all(record.scores is not None or record.error for record in records):
            missing = (float("nan"),) * len(labels)
            scores = np.array([record.scores or missing for record in records], dtype=np.float64)
        return classification_scores(predicted, true, labels, scores)

    def chance(self, records: Sequence[Record], scoring: Scoring) -> list[Scored]:
        if not scoring.labels:
            return []
        definition = "expectation of choosing blindly among the labels"
        share = [1.0 / len(scoring.labels)] * len(records)
        return [averaged("accuracy", definition, share), averaged("balanced_accuracy", definition, share)]


def _predicted(record: Record, labels: Sequence[str], language: Language) -> str | None:
    """The label that a record's answer is. One that was chosen by its score is known by its number; a text is read,
    where labels are declared that it could name."""
    if record.answer is None:
        return None
    if record.best is not None and labels:
        return labels[record.best] if record.best >= 0 else None
    return map_to_label(record.answer, labels, language) if labels else record.answer
