"""The latency pass: one request at a time, after the quality pass and apart from it.

A quality pass is batched and overlapped, so its timings say how fast the harness is, not how long a person waits. Here
each unit (a question; for retrieval one image and one text) goes through alone, the device synchronised at both ends,
after warm-ups that are thrown away. Percentiles are printed only when the sample can carry them.
"""

from __future__ import annotations

import gc
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from harness import machine
from harness.clock import Clock
from harness.config.specs import LatencySpec
from harness.records import Answer

ENOUGH = {"p50_ms": (50, 1), "p90_ms": (90, 36), "p95_ms": (95, 72), "p99_ms": (99, 368)}
"""Percentile and the least sample for it: the size at which a 95 % order-statistic interval has an upper end."""

Extent = tuple[int, int]


def measure(
    units: Sequence[tuple[Extent, ...]],
    run_one: Callable[[Extent, Clock], list[Any]],
    clock: Clock,
    device: str,
    spec: LatencySpec,
    seconds: float,
) -> dict[str, Any]:
    """Time single units, spread over the cell, for at most `seconds`.

    Returns the latency entries of summary.json that come from this pass (milliseconds), the phases' medians, and the
    number of timings `n`. A unit that fails is left out: its quality record already tells why.
    """
    if not units:
        return {}
    clock.synchronise = lambda: machine.synchronise(device)
    chosen = [units[round(i * (len(units) - 1) / max(1, spec.samples - 1))] for i in range(spec.samples)]
    chosen = list(dict.fromkeys(chosen))
    timings: list[float] = []
    phases: dict[str, list[float]] = defaultdict(list)
    tokens: list[int] = []
    start = clock.read()
    gc.collect()
    gc.disable()  # a collection must not land on a sample
    try:
        for number, unit in enumerate([*chosen[: spec.warmups], *chosen]):
            if clock.now() - start > seconds:
                break
            clock.take()
            begin = clock.read()
            try:
                answers = [answer for extent in unit for answer in run_one(extent, clock)]
            except Exception:  # the quality pass has recorded it with its reason
                continue
            elapsed = clock.read() - begin
            if number < min(spec.warmups, len(chosen)):
                continue
            timings.append(elapsed)
            for name, spent in clock.take().items():
                phases[name].append(spent)
            tokens += [answer.tokens_out for answer in answers if isinstance(answer, Answer) and answer.tokens_out]
    finally:
        gc.enable()
        clock.synchronise = None
        clock.take()
    if not timings:
        return {}
    return summarise(timings, phases, tokens)


def summarise(timings: Sequence[float], phases: dict[str, list[float]], tokens: Sequence[int]) -> dict[str, Any]:
    """Percentiles (ms) of the timings (seconds) where there are enough, None else; phases' medians; tokens a second."""
    result: dict[str, Any] = {"n": len(timings)}
    for name, (percent, least) in ENOUGH.items():
        result[name] = round(1000 * percentile(timings, percent), 3) if len(timings) >= least else None
    result["phases_ms"] = {name: round(1000 * percentile(spent, 50), 3) for name, spent in phases.items()}
    firsts = [a + b for a, b in zip(phases.get("preprocess", ()), phases.get("prefill", ()), strict=False)]
    result["first_token_ms"] = round(1000 * percentile(firsts, 50), 3) if firsts else None
    result["tokens_per_s"] = round(sum(tokens) / sum(phases.get("device") or timings), 2) if tokens else None
    result["tokens_out"] = round(sum(tokens) / len(tokens), 2) if tokens else None
    return result


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: the smallest value that at least `percent` % of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
