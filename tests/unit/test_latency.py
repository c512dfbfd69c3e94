"""The latency passes count what they should, by a clock that only moves when told."""

import gc
import itertools
import math

import pytest

from harness.clock import Clock
from harness.config.specs import LatencySpec
from harness.measure import latency, machine
from harness.measure.latency import ENOUGH, Stopwatch, Timing, full, interval, percentile, quick, steady, summarise
from harness.records import Answer


class World:
    """A model whose every phase takes the time it is told to, and the stopwatch on it."""

    def __init__(self, host=0.004, prefill=0.006, step=0.002, tokens=3, after=0.001, obeys=True, memory=math.inf):
        self.host, self.prefill, self.step, self.tokens, self.after = host, prefill, step, tokens, after
        self.obeys, self.memory = obeys, memory
        self.time = 0.0
        self.asked: list[tuple[latency.TimedUnit, int]] = []
        self.bad: set[latency.TimedUnit] = set()
        self.slow = lambda call: 0.0
        self.collecting: list[bool] = []
        self.clock = Clock(now=lambda: self.time)
        self.stop = False
        self.watch = Stopwatch(self.ready, self.clock, "cpu", lambda: self.stop)

    def ready(self, unit, tokens):
        self.time += 100.0  # building requests is no part of a timing
        return lambda: self.answer(unit, tokens)

    def answer(self, unit, tokens):
        self.asked.append((unit, tokens))
        self.collecting.append(gc.isenabled())
        n = sum(stop - start for start, stop in unit)
        if n > self.memory:
            raise MemoryError
        written = (tokens if self.obeys else 0) or self.tokens
        with self.clock.phase("preprocess"):
            self.time += n * self.host
            if unit in self.bad:
                raise ValueError
        with self.clock.phase("device"):
            self.time += self.slow(len(self.asked))
            with self.clock.phase("prefill"):
                self.time += self.prefill
                self.clock.token()
            with self.clock.phase("decode"):
                for _ in range(written - 1):
                    self.time += self.step
                    self.clock.token()
        self.time += self.after
        return [Answer("a b", tokens_out=written) for _ in range(n)]

    def total(self, n=1, tokens=None):
        return n * self.host + self.prefill + self.step * ((tokens or self.tokens) - 1) + self.after


def units(n):
    return [((i, i + 1),) for i in range(n)]


def last(passed):
    return list(passed)[-1]


# The quick pass ----------------------------------------------------------------------------------------


def test_warm_ups_are_thrown_away():
    world = World()
    world.slow = lambda call: 5.0 if call <= 3 else 0.0
    found = quick(world.watch, units(100), LatencySpec(warmups=3, samples=36), 1e9)
    assert len(world.asked) == 39
    assert found["n"] == 36
    assert found["p50_ms"] == found["p90_ms"] == pytest.approx(1000 * world.total())


def test_units_are_spread_over_the_cell_and_none_is_asked_twice():
    world = World()
    quick(world.watch, units(100), LatencySpec(warmups=0, samples=12), 1e9)
    assert [unit[0][0] for unit, _ in world.asked] == [0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90, 99]
    few = World()
    assert quick(few.watch, units(5), LatencySpec(warmups=0, samples=36), 1e9)["n"] == 5


def test_time_is_bounded():
    world = World(host=1.0)
    found = quick(world.watch, units(100), LatencySpec(), 10 * (100 + world.total()))
    assert len(world.asked) <= 11
    assert found["n"] <= 8


def test_a_unit_that_fails_is_left_out():
    world = World()
    world.bad = {((3, 4),), ((7, 8),)}
    assert quick(world.watch, units(10), LatencySpec(), 1e9)["n"] == 8
    world.bad = set(units(10))
    assert quick(world.watch, units(10), LatencySpec(), 1e9) == {}


def test_what_a_failed_unit_took_is_not_charged_to_the_next():
    world = World()
    world.bad = {((0, 1),)}
    found = quick(world.watch, units(2), LatencySpec(warmups=0), 1e9)
    assert (found["n"], found["phases_ms"]["preprocess"]) == (1, pytest.approx(4.0))
    assert found["phases_ms"]["unaccounted"] == pytest.approx(1.0)


def test_no_garbage_collection_lands_on_a_timing_and_it_is_on_again_afterwards():
    world = World()
    quick(world.watch, units(5), LatencySpec(), 1e9)
    list(full(world.watch, units(5), LatencySpec(warmups=3, fixed_tokens=4)))
    assert set(world.collecting) == {False}
    assert gc.isenabled()
    broken = World(memory=0)
    with pytest.raises(MemoryError):
        list(full(broken.watch, units(5), LatencySpec()))
    assert gc.isenabled()
    assert broken.clock.timer is None


# Phases and tokens ----------------------------------------------------------------------------------------


