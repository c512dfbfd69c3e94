"""Nothing is lost: driver, worker or both are killed at random moments, and the run ends as if nothing had happened."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes by /proc")


class Killer:
    """Starts the command, kills at a moment, and finds out who is left."""

    def __init__(self, world, seed: int, duration: float = 1.0) -> None:
        self.world, self.chance, self.kills = world, random.Random(seed), 0
        self.duration = duration
        """Seconds that a command takes; follows what it takes at the moment."""

    def command(self, *words: str) -> None:
        """Run the command and kill the driver, the worker or both at a random moment before its end."""
        whom = self.chance.choice(["driver", "worker", "both"])
        start = time.monotonic()
        end = start + self.chance.uniform(0.2, 1) * self.duration
        process = subprocess.Popen(
            self.world.command(*words), env=self.world.environment(), cwd=self.world.folder, stderr=subprocess.PIPE
        )
        while time.monotonic() < end or (whom != "driver" and not self.workers(process.pid)):
            if process.poll() is not None:
                self.duration = time.monotonic() - start
                break
            time.sleep(0.002)
        else:
            self.kills += 1
            self.duration *= 1.1
            victims = self.workers(process.pid) if whom != "driver" else []
            for pid in [*victims, *([process.pid] if whom != "worker" else [])]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        _, said = process.communicate(timeout=120)
        assert process.returncode in (0, 1, -signal.SIGKILL), said.decode()
        if process.returncode >= 0:  # a worker that loses its driver while it is born may end with noise
            assert b"Traceback" not in said, said.decode()
        self.world.wait_for(lambda: not self.world.at_work())

    def workers(self, driver: int) -> list[int]:
        """Children of the driver's children: those of its fork server."""
        parents = {int(entry.name): parent(entry) for entry in Path("/proc").glob("[0-9]*")}
        servers = {pid for pid, above in parents.items() if above == driver}
        return [pid for pid, above in parents.items() if above in servers]


def parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended
        return 0


def result(world, run: str) -> list[tuple]:
    """What must not depend on kills; every cell's records are checked on the way."""
    found = []
    records_checked = 0
    for cell in world.summary(run)["cells"]:
        found.append(tuple(cell[key] for key in ("model", "task", "status", "reason", "samples", "failed", "metrics")))
        if cell["status"] != "complete" or cell["model"] == "chance":
            continue
        folder = world.results / run / "cells" / cell["model"] / f"{cell['task']}.{cell['dataset']}.{cell['language']}"
        text = (folder / "records.jsonl").read_bytes()
        ids = [json.loads(line)["id"] for line in text.splitlines()]
        assert len(ids) == len(set(ids)) == cell["samples"]
        told = json.loads((folder / "complete.json").read_text())
        assert (told["count"], told["sha256"]) == (len(ids), hashlib.sha256(text).hexdigest())
        records_checked += 1
    assert records_checked
    return found


def kill_and_resume(world, words: list[str], kills: int, seed: int) -> None:
    """Kill runs of the command, resuming each until it is whole, so many times in all; each must end like a run that
    nothing happened to."""
    start = time.monotonic()
    world.harness(*words, "run=whole")
    killer = Killer(world, seed, time.monotonic() - start)
    number = 0
    while killer.kills < kills:
        number += 1
        folder = world.results / f"cut{number}"
        again = [*words, f"run={folder.name}"]
        while not (folder / "summary.json").exists():
            command = ["resume", folder.name] if (folder / "run.json").exists() else again
            if killer.kills < kills:
                killer.command(*command)
            else:
                world.harness(*command)
        assert result(world, folder.name) == result(world, "whole")
        assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_kills_at_random_moments_lose_nothing(world, kills):
    world.model("writer", delay=0.01)
    world.model("finder", "ToyEncoder", delay=0.01)
    quiz, album = world.questions(80), world.captions(40)
    words = ["run", "task=[vqa,retrieval]", "model=[writer,finder]", f"dataset=[{quiz},{album}]"]
    kill_and_resume(world, [*words, "batch_size=4", "latency=off"], kills, seed=5)


