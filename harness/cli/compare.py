"""`harness compare`: is one run worse than another? A gate for somebody's CI."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli import terminal
from harness.cli.places import add_config_dir, import_from_all, results_and_names
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.analysis.compare import Row
    from harness.store.runs import RunFolder

SHOWN = 6
"""Cells that are named before the rest is counted."""


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("compare", help="is run B worse than run A? paired, model by model")
    parser.add_argument(
        "words",
        nargs="+",
        metavar="RUN[:MODEL]",
        help="RUN_A RUN_B: names or folders; RUN_A:MODEL RUN_B:MODEL tests one model against another; results_dir=DIR",
    )
    parser.add_argument(
        "--fail-if-worse",
        action="store_true",
        help="exit status 1 if anything is significantly worse, has failed, is missing or cannot be compared or tested",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    add_config_dir(parser)
    parser.set_defaults(command=compare)


def compare(arguments: argparse.Namespace) -> int:
    """Carry the command out; returns the exit status."""
    from dataclasses import asdict

    from harness.analysis.compare import compare, worse
    from harness.cli import listing

    import_from_all(arguments.config_dirs)
    results, names = results_and_names(arguments.words)
    if len(names) != 2:
        raise UserError(f"Two runs are compared, RUN_A and RUN_B, not {len(names)}.")
    a, b = names
    (run_a, model_a), (run_b, model_b) = _run_and_model(results, a), _run_and_model(results, b)
    rows = compare(run_a, run_b, model_a, model_b)
    shown = [asdict(row) for row in rows if arguments.json or row.verdict != "missing"]
    if not arguments.json:
        shown = [_short(row) for row in shown]
    listing.show(shown, arguments.json)
    found = worse(rows)
    findings = {
        f"{b} is worse than {a}": ("worse", "failed"),
        f"{b} lacks what {a} has": ("missing",),
        "cannot be compared": ("not comparable",),
        "cannot be tested": ("cannot be tested",),
    }
    for finding, verdicts in findings.items():
        if cells := [_cell(row) for row in found if row.verdict in verdicts]:
            more = f" and {len(cells) - SHOWN} more" if len(cells) > SHOWN else ""
            terminal.message(f"{finding}: {', '.join(cells[:SHOWN])}{more}")
    if not arguments.json:
        for note in dict.fromkeys(row.note for row in rows if row.note):
            terminal.out(f"Note: {note}.")
    return 1 if found and arguments.fail_if_worse else 0


def _run_and_model(results: Path, word: str) -> tuple[RunFolder, str]:
    """The run that a word names, and behind a colon the model; a run whose name has a colon is known by its folder."""
    from harness.store.runs import RunFolder

    run, colon, model = word.rpartition(":")
    whole = any((path / "run.json").exists() for path in (results / word, Path(word)))
    return (RunFolder.open(results, word), "") if whole or not colon else (RunFolder.open(results, run), model)


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """A row for people: without the second model where it is the first, and without what is told below the table."""
    left_out = ["note", "reason", "p_holm"] + (["model_b"] if row["model_b"] in ("", row["model"]) else [])
    return {key: value for key, value in row.items() if key not in left_out}


def _cell(row: Row) -> str:
    words = (row.model, "on", row.task, row.dataset, row.language, row.ablate)
    return " ".join(filter(None, words)) + (f" ({row.reason})" if row.reason else "")
