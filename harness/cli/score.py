"""`harness score`: metrics for predictions that were made elsewhere; no model, only files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness.cli.places import add_config_dir, import_from_all


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("score", help="metrics for predictions made elsewhere: no model, only files")
    parser.add_argument("task", metavar="TASK", help="vqa, captioning, classification, retrieval, or one of your own")
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
    import json

    from harness.analysis.score_files import render, score_files

    import_from_all(arguments.config_dirs)
    found = score_files(
        task=arguments.task,
        predictions=arguments.predictions,
        references=arguments.references,
        metrics=arguments.metric,
        language=arguments.language,
        config_dirs=arguments.config_dirs,
        similarity=arguments.similarity,
    )
    print(json.dumps(found, ensure_ascii=False, indent=1) if arguments.json else render(found))
    return 0
