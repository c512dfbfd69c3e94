"""What a cell asks about, item by item: its samples, or the images and then the texts of a gallery.

The two kinds of cells differ in what their items are, in what a batch's outcomes become, and in how the cell closes.
Both answer here, with one interface, so that neither the plan, nor the worker that asks, nor the driver that writes
needs to know which kind it has in hand. Items are numbered from 0 over the whole cell; an *extent* is a half-open range
of these numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from harness.config.specs import PromptSpec
from harness.dataset import Dataset
from harness.errors import Refused, SampleError
from harness.measure.latency import TimedUnit
from harness.records import Answer, Record, Request, Route, Sample, sample_digest, text_digest
from harness.run.faults import caught, describe
from harness.run.messages import Answered, Embedded, Extent
from harness.store.cells import CellStore
from harness.task import Gallery, GalleryTask, Task, blank_record

Side = Literal["image", "text"]
Outcome = Any
"""An Answer, an array of choice scores, an embedding row, or the error that took their place."""


def items_of(task: Task, dataset: Dataset, route: Route, prompt: PromptSpec) -> Items:
    """The items of a cell whose task asks about `dataset` by `route`."""
    if isinstance(task, GalleryTask):
        return GalleryItems(task, dataset)
    return SampleItems(task, dataset, route, prompt)


class Items(ABC):
    """The items of one cell."""

    sides: tuple[int, ...]
    """How many items each side has. No batch holds items of two sides."""
    chooses: bool = False
    """Whether outcomes are vectors that choose among the vectors of a sample's choices."""

    def __len__(self) -> int:
        return sum(self.sides)

    # The worker asks these.

    @abstractmethod
    def samples(self, extent: Extent) -> list[Sample]:
        """The samples in an extent, built once for the two methods below; a gallery has none."""

    @abstractmethod
    def requests(self, extent: Extent, samples: Sequence[Sample]) -> list[Request | Exception]:
        """What is asked about each item; in the place of a request that cannot be made, why."""

    @abstractmethod
    def event(
        self,
        key: str,
        extent: Extent,
        samples: Sequence[Sample],
        outcomes: Sequence[Outcome],
        text_cut: Sequence[bool],
        seconds: float,
    ) -> Answered | Embedded:
        """The outcomes of the items in an extent as the driver wants them. `key` is the cell's, and `text_cut` says of
        each item whether its text was cut (nothing: of none)."""

    @abstractmethod
    def timed_units(self) -> list[TimedUnit]:
        """What one timing covers: a question; of a gallery, one image and one text."""

    # The driver asks these.

    @abstractmethod
    def missing(self, store: CellStore, batches: Sequence[Extent]) -> list[Extent]:
        """The batches that are not whole in the store. What it has of a half-finished one is dropped: it is run again
        whole."""

    @abstractmethod
    def keep(self, store: CellStore, event: Answered | Embedded) -> None:
        """Put what came back into the store."""

    @abstractmethod
    def lost(self, key: str, item: int, reason: str) -> Answered | Embedded:
        """The event which says that one item has no outcome, as it killed the process."""

    @abstractmethod
    def close(self, store: CellStore, in_order: bool = True) -> str:
        """Complete the records of a cell all of whose batches are done; returns why that cannot be, else nothing.

        `in_order` says whether outcomes came about in the order of the items; records that did not are put in it.
        """


