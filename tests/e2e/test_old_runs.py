"""Runs of the first version, whose classes had other names: scored by today's rules, and not gone on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

OLD = Path(__file__).parents[1] / "golden" / "run-0.1.0"
"""Sixty records of each of some cells of a run that 0.1.0 made."""


@pytest.fixture
def old(world) -> Path:
    """A copy of the old run."""
    return Path(shutil.copytree(OLD, world.results / "old"))


def test_a_run_of_the_first_version_is_scored_by_todays_rules_and_the_report_says_so(world, old):
    cell = next((old / "cells").glob("*/*/cell.json"))
    assert json.loads(cell.read_text())["task_spec"]["_target_"].startswith("tasks.")
    world.harness("report", str(old))
    summary = json.loads((old / "summary.json").read_text())
    scored = [cell for cell in summary["cells"] if cell["task"] == "classification" and cell["origin"] != "reference"]
    assert len(scored) == 3
    for cell in scored:
        lines = (old / "cells" / cell["model"] / "classification.pocket.en" / "records.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        right = sum(row["answer"] == row["references"][0] for row in rows)
        assert cell["metrics"]["accuracy"]["value"] == pytest.approx(right / len(rows))
    assert not [cell for cell in summary["cells"] if cell["status"] == "failed"]
    for language, said in (("en", "made by harness 0.1.0"), ("zh", "由 harness 0.1.0")):
        world.harness("report", str(old), "--lang", language)
        assert said in (old / "report.md").read_text()


def test_a_run_of_the_first_version_is_not_gone_on_with(world, old):
    done = world.harness("resume", str(old), status=2)
    assert "begun by harness 0.1.0 and cannot go on with" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
