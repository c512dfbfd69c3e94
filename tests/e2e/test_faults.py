"""One fault stays one fault: whatever an adapter or a file does, it costs the samples concerned and no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

BLAMED = {
    "exit": ({"13"}, "sys.exit(3)"),
    "crash in prepare": ({"13"}, "SIGSEGV"),
    "device lost": ({"13"}, "device-side assert"),
    "tokens": ({"13"}, "int64"),
    "nothing": (set(map(str, range(18))), "gave a NoneType"),
    "surrogate": ({"13"}, "half a character"),
    "leak": (set(), ""),
    "killed twice": (set(), ""),
    "load killed once": (set(), ""),
}
"""Fault -> the samples that fail by it, and what their records say."""


def test_every_fault_costs_the_samples_concerned_and_no_other_model_anything(world):
    names = []
    for number, fault in enumerate(BLAMED):
        notes = world.folder / f"notes{number}"
        notes.mkdir()
        trigger = "" if fault in ("leak", "load killed once", "nothing") else "number 13?"
        names.append(world.model(f"model{number}", fault=fault, trigger=trigger, notes=str(notes)))
    quiz = world.questions(18)
    world.harness("run", f"model=[{','.join(names)}]", f"dataset={quiz}", "run=r", "latency=off", "batch_size=4",
                  status=1)  # fmt: skip
    for name, (fault, (ids, reason)) in zip(names, BLAMED.items(), strict=True):
        errors = {row["id"]: row["error"] for row in world.records("r", name) if "error" in row}
        assert set(errors) == ids, fault
        assert all(reason in error for error in errors.values()), errors
        cell = world.cell("r", name)
        assert (cell["status"], cell["samples"], cell["failed"]) == ("complete", 18, len(ids))
        assert cell["coverage"] == pytest.approx(1 - len(ids) / 18)


def test_a_model_that_hangs_or_dies_twice_while_it_loads_fails_and_the_next_goes_on(world):
    world.model("hangs", fault="load hangs")
    world.model("dies", fault="load crashes")
    world.model("good")
    words = ["run", "model=[hangs,dies,good]", f"dataset={world.questions(4)}", "run=r", "latency=off"]
    done = world.harness(*words, "engine.timeout_s=10", status=1)
    assert "did not load: the process gave no sign for 10 s" in world.cell("r", "hangs")["reason"]
    assert "did not load: the process was ended by SIGSEGV" in world.cell("r", "dies")["reason"]
    assert (done.stderr.count("no sign for 10 s"), done.stderr.count("dies: the process was ended")) == (2, 2)
    assert world.cell("r", "good")["failed"] == 0


def test_scores_that_are_no_numbers_or_too_few_cost_their_sample(world):
    names = [world.model(f"{fault}-scores", "ToyRanker", fault=fault, trigger="number 13?") for fault in ("nan", "few")]
    rows = [{"id": i, "image": world.picture(f"{i}.png"), "q": f"number {i}?", "a": "cat"} for i in range(24)]
    columns = {"id": "id", "image": "image", "question": "q", "references": "a"}
    world.dataset("closed", "vqa", rows, columns, "labels: {en: [cat, dog]}")
    world.harness(
        "run", f"model=[{','.join(names)}]", "dataset=closed", "run=r", "latency=off", "batch_size=8", status=1
    )
    for name, reason in zip(names, ("not a finite number", "shape (1,)"), strict=True):
        (row,) = [row for row in world.records("r", name) if "error" in row]
        assert row["id"] == "13"
        assert reason in row["error"]


@pytest.mark.parametrize("ending", ["the run is done", "the driver is killed"])
def test_what_an_adapter_has_started_ends_with_its_worker(world, ending):
    world.model("parent", fault="child", notes=str(world.notes), held_at="number 3?")
    words = ["run", "model=parent", f"dataset={world.questions(4)}", "run=r", "latency=off"]
    if ending == "the run is done":
        world.harness(*words)
    else:
        (world.notes / "hold").touch()
        process = world.start(*words)
        world.wait_for((world.notes / "held").exists)
        assert _alive(world.notes / "child")
        process.kill()
        process.wait()
    world.wait_for(lambda: not _alive(world.notes / "child"), seconds=10)


def _alive(note) -> bool:
    """Whether the process whose number is in a file runs, and is not just waiting to be buried."""
    try:
        return Path(f"/proc/{note.read_text()}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def odd_vectors(worlds):
    """A run of three models with vectors of wrong forms."""
    world = worlds("odd vectors")
    world.model("width", "ToyEncoder", fault="width", trigger="a 5")
    world.model("shape", "ToyEncoder", fault="shape")
    world.model("narrow", "ToyEncoder", fault="crash, then narrow", trigger="a 5", notes=str(world.notes))
    words = ["run", "task=retrieval", "model=[width,shape,narrow]", f"dataset={world.captions(12)}", "run=r"]
    world.harness(*words, "batch_size=4", "latency=off", status=1)
    return world


def test_vectors_of_another_width_cost_their_queries_and_a_wrong_shape_the_model(odd_vectors):
    (row,) = [row for row in odd_vectors.records("r", "width") if "error" in row]
    assert row["id"] == "t2i:p5#0"
    assert "width 32" in row["error"]
    assert odd_vectors.cell("r", "shape")["status"] == "failed"
    assert "gave 32 answers to 1 requests" in odd_vectors.cell("r", "shape")["reason"]


def test_vectors_of_another_width_after_a_process_died_are_not_mixed_in(odd_vectors):
    errors = {row["id"]: row["error"] for row in odd_vectors.records("r", "narrow") if "error" in row}
    assert set(errors) == {f"t2i:p{i}#{k}" for i in range(4, 12) for k in range(2)}  # from the batch it died of
    assert set(errors.values()) == {"embed() gave vectors of width 31, not 32 as before"}


def test_a_choice_that_cannot_be_embedded_costs_the_sample_that_has_it(world):
    world.model("finder", "ToyEncoder", fault="raise", trigger="poison")
    rows = [
        {"id": i, "image": world.picture(f"{i}.png"), "q": "which?", "a": "x", "c": ["x", "poison" if i == 3 else "y"]}
        for i in range(8)
    ]
    columns = {"id": "id", "image": "image", "question": "q", "references": "a", "choices": "c"}
    world.dataset("chosen", "vqa", rows, columns)
    world.harness("run", "model=finder", "dataset=chosen", "run=r", "latency=off", status=1)
    (row,) = [row for row in world.records("r", "finder") if "error" in row]
    assert row["id"] == "3"
    assert "cannot answer this one" in row["error"]


def test_out_of_device_memory_halves_the_batch_and_a_resume_remembers(world):
    world.model("big", fault="device memory", notes=str(world.notes), held_at="number 5?")
    (world.notes / "hold").touch()
    process = world.start("run", "model=big", f"dataset={world.questions(64)}", "run=r", "batch_size=16", "latency=off")
    world.wait_for(lambda: any("fits" in file.read_text() for file in world.results.glob("r/cells/big/*/cell.json")))
    process.kill()
    process.wait()
    (world.notes / "hold").unlink()
    world.harness("resume", "r")
    sizes = sorted(file.name.split()[0] for file in world.notes.glob("* at *"))
    assert sizes == ["16", "16", "8", "8"]  # the first batch and the next one; after that, a size that fits
    cell = world.cell("r", "big")
    assert cell["failed"] == 0
    assert cell["latency"]["batch_size"] == 4
    assert cell["note"].startswith("batches of at most 4: memory ran out")


def test_batches_that_the_kernel_kills_for_memory_become_smaller(world):
    world.model("big", fault="large batches killed")
    quiz = world.questions(64)
    world.harness("run", "model=big", f"dataset={quiz}", "run=r", "batch_size=16", "latency=off")
    cell = world.cell("r", "big")
    assert cell["failed"] == 0
    assert cell["note"].startswith("batches of at most 4: memory ran out, or the process was killed")


def test_media_that_are_broken_or_far_too_large_are_failed_records_with_the_reason(world):
    data = world.folder / "data"
    rows = [
        {"id": i, "image": world.picture(f"{i}.png"), "sound": f"{i}.flac", "q": f"Is it {i}?", "a": "yes"}
        for i in range(12)
    ]
    for row in rows:
        soundfile.write(data / row["sound"], np.random.default_rng(0).normal(0, 0.1, 4000), 16_000)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(data / "1.png")
    whole = (data / "1.png").read_bytes()
    (data / "1.png").write_bytes(whole[: len(whole) // 2])
    (data / "2.png").write_bytes(b"")
    (data / "3.png").write_bytes(b"no picture")
    Image.new("1", (20_000, 20_000)).save(data / "4.png")
    sound = (data / "6.flac").read_bytes()
    (data / "6.flac").write_bytes(sound[: len(sound) // 2])
    (data / "7.flac").write_bytes(b"")
    (data / "8.flac").write_bytes(b"no sound")
    with soundfile.SoundFile(data / "9.flac", "w", 8_000, 1) as silence:
        for _ in range(140):
            silence.write(np.zeros(1_000_000, np.int16))
    assert (data / "9.flac").stat().st_size < 1_000_000
    (data / "10.png").unlink()
    columns = {"id": "id", "image": "image", "audio": "sound", "question": "q", "references": "a"}
    world.dataset("broken", "vqa", rows, columns, "modalities: [text, image, audio]")
    name = world.model("toy", look=True, listen=True)
    config = world.folder / "conf" / "model" / f"{name}.yaml"
    config.write_text(config.read_text() + "modalities: [text, image, audio]\n")
    world.harness("run", "model=toy", "dataset=broken", "run=r", "latency=off", status=1)
    errors = {row["id"]: row["error"] for row in world.records("r", "toy") if "error" in row}
    wanted = {"1": "truncated", "2": "empty", "3": "not an image", "4": "bomb", "6": "", "7": "empty", "8": "",
              "9": "too long", "10": "no such file"}  # fmt: skip
    assert set(errors) == set(wanted)
    for name, reason in wanted.items():
        assert f"{name}." in errors[name]
        assert f"line {int(name) + 1}" in errors[name]
        assert reason in errors[name]


def test_a_model_that_answers_nothing_is_given_up_cell_by_cell_and_a_resume_asks_it_again(world):
    (world.notes / "broken").touch()
    world.questions(60)
    world.questions(50, "other")
    world.captions(30)
    world.model("torn", fault="broken", notes=str(world.notes))
    world.model("torn-too", "ToyEncoder", fault="broken", notes=str(world.notes))
    words = ["model=[torn,torn-too]", "task=[vqa,retrieval]", "dataset=[quiz,other,album]", "latency=off", "run=a"]
    done = world.harness("run", *words, status=1)
    assert "20 of 20 failed: OSError: the weights are torn" in " ".join(done.stdout.split())
    cells = {(c["model"], c["dataset"]): c for c in world.summary("a")["cells"] if c["origin"] != "reference"}
    tried = [("torn", "quiz"), ("torn", "other"), ("torn-too", "album")]
    assert [cells[key]["status"] for key in tried] == ["failed"] * 3
    records = world.results / "a" / "cells" / "torn" / "vqa.other.en" / "records.jsonl"
    assert len(records.read_text().splitlines()) == 20
    (world.notes / "broken").unlink()
    world.harness("resume", "a")
    cells = {(c["model"], c["dataset"]): c for c in world.summary("a")["cells"] if c["origin"] != "reference"}
    assert [(cells[key]["status"], cells[key]["failed"]) for key in tried] == [("complete", 0)] * 3
    assert len(records.read_text().splitlines()) == 50
