"""The driver: carries out a plan. It alone writes to the run folder, and it alone talks to the person.

Events come from the engine, go to the store, and show as progress. Each device takes the next model that waits: with
several GPUs several models run at once, each served by a thread of the driver. Ctrl-C once lets the batch in hand
finish, a second one ends at once; either way everything answered so far is on disk and `harness resume` runs only what
is missing.
"""

from __future__ import annotations

import heapq
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import harness
from harness.config.compose import CHAT, SERVED_CHAT, servers_of_today
from harness.config.specs import EndpointSpec, RunSpec, ServerSpec, from_json, to_json
from harness.errors import StorageError, UserError
from harness.measure import machine
from harness.media import thumbnail
from harness.records import EXAMPLES, CellGroup, Record, Sample, example_order
from harness.run.cell_writer import CellWriter
from harness.run.engines.base import Engine
from harness.run.engines.inline import InlineEngine
from harness.run.engines.local import LocalEngine
from harness.run.interrupts import interruptible
from harness.run.messages import (
    Answered,
    CellEnded,
    CellJob,
    CellStarted,
    Died,
    Embedded,
    Event,
    Extent,
    Failed,
    Job,
    Loaded,
    OutOfMoney,
    Resized,
    Timed,
    TimingBegun,
)
from harness.run.plan import Plan, group_info, model_facts
from harness.run.progress import Progress
from harness.run.purse import left_to, price
from harness.store.cells import CellStore
from harness.store.files import file_stem, write_json
from harness.store.runs import RunFolder
from harness.targets import current_target, folders, known_setting


def begin(plan: Plan, folder: RunFolder) -> None:
    """Write run.json: from here on there is a run that can be resumed."""
    write_json(
        folder.path / "run.json",
        {
            "harness": harness.__version__,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "seed": plan.run.seed,
            "config": to_json(plan.run),
            "machine": machine.host_facts() | machine.describe_device(plan.device),
            "models": {
                name: {**model_facts(spec, plan.device), "object": name in plan.objects}
                for name, spec in plan.run.models.items()
            },
            "datasets": {
                name: {"license": spec.license, "homepage": spec.homepage, "source": spec.source, "split": spec.split}
                for name, spec in plan.run.datasets.items()
            },
            "prompts": {spec.prompt: to_json(plan.run.prompts[spec.prompt]) for spec in plan.run.models.values()},
            "left_out": plan.left_out,
            "cells": [*plan.cells, *_priors(plan)],
        },
    )


def _priors(plan: Plan) -> dict[str, CellGroup]:
    """The groups in which there is a prior reference row, by the key of its cell."""
    return {f"prior/{group.name}": group for group in plan.datasets if next(_prior(plan, group), None)}


def _prior(plan: Plan, group: CellGroup) -> Iterator[Record]:
    return plan.task(group.task).prior(plan.datasets[group])


def _without_models(plan: Plan, folder: RunFolder) -> None:
    """Write what needs no model and is not there yet: skipped cells, the prior's records, thumbnails."""
    for key, cell in plan.cells.items():
        if cell.reason:
            store = folder.cell(key)
            if store.complete:
                continue
            if not (cell.failed and store.answered):  # what it answered before its adapter broke stays
                store.begin(cell.info)
            store.fail("failed" if cell.failed else "skipped", cell.reason)
    for key, group in _priors(plan).items():
        store = folder.cell(key)
        if not store.complete:
            info = {"model": "prior", "origin": "reference", "route": None, "fingerprint": {}}
            store.begin(info | group_info(plan, group))
            store.write_records(_prior(plan, group))
            store.finish({"note": f"counted on the {plan.datasets[group].prior_split} split"})
    for dataset in plan.datasets.values():
        if "image" in dataset.modalities:
            _keep_thumbnails(dataset, folder.path / "media")


def _keep_thumbnails(samples: Iterable[Sample], folder: Path) -> None:
    """Keep thumbnails of the images, other than files, of the samples that a report may show."""
    drawn = heapq.nsmallest(EXAMPLES, samples, key=lambda sample: example_order(sample.cluster, sample.id))
    images = {medium for sample in drawn for medium in sample.media if medium.kind == "image"}
    for medium in images:
        if not isinstance(medium.source, Path) and (small := thumbnail(medium)) is not None:
            ending, encoded = small
            folder.mkdir(parents=True, exist_ok=True)
            (folder / (file_stem(medium.key) + ending)).write_bytes(encoded)


