"""For unit tests: helpers that several files share lie beside them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def error_rate_task(tmp_path, monkeypatch) -> str:
    """Has the task vqa be one of the user's own, whose headline is an error rate; returns its class."""
    target = "made_runs.Transcription"
    (tmp_path / "conf" / "task").mkdir(parents=True)
    text = f"# @package tasks.vqa\ndefaults: [/spec/task@_here_, _self_]\n_target_: {target}\n"
    (tmp_path / "conf" / "task" / "vqa.yaml").write_text(text)
    monkeypatch.setattr("harness.targets._folders", [tmp_path / "conf"])
    return target
