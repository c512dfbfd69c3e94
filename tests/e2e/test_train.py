"""`harness train` in a process of its own: stopped and killed at work, it goes on to the very same weights."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

RECIPE = """
_target_: toys_training.Line
options: {pause: 0.1}
schedule: {steps: 30, warmup: 3, validate_every: 10, save_every: 5, precision: bf16, accumulate: 2}
"""


@pytest.fixture
def line(world) -> list[str]:
    (world.folder / "conf" / "train").mkdir(parents=True)
    (world.folder / "conf" / "train" / "line.yaml").write_text(RECIPE)
    return ["train", "model=line", "device=cpu"]


def start(world, words: list[str]) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(world.command(*words), env=world.environment(), cwd=world.folder, **pipes)


def wait_for(process: subprocess.Popen[str], folder: Path, pattern: str) -> None:
    end = time.monotonic() + 120
    while not list(folder.glob(pattern)):
        assert process.poll() is None, "the run ended before it saved"
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def weights(folder: Path) -> bytes:
    return (folder / "line" / "state-30" / "model.safetensors").read_bytes()


def test_training_killed_and_resumed_ends_in_the_same_weights(world, line):
    straight, killed = world.folder / "straight", world.folder / "killed"
    done = world.harness(*line, f"work_dir={straight}")
    assert f"line: {straight / 'line' / 'best'}" in done.stdout
    process = start(world, [*line, f"work_dir={killed}"])
    wait_for(process, killed, "line/state-10")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed / "line" / "state-30").exists()
    world.harness(*line, f"work_dir={killed}")
    assert weights(killed) == weights(straight)
    curves = [(folder / "line" / "curves.csv").read_text().splitlines() for folder in (straight, killed)]
    assert [row.split(",")[0] for row in curves[1]] == [row.split(",")[0] for row in curves[0]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_training_told_to_stop_saves_first_and_says_how_to_go_on(world, line, number):
    work = world.folder / "work"
    process = start(world, [*line, f"work_dir={work}"])
    wait_for(process, work, "line/state-5")
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "The same command goes on" in said
    assert "Traceback" not in said
    (state,) = (work / "line").glob("state-*")
    assert 5 <= int(state.name[6:]) < 30
    done = world.harness(*line, f"work_dir={work}")
    assert "step 30/30" in done.stdout
    assert world.harness(*line, f"work_dir={work}").stdout.strip() == f"line: {work / 'line' / 'best'}"
