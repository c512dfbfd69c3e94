"""The real command, in a process of its own, on files and toy models."""

import csv
import json
import signal
import subprocess

import pytest

from harness.metrics.meteor import meteor_available


@pytest.mark.quick
def test_a_run_leaves_a_summary_a_report_and_every_answer(world):
    world.model("toy")
    world.model("other", origin="in-house")
    quiz = world.questions(40)
    words = ["run", "task=vqa", "model=[toy,other]", f"dataset={quiz}"]
    done = world.harness(*words, "run=first", "report.charts=true")
    assert "toy" in done.stdout
    assert "prior" in done.stdout
    cell = world.cell("first", "toy")
    # Of 40: every fourth answer is "yes" to an Is question and every fourth "two"; the rest is "no".
    assert cell["headline"] == "exact_match"
    assert cell["metrics"]["exact_match"]["value"] == pytest.approx(0.5)
    assert cell["metrics"]["exact_match"]["low"] < 0.5 < cell["metrics"]["exact_match"]["high"]
    assert (cell["samples"], cell["failed"], cell["coverage"], cell["clusters"]) == (40, 0, 1.0, 20)
    assert cell["slices"]["category"]["count"]["n"] == 20
    assert cell["route"] == "generate"
    assert cell["latency"]["p50_ms"] > 0
    assert cell["latency"]["load_s"] is not None
    (pair,) = world.summary("first")["comparisons"]
    assert (pair["difference"], pair["p"]) == (0.0, 1.0)
    folder = world.results / "first"
    for name in ("report.md", "report.html", "charts", "tables"):
        assert (folder / name).exists()
    assert {path.suffix for path in (folder / "charts").iterdir()} == {".svg", ".png"}
    table = next(path for path in (folder / "tables").glob("vqa*.csv"))
    assert {"toy", "other", "prior"} <= {row["model"] for row in csv.DictReader(table.open())}
    assert len(world.records("first", "toy")) == 40


def test_every_task_runs_through_the_command(world):
    world.model("writer")
    world.model("finder", "ToyEncoder")
    world.captions(12)
    world.captions(12, "pictures", "captioning")
    rows = [{"id": i, "image": world.picture(f"c{i}.png"), "label": ["cat", "dog"][i % 2]} for i in range(10)]
    world.dataset("pets", "classification", rows, {"id": "id", "image": "image", "references": "label"},
                  "labels: {en: [cat, dog]}")  # fmt: skip
    world.harness("run", "task=all", "model=[writer,finder]", "dataset=[album,pictures,pets]", "run=all tasks (全部)")
    cells = {(c["model"], c["task"]): c for c in world.summary("all tasks (全部)")["cells"]}
    assert cells["writer", "retrieval"]["status"] == "skipped"
    assert "no route" in cells["writer", "retrieval"]["reason"]
    assert cells["finder", "captioning"]["status"] == "skipped"
    assert cells["writer", "captioning"]["headline"] == "cider"
    assert ("meteor" in cells["writer", "captioning"]["metrics"]) == meteor_available()
    found = cells["finder", "retrieval"]["metrics"]
    assert 0 <= found["i2t_recall@1"]["value"] <= found["i2t_recall@10"]["value"] <= 1
    assert cells["chance", "retrieval"]["metrics"]["t2i_recall@1"]["value"] == pytest.approx(1 / 12)
    assert cells["finder", "classification"]["route"] == "embed"
    assert cells["chance", "classification"]["metrics"]["accuracy"]["value"] == pytest.approx(0.5)
    assert cells["writer", "classification"]["metrics"]["unmapped_rate"]["value"] == 1.0


def test_ablations_stand_side_by_side_and_a_model_that_cannot_do_without_is_skipped(world):
    world.model("looker", "ToyLooker")
    world.model("blind")
    rows = [{"id": i, "image": world.picture(f"p{i}.png"), "q": "Which?", "a": f"p{i}.png"} for i in range(30)]
    world.dataset("names", "vqa", rows, {"id": "id", "image": "image", "question": "q", "references": "a"})
    words = ["run", "model=[looker,blind]", "dataset=names", "latency=off", "seed=3"]
    done = world.harness(*words, "ablate=none,image,shuffled-image", "run=r", "report.charts=true")
    cells = {(c["model"], c["ablate"]): c for c in world.summary("r")["cells"]}
    assert cells["looker", ""]["metrics"]["exact_match"]["value"] == 1.0
    assert cells["looker", "shuffled-image"]["metrics"]["exact_match"]["value"] == 0.0
    assert cells["looker", "image"]["reason"] == "cannot be asked without image"
    assert cells["blind", "image"]["status"] == "complete"
    assert "another's image" in done.stdout
    assert "| looker | 1.000" in (world.results / "r" / "report.md").read_text()
    shown = (world.results / "r" / "cells" / "looker" / "vqa.names.en.shuffled-image" / "records.jsonl").read_text()
    world.harness(*words, "ablate=shuffled-image", "limit=10", "run=part")
    part = (world.results / "part" / "cells" / "looker" / "vqa.names.en.shuffled-image" / "records.jsonl").read_text()
    assert set(part.splitlines()) < set(shown.splitlines())