class SampleItems(Items):
    """A cell that asks about samples, one record each."""

    def __init__(self, task: Task, dataset: Dataset, route: Route, prompt: PromptSpec) -> None:
        self.task, self.dataset, self.prompt = task, dataset, prompt
        self.route: Route = route
        self.sides = (len(dataset),)
        self.chooses = route == "embed"

    def samples(self, extent: Extent) -> list[Sample]:
        return [self.dataset[i] for i in range(*extent)]

    def requests(self, extent: Extent, samples: Sequence[Sample]) -> list[Request | Exception]:
        return [caught(self._request, sample) for sample in samples]

    def _request(self, sample: Sample) -> Request:
        check(sample)
        try:
            return self.task.request(sample, self.route, self.dataset, self.prompt)
        except Exception as error:  # a task of somebody's own, or a row that it did not expect
            raise SampleError(f"The request cannot be made: {describe(error)}") from error

    def event(
        self,
        key: str,
        extent: Extent,
        samples: Sequence[Sample],
        outcomes: Sequence[Outcome],
        text_cut: Sequence[bool],
        seconds: float,
    ) -> Answered:
        records = [self._record(*pair) for pair in zip(samples, outcomes, strict=True)]
        for record, cut in zip(records, text_cut, strict=False):
            record.text_cut = cut and record.error is None
        return Answered(key, records, seconds)

    def _record(self, sample: Sample, outcome: Answer | np.ndarray | Exception) -> Record:
        made = outcome if isinstance(outcome, Exception) else caught(self.task.record, sample, outcome, self.dataset)
        if isinstance(made, Exception):
            record = _failed(sample, describe(made))
            record.refused = isinstance(made, Refused)
            return record
        return _sound(made)

    def timed_units(self) -> list[TimedUnit]:
        return [((i, i + 1),) for i in range(len(self))]

    def missing(self, store: CellStore, batches: Sequence[Extent]) -> list[Extent]:
        have = store.ids()
        missing = list(batches)
        if have:  # else no sample need be built to know it
            missing = []
            for extent in batches:
                ids = {sample.id for sample in self.samples(extent)}
                if not ids <= have:
                    have -= ids
                    missing.append(extent)
        store.keep(have)
        return missing

    def keep(self, store: CellStore, event: Answered | Embedded) -> None:
        assert isinstance(event, Answered)
        store.append_media(read for read in event.reads if read.size is not None)
        store.append([_sound(record) for record in event.records])  # whatever a worker may have sent

    def lost(self, key: str, item: int, reason: str) -> Answered:
        sample = self.dataset[item]
        record = _failed(sample, reason)
        record.content = content_of(sample, {})
        return Answered(key, [record], 0.0)

    def close(self, store: CellStore, in_order: bool = True) -> str:
        if not in_order:
            store.put_in_order([sample.id for sample in self.dataset])
        return ""


