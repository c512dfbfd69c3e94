"""`harness report`: score runs again from their records, and rebuild or join their reports."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness.cli import terminal
from harness.cli.places import add_config_dir, import_from_all, results_and_names
from harness.errors import UserError


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("report", help="score runs again and rebuild, or join, their reports")
    parser.add_argument("words", nargs="+", metavar="RUN", help="a run's name or folder; results_dir=DIR")
    parser.add_argument("--lang", choices=("en", "zh"), default=None, help="the report's language")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write it (default: into the run)")
    add_config_dir(parser)
    parser.set_defaults(command=report)


def report(arguments: argparse.Namespace) -> int:
    """Carry the command out; returns the exit status."""
    from harness import report
    from harness.analysis import joined, summary
    from harness.store.files import write_json
    from harness.store.runs import SUMMARY, RunFolder

    import_from_all(arguments.config_dirs)
    results, names = results_and_names(arguments.words)
    if not names:
        raise UserError("Which run? `harness list runs` names the runs there are.")
    folders = [RunFolder.open(results, name) for name in dict.fromkeys(names)]
    language = arguments.lang or folders[0].manifest()["config"]["report"]["language"]
    built = []
    with ExitStack() as stack:
        for folder in folders:
            writing = arguments.out is None  # a report elsewhere leaves the run as it is
            stack.enter_context(folder.at_work() if writing else folder.being_read())
            same = summary.as_it_was(folder) if arguments.lang or arguments.out else None
            built.append(same or summary.build(folder))
            if writing and not same:
                write_json(folder.path / SUMMARY, built[-1])
        shared = joined.join(folders, built) if len(folders) > 1 else []
        paths = [folder.path for folder in folders]
        out = report.write(paths, arguments.out, language, summaries=built, joined=shared)
    terminal.out(out / "report.html")
    return 0
