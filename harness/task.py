"""The task: how a sample becomes a request, how an answer becomes a record, and how records are scored.

A task never sees an adapter and never runs one. It says which capabilities it can use, in order; the first that the
adapter's class has is the route of the cell. Scoring reads records alone, so that a mended metric needs no inference.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from harness.dataset import Dataset
from harness.metrics.answers import final_answer
from harness.records import Answer, Language, Media, Record, Request, Route, Sample
from harness.targets import load_class

if TYPE_CHECKING:
    import numpy as np

    from harness.config.specs import PromptSpec, TaskSpec
    from harness.metrics import Scored


@dataclass(frozen=True)
class Scoring:
    """What scoring needs beside the records; kept in cell.json."""

    language: Language
    labels: tuple[str, ...] = ()
    metric: str = ""
    """The data set's own choice of headline."""


class Task(ABC):
    """One of retrieval, captioning, vqa, classification."""

    name: ClassVar[str]
    routes: ClassVar[tuple[Route, ...]]
    """Capabilities the task can use, in order of preference."""
    metrics: ClassVar[tuple[str, ...]] = ()
    """The names of all metrics that `score` may give; empty where they are not known before."""
    shares_media: ClassVar[bool] = False
    """Whether several samples often ask about one picture or clip, so that keeping it decoded pays."""

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec

    def route(self, available: Sequence[Route], dataset: Dataset) -> Route | None:
        """The first of `routes` that the adapter has and the data set allows; None where there is none."""
        return next((route for route in self.routes if route in available), None)

    def check(self, dataset: Dataset) -> None:  # noqa: B027 - a task whose headlines need nothing has nothing to check
        """Raise UserError, with the reason alone, where the data set's own headline cannot be computed from it."""

    def clustered(self, dataset: Dataset) -> Dataset:
        """The data set with the clusters that the task sees in it, of which neither a draw nor a shuffling ablation
        takes a part alone. The data set's own, unless the task knows of more that samples share."""
        return dataset

    @abstractmethod
    def request(self, sample: Sample, route: Route, dataset: Dataset, prompt: PromptSpec) -> Request:
        """What the model is asked about one sample. On the route `embed`: what is embedded as the query."""

    def candidates(self, sample: Sample, dataset: Dataset, prompt: PromptSpec) -> tuple[tuple[str, ...], ...]:
        """On the route `embed`: for each choice, the texts whose mean embedding stands for it."""
        return ()

    def wording(self, prompt: PromptSpec, language: Language) -> str:
        """What a task of somebody's own asks: as the prompt profile words it, else as the task's file does."""
        return prompt.own.get(self.name, {}).get(language) or self.spec.wording.get(language, "")

    def choices(self, sample: Sample, dataset: Dataset) -> tuple[str, ...]:
        """The closed set that a sample is answered from: its own, else the data set's."""
        return sample.choices or dataset.labels

    def record(self, sample: Sample, answer: Answer | np.ndarray, dataset: Dataset) -> Record:
        """The record of one answered sample: generated text, or a score for each choice [k]."""
        record = blank_record(sample)
        if isinstance(answer, Answer):
            put_answer(record, answer.text)
            record.cut_off = answer.finish == "length"
            for name in ("tokens_in", "tokens_out", "reasoning_tokens", "cost", "finish"):
                setattr(record, name, getattr(answer, name))
            record.reasoning, record.served_by = answer.reasoning or None, answer.served_by or None
        else:
            record.scores = tuple(round(float(score), 6) for score in answer)
            record.chosen = int(answer.argmax())
            record.answer = self.choices(sample, dataset)[record.chosen]
        return record

    def prior(self, dataset: Dataset) -> Iterator[Record]:
        """The reference row: the train split's most frequent reference (by `dataset.prior_by`), if there is one."""
        usual = {value: Counter(seen).most_common(1)[0][0] for value, seen in dataset.prior.items() if seen}
        if not usual:
            return
        overall = Counter(reference for seen in dataset.prior.values() for reference in seen).most_common(1)[0][0]
        for sample in dataset:
            record = blank_record(sample)
            record.answer = usual.get(sample.slices.get(dataset.prior_by, ""), overall)
            yield record

    @abstractmethod
    def score(self, records: Sequence[Record], scoring: Scoring) -> list[Scored]:
        """All metrics over the records, the headline first; an error counts as wrong."""

    def chance(self, records: Sequence[Record], scoring: Scoring) -> list[Scored]:
        """The exact expectation of blind guessing over any cell's records; empty where it is undefined."""
        return []


