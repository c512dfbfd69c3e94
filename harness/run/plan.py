"""From a run's settings to jobs: which cells there are, what each will run, and which cannot run and why.

All of it happens in the driver before any model loads, so that whatever is wrong with the command, the config or the
form of the data is said at once. Batches are planned over the whole cell, so that a resumed run asks every batch again
in exactly the same company.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness import data as sources
from harness.adapter import Adapter, routes_of
from harness.checkpoint import is_here
from harness.config.specs import ModelSpec, RunSpec, to_json
from harness.data.ablation import ablated, applies, modality
from harness.data.draw import by_length, draw
from harness.dataset import Dataset
from harness.errors import UserError
from harness.measure import machine
from harness.records import CellGroup, Route
from harness.run.fingerprint import digest, source_digest, sources_digest, weights_digest
from harness.run.messages import CellJob, Job
from harness.targets import load_class
from harness.task import GalleryTask, Scoring, Task, make_task

BATCH = {"cpu": 32, "mps": 32, "cuda": 64}
CUDA_EMBED_BATCH = 256
"""An embedding keeps no state of its own on the device, so more of them fit than answers."""
MEMORY_SHARE = 0.8
"""Of the device's memory that weights may take: the rest is for activations."""


@dataclass(frozen=True)
class Cell:
    """A planned cell; `reason` says why it is skipped, if it is."""

    key: str
    group: CellGroup
    info: dict[str, Any]
    """cell.json."""
    job: CellJob | None = None
    reason: str = ""
    units: int = 0


@dataclass
class Plan:
    """Everything that will be run, and what was left out."""

    run: RunSpec
    device: str
    devices: list[str]
    """Where models run, one on each at a time."""
    jobs: list[Job] = field(default_factory=list)
    cells: dict[str, Cell] = field(default_factory=dict)
    datasets: dict[CellGroup, Dataset] = field(default_factory=dict)
    """The samples drawn, after the group's ablation."""
    left_out: list[dict[str, str]] = field(default_factory=list)
    _by_length: dict[CellGroup, Dataset] = field(default_factory=dict)

    def asked(self, group: CellGroup, route: Route) -> Dataset:
        """The group's samples in the order in which they are asked: where prompts are padded to the longest of their
        batch, by length, as far as the samples of a window allow."""
        if route == "embed":
            return self.datasets[group]
        if group not in self._by_length:
            self._by_length[group] = by_length(self.datasets[group])
        return self._by_length[group]

    def forget_samples(self) -> None:
        """Free what only asking needs: scoring reads the records alone, and has use for the room."""
        for held in (self.jobs, self.cells, self.datasets, self._by_length):
            held.clear()

    def task(self, name: str) -> Task:
        return make_task(self.run.tasks[name]._target_, self.run.tasks[name])


def make(run: RunSpec, implied: set[str] = frozenset()) -> Plan:  # pyright: ignore[reportArgumentType]
    """Plan the run. `implied` names the models that came with `all`, of which those not at hand are left out.

    Raises UserError when there is nothing to run, or a data set's form is wrong.
    """
    if not run.models and not implied:
        raise UserError("No model is selected. model=all takes every model on this machine.")
    device = machine.pick_device(run.device)
    plan = Plan(run, device, machine.pick_devices(device, run.engine.gpus))
    models = dict(_at_hand(plan, implied))
    plan.run.models = models
    if not models:
        raise UserError("None of the models asked for is on this machine. `harness list models` says which would be.")
    plan.datasets = _datasets(run)
    for name, spec in models.items():
        dtype = machine.pick_dtype(spec.dtype, plan.device)
        cells = [_cell(plan, name, spec, group, dtype) for group in plan.datasets]
        plan.cells |= {cell.key: cell for cell in cells}
        jobs = tuple(cell.job for cell in cells if cell.job)
        if jobs:
            plan.jobs.append(
                Job(
                    name,
                    replace(spec, dtype=dtype),
                    run.prompts[spec.prompt],
                    plan.device,
                    jobs,
                    run.latency,
                    run.engine.prepare_ahead,
                    run.data_dir,
                )
            )
    return plan


