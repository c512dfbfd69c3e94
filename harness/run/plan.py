"""From a run's settings to jobs: which cells there are, what each will run, and which cannot run and why.

All of it happens in the driver before any model loads, so that whatever is wrong with the command, the config or the
form of the data is said at once. Batches are planned over the whole cell, so that a resumed run asks every batch again
in exactly the same company.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness import data
from harness.adapter import Adapter, routes_of, streams
from harness.checkpoint import check_here, is_here
from harness.config.specs import DatasetSpec, EndpointSpec, ModelSpec, RunSpec, to_json
from harness.data.ablation import ablated, applies, modality
from harness.data.draw import by_length, draw
from harness.dataset import Dataset
from harness.errors import UserError, counted, nearest
from harness.measure import machine
from harness.records import CellGroup, Route
from harness.run.fingerprint import fingerprint
from harness.run.items import Items, items_of
from harness.run.messages import CellJob, Job
from harness.store import secrets
from harness.targets import load_class, rename_targets
from harness.task import Scoring, Task, make_task

BATCH = {"cpu": 32, "mps": 32, "cuda": 64}
CUDA_EMBED_BATCH = 256
"""An embedding keeps no state of its own on the device, so more of them fit than answers."""
MEMORY_SHARE = 0.8
"""The share of the device's memory that weights may take: the rest is for activations."""


class BrokenModule(UserError):
    """The module of a model's adapter cannot be imported: a fault of that model alone."""


@dataclass(frozen=True)
class Cell:
    """A planned cell; `reason` says why it is skipped or has failed, if so."""

    key: str
    group: CellGroup
    info: dict[str, Any]
    """cell.json."""
    job: CellJob | None = None
    reason: str = ""
    failed: bool = False
    items: int = 0
    """How many items it asks about."""


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
    remarks: list[str] = field(default_factory=list)
    """Lines to tell the person before the run begins."""
    objects: dict[str, Adapter] = field(default_factory=dict)
    """Adapters that are objects of this process, by the name of their model."""
    _by_length: dict[CellGroup, Dataset] = field(default_factory=dict)

    def asked(self, group: CellGroup, route: Route) -> Dataset:
        """The group's samples in the order in which they are asked: where prompts are padded to the longest of their
        batch, by length, as far as the samples of a window allow."""
        if route == "embed":  # which neither the order of choices can change, nor that of samples
            return _once(self.datasets[group])
        if group not in self._by_length:
            self._by_length[group] = by_length(self.datasets[group])
        return self._by_length[group]

    def forget_samples(self) -> None:
        """Free what only asking needs: scoring reads the records alone, and has use for the room."""
        for held in (self.jobs, self.cells, self.datasets, self._by_length):
            held.clear()

    def adapter_class(self, model: str) -> type[Adapter]:
        """The class of a model's adapter; raises UserError for none, BrokenModule where importing it fails."""
        if model in self.objects:
            return type(self.objects[model])
        target = self.run.models[model]._target_
        try:
            return load_class(target, Adapter)
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            reason = " ".join(str(error).split())[:500]
            raise BrokenModule(f"_target_ {target} cannot be imported: {type(error).__name__}: {reason}") from error

    def task(self, name: str) -> Task:
        """The task of this name."""
        return make_task(self.run.tasks[name]._target_, self.run.tasks[name])


def make(run: RunSpec, from_sets: Collection[str] = (), objects: Mapping[str, Adapter] | None = None) -> Plan:
    """Plan the run. `from_sets` names the models that came with a set such as `all`, of which those that are not at
    hand are left out; `objects` are adapters that exist already, by the name of their model.

    Raises UserError when there is nothing to run, or a data set's form is wrong.
    """
    if not run.models and not from_sets:
        raise UserError("No model is selected. model=all takes every model on this machine.")
    for spec in run.models.values():
        secrets.name_variables(to_json(spec))
    if run.data_dir:  # a resume may be said in another folder
        run.data_dir = os.path.abspath(os.path.expanduser(run.data_dir))
    device = machine.pick_device(run.device)
    plan = Plan(run, device, machine.pick_devices(device, run.engine.gpus), objects=dict(objects or {}))
    if (most := max((spec.gpus for spec in run.models.values()), default=1)) > 1:
        if len(plan.devices) < most:
            raise UserError(f"gpus={most}: there are no {most} GPUs for one model here, but {len(plan.devices)}.")
        plan.devices = [device]  # one model after another, as one of them takes several GPUs
    plan.remarks += rename_targets([*run.models.values(), *run.tasks.values()])
    plan.run.models = dict(_at_hand(plan, from_sets))
    if not plan.run.models:
        why = "; ".join(sorted({entry["reason"] for entry in plan.left_out})[:3])
        raise UserError(
            f"None of the models asked for is on this machine ({why}). `harness list models` says which would be."
        )
    plan.datasets = _datasets(run)
    plan.remarks += _left_out(plan.datasets)
    for name, spec in plan.run.models.items():
        # Once, as a resume, perhaps elsewhere, keeps it. What computes elsewhere has a dtype that nobody here knows.
        spec.dtype = "auto" if spec.remote else machine.pick_dtype(spec.dtype, plan.device)
        cells = [_cell(plan, name, spec, group) for group in plan.datasets]
        plan.cells |= {cell.key: cell for cell in cells}
        jobs = tuple(cell.job for cell in cells if cell.job)
        if jobs:
            plan.jobs.append(
                Job(
                    name=name,
                    model=spec,
                    prompt=run.prompts[spec.prompt],
                    device="cpu" if spec.remote else plan.device,
                    cells=jobs,
                    latency=run.latency,
                    prepare_ahead=run.engine.prepare_ahead,
                    media_bytes=int(run.engine.media_gib * 2**30),
                    data_dir=run.data_dir,
                )
            )
    return plan


