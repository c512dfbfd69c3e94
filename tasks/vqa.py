"""Visual (and audio) question answering: the model generates an answer, or chooses one from a closed set.

A closed set that the data set declares (yes / no) is listed in the prompt; options of a sample's own are lettered. The
headline is the metric that the data set names, else the official VQA accuracy where there are ten human answers, else
exact match. A data set may mix questions with options and open ones; each is scored by its own rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from harness.config.specs import PromptSpec
from harness.dataset import Dataset
from harness.errors import UserError
from harness.metrics import Scored, averaged, vqa
from harness.metrics.choice import extract_choice, letter, reference_choice
from harness.metrics.hygiene import answer_hygiene
from harness.records import Record, Request, Route, Sample
from harness.task import Scoring, Task, placed

_MARK = {"en": ("letter", "number"), "zh": ("字母", "编号")}
"""What a prompt calls that which stands before an option: up to 26 have letters, more have numbers."""
_OF_CHOICES = ("choice_accuracy", "extraction_failure_rate")


class Vqa(Task):
    """Answers by generating text, or from a closed set by the score or the similarity of each choice."""

    name = "vqa"
    routes = ("generate", "rank", "embed")
    metrics = (
        "vqa_accuracy", "exact_match", "token_f1", "anls", "relaxed_accuracy", "textvqa_accuracy", *_OF_CHOICES,
        "wrong_language_rate", "empty_rate", "repetition_rate",
    )  # fmt: skip
    shares_media = True

    def route(self, available: Sequence[Route], dataset: Dataset) -> Route | None:
        closed = bool(dataset.labels) or (len(dataset) > 0 and all(dataset.form.choices))
        return next((r for r in self.routes if r in available and (closed or r == "generate")), None)

    def check(self, dataset: Dataset) -> None:
        form = dataset.form
        if dataset.metric in _OF_CHOICES and not dataset.labels and not any(form.choices):
            raise UserError(f"it needs choices (columns.choices, or labels), and no row of {dataset.name} has any")
        fewest = {"vqa_accuracy": vqa.FEWEST_ANNOTATORS, "textvqa_accuracy": 10}.get(dataset.metric, 0)
        few = sum(count < fewest for count in form.references)
        many = sum(count > 10 for count in form.references) if dataset.metric == "textvqa_accuracy" else 0
        if few or many:
            raise UserError(
                f"it needs {'ten' if fewest == 10 else f'at least {fewest}'} human answers to each question, and "
                f"{few + many} of {len(form.references)} rows of {dataset.name} have another number"
            )

    def request(self, sample: Sample, route: Route, dataset: Dataset, prompt: PromptSpec) -> Request:
        if route == "embed":
            return Request(sample.media, language=sample.language)
        if sample.choices:
            marks = zip(_marks(len(sample.choices)), sample.choices, strict=True)
            wording, listed = prompt.vqa_choices, "\n".join(f"{mark}. {choice}" for mark, choice in marks)
        elif dataset.labels:
            wording, listed = prompt.vqa_closed, (", " if sample.language == "en" else "、").join(dataset.labels)
        else:
            wording, listed = prompt.vqa, ""
        mark = _MARK[sample.language][len(sample.choices) > len(ascii_uppercase)]
        text = wording[sample.language].format(question=sample.question, choices=listed, mark=mark).strip()
        return Request(
            placed(sample.media, text),
            self.choices(sample, dataset),
            self.spec.max_new_tokens,
            language=sample.language,
        )

    def candidates(self, sample: Sample, dataset: Dataset, prompt: PromptSpec) -> tuple[tuple[str, ...], ...]:
        wording = (prompt.choice if sample.choices else prompt.answer)[sample.language]
        return tuple(
            (wording.format(question=sample.question, choice=choice).strip(),)
            for choice in self.choices(sample, dataset)
        )

    def score(self, records: Sequence[Record], scoring: Scoring) -> list[Scored]:
        options = [record.choices or scoring.labels for record in records]
        chosen = [_chosen(record, some, scoring.language) for record, some in zip(records, options, strict=True)]
        answers = [_as_text(record) for record in records]
        references = [record.references for record in records]
        exact = vqa.exact_match(answers, references, scoring.language)
        scored = [exact, vqa.token_f1(answers, references, scoring.language), vqa.anls(answers, references)]
        scored.append(vqa.relaxed_accuracy(answers, references))
        counts = {len(record.references) for record in records}
        if counts == {10} or (scoring.metric == "vqa_accuracy" and counts):
            scored.insert(0, vqa.vqa_accuracy(answers, references))
        if counts == {10}:
            scored.append(vqa.textvqa_accuracy(answers, references))
        if any(options):
            right = [_right(record, some) for record, some in zip(records, options, strict=True)]
            otherwise = None if all(options) else exact.statistics[:, 0].tolist()
            scored.append(vqa.choice_accuracy(chosen, right, otherwise))
            asked = [bool(some) and r.answer is not None for r, some in zip(records, options, strict=True)]
            scored.append(vqa.extraction_failure_rate(chosen, asked))
        return scored + answer_hygiene([record.answer for record in records], scoring.language)

    def chance(self, records: Sequence[Record], scoring: Scoring) -> list[Scored]:
        options = [record.choices or scoring.labels for record in records]
        if not records or not all(options):
            return []
        share = [len(_right(record, some)) / len(some) for record, some in zip(records, options, strict=True)]
        name = scoring.metric or "exact_match"
        return [averaged(name, "expectation of choosing blindly among the choices", share)]


def _marks(count: int) -> Sequence[str]:
    """What stands before each of so many options: letters, or numbers where there are more options than letters."""
    return ascii_uppercase[:count] if count <= len(ascii_uppercase) else [str(i + 1) for i in range(count)]


def _chosen(record: Record, options: Sequence[str], language: str) -> int | None:
    """Which of the options as shown an answer chooses: by its score, else as its text is read."""
    if record.answer is None or not options:
        return None
    if record.best is not None:
        return record.best
    return extract_choice(record.answer, options, language, lettered=bool(record.choices))


def _as_text(record: Record) -> str | None:
    """An answer as it is compared with texts: a bare letter, where options were lettered, is the option it names."""
    place = letter(record.answer) if record.answer is not None and record.choices else None
    if place is None or record.best is not None or not place < len(record.choices) <= len(ascii_uppercase):
        return record.answer
    return record.choices[place]


def _right(record: Record, options: Sequence[str]) -> frozenset[int]:
    """Which of the options as shown are right; those of records without their places are found by their text."""
    if not options:
        return frozenset()
    if record.right:
        order = record.order or range(len(options))
        return frozenset(shown for shown, own in enumerate(order) if own in record.right)
    found = {text: reference_choice(text, options) for text in record.references}
    for text, number in found.items():
        if number is None:
            raise UserError(f"{record.id}: the answer '{text}' is not among the choices {', '.join(options)}.")
    return frozenset(number for number in found.values() if number is not None)
