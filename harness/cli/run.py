"""`harness run` asks models and writes a comparison; `harness resume` goes on with a run that was interrupted."""

from __future__ import annotations

import argparse
import math
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli import terminal
from harness.cli.places import add_config_dir, import_from_all, results_and_names
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.config.specs import RunSpec
    from harness.run.plan import Plan
    from harness.store.runs import RunFolder


def add(commands: Any) -> None:
    """Declare `harness run`."""
    parser = commands.add_parser(
        "run",
        help="run models through tasks and write a comparison",
        description="Run models through tasks and write a comparison to RESULTS_DIR/RUN.",
        epilog="settings: task= model= dataset= (a name, [a,b] or all; model= also in-house, domestic, international, "
        "and served: what is asked over the network, which no other set has) "
        "limit=N batch_size=auto|N dtype=auto|bfloat16|float32 latency=quick|full|off seed=N device=auto|cuda|mps|cpu "
        "results_dir=results run=NAME data_dir=DIR budget=MOST_TO_SPEND "
        "ablate=[none,audio,shuffled-audio] (also text, image: what a score "
        "owes to each), and any key that --cfg shows, such as models.NAME.dtype=bfloat16. What is said here beats "
        "every file; what is said of one model (models.NAME.batch_size=8) beats what is said of all (batch_size=4).",
    )
    parser.add_argument(
        "settings",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="settings; defaults: task=vqa model=all dataset=pocket; a data set alone: all its tasks",
    )
    parser.add_argument("--cfg", action="store_true", help="print the resolved config and stop")
    parser.add_argument("--yes", action="store_true", help="agree to what models with prices cost")
    add_config_dir(parser)
    parser.set_defaults(command=run)


def add_resume(commands: Any) -> None:
    """Declare `harness resume`."""
    parser = commands.add_parser("resume", help="go on with an interrupted run")
    words = "its name (default: the last one that is not complete); results_dir=DIR; budget=MOST (or "
    words += "models.NAME.budget=MOST) in the place of the run's"
    parser.add_argument("words", nargs="*", default=[], metavar="RUN", help=words)
    add_config_dir(parser)
    parser.set_defaults(command=resume)


def run(arguments: argparse.Namespace) -> int:
    """Carry out `harness run`; returns the exit status."""
    from harness.config.compose import compose

    composed, from_sets, faults = compose(arguments.settings, arguments.config_dirs)
    if arguments.cfg:
        show_config(composed)
        return 0
    from harness.run import driver, plan
    from harness.store.runs import RunFolder

    import_from_all(arguments.config_dirs)
    planned = plan.make(composed, from_sets)
    planned.remarks[:0] = faults
    _agree(planned, arguments.yes)
    folder = RunFolder.create(Path(composed.results_dir).expanduser(), composed.run)
    with folder.at_work():
        driver.begin(planned, folder)
        return _carry_out(planned, folder, arguments.config_dirs)


def resume(arguments: argparse.Namespace) -> int:
    """Carry out `harness resume`; returns the exit status."""
    from harness.run import costs, driver, plan
    from harness.store.runs import RunFolder, runs

    budgets = [word for word in arguments.words if re.match(r"(models\.[^.]+\.)?budget=", word)]
    results, names = results_and_names([word for word in arguments.words if word not in budgets])
    if len(names) > 1:
        raise UserError(f"One run at a time is resumed, not {len(names)}: {', '.join(names)}.")
    if names:
        folder = RunFolder.open(results, names[0])
    else:
        unfinished = [run for run in runs(results) if not driver.finished(run)]
        if not unfinished:
            raise UserError(f"There is no interrupted run in {results}.")
        folder = unfinished[-1]
    import_from_all(arguments.config_dirs)
    with folder.at_work():
        settings = driver.resumed(folder)
        if budgets:
            _set_budgets(settings, budgets)
            driver.keep_budgets(settings, folder)
        planned = plan.make(settings)
        for estimate in costs.estimates(planned, folder):
            planned.remarks.append(f"left: {estimate}")
        return _carry_out(planned, folder, arguments.config_dirs)


def _set_budgets(settings: RunSpec, words: Sequence[str]) -> None:
    """Set the budgets of the run, or of one of its models; raises UserError for what is none."""
    for word in words:
        key, _, value = word.partition("=")
        target: Any = settings if key == "budget" else settings.models.get(key.split(".")[1])
        if not hasattr(target, "budget"):
            raise UserError(f"{key}: there is no such model with prices in this run.")
        try:
            amount = None if value in ("", "null") else float(value)
        except ValueError as error:
            raise UserError(f"{word}: give an amount of money.") from error
        if amount is not None and not (math.isfinite(amount) and amount > 0):
            raise UserError(f"{word}: give an amount of money above 0.")
        target.budget = amount


def _agree(planned: Plan, yes: bool) -> None:
    """Say what models elsewhere will be asked, and have a person agree to what that costs unless a budget bounds it.

    Raises UserError where nobody can be asked, or does not agree.
    """
    from harness.run import costs

    for estimate in costs.estimates(planned):
        terminal.message(estimate)
    names = costs.unagreed(planned)
    if not names or yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UserError(f"{', '.join(names)} must be paid for: give --yes, or budget=MOST, which is never passed.")
    terminal.message(f"{', '.join(names)} must be paid for, and no budget= is set. Go on? [y/N] ", end="")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UserError("Nothing was asked, and nothing is kept.")


def show_config(spec: Any) -> None:
    """Print settings as YAML."""
    import yaml

    from harness.config.specs import to_json

    terminal.out(yaml.safe_dump(to_json(spec), allow_unicode=True, sort_keys=False), end="")


def _carry_out(planned: Plan, folder: RunFolder, config_dirs: Sequence[Path]) -> int:
    """Run, summarise, print, and say where the report is."""
    from rich.console import Console

    from harness import api, report
    from harness.run.progress import Progress

    progress = Progress(Console(stderr=True))
    for remark in planned.remarks:
        progress.warn(remark)
    if planned.left_out:
        reasons = sorted({entry["reason"].split(";")[0] for entry in planned.left_out})
        count = "1 model" if len(planned.left_out) == 1 else f"{len(planned.left_out)} models"
        more = ", …" if len(reasons) > 1 else ""
        progress.say(f"{count} left out ({reasons[0]}{more}); `harness list models` names them.")
    data, done = api.carry_out(planned, folder, progress)
    report.terminal(data, Console(), planned.run.report.language)
    terminal.out(f"\n{folder.path / 'report.html'}")
    if not done:
        where = "".join(f" --config-dir {shlex.quote(str(config_dir))}" for config_dir in config_dirs)
        terminal.message(f"Interrupted; everything answered is kept. Go on with: {folder.resume}{where}")
        return 130
    if short := next(
        (cell["reason"] for cell in data["cells"] if cell["status"] == "interrupted" and cell["reason"]), ""
    ):
        terminal.message(f"Interrupted: {short}. Go on with: {folder.resume} budget=MOST")
    failed = any(cell["status"] in ("failed", "interrupted") or cell["failed"] for cell in data["cells"])
    return 1 if failed else 0