def _at_hand(plan: Plan, from_sets: Collection[str]) -> Iterator[tuple[str, ModelSpec]]:
    """The models to run: those asked for by name, and of the others those whose weights are here and fit, and whose
    adapter can be imported."""
    memory = machine.free_bytes(plan.device)
    reasons = {name: reason for name, spec in plan.run.models.items() if (reason := _without_key(spec))}
    for name, reason in reasons.items():
        if name not in from_sets:
            raise UserError(f"{name}: {reason}.")
    for name in sorted(from_sets - reasons.keys()):
        spec = plan.run.models.get(name)
        if spec is None or not is_here(spec.checkpoint):
            reasons[name] = "weights not on this machine"
            continue
        dtype = machine.pick_dtype(spec.dtype, plan.device)
        needs = (spec.parameters or 0) * 1e6 * (4 if dtype == "float32" else 2)
        if needs > MEMORY_SHARE * memory:
            there = f"{memory / 2**30:.0f} GiB of memory are there"
            reasons[name] = f"weights take {needs / 2**30:.0f} GiB in {dtype}; {there}"
            continue
        try:
            plan.adapter_class(name)
        except UserError as error:
            reasons[name] = str(error)
            plan.remarks.append(f"model '{name}' is left out: {error}")
    plan.left_out = [
        {"model": name, "reason": reason, "fetch": f"harness fetch model={name}" if not _is_remote(plan, name) else ""}
        for name, reason in reasons.items()
    ]
    for name, spec in plan.run.models.items():
        if name not in from_sets and name not in plan.objects:
            check_here(name, spec.checkpoint, spec._target_.startswith("harness.") and not spec.remote)
    yield from ((name, spec) for name, spec in plan.run.models.items() if name not in reasons)


def _is_remote(plan: Plan, name: str) -> bool:
    spec = plan.run.models.get(name)
    return spec is not None and spec.remote


def _without_key(spec: ModelSpec) -> str:
    """Why a model behind an endpoint cannot be asked: the variable that is to hold its key is empty."""
    name = spec.api_key_env if isinstance(spec, EndpointSpec) else ""
    return f"the environment variable {name} that is to hold its key is not set" if name and not _set(name) else ""


def _set(variable: str) -> bool:
    return bool(os.environ.get(variable, "").strip())


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
    tasks = {task: make_task(run.tasks[task]._target_, run.tasks[task]) for task, _ in made_for}
    for task, name in made_for:
        for language in run.datasets[name].languages:
            whole = data.load(name, run.datasets[name], task, language, data_dir=run.data_dir)
            whole = replace(whole, metric=_headline(tasks, task, whole, run.datasets[name]))
            if run.limit is not None or any(ablation.startswith("shuffled-") for ablation in run.ablate):
                whole = tasks[task].clustered(whole)
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


def _headline(tasks: Mapping[str, Task], name: str, dataset: Dataset, spec: DatasetSpec) -> str:
    """The metric that the data set declares, if it is this task's; raises UserError where it cannot be computed."""
    metric, known = dataset.metric, tasks[name].metrics
    if not metric:
        return ""
    if known and metric not in known:
        of_all = {m for task in spec.tasks if task in tasks for m in tasks[task].metrics}
        if metric not in of_all and (all(task in tasks for task in spec.tasks)):
            raise UserError(f"Data set '{dataset.name}': there is no metric '{metric}'. {nearest(metric, of_all)}")
        return ""  # it is that of another task of the data set
    try:
        tasks[name].check(dataset)
    except UserError as error:
        raise UserError(
            f"Data set '{dataset.name}' declares metric: {metric}, which cannot be computed: {error}. "
            "Declare another metric, or mend the data."
        ) from error
    return metric


