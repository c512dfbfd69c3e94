"""Words of a command line that say where things are: --config-dir DIR, results_dir=DIR, and names of runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from harness.errors import UserError


def add_config_dir(parser: argparse.ArgumentParser) -> None:
    """Declare --config-dir, which may be given several times."""
    parser.add_argument(
        "--config-dir",
        type=Path,
        action="append",
        default=[],
        dest="config_dirs",
        metavar="DIR",
        help="your own settings (DIR/model/*.yaml ...) and the adapters beside them; may be given several times, and "
        "the last wins",
    )


def import_from_all(folders: Sequence[Path]) -> None:
    """Adapters and tasks may lie beside the settings that name them."""
    if folders:
        from harness.targets import import_from

        for folder in folders:
            import_from(folder)


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
