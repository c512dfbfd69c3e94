"""Words of a command line that say where runs are: results_dir=DIR, and names of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import UserError


def results_and_names(words: Sequence[str]) -> tuple[Path, list[str]]:
    """The results folder (results_dir=DIR among the words, or ./results) and the runs that are named."""
    set_ = [word for word in words if word.startswith("results_dir=")]
    results = Path(set_[-1].partition("=")[2] or ".").expanduser() if set_ else Path("results")
    return results, [word for word in words if not word.startswith("results_dir=")]


def results_dir(words: Sequence[str]) -> Path:
    """The results folder alone; raises UserError for anything else."""
    results, others = results_and_names(words)
    if others:
        raise UserError(f"'{others[0]}': only results_dir=DIR can be set here.")
    return results