def run(plan: Plan, folder: RunFolder, progress: Progress) -> bool:
    """Run every job of the plan that is not complete yet; False if it was interrupted."""
    _without_models(plan, folder)
    engines = _engines(plan)
    writers = {cell.key: CellWriter(plan, folder, job, cell.key) for job in plan.jobs for cell in job.cells}
    jobs = [job for job in (_remaining(job, writers) for job in plan.jobs) if job is not None]
    started = time.monotonic()
    with interruptible(engines.all, progress) as interrupts:
        progress.start(sum(cell.items for cell in plan.cells.values()), sum(w.done for w in writers.values()))
        _run_jobs(engines, jobs, writers, progress, plan.run.budget)
        if plan.run.latency.mode == "full":
            device = plan.devices[0]  # one after another: a neighbour at work would be timed too
            pairs = [(job, cell) for job in plan.jobs for cell in job.cells]
            for whole, cell in pairs:
                if whole.model.remote:  # its quick pass says all that can be known of it
                    continue
                store = writers[cell.key].store
                if store.complete and not store.timed and not interrupts.count:
                    job = replace(whole, cells=(cell,), device=device, timing=True)
                    _time(engines.of(job), job, store, progress)
    progress.stop()
    facts = folder.manifest()
    facts["seconds"] = round((facts.get("seconds") or 0) + time.monotonic() - started, 2)
    write_json(folder.path / "run.json", facts)
    return not interrupts.count


@dataclass(frozen=True)
class _Engines:
    """An engine for each device, and one for each model that is an object of this process or runs elsewhere."""

    by_device: Mapping[str, Engine]
    by_model: Mapping[str, Engine]
    elsewhere: frozenset[str]
    """The models that run elsewhere. They need no device, and pause while a model here is timed."""

    @property
    def all(self) -> list[Engine]:
        return [*self.by_device.values(), *self.by_model.values()]

    def of(self, job: Job) -> Engine:
        return self.by_model.get(job.name) or self.by_device[job.device]


def _engines(plan: Plan) -> _Engines:
    classes = [plan.adapter_class(job.name) for job in plan.jobs if job.name not in plan.objects]
    preload = sorted({name for adapter in classes for name in adapter.imports})

    def local() -> LocalEngine:
        return LocalEngine(preload, plan.run.engine.timeout_s)

    objects = {name: InlineEngine(adapter) for name, adapter in plan.objects.items()}
    elsewhere = {job.name: local() for job in plan.jobs if job.model.remote and job.name not in objects}
    return _Engines({device: local() for device in plan.devices}, elsewhere | objects, frozenset(elsewhere))


def _run_jobs(
    engines: _Engines, jobs: Sequence[Job], writers: dict[str, CellWriter], progress: Progress, budget: float | None
) -> None:
    """Each device takes the next job that waits, and models that run elsewhere are asked beside them. A cell belongs to
    one job, so one thread writes it. Models that share the run's budget are asked one after another, as each must know
    what the others have left of it."""
    elsewhere = [job for job in jobs if job.name in engines.elsewhere]
    waiting = iter([job for job in jobs if job.name not in engines.elsewhere])
    quiet = _Quiet([engines.of(job) for job in elsewhere])
    sharing = [job for job in elsewhere if budget is not None and price(job.model, 0, 0) is not None]
    lines = [sharing, *([job] for job in elsewhere if job not in sharing)]

    def left(job: Job) -> Job:
        """The job with what may be spent on it now."""
        spent = {key: writer.spent for key, writer in writers.items()}
        own = sum(cost for key, cost in spent.items() if key.partition("/")[0] == job.name)
        return replace(job, budget=left_to(job.model, budget, own, sum(spent.values())))

    def work(device: str, first: Iterable[Job], others: Iterable[Job]) -> None:
        try:
            for job in chain(first, others):
                job = job if job.model.remote else replace(job, device=device)
                engine = engines.of(job)
                if engine.stopping:
                    return
                progress.model(job.name, sum(stop - start for cell in job.cells for start, stop in cell.batches))
                _run_job(engine, job, writers, progress, quiet, left)
                for cell in job.cells:
                    writers[cell.key].close()
        except BaseException:  # such as a full disk: nobody need go on
            for engine in engines.all:
                engine.stop()
            raise

    own, *others = engines.by_device
    first = list(islice(waiting, 1))  # the first model on the first device, whichever thread comes to run first
    with ThreadPoolExecutor(max(1, len(others) + len(lines)), thread_name_prefix="device") as pool:
        threads = [pool.submit(work, device, (), waiting) for device in others]
        threads += [pool.submit(work, "cpu", line, ()) for line in lines]
        work(own, first, waiting)  # in the caller's thread, where Ctrl-C can end an object of this process
    for thread in threads:
        thread.result()