def test_what_a_model_was_not_made_for_is_skipped_with_its_reason(world):
    names = [world.model(name) for name in ("captioner", "deaf", "foreign")]
    limits = ["models.captioner.tasks=[captioning]", "models.deaf.modalities=[text]", "models.foreign.languages=[zh]"]
    words = ["run", f"model=[{','.join(names)}]", f"dataset={world.questions(4)}", "latency=off", "run=r"]
    world.harness(*words, *limits)
    reasons = {name: world.cell("r", name)["reason"] for name in names}
    assert reasons == {
        "captioner": "is made for captioning only",
        "deaf": "takes no image",
        "foreign": "is not made for language en",
    }


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["model=toy", "ablate=audoi"], "Did you mean 'audio'?"),
        (["model=toy", "ablate=audio"], "quiz has no audio in vqa"),
        (["model=toi"], "Did you mean 'toy'?"),
        (["model=toy", "task=vqq"], "Did you mean 'vqa'?"),
        (["model=toy", "limt=3"], "Did you mean 'limit'?"),
        (["model=toy", "models.toy.optons={}"], "Did you mean 'options'?"),
        (["model=toy", "device=cdua"], "Did you mean 'cuda'?"),
    ],
)
def test_a_mistake_in_the_command_is_one_line_and_status_2(world, words, hint, in_process):
    world.model("toy")
    status, _, said = in_process("run", f"dataset={world.questions(4)}", *words)
    assert status == 2
    assert hint in said
    assert len(said.strip().splitlines()) == 1
    assert not world.results.exists()


@pytest.mark.quick
def test_a_column_that_is_not_there_is_one_error_before_any_model_loads(world):
    world.model("toy", fault="load")
    world.dataset("bad", "vqa", [{"id": 1, "photo": "x.png"}], {"image": "image", "question": "q", "references": "a"})
    done = world.harness("run", "model=toy", "dataset=bad", status=2)
    (line,) = done.stderr.strip().splitlines()
    assert "photo" in line
    assert "did not load" not in line


@pytest.mark.quick
def test_pictures_that_do_not_open_are_failed_records_that_name_file_and_row(world):
    world.model("toy", look=True)
    quiz = world.questions(40)
    (world.folder / "data" / "quiz3.png").write_bytes(b"")
    (world.folder / "data" / "quiz5.png").unlink()
    world.harness("run", "model=toy", f"dataset={quiz}", "run=r", "latency=off", status=1)
    failed = {row["id"]: row["error"] for row in world.records("r", "toy") if "error" in row}
    assert set(failed) == {"6", "7", "10", "11"}
    assert "quiz3.png" in failed["6"]
    assert "quiz5.png" in failed["10"]
    cell = world.cell("r", "toy")
    assert (cell["failed"], cell["coverage"]) == (4, pytest.approx(0.9))
    assert cell["metrics"]["exact_match"]["value"] < cell["of_answered"]


def test_one_bad_sample_costs_one_sample_and_no_other_model_anything(world):
    reasons = {"raise": "cannot answer", "type": "bytes", "crash": "SIGSEGV", "killed": "SIGKILL", "hang": "3 s"}
    for fault in reasons:
        world.model(fault, fault=fault, trigger="number 13?")
    world.model("good")
    quiz = world.questions(40)
    words = ["run", f"model=[{','.join(reasons)},good]", f"dataset={quiz}", "run=r", "latency=off", "batch_size=16"]
    world.harness(*words, "engine.timeout_s=3", status=1)
    for fault, reason in reasons.items():
        assert world.cell("r", fault)["failed"] == 1
        (row,) = [row for row in world.records("r", fault) if "error" in row]
        assert row["id"] == "13"
        assert reason in row["error"]
    assert world.cell("r", "good")["failed"] == 0


