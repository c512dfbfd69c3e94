"""`harness compare`: is one run worse than another? A gate for somebody's CI."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from harness.cli.places import results_and_names
from harness.errors import UserError

SHOWN = 6
"""Cells that are named before the rest is counted."""


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("compare", help="is run B worse than run A? paired, model by model")
    parser.add_argument("words", nargs="+", metavar="RUN", help="RUN_A RUN_B: names or folders; results_dir=DIR")
    parser.add_argument("--fail-if-worse", action="store_true", help="exit status 1 if anything is significantly worse")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(command=compare)


def compare(arguments: argparse.Namespace) -> int:
    """Carry the command out; returns the exit status."""
    from dataclasses import asdict

    from harness.analysis.compare import compare, worse
    from harness.cli import listing
    from harness.store.runs import RunFolder

    results, names = results_and_names(arguments.words)
    if len(names) != 2:
        raise UserError(f"Two runs are compared, RUN_A and RUN_B, not {len(names)}.")
    a, b = names
    rows = compare(RunFolder.open(results, a), RunFolder.open(results, b))
    listing.show([asdict(row) for row in rows if arguments.json or row.verdict != "missing"], arguments.json)
    found = worse(rows)
    for finding, missing in ((f"{b} is worse than {a}", False), (f"{b} lacks what {a} has", True)):
        cells = [
            " ".join(filter(None, (row.model, "on", row.task, row.dataset, row.language, row.ablate)))
            for row in found
            if (row.verdict == "missing") == missing
        ]
        if cells:
            more = f" and {len(cells) - SHOWN} more" if len(cells) > SHOWN else ""
            print(f"{finding}: {', '.join(cells[:SHOWN])}{more}", file=sys.stderr)
    return 1 if found and arguments.fail_if_worse else 0
