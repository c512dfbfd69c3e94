"""Captioning: the model describes a picture; coco-caption's metrics, CIDEr first, compare this with human captions."""

from __future__ import annotations

from collections.abc import Sequence

from harness.config.specs import PromptSpec
from harness.dataset import Dataset
from harness.metrics import Scored, vqa
from harness.metrics.captions import caption_scores
from harness.metrics.hygiene import answer_hygiene
from harness.metrics.meteor import meteor_if_possible
from harness.records import Record, Request, Route, Sample
from harness.task import Scoring, Task


class Captioning(Task):
    """Captions by generating text."""

    name = "captioning"
    routes = ("generate",)
    metrics = (
        "cider", "bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "meteor", "exact_match", "wrong_language_rate",
        "empty_rate", "repetition_rate",
    )  # fmt: skip

    def request(self, sample: Sample, route: Route, dataset: Dataset, prompt: PromptSpec) -> Request:
        text = prompt.captioning[sample.language]
        parts = (*sample.media, text) if text else sample.media
        return Request(parts, max_new_tokens=self.spec.max_new_tokens, language=sample.language)

    def score(self, records: Sequence[Record], scoring: Scoring) -> list[Scored]:
        answers = [record.answer for record in records]
        references = [record.references for record in records]
        scored = caption_scores(answers, references, scoring.language)
        if scoring.language == "en" and getattr(self.spec, "meteor", False):
            scored += meteor_if_possible(answers, references)
        scored.append(vqa.exact_match(answers, references, scoring.language))
        return scored + answer_hygiene(answers, scoring.language)
