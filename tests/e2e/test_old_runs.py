"""Runs of the first version, whose classes had other names: they are scored as ever, and are not gone on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
GROUP = "classification.pocket.en"


@pytest.fixture
def old(world) -> Path:
    """The reference run, made by 0.1.0, with one group alone."""
    folder = world.results / "old"
    manifest = json.loads((REFERENCE / "run.json").read_text("utf-8"))
    if not manifest["harness"].startswith("0.1."):
        pytest.skip("the committed reference run is of a later version")
    manifest["cells"] = [key for key in manifest["cells"] if key.endswith(f"/{GROUP}")]
    assert len(manifest["cells"]) > 5
    for key in manifest["cells"]:
        shutil.copytree(REFERENCE / "cells" / key, folder / "cells" / key)
    (folder / "run.json").write_text(json.dumps(manifest))
    return folder


def test_a_run_of_the_first_version_is_scored_to_the_same_digits(world, old):
    cell = next((old / "cells").glob("*/*/cell.json"))
    assert json.loads(cell.read_text())["task_spec"]["_target_"] == "tasks.classification.Classification"
    world.harness("report", str(old))
    committed = json.loads((REFERENCE / "summary.json").read_text("utf-8"))["cells"]
    known = {c["model"]: c for c in committed if (c["task"], c["dataset"], c["language"], c["ablate"]) == (
        "classification", "pocket", "en", ""
    )}  # fmt: skip
    found = {cell["model"]: cell for cell in json.loads((old / "summary.json").read_text())["cells"]}
    assert found.keys() == known.keys()
    for model, cell in found.items():
        assert numbers(cell) == numbers(known[model])
        assert cell["slices"] == known[model]["slices"]


def test_a_run_of_the_first_version_is_not_gone_on_with(world, old):
    done = world.harness("resume", str(old), status=2)
    assert "begun by harness 0.1.0 and cannot go on with" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def numbers(cell):
    """Every metric's value and interval."""
    return {name: [row[key] for key in ("value", "low", "high")] for name, row in cell["metrics"].items()}