def test_an_item_that_cannot_be_embedded_costs_its_queries_alone(world):
    bad = {"nan": ("nan", 5), "nan-first": ("nan", 0), "raise": ("raise", 5), "crash": ("crash", 5)}
    for name, (fault, item) in bad.items():
        world.model(name, "ToyEncoder", fault=fault, trigger=f"a {item}")
    words = ["run", "task=retrieval", f"model=[{','.join(bad)}]", f"dataset={world.captions(12)}", "run=r"]
    world.harness(*words, "latency=off", "batch_size=4", status=1)
    failed = {name: [row["id"] for row in world.records("r", name) if "error" in row] for name in bad}
    assert failed == {name: [f"t2i:p{item}#0"] for name, (_, item) in bad.items()}


@pytest.fixture(scope="module")
def troubled(worlds):
    """A run of models with troubles of all their samples, and of one without."""
    world = worlds("troubled")
    troubles = {"short": "short", "crashes": "crash", "absent": "load", "big": "memory", "good": ""}
    for name, fault in troubles.items():
        world.model(name, fault=fault)
    words = ["run", f"model=[{','.join(troubles)}]", f"dataset={world.questions(40)}", "run=r", "batch_size=16"]
    world.harness(*words, "latency=off", status=1)
    return world


def test_too_few_answers_are_an_error_of_every_sample_and_the_model_is_given_up(troubled):
    assert troubled.cell("r", "short")["status"] == "failed"
    assert troubled.cell("r", "short")["reason"].startswith("20 of 20 failed: ValueError: ToyGenerator.generate() gave")
    assert len(troubled.records("r", "short")) == 20
    assert "0 answers to 1" in troubled.records("r", "short")[0]["error"]


def test_a_model_that_does_not_load_or_kills_every_time_fails_and_the_others_go_on(troubled):
    assert troubled.cell("r", "crashes")["status"] == "failed"
    assert "processes died" in troubled.cell("r", "crashes")["reason"]
    assert "the weights are not there" in troubled.cell("r", "absent")["reason"]
    assert (troubled.cell("r", "good")["status"], troubled.cell("r", "good")["failed"]) == ("complete", 0)


def test_running_out_of_memory_halves_the_batch_and_is_noted(troubled):
    cell = troubled.cell("r", "big")
    assert cell["failed"] == 0
    assert "at most 2" in cell["note"]


def test_a_run_with_a_relative_data_folder_is_resumed_from_anywhere(world, tmp_path):
    world.model("slow", held_at="number 30?", notes=str(world.notes))
    quiz = world.questions(40)
    (world.notes / "hold").touch()
    whole = world.command("run", "model=slow", f"dataset={quiz}", "run=r", "latency=off", "batch_size=2")
    words = [word for word in whole if not word.startswith("data_dir=")]
    process = subprocess.Popen([*words, "data_dir=data"], env=world.environment(), cwd=world.folder)
    world.wait_for((world.notes / "held").exists)
    process.kill()
    process.wait()
    (world.notes / "hold").unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        world.command("resume", "r"), capture_output=True, text=True, env=world.environment(), cwd=elsewhere
    )
    assert done.returncode == 0, done.stderr
    assert (world.cell("r", "slow")["status"], world.cell("r", "slow")["failed"]) == ("complete", 0)


def test_ctrl_c_leaves_a_run_that_resume_finishes_with_the_same_numbers(world):
    world.model("slow", held_at="number 40?", notes=str(world.notes))
    world.model("next", "ToyEncoder")
    quiz, album = world.questions(60), world.captions(40)
    words = ["run", "task=[vqa,retrieval]", "model=[slow,next]", f"dataset=[{quiz},{album}]"]
    words += ["batch_size=2", "latency=off"]
    world.harness(*words, "run=whole")
    (world.notes / "hold").touch()
    process = world.start(*words, "run=cut")
    records = world.results / "cut" / "cells" / "slow" / f"vqa.{quiz}.en" / "records.jsonl"
    world.wait_for(lambda: records.exists() and records.read_text().count("\n") >= 6)
    process.send_signal(signal.SIGINT)
    world.read_until(process, "stopping after this batch")
    (world.notes / "hold").unlink()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "harness resume cut" in said
    before = records.read_text()
    assert 6 <= before.count("\n") < 60
    world.harness("resume")
    assert records.read_text().startswith(before)
    assert _scores(world, "cut") == _scores(world, "whole")


