"""The latency pass counts what it should, by a clock that only moves when told."""

import pytest

from harness.clock import Clock
from harness.config.specs import LatencySpec
from harness.latency import measure, percentile, summarise
from harness.records import Answer


class Hands:
    """A clock's time, moved by hand."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def units(n: int):
    return [((i, i + 1),) for i in range(n)]


def run(spec: LatencySpec, n: int, host: float, device, seconds: float = 1e9):
    hands = Hands()
    clock = Clock(now=hands)
    asked = []

    def run_one(extent, clock):
        asked.append(extent[0])
        with clock.phase("preprocess"):
            hands.time += host
        with clock.phase("device"):
            hands.time += device(len(asked))
        return [Answer("a b", tokens_out=2)]

    return measure(units(n), run_one, clock, "cpu", spec, seconds), asked


def test_warm_ups_are_thrown_away():
    found, asked = run(LatencySpec(warmups=3, samples=36), 100, 0.001, lambda call: 5.0 if call <= 3 else 0.010)
    assert len(asked) == 39
    assert found["n"] == 36
    assert found["p50_ms"] == pytest.approx(11.0)
    assert found["p90_ms"] == pytest.approx(11.0)


def test_phases_are_kept_apart():
    found, _ = run(LatencySpec(), 100, 0.004, lambda call: 0.010)
    assert found["phases_ms"] == {"preprocess": pytest.approx(4.0), "device": pytest.approx(10.0)}
    assert found["tokens_per_s"] == pytest.approx(200.0)


def test_a_percentile_that_the_sample_cannot_carry_is_not_given():
    found, _ = run(LatencySpec(samples=36), 100, 0.0, lambda call: 0.01)
    assert found["p90_ms"] is not None
    assert found["p95_ms"] is None
    assert found["p99_ms"] is None
    found, _ = run(LatencySpec(samples=35), 100, 0.0, lambda call: 0.01)
    assert found["p90_ms"] is None


def test_time_is_bounded():
    found, asked = run(LatencySpec(), 100, 0.0, lambda call: 1.0, seconds=10)
    assert len(asked) <= 11
    assert found["n"] <= 8


def test_percentiles_are_nearest_ranks():
    values = [float(i) for i in range(1, 101)]
    assert percentile(values, 50) == 50
    assert percentile(values, 90) == 90
    assert percentile([3.0], 99) == 3


def test_time_to_first_token_is_preparation_and_prefill():
    found = summarise([0.1] * 36, {"preprocess": [0.01] * 36, "prefill": [0.02] * 36, "device": [0.09] * 36}, [5] * 36)
    assert found["first_token_ms"] == pytest.approx(30.0)
    assert found["tokens_per_s"] == pytest.approx(5 / 0.09, rel=1e-3)


def test_a_unit_that_fails_is_left_out():
    def fails(extent, clock):
        raise ValueError

    assert measure(units(5), fails, Clock(), "cpu", LatencySpec(), 10) == {}