def test_phases_add_up_and_what_nobody_marks_is_unaccounted():
    found = quick(World().watch, units(40), LatencySpec(), 1e9)
    expected = {"preprocess": 4.0, "prefill": 6.0, "decode": 4.0, "device": 0.0, "unaccounted": 1.0}
    assert found["phases_ms"] == pytest.approx(expected)
    assert sum(found["phases_ms"].values()) == pytest.approx(found["p50_ms"])


def test_a_phase_does_not_count_the_phases_within_it():
    world = World()
    with world.watch.listening():
        with world.clock.phase("outer"):
            world.time += 1
            with world.clock.phase("inner"):
                world.time += 2
                with world.clock.phase("outer"):
                    world.time += 4
            world.time += 8
        seconds, _ = world.clock.drain()
    assert seconds == {"outer": 13.0, "inner": 2.0}


def test_a_phase_that_ends_in_an_error_is_counted_and_closed():
    world = World()

    def fail():
        with world.clock.phase("outer"), world.clock.phase("inner"):
            world.time += 1
            raise ValueError("no")

    with world.watch.listening():
        with pytest.raises(ValueError, match="no"):
            fail()
        with world.clock.phase("later"):
            world.time += 1
        assert world.clock.drain()[0] == {"outer": 0.0, "inner": 1.0, "later": 1.0}


def test_outside_a_latency_pass_the_clock_keeps_nothing():
    clock = Clock(now=lambda: pytest.fail("the clock was read"))
    with clock.phase("decode"):
        clock.token()
    assert clock.drain() == ({}, [])


def test_first_token_counts_from_the_request_and_further_ones_from_one_another():
    found = quick(World(tokens=6).watch, units(40), LatencySpec(), 1e9)
    assert found["first_token_ms"] == pytest.approx(4.0 + 6.0)
    assert found["per_token_ms"] == pytest.approx(2.0)
    assert found["tokens_out"] == 6
    assert found["tokens_per_s"] == pytest.approx(6 / 0.021, rel=1e-3)


def test_a_model_that_writes_nothing_has_no_token_figures():
    found = summarise([Timing(0.1, {"unaccounted": 0.1}, [], 0)] * 36)
    assert [found[key] for key in ("first_token_ms", "per_token_ms", "tokens_per_s", "tokens_out")] == [None] * 4


# Percentiles and intervals ----------------------------------------------------------------------------------------


def test_a_percentile_that_the_sample_cannot_carry_is_not_given():
    assert quick(World().watch, units(36), LatencySpec(samples=36), 1e9)["p90_ms"] is not None
    found = quick(World().watch, units(35), LatencySpec(samples=36), 1e9)
    assert (found["p50_ms"] is not None, found["p90_ms"], found["p95_ms"], found["p99_ms"]) == (True, None, None, None)
    assert set(found["intervals"]) == {"p50_ms"}


@pytest.mark.parametrize(("name", "percent", "least"), [(name, *rule) for name, rule in ENOUGH.items() if rule[1] > 1])
def test_the_least_sample_is_the_one_whose_interval_has_an_upper_end(name, percent, least):
    assert interval(range(least), percent)[1] == least - 1
    assert interval(range(least - 1), percent)[1] is None


def test_percentiles_are_nearest_ranks():
    values = [float(i) for i in range(1, 101)]
    assert percentile(values, 50) == 50
    assert percentile(values, 90) == 90
    assert percentile([3.0], 99) == 3


@pytest.mark.parametrize(("n", "percent"), [(6, 50), (36, 90), (100, 90), (101, 50), (368, 99), (400, 95)])
def test_intervals_are_the_narrowest_ranks_that_cover_95_percent(n, percent):
    p = percent / 100
    below = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]  # exactly k of n lie below
    low, high = interval([float(rank) for rank in range(1, n + 1)], percent)
    assert low is not None
    assert high is not None
    assert sum(below[: int(low)]) <= 0.025 < sum(below[: int(low) + 1])
    assert sum(below[int(high) :]) <= 0.025 < sum(below[int(high) - 1 :])


def test_five_timings_do_not_bound_their_median():
    assert interval([1.0, 2.0, 3.0, 4.0, 5.0], 50) == (None, None)
    assert interval([6.0, 1.0, 2.0, 3.0, 4.0, 5.0], 50) == (1.0, 6.0)


# The full pass ----------------------------------------------------------------------------------------

SPEC = LatencySpec(mode="full", warmups=50, samples=368, seconds=1e9, fixed_tokens=32)


def test_the_first_answer_stands_apart_and_warm_up_goes_on_until_steady():
    world = World()
    world.slow = lambda call: 3.0 if call == 1 else max(0.0, 0.5 - 0.05 * call)
    found = last(full(world.watch, units(400), SPEC))
    assert found["first_answer_ms"] == pytest.approx(1000 * (world.total() + 3.0))
    # From the tenth call on all are alike: the warm-up's calls 2 to 19 are needed until ten such stand in a row,
    # less what is within 5 % of their median.
    assert 10 < found["warmups"] < 20
    assert found["steady"] is True
    assert found["p50_ms"] == found["p99_ms"] == pytest.approx(1000 * world.total())
    assert found["n"] == 368