@dataclass(frozen=True)
class Gallery:
    """The two sides of a retrieval cell: each unique image and text once."""

    images: Mapping[str, Request]
    """What is embedded of each image, by the image's id."""
    texts: Mapping[str, Request]
    pairs: np.ndarray
    """Int64 [k, 2]: which image and which text belong together, by their places among `images` and `texts`."""
    clusters: Mapping[str, str] = field(default_factory=dict)
    """The cluster of each image, by the image's id; all images that a text belongs to are in one."""


class GalleryTask(Task):
    """A task whose queries are ranked against everything else, so vectors are kept and ranked when all are there."""

    def prior(self, dataset: Dataset) -> Iterator[Record]:
        """There is no most frequent answer to a search."""
        return iter(())

    @abstractmethod
    def gallery(self, dataset: Dataset) -> Gallery:
        """The unique images and texts of the (possibly limited) data set, in order."""

    @abstractmethod
    def rank(self, gallery: Gallery, images: np.ndarray, texts: np.ndarray) -> list[Record]:
        """A record for each query, in both directions, from vectors float32 [n, d] and [m, d]; a row of NaN failed."""


_MARK = re.compile(r"<image>|<image[ _]?(?P<number>\d+)>", re.IGNORECASE)


def placed(media: Sequence[Media], text: str) -> tuple[Media | str, ...]:
    """The parts of a request: the media, and the text behind them or, where it has places for images, around them.

    `<image 2>` is the place of the second image, where it stands first; `<image>` that of the next image that no number
    places. A mark for which no image is left is text. What has no place stands before everything.
    """
    images = [medium for medium in media if medium.kind == "image"]
    marks = list(_MARK.finditer(text))
    places: dict[int, int] = {}
    for place, mark in enumerate(marks):
        number = int(mark["number"] or 0) - 1
        if 0 <= number < len(images) and number not in places.values():
            places[place] = number
    left = [number for number in range(len(images)) if number not in places.values()]
    unnumbered = [place for place, mark in enumerate(marks) if mark["number"] is None]
    places |= dict(zip(unnumbered, left, strict=False))
    if not places:
        return (*media, text) if text else tuple(media)
    parts: list[Media | str] = [m for m in media if m.kind != "image"]
    parts += [images[number] for number in left if number not in places.values()]
    start, written = 0, False
    for place in [*sorted(places), None]:
        piece = text[start:] if place is None else text[start : marks[place].start()]
        piece = piece if written else piece.lstrip()
        piece = piece.rstrip() if place is None else piece
        if piece.strip():  # blanks between two images say nothing
            parts.append(piece)
            written = True
        if place is not None:
            parts.append(images[places[place]])
            start = marks[place].end()
    return tuple(parts)


def make_task(target: str, spec: TaskSpec) -> Task:
    """The task that a config names; raises UserError where the class is absent or is not a task."""
    return load_class(target, Task)(spec)  # pyright: ignore[reportAbstractUsage] - a subclass of it


def put_answer(record: Record, text: str) -> None:
    """Give a record the text that a model wrote: its final answer, and the text itself where that is another."""
    record.answer = final_answer(text).text
    record.raw = text if text != record.answer else None


def blank_record(sample: Sample) -> Record:
    """A record that repeats a sample's own fields and has no answer yet."""
    return Record(
        id=sample.id,
        cluster=sample.cluster,
        question=sample.question,
        references=sample.references,
        choices=sample.choices,
        slices=dict(sample.slices),
        order=sample.order,
        right=sample.right,
        group=sample.group,
        media=tuple(medium.key for medium in sample.media),
    )
