"""The clock that an adapter is given: it stamps phases and output tokens, and outside a latency pass it does nothing.

Timing a device without waiting for it measures the launch, and waiting at each batch of a quality run costs throughput;
so the latency pass alone sets `timer`. Phases may be nested: each counts the time spent in it and in none inside it, so
that phases add up and nothing is counted twice. Time comes from `time.perf_counter` unless a test brings its own.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class HostTimer:
    """Stamps are the host's time. They are right where device work is done when a call returns, or after `wait`."""

    def __init__(self, now: Callable[[], float], wait: Callable[[], None] = lambda: None) -> None:
        self.stamp: Callable[[], Any] = now
        self.wait = wait

    def between(self, first: Any, second: Any) -> float:
        """Seconds from one stamp to another."""
        return second - first


class CudaTimer:
    """Stamps are CUDA events: the device notes the time when it gets there, and the host does not wait for it."""

    def __init__(self, device: str) -> None:
        self._device = device

    def stamp(self) -> Any:
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def wait(self) -> None:
        """Wait until the device has done all it was given."""
        import torch

        torch.cuda.synchronize(self._device)

    def between(self, first: Any, second: Any) -> float:
        """Seconds from one stamp to another; both must have been reached (`wait`)."""
        return first.elapsed_time(second) / 1000


class Clock:
    """Collects seconds by phase, and a stamp for each output token, until they are drained."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.timer: HostTimer | CudaTimer | None = None
        """Set while a latency pass listens."""
        self._seconds: dict[str, float] = defaultdict(float)
        self._tokens: list[Any] = []
        self._inside: list[float] = []
        """For each open phase, from the outermost, the seconds that phases within it have taken."""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside, less that of phases within it, to phase `name` (seconds)."""
        if self.timer is None:
            yield
            return
        start = self.read()
        self._inside.append(0.0)
        try:
            yield
        finally:
            spent = self.read() - start
            self._seconds[name] += spent - self._inside.pop()
            if self._inside:
                self._inside[-1] += spent

    def token(self) -> None:
        """Stamp one more output token (of every answer in the batch) as known; nothing is waited for."""
        if self.timer is not None:
            self._tokens.append(self.timer.stamp())

    def read(self) -> float:
        """The time now, in seconds. While a latency pass listens, the device is waited for first."""
        if self.timer is not None:
            self.timer.wait()
        return self.now()

    def drain(self) -> tuple[dict[str, float], list[Any]]:
        """Seconds by phase, and the output tokens' stamps, since it was last drained; it then begins anew."""
        drained = dict(self._seconds), self._tokens
        self._seconds, self._tokens = defaultdict(float), []
        return drained