def _at_hand(plan: Plan, implied: set[str]) -> Iterator[tuple[str, ModelSpec]]:
    """The models to run: those asked for by name, and of the others those whose weights are here and fit."""
    memory = machine.free_bytes(plan.device)
    reasons: dict[str, str] = {}
    for name in sorted(implied):
        spec = plan.run.models.get(name)
        if spec is None or not is_here(spec.checkpoint):
            reasons[name] = "weights not on this machine"
            continue
        dtype = machine.pick_dtype(spec.dtype, plan.device)
        needs = (spec.parameters or 0) * 1e6 * (4 if dtype == "float32" else 2)
        if needs > MEMORY_SHARE * memory:
            there = f"{memory / 2**30:.0f} GiB of memory are there"
            reasons[name] = f"weights take {needs / 2**30:.0f} GiB in {dtype}; {there}"
    plan.left_out = [
        {"model": name, "reason": reason, "fetch": f"harness fetch model={name}"} for name, reason in reasons.items()
    ]
    yield from ((name, spec) for name, spec in plan.run.models.items() if name not in reasons)


def _datasets(run: RunSpec) -> dict[CellGroup, Dataset]:
    """The samples of each task x data set x language x ablation, for the tasks that a data set is made for and the
    ablations that take away something it has."""
    found: dict[CellGroup, Dataset] = {}
    unused = set(run.ablate)
    made_for = [(task, name) for task in run.tasks for name, spec in run.datasets.items() if task in spec.tasks]
    if not made_for:
        tasks = {name: ", ".join(spec.tasks) for name, spec in run.datasets.items()}
        have = "; ".join(f"{name}: {for_}" for name, for_ in tasks.items())
        raise UserError(f"None of the data sets is made for task {', '.join(run.tasks)}. They are for: {have}.")
    for task, name in made_for:
        for language in run.datasets[name].languages:
            whole = sources.load(name, run.datasets[name], task, language, data_dir=run.data_dir)
            for ablation in run.ablate:
                if applies(whole, ablation):
                    unused.discard(ablation)
                    found[CellGroup(task, name, language, "" if ablation == "none" else ablation)] = draw(
                        ablated(whole, ablation, run.seed), run.limit, run.seed
                    )
    if unused:
        ablation = sorted(unused)[0]
        kind = "question" if modality(ablation) == "text" else modality(ablation)
        raise UserError(f"ablate={ablation}: {', '.join(run.datasets)} has no {kind} in {', '.join(run.tasks)}.")
    return found


def _cell(plan: Plan, model: str, spec: ModelSpec, group: CellGroup, dtype: str) -> Cell:
    run, dataset_spec = plan.run, plan.run.datasets[group.dataset]
    task = plan.task(group.task)
    dataset = plan.datasets[group]
    key = f"{model}/{group.name}"
    info = {
        "model": model,
        "origin": spec.origin,
        **group_info(plan, group),
        "route": None,
        "dtype": dtype,
        "device": plan.device,
        "prompt": spec.prompt,
        "model_spec": to_json(spec),
    }
    adapter = _adapter(spec._target_)
    route = task.route(routes_of(adapter), dataset)
    reason = _unable(spec, adapter, route, group, dataset, task)
    if reason or route is None:
        return Cell(key, group, info | {"fingerprint": {}}, reason=reason)
    sides = [len(dataset)]
    if isinstance(task, GalleryTask):
        gallery = task.gallery(dataset)
        sides = [len(gallery.images), len(gallery.texts)]
    batch_size = spec.batch_size or run.batch_size or auto_batch_size(plan.device, route)
    batches = tuple(batch_plan(sides, batch_size))
    indices = plan.asked(group, route).taken
    job = CellJob(
        key,
        run.tasks[group.task],
        group.dataset,
        dataset_spec,
        group.language,
        route,
        group.ablate or "none",
        run.seed,
        indices,
        batches,
        batch_size,
    )
    info |= {"route": route, "batch_size": batch_size, "units": sum(sides)}
    info["fingerprint"] = {
        "weights": weights_digest(spec),
        "model settings": digest({k: v for k, v in to_json(spec).items() if k not in ("checkpoint", "batch_size")}),
        "prompts": digest(to_json(run.prompts[spec.prompt])),
        "data set": digest([to_json(dataset_spec), sources_digest(dataset_spec, run.data_dir)]),
        "samples": digest([indices, sum(sides)]),
        "batch size": batch_size,
        "dtype": dtype,
        "adapter source": source_digest(spec._target_),
        "task settings": digest(to_json(run.tasks[group.task])),
        "task source": source_digest(run.tasks[group.task]._target_),
    }
    if group.ablate:
        info["fingerprint"]["ablation"] = [group.ablate, run.seed]
    return Cell(key, group, info, job, units=sum(sides))


