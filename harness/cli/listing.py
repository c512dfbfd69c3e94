"""What there is to run: the rows of `harness list`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.cli import terminal
from harness.cli.places import add_config_dir, import_from_all, results_dir
from harness.errors import UserError

WHAT = ("models", "tasks", "datasets", "metrics", "recipes", "runs")


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("list", help="what there is: models, tasks, datasets, metrics, recipes, runs")
    parser.add_argument("what", choices=WHAT, metavar="|".join(WHAT))
    parser.add_argument("settings", nargs="*", default=[], metavar="results_dir=DIR")
    add_config_dir(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(command=command)


def command(arguments: argparse.Namespace) -> int:
    """Carry the command out; returns the exit status."""
    import_from_all(arguments.config_dirs)
    show(rows(arguments.what, arguments.config_dirs, results_dir(arguments.settings)), arguments.json)
    return 0


def rows(what: str, config_dirs: Sequence[Path], results: Path) -> list[dict[str, Any]]:
    """Rows of models, tasks, datasets, metrics, recipes or runs, as plain JSON objects."""
    if what == "metrics":
        return _metrics(config_dirs)
    if what == "runs":
        return _runs(results)
    if what == "recipes":
        return _recipes(config_dirs)
    from harness.config.compose import compose

    models = what == "models"
    asked = ["task=all", "dataset=all", *(["model=[all,served]"] if models else [])]
    run, _, faults = compose(asked, config_dirs, absent=True, models=models)
    for fault in faults:
        terminal.message(f"harness: {fault}")
    if what == "models":
        from harness.checkpoint import is_here

        return [
            {
                "model": name,
                "here": is_here(spec.checkpoint),
                "remote": spec.remote,
                "origin": spec.origin,
                "parameters_m": spec.parameters,
                "languages": spec.languages,
                "modalities": spec.modalities,
                "developer": spec.developer,
                "checkpoint": spec.checkpoint,
            }
            for name, spec in run.models.items()
        ]
    if what == "tasks":
        from harness.task import make_task

        return [
            {"task": name, "routes": list(make_task(spec._target_, spec).routes)} for name, spec in run.tasks.items()
        ]
    return [
        {
            "dataset": name,
            "tasks": spec.tasks,
            "languages": spec.languages,
            "modalities": spec.modalities,
            "split": spec.split,
            "source": spec.source,
            "license": spec.license,
        }
        for name, spec in run.datasets.items()
    ]


def _metrics(config_dirs: Sequence[Path]) -> list[dict[str, Any]]:
    """Every metric of every task with its definition, got by scoring two made-up records."""
    from harness.config.compose import compose
    from harness.metrics import meteor
    from harness.records import Record
    from harness.task import Scoring, make_task

    both = {"direction": "", "rank": 1, "positives": 1, "found@5": 1, "found@10": 1, "ap@10": 1.0, "gallery": 2}
    examples = {
        "vqa": [Record(str(i), str(i), references=("yes",) * 10, choices=("yes", "no"), answer="yes") for i in (1, 2)],
        "captioning": [Record(str(i), str(i), references=(f"a cat {i}",), answer="a cat") for i in (1, 2)],
        "classification": [Record(x, x, references=(x,), answer=x, scores=(1.0,) + 5 * (0.0,)) for x in "ab"],
        "retrieval": [Record(d, d, retrieval=both | {"direction": d}) for d in ("i2t", "t2i")],
    }
    run = compose(["task=all", "tasks.captioning.meteor=false"], config_dirs, models=False).run
    found = []
    for name, spec in run.tasks.items():
        labels = tuple("abcdef") if name == "classification" else ()
        task = make_task(spec._target_, spec)
        try:
            scored = task.score(examples.get(name, examples["captioning"]), Scoring("en", labels))
        except Exception:  # a task of somebody's own may want records of another form: its names are all that is known
            found += [{"task": name, "metric": metric, "better": "", "definition": ""} for metric in task.metrics]
            continue
        for s in scored:
            better = "larger" if s.metric.larger_is_better else "smaller"
            found.append({"task": name, "metric": s.metric.name, "better": better, "definition": s.metric.definition})
        if name == "captioning" and meteor.meteor_available():  # named without starting its program
            known = {"metric": "meteor", "better": "larger", "definition": meteor.definition()}
            found.append({"task": name, **known})
    return found


def _recipes(config_dirs: Sequence[Path]) -> list[dict[str, Any]]:
    from harness.config.compose import compose_training
    from harness.config.files import ConfigFiles

    names = list(ConfigFiles(config_dirs).members("train"))
    recipes = compose_training([f"model=[{','.join(names)}]"], config_dirs)[0].recipes
    return [
        {
            "recipe": name,
            "steps": recipes[name].schedule.steps,
            "bundled": recipes[name].publish,
            "needs": list(recipes[name].needs.values()),
            "class": recipes[name]._target_,
        }
        for name in names
    ]


def _runs(results_dir: Path) -> list[dict[str, Any]]:
    from harness.store.runs import runs

    found = []
    for folder in runs(results_dir):
        try:
            plan = folder.manifest()
        except UserError as error:
            terminal.message(f"harness: {error}")
            continue
        states = [folder.cell(key).outcome()["status"] for key in plan["cells"]]
        found.append(
            {
                "run": folder.name,
                "started": plan["started"],
                "models": len(plan["models"]),
                "cells": len(states),
                "complete": states.count("complete"),
                "failed": states.count("failed"),
                "interrupted": states.count("interrupted"),
            }
        )
    return found


def show(found: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Print rows as a table or as JSON."""
    if as_json:
        terminal.as_json(found)
        return
    if not found:
        raise UserError("There are none.")
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    texts = [[terminal.cell(_cell(value)) for value in row.values()] for row in found]
    for i, name in enumerate(found[0]):
        last = i == len(found[0]) - 1  # only the last column gives way on a narrow terminal
        width = None if last else max(len(name), *(row[i].cell_len for row in texts))
        table.add_column(name.replace("_", " "), no_wrap=True, overflow="ellipsis", min_width=width)
    for row in texts:
        table.add_row(*row)
    terminal.console(wide=400).print(table)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else ""
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
