"""One cell at work: samples become requests, requests are answered in batches, and whatever fails stands alone.

While the device computes one batch, a host thread prepares the next ones. A batch that fails is cut in halves and tried
again until the sample at fault stands alone, which is also the right thing to do when memory runs out; the size that
fitted is kept. What may pass by itself (a busy server) is asked again after a pause. A device that is lost to its
process raises `DeviceLost`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.adapter import Adapter
from harness.clock import Clock
from harness.dataset import Dataset
from harness.errors import SampleError
from harness.measure import latency
from harness.records import Answer, Record, Request, Sample
from harness.run.faults import (
    PAUSES,
    DeviceLost,
    caught,
    describe,
    device_lost,
    free_memory,
    may_pass,
    out_of_memory,
    without_frames,
)
from harness.run.messages import Answered, CellJob, Embedded, Event, Job
from harness.task import GalleryTask, Task, blank_record

if TYPE_CHECKING:
    import numpy as np

Outcome = Any
"""An Answer, an array of choice scores, an embedding row, or the error that took their place."""


@dataclass(frozen=True)
class Batch:
    """A range of units, ready for the device."""

    extent: tuple[int, int]
    samples: list[Sample]
    """None of a gallery."""
    requests: list[Request | Exception]
    """In the place of one that cannot be made, why."""
    parts: list[tuple[list[Request], Any]]
    """What is asked (to be embedded, nothing twice), in parts that memory allows, each with its inputs or the error
    that preparing raised."""


class Asker:
    """One cell at work: turns units (samples, or gallery items) into requests and device calls into outcomes."""

    def __init__(self, adapter: Adapter, clock: Clock, job: Job, cell: CellJob, task: Task, dataset: Dataset) -> None:
        self.adapter, self.cell, self.task, self.dataset, self.prompt = adapter, cell, task, dataset, job.prompt
        self.clock = clock
        self.ahead = job.prepare_ahead
        self.call: Callable[[Any], Sequence[Any]] = getattr(adapter, cell.route)
        self.largest = cell.batch_size
        """The most requests that memory has allowed in one call so far."""
        self.width = 0
        """Of the vectors; 0 until one is known."""
        self.items: list[tuple[str, Request]] = []
        if isinstance(task, GalleryTask):
            gallery = task.gallery(dataset)
            self.items = [*gallery.images.items(), *gallery.texts.items()]
            self.images = len(gallery.images)
        elif cell.route == "embed":
            self.scale = float(getattr(adapter, "logit_scale", 1.0))
            self.labels = self._label_vectors()

    # Units -----------------------------------------------------------------------------------------------------

    def request(self, sample: Sample) -> Request:
        """What the task asks about a sample; raises SampleError for one that cannot be asked about."""
        _check_sample(sample)
        try:
            return self.task.request(sample, self.cell.route, self.dataset, self.prompt)
        except Exception as error:  # a task of somebody's own, or a row that it did not expect
            raise SampleError(f"The request cannot be made: {describe(error)}") from error

    def candidates(self, sample: Sample) -> tuple[tuple[str, ...], ...]:
        """The texts of each choice of a sample; raises SampleError for one that has none."""
        _check_sample(sample)
        try:
            found = self.task.candidates(sample, self.dataset, self.prompt)
        except Exception as error:
            raise SampleError(f"The choices cannot be worded: {describe(error)}") from error
        if not found:
            raise SampleError("There is no choice to choose from.")
        return found

    # Batches ---------------------------------------------------------------------------------------------------

    def batches(
        self, ranges: Sequence[tuple[int, int]], stopping: Callable[[], bool]
    ) -> Iterator[tuple[Batch, list[Outcome], float]]:
        """Run the ranges in order, the next ones being prepared meanwhile."""
        with ThreadPoolExecutor(1, thread_name_prefix="prepare") as pool:
            ahead: deque[Future[Batch]] = deque()
            todo = iter(ranges)
            start = time.perf_counter()
            while not stopping():
                while len(ahead) <= self.ahead and (extent := next(todo, None)) is not None:
                    ahead.append(pool.submit(self._prepare, extent))
                if not ahead:
                    break
                batch = ahead.popleft().result()
                yield batch, self._answers(batch), time.perf_counter() - start
                start = time.perf_counter()
            for future in ahead:
                future.cancel()

    def _prepare(self, extent: tuple[int, int]) -> Batch:
        samples = [] if self.items else [self.dataset[i] for i in range(*extent)]
        requests: list[Request | Exception] = [request for _, request in self.items[slice(*extent)]]
        requests = requests or [caught(self.request, sample) for sample in samples]
        asked = [request for request in requests if isinstance(request, Request)]
        if self.cell.route == "embed":
            asked = list(dict.fromkeys(asked))
        parts = [asked[i : i + self.largest] for i in range(0, len(asked), self.largest)]
        return Batch(extent, samples, requests, [(part, self._inputs(part)) for part in parts])

    def _answers(self, batch: Batch) -> list[Outcome]:
        """One outcome a unit."""
        outcomes = [outcome for part in batch.parts for outcome in self._ask(*part)]
        answers = iter(outcomes)
        if self.cell.route == "embed":
            found = dict(zip((request for part, _ in batch.parts for request in part), outcomes, strict=True))
            answers = (found[request] for request in batch.requests if isinstance(request, Request))
        outcomes = [next(answers) if isinstance(request, Request) else request for request in batch.requests]
        return self._scored(batch.samples, outcomes) if self._closed else outcomes

    def _inputs(self, requests: list[Request]) -> Any:
        try:
            with self.clock.phase("preprocess"):
                return self.adapter.prepare(requests, self.cell.route)
        except Exception as error:
            return error

    def _ask(self, requests: list[Request], inputs: Any) -> list[Outcome]:
        """One outcome a request; what failed for a reason that may pass is asked again after a pause."""
        outcomes = self._attempt(requests, inputs, patient=True)
        for pause in PAUSES:
            again = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Exception) and may_pass(outcome)]
            if not again:
                break
            time.sleep(pause)
            part = [requests[i] for i in again]
            fresh = self._attempt(part, self._inputs(part), patient=pause != PAUSES[-1])
            for i, outcome in zip(again, fresh, strict=True):
                outcomes[i] = outcome
        return outcomes

    def _attempt(self, requests: list[Request], inputs: Any, patient: bool) -> list[Outcome]:
        """One outcome a request, without waiting: a batch that fails is halved until what fails stands alone, but for
        what may pass while there is patience."""
        try:
            if len(requests) > self.largest:
                raise MemoryError
            return self._call(requests, inputs)
        except Exception as raised:
            error = without_frames(raised)
        if device_lost(error):
            raise DeviceLost(describe(error)) from error
        if out_of_memory(error):
            free_memory()
        if len(requests) == 1 or (patient and may_pass(error)):
            return [error] * len(requests)
        half = (len(requests) + 1) // 2
        if out_of_memory(error):
            self.largest = min(self.largest, half)
        return [
            outcome
            for part in (requests[:half], requests[half:])
            for outcome in self._attempt(part, self._inputs(part), patient)
        ]

    def _call(self, requests: list[Request], inputs: Any) -> list[Outcome]:
        """Have the adapter answer, and check that its outputs are what the contract says; raises what went wrong."""
        import numpy as np

        if isinstance(inputs, Exception):
            raise inputs
        outputs = self.call(inputs)
        name = f"{type(self.adapter).__name__}.{self.cell.route}()"
        if not hasattr(outputs, "__len__"):
            raise TypeError(f"{name} gave a {type(outputs).__name__}, not an answer to each request")
        if len(outputs) != len(requests):
            raise ValueError(f"{name} gave {len(outputs)} answers to {len(requests)} requests")
        if self.cell.route == "generate":
            for output in outputs:
                _check_answer(name, output)
            return list(outputs)
        if self.cell.route == "rank":
            rows = [np.asarray(output, dtype=np.float32) for output in outputs]
            wrong = [r.shape for r, request in zip(rows, requests, strict=True) if r.shape != (len(request.choices),)]
            if wrong:
                raise ValueError(f"{name} gave scores of shape {wrong[0]}, not one for each choice")
        else:
            rows = np.asarray(outputs, dtype=np.float32)
            if rows.ndim != 2 or rows.shape[1] != (self.width or rows.shape[1]):
                wanted = f"{len(requests)} rows of width {self.width}" if self.width else "one row a request"
                raise ValueError(f"{name} gave an array of shape {rows.shape}, not {wanted}")
        if not all(np.isfinite(row).all() for row in rows):
            raise ValueError(f"{name} gave a value that is no finite number")
        if self.cell.route == "embed":
            self.width = len(rows[0])
        return list(rows)

    # Latency ---------------------------------------------------------------------------------------------------

    def timed_units(self) -> list[latency.Unit]:
        """What one timing covers: a question; for a gallery, one image and one text."""
        if self.items:
            pairs = min(self.images, len(self.items) - self.images)
            return [((i, i + 1), (self.images + i, self.images + i + 1)) for i in range(pairs)]
        return [((i, i + 1),) for i in range(len(self.dataset))]

    def ready(self, unit: latency.Unit, tokens: int) -> Callable[[], list[Outcome]]:
        """See `latency.Ready`: the requests are built here, and answered when what is returned is called."""
        parts: list[tuple[list[Sample], list[Request]]] = []
        for start, stop in unit:
            samples = [] if self.items else [self.dataset[i] for i in range(start, stop)]
            requests = [self.request(sample) for sample in samples] or [item for _, item in self.items[start:stop]]
            if tokens:
                requests = [replace(r, min_new_tokens=tokens, max_new_tokens=tokens) for r in requests]
            parts.append((samples, requests))
        return lambda: [outcome for part in parts for outcome in self._timed(*part)]

    def _timed(self, samples: list[Sample], requests: list[Request]) -> list[Outcome]:
        """One batch in one call, its phases marked; errors are raised, MemoryError where memory ran out."""
        try:
            inputs = self._inputs(requests)
            if isinstance(inputs, Exception):
                raise inputs
            with self.clock.phase("device"):
                outcomes = list(self.call(inputs))
                if self._closed:
                    outcomes = self._scored(samples, outcomes)
            with self.clock.phase("postprocess"):
                for sample, outcome in zip(samples, outcomes, strict=False):
                    self._record(sample, outcome)
        except Exception as error:
            if device_lost(error):
                raise DeviceLost(describe(error)) from error
            if not out_of_memory(error):
                raise
            without_frames(error)
            free_memory()
            raise MemoryError from error
        return outcomes

    # Outcomes --------------------------------------------------------------------------------------------------

    @property
    def _closed(self) -> bool:
        """Whether questions are answered by embedding."""
        return not self.items and self.cell.route == "embed"

    def _scored(self, samples: Sequence[Sample], outcomes: list[Outcome]) -> list[Outcome]:
        """Of closed questions answered by embedding: query vectors to scores for the choices."""
        vectors = [self.labels] * len(samples) if self.labels is not None else self._choice_vectors(samples)
        return [
            next((x for x in (outcome, choices) if isinstance(x, Exception)), None) or self.scale * (choices @ outcome)
            for outcome, choices in zip(outcomes, vectors, strict=True)
        ]

    def _label_vectors(self) -> np.ndarray | None:
        """Label vectors [k, d], once for the cell, where every sample has the data set's labels and the same texts."""
        first = self.dataset[0]
        texts = caught(self.candidates, first)
        shared = not first.choices and all(
            caught(self.candidates, self.dataset[i]) == texts for i in (len(self.dataset) // 2, len(self.dataset) - 1)
        )
        if not shared:
            return None
        (vectors,) = self._choice_vectors([first])
        if isinstance(vectors, Exception):
            raise vectors
        return vectors

    def _choice_vectors(self, samples: Sequence[Sample]) -> list[Outcome]:
        """Float32 [choices, d] a sample: the normalised mean of each choice's texts, each text embedded once; where one
        of them cannot be, or there are none, the error."""
        import numpy as np

        candidates = [caught(self.candidates, sample) for sample in samples]
        known = [choices for choices in candidates if not isinstance(choices, Exception)]
        texts = list(dict.fromkeys(text for choices in known for wordings in choices for text in wordings))
        language = self.cell.language
        rows: list[Outcome] = []
        for start in range(0, len(texts), self.cell.batch_size):
            part = [Request((text,), language=language) for text in texts[start : start + self.cell.batch_size]]
            rows += self._ask(part, self._inputs(part))
        by_text = dict(zip(texts, rows, strict=True))
        vectors: list[Outcome] = []
        for choices in candidates:
            if isinstance(choices, Exception):
                vectors.append(choices)
                continue
            used = [by_text[text] for wordings in choices for text in wordings]
            failed = next((row for row in used if isinstance(row, Exception)), None)
            if failed is not None:
                vectors.append(failed)
                continue
            means = np.stack([np.mean([by_text[text] for text in wordings], axis=0) for wordings in choices])
            vectors.append(means / np.linalg.norm(means, axis=1, keepdims=True))
        return vectors

    def event(self, batch: Batch, outcomes: list[Outcome], seconds: float) -> Event:
        """A batch's outcomes as the driver wants them."""
        if not self.items:
            records = [self._record(*pair) for pair in zip(batch.samples, outcomes, strict=True)]
            return Answered(self.cell.key, records, seconds)
        import numpy as np

        ids = [name for name, _ in self.items[slice(*batch.extent)]]
        rows = np.full((len(ids), self.width), np.nan, dtype=np.float32)
        errors = {}
        for i, outcome in enumerate(outcomes):
            if isinstance(outcome, Exception):
                errors[ids[i]] = describe(outcome)
            else:
                rows[i] = outcome
        return Embedded(self.cell.key, "image" if batch.extent[0] < self.images else "text", ids, rows, errors, seconds)

    def _record(self, sample: Sample, outcome: Outcome) -> Record:
        made = outcome if isinstance(outcome, Exception) else caught(self.task.record, sample, outcome, self.dataset)
        if not isinstance(made, Exception):
            return made
        record = blank_record(sample)
        record.error = describe(made)
        return record


def _check_sample(sample: Sample) -> None:
    """Raise SampleError for one that cannot be asked about."""
    if sample.fault:
        raise SampleError(sample.fault)


def _check_answer(name: str, answer: Any) -> None:
    """Raise TypeError for what is no Answer with a text, and token counts that are whole numbers or None."""
    if not isinstance(answer, Answer):
        raise TypeError(f"{name} must give Answers, not {type(answer).__name__}")
    if not isinstance(answer.text, str):
        raise TypeError(f"{name} must give Answers whose text is a str, not {type(answer.text).__name__}")
    for count in (answer.tokens_in, answer.tokens_out):
        if count is not None and type(count) is not int:
            raise TypeError(f"{name} must count tokens by int or None, not {type(count).__name__}")
