"""What the disk does to a run: it fills up, it cannot be written, files are gone. What is there stays valid."""

from __future__ import annotations

import resource
import subprocess

import pytest


def within(world, script: str) -> subprocess.CompletedProcess[str]:
    """A shell script where it may mount file systems that nobody else sees."""
    return subprocess.run(
        ["unshare", "-rm", "sh", "-ec", script],
        capture_output=True,
        text=True,
        env=world.environment(),
        cwd=world.folder,
        timeout=240,
    )


def can_mount() -> bool:
    try:
        return (
            subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode
            == 0
        )
    except FileNotFoundError:
        return False


mounts = pytest.mark.skipif(not can_mount(), reason="needs `unshare -rm` and the right to mount in it")


def answers(world, run: str) -> list[tuple]:
    return sorted((row["id"], row["answer"]) for row in world.records(run, "toy"))


@pytest.fixture(scope="module")
def whole(worlds):
    """A run `whole` of 300 questions, to which nothing happens, and the words that began it."""
    world = worlds("whole")
    world.model("toy")
    words = ["run", "model=toy", f"dataset={world.questions(300)}", "latency=off", "batch_size=8"]
    world.harness(*words, "run=whole")
    return world, words


def test_a_file_that_may_not_grow_ends_the_run_with_one_message_and_a_resume_finishes_it(whole):
    world, words = whole
    sizes = {path.parts[-3]: path.stat().st_size for path in (world.results / "whole").rglob("records.jsonl")}
    limit = (sizes["prior"] + sizes["toy"]) // 2
    assert sizes["prior"] < limit < sizes["toy"]
    done = subprocess.run(
        world.command(*words, "run=cut"),
        capture_output=True,
        text=True,
        env=world.environment(),
        cwd=world.folder,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "File too large" in done.stderr.splitlines()[-1]
    assert "harness resume cut" in done.stderr.splitlines()[-1]
    (path,) = (world.results / "cut" / "cells" / "toy").glob("*/records.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)[:-1]
    assert len(lines) > 50
    world.harness("resume", "cut")
    assert answers(world, "cut") == answers(world, "whole")
    assert path.read_bytes().splitlines(keepends=True)[: len(lines) // 8 * 8] == lines[: len(lines) // 8 * 8]


@mounts
def test_a_full_disk_ends_the_run_with_one_message_and_a_resume_finishes_it(whole):
    world, words = whole
    run, resume = (subprocess.list2cmdline(world.command(*w)) for w in ([*words, "run=full"], ["resume", "full"]))
    done = within(
        world,
        f"mkdir kept; mount -t tmpfs -o size=80k none results; {run} || echo status $?; df results | tail -1; "
        f"mount -o remount,size=9m results; {resume}; cp -r results/full kept/full",
    )
    assert done.returncode == 0, done.stderr
    assert "status 1" in done.stdout
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    (world.folder / "kept" / "full").rename(world.results / "full")
    assert answers(world, "full") == answers(world, "whole")


@pytest.fixture(scope="module")
def finished(worlds):
    """Two runs of which one lost its summary."""
    world = worlds("finished")
    world.model("toy")
    for name in ("a", "b"):
        world.harness("run", "model=toy", f"dataset={world.questions(8)}", "latency=off", f"run={name}")
    (world.results / "a" / "summary.json").unlink()
    return world


def content(world) -> dict:
    return {path: path.read_bytes() for path in world.results.rglob("*") if path.is_file()}


def test_a_disk_that_fills_while_a_report_is_written_is_status_1_and_the_report_before_stays(finished):
    run = finished.results / "b"
    before = (run / "report.html").read_bytes()
    assert len(before) > 10_000
    done = subprocess.run(
        finished.command("report", "results/b"),
        capture_output=True,
        text=True,
        env=finished.environment(),
        cwd=finished.folder,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert "File too large" in line
    assert (run / "report.html").read_bytes() == before


READ_ONLY = "mount --bind results results; mount -o remount,bind,ro results; "


@mounts
def test_a_folder_that_cannot_be_written_is_told_and_left_as_it_was(finished):
    before = content(finished)
    again = ["run", "model=toy", "dataset=quiz", "latency=off", "run=new"]
    for command in (again, ["resume", "b"], ["report", "results/b"]):
        done = within(finished, READ_ONLY + "exec " + subprocess.list2cmdline(finished.command(*command)))
        assert done.returncode == 2, done.stderr
        (line,) = done.stderr.splitlines()
        assert "Read-only file system" in line
        assert "--out DIR" in line or command[0] == "run"
    assert content(finished) == before


@mounts
def test_a_disk_that_fills_while_a_report_is_written_is_told_in_one_line(finished):
    before = content(finished)
    for runs in (["results/b"], ["results/a", "results/b"]):
        command = subprocess.list2cmdline(finished.command("report", *runs, "--out", "small/report"))
        done = within(finished, f"mkdir -p small; mount -t tmpfs -o size=40k none small; exec {command}")
        assert done.returncode == 1, done.stderr
        (line,) = done.stderr.splitlines()
        assert "No space left on device" in line
    assert content(finished) == before


@mounts
def test_a_run_that_may_only_be_read_is_reported_elsewhere(finished):
    before = content(finished)
    calls = (
        subprocess.list2cmdline(finished.command("report", *runs, "--out", out))
        for runs, out in ((["results/a"], "one"), (["results/a", "results/b"], "both"))
    )
    done = within(finished, READ_ONLY + "; ".join(calls))
    assert (done.returncode, done.stderr) == (0, "")
    assert "| toy | 0.500" in (finished.folder / "one" / "report.md").read_text()
    assert (finished.folder / "both" / "report.html").exists()
    assert content(finished) == before


def test_a_picture_deleted_between_runs_costs_its_samples_and_a_deleted_data_set_nothing(world):
    world.model("toy", held_at="number 30?", notes=str(world.notes), look=True)
    (world.notes / "hold").touch()
    quiz = world.questions(40)
    process = world.start("run", "model=toy", f"dataset={quiz}", "batch_size=2", "latency=off", "run=r")
    world.wait_for(lambda: list(world.results.glob("r/cells/toy/*/records.jsonl")))
    process.kill()
    process.wait()
    (world.notes / "hold").unlink()
    data = world.folder / "data" / "quiz.jsonl"
    data.rename(world.folder / "elsewhere.jsonl")
    before = (path := next(world.results.glob("r/cells/toy/*/records.jsonl"))).read_bytes()
    assert "there is no file" in world.harness("resume", "r", status=2).stderr
    assert path.read_bytes() == before
    (world.folder / "elsewhere.jsonl").rename(data)
    (world.folder / "data" / "quiz19.png").unlink()
    world.harness("resume", "r", status=1)
    errors = {row["id"]: row["error"] for row in world.records("r", "toy") if "error" in row}
    assert set(errors) == {"38", "39"}
    assert "quiz19.png" in errors["38"]
    assert "line 39" in errors["38"]
    assert len(world.records("r", "toy")) == 40
