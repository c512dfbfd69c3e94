"""The latency passes: how long a person waits, measured apart from quality.

A quality pass is batched and overlapped, so its timings say how fast the harness is. Here each *unit* (a question; for
retrieval one image and one text) goes through alone, from a request in hand to its answer, the device waited for at
both ends, after warm-ups that are thrown away and with the garbage collector off.

`quick` follows the quality pass in the same process. `full` has a fresh process: the first answer, warm-up until
steady, `single_stream` (unit after unit), the same with answers of a fixed length where the model generates, and
`offline` (batches, each twice as large as the last, until memory or the samples end). Nothing is estimated: a
percentile or a bound that the sample cannot carry is None.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from harness.clock import Clock, CudaTimer, HostTimer
from harness.config.specs import LatencySpec
from harness.measure import machine
from harness.records import Answer

ENOUGH = {"p50_ms": (50, 1), "p90_ms": (90, 36), "p95_ms": (95, 72), "p99_ms": (99, 368)}
"""Each percentile, and the fewest timings for it: so many that its 95 % order-statistic interval has an upper end."""
STEADY_OVER, STEADY_WITHIN = 5, 0.05
"""Warm-up ends when the medians of the last 5 timings and of the 5 before are within 5 %."""
BATCHES = 10
"""How many batches of each size are timed in the offline sweep, where time allows."""
ROOM = 0.8
"""The largest share of the host's free memory that the next batch size may be expected to take."""

Extent = tuple[int, int]
TimedUnit = tuple[Extent, ...]
"""Half-open ranges of samples (or of a gallery's items) that are asked one after another and timed as one."""
Ready = Callable[[TimedUnit, int], Callable[[], list[Any]]]
"""Builds a unit's requests, to be answered in exactly so many tokens (0: as they come), and returns a function that
answers them. The function raises MemoryError where memory ran out."""


@dataclass(frozen=True)
class Timing:
    """How long one unit or batch took, in seconds."""

    total: float
    phases: dict[str, float]
    """Seconds by phase. They add up to `total`: what nobody has marked is "unaccounted"."""
    tokens: list[float]
    """Seconds from the beginning to each output token, where the adapter stamps them."""
    tokens_out: int
    """The output tokens of all its answers."""


class Stopwatch:
    """Times units on one device."""

    def __init__(self, ready: Ready, clock: Clock, device: str, stopping: Callable[[], bool] = lambda: False) -> None:
        self.ready, self.clock, self.device, self.stopping = ready, clock, device, stopping

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within it the adapter's clock runs, and no garbage collection falls into a timing."""
        cuda = self.device.startswith("cuda")
        self.timer = CudaTimer(self.device) if cuda else HostTimer(self.clock.now, self._wait)
        self.clock.timer = self.timer
        gc.collect()
        gc.disable()
        try:
            yield
        finally:
            gc.enable()
            self.clock.timer = None
            self.clock.drain()

    def _wait(self) -> None:
        machine.synchronise(self.device)

    def time(self, unit: TimedUnit, tokens: int = 0) -> Timing:
        """Time one unit, whose requests are built beforehand; raises what the adapter raises."""
        answer = self.ready(unit, tokens)
        self.clock.drain()
        begin = self.clock.read()
        stamp = self.timer.stamp()
        answers = answer()
        total = self.clock.read() - begin
        phases, stamps = self.clock.drain()
        phases["unaccounted"] = total - sum(phases.values())
        written = sum(a.tokens_out or 0 for a in answers if isinstance(a, Answer))
        return Timing(total, phases, [self.timer.between(stamp, token) for token in stamps], written)

    def times(self, units: Iterable[TimedUnit], until: float, tokens: int = 0) -> Iterator[Timing]:
        """Time unit after unit until the clock says `until`. One that fails is left out: its record says why."""
        for unit in units:
            if self.clock.now() > until or self.stopping():
                return
            try:
                yield self.time(unit, tokens)
            except MemoryError:
                raise
            except Exception:
                continue


def quick(watch: Stopwatch, units: Sequence[TimedUnit], spec: LatencySpec, seconds: float) -> dict[str, Any]:
    """Time single units, spread over the cell, for at most `seconds`.

    Returns the latency entries of summary.json; {} where nothing could be timed.
    """
    chosen = _spread(units, spec.samples)
    until = watch.clock.now() + seconds
    with watch.listening():
        for _ in watch.times(chosen[: spec.warmups], until):
            pass
        timings = list(watch.times(chosen, until))
    shared = machine.gpu_shared(watch.device)
    return {"mode": "quick", "gpu_shared": shared, **summarise(timings)} if timings else {}


