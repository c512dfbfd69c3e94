"""One cell at work: items become requests, requests are answered in batches, and whatever fails stands alone.

While the device computes one batch, a host thread prepares the next ones. A batch that fails is cut in halves and tried
again until the sample at fault stands alone, which is also the right thing to do when memory runs out (`CallSize`). A
cell whose first items all fail in the same way is given up (`FirstOutcomes`). What may pass by itself
(a busy server) is asked again after a pause. A device that is lost to its process raises `DeviceLost`.
"""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harness.adapter import Adapter
from harness.clock import Clock
from harness.dataset import Dataset
from harness.errors import OutOfBudget, SampleError
from harness.measure.latency import TimedUnit
from harness.media import MOST_READS, Read, decoded_size, reads
from harness.records import FINISHES, Answer, Media, Request, Sample
from harness.run.choices import ChoiceVectors
from harness.run.faults import (
    FIRST,
    PAUSES,
    CallSize,
    DeviceLost,
    FirstOutcomes,
    NotAsked,
    caught,
    describe,
    device_lost,
    free_memory,
    may_pass,
    no_exit,
    out_of_memory,
    without_frames,
)
from harness.run.items import Outcome, content_of, items_of
from harness.run.messages import Answered, CellJob, Embedded, Extent, Job
from harness.run.purse import Purse
from harness.run.room import Room
from harness.task import Task

LONGEST = 2**20
"""The most characters of an answer that are kept: what is longer was never an answer to a question."""


@dataclass
class Part:
    """What goes to the adapter in one call."""

    requests: list[Request]
    media_bytes: int
    """What their media take when they are decoded."""
    inputs: Any = None
    """What the adapter prepared, or the error that it raised."""
    ready: bool = False
    """Whether it has been prepared: not ahead, where prepared batches take all the room that there is."""


@dataclass(frozen=True)
class Batch:
    """Items that are ready for the device."""

    extent: Extent
    samples: list[Sample]
    """Empty in a gallery."""
    requests: list[Request | Exception]
    """One for each item; in the place of a request that cannot be made, why."""
    parts: list[Part]
    """What is asked (to be embedded, nothing twice), in parts that memory allows."""
    cut: set[Request]
    """The requests whose text the adapter cut."""
    text_cut: list[bool] = field(default_factory=list)
    """For each item whether the model saw less than all of its text; filled in when the batch is answered."""
    items: tuple[int, ...] = ()
    """Of a stream: which items these are, as they come in any order."""


