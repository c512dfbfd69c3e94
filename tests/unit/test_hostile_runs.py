"""Run folders of others: they are data, so nothing that they name is imported or run."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from harness.cli.main import main

OLD = Path(__file__).parents[1] / "golden" / "run-0.1.0"


@pytest.fixture
def trap(tmp_path, monkeypatch) -> Path:
    """A module that notes when it is imported, and the note."""
    note = tmp_path / "sprung"
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "trap.py").write_text(
        f"open({str(note)!r}, 'w').close()\n"
        "from harness.tasks.vqa import Vqa as Task\nfrom harness.adapter import Adapter as Model\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.chdir(tmp_path)
    return note


def poison(run: Path, target: str) -> None:
    """Have every file of a run name this class wherever a class may stand."""
    for file in [run / "run.json", *run.glob("cells/*/*/cell.json")]:
        data = json.loads(file.read_text())
        for spec in _specs(data):
            spec["_target_"] = target
            spec["/bin/sh"] = 0
        if "harness" in data:
            data["harness"] = "0.2.0"
        file.write_text(json.dumps(data))


def _specs(value):
    if isinstance(value, dict):
        if "_target_" in value or "spec" in value:
            yield value
        value = value.values()
    for part in value if not isinstance(value, str | int | float | None) else ():
        yield from _specs(part)


@pytest.mark.parametrize("target", ["trap.Task", "trap.Model", "subprocess.Popen", "os.system", "trap", "../../trap"])
def test_a_class_that_a_run_folder_names_is_neither_imported_nor_called(trap, tmp_path, target, capsys):
    run = Path(shutil.copytree(OLD, tmp_path / "results" / "old"))
    poison(run, target)
    other = Path(shutil.copytree(OLD, tmp_path / "results" / "other"))
    assert main(["report", str(run)]) == 0
    cells = json.loads((run / "summary.json").read_text())["cells"]
    assert [cell["status"] for cell in cells if cell["model"] == "pocket-clip"].count("complete") >= 2
    assert main(["compare", str(run), str(other)]) == 0
    assert main(["list", "runs", f"results_dir={run.parent}"]) == 0
    assert main(["resume", str(run)]) == 2
    assert not trap.exists()
    assert "trap" not in sys.modules
    assert "Traceback" not in capsys.readouterr().err


def test_a_task_that_is_not_known_here_is_shown_and_said(tmp_path):
    run = Path(shutil.copytree(OLD, tmp_path / "old"))
    for cell in run.glob("cells/*/captioning.pocket.en/cell.json"):
        cell.write_text(json.dumps(json.loads(cell.read_text()) | {"task": "painting"}))
    assert main(["report", str(run)]) == 0
    found = [c for c in json.loads((run / "summary.json").read_text())["cells"] if c["task"] == "painting"]
    complete = [cell for cell in found if cell["status"] == "failed"]
    assert complete
    assert all("its task 'painting' is not known here" in cell["reason"] for cell in complete)
    assert "painting" in (run / "report.md").read_text()


@pytest.mark.parametrize("summary_there", [False, True])
def test_a_report_elsewhere_leaves_the_run_as_it_was(tmp_path, summary_there):
    run = Path(shutil.copytree(OLD, tmp_path / "old"))
    if summary_there:
        main(["report", str(run)])
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.rglob("*") if path.is_file()}
    assert main(["report", str(run), "--out", str(tmp_path / "elsewhere"), "--lang", "zh"]) == 0
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.rglob("*") if path.is_file()} == before
    assert "如何阅读" in (tmp_path / "elsewhere" / "report.md").read_text()


def test_another_language_scores_nothing_anew_but_records_that_changed_are_scored(tmp_path, monkeypatch):
    from harness.analysis import summary

    run = Path(shutil.copytree(OLD, tmp_path / "old"))
    assert main(["report", str(run)]) == 0
    before = (run / "summary.json").read_bytes()
    monkeypatch.setattr(summary, "score", lambda *_: pytest.fail("it was scored anew"))
    assert main(["report", str(run), "--lang", "zh"]) == 0
    assert (run / "summary.json").read_bytes() == before
    monkeypatch.undo()
    (run / "cells" / "pocket-clip" / "classification.pocket.en" / "records.jsonl").unlink()
    assert main(["report", str(run), "--lang", "zh"]) == 0
    assert (run / "summary.json").read_bytes() != before
