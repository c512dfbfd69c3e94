"""Tests of this folder need a CUDA device and are skipped, with the reason, where torch has none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _needs_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device on this machine")


@pytest.fixture
def harness_run(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs `harness run` with the words given, in a folder whose conf/ may name models of `hog.py`; summary.json."""

    def run(*words: str) -> dict[str, Any]:
        name = f"run{len(list(tmp_path.iterdir()))}"
        own = tmp_path / "conf"
        (own / "model").mkdir(parents=True, exist_ok=True)
        place = [f"results_dir={tmp_path}", f"run={name}", "report.charts=false", "--config-dir", str(own)]
        path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
        done = subprocess.run(
            [sys.executable, "-m", "harness", "run", *words, *place],
            capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads((tmp_path / name / "summary.json").read_text("utf-8"))

    return run
