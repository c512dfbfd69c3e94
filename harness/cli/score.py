"""`harness score`: metrics for predictions that were made elsewhere; no model, only files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.cli import terminal
from harness.cli.places import add_config_dir, import_from_all
from harness.errors import UserError


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("score", help="metrics for predictions made elsewhere: no model, only files")
    parser.add_argument(
        "task", nargs="?", metavar="TASK", help="vqa, captioning, classification, retrieval, or one of your own"
    )
    parser.add_argument("--predictions", type=Path, required=True, metavar="FILE", help="JSON lines; retrieval: .npz")
    parser.add_argument("--references", type=Path, metavar="FILE", help="JSON lines")
    parser.add_argument("--metric", nargs="+", action="extend", default=[], metavar="NAME", help="only these")
    parser.add_argument("--language", choices=("en", "zh"), default="en", help="how texts are tokenised")
    add_config_dir(parser)
    parser.add_argument("--similarity", choices=("cosine", "dot"), default="cosine", help="how retrieval compares")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(command=score)


def score(arguments: argparse.Namespace) -> int:
    """Carry the command out; returns the exit status."""
    from harness.analysis.score_files import render, score_files

    import_from_all(arguments.config_dirs)
    if arguments.task is None:  # behind --metric, which takes all words that follow it
        if len(arguments.metric) < 2:
            raise UserError("Which task? `harness list tasks` names the tasks there are.")
        arguments.task = arguments.metric.pop()
    found = score_files(
        task=arguments.task,
        predictions=arguments.predictions,
        references=arguments.references,
        metrics=arguments.metric,
        language=arguments.language,
        config_dirs=arguments.config_dirs,
        similarity=arguments.similarity,
    )
    if arguments.json:
        terminal.as_json(found)
    else:
        terminal.out(render(found))
    return 0