class CellRunner:
    """One cell at work: turns items into requests and device calls into outcomes."""

    def __init__(
        self, adapter: Adapter, clock: Clock, job: Job, cell: CellJob, task: Task, dataset: Dataset, purse: Purse
    ) -> None:
        self.adapter, self.cell, self.clock = adapter, cell, clock
        self.items = items_of(task, dataset, cell.route, job.prompt)
        self.shares_media = task.shares_media
        self.prefetch = job.prepare_ahead
        self.answer: Callable[[Any], Sequence[Any]] = self._streamed if cell.stream else getattr(adapter, cell.route)
        self.size = CallSize(cell.batch_size)
        self.width = 0
        """Numbers in an embedding; 0 until one is known."""
        self.purse = purse
        self.timing_cost = 0.0
        """What the latency pass has cost."""
        self.shortened = 0
        """Answers that were longer than LONGEST."""
        self.first = FirstOutcomes(cell.begun)
        self._room = Room(job.media_bytes)
        self._told: set[Read] = set()
        """What the driver has been told of the media: it need not be told again and again."""
        self._probed = False
        self._trial = self.first
        """`first` with what is known of the batch in hand: halving it ends when that is hopeless."""
        self.cut: set[Request] = set()
        """Those of the batch in hand whose text was cut."""
        self.choices: ChoiceVectors | None = None
        if self.items.chooses:
            self.choices = ChoiceVectors(
                task,
                dataset,
                job.prompt,
                cell.language,
                ask=lambda requests: self._ask(requests, self._inputs(requests, self.cut)),
                was_cut=lambda request: request in self.cut,
                batch_size=cell.batch_size,
                scale=_scale_of(adapter),
            )

    # Batches ---------------------------------------------------------------------------------------------------

    def batches(
        self, extents: Sequence[Extent], stopping: Callable[[], bool]
    ) -> Iterator[tuple[Batch, list[Outcome], float]]:
        """Run the batches in order, the next ones being prepared meanwhile; with each its outcomes and its seconds."""
        with ThreadPoolExecutor(1, thread_name_prefix="prepare") as pool:
            ahead: deque[Future[Batch]] = deque()
            todo = iter(extents)
            start = time.perf_counter()
            try:
                while not stopping() and not self.given_up():
                    while len(ahead) <= self.prefetch and (extent := next(todo, None)) is not None:
                        ahead.append(pool.submit(self._prepare, extent))
                    if not ahead:
                        break
                    batch = ahead.popleft().result()
                    affordable = self.purse.allows if self.cell.route == "generate" else self.purse.pays
                    if not affordable([request for part in batch.parts for request in part.requests]):
                        raise self.purse.empty()
                    yield batch, self._answers(batch), time.perf_counter() - start
                    start = time.perf_counter()
            finally:
                for future in ahead:
                    future.cancel()

    def event(self, batch: Batch, outcomes: list[Outcome], seconds: float) -> Answered | Embedded:
        """A batch's outcomes as the driver wants them, up to the first item that was not asked."""
        media = [medium for request in batch.requests if isinstance(request, Request) for medium in _media_of(request)]
        found = reads([*media, *(medium for sample in batch.samples for medium in sample.media)])
        n = next((i for i, outcome in enumerate(outcomes) if isinstance(outcome, NotAsked)), len(outcomes))
        extent = (batch.extent[0], batch.extent[0] + n)
        cut = batch.text_cut[:n]
        event = self.items.event(self.cell.key, extent, batch.samples[:n], outcomes[:n], cut, seconds)
        if isinstance(event, Answered):
            known = {read.key: read.sha256 for read in found}
            for sample, record in zip(batch.samples, event.records, strict=False):
                record.content = content_of(sample, known)
            event = replace(event, items=batch.items[:n])
        if len(self._told) > MOST_READS:
            self._told.clear()
        fresh = [read for read in found if read not in self._told]
        self._told.update(fresh)
        return replace(event, reads=fresh)

    def _prepare(self, extent: Extent) -> Batch:
        samples = self.items.samples(extent)
        requests = self.items.requests(extent, samples)
        sizes = {
            request: sum(map(decoded_size, _media_of(request))) for request in requests if isinstance(request, Request)
        }
        requests = [(isinstance(r, Request) and self._room.too_large(sizes[r])) or r for r in requests]
        asked = [request for request in requests if isinstance(request, Request)]
        if self.cell.route == "embed":
            asked = list(dict.fromkeys(asked))
        parts = [Part(some, taken) for some, taken in self._room.parts(asked, sizes, self.size.kept)]
        cut: set[Request] = set()
        for part in parts:
            if not self._room.take(part.media_bytes):
                break
            part.inputs, part.ready = self._inputs(part.requests, cut), True
        return Batch(extent, samples, requests, parts, cut)

    def _ask_part(self, part: Part) -> list[Outcome]:
        """One outcome for each request of a part, which is prepared now if there was no room for it ahead."""
        inputs = part.inputs if part.ready else self._inputs(part.requests, self.cut)
        outcomes = self._ask(part.requests, inputs)
        if part.ready:
            self._room.leave(part.media_bytes)
        part.inputs = None
        return outcomes

    def _answers(self, batch: Batch) -> list[Outcome]:
        """One outcome for each item."""
        self._trial = copy.copy(self.first)
        self.cut = batch.cut
        outcomes = [outcome for part in batch.parts for outcome in self._ask_part(part)]
        answers = iter(outcomes)
        if self.cell.route == "embed":
            found = dict(zip((request for part in batch.parts for request in part.requests), outcomes, strict=True))
            answers = (found[request] for request in batch.requests if isinstance(request, Request))
        outcomes = [next(answers) if isinstance(request, Request) else request for request in batch.requests]
        cut = [isinstance(request, Request) and request in batch.cut for request in batch.requests]
        if self.choices is not None:
            outcomes, of_choices = self.choices.scores(batch.samples, outcomes)
            cut = [a or b for a, b in zip(cut, of_choices, strict=True)]
        self.size.end_batch()
        batch.text_cut[:] = cut
        for request, outcome in zip(batch.requests, outcomes, strict=True):
            if isinstance(request, Request):  # else the row is at fault
                self.first.note(outcome)
        return outcomes

    def _inputs(self, requests: list[Request], cut: set[Request] | None = None) -> Any:
        """What the adapter prepares, or the error that it raises. The requests whose text it cut are added to `cut`,
        which a timing has no use for. What streams takes the requests themselves."""
        if self.cell.stream:
            return requests
        try:
            with no_exit(), self.clock.phase("preprocess"):
                # A copy: an adapter may sort its list, or take from it, and answers go by the order of this one.
                inputs = self.adapter.prepare(list(requests), self.cell.route)
            if cut is not None and (flags := self.adapter.text_cut(inputs)):
                if len(flags) != len(requests):
                    name = f"{type(self.adapter).__name__}.text_cut()"
                    raise ValueError(f"{name} gave {len(flags)} flags for {len(requests)} requests")
                cut.update(request for request, flag in zip(requests, flags, strict=True) if flag)
            return inputs
        except Exception as error:
            return error

    def _ask(self, requests: list[Request], inputs: Any) -> list[Outcome]:
        """One outcome for each request; what failed for a reason that may pass is asked again after a pause."""
        outcomes = self._attempt(requests, inputs, patient=True)
        for pause in PAUSES:
            again = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Exception) and may_pass(outcome)]
            if not again:
                break
            time.sleep(pause)
            part = [requests[i] for i in again]
            fresh = self._attempt(part, self._inputs(part, self.cut), patient=pause != PAUSES[-1])
            for i, outcome in zip(again, fresh, strict=True):
                outcomes[i] = outcome
        return outcomes

    def _attempt(self, requests: list[Request], inputs: Any, patient: bool) -> list[Outcome]:
        """One outcome for each request, without waiting: a batch that fails is halved until what fails stands alone.

        While there is patience, a batch that failed for a reason that may pass is not halved.
        """
        if self._hopeless(self._trial):
            return [NotAsked()] * len(requests)
        if len(requests) <= self.size.now:
            try:
                outcomes = self._call(requests, inputs)
                for outcome in outcomes:
                    self._trial.note(outcome)
                return outcomes
            except OutOfBudget:
                raise
            except Exception as raised:
                error = without_frames(raised)
            if device_lost(error):
                raise DeviceLost(describe(error)) from error
            if out_of_memory(error):
                free_memory()
            if patient and may_pass(error):
                return [error] * len(requests)
            if len(requests) == 1:
                self._trial.note(error)
                return [error]
            if out_of_memory(error):
                self.size.ran_out(len(requests))
        half = (len(requests) + 1) // 2
        return [
            outcome
            for part in (requests[:half], requests[half:])
            for outcome in self._attempt(part, self._inputs(part, self.cut), patient)
        ]

    def given_up(self) -> bool:
        """Whether the cell's first items have all failed in the same way, so that the rest is not asked."""
        return self._hopeless(self.first)

    def _hopeless(self, outcomes: FirstOutcomes) -> bool:
        """Whether to give the cell up. Questions are asked the longest first, and a model for which these are too long
        may answer the others: before it is given up it is asked the last one, too."""
        if outcomes.hopeless and self.cell.route != "embed" and not self._probed:
            self._probed = True
            if self._fails_otherwise_at_the_end(outcomes):
                self.first.over = self._trial.over = True
        return outcomes.hopeless

    def _fails_otherwise_at_the_end(self, outcomes: FirstOutcomes) -> bool:
        """Whether the last item that can be asked is answered, or fails for another reason than the first ones."""
        for item in reversed(range(max(0, len(self.items) - FIRST), len(self.items))):
            extent = (item, item + 1)
            (request,) = self.items.requests(extent, self.items.samples(extent))
            if isinstance(request, Exception):
                continue
            self._trial, trial = FirstOutcomes(begun=True), self._trial
            (outcome,) = self._attempt([request], self._inputs([request]), patient=False)
            self._trial = trial
            found = copy.copy(outcomes)
            found.note(outcome)
            if found.over or found.count > outcomes.count:  # else it is broken media, which says nothing
                return found.over
        return False

    def _call(self, requests: list[Request], inputs: Any) -> list[Outcome]:
        """Have the adapter answer, and check that its outputs are what the contract says; raises what went wrong."""
        if isinstance(inputs, Exception):
            raise inputs
        with no_exit():
            outputs = self.answer(inputs)
        name = f"{type(self.adapter).__name__}.{self.cell.route}()"
        if not hasattr(outputs, "__len__"):
            raise TypeError(f"{name} gave a {type(outputs).__name__}, not an answer to each request")
        if len(outputs) != len(requests):
            raise ValueError(f"{name} gave {len(outputs)} answers to {len(requests)} requests")
        if self.cell.route == "generate":
            return [self.checked(name, *pair) for pair in zip(outputs, requests, strict=True)]
        if self.cell.route == "rank":
            rows = [np.asarray(output, dtype=np.float32) for output in outputs]
            wrong = [r.shape for r, request in zip(rows, requests, strict=True) if r.shape != (len(request.choices),)]
            if wrong:
                raise ValueError(f"{name} gave scores of shape {wrong[0]}, not one for each choice")
        else:
            rows = np.asarray(outputs, dtype=np.float32)
            if rows.ndim == 2 and not rows.shape[1]:
                raise ValueError(f"{name} gave vectors without a number")
            if rows.ndim != 2 or rows.shape[1] != (self.width or rows.shape[1]):
                shape = f"{len(requests)} rows of width {self.width}" if self.width else "one row for each request"
                raise ValueError(f"{name} gave an array of shape {rows.shape}, not {shape}")
        if not all(np.isfinite(row).all() for row in rows):
            raise ValueError(f"{name} gave a value that is not a finite number")
        if self.cell.route == "embed":
            if not all(row.any() for row in rows):
                raise ValueError(f"{name} gave a vector of zeros, which has no direction")
            self.width = len(rows[0])
        return list(rows)

    def _streamed(self, requests: Sequence[Request]) -> list[Any]:
        """The outcomes of a few requests, asked by one call of `stream`."""
        adapter: Any = self.adapter
        found = dict(adapter.stream(iter(list(enumerate(requests)))))
        return [found.get(i, SampleError("stream() gave no outcome for it")) for i in range(len(requests))]

    def checked(self, name: str, outcome: Any, request: Request) -> Outcome:
        """An answer, or the error in its place; what is neither is an error of the adapter, which costs this request
        alone. `name` is the method that gave it."""
        if isinstance(outcome, Exception):
            error = without_frames(outcome)
            if device_lost(error):
                raise DeviceLost(describe(error)) from error
            if isinstance(error, OutOfBudget) and not self.cell.stream:
                raise error
            self.purse.settle(request, error)
            return error
        if error := caught(_check_answer, name, outcome):
            self.purse.settle(request, error)
            return error
        if len(outcome.text) > LONGEST:
            outcome.text, outcome.finish = outcome.text[:LONGEST], "length"
            self.shortened += 1
        if outcome.finish is None and outcome.tokens_out is not None:
            outcome.finish = "length" if outcome.tokens_out >= request.max_new_tokens else "stop"
        self.purse.settle(request, outcome)
        return outcome

    # Latency ---------------------------------------------------------------------------------------------------

    def ready(self, unit: TimedUnit, tokens: int) -> Callable[[], list[Outcome]]:
        """Build the requests of a unit; what is returned answers them when it is called (see `latency.Ready`)."""
        parts: list[tuple[Extent, list[Sample], list[Request]]] = []
        for extent in unit:
            samples, requests = self.items.samples(extent), []
            for request in self.items.requests(extent, samples):
                if isinstance(request, Exception):
                    raise request
                fixed = {"min_new_tokens": tokens, "max_new_tokens": tokens} if tokens else {}
                requests.append(replace(request, **fixed))
            parts.append((extent, samples, requests))
        affordable = self.purse.allows if self.cell.route == "generate" else self.purse.pays
        if not affordable([request for *_, requests in parts for request in requests]):
            raise self.purse.empty()
        return lambda: [outcome for part in parts for outcome in self._timed(*part)]

    def _paid(self, requests: Sequence[Request], outcomes: Sequence[Any]) -> float:
        """What these answers cost."""
        for pair in zip(requests, outcomes, strict=False):
            self.purse.settle(*pair)
        return sum(outcome.cost or 0.0 for outcome in outcomes if isinstance(outcome, Answer))

    def _timed(self, extent: Extent, samples: list[Sample], requests: list[Request]) -> list[Outcome]:
        """One batch in one call, its phases marked; errors are raised, MemoryError where memory ran out."""
        try:
            inputs = self._inputs(requests)
            if isinstance(inputs, Exception):
                raise inputs
            with self.clock.phase("device"):
                outcomes = list(self.answer(inputs))
                if error := next((outcome for outcome in outcomes if isinstance(outcome, Exception)), None):
                    raise error
                if self.choices is not None:
                    outcomes, _ = self.choices.scores(samples, outcomes, timed=True)
            with self.clock.phase("postprocess"):
                caught(self.items.event, self.cell.key, extent, samples, outcomes, (), 0.0)
            self.timing_cost += self._paid(requests, outcomes)
        except Exception as error:
            if device_lost(error):
                raise DeviceLost(describe(error)) from error
            if not out_of_memory(error):
                raise
            without_frames(error)
            free_memory()
            raise MemoryError from error
        return outcomes


