"""The clock an adapter is given: it stamps phases inside one call, synchronising the device only in a latency pass.

Timing a device without a sync measures the launch, and a sync for each batch of a quality run costs throughput; so
`synchronise` is set by the latency pass alone. Time comes from `time.perf_counter` unless a test brings its own.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Clock:
    """Collects seconds by phase name until `take` hands them over."""

    def __init__(
        self, now: Callable[[], float] = time.perf_counter, synchronise: Callable[[], None] | None = None
    ) -> None:
        self.now = now
        self.synchronise = synchronise
        self._seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to phase `name` (seconds)."""
        start = self.read()
        try:
            yield
        finally:
            self._seconds[name] += self.read() - start

    def read(self) -> float:
        """Now, in seconds, after the device has caught up where this clock synchronises."""
        if self.synchronise is not None:
            self.synchronise()
        return self.now()

    def take(self) -> dict[str, float]:
        """Seconds by phase since the last take."""
        seconds, self._seconds = dict(self._seconds), defaultdict(float)
        return seconds