def _once(dataset: Dataset) -> Dataset:
    """The data set without the samples that only show another's choices in a new order."""
    rotations = dataset.form.rotations
    return dataset.take([i for i, turned in enumerate(rotations) if not turned]) if any(rotations) else dataset


def _left_out(datasets: Mapping[CellGroup, Dataset]) -> list[str]:
    """A line for each data set some of whose rows are left out."""
    found = {(group.dataset, group.language): dataset.left_out for group, dataset in datasets.items()}
    return [
        f"{name} ({language}): {counted(len(rows), 'row')} left out, as bad_rows says. The first: {rows[0]}"
        for (name, language), rows in found.items()
        if rows
    ]


def _cell(plan: Plan, model: str, spec: ModelSpec, group: CellGroup) -> Cell:
    """The cell of one model, its dtype resolved, on one group."""
    task, dataset = plan.task(group.task), plan.datasets[group]
    key = f"{model}/{group.name}"
    info = {
        "model": model,
        "origin": spec.origin,
        **group_info(plan, group),
        "route": None,
        "dtype": None if spec.remote else spec.dtype,
        "device": None if spec.remote else plan.device,
        "remote": spec.remote,
        "prompt": spec.prompt,
        "model_spec": to_json(plan.run.models[model]),
        "fingerprint": {},
    }
    try:
        adapter = plan.adapter_class(model)
    except BrokenModule as error:
        return Cell(key, group, info, reason=str(error), failed=True)
    route = task.route(routes_of(adapter), dataset)
    reason = _unable(spec, adapter, route, group, dataset, task)
    if reason or route is None:
        return Cell(key, group, info, reason=reason)
    prompt = plan.run.prompts[spec.prompt]
    items = items_of(task, plan.asked(group, route), route, prompt)
    job = _cell_job(plan, spec, key, group, route, items, streams(adapter, route))
    info |= {"route": route, "batch_size": None if job.stream else job.batch_size, "items": len(items)}
    if route == "generate":
        info["max_new_tokens"] = job.task.max_new_tokens
    info["fingerprint"] = fingerprint(spec, adapter, prompt, job, len(items), plan.run.data_dir)
    return Cell(key, group, info, job, items=len(items))


def _cell_job(
    plan: Plan, spec: ModelSpec, key: str, group: CellGroup, route: Route, items: Items, stream: bool
) -> CellJob:
    """What the worker will be told of a cell: which samples, and in which batches. A stream's items stand alone."""
    batch_size = 1 if stream else spec.batch_size or plan.run.batch_size or auto_batch_size(plan.device, route)
    task = plan.run.tasks[group.task]
    return CellJob(
        key=key,
        task=replace(task, max_new_tokens=spec.max_new_tokens or task.max_new_tokens),
        dataset_name=group.dataset,
        dataset=plan.run.datasets[group.dataset],
        language=group.language,
        route=route,
        ablate=group.ablate or "none",
        seed=plan.run.seed,
        indices=plan.asked(group, route).source_indices,
        batches=tuple(batch_plan(items.sides, batch_size)),
        batch_size=batch_size,
        stream=stream,
    )


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
    """What cell.json says of a cell's task and data, with a model or without."""
    dataset = plan.datasets[group]
    scoring = Scoring(group.language, dataset.labels, dataset.metric)
    return {
        "task": group.task,
        "dataset": group.dataset,
        "language": group.language,
        "ablate": group.ablate,
        "samples": len(dataset),
        "rows_left_out": len(dataset.left_out),
        "scoring": {"language": scoring.language, "labels": list(scoring.labels), "metric": scoring.metric},
        "task_spec": to_json(plan.run.tasks[group.task]),
        "seed": plan.run.seed,
        "prior_split": dataset.prior_split,
    }


def batch_plan(sides: Sequence[int], size: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of at most `size` items, none across two sides of a gallery."""
    start = 0
    for side in sides:
        for low in range(start, start + side, size):
            yield low, min(low + size, start + side)
        start += side


def model_facts(spec: ModelSpec, device: str) -> Mapping[str, Any]:
    """What the report says of a model that runs on `device`."""
    dtype = "" if spec.remote else machine.pick_dtype(spec.dtype, device)
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
        "remote": spec.remote,
    }
