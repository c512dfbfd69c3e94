"""`harness run` asks models and writes a comparison; `harness resume` goes on with a run that was interrupted."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.places import add_config_dir, import_from_all, results_and_names
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.run.plan import Plan
    from harness.store.runs import RunFolder


def add(commands: Any) -> None:
    """Declare `harness run`."""
    parser = commands.add_parser(
        "run",
        help="run models through tasks and write a comparison",
        description="Run models through tasks and write a comparison to RESULTS_DIR/RUN.",
        epilog="settings: task= model= dataset= (a name, [a,b] or all; model= also in-house, domestic, international) "
        "limit=N batch_size=auto|N dtype=auto|bfloat16|float32 latency=quick|full|off seed=N device=auto|cuda|mps|cpu "
        "results_dir=results run=NAME data_dir=DIR ablate=[none,audio,shuffled-audio] (also text, image: what a score "
        "owes to each), and any key that --cfg shows, such as models.NAME.dtype=bfloat16. What is said here beats "
        "every file; what is said of one model (models.NAME.batch_size=8) beats what is said of all (batch_size=4).",
    )
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="KEY=VALUE",
        help="settings; defaults: task=vqa model=all dataset=pocket; a data set alone: all its tasks",
    )
    parser.add_argument("--cfg", action="store_true", help="print the resolved config and stop")
    add_config_dir(parser)
    parser.set_defaults(command=run)


def add_resume(commands: Any) -> None:
    """Declare `harness resume`."""
    parser = commands.add_parser("resume", help="go on with an interrupted run")
    parser.add_argument(
        "words", nargs="*", metavar="RUN", help="its name (default: the last one that is not complete); results_dir=DIR"
    )
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
    folder = RunFolder.create(Path(composed.results_dir).expanduser(), composed.run)
    with folder.at_work():
        driver.begin(planned, folder)
        return _carry_out(planned, folder, arguments.config_dirs)


def resume(arguments: argparse.Namespace) -> int:
    """Carry out `harness resume`; returns the exit status."""
    from harness.run import driver, plan
    from harness.store.runs import RunFolder, runs

    results, names = results_and_names(arguments.words)
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
        return _carry_out(plan.make(driver.resumed(folder)), folder, arguments.config_dirs)


def show_config(spec: Any) -> None:
    """Print settings as YAML."""
    import yaml

    from harness.config.specs import to_json

    print(yaml.safe_dump(to_json(spec), allow_unicode=True, sort_keys=False), end="")


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
        progress.console.print(f"{count} left out ({reasons[0]}{more}); `harness list models` names them.",
                               highlight=False)  # fmt: skip
    data, done = api.carry_out(planned, folder, progress)
    report.terminal(data, Console(), planned.run.report.language)
    print(f"\n{folder.path / 'report.html'}")
    if not done:
        where = "".join(f" --config-dir {shlex.quote(str(config_dir))}" for config_dir in config_dirs)
        print(f"Interrupted; everything answered is kept. Go on with: {folder.resume}{where}", file=sys.stderr)
        return 130
    failed = any(cell["status"] in ("failed", "interrupted") or cell["failed"] for cell in data["cells"])
    return 1 if failed else 0
