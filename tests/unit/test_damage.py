"""A run folder that was damaged: what is not whole is named and left out, and the rest is reported as it was."""

import json
import shutil
from pathlib import Path

import pytest

from harness.analysis.summary import build
from harness.cli.main import main
from harness.store.runs import RunFolder

OLD = Path(__file__).parents[1] / "golden" / "run-0.1.0"
HURT = "cells/pocket-clip/classification.pocket.en"


@pytest.fixture
def run(tmp_path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "results" / "old"))


def cells(run: Path) -> dict[tuple[str, str], dict]:
    found = build(RunFolder(run))["cells"]
    return {(cell["model"], cell["task"]): cell for cell in found if cell["origin"] != "reference"}


def shorten(folder: Path) -> None:
    lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    (folder / "records.jsonl").write_text("".join(lines[:-7]))


def falsify(folder: Path) -> None:
    text = (folder / "records.jsonl").read_text()
    (folder / "records.jsonl").write_text(text.replace('"answer"', '"answer "', 1))


@pytest.mark.parametrize(
    ("hurt", "said"),
    [
        (shorten, "has 53 lines, and was completed with 60"),
        (falsify, "its sha256 is another"),
        (lambda folder: (folder / "records.jsonl").unlink(), "records.jsonl is not there"),
        (lambda folder: (folder / "complete.json").write_text("{}"), "damaged"),
        (lambda folder: (folder / "complete.json").write_text('{"status": "compl'), "damaged"),
        (lambda folder: (folder / "cell.json").write_text("[]"), "damaged"),
        (lambda folder: (folder / "cell.json").write_text("{}"), "it has no 'model'"),
        (lambda folder: (folder / "cell.json").write_text("null"), "damaged"),
        (shutil.rmtree, "its folder is gone"),
    ],
)
def test_a_damaged_cell_is_named_and_left_out_and_costs_no_other_one_a_sample(run, hurt, said, capsys):
    before = cells(run)
    hurt(run / HURT)
    after = cells(run)
    assert after.keys() == before.keys()
    cell = after.pop(("pocket-clip", "classification"))
    assert cell["status"] == "interrupted"
    assert said in cell["reason"]
    assert "a resume asks it again" in cell["reason"]
    for key, other in after.items():
        assert other["metrics"] == before[key]["metrics"]
    assert main(["report", str(run)]) == 0
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ["{}", "[]", "null", '{"harness"', "", "[" * 100_000, '{"harness": 1, "config": []}']
)
@pytest.mark.parametrize("command", ["report", "resume", "compare", "list"])
def test_a_torn_run_json_is_one_message_and_no_traceback(run, content, command, capsys):
    (run / "run.json").write_text(content)
    words = {
        "report": ["report", str(run)],
        "resume": ["resume", str(run)],
        "compare": ["compare", str(run), str(OLD)],
        "list": ["list", "runs", f"results_dir={run.parent}"],
    }[command]
    assert main(words) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) <= 2
    assert any("run.json is damaged" in line or "run.json" in line for line in said)


@pytest.mark.parametrize("content", ["{}", "[]", "null", '{"run"'])
def test_a_torn_summary_is_written_anew(run, content):
    (run / "summary.json").write_text(content)
    assert main(["report", str(run)]) == 0
    assert json.loads((run / "summary.json").read_text())["run"] == "old"
