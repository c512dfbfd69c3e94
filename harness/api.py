"""The harness from Python: what the command `harness run` does, with the same checks, files and numbers.

    run = harness.evaluate("pocket-clip", task="retrieval", limit=100)
    run.cells()[["model", "headline", "value", "low", "high"]]

A model may also be an object: an adapter that a notebook has built around whatever is in its memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.adapter import Adapter
from harness.config.specs import MISSING, ModelSpec, RunSpec, to_json
from harness.errors import UserError
from harness.records import CellGroup
from harness.store.files import write_json
from harness.store.runs import SUMMARY, RunFolder

if TYPE_CHECKING:
    import pandas as pd

    from harness.run.plan import Plan
    from harness.run.progress import Progress

Model = str | ModelSpec | Adapter


class Run:
    """A run's folder, to be looked at from Python."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def path(self) -> Path:
        """The folder, in which `report.html` is."""
        return self._folder.path

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The object in summary.json; scored anew from the records where that file is not there yet."""
        from harness.analysis.summary import build

        return self._folder.summary() or build(self._folder)

    def cells(self) -> pd.DataFrame:
        """A row for each cell: the keys of summary.json, nested ones as `latency.p50_ms` or `metrics.cider.value`, and
        `value`, `low` and `high` of the headline metric."""
        import pandas as pd

        rows = []
        for cell in self.summary["cells"]:
            score = cell["metrics"].get(cell["headline"]) or dict.fromkeys(("value", "low", "high"))
            flat = {key: value for key, value in cell.items() if key not in ("slices", "definition")}
            flat["metrics"] = {
                name: {key: value for key, value in row.items() if key != "definition"}
                for name, row in cell["metrics"].items()
            }
            rows.append(flat | {name: score[name] for name in ("value", "low", "high")})
        return pd.json_normalize(rows)

    def records(self) -> pd.DataFrame:
        """A row for each sample (of retrieval each query) of each cell: the keys of records.jsonl after the cell's."""
        import pandas as pd

        rows = []
        for key in self._folder.manifest()["cells"]:
            store = self._folder.cell(key)
            if not (store.folder / "cell.json").exists():
                continue
            info = store.info()
            cell = {"model": info["model"], **CellGroup.of(info)._asdict(), "route": info["route"]}
            rows += [cell | record.to_json() for record in store.records()]
        return pd.DataFrame(rows)

    def comparisons(self) -> pd.DataFrame:
        """A row for each pair of models that was tested on the same samples."""
        import pandas as pd

        return pd.DataFrame(self.summary["comparisons"])


def load_run(path: str | Path) -> Run:
    """The run in a folder, or of that name below `results`. Raises UserError where there is none."""
    return Run(RunFolder.open(Path("results"), str(Path(path).expanduser())))


def evaluate(
    model: Model | Sequence[Model] | Mapping[str, ModelSpec | Adapter] = "all",
    *,
    task: str | Sequence[str] = "vqa",
    dataset: str | Sequence[str] = "pocket",
    config_dir: str | Path | Sequence[str | Path] | None = None,
    yes: bool = False,
    **overrides: Any,
) -> Run:
    """Ask models about data sets, write a run folder as `harness run` does, and return it.

    `model` is a name or a set such as "all", a spec, an adapter, a list of these, or a mapping of names to specs and
    adapters. An adapter is asked in this process: a crash of it is a crash of the caller, and the report says that its
    latency was measured so. Everything else is asked in processes of its own, which import nothing of the caller's.

    `overrides` are the settings of the command line: limit=100, latency="off", **{"models.pocket-clip.batch_size": 4}.
    Models with prices must be given a budget=MOST, which is never passed, or agreed to by `yes`.
    With run=NAME, a run of that name and the very same settings is gone on with: only what is missing is asked.

    Raises UserError for a mistake in the settings or the data's form, KeyboardInterrupt after Ctrl-C, when everything
    answered so far is kept. A model that fails is no error: its cells say so.
    """
    from rich.console import Console

    from harness.config.compose import compose
    from harness.run import costs, driver, plan
    from harness.run.progress import Progress
    from harness.targets import import_from

    names, specs, objects = _models(model)
    selected = {"task": task, "dataset": dataset} | ({"model": names} if names else {})
    given = [config_dir] if isinstance(config_dir, str | Path) else config_dir or []
    config_dirs = [Path(folder).expanduser() for folder in given]
    for folder in config_dirs:
        import_from(folder)
    settings = [f"{key}={_setting(value)}" for key, value in (selected | overrides).items()]
    run, from_sets, faults = compose(settings, config_dirs, own=specs)
    planned = plan.make(run, from_sets, objects)
    planned.remarks[:0] = faults
    progress = Progress(Console(stderr=True))
    for remark in planned.remarks:
        progress.warn(remark)
    for estimate in costs.estimates(planned):
        progress.say(str(estimate))
    if (names := costs.unagreed(planned)) and not yes:
        raise UserError(f"{', '.join(names)} must be paid for: give budget=MOST, which is never passed, or yes=True.")
    folder, begun = _folder(run)
    with folder.at_work():
        if not begun:
            driver.begin(planned, folder)
        _, done = carry_out(planned, folder, progress)
        if not done:
            raise KeyboardInterrupt(f"Everything answered is kept; the same call with run={folder.name!r} goes on.")
    return Run(folder)