class _Quiet:
    """Has models that run elsewhere pause while a model here is timed, as they take the processor's time too."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self.engines = engines
        self._timed: set[str] = set()
        self._lock = threading.Lock()

    def note(self, job: Job, event: Event) -> None:
        """Take an event of a job into account."""
        if isinstance(event, TimingBegun) and not job.model.remote:
            self._set(job.name, True)
        elif job.name in self._timed:  # whatever comes next, the pass is over
            self._set(job.name, False)

    def over(self, job: Job) -> None:
        """The job's process is gone."""
        if job.name in self._timed:
            self._set(job.name, False)

    def _set(self, name: str, timed: bool) -> None:
        with self._lock:
            before = bool(self._timed)
            self._timed = self._timed | {name} if timed else self._timed - {name}
            if bool(self._timed) != before:
                for engine in self.engines:
                    engine.pause(timed)


MOST_DEATHS = 20
"""So many processes of a worker may die in a row, with no answer between them, before its model is given up."""


def _run_job(
    engine: Engine,
    job: Job,
    writers: dict[str, CellWriter],
    progress: Progress,
    quiet: _Quiet,
    left: Callable[[Job], Job],
) -> None:
    """Run a job to its end.

    A process that dies at work is started again, and the batch it died of is asked one by one, so that a sample which
    kills costs that sample alone. A process that dies twice while it loads, or again and again, fails the model.
    """
    attempt: Job | None = job
    deaths = loading_deaths = 0
    while attempt is not None:
        loaded, death = False, None
        with closing(engine.run(left(attempt))) as events:
            for event in events:
                quiet.note(job, event)
                if isinstance(event, Died):
                    death = event
                    continue
                _handle_or_fail(event, attempt, writers, progress)
                loaded |= isinstance(event, Loaded)
                if isinstance(event, Answered | Embedded):
                    deaths = 0
        quiet.over(job)
        if death is None:
            return
        progress.warn(f"{job.name}: {death.reason}")
        deaths += 1
        loading_deaths = 0 if loaded else loading_deaths + 1
        reason = ""
        if loading_deaths > 1 or (loading_deaths and death.cause == "hang"):
            reason = f"{job.name} did not load: {death.reason}"
        elif deaths >= MOST_DEATHS:
            reason = f"{job.name}: {MOST_DEATHS} processes died in a row, the last because {death.reason}; given up"
        if reason:
            _handle(Failed(None, reason), attempt, writers, progress)
            return
        if loaded:
            attempt = _after_death(attempt, writers, death)


def _time(engine: Engine, job: Job, store: CellStore, progress: Progress) -> None:
    """The full latency pass of one cell in a process of its own, after all answers are there and nothing else runs.

    A process that dies keeps what it had measured, and the note says so; an interrupted pass is run again.
    """
    (cell,) = job.cells
    progress.timing(cell.key)
    figures: dict[str, Any] = {"mode": "full"}
    with closing(engine.run(job)) as events:
        for event in events:
            match event:
                case Timed(_, figures, done):
                    if done:
                        store.write_latency(figures)
                case Failed(_, reason) | Died(reason):
                    progress.warn(f"{cell.key}: latency: {reason}")
                    store.write_latency(figures | {"note": f"latency was not measured to its end: {reason}"})


