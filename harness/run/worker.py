"""The worker: runs one job, one model with its cells, and yields what happens as events.

It knows base classes only and writes nothing. An error that belongs to no sample fails its cell, or the model that did
not load; a device that is lost to its process ends the process: a fresh one goes on.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from harness import data, media
from harness.adapter import Adapter
from harness.clock import Clock
from harness.config.specs import to_json
from harness.data.ablation import ablated
from harness.dataset import Dataset
from harness.errors import OutOfBudget, counted
from harness.measure import latency, machine
from harness.run import streams
from harness.run.cell_runner import LONGEST, CellRunner
from harness.run.faults import PAUSES, DeviceLost, describe, may_pass, no_exit
from harness.run.messages import (
    CellEnded,
    CellJob,
    CellStarted,
    Died,
    Event,
    Failed,
    Job,
    Loaded,
    OutOfMoney,
    Resized,
    Timed,
    TimingBegun,
)
from harness.run.purse import Purse
from harness.store import secrets
from harness.targets import load_class
from harness.task import Task, make_task


def run(
    job: Job,
    stopping: Callable[[], bool] = lambda: False,
    adapter: Adapter | None = None,
    paused: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Run the job; ends early, between two batches, once `stopping()` is true.

    `adapter` is an object to ask in place of one that is made of the job's settings. While `paused()` is true a stream
    asks nothing more, and nothing is timed.
    """
    secrets.name_variables(to_json(job.model))
    clock, purse = Clock(), Purse(job.model, job.budget)
    try:
        with no_exit():
            import_s = _import(type(adapter) if adapter else load_class(job.model._target_, Adapter))
            adapter, load_s = _load(job, clock, adapter)
    except Exception as error:
        yield Failed(None, f"{job.name} did not load: {describe(error)}")
        return
    yield Loaded(load_s)
    cold = {"import_s": round(import_s, 3), "load_s": round(load_s, 3)}
    for cell in job.cells:
        if stopping():
            break
        yield CellStarted(cell.key)
        try:
            if job.timing:
                yield from _time_cell(adapter, clock, job, cell, purse, stopping, cold)
            else:
                yield from _run_cell(adapter, clock, job, cell, purse, stopping, paused)
        except DeviceLost as error:
            yield Died(str(error))
            return
        except streams.Unusable as error:
            yield Failed(None, f"{job.name}: {error}", again=True)
            break
        except OutOfBudget as error:
            yield OutOfMoney(describe(error))
            break
        except Exception as error:
            yield Failed(cell.key, describe(error))
    try:
        adapter.close()
    except Exception as error:  # every answer is out; the process ends anyway
        yield Died(f"closing failed: {describe(error)}")


def _import(adapter: type[Adapter]) -> float:
    """Import what loading will, so that loading is not charged for it; the seconds it took."""
    start = time.perf_counter()
    for name in adapter.imports:
        importlib.import_module(name)
    return time.perf_counter() - start


def _load(job: Job, clock: Clock, adapter: Adapter | None) -> tuple[Adapter, float]:
    """The loaded adapter, and the seconds that loading took once nothing was in its way."""
    machine.use_exact_float32(job.device)
    for pause in (*PAUSES, None):
        start = time.perf_counter()
        try:
            loaded = adapter or load_class(job.model._target_, Adapter)(job.model, **job.model.options)
            loaded.load(job.device, clock)
            machine.synchronise(job.device)
            return loaded, time.perf_counter() - start
        except Exception as error:
            if pause is None or not may_pass(error):
                raise
            time.sleep(pause)
    raise AssertionError("unreachable: the last try returns or raises")


def open_dataset(cell: CellJob, task: Task, data_dir: str | None) -> Dataset:
    """The cell's samples after its ablation: the data set's, or those of it that were drawn."""
    dataset = data.load(cell.dataset_name, cell.dataset, task.name, cell.language, data_dir=data_dir)
    if cell.ablate.startswith("shuffled-"):
        dataset = task.clustered(dataset)
    dataset = ablated(dataset, cell.ablate, cell.seed)
    return dataset if cell.indices is None else dataset.take(cell.indices)


def _runner(adapter: Adapter, clock: Clock, job: Job, cell: CellJob, purse: Purse) -> CellRunner:
    task = make_task(cell.task._target_, cell.task)
    dataset = open_dataset(cell, task, job.data_dir)
    return CellRunner(adapter, clock, job=job, cell=cell, task=task, dataset=dataset, purse=purse)


def _run_cell(
    adapter: Adapter,
    clock: Clock,
    job: Job,
    cell: CellJob,
    purse: Purse,
    stopping: Callable[[], bool],
    paused: Callable[[], bool],
) -> Iterator[Event]:
    runner = _runner(adapter, clock, job, cell, purse)
    asked, size = 0, cell.batch_size
    total = sum(stop - start for start, stop in cell.batches)
    batches = streams.answers(runner, stopping, paused) if cell.stream else runner.batches(cell.batches, stopping)
    with media.remembered() if runner.shares_media else nullcontext():
        for batch, outcomes, seconds in batches:
            if runner.size.kept != size:
                size = runner.size.kept
                yield Resized(cell.key, size)
            event = runner.event(batch, outcomes, seconds)
            asked += len(event)
            yield event
    if runner.first.hopeless:
        rest = "; the rest was not asked" if asked < total else ""
        count, error = runner.first.count, runner.first.error
        yield Failed(cell.key, f"{count} of {count} failed: {error}{rest}", again=True)
        return
    if asked < total:
        return
    figures: dict[str, Any] = {}
    if job.latency.mode == "quick" or (job.latency.mode == "full" and job.model.remote):
        yield TimingBegun(cell.key)

        def ready(unit: latency.TimedUnit, tokens: int) -> Callable[[], list[Any]]:
            while paused() and not stopping():
                time.sleep(streams.CHECK)
            return runner.ready(unit, tokens)

        stops = stopping if job.model.remote else lambda: False
        watch = latency.Stopwatch(ready, clock, job.device, stops)
        figures = latency.quick(watch, runner.items.timed_units(), job.latency, job.latency.seconds / len(job.cells))
        if stops():  # a resume times it to its end
            return
        if runner.timing_cost:
            figures["cost"] = round(runner.timing_cost, 6)
    notes = list(adapter.remarks())
    if runner.shortened:
        notes.append(f"{counted(runner.shortened, 'answer')} cut at {LONGEST:,} characters")
    if runner.size.failed:
        notes.append(f"memory ran out in {counted(runner.size.failed, 'batch', 'batches')}, asked in smaller parts")
    elsewhere = job.model.remote or getattr(job.model, "launch", None)  # the memory of a server is not this process's
    peak = None if elsewhere else machine.peak_memory_mb(job.device)
    yield CellEnded(cell.key, peak, figures, "; ".join(notes))


def _time_cell(
    adapter: Adapter,
    clock: Clock,
    job: Job,
    cell: CellJob,
    purse: Purse,
    stopping: Callable[[], bool],
    cold: dict[str, float],
) -> Iterator[Event]:
    """The full latency pass of a cell whose answers are there; in the data set's own order, as its first batches are
    timed and should hold short questions and long ones."""
    runner = _runner(adapter, clock, job, replace(cell, indices=cell.indices and tuple(sorted(cell.indices))), purse)
    watch = latency.Stopwatch(runner.ready, clock, job.device, stopping)
    figures: dict[str, Any] = {}
    for figures in latency.full(watch, runner.items.timed_units(), job.latency):
        yield Timed(cell.key, cold | figures)
    if not stopping():
        yield Timed(cell.key, cold | figures, done=True)
