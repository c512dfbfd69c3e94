"""The harness from Python: the same run folder as the command's, also with a model that is an object of the script."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import harness
from harness import Adapter, Answer, ModelSpec, UserError, evaluate, load_run
from harness.measure.machine import pick_dtype

QUICK = {"report.charts": False, "latency": "off"}


class SaysYes(Adapter):
    """Says yes, and notes what it was given."""

    def load(self, device, clock):
        self.where = os.getpid(), device, self.spec.dtype
        self.asked = 0

    def generate(self, inputs):
        self.asked += len(inputs)
        return [Answer("yes") for _ in inputs]


@pytest.fixture
def quiz(world, monkeypatch):
    """Settings of a run over 40 questions, of which a quarter is answered by yes."""
    world.questions()
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    folders = {"data_dir": world.folder / "data", "results_dir": world.results, "config_dir": world.folder / "conf"}
    return {"dataset": "quiz", **folders, **QUICK}


def test_a_run_from_python_is_the_run_of_the_command(world, quiz):
    world.model("toy")
    ours = evaluate("toy", run="ours", limit=20, **quiz)
    world.harness("run", "model=toy", "dataset=quiz", "limit=20", "latency=off", "run=theirs")
    theirs = load_run(world.results / "theirs")
    assert ours.path == world.results / "ours"
    assert (ours.path / "report.html").is_file()
    assert ours.cells()[["model", "value", "low", "high"]].equals(theirs.cells()[["model", "value", "low", "high"]])
    assert ours.records()["answer"].equals(theirs.records()["answer"])
    assert (
        ours.summary["cells"][0]["metrics"]
        == json.loads((ours.path / "summary.json").read_text())["cells"][0]["metrics"]
    )


def test_an_object_is_asked_in_this_process_and_its_latency_says_so(quiz):
    model = SaysYes(ModelSpec())
    run = evaluate(model, run="object", **quiz | {"latency": "quick"})
    assert model.where == (os.getpid(), "cpu", pick_dtype("auto", "cpu"))
    assert model.asked >= 40
    (cell,) = [cell for cell in run.summary["cells"] if cell["model"] == "says-yes"]
    assert (cell["status"], cell["origin"]) == ("complete", "in-house")
    assert cell["metrics"]["exact_match"]["value"] == 0.25
    assert "in the caller's own process" in cell["note"]
    assert set(run.records().query("model == 'says-yes'")["answer"]) == {"yes"}


def test_objects_stand_beside_models_of_the_configuration_and_are_tested_against_them(world, quiz):
    world.model("toy")
    run = evaluate({"mine": SaysYes(ModelSpec()), "other": SaysYes(ModelSpec(origin="domestic"))}, run="two", **quiz)
    assert len(run.comparisons()) == 1
    run = evaluate(["toy", SaysYes(ModelSpec())], run="mixed", **quiz)
    assert set(run.comparisons()[["a", "b"]].iloc[0]) == {"toy", "says-yes"}


def test_the_same_call_with_the_runs_name_goes_on_and_asks_nothing_again(quiz):
    first, second = SaysYes(ModelSpec()), SaysYes(ModelSpec())
    evaluate(first, run="twice", **quiz)
    evaluate(second, run="twice", **quiz)
    assert (first.asked, hasattr(second, "asked")) == (40, False)
    with pytest.raises(UserError, match="exists already, with other limit"):
        evaluate(second, run="twice", limit=10, **quiz)


def test_a_run_without_a_name_is_gone_on_with_by_the_name_it_was_given(quiz):
    first, second = SaysYes(ModelSpec()), SaysYes(ModelSpec())
    run = evaluate(first, **quiz)
    assert evaluate(second, run=run.path.name, **quiz).path == run.path
    assert not hasattr(second, "asked")


def test_a_run_with_an_object_is_not_resumed_by_the_command(world, quiz):
    evaluate(SaysYes(ModelSpec()), run="object", **quiz)
    done = world.harness("resume", "object", status=2)
    assert "says-yes was an object of a Python program" in done.stderr


def test_an_object_whose_source_cannot_be_found_is_not_gone_on_with(quiz):
    typed = type("Typed", (SaysYes,), {"__module__": "typed_into_an_interpreter"})
    evaluate(typed(ModelSpec()), run="typed", **quiz)
    with pytest.raises(UserError, match="another adapter source"):
        evaluate(typed(ModelSpec()), run="typed", **quiz)


def test_mistakes_are_user_errors(quiz):
    for model, reason in (
        ("tou", "no model 'tou'"),
        (SaysYes, "an adapter that exists"),
        ([SaysYes(ModelSpec()), SaysYes(ModelSpec())], "'says-yes' is taken"),
        ({"a b": SaysYes(ModelSpec())}, "is not a name"),
    ):
        with pytest.raises(UserError, match=reason):
            evaluate(model, **quiz)
    with pytest.raises(UserError, match="no setting 'limt'"):
        evaluate(SaysYes(ModelSpec()), limt=3, **quiz)
    with pytest.raises(UserError, match="There is no run"):
        load_run("nowhere")


SCRIPT = """
print("the script runs")
import harness
run = harness.evaluate("toy", run="script", dataset="quiz", limit=20, latency="off", config_dir="conf", data_dir="data",
                       **{"report.charts": False})
print(run.cells()["status"].tolist())
"""


@pytest.mark.parametrize("how", ["file", "standard input", "-c"])
def test_a_script_needs_no_guard(world, how):
    world.questions()
    world.model("toy")
    (world.folder / "script.py").write_text(SCRIPT)
    words = {"file": ["script.py"], "standard input": ["-"], "-c": ["-c", SCRIPT]}[how]
    done = subprocess.run(
        [sys.executable, *words], input=SCRIPT, cwd=world.folder, env=world.environment(), capture_output=True,
        text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "the script runs"
    assert done.stdout.count("the script runs") == 1
    assert "['complete'" in done.stdout


HELD = """
import time, sys
from pathlib import Path
import harness

class Held(harness.Adapter):
    def load(self, device, clock):
        self.batches = 0

    def generate(self, inputs):
        self.batches += 1
        if self.batches == 2 and Path("hold").exists():
            Path("held").touch()
            while Path("hold").exists():
                time.sleep(0.01)
        return [harness.Answer("yes") for _ in inputs]

try:
    run = harness.evaluate(Held(harness.ModelSpec()), run="held", dataset="quiz", batch_size=10, latency="off",
                           config_dir="conf", data_dir="data", **{"report.charts": False})
except KeyboardInterrupt as error:
    sys.exit(f"stopped: {error}")
print(run.cells().query("model == 'held'")["status"].item())
"""


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_keeps_what_an_object_has_answered_and_the_same_call_goes_on(world, presses):
    """Once, it stops after the batch in hand; twice, it ends that batch too."""
    world.questions()
    (world.folder / "script.py").write_text(HELD)
    (world.folder / "hold").touch()
    command, place = [sys.executable, "script.py"], {"cwd": world.folder, "env": world.environment(), "text": True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **place) as process:
        while not (world.folder / "held").exists():
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.02)
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)  # two at once would arrive as one
        (world.folder / "hold").unlink()
        _, told = process.communicate(timeout=120)
    assert (process.returncode, "stopped: " in told) == (1, True)
    assert len(world.records("held", "held")) == 10 * (3 - presses)
    done = subprocess.run(command, capture_output=True, timeout=240, **place)
    assert (done.returncode, done.stdout.strip()) == (0, "complete"), done.stderr
    assert len(world.records("held", "held")) == 40


def test_the_version_is_said():
    assert harness.__version__.count(".") == 2