def full(watch: Stopwatch, units: Sequence[TimedUnit], spec: LatencySpec) -> Iterator[dict[str, Any]]:
    """Carry out the whole pass; yields, after each of its parts, the entries of summary.json as far as they are known.

    Each part takes at most `spec.seconds`. The pass ends early, between two units, when the stopwatch is told to stop.
    """
    figures: dict[str, Any] = {"mode": "full", "gpu_shared": machine.gpu_shared(watch.device)}
    with watch.listening():
        first = next(watch.times(units, math.inf), None)
        if first is None:
            yield figures | {"note": "no latency: nothing could be answered"}
            return
        figures["first_answer_ms"] = _ms(first.total)
        figures["warmups"], figures["steady"] = _warm_up(watch, units, spec)
        yield figures
        chosen = _spread(units, spec.samples)
        timings, cost = _measured(watch, chosen, spec)
        if not timings:
            yield figures | {"note": "no latency: nothing could be answered"}
            return
        figures |= summarise(timings) | cost
        yield figures
        if spec.fixed_tokens and any(timing.tokens_out for timing in timings):
            figures["fixed"] = _fixed_length(watch, chosen, spec)
            yield figures
        figures["offline"] = []
        for row, end in _sweep(watch, units, spec):
            figures["offline"] += [row] if row else []
            figures["offline_end"] = end
            yield figures


def _spread(units: Sequence[TimedUnit], n: int) -> list[TimedUnit]:
    """At most n of the units, evenly over all. None is there twice: it could be answered from a cache."""
    return list(dict.fromkeys(units[round(i * (len(units) - 1) / max(1, n - 1))] for i in range(n))) if units else []


def _warm_up(watch: Stopwatch, units: Sequence[TimedUnit], spec: LatencySpec) -> tuple[int, bool]:
    """Time units until they are steady. Returns how many timings were thrown away, and whether they became steady."""
    thrown: list[float] = []
    for timing in watch.times(islice(cycle(units), spec.warmups), watch.clock.now() + spec.seconds):
        thrown.append(timing.total)
        if steady(thrown):
            return len(thrown), True
    return len(thrown), False


def steady(timings: Sequence[float]) -> bool:
    """Whether the last timings (see STEADY_OVER) are about as long as those before them."""
    if len(timings) < 2 * STEADY_OVER:
        return False
    before, last = timings[-2 * STEADY_OVER : -STEADY_OVER], timings[-STEADY_OVER:]
    return abs(percentile(last, 50) / percentile(before, 50) - 1) <= STEADY_WITHIN


def _measured(
    watch: Stopwatch, units: Sequence[TimedUnit], spec: LatencySpec, tokens: int = 0, samples: int = 1
) -> tuple[list[Timing], dict[str, Any]]:
    """Timings of units with `samples` samples each, and what they cost: peak memory (MB) and energy (J a sample)."""
    machine.forget_peak_memory(watch.device)
    before = machine.energy_joules(watch.device)
    timings = list(watch.times(units, watch.clock.now() + spec.seconds, tokens))
    after = machine.energy_joules(watch.device)
    peaks = machine.peak_memory(watch.device)
    cost: dict[str, Any] = {"memory_mb": {name: mb and round(mb, 1) for name, mb in peaks.items()}}
    cost["peak_memory_mb"] = round(machine.peak_memory_mb(watch.device), 1)
    if before is not None and after is not None and timings:
        cost["energy_j"] = round((after - before) / (samples * len(timings)), 3)
    return timings, cost


def _fixed_length(watch: Stopwatch, units: Sequence[TimedUnit], spec: LatencySpec) -> dict[str, Any] | None:
    """Figures for answers of exactly `fixed_tokens` tokens; None for an adapter that does not write so many."""
    for _ in watch.times(units[:3], math.inf, spec.fixed_tokens):  # longer answers may meet new shapes
        pass
    timings, cost = _measured(watch, units, spec, spec.fixed_tokens)
    if not timings or any(timing.tokens_out != spec.fixed_tokens for timing in timings):
        return None
    return {"tokens": spec.fixed_tokens} | summarise(timings) | cost


