"""A cell whose adapter streams: requests are made as the adapter takes them, outcomes are handed on as they come.

The adapter's generator runs in a thread of its own, so that the worker can stop at any time, whatever the adapter
waits for. What has an outcome is never asked again. What a call of `stream` leaves without one is asked once more, and
after a call that raised each by itself, so that the request at fault stands alone.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from harness.errors import OutOfBudget, SampleError, UserError
from harness.records import Request, Sample
from harness.run.cell_runner import Batch, CellRunner
from harness.run.faults import DeviceLost, describe, device_lost, no_exit, without_frames
from harness.run.items import Outcome

WITHIN = 0.05
"""What arrives within so many seconds is handed on together."""
CHECK = 0.1
"""Seconds between two looks at whether to stop or to pause."""
GRACE = 10.0
"""After a stop, answers that are under way are waited for so many seconds."""


class StreamFault(Exception):
    """The adapter broke the contract of `stream`: its cell fails."""


class Unusable(Exception):
    """The model cannot be asked at all, in no cell: the adapter raised UserError, which says why."""


class Arrived(NamedTuple):
    """One item with its outcome."""

    item: int
    sample: Sample
    request: Request | Exception
    outcome: Outcome


class Feed:
    """The requests of one call of `stream`: an iterator that makes each one when it is taken.

    No more than `room` are handed out whose outcomes the driver does not have: so many may be lost by a kill. A thread
    that would take more waits, but for the one that `stream` itself runs in where it would wait for its own answers: to
    it the requests end, and another call goes on.
    """

    def __init__(self, runner: CellRunner, items: Iterable[int], room: int) -> None:
        self.runner, self.room = runner, room
        self.left = deque(items)
        """What has not been handed out."""
        self.out: dict[int, tuple[Sample, Request]] = {}
        """What is handed out and has no outcome yet."""
        self.ended = False
        """Whether the engine hands out nothing more, although something may be left."""
        self.poor = False
        """Whether it ended because no more can be paid for while the answers under way may cost what they may."""
        self.error: BaseException | None = None
        """What `stream` raised, or the OutOfBudget that it gave in the place of an answer."""
        self.unasked: deque[int] = deque()
        """At the end: what was not handed out."""
        self.arrived: queue.SimpleQueue[Arrived | None] = queue.SimpleQueue()
        """Outcomes as they come; None at the end."""
        self._held = 0
        """How many are handed out whose outcomes have not been handed on."""
        self.taken = 0
        """How many were handed out."""
        self._given: set[int] = set()
        self._changed = threading.Condition()
        self._thread: int | None = None
        self._name = f"{type(runner.adapter).__name__}.stream()"

    def __iter__(self) -> Iterator[tuple[int, Request]]:
        return self

    def __next__(self) -> tuple[int, Request]:
        with self._changed:
            while True:
                while self.left and not self.ended and self._held >= self.room:
                    if threading.get_ident() == self._thread and len(self.out) >= self.room:
                        self.ended = True
                    else:
                        self._changed.wait()
                if self.ended or not self.left:
                    raise StopIteration
                item = self.left.popleft()
                sample, request = _made(self.runner, item)
                if isinstance(request, Request):
                    if not self.runner.purse.allows([request]):
                        self.left.appendleft(item)
                        self.ended = self.poor = True
                        raise StopIteration
                    self.out[item] = sample, request
                    self._held += 1
                    self.taken += 1
                    return item, request
                self.arrived.put(Arrived(item, sample, request, request))

    def end(self) -> None:
        """Hand out nothing more."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def handed_on(self, outcomes: int) -> None:
        """So many outcomes are with the driver."""
        with self._changed:
            self._held -= outcomes
            self._changed.notify_all()

    def run(self) -> None:
        """Call `stream` and take what it gives, to its end."""
        self._thread = threading.get_ident()
        adapter: Any = self.runner.adapter
        try:
            with no_exit():
                for given in adapter.stream(self):
                    arrived = self._taken(given)
                    if isinstance(arrived.outcome, OutOfBudget):
                        self.error = arrived.outcome
                        self.end()
                        continue
                    self.arrived.put(arrived)
                    self.runner.first.note(arrived.outcome)
                    if self.runner.first.hopeless:
                        self.end()
        except BaseException as raised:
            self.error = raised
        with self._changed:  # a thread that still takes requests finds none
            self.unasked, self.left = self.left, deque()
            self._changed.notify_all()
        self.arrived.put(None)

    def _taken(self, given: Any) -> Arrived:
        """What the adapter gave, checked; raises StreamFault where it is of no request that waits for an outcome."""
        if not isinstance(given, tuple) or len(given) != 2:
            raise StreamFault(f"{self._name} gave a {type(given).__name__}, not an index and an outcome")
        item, outcome = given
        with self._changed:
            if type(item) is not int or item not in self.out:
                twice = type(item) is int and item in self._given
                reason = "twice" if twice else "which it was not given"
                raise StreamFault(f"{self._name} gave an outcome for index {str(item)[:50]}, {reason}")
            sample, request = self.out.pop(item)
            self._given.add(item)
        return Arrived(item, sample, request, self.runner.checked(self._name, outcome, request))


