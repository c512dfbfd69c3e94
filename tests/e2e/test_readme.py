"""The README, tried: its lines run, the models it names exist, its figures are those of the reference run."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
READMES = {"en": (ROOT / "README.md").read_text("utf-8"), "zh": (ROOT / "README.zh-CN.md").read_text("utf-8")}
HEADLINES = {"vqa": "exact_match", "captioning": "cider", "retrieval": "i2t_recall@1", "classification": "accuracy"}


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def lines() -> list[str]:
    """The commands that a reader may type, but for the set-up and the reference run, which take minutes."""
    every = [line for block in blocks(READMES["en"], "bash") for line in block.splitlines()]
    return [line for line in every if line.startswith("harness ") and "run=reference" not in line]


def harness(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *shlex.split(line)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=400)


@pytest.mark.parametrize("line", [line for line in lines() if "--config-dir" not in line])
def test_a_line_of_the_readme_runs(line, tmp_path):
    done = harness(tmp_path, f"{line} latency.seconds=3")  # the line as it stands, but for how long it may time
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "results").glob("*/report.html"))


@pytest.mark.parametrize("language", READMES)
def test_code_in_the_readme_is_that_of_the_examples(language):
    examples = ROOT / "examples"
    modules = [(examples / name).read_text("utf-8") for name in ("script.py", "adapter/bright.py")]
    config = (examples / "adapter" / "my-conf" / "model" / "bright.yaml").read_text("utf-8")
    assert blocks(READMES[language], "python") == modules
    assert blocks(READMES[language], "yaml") == [config]
    (line,) = [line for line in lines() if "--config-dir" in line]
    assert line in (examples / "README.md").read_text("utf-8")  # where tests/e2e/test_examples.py runs it


def test_models_that_the_families_table_names_exist():
    known = [path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")]
    for text in READMES.values():
        rows = [line for line in text.splitlines() if line.startswith("|") and "bundled" not in line.split("|")[1]]
        named = {name for row in rows for name in re.findall(r"`([a-z0-9_*-]+)`", row.split("|")[-2])}
        assert len(named) > 30
        assert [name for name in named if not fnmatch.filter(known, name)] == []
        assert [name for name in known if not any(fnmatch.fnmatch(name, pattern) for pattern in named)] == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_table_of_results_is_the_reference_runs(language):
    cells = json.loads((ROOT / "results" / "reference" / "summary.json").read_text("utf-8"))["cells"]
    cells = [cell for cell in cells if (cell["dataset"], cell["language"], cell["ablate"]) == ("pocket", language, "")]
    found = {(cell["model"], cell["task"]): cell for cell in cells if cell["status"] == "complete"}
    order = sorted({model for model, _ in found}, key=lambda model: [-value(found, model, task) for task in HEADLINES])
    wanted = [row(found, model) for model in order]
    for text in READMES.values():
        missing = [line for line in wanted if line not in text]
        assert not missing, "\n".join(["the README should have", *wanted])


def value(found: dict, model: str, task: str) -> float:
    cell = found.get((model, task))
    return cell["metrics"][HEADLINES[task]]["value"] if cell else 0.0


def row(found: dict, model: str) -> str:
    """A line of the README's table, from the reference run."""
    columns = [model]
    for task, metric in HEADLINES.items():
        cell = found.get((model, task))
        score = cell["metrics"][metric] if cell else {}
        text = "—"
        if cell:
            text = f"{score['value']:.3f}"
            text = f"**{text}**" if cell.get("best") else text
            text += f" [{score['low']:.3f}, {score['high']:.3f}]" if score["low"] is not None else ""
        columns.append(text)
    timed = found.get((model, "vqa"), {}).get("latency", {}).get("p50_ms")
    return f"| {' | '.join(columns)} | {f'{timed:.1f} ms' if timed else '—'} |"