def test_what_never_gets_steady_is_said():
    world = World()
    world.slow = lambda call: 2.0**call
    found = next(itertools.islice(full(world.watch, units(100), LatencySpec(mode="full", warmups=20, seconds=1e9)), 1))
    assert (found["warmups"], found["steady"]) == (20, False)


def test_steady_compares_the_last_five_with_the_five_before():
    assert not steady([1.0] * 9)
    assert steady([1.0] * 10)
    assert steady([9.0] * 5 + [1.0] * 5 + [1.04] * 5)
    assert not steady([1.0] * 5 + [1.06] * 5)
    assert not steady([1.06] * 5 + [1.0] * 5)


def test_answers_of_a_fixed_length_are_timed_apart_from_natural_ones():
    world = World()
    found = last(full(world.watch, units(40), SPEC))
    assert found["tokens_out"] == 3
    assert found["p50_ms"] == pytest.approx(1000 * world.total())
    assert (found["fixed"]["tokens"], found["fixed"]["tokens_out"]) == (32, 32)
    assert found["fixed"]["p50_ms"] == pytest.approx(1000 * world.total(tokens=32))
    assert found["fixed"]["per_token_ms"] == pytest.approx(2.0)


def test_an_adapter_that_does_not_write_to_a_length_has_no_fixed_figures():
    assert last(full(World(obeys=False).watch, units(40), SPEC))["fixed"] is None
    assert "fixed" not in last(full(World().watch, units(40), LatencySpec(mode="full", seconds=1e9)))


def test_the_sweep_doubles_the_batch_until_the_samples_end():
    world = World()
    found = last(full(world.watch, units(20), SPEC))
    rows = {row["batch_size"]: row for row in found["offline"]}
    assert list(rows) == [1, 2, 4, 8, 16]
    assert [row["n"] for row in rows.values()] == [10, 10, 5, 2, 1]
    for size, row in rows.items():
        assert row["samples_per_s"] == pytest.approx(size / world.total(size), rel=1e-3)
        assert row["tokens_per_s"] == pytest.approx(3 * size / world.total(size), rel=1e-3)
        assert row["tokens_out"] == 3 * size
    assert found["offline_end"] == "samples"


def test_the_sweep_ends_where_memory_does_and_keeps_what_fitted():
    found = last(full(World(memory=7).watch, units(100), SPEC))
    assert [row["batch_size"] for row in found["offline"]] == [1, 2, 4]
    assert found["offline_end"] == "memory"


def test_the_sweep_ends_before_the_hosts_memory_would(monkeypatch):
    held = iter(range(0, 10_000_000, 100))
    peaks = lambda device: {"allocated": None, "reserved": None, "process": float(next(held))}  # noqa: E731
    monkeypatch.setattr(machine, "peak_memory", peaks)
    monkeypatch.setattr(machine, "available_bytes", lambda: 400 * 2**20)
    found = last(full(World().watch, units(100), SPEC))
    assert [row["batch_size"] for row in found["offline"]] == [1]
    assert found["offline_end"] == "memory"


def test_the_sweep_ends_when_one_batch_takes_all_the_time():
    world = World(host=10.0)
    found = last(full(world.watch, units(100), LatencySpec(mode="full", warmups=2, seconds=145.0)))
    assert [row["batch_size"] for row in found["offline"]] == [1, 2, 4, 8]
    assert found["offline_end"] == "time"


def test_a_pair_of_an_image_and_a_text_makes_batches_of_each():
    pairs = [((i, i + 1), (100 + i, 101 + i)) for i in range(4)]
    world = World()
    full_pass = last(full(world.watch, pairs, LatencySpec(mode="full", warmups=1, seconds=1e9)))
    assert ((0, 4), (100, 104)) in {unit for unit, _ in world.asked}
    assert full_pass["n"] == 4


def test_each_part_is_told_as_soon_as_it_is_known():
    parts = [set(figures) for figures in full(World().watch, units(4), SPEC)]
    assert "first_answer_ms" in parts[0]
    assert "p50_ms" not in parts[0]
    assert "p50_ms" in parts[1]
    assert "fixed" not in parts[1]
    assert "fixed" in parts[2]
    assert "offline" in parts[3]


def test_told_to_stop_it_ends_between_two_units():
    world = World()
    world.slow = lambda call: setattr(world, "stop", call == 5) or 0.0
    list(full(world.watch, units(100), SPEC))
    assert len(world.asked) == 5


def test_a_model_that_answers_nothing_has_no_latency_and_says_so():
    world = World()
    world.bad = set(units(4))
    assert "nothing could be answered" in last(full(world.watch, units(4), SPEC))["note"]