def test_kill_9_of_the_driver_loses_nothing_and_leaves_no_worker(world):
    world.model("slow", "ToyEncoder", held_at="album20.png", notes=str(world.notes))
    album = world.captions(40)
    words = ["run", "task=retrieval", "model=slow", f"dataset={album}", "batch_size=4", "latency=off"]
    world.harness(*words, "run=whole")
    (world.notes / "hold").touch()
    process = world.start(*words, "run=cut")
    vectors = world.results / "cut" / "cells" / "slow" / f"retrieval.{album}.en" / "embeddings" / "image.f32"
    world.wait_for(lambda: vectors.exists() and vectors.stat().st_size >= 4 * 4 * 32)
    process.kill()
    process.wait()
    world.wait_for(lambda: not world.at_work())
    assert vectors.stat().st_size < 40 * 4 * 32
    (world.notes / "hold").unlink()
    world.harness("resume", "cut")
    assert _scores(world, "cut") == _scores(world, "whole")


def held(world, run: str) -> subprocess.Popen[str]:
    """A run of 40 questions that has some answers on disk and waits while there is a file `hold`."""
    world.model("slow", held_at="number 30?", notes=str(world.notes))
    (world.notes / "hold").touch()
    process = world.start(
        "run", "model=slow", f"dataset={world.questions(40)}", "batch_size=2", "latency=off", f"run={run}"
    )
    world.wait_for(lambda: list(world.results.glob(f"{run}/cells/slow/*/records.jsonl")))
    return process


@pytest.mark.quick
def test_a_second_driver_is_refused_while_one_is_at_work(world):
    process = held(world, "one")
    for command in (["resume", "one"], ["report", str(world.results / "one")]):
        done = world.harness(*command, status=2)
        assert f"process {process.pid} on " in done.stderr
    (world.notes / "hold").unlink()
    assert process.wait(60) == 0
    assert len(world.records("one", "slow")) == 40
    assert not (world.results / "one" / "lock").exists()


def test_resume_refuses_answers_of_another_adapter(world):
    process = held(world, "cut")
    process.kill()
    process.wait()
    path = world.results / "cut" / "run.json"
    plan = json.loads(path.read_text())
    before = plan["config"]["models"]["slow"]["dtype"]
    plan["config"]["models"]["slow"]["dtype"] = "float16"
    path.write_text(json.dumps(plan))
    done = world.harness("resume", "cut", status=2)
    assert f"dtype (was {before}, is now float16)" in done.stderr


@pytest.fixture(scope="module")
def twins(worlds):
    """The same run twice, of ten questions of forty."""
    world = worlds("twins")
    for model in ("toy", "other"):
        world.model(model)
    for name in ("a", "b"):
        words = ["run", "model=[toy,other]", f"dataset={world.questions(40)}", "limit=10", f"run={name}"]
        world.harness(*words, "latency=off")
    return world


def test_a_limit_draws_whole_clusters_and_is_the_same_for_every_model_and_time(twins):
    ids = [[row["id"] for row in twins.records(run, model)] for run in ("a", "b") for model in ("toy", "other")]
    assert ids[0] == ids[1] == ids[2] == ids[3]
    assert len(ids[0]) == 10
    assert ids[0] != [str(i) for i in range(10)]
    assert len({int(name) // 2 for name in ids[0]}) == 5


def test_report_scores_again_and_joins_runs_in_chinese(twins):
    summary = twins.results / "a" / "summary.json"
    before = summary.read_text()
    summary.unlink()
    twins.harness("report", str(twins.results / "a"))
    assert summary.read_text() == before
    twins.harness("report", str(twins.results / "a"), str(twins.results / "b"), "--lang", "zh", "--out", "joined")
    assert "模型" in (twins.folder / "joined" / "report.html").read_text()


def test_list_knows_the_users_own_models_and_speaks_json(world, in_process):
    world.model("toy")
    rows = json.loads(world.harness("list", "models", "--json").stdout)
    assert "toy" in [row["model"] for row in rows]
    assert in_process("list", "tasks")[1].count("\n") == 5
    assert "exact_match" in in_process("list", "metrics")[1]


def _scores(world, run: str) -> list[tuple]:
    keys = ("model", "task", "status", "samples", "failed", "metrics")
    return [tuple(cell[key] for key in keys) for cell in world.summary(run)["cells"]]
