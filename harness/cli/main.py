"""The command line. Nothing heavy is imported before a command needs it: `--help` is there in a tenth of a second.

Exit status: 0 all complete; 1 a cell failed or a sample did, or the disk is full; 2 the command, the config or the
form of the data is wrong, or another driver is at work on the run; 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from harness.errors import StorageError, UserError

EPILOG = """\
examples:
  harness run                                       every model here answers the pocket questions
  harness run task=vqa model=all limit=100
  harness run task=[retrieval,captioning] dataset=coco-363 data_dir=~/data
  harness run dataset=pocket-audio ablate=[none,audio,shuffled-audio]
  harness run model=[fusion-weighted,pocket-clip] task=all latency=off
  harness resume                                    go on with the last interrupted run
  harness list models
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and (not hasattr(arguments, "settings") or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # settings that stand after an option, which argparse does not take up again
        arguments.settings += rest
    try:
        return arguments.command(arguments)
    except UserError as error:
        print(f"harness: {error}", file=sys.stderr)
        return 2
    except StorageError as error:
        print(f"harness: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("harness: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader (head, less) has gone: nothing to say and nobody to say it to
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "harness",
        description="Compare multimodal models honestly: vqa, captioning, retrieval and classification.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    run = commands.add_parser(
        "run",
        help="run models through tasks and write a comparison",
        description="Run models through tasks and write a comparison to RESULTS_DIR/RUN.",
        epilog="settings: task= model= dataset= (a name, [a,b] or all; model= also in-house, domestic, international) "
        "limit=N batch_size=auto|N latency=quick|full|off seed=N device=auto|cuda|mps|cpu results_dir=results run=NAME "
        "data_dir=DIR ablate=[none,audio,shuffled-audio] (also text, image: what a score owes to each), and any key "
        "that --cfg shows, such as models.NAME.dtype=bfloat16.",
    )
    run.add_argument(
        "settings", nargs="*", metavar="KEY=VALUE", help="settings; defaults: task=vqa model=all dataset=pocket"
    )
    run.add_argument("--cfg", action="store_true", help="print the resolved config and stop")
    run.add_argument("--config-dir", type=Path, metavar="DIR", help="your own config groups (DIR/model/*.yaml ...)")
    run.set_defaults(command=_run)

    resume = commands.add_parser("resume", help="go on with an interrupted run")
    resume.add_argument(
        "words", nargs="*", metavar="RUN", help="its name (default: the last one that is not complete); results_dir=DIR"
    )
    resume.set_defaults(command=_resume)

    report = commands.add_parser("report", help="score runs again and rebuild, or join, their reports")
    report.add_argument("words", nargs="+", metavar="RUN", help="a run's name or folder; results_dir=DIR")
    report.add_argument("--lang", choices=("en", "zh"), default=None, help="the report's language")
    report.add_argument("--out", type=Path, metavar="DIR", help="where to write it (default: into the run)")
    report.set_defaults(command=_report)

    compare = commands.add_parser("compare", help="is run B worse than run A? paired, model by model")
    compare.add_argument("words", nargs="+", metavar="RUN", help="RUN_A RUN_B: names or folders; results_dir=DIR")
    compare.add_argument(
        "--fail-if-worse", action="store_true", help="exit status 1 if anything is significantly worse"
    )
    compare.add_argument("--json", action="store_true", help="as JSON")
    compare.set_defaults(command=_compare)

    score = commands.add_parser("score", help="metrics for predictions made elsewhere: no model, only files")
    score.add_argument("task", metavar="TASK", help="vqa, captioning, classification or retrieval")
    score.add_argument("--predictions", type=Path, required=True, metavar="FILE", help="JSON lines; retrieval: .npz")
    score.add_argument("--references", type=Path, metavar="FILE", help="JSON lines")
    score.add_argument("--metric", nargs="+", action="extend", default=[], metavar="NAME", help="only these")
    score.add_argument("--language", choices=("en", "zh"), default="en", help="how texts are tokenised")
    score.add_argument("--json", action="store_true", help="as JSON")
    score.set_defaults(command=_score)

    fetch = commands.add_parser("fetch", help="download models and data sets from the hub, for later runs")
    fetch.add_argument("settings", nargs="+", metavar="model=… dataset=…", help="a name, [a,b], all or an origin")
    fetch.add_argument("--config-dir", type=Path, metavar="DIR")
    fetch.set_defaults(command=_fetch)

    train = commands.add_parser(
        "train",
        help="train the in-house fusion models and the pocket models",
        description="Train models by their recipes (conf/train/) and first what they begin with. The same command goes "
        "on with what was interrupted. Several GPUs: accelerate launch -m harness train …",
        epilog="settings: model= (a recipe, [a,b] or all: `harness list recipes`) dataset=pocket seed=N "
        "device=auto|cpu work_dir=DIR, and of the recipes named schedule.KEY= (steps, learning_rate, warmup, "
        "accumulate, precision=no|bf16|fp16, validate_every, save_every …), options.KEY= and needs.KEY= (a recipe, "
        "bundled:NAME or a checkpoint's folder to begin with); --cfg shows them all.",
    )
    train.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings, such as model=fusion-concat")
    train.add_argument("--cfg", action="store_true", help="print the resolved config and stop")
    train.add_argument("--config-dir", type=Path, metavar="DIR", help="your own recipes (DIR/train/*.yaml)")
    train.add_argument("--publish", action="store_true", help="replace the bundled weights and curves by the result")
    train.set_defaults(command=_train)

    doctor = commands.add_parser("doctor", help="what this machine has and lacks, and what to do about it")
    doctor.add_argument("settings", nargs="*", metavar="results_dir=DIR")
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.set_defaults(command=_doctor)

    listing = commands.add_parser("list", help="what there is: models, tasks, datasets, metrics, recipes, runs")
    listing.add_argument("what", choices=("models", "tasks", "datasets", "metrics", "recipes", "runs"))
    listing.add_argument("settings", nargs="*", metavar="results_dir=DIR")
    listing.add_argument("--config-dir", type=Path, metavar="DIR")
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.set_defaults(command=_list)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from harness.config.compose import compose

    run, from_sets = compose(arguments.settings, arguments.config_dir)
    if arguments.cfg:
        import yaml

        from harness.config.specs import to_json

        print(yaml.safe_dump(to_json(run), allow_unicode=True, sort_keys=False), end="")
        return 0
    from harness.run import driver, plan
    from harness.store.runs import RunFolder

    planned = plan.make(run, from_sets)
    folder = RunFolder.create(Path(run.results_dir).expanduser(), run.run)
    with folder.at_work():
        driver.begin(planned, folder)
        return _carry_out(planned, folder)


def _resume(arguments: argparse.Namespace) -> int:
    from harness.run import driver, plan
    from harness.store.runs import RunFolder, runs

    results, names = _where(arguments.words)
    if len(names) > 1:
        raise UserError(f"One run at a time is resumed, not {len(names)}: {', '.join(names)}.")
    if names:
        folder = RunFolder.open(results, names[0])
    else:
        open_runs = [run for run in runs(results) if not _finished(run)]
        if not open_runs:
            raise UserError(f"There is no interrupted run in {results}.")
        folder = open_runs[-1]
    with folder.at_work():
        return _carry_out(plan.make(driver.resumed(folder)), folder)


def _finished(folder) -> bool:  # noqa: ANN001 - a RunFolder, which is not imported at start-up
    """Whether every cell has its result and its timings, and the summary tells of all of them."""
    over = ("complete", "skipped")
    plan = folder.manifest()
    full = plan["config"]["latency"]["mode"] == "full"
    for store in map(folder.cell, plan["cells"]):
        status = store.outcome()["status"]
        untimed = full and status == "complete" and not store.timed and store.info()["origin"] != "reference"
        if status not in over or untimed:
            return False
    summary = folder.summary()
    return summary is not None and all(cell["status"] in over for cell in summary["cells"])


def _carry_out(planned, folder) -> int:  # noqa: ANN001 - Plan and RunFolder are not imported at start-up
    """Run, summarise, print, and say where the report is."""
    from rich.console import Console

    from harness import report
    from harness.analysis import summary
    from harness.run import driver
    from harness.run.progress import Progress

    console = Console(stderr=True)
    if planned.left_out:
        reasons = sorted({entry["reason"].split(";")[0] for entry in planned.left_out})
        console.print(
            f"{len(planned.left_out)} models left out ({reasons[0]}{', …' if len(reasons) > 1 else ''}); "
            "`harness list models` names them.",
            highlight=False,
        )
    done = driver.run(planned, folder, Progress(console))
    planned.forget_samples()
    data = summary.write(folder, planned.run.report.language, planned.run.report.charts)
    report.terminal(data, Console(), planned.run.report.language)
    print(f"\n{folder.path / 'report.html'}")
    if not done:
        print(f"Interrupted; everything answered is kept. Go on with: {folder.resume}", file=sys.stderr)
        return 130
    failed = any(cell["status"] in ("failed", "interrupted") or cell["failed"] for cell in data["cells"])
    return 1 if failed else 0


def _report(arguments: argparse.Namespace) -> int:
    from harness import report
    from harness.analysis import summary
    from harness.store.files import write_json
    from harness.store.runs import SUMMARY, RunFolder

    results, names = _where(arguments.words)
    if not names:
        raise UserError("Which run? `harness list runs` names the runs there are.")
    folders = [RunFolder.open(results, name) for name in dict.fromkeys(names)]
    language = arguments.lang or folders[0].manifest()["config"]["report"]["language"]
    built = []
    with ExitStack() as stack:
        for folder in folders:
            writing = folder.writable or arguments.out is None  # a report elsewhere needs no more than to read
            stack.enter_context(folder.at_work() if writing else folder.being_read())
            built.append(summary.build(folder))
            if writing:
                write_json(folder.path / SUMMARY, built[-1])
        out = report.write([folder.path for folder in folders], arguments.out, language, summaries=built)
    print(out / "report.html")
    return 0


def _where(words: Sequence[str]) -> tuple[Path, list[str]]:
    """The results folder (results_dir=DIR among the words, or ./results) and the runs that are named."""
    set_ = [word for word in words if word.startswith("results_dir=")]
    results = Path(set_[-1].partition("=")[2] or ".").expanduser() if set_ else Path("results")
    return results, [word for word in words if not word.startswith("results_dir=")]


def _results_dir(words: Sequence[str]) -> Path:
    """The results folder alone; raises UserError for anything else."""
    results, others = _where(words)
    if others:
        raise UserError(f"'{others[0]}': only results_dir=DIR can be set here.")
    return results


def _compare(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from harness.analysis.compare import compare, worse
    from harness.cli import listing
    from harness.store.runs import RunFolder

    results, names = _where(arguments.words)
    if len(names) != 2:
        raise UserError(f"Two runs are compared, RUN_A and RUN_B, not {len(names)}.")
    a, b = names
    rows = compare(RunFolder.open(results, a), RunFolder.open(results, b))
    listing.show([asdict(row) for row in rows if arguments.json or row.verdict != "missing"], arguments.json)
    found = worse(rows)
    for said, lacks in ((f"{b} is worse than {a}", False), (f"{b} lacks what {a} has", True)):
        cells = [
            " ".join(filter(None, (row.model, "on", row.task, row.dataset, row.language, row.ablate)))
            for row in found
            if (row.verdict == "missing") == lacks
        ]
        if cells:
            more = f" and {len(cells) - 6} more" if len(cells) > 6 else ""
            print(f"{said}: {', '.join(cells[:6])}{more}", file=sys.stderr)
    return 1 if found and arguments.fail_if_worse else 0


def _score(arguments: argparse.Namespace) -> int:
    import json

    from harness.analysis.score_files import render, score_files

    found = score_files(
        arguments.task, arguments.predictions, arguments.references, arguments.metric, arguments.language
    )
    print(json.dumps(found, ensure_ascii=False, indent=1) if arguments.json else render(found))
    return 0


def _fetch(arguments: argparse.Namespace) -> int:
    from harness.cli.fetch import fetch
    from harness.config.compose import compose

    run, _ = compose(arguments.settings, arguments.config_dir, absent=True)
    asked = {setting.partition("=")[0] for setting in arguments.settings}
    if not asked & {"model", "dataset"}:
        raise UserError("Say what to fetch: model=NAME, dataset=NAME or both.")
    return 1 if fetch(run, "model" in asked, "dataset" in asked, print) else 0


def _train(arguments: argparse.Namespace) -> int:
    from harness.config.compose import compose_training, members

    spec, named = compose_training(arguments.settings, arguments.config_dir)
    if arguments.cfg:
        import yaml

        from harness.config.specs import to_json

        print(yaml.safe_dump(to_json(spec), allow_unicode=True, sort_keys=False), end="")
        return 0
    from harness.train.recipes import Recipes, publish

    recipes = Recipes(spec, named)
    recipes.check()
    for name in named:
        if not recipes.train(name):
            print(f"Interrupted; everything is saved in {recipes.work}. The same command goes on.", file=sys.stderr)
            return 130
        best = recipes.folder(name) / "best"
        print(f"{name}: {best}")
        if name in members("model", arguments.config_dir):
            print(f"  harness run model={name} models.{name}.checkpoint={best}")
        if arguments.publish and spec.recipes[name].publish:
            publish(name, recipes.folder(name))
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from harness.cli import doctor

    return doctor.show(doctor.examine(_results_dir(arguments.settings)), arguments.json)


def _list(arguments: argparse.Namespace) -> int:
    from harness.cli import listing

    rows = listing.rows(arguments.what, arguments.config_dir, _results_dir(arguments.settings))
    listing.show(rows, arguments.json)
    return 0
