"""The examples, each run as examples/README.md says, in a copy of its own; killed on the way, and resumed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
COMMANDS = re.findall(
    r"^(?:\(cd (\w+) && )?((?:harness|python) .*?)\)?$", (EXAMPLES / "README.md").read_text("utf-8"), re.M
)


def run_in_a_copy(folder: Path, place: str, command: str, killed: bool = False) -> tuple[str, dict[str, Any]]:
    """What the command prints, and the summary of its run; or after it was killed once it had answers, what the resume
    prints. Beside the example lies what lies in a user's folder: a virtual environment, notes, earlier results."""
    shutil.copytree(EXAMPLES, folder / "examples")
    start = ["-m"] if command.startswith("harness") else []
    words = [word for word in shlex.split(command) if word != "python"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
    where = folder / "examples" / place
    (where / ".venv").mkdir()
    (where / ".venv" / "pyvenv.cfg").touch()
    if killed:
        with subprocess.Popen([sys.executable, *start, *words], cwd=where, env=environment) as process:
            while not list((where / "results").glob("*/cells/*/*/records.jsonl")):
                assert process.poll() is None
                time.sleep(0.01)
            process.kill()
        (where / "notes.txt").write_text("written between the kill and the resume")
        start, words = ["-m"], ["harness", "resume", *(words[words.index("--config-dir") :] if start else ())]
    done = subprocess.run(
        [sys.executable, *start, *words], capture_output=True, text=True, cwd=where, env=environment, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (summary,) = (where / "results").glob("*/summary.json")
    return done.stdout, json.loads(summary.read_text("utf-8"))


def command_of(place: str) -> tuple[str, str]:
    return next((folder, command) for folder, command in COMMANDS if folder == place)


def test_every_example_has_its_command():
    assert sorted(place for place, _ in COMMANDS) == ["", "adapter", "dataset"]


def test_the_adapter_is_compared_with_a_bundled_model(tmp_path):
    _, summary = run_in_a_copy(tmp_path, *command_of("adapter"), killed=True)
    cells = [cell for cell in summary["cells"] if cell["model"] == "bright"]
    assert {cell["language"] for cell in cells} == {"en", "zh"}
    assert {(cell["status"], cell["failed"], cell["route"]) for cell in cells} == {("complete", 0, "generate")}
    assert {"bright", "pocket-qwen3-vl"} <= {cell["model"] for cell in summary["cells"]}


def test_the_data_set_is_asked_in_both_languages(tmp_path):
    rows = (EXAMPLES / "dataset" / "data" / "shapes" / "questions.jsonl").read_text("utf-8").splitlines()
    _, summary = run_in_a_copy(tmp_path, *command_of("dataset"), killed=True)
    cells = [cell for cell in summary["cells"] if cell["origin"] == "in-house"]
    assert {cell["language"] for cell in cells} == {"en", "zh"}
    assert {(cell["status"], cell["samples"], cell["failed"]) for cell in cells} == {("complete", len(rows), 0)}
    assert all(set(cell["slices"]["kind"]) == {"colour", "kind", "position", "yes-no"} for cell in cells)


def test_the_script_prints_what_the_run_found(tmp_path):
    printed, summary = run_in_a_copy(tmp_path, *command_of(""))
    models = {cell["model"] for cell in summary["cells"] if cell["origin"] != "reference"}
    assert models == {"fusion-concat", "pocket-clip"}
    assert all(model in printed for model in models)
    assert printed.rstrip().endswith("report.html")


def test_a_run_that_the_script_began_is_gone_on_with_by_the_command(tmp_path):
    _, summary = run_in_a_copy(tmp_path, *command_of(""), killed=True)
    cells = [cell for cell in summary["cells"] if cell["origin"] != "reference"]
    assert {(cell["status"], cell["failed"]) for cell in cells} == {("complete", 0)}


@pytest.mark.parametrize("path", sorted((EXAMPLES / "dataset").rglob("*.png")), ids=lambda path: path.name)
def test_pictures_of_examples_are_small(path):
    assert 0 < path.stat().st_size < 4096


def test_the_code_about_python_runs_as_one_program_from_standard_input(tmp_path):
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    program = "".join(re.findall(r"^```python\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-"], input=program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    assert "There is no model 'pocket-clop'. Did you mean 'pocket-clip'?" in done.stdout
    assert len(list((tmp_path / "results").glob("*/report.html"))) == 4
    assert (tmp_path / "results" / "clip-small-batches" / "summary.json").is_file()