def _after_death(job: Job, writers: dict[str, CellWriter], death: Died) -> Job | None:
    """The job that is left after its process died; None where nothing is.

    The batch in hand is cut into single items. A single item is tried once more, as something else may have ended the
    process, and then given up. Nothing is prepared ahead any more, so that a process dies of the batch in hand.
    """
    cells: list[CellJob] = []
    found = False
    for cell in job.cells:
        writer = writers[cell.key]
        if writer.store.complete or writer.store.failed:
            continue
        left = cell.batches[writer.batches_received :]
        if cell.stream:
            left = tuple((item, item + 1) for item in sorted(writer.waiting))
        if not found:
            found = True
            if left and cell.stream:
                cell = _after_death_in_stream(cell, left, writer, death)
                left = cell.batches
            elif not left:  # it died in the latency pass: the quality pass is whole
                writer.finish(CellEnded(cell.key, None, {}, f"no latency: {death.reason}"))
                continue
            start, stop = left[0]
            if stop - start > 1:
                left = (*((i, i + 1) for i in range(start, stop)), *left[1:])
                writer.died(death, stop - start)
            elif death.cause == "hang" or writer.suspect == start:
                writer.give_up(start, death.reason)
                left = left[1:]
            else:
                writer.suspect = start
        writer.batches_received = 0
        cells.append(replace(cell, batches=left, batch_size=writer.batch_size, begun=writer.begun))
    return replace(job, cells=tuple(cells), prepare_ahead=0) if cells else None


ASKED_ALONE = 64
"""After a process has died over a stream so many items are asked one by one: one of those under way may have killed
it."""


def _after_death_in_stream(cell: CellJob, left: tuple[Extent, ...], writer: CellWriter, death: Died) -> CellJob:
    """The cell that is left after a process died while it asked these items."""
    item = left[0][0]
    if len(cell.batches) - len(left) >= cell.alone:  # nobody knows which one it was
        return replace(cell, batches=left, alone=ASKED_ALONE)
    if death.cause == "hang" or writer.suspect == item:
        writer.give_up(item, death.reason)
        left = left[1:]
    else:
        writer.suspect = item
    return replace(cell, batches=left, alone=ASKED_ALONE)


def _remaining(job: Job, writers: dict[str, CellWriter]) -> Job | None:
    """The job with only the cells and batches that are missing."""
    own = [(cell, writers[cell.key]) for cell in job.cells]
    cells = tuple(
        replace(cell, batches=writer.missing(), batch_size=writer.batch_size, begun=writer.begun)
        for cell, writer in own
        if not writer.store.complete
    )
    return replace(job, cells=cells) if cells else None


def _handle_or_fail(event: Event, job: Job, writers: dict[str, CellWriter], progress: Progress) -> None:
    """Handle one event. What cannot be handled fails its cell, or its model where it is of no cell, and never the run;
    only a disk that cannot be written to stops everybody."""
    key = getattr(event, "cell", None)
    if key is not None and writers[key].store.failed:
        return  # what a cell sends after it has failed is of no use
    try:
        _handle(event, job, writers, progress)
    except (StorageError, OSError):
        raise
    except Exception as error:
        reason = f"what the model's process sent cannot be used: {type(error).__name__}: {error}"
        _handle(Failed(key, " ".join(reason.split())[:500]), job, writers, progress)


def _handle(event: Event, job: Job, writers: dict[str, CellWriter], progress: Progress) -> None:
    """Bring one event to where it belongs: to the cell's writer, and to the person."""
    match event:
        case Loaded(seconds):
            progress.say(f"{job.name}: loaded in {seconds:.1f} s")
            for cell in job.cells:
                writers[cell.key].load_s = None if job.model.remote else seconds
        case CellStarted(key):
            progress.cell(key)
        case Answered(key) | Embedded(key):
            writers[key].received(event)
            progress.advance(len(event))
        case Resized(key, batch_size):
            writers[key].resize(batch_size)
        case CellEnded(key):
            writers[key].finish(event)
        case OutOfMoney(reason):
            progress.warn(f"{job.name} is interrupted: {reason}")
            for cell in job.cells:
                store = writers[cell.key].store
                if not (store.complete or store.failed):
                    store.fail("interrupted", reason)
        case Failed(None, reason):
            progress.warn(reason)
            for cell in job.cells:
                if not writers[cell.key].store.complete:
                    writers[cell.key].store.fail("failed", reason, event.again)
        case Failed(key, reason):
            progress.warn(f"{key}: {reason}")
            writers[str(key)].store.fail("failed", reason, event.again)