def _scale_of(adapter: Adapter) -> float:
    """By what cosines become choice scores; raises ValueError where that is not a finite number."""
    said = getattr(adapter, "logit_scale", 1.0)
    scale = caught(float, said)
    if isinstance(scale, Exception) or not np.isfinite(scale):
        raise ValueError(f"{type(adapter).__name__}.logit_scale is {str(said)[:50]!r}, not a finite number")
    return scale


def _media_of(request: Request) -> Iterator[Media]:
    return (part for part in request.parts if isinstance(part, Media))


def _check_answer(name: str, answer: Any) -> None:
    """Raise TypeError for what is not an Answer with a text, and token counts that are whole numbers or None; and
    ValueError for another `finish` than there is."""
    if not isinstance(answer, Answer):
        raise TypeError(f"{name} must give Answers, not {type(answer).__name__}")
    for field_, text in (("text", answer.text), ("reasoning", answer.reasoning), ("served_by", answer.served_by)):
        if not isinstance(text, str):
            raise TypeError(f"{name} must give Answers whose {field_} is a str, not {type(text).__name__}")
    for count in (answer.tokens_in, answer.tokens_out, answer.reasoning_tokens):
        if count is not None and type(count) is not int:
            raise TypeError(f"{name} must count tokens by int or None, not {type(count).__name__}")
    if answer.cost is not None and type(answer.cost) not in (int, float):
        raise TypeError(f"{name} must give a cost as a number or None, not {type(answer.cost).__name__}")
    if answer.finish is not None and answer.finish not in FINISHES:
        raise ValueError(f"{name} gave finish={str(answer.finish)[:50]!r}: it is {', '.join(FINISHES)} or None")
