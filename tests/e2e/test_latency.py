"""The full latency pass through the real command: what it writes, and that no kill costs an answer."""

import json
import signal

import pytest


def run(world, *words):
    return ["run", f"dataset={world.questions(40)}", "run=r", "latency=full", "batch_size=2", *words]


def latency_file(world, model="toy"):
    (folder,) = (world.results / "r" / "cells" / model).glob("*")
    return folder / "latency.json"


def test_a_full_pass_stands_in_the_summary_with_all_its_parts(world):
    world.model("toy", delay=0.01)
    world.harness(*run(world, "model=toy"))
    found = world.cell("r", "toy")["latency"]
    assert (found["mode"], found["n"]) == ("full", 40)
    assert found["p50_ms"] >= 10
    low, high = found["intervals"]["p90_ms"]
    assert low <= found["p90_ms"] <= high
    assert found["p95_ms"] is None
    assert found["first_answer_ms"] >= 10
    assert found["load_s"] >= 0
    assert found["import_s"] >= 0
    assert found["memory_mb"]["process"] > 10
    assert found["fixed"] is None, "the toy does not write to a length"
    assert [row["batch_size"] for row in found["offline"]] == [1, 2, 4, 8, 16, 32]
    assert found["offline"][-1]["samples_per_s"] > found["offline"][0]["samples_per_s"]
    assert found["offline_end"] == "samples"
    assert found["batch_size"] == 2, "that of the quality pass"
    assert world.cell("r", "toy")["note"] == ""
    latency_file(world).write_text(json.dumps(found | {"gpu_shared": True}))
    world.harness("report", str(world.results / "r"))
    assert "other processes computed on the GPU" in world.cell("r", "toy")["note"]


def test_pairs_of_an_image_and_a_text_are_timed_for_retrieval(world):
    world.model("toy", "ToyEncoder", delay=0.005)
    words = ["run", "task=retrieval", "model=toy", f"dataset={world.captions(6)}", "run=r", "latency=full"]
    world.harness(*words)
    found = world.cell("r", "toy")["latency"]
    assert found["n"] == 6
    assert found["p50_ms"] >= 10, "both are embedded"
    assert [row["batch_size"] for row in found["offline"]] == [1, 2, 4]


@pytest.fixture(scope="module")
def cut_sweeps(worlds):
    """A run of two models that cannot do large batches, and what it said."""
    world = worlds("cut sweeps")
    world.model("small", fault="memory")
    world.model("lone", fault="crowd")
    return world, world.harness(*run(world, "model=[small,lone]")).stderr


def test_the_sweep_ends_where_memory_does(cut_sweeps):
    found = cut_sweeps[0].cell("r", "small")["latency"]
    assert ([row["batch_size"] for row in found["offline"]], found["offline_end"]) == ([1, 2], "memory")


def test_a_process_that_dies_at_a_batch_keeps_what_it_had_measured(cut_sweeps):
    world, said = cut_sweeps
    assert "SIGSEGV" in said
    cell = world.cell("r", "lone")
    assert (cell["status"], cell["failed"]) == ("complete", 0)
    assert cell["latency"]["n"] == 40
    assert [row["batch_size"] for row in cell["latency"]["offline"]] == [1, 2]
    assert "latency was not measured to its end" in cell["note"]
    assert "SIGSEGV" in cell["note"]


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_a_pass_that_was_cut_short_is_run_again_and_no_answer_is(world, kind):
    world.model("toy", held_at="number", notes=str(world.notes))
    world.model("other")
    process = world.start(*run(world, "model=[toy,other]"))
    world.read_until(process, ": timing")
    (world.notes / "hold").touch()
    world.wait_for((world.notes / "held").exists)
    process.send_signal(kind)
    if kind == signal.SIGINT:
        world.read_until(process, "stopping after this batch")
    (world.notes / "hold").unlink()
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if kind == signal.SIGINT else -kind)
    assert ("harness resume r" in said) == (kind == signal.SIGINT)
    assert not latency_file(world).exists()
    records = latency_file(world).with_name("records.jsonl")
    before = records.read_bytes(), records.stat().st_mtime_ns
    world.harness("resume")
    assert (records.read_bytes(), records.stat().st_mtime_ns) == before
    for model in ("toy", "other"):
        assert world.cell("r", model)["latency"]["n"] == 40
        assert json.loads(latency_file(world, model).read_text())["offline_end"] == "samples"
    assert "no interrupted run" in world.harness("resume", status=2).stderr
