"""What a job says while it runs: the driver, which alone writes to disk, turns these into files and progress.

A job (one model with its cells) is a generator of events, so that an engine only has to carry them from wherever the
job runs. Events are small frozen dataclasses; a cell is named by its key, which is also its folder below `cells/`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from harness.config.specs import DatasetSpec, LatencySpec, ModelSpec, PromptSpec, TaskSpec
from harness.media import Read
from harness.records import Language, Record, Route

if TYPE_CHECKING:
    import numpy as np


Extent = tuple[int, int]
"""A half-open range of a cell's items: its samples, or a gallery's images and then its texts."""


@dataclass(frozen=True)
class CellJob:
    """What a worker needs to know of one cell."""

    key: str
    task: TaskSpec
    dataset_name: str
    dataset: DatasetSpec
    language: Language
    route: Route
    ablate: str
    """One of harness.records.ABLATIONS."""
    seed: int
    """A shuffling ablation is drawn with it."""
    indices: tuple[int, ...] | None
    """Positions in the data set of the samples, in the order in which they are asked; None: all, in its own."""
    batches: tuple[Extent, ...]
    """Batches still to run."""
    batch_size: int
    """The most requests in one call of the adapter; less than a batch once memory has run out."""
    begun: bool = False
    """Whether items of it have been asked before, in another process."""
    stream: bool = False
    """Whether the adapter streams: then batches mean nothing but which items are asked."""
    alone: int = 0
    """So many of the first items are asked each by itself, as a process died while it was asking some of them."""


@dataclass(frozen=True)
class Job:
    """One model with its cells: what runs in one fresh process."""

    name: str
    model: ModelSpec
    """Its settings; the dtype is resolved, never "auto"."""
    prompt: PromptSpec
    device: str
    cells: tuple[CellJob, ...]
    latency: LatencySpec
    prepare_ahead: int
    data_dir: str | None
    media_bytes: int = 2**31
    """The most that decoded media of all prepared batches may take together."""
    budget: float | None = None
    """What may still be spent on the model; None: there is no bound."""
    timing: bool = False
    """Time the cells (the full latency pass) in place of answering them."""


@dataclass(frozen=True)
class Loaded:
    """The model is on its device."""

    seconds: float


@dataclass(frozen=True)
class CellStarted:
    cell: str


@dataclass(frozen=True)
class Answered:
    """Records of one batch, in order, errors included; or of a stream those that came together."""

    cell: str
    records: list[Record]
    seconds: float
    reads: list[Read] = field(default_factory=list)
    """The media that were opened for these items, as they were then."""
    items: tuple[int, ...] = ()
    """Of a stream: which items these are. Batches come in the order in which they were asked for."""

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True)
class Embedded:
    """Vectors of one batch of one side of a gallery, float32 [n, d].

    A row of NaN is an item that failed, for the reason in `errors`. Rows have width 0 while no item has been embedded.
    """

    cell: str
    side: Literal["image", "text"]
    ids: list[str]
    rows: np.ndarray
    errors: dict[str, str]
    seconds: float
    cut: Collection[str] = ()
    """The ids of the texts that were cut at the model's context."""
    reads: list[Read] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Resized:
    """By what memory allows, the cell's requests go to the adapter by at most `batch_size` from here on."""

    cell: str
    batch_size: int


@dataclass(frozen=True)
class TimingBegun:
    """The cell's quick latency pass begins, and lasts until it ends or fails: models that run elsewhere pause."""

    cell: str


@dataclass(frozen=True)
class CellEnded:
    """All batches of the cell are done."""

    cell: str
    peak_memory_mb: float | None
    latency: dict[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Timed:
    """The full latency pass of a cell, as far as it has come: latency entries of summary.json."""

    cell: str
    figures: dict[str, Any]
    done: bool = False


@dataclass(frozen=True)
class Failed:
    """A cell, or the whole job (`cell` None), cannot go on."""

    cell: str | None
    reason: str
    again: bool = False
    """Whether a resume is to ask again what failed, as nothing but the adapter was at fault."""


@dataclass(frozen=True)
class OutOfMoney:
    """No more requests of this model can be paid for: what is left of the job waits for a resume."""

    reason: str


@dataclass(frozen=True)
class Died:
    """The process that ran the job is of no more use: it ended without a word (told by the engine), hung and was ended,
    or lost its device (told by the worker)."""

    reason: str
    cause: Literal["crash", "kill", "hang"] = "crash"
    """kill: by SIGKILL, which is how a kernel ends what takes too much memory."""


Event = (
    Loaded | CellStarted | Answered | Embedded | Resized | TimingBegun | CellEnded | Timed | Failed | OutOfMoney | Died
)