def auto_batch_size(device: str, route: Route) -> int:
    """The batch that `batch_size=auto` begins with; the worker halves it until memory allows, and keeps what fits."""
    kind = device.split(":")[0]
    return CUDA_EMBED_BATCH if kind == "cuda" and route == "embed" else BATCH[kind]


def _unable(
    spec: ModelSpec, adapter: type[Adapter], route: Route | None, group: CellGroup, dataset: Dataset, task: Task
) -> str:
    """Why the model cannot be asked: empty if it can."""
    lacking = [kind for kind in dataset.modalities if kind not in spec.modalities]
    if group.language not in spec.languages:
        return f"is not made for language {group.language}"
    if spec.tasks and group.task not in spec.tasks:
        return f"is made for {' and '.join(spec.tasks)} only"
    if lacking:
        return f"takes no {' and no '.join(lacking)}"
    if route is None:
        able = ", ".join(routes_of(adapter)) or "do nothing"
        usable = [name for name in task.routes if task.route([name], dataset)]
        return f"no route: {group.task} takes {' or '.join(usable)} here; the adapter can {able}"
    if group.ablate in adapter.needs:
        return f"cannot be asked without {group.ablate}"
    if group.ablate and route == "embed" and not any(sample.media for sample in dataset):
        return f"without {group.ablate} nothing is left to embed"
    return ""


def group_info(plan: Plan, group: CellGroup) -> dict[str, Any]:
    """What cell.json says of a cell's task and data, model or no model."""
    dataset = plan.datasets[group]
    scoring = Scoring(group.language, dataset.labels, dataset.metric)
    return {
        "task": group.task,
        "dataset": group.dataset,
        "language": group.language,
        "ablate": group.ablate,
        "samples": len(dataset),
        "scoring": {"language": scoring.language, "labels": list(scoring.labels), "metric": scoring.metric},
        "task_spec": to_json(plan.run.tasks[group.task]),
        "seed": plan.run.seed,
        "prior_split": dataset.prior_split,
    }


def _adapter(target: str) -> type[Adapter]:
    """The adapter's class; whatever goes wrong in importing someone's module is told as such."""
    try:
        return load_class(target, Adapter)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"_target_ {target} cannot be imported: {type(error).__name__}: {error}") from error


def batch_plan(sides: Sequence[int], size: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of at most `size` units, none across two sides of a gallery."""
    start = 0
    for side in sides:
        for low in range(start, start + side, size):
            yield low, min(low + size, start + side)
        start += side


def card(spec: ModelSpec, device: str) -> Mapping[str, Any]:
    """What the report says of a model that runs on `device`."""
    dtype = machine.pick_dtype(spec.dtype, device)
    return {
        "origin": spec.origin,
        "developer": spec.developer,
        "checkpoint": spec.checkpoint,
        "revision": spec.revision,
        "parameters": spec.parameters,
        "license": spec.license,
        "dtype": f"{dtype}, compiled" if getattr(spec, "compile", False) else dtype,
        "prompt": spec.prompt,
        "pocket": spec.checkpoint.startswith("bundled:"),
    }
