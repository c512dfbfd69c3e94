"""The task: how a sample becomes a request, how an answer becomes a record, and how records are scored.

A task never sees an adapter and never runs one. It says which capabilities it can use, in order; the first that the
adapter's class has is the route of the cell. Scoring reads records alone, so that a mended metric needs no inference.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.dataset import Dataset
from harness.records import Answer, Language, Record, Request, Route, Sample

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

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec

    def route(self, available: Sequence[Route], dataset: Dataset) -> Route | None:
        """The first of `routes` that the adapter has and the data set allows; None where there is none."""
        return next((route for route in self.routes if route in available), None)

    @abstractmethod
    def request(self, sample: Sample, route: Route, prompt: PromptSpec) -> Request:
        """What the model is asked about one sample. On the route `embed`: what is embedded as the query."""

    def candidates(self, sample: Sample, dataset: Dataset, prompt: PromptSpec) -> tuple[tuple[Request, ...], ...]:
        """On the route `embed`: for each choice, the requests whose mean embedding stands for it."""
        return ()

    @abstractmethod
    def record(self, sample: Sample, answer: Answer | np.ndarray, dataset: Dataset) -> Record:
        """The record of one answered sample: generated text, or a score for each choice."""

    @abstractmethod
    def score(self, records: Sequence[Record], scoring: Scoring) -> list[Scored]:
        """All metrics over the records, the headline first; an error counts as wrong."""

    @abstractmethod
    def reference_records(self, dataset: Dataset) -> dict[str, list[Record]]:
        """The reference rows: "prior" (and where it can be stated per sample, "chance") -> records."""