def _sweep(watch: Stopwatch, units: Sequence[TimedUnit], spec: LatencySpec) -> Iterator[tuple[dict[str, Any], str]]:
    """Time batches of 1, 2, 4 ... units. Yields a row for each size, and why the sweep ends there: "memory", "samples"
    or "time"; "" while it goes on. The last row is empty where that size could not be timed."""
    size, grown = 1, 0.0
    while not watch.stopping():
        if size > len(units):
            yield {}, "samples"
            return
        if 2 * grown > ROOM * machine.available_bytes() / 2**20:
            yield {}, "memory"
            return
        held = machine.peak_memory(watch.device)["process"]
        batches = [_merged(units[at : at + size]) for at in range(0, len(units) - size + 1, size)][:BATCHES]
        began = watch.clock.now()
        try:
            for _ in watch.times(batches[:1], math.inf):  # the first of a size allocates and meets new shapes
                pass
            warmed = watch.clock.now()
            timings, cost = _measured(watch, batches, spec, samples=size)
        except MemoryError:
            yield {}, "memory"
            return
        if timings:
            row = {"batch_size": size, **summarise(timings)}
            row["samples_per_s"] = round(size * len(timings) / sum(timing.total for timing in timings), 2)
            yield row | cost, ""
        if warmed - began > spec.seconds:
            yield {}, "time"
            return
        grown = machine.peak_memory(watch.device)["process"] - held
        size *= 2
        gc.collect()


def _merged(units: Sequence[TimedUnit]) -> TimedUnit:
    """Neighbouring units as one batch: each of its extents reaches from the first unit's to the last one's."""
    return tuple((first[0], last[1]) for first, last in zip(units[0], units[-1], strict=True))


def summarise(timings: Sequence[Timing]) -> dict[str, Any]:
    """The latency entries of summary.json that timings give; None stands for what they cannot tell.

    These are percentiles (ms) with their intervals, where there are enough timings; medians (ms) of the phases, of the
    time to the first output token and of the time for each further one; and tokens a second from request to answer.
    """
    totals = [timing.total for timing in timings]
    result: dict[str, Any] = {"n": len(timings)}
    bounds: dict[str, list[float | None]] = {}
    for name, (percent, least) in ENOUGH.items():
        result[name] = _ms(percentile(totals, percent)) if len(totals) >= least else None
        if result[name] is not None:
            bounds[name] = [bound if bound is None else _ms(bound) for bound in interval(totals, percent)]
    result["intervals"] = bounds
    names = dict.fromkeys(name for timing in timings for name in timing.phases if name != "unaccounted")
    result["phases_ms"] = {
        name: _ms(percentile([timing.phases.get(name, 0.0) for timing in timings], 50))
        for name in (*names, "unaccounted")
    }
    firsts = [timing.tokens[0] for timing in timings if timing.tokens]
    steps = [(t.tokens[-1] - t.tokens[0]) / (len(t.tokens) - 1) for t in timings if len(t.tokens) > 1]
    result["first_token_ms"] = _ms(percentile(firsts, 50)) if firsts else None
    result["per_token_ms"] = _ms(percentile(steps, 50)) if steps else None
    written = sum(timing.tokens_out for timing in timings)
    result["tokens_per_s"] = round(written / sum(totals), 2) if written else None
    result["tokens_out"] = round(written / len(timings), 2) if written else None
    return result


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: the smallest value that at least `percent` % of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def interval(values: Sequence[float], percent: float) -> tuple[float | None, float | None]:
    """The 95 % order-statistic interval of a percentile: two of the values, between which it lies whatever the
    distribution (David and Nagaraja, Order Statistics, 7.1). Values count as independent.

    Each side is wrong with a probability of at most 2.5 %. None stands for a side that so few values cannot bound.
    """
    import numpy as np
    from scipy.special import bdtr

    n = len(values)
    below = bdtr(np.arange(n + 1), n, percent / 100)  # P(at most k of n lie below the percentile)
    low, high = int(np.searchsorted(below, 0.025)), int(np.searchsorted(below, 0.975)) + 1  # ranks, from 1
    ordered = sorted(values)
    return (ordered[low - 1] if low >= 1 else None), (ordered[high - 1] if high <= n else None)