def _made(runner: CellRunner, item: int) -> tuple[Sample, Request | Exception]:
    extent = (item, item + 1)
    samples = runner.items.samples(extent)
    return samples[0], runner.items.requests(extent, samples)[0]


def answers(
    runner: CellRunner, stopping: Callable[[], bool], paused: Callable[[], bool]
) -> Iterator[tuple[Batch, list[Outcome], float]]:
    """Ask the cell's items; yields what arrived together, with the outcomes and the seconds that they took.

    Ends early once `stopping()` is true, or the cell is given up. While `paused()` is true nothing more is asked.
    Raises OutOfBudget where the adapter does, when what was under way has arrived; Unusable where it raises UserError;
    DeviceLost; StreamFault; and what `stream` raises while no request waits for an outcome.
    """
    left = deque(item for extent in runner.cell.batches for item in range(*extent))
    alone = runner.cell.alone
    room = 2 * max(1, int(getattr(runner.adapter, "concurrency", 1)))
    tried: set[int] = set()
    """Items that a call has left without an outcome."""
    while left and not stopping() and not runner.given_up():
        if paused():
            time.sleep(CHECK)
            continue
        items = [left.popleft() for _ in range(1 if alone else len(left))]
        alone = max(0, alone - 1)
        feed = Feed(runner, items, room)
        yield from _together(runner, feed, stopping, paused)
        if stopping():
            return
        waiting = list(feed.out)
        for _, request in feed.out.values():
            runner.purse.settle(request, None)
        if feed.poor and not feed.taken:
            raise runner.purse.empty()
        if (error := feed.error) is not None:
            _raise_unless_of_one(error, waiting)
        elif not feed.ended:  # it could have asked these as well
            waiting += feed.unasked
            feed.unasked.clear()
        left.extendleft(reversed(feed.unasked))
        blamed = [item for item in waiting if item in tried or (error and len(waiting) == 1)]
        if blamed:
            reason = SampleError("stream() gave no outcome for it, twice")
            if isinstance(error, Exception):
                reason = without_frames(error)
            for _ in blamed:
                runner.first.note(reason)
            yield _batch([Arrived(item, *_made(runner, item), reason) for item in blamed], 0.0)
        again = [item for item in waiting if item not in blamed]
        tried.update(again)
        left.extendleft(reversed(again))
        if error:
            alone = max(alone, len(again))


def _raise_unless_of_one(error: BaseException, waiting: Sequence[int]) -> None:
    """Raise what `stream` raised, unless it may be the fault of one of the requests that wait for an outcome."""
    if device_lost(error):
        raise DeviceLost(describe(error)) from error
    if isinstance(error, UserError):
        raise Unusable(describe(error)) from error
    if not waiting or isinstance(error, OutOfBudget | StreamFault) or not isinstance(error, Exception):
        raise error


def _together(
    runner: CellRunner, feed: Feed, stopping: Callable[[], bool], paused: Callable[[], bool]
) -> Iterator[tuple[Batch, list[Outcome], float]]:
    """Carry out one call of `stream`; yields what arrived together."""
    threading.Thread(target=feed.run, name="stream", daemon=True).start()
    start = time.monotonic()
    until, over = float("inf"), False
    try:
        while not over and time.monotonic() < until:
            if stopping():
                until = min(until, time.monotonic() + GRACE)
            if stopping() or paused():
                feed.end()
            found: list[Arrived] = []
            wait, together = CHECK, 0.0
            while wait > 0 and len(found) <= feed.room // 2:  # what waits here keeps others from being asked
                try:
                    arrived = feed.arrived.get(timeout=wait)
                except queue.Empty:
                    break
                if arrived is None:
                    over = True
                    break
                if not found:
                    together = time.monotonic() + WITHIN
                found.append(arrived)
                wait = together - time.monotonic()
            if found:
                now = time.monotonic()
                yield _batch(found, now - start)
                feed.handed_on(sum(isinstance(arrived.request, Request) for arrived in found))
                start = now
    finally:
        if not over:  # whoever took the events has gone
            feed.end()


def _batch(found: Sequence[Arrived], seconds: float) -> tuple[Batch, list[Outcome], float]:
    """What arrived together, in the form of a batch."""
    batch = Batch(
        extent=(0, len(found)),
        samples=[arrived.sample for arrived in found],
        requests=[arrived.request for arrived in found],
        parts=[],
        cut=set(),
        items=tuple(arrived.item for arrived in found),
    )
    return batch, [arrived.outcome for arrived in found], seconds
