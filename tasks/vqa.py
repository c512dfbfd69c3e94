"""Visual (and audio) question answering: the model generates an answer, or chooses one from a closed set.

A closed set that the data set declares (yes / no) is listed in the prompt; options of a sample's own are lettered. The
headline is the metric that the data set names, else the official VQA accuracy where there are ten human answers, else
exact match.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from harness.config.specs import PromptSpec
from harness.dataset import Dataset
from harness.metrics import Scored, averaged, vqa
from harness.metrics.hygiene import answer_hygiene
from harness.records import Record, Request, Route, Sample
from harness.task import Scoring, Task


class Vqa(Task):
    """Answers by generating text, or from a closed set by the score or the similarity of each choice."""

    name = "vqa"
    routes = ("generate", "rank", "embed")
    shares_media = True

    def route(self, available: Sequence[Route], dataset: Dataset) -> Route | None:
        closed = bool(dataset.labels) or bool(len(dataset) and dataset[0].choices)
        return next((r for r in self.routes if r in available and (closed or r == "generate")), None)

    def request(self, sample: Sample, route: Route, dataset: Dataset, prompt: PromptSpec) -> Request:
        if route == "embed":
            return Request(sample.media, language=sample.language)
        if sample.choices:
            lettered = zip(ascii_uppercase, sample.choices, strict=False)
            wording, listed = prompt.vqa_choices, "\n".join(f"{letter}. {choice}" for letter, choice in lettered)
        elif dataset.labels:
            wording, listed = prompt.vqa_closed, (", " if sample.language == "en" else "、").join(dataset.labels)
        else:
            wording, listed = prompt.vqa, ""
        text = wording[sample.language].format(question=sample.question, choices=listed).strip()
        return Request(
            (*sample.media, text), self.choices(sample, dataset), self.spec.max_new_tokens, language=sample.language
        )

    def candidates(self, sample: Sample, dataset: Dataset, prompt: PromptSpec) -> tuple[tuple[str, ...], ...]:
        wording = (prompt.choice if sample.choices else prompt.answer)[sample.language]
        return tuple(
            (wording.format(question=sample.question, choice=choice).strip(),)
            for choice in self.choices(sample, dataset)
        )

    def score(self, records: Sequence[Record], scoring: Scoring) -> list[Scored]:
        answers = [record.answer for record in records]
        references = [record.references for record in records]
        scored = [
            vqa.exact_match(answers, references, scoring.language),
            vqa.token_f1(answers, references, scoring.language),
            vqa.anls(answers, references),
        ]
        if records and all(len(record.references) == 10 for record in records):
            scored.insert(0, vqa.vqa_accuracy(answers, references))
            scored.append(vqa.textvqa_accuracy(answers, references))
        choices = [record.choices or scoring.labels for record in records]
        if records and all(choices):
            chosen = [_by_scores(record, options) for record, options in zip(records, choices, strict=True)]
            scored.append(vqa.choice_accuracy(chosen, choices, references, scoring.language))
            scored.append(vqa.extraction_failure_rate(chosen, choices, scoring.language))
        if scoring.metric == "relaxed_accuracy":
            scored.append(vqa.relaxed_accuracy(answers, references))
        scored += answer_hygiene(answers, scoring.language)
        return sorted(scored, key=lambda item: item.metric.name != scoring.metric) if scoring.metric else scored

    def chance(self, records: Sequence[Record], scoring: Scoring) -> list[Scored]:
        choices = [record.choices or scoring.labels for record in records]
        if not records or not all(choices):
            return []
        share = [1.0 / len(options) for options in choices]
        name = scoring.metric or "exact_match"
        return [averaged(name, "expectation of choosing blindly among the choices", share)]


def _by_scores(record: Record, options: Sequence[str]) -> str | None:
    """A record's answer as it is read for a choice: a ranked one as its letter, so that no option is mistaken for one
    that contains it."""
    if record.scores is None or record.answer is None or len(options) > len(ascii_uppercase):
        return record.answer
    return ascii_uppercase[list(options).index(record.answer)]