class GalleryItems(Items):
    """A cell of a gallery: each image and each text is embedded once, and queries are ranked when all are there."""

    def __init__(self, task: GalleryTask, dataset: Dataset) -> None:
        self.task = task
        self.gallery: Gallery = task.gallery(dataset)
        self.sides = (len(self.gallery.images), len(self.gallery.texts))
        self._width = 0
        """Numbers in a vector; 0 until one is known."""
        self._early: list[tuple[Side, str, str]] = []
        """Side, id and error of items that failed before any vector came, whose width is therefore not known."""

    @cached_property
    def _named(self) -> list[tuple[str, Request]]:
        return [*self.gallery.images.items(), *self.gallery.texts.items()]

    def _side(self, item: int) -> Side:
        return "image" if item < self.sides[0] else "text"

    def samples(self, extent: Extent) -> list[Sample]:
        return []

    def requests(self, extent: Extent, samples: Sequence[Sample]) -> list[Request | Exception]:
        return [request for _, request in self._named[slice(*extent)]]

    def event(
        self,
        key: str,
        extent: Extent,
        samples: Sequence[Sample],
        outcomes: Sequence[Outcome],
        text_cut: Sequence[bool],
        seconds: float,
    ) -> Embedded:
        ids = [name for name, _ in self._named[slice(*extent)]]
        self._width = next((len(row) for row in outcomes if not isinstance(row, Exception)), self._width)
        rows = np.full((len(ids), self._width), np.nan, dtype=np.float32)
        errors = {}
        for i, outcome in enumerate(outcomes):
            if isinstance(outcome, Exception):
                errors[ids[i]] = describe(outcome)
            else:
                rows[i] = outcome
        cut = frozenset(name for name, flag in zip(ids, text_cut, strict=False) if flag)
        return Embedded(key, self._side(extent[0]), ids, rows, errors, seconds, cut)

    def timed_units(self) -> list[TimedUnit]:
        images = self.sides[0]
        return [((i, i + 1), (images + i, images + i + 1)) for i in range(min(self.sides))]

    def missing(self, store: CellStore, batches: Sequence[Extent]) -> list[Extent]:
        missing = []
        for side, low in (("image", 0), ("text", self.sides[0])):
            vectors = store.vectors(side)[1]
            have = low + len(vectors)
            self._width = self._width or vectors.shape[1]
            own = [batch for batch in batches if self._side(batch[0]) == side]
            whole = max((stop for _, stop in own if stop <= have), default=low)
            store.keep_vectors(side, whole - low)
            missing += [batch for batch in own if batch[1] > whole]
        return missing

    def keep(self, store: CellStore, event: Answered | Embedded) -> None:
        """Store vectors; items that failed before any had a width wait until one has. A process that was started anew
        cannot know the width of the vectors before: others are refused here."""
        assert isinstance(event, Embedded)
        store.append_media(event.reads)
        rows, errors = event.rows, dict(event.errors)
        for name, row in zip(event.ids, rows, strict=True):  # whatever a worker may have sent
            if not np.isfinite(row).all():
                errors.setdefault(name, "embed() gave a value that is not a finite number")
        if self._width and rows.shape[1] != self._width:
            reason = f"embed() gave vectors of width {rows.shape[1]}, not {self._width} as before"
            errors = dict.fromkeys(event.ids, reason) | errors  # of width 0 all have failed, each for its own reason
            rows = np.full((len(event.ids), self._width), np.nan)
        if not rows.shape[1]:
            self._early.extend((event.side, name, errors[name]) for name in event.ids)
            return
        for side, name, reason in self._early:
            store.append_vectors(side, [name], np.full((1, rows.shape[1]), np.nan), {name: reason})
        self._early = []
        self._width = rows.shape[1]
        store.append_vectors(event.side, event.ids, rows, errors, event.cut)

    def lost(self, key: str, item: int, reason: str) -> Embedded:
        name, _ = self._named[item]
        rows = np.zeros((1, 0), np.float32)
        return Embedded(cell=key, side=self._side(item), ids=[name], rows=rows, errors={name: reason}, seconds=0.0)

    def close(self, store: CellStore, in_order: bool = True) -> str:
        """Rank every query against the gallery, if all of its vectors are there."""
        images, texts = store.vectors("image"), store.vectors("text")
        if (len(images[0]), len(texts[0])) != self.sides:
            return self._early[0][2] if self._early else "no vector came back"
        records = self.task.rank(self.gallery, images[1], texts[1])
        errors, cut = images[2] | texts[2], store.cut_texts()
        known = {entry["media"]: entry["sha256"] for entry in store.media()}
        for record in records:
            query = record.retrieval or {}
            shown = () if query.get("direction") == "t2i" else record.media
            record.content = "-".join([text_digest(record.question), *(known.get(key, "?") for key in shown)])
            name = record.id.partition(":")[2]
            record.error = errors.get(name)
            record.text_cut = query.get("direction") == "t2i" and name in cut and record.error is None
        store.write_records(records)
        return ""


def content_of(sample: Sample, known: Mapping[str, str]) -> str:
    """A record's `content`; `known` has the digests of the media that were read, by their keys."""
    return "-".join([sample_digest(sample), *(known.get(medium.key, "?") for medium in sample.media)])


def check(sample: Sample) -> None:
    """Raise SampleError for a sample that cannot be asked about."""
    if sample.fault:
        raise SampleError(sample.fault)


def _sound(record: Record) -> Record:
    """The record, or where no file can hold its answer, one that says why."""
    if not (reason := record.unsound):
        return record
    nothing: dict[str, Any] = dict.fromkeys(_OF_ANSWERS)
    return replace(record, **nothing, cut_off=False, error=f"The answer cannot be kept: {reason}.")


_OF_ANSWERS = (
    *("answer", "raw", "scores", "chosen", "tokens_in", "tokens_out", "finish", "reasoning", "reasoning_tokens"),
    *("cost", "served_by"),
)
"""The fields of a record that an answer fills."""


def _failed(sample: Sample, reason: str) -> Record:
    record = blank_record(sample)
    record.error = reason
    return record
