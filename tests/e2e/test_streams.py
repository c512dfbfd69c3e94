"""Models that stream, by the real command: killed, interrupted and resumed, with a count of what was asked."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest

IN_FLIGHT = 2 * 4
"""ToyStreamer asks four at a time."""


def calls(world) -> Counter[str]:
    """How often each question was asked."""
    file = world.notes / "calls"
    return Counter(file.read_text().splitlines() if file.exists() else [])


def test_a_busy_server_costs_its_own_calls_alone_and_refusals_are_counted_apart(world):
    """Every seventh call is turned away: thirty answers take at most 37 calls, and none is lost."""
    world.model("busy", "ToyStreamer", fault="every seventh", notes=str(world.notes))
    quiz = world.questions(30)
    world.harness("run", "model=busy", f"dataset={quiz}", "run=r", "latency=off")
    assert world.cell("r", "busy")["failed"] == 0
    assert len(world.records("r", "busy")) == 30
    assert sum(calls(world).values()) <= 37

    world.model("shy", "ToyStreamer", fault="refuse", trigger="number 3?", notes=str(world.notes))
    world.harness("run", "model=shy", f"dataset={quiz}", "run=s", "latency=off")  # a refusal is no failure
    cell = world.cell("s", "shy")
    assert (cell["failed"], cell["refused"], cell["tokens_in"]) == (0, pytest.approx(1 / 30), 5 * 29)
    assert cell["served_by"] == {"toy-1": 29}


def test_records_stand_in_the_order_of_the_plan_and_the_batch_size_is_no_matter(world):
    world.model("one", "ToyStreamer", notes=str(world.notes), delay=0.01)
    world.model("other", "ToyGenerator")
    quiz = world.questions(40)
    world.harness("run", "model=[one,other]", f"dataset={quiz}", "run=r", "latency=off", "batch_size=8")
    order = [row["id"] for row in world.records("r", "other")]
    assert [row["id"] for row in world.records("r", "one")] == order
    assert {row["answer"] for row in world.records("r", "one")} == {"yes", "two"}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes by /proc")
def test_killed_at_five_moments_and_resumed_no_stored_answer_is_asked_again(world):
    world.model("m", "ToyStreamer", notes=str(world.notes), delay=0.1)  # a worker may outlive its driver by moments
    quiz = world.questions(120)
    words = ["run", "model=m", f"dataset={quiz}", "run=r", "latency=off"]
    chance, stored = random.Random(3), 0
    for kill in range(5):
        process = world.start(*words)
        goal = sum(calls(world).values()) + chance.randint(4, 20)
        world.wait_for(lambda goal=goal: sum(calls(world).values()) >= goal)
        victims = world.at_work() if kill % 2 else [process.pid]  # the worker and the driver, or the driver alone
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        process.wait(30)
        process.stderr.close()
        world.wait_for(lambda: not world.at_work())
        before, stored = stored, len(world.records("r", "m"))
        assert stored >= before
        words = ["resume", "r"]
    world.harness("resume", "r")
    assert len(world.records("r", "m")) == 120
    assert sum(calls(world).values()) <= 120 + 5 * IN_FLIGHT
    assert world.cell("r", "m")["failed"] == 0


def test_a_question_that_kills_the_process_costs_itself_alone(world):
    world.model("m", "ToyStreamer", fault="crash", trigger="number 13?", notes=str(world.notes))
    world.harness("run", "model=m", f"dataset={world.questions(40)}", "run=r", "latency=off", status=1)
    (row,) = [row for row in world.records("r", "m") if "error" in row]
    assert row["id"] == "13"
    assert "SIGSEGV" in row["error"]
    assert sum(calls(world).values()) <= 40 + 3 * IN_FLIGHT


def test_ctrl_c_keeps_what_is_under_way_and_a_resume_asks_only_the_rest(world):
    world.model("m", "ToyStreamer", notes=str(world.notes), delay=0.05)
    process = world.start("run", "model=m", f"dataset={world.questions(80)}", "run=r", "latency=off")
    world.wait_for(lambda: sum(calls(world).values()) > 10)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert len(world.records("r", "m")) == sum(calls(world).values())
    world.harness("resume", "r")
    assert sum(calls(world).values()) == len(world.records("r", "m")) == 80


def moments(world, name: str) -> list[float]:
    """When a model's server was called."""
    return sorted(float(file.name.split()[0]) for file in world.notes.glob(f"* {name} *"))


def test_models_elsewhere_run_beside_one_here_and_each_other_and_pause_while_it_is_timed(world):
    for name in ("far", "farther"):
        world.model(name, "ToyStreamer", spec="endpoint", notes=str(world.notes), delay=0.02)
    world.model("here", delay=0.05)
    quiz = world.questions(300)
    words = ["run", "model=[here,far,farther]", f"dataset={quiz}", "run=r", "latency.samples=12", "batch_size=300"]
    world.harness(*words)
    far, farther = moments(world, "far"), moments(world, "farther")
    assert max(far[0], farther[0]) < min(far[-1], farther[-1])  # side by side
    for times in (far, farther):
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert max(gaps) > 0.5  # 15 timings of 50 ms
    cells = {name: world.cell("r", name) for name in ("here", "far", "farther")}
    assert [cells[name]["remote"] for name in cells] == [False, True, True]
    latency = cells["far"]["latency"]
    assert cells["far"]["dtype"] is latency["peak_memory_mb"] is latency["load_s"] is None
    assert latency["n"] == 12
    assert {cell["failed"] for cell in cells.values()} == {0}
