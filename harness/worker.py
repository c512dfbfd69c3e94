"""The worker: runs one job, one model with its cells, and yields what happens as events.

It knows base classes only and writes nothing. While the device computes one batch, a host thread prepares the next
ones. A batch that fails is cut in halves and tried again until the sample at fault stands alone, which is also the
right thing to do when memory runs out.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from harness import machine, sources
from harness.adapter import Adapter, locate
from harness.clock import Clock
from harness.dataset import Dataset
from harness.errors import SampleError, UserError
from harness.events import Answered, CellEnded, CellJob, CellStarted, Embedded, Event, Failed, Job, Loaded
from harness.latency import measure
from harness.records import Answer, Record, Request, Sample
from harness.task import GalleryTask, Task, blank_record

if TYPE_CHECKING:
    import numpy as np

Outcome = Any
"""An Answer, an array of choice scores, an embedding row, or the error that took their place."""


def run(job: Job, stopping: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """Run the job; ends early, between two batches, once `stopping()` is true."""
    clock = Clock()
    start = time.perf_counter()
    try:
        adapter = locate(job.model._target_)(job.model, **job.model.options)
        adapter.load(job.device, clock)
    except Exception as error:
        yield Failed(None, f"{job.name} did not load: {describe(error)}")
        return
    machine.synchronise(job.device)
    yield Loaded(time.perf_counter() - start)
    for cell in job.cells:
        if stopping():
            break
        yield CellStarted(cell.key)
        try:
            yield from _run_cell(adapter, clock, job, cell, stopping)
        except Exception as error:
            yield Failed(cell.key, describe(error))
    adapter.close()


def describe(error: BaseException) -> str:
    """One line for people: the message of an error that was written for them, else its kind before it."""
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, UserError | SampleError) else f"{type(error).__name__}: {text}"


def open_dataset(cell: CellJob, task_name: str, data_dir: str | None) -> Dataset:
    """The cell's samples: the data set, or those of it that were drawn."""
    dataset = sources.load(cell.dataset_name, cell.dataset, task_name, cell.language, data_dir=data_dir)
    return dataset if cell.indices is None else dataset.take(cell.indices)


def _run_cell(adapter: Adapter, clock: Clock, job: Job, cell: CellJob, stopping: Callable[[], bool]) -> Iterator[Event]:
    task: Task = locate(cell.task._target_)(cell.task)  # pyright: ignore[reportAssignmentType, reportArgumentType]
    dataset = open_dataset(cell, task.name, job.data_dir)
    asker = _Asker(adapter, job, cell, task, dataset)
    done = 0
    for extent, outcomes, seconds in asker.batches(cell.batches, stopping):
        done += 1
        yield asker.event(extent, outcomes, seconds)
    if done < len(cell.batches):
        return
    latency: dict[str, Any] = {}
    if job.latency.mode != "off":
        seconds = job.latency.seconds / len(job.cells)
        latency = measure(asker.latency_units(), asker.run_one, clock, job.device, job.latency, seconds)
    yield CellEnded(cell.key, machine.peak_memory_mb(job.device), latency, asker.note)