def finished(folder: RunFolder) -> bool:
    """Whether every cell has its result and its timings, and the summary tells of all of them."""
    over = ("complete", "skipped")
    try:
        manifest, summary = folder.manifest(), folder.summary()
    except UserError:  # a damaged summary is written anew
        return False
    full = manifest["config"]["latency"]["mode"] == "full"
    for store in map(folder.cell, manifest["cells"]):
        status = store.outcome()["status"]
        untimed = full and status == "complete" and not store.timed and _is_timed(store.info())
        if status not in over or untimed:
            return False
    return summary is not None and all(cell.get("status") in over for cell in summary.get("cells", [{}]))


def _is_timed(info: Mapping[str, Any]) -> bool:
    """Whether a full latency pass times the cell: that of a model which runs here."""
    return info["origin"] != "reference" and not info.get("remote")


def _take_from_today(folder: RunFolder, run: RunSpec) -> None:
    """Take what decides which code runs from today's settings; raises UserError where the folder says another thing."""
    servers: dict[str, ServerSpec] = {}
    for group, members in (("model", run.models), ("task", run.tasks)):
        for name, spec in members.items():
            target = known_setting(group, name, "_target_")
            if target is None:
                more = "--config-dir names the folder with its file, or the same call from Python goes on with it"
                raise UserError(f"{folder.path}: there is no {group} '{name}' here; {more}.")
            today = {"_target_": current_target(target)}
            if group == "model" and spec.server:
                today["_target_"] = SERVED_CHAT if today["_target_"].startswith(CHAT) else today["_target_"]
                servers = servers or servers_of_today(folders())
                _check_server(folder, name, spec, servers)
            before = {"_target_": current_target(str(spec._target_))}
            if group == "model":
                today["trust_remote_code"] = known_setting(group, name, "trust_remote_code") or "false"
                before["trust_remote_code"] = str(spec.trust_remote_code).lower()
            for key, now in today.items():
                if now != before[key]:
                    raise UserError(
                        f"{folder.path}: {group} '{name}' has {key}: {now} in today's settings, and {before[key]} in "
                        "the run's. Start a new run, or put back what was changed."
                    )
            spec._target_ = today["_target_"]


def _check_server(folder: RunFolder, name: str, spec: Any, servers: Mapping[str, ServerSpec]) -> None:
    """Have the command of a model's server be today's; raises UserError where the run folder says another one."""
    today = servers.get(spec.server)
    if today is None or getattr(spec, "launch", None) is None or spec.launch.command != today.command:
        raise UserError(
            f"{folder.path}: model '{name}' has a server '{spec.server}' whose command is not that of today's "
            "settings. Start a new run, or put back what was changed."
        )
    spec.launch.command = list(today.command)


def keep_budgets(run: RunSpec, folder: RunFolder) -> None:
    """Have the run folder say the budgets of these settings."""
    facts = folder.manifest()
    facts["config"]["budget"] = run.budget
    for name, spec in run.models.items():
        if isinstance(spec, EndpointSpec):
            facts["config"]["models"][name]["budget"] = spec.budget
    write_json(folder.path / "run.json", facts)


FIRST_TO_RESUME = (0, 2)
"""Runs of versions before this one had fingerprints of another kind: they can be reported, and not gone on with."""


def resumed(folder: RunFolder) -> RunSpec:
    """The settings that a run was started with; raises UserError where it cannot be gone on with."""
    facts = folder.manifest()
    version = str(facts.get("harness"))
    reason = ""
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < FIRST_TO_RESUME:
        reason = "it took the fingerprints of its answers in another way, so they cannot be told from new ones"
    elif objects := [name for name, model in facts["models"].items() if model.get("object")]:
        raise UserError(
            f"{folder.path}: {', '.join(objects)} was an object of a Python program. The same call of harness.evaluate "
            f"with run={folder.name!r} goes on with it."
        )
    else:
        try:
            run = from_json(facts["config"])
            if not isinstance(run, RunSpec):
                raise KeyError("its settings are not those of a run")
            _take_from_today(folder, run)
            return run
        except (KeyError, TypeError) as error:
            reason = str(error)
    raise UserError(
        f"{folder.path} was begun by harness {version} and cannot go on with {harness.__version__}: {reason}. "
        f"Start a new run; `harness report {folder.name}` still reads the old one."
    )
