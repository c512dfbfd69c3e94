"""`harness train` in a process of its own: stopped and killed at work, it goes on to the very same weights."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

RECIPE = """
_target_: toys_training.Line
options: {{notes: {notes}}}
schedule: {{steps: 30, warmup: 3, validate_every: 10, save_every: 5, precision: bf16, accumulate: 2}}
"""


@pytest.fixture
def line(world) -> list[str]:
    (world.folder / "conf" / "train").mkdir(parents=True)
    (world.folder / "conf" / "train" / "line.yaml").write_text(RECIPE.format(notes=world.notes))
    return ["train", "model=line", "device=cpu"]


def interrupted(world, words: list[str], number: signal.Signals) -> tuple[int, str]:
    """The status and the errors of a training that gets the signal in the middle of its eighth step."""
    hold, held = world.notes / "hold", world.notes / "held"
    hold.touch()
    process = world.start(*words)
    world.wait_for(held.exists, seconds=120)
    process.send_signal(number)
    if number == signal.SIGKILL:
        process.wait()
    held.unlink()
    hold.unlink()
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def states(folder: Path) -> list[int]:
    return sorted(int(state.name[6:]) for state in (folder / "line").glob("state-*"))


def weights(folder: Path) -> bytes:
    return (folder / "line" / "state-30" / "model.safetensors").read_bytes()


def test_training_stopped_twice_and_then_killed_ends_in_the_same_weights(world, line):
    straight, work = world.folder / "straight", world.folder / "work"
    done = world.harness(*line, f"work_dir={straight}")
    assert f"line: {straight / 'line' / 'best'}" in done.stdout
    line.append(f"work_dir={work}")
    # Told to stop, it saves the step in hand, the eighth of each process, and says how to go on.
    for number, saved in ((signal.SIGTERM, 8), (signal.SIGINT, 16)):
        status, said = interrupted(world, line, number)
        assert status == 130, said
        assert "The same command goes on" in said
        assert "Traceback" not in said
        assert states(work) == [saved]
    # Killed, it goes on from what it saved by itself.
    assert interrupted(world, line, signal.SIGKILL)[0] == -signal.SIGKILL
    assert states(work)[-1] == 20
    assert "step 30/30" in world.harness(*line).stdout
    assert weights(work) == weights(straight)
    curves = [(folder / "line" / "curves.csv").read_text().splitlines() for folder in (straight, work)]
    assert [row.split(",")[0] for row in curves[1]] == [row.split(",")[0] for row in curves[0]]
    assert len(curves[0]) == 4
    # And when all is done, it only says so.
    assert world.harness(*line).stdout.strip() == f"line: {work / 'line' / 'best'}"