class _Asker:
    """One cell at work: turns units (samples, or gallery items) into requests and device calls into outcomes."""

    def __init__(self, adapter: Adapter, job: Job, cell: CellJob, task: Task, dataset: Dataset) -> None:
        self.adapter, self.cell, self.task, self.dataset, self.prompt = adapter, cell, task, dataset, job.prompt
        self.ahead = job.prepare_ahead
        self.call: Callable[[Any], Sequence[Any]] = getattr(adapter, cell.route)
        self.largest = cell.batch_size
        """The largest batch that memory has allowed so far."""
        self.note = ""
        self.width = 0
        """Of the vectors of a gallery; 0 until one is known."""
        self.items: list[tuple[str, Request]] = []
        if isinstance(task, GalleryTask):
            gallery = task.gallery(dataset)
            self.items = [*gallery.images.items(), *gallery.texts.items()]
            self.images = len(gallery.images)
        elif cell.route == "embed":
            self.scale = float(getattr(adapter, "logit_scale", 1.0))
            self.labels = self._label_vectors()

    # Units -----------------------------------------------------------------------------------------------------

    def requests(self, start: int, stop: int) -> list[Request]:
        """The requests of a range of units."""
        if self.items:
            return [request for _, request in self.items[start:stop]]
        return [self.request(self.dataset[i]) for i in range(start, stop)]

    def request(self, sample: Sample) -> Request:
        return self.task.request(sample, self.cell.route, self.dataset, self.prompt)

    # Batches ---------------------------------------------------------------------------------------------------

    def batches(
        self, ranges: Sequence[tuple[int, int]], stopping: Callable[[], bool]
    ) -> Iterator[tuple[tuple[int, int], list[Outcome], float]]:
        """Run the ranges in order, the next ones being prepared meanwhile."""
        with ThreadPoolExecutor(1, thread_name_prefix="prepare") as pool:
            ahead: deque[tuple[tuple[int, int], Future]] = deque()
            todo = iter(ranges)
            start = time.perf_counter()
            while not stopping():
                while len(ahead) <= self.ahead and (extent := next(todo, None)) is not None:
                    ahead.append((extent, pool.submit(self._prepare, extent)))
                if not ahead:
                    break
                extent, future = ahead.popleft()
                requests, inputs = future.result()
                outcomes = self._finish(extent, self._attempt(requests, inputs))
                yield extent, outcomes, time.perf_counter() - start
                start = time.perf_counter()
            for _, future in ahead:
                future.cancel()

    def _prepare(self, extent: tuple[int, int]) -> tuple[list[Request], Any]:
        """Requests and their prepared inputs, or the error that preparing them raised."""
        requests = self.requests(*extent)
        try:
            return requests, self.adapter.prepare(requests, self.cell.route)
        except Exception as error:
            return requests, error

    def _attempt(self, requests: list[Request], inputs: Any = None) -> list[Outcome]:
        """One outcome a request; a batch that fails is halved until what fails stands alone."""
        error: Exception
        try:
            if len(requests) > self.largest:
                raise MemoryError
            if isinstance(inputs, Exception):
                raise inputs
            if inputs is None:
                inputs = self.adapter.prepare(requests, self.cell.route)
            return self._checked(self.call(inputs), len(requests))
        except Exception as raised:
            error = raised
        if len(requests) == 1:
            return [error]
        if out_of_memory(error):
            _free_memory()
            if len(requests) <= self.largest:
                self.largest = (len(requests) + 1) // 2
                self.note = f"memory ran out: batches of at most {self.largest}"
        half = (len(requests) + 1) // 2
        return self._attempt(requests[:half]) + self._attempt(requests[half:])

    def _checked(self, outputs: Sequence[Any], n: int) -> list[Outcome]:
        """The adapter's outputs one by one, after checking that they are what the contract says."""
        import numpy as np

        if len(outputs) != n:
            raise ValueError(
                f"{type(self.adapter).__name__}.{self.cell.route}() gave {len(outputs)} answers to {n} requests"
            )
        for output in outputs:
            if self.cell.route == "generate":
                text = output.text if isinstance(output, Answer) else output
                if not isinstance(output, Answer) or not isinstance(text, str):
                    raise TypeError(f"generate() must give Answers whose text is a str, not {type(text).__name__}")
            elif not np.isfinite(output).all():
                raise ValueError(f"{self.cell.route}() gave a value that is no finite number")
        return list(outputs)

    def run_one(self, extent: tuple[int, int], clock: Clock) -> list[Any]:
        """One unit from request to answer, for the latency pass; errors are raised."""
        requests = self.requests(*extent)
        with clock.phase("preprocess"):
            inputs = self.adapter.prepare(requests, self.cell.route)
        with clock.phase("device"):
            return list(self.call(inputs))

    def latency_units(self) -> list[tuple[tuple[int, int], ...]]:
        """What one timing covers: a question; for a gallery, one image and one text."""
        if self.items:
            pairs = min(self.images, len(self.items) - self.images)
            return [((i, i + 1), (self.images + i, self.images + i + 1)) for i in range(pairs)]
        return [((i, i + 1),) for i in range(len(self.dataset))]

    # Outcomes --------------------------------------------------------------------------------------------------

    def _finish(self, extent: tuple[int, int], outcomes: list[Outcome]) -> list[Outcome]:
        """On the route `embed` of a closed question: query vectors to scores for the choices."""
        if self.items or self.cell.route != "embed":
            return outcomes
        own = [self.dataset[i] for i in range(*extent)]
        vectors = self.labels if self.labels is not None else self._choice_vectors(own)
        return [
            outcome if isinstance(outcome, Exception) else self.scale * (vectors[i % len(vectors)] @ outcome)
            for i, outcome in enumerate(outcomes)
        ]

    def _label_vectors(self) -> list[np.ndarray] | None:
        """Label vectors [k, d], once for the cell, where every sample has the data set's labels and the same texts."""
        first = self.dataset[0]
        texts = self.task.candidates(first, self.dataset, self.prompt)
        shared = not first.choices and all(
            self.task.candidates(self.dataset[i], self.dataset, self.prompt) == texts
            for i in (len(self.dataset) // 2, len(self.dataset) - 1)
        )
        return self._choice_vectors([first]) if shared else None

    def _choice_vectors(self, samples: Sequence[Sample]) -> list[np.ndarray]:
        """Float32 [choices, d] a sample: the normalised mean of each choice's texts, each text embedded once."""
        import numpy as np

        candidates = [self.task.candidates(sample, self.dataset, self.prompt) for sample in samples]
        texts = list(dict.fromkeys(text for choices in candidates for wordings in choices for text in wordings))
        language = self.cell.language
        rows: list[Outcome] = []
        for start in range(0, len(texts), self.cell.batch_size):
            rows += self._attempt(
                [Request((text,), language=language) for text in texts[start : start + self.cell.batch_size]]
            )
        failed = next((row for row in rows if isinstance(row, Exception)), None)
        if failed is not None:
            raise failed
        by_text = dict(zip(texts, rows, strict=True))
        vectors = []
        for choices in candidates:
            means = np.stack([np.mean([by_text[text] for text in wordings], axis=0) for wordings in choices])
            vectors.append(means / np.linalg.norm(means, axis=1, keepdims=True))
        return vectors

    def event(self, extent: tuple[int, int], outcomes: list[Outcome], seconds: float) -> Event:
        """A batch's outcomes as the driver wants them."""
        if not self.items:
            records = [
                self._record(self.dataset[i], outcome) for i, outcome in zip(range(*extent), outcomes, strict=True)
            ]
            return Answered(self.cell.key, records, seconds)
        import numpy as np

        ids = [name for name, _ in self.items[slice(*extent)]]
        self.width = next((len(row) for row in outcomes if not isinstance(row, Exception)), self.width)
        rows = np.full((len(ids), self.width), np.nan, dtype=np.float32)
        errors = {}
        for i, outcome in enumerate(outcomes):
            if isinstance(outcome, Exception):
                errors[ids[i]] = describe(outcome)
            else:
                rows[i] = outcome
        return Embedded(self.cell.key, "image" if extent[0] < self.images else "text", ids, rows, errors, seconds)

    def _record(self, sample: Sample, outcome: Outcome) -> Record:
        if not isinstance(outcome, Exception):
            return self.task.record(sample, outcome, self.dataset)
        record = blank_record(sample)
        record.error = describe(outcome)
        return record


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's own error or one of torch's, told by name so that torch need not be there."""
    return isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "AcceleratorError")


def _free_memory() -> None:
    import gc
    import sys

    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