@pytest.mark.parametrize(
    ("models", "kills"),
    [("fusion-concat", 2), pytest.param("pocket-clip,pocket-smolvlm", 4, marks=pytest.mark.slow)],
)
def test_kills_of_real_models_lose_nothing_retrieval_included(world, models, kills):
    (world.folder / "conf").mkdir()
    words = ["run", "task=[retrieval,vqa]", f"model=[{models}]", "limit=100", "batch_size=8", "latency=off"]
    kill_and_resume(world, words, kills, seed=1)


def test_a_worker_that_no_signal_handler_can_reach_ends_with_its_driver(world):
    world.model("stuck", fault="stuck", notes=str(world.notes))
    process = world.start("run", "model=stuck", f"dataset={world.questions(4)}", "run=r", "latency=off")
    world.wait_for((world.notes / "stuck").exists)
    assert Killer(world, 0).workers(process.pid)
    process.kill()
    process.wait()
    world.wait_for(lambda: not world.at_work(), seconds=10)


def test_ctrl_c_twice_stops_in_the_middle_of_a_batch_and_says_how_to_go_on(world):
    world.model("stuck", fault="stuck", notes=str(world.notes))
    process = world.start("run", "model=stuck", f"dataset={world.questions(4)}", "run=r 1", "latency=off")
    world.wait_for((world.notes / "stuck").exists)
    process.send_signal(signal.SIGINT)
    world.read_until(process, "stopping after this batch")
    with pytest.raises(subprocess.TimeoutExpired):  # it waits for the batch in hand
        process.wait(0.3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"harness resume 'r 1' results_dir={world.results}" in said
    assert world.cell("r 1", "stuck")["status"] == "interrupted"
    assert not world.at_work()


def test_data_that_changed_between_a_kill_and_a_resume_are_noticed_and_named(world):
    """A picture or a row of the half that was answered; put back, the run goes on to its end."""
    world.model("looker", look=True, notes=str(world.notes), held_at="number 20?")
    quiz = world.questions(40)
    (world.notes / "hold").touch()
    process = world.start("run", "model=looker", f"dataset={quiz}", "run=r", "latency=off", "batch_size=4")
    world.wait_for((world.notes / "held").exists)
    process.send_signal(signal.SIGINT)
    world.read_until(process, "stopping after this batch")
    (world.notes / "hold").unlink()
    process.communicate(timeout=60)
    assert process.returncode == 130
    answered = world.records("r", "looker")
    assert 0 < len(answered) < 40
    assert all(re.fullmatch("[0-9a-f]{16}-[0-9a-f]{16}", row["content"]) for row in answered)
    picture, rows = Path(answered[0]["media"][0]), world.folder / "data" / "quiz.jsonl"
    for path, other, said in (
        (picture, picture.read_bytes() + b"x", f"have changed, or are gone: {picture}."),
        (rows, rows.read_bytes().replace(b'"two"', b'"six"'), "made with another data (was quiz.jsonl@"),
    ):
        whole = path.read_bytes()
        path.write_bytes(other)
        assert said in " ".join(world.harness("resume", "r", status=2).stderr.split())
        path.write_bytes(whole)
    world.harness("resume", "r")
    assert len(world.records("r", "looker")) == 40


def test_a_cell_whose_records_were_shortened_is_named_and_asked_again(world):
    for name in ("hurt", "whole"):
        world.model(name)
    world.harness("run", "model=[hurt,whole]", f"dataset={world.questions(12)}", "run=r", "latency=off")
    before = {row["id"]: row["answer"] for row in world.records("r", "hurt")}
    (records,) = (world.results / "r" / "cells" / "hurt").glob("*/records.jsonl")
    records.write_text("".join(records.read_text().splitlines(keepends=True)[:5]))
    world.harness("report", str(world.results / "r"))
    assert world.cell("r", "hurt")["status"] == "interrupted"
    assert "has 5 lines, and was completed with 12" in world.cell("r", "hurt")["reason"]
    assert world.cell("r", "whole")["samples"] == 12
    world.harness("resume", "r")
    assert world.cell("r", "hurt")["status"] == "complete"
    assert {row["id"]: row["answer"] for row in world.records("r", "hurt")} == before