def carry_out(plan: Plan, folder: RunFolder, progress: Progress) -> tuple[dict[str, Any], bool]:
    """Ask what is missing, score it, write summary and report; the summary, and False if it was interrupted."""
    from harness.run import driver

    done = driver.run(plan, folder, progress)
    plan.forget_samples()
    return conclude(folder, plan.run.report.language, plan.run.report.charts), done


def conclude(folder: RunFolder, language: str, charts: bool = True) -> dict[str, Any]:
    """Score a run's records and write summary.json and the report; returns the summary."""
    from harness import report
    from harness.analysis.summary import build

    data = build(folder)
    write_json(folder.path / SUMMARY, data)
    report.write(folder.path, language=language, charts=charts, summaries=[data])
    return data


def _models(
    model: Model | Sequence[Model] | Mapping[str, ModelSpec | Adapter],
) -> tuple[list[str], dict[str, ModelSpec], dict[str, Adapter]]:
    """Names of models in `conf/`; specs by name, those of adapters included; adapters by name."""
    if isinstance(model, Mapping):
        given = list(model.items())
    else:
        several = model if isinstance(model, Sequence) and not isinstance(model, str) else [model]
        given = [(_name_of(one), one) for one in several]
    names: list[str] = []
    specs: dict[str, ModelSpec] = {}
    objects: dict[str, Adapter] = {}
    for name, one in given:
        if isinstance(one, str):
            names.append(one)
            continue
        if not isinstance(one, ModelSpec | Adapter):
            raise UserError(f"model={one!r}: give a name, a ModelSpec, an adapter that exists, or a list of these.")
        if name in specs or not re.fullmatch(r"[\w-]+", name):
            raise UserError(f"model: '{name}' is taken or is not a name. A mapping names them: model={{'mine': …}}.")
        if isinstance(one, Adapter):
            objects[name] = one
        specs[name] = _spec_of(one)
    return names, specs, objects


def _name_of(model: Any) -> str:
    """What a model that has no name is called in the report: after its class, or after its checkpoint."""
    if isinstance(model, ModelSpec):
        return re.sub(r"\W+", "-", model.checkpoint.rstrip("/").rpartition("/")[2].rpartition(":")[2])
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", type(model).__name__).lower()


def _spec_of(model: ModelSpec | Adapter) -> ModelSpec:
    if isinstance(model, ModelSpec):
        return model
    if not isinstance(getattr(model, "spec", None), ModelSpec):
        raise UserError(f"{type(model).__name__} has no spec: its constructor must call super().__init__(spec).")
    kind = type(model)
    found = replace(model.spec, _target_=f"{kind.__module__}.{kind.__qualname__}")
    found.origin = "in-house" if found.origin == MISSING else found.origin
    found.checkpoint = "" if found.checkpoint == MISSING else found.checkpoint
    return found


def _setting(value: Any) -> str:
    """A value as it stands on the command line."""
    if isinstance(value, list | tuple | set):
        return f"[{','.join(map(_setting, value))}]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _folder(run: RunSpec) -> tuple[RunFolder, bool]:
    """The run's folder, and whether a run with the very same settings was begun there before."""
    results = Path(run.results_dir).expanduser()
    if run.run is None or not (results / run.run / "run.json").exists():
        return RunFolder.create(results, run.run), False
    folder = RunFolder.open(results, run.run)
    before, now = folder.manifest()["config"], json.loads(json.dumps(to_json(run)))
    # A run without a name was given the time as one, and may be gone on with by it; a budget may grow.
    changed = sorted(
        key for key in {**before, **now} if key not in ("run", "budget") and before.get(key) != now.get(key)
    )
    if changed:
        raise UserError(f"{folder.path} exists already, with other {', '.join(changed)}; run=NAME names a new one.")
    return folder, True
