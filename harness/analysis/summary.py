"""From records on disk to `summary.json`: scores with intervals, slices, paired comparisons and ranks.

It reads the run folder alone and needs no model and no data set, so `harness report` can score an old run again with a
mended metric. Models of one task x data set x language (x ablation) are one group: they have the same samples, and are
compared over all of them, failures counting as wrong.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis import statistics
from harness.analysis.record_table import RecordTable
from harness.config.specs import from_json
from harness.metrics import Scored
from harness.store.cells import CellStore
from harness.store.runs import RunFolder
from harness.task import Scoring, Task, make_task

LATENCY = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "samples_per_s", "tokens_per_s", "first_token_ms", "load_s",
           "peak_memory_mb", "batch_size")  # fmt: skip

SHARED = "other processes computed on the GPU while latency was measured"


def build(folder: RunFolder) -> dict[str, Any]:
    """The object of summary.json, from the run folder alone."""
    plan = folder.manifest()
    groups: dict[tuple[str, ...], list[tuple[dict[str, Any], CellStore]]] = defaultdict(list)
    for key in plan["cells"]:
        store = folder.cell(key)
        if (store.folder / "cell.json").exists():
            info = store.info()
            groups[info["task"], info["dataset"], info["language"], info["ablate"]].append((info, store))
    cells: list[dict[str, Any]] = []
    comparisons: list[dict[str, Any]] = []
    tables: list[tuple[dict[str, Scored], list[str]]] = []
    for members in groups.values():
        group = GroupSummary(members, plan["seed"])
        cells += group.cells
        comparisons += group.comparisons
        if not group.cells[0]["ablate"]:  # a model is no better for missing what it was not given
            tables += group.table
    return {
        "run": folder.name,
        "machine": plan["machine"],
        "seed": plan["seed"],
        "cells": cells,
        "comparisons": comparisons,
        "standings": _standings(tables, plan["seed"]),
        **{key: plan[key] for key in ("started", "harness", "models", "datasets", "prompts", "left_out")},
        "seconds": plan.get("seconds"),
    }


@dataclass(frozen=True)
class ScoredCell:
    """A complete cell's records and what they score."""

    records: RecordTable
    scored: list[Scored]


def score_cell(store: CellStore) -> ScoredCell:
    """Score one complete cell from its folder."""
    info = store.info()
    task, scoring = _task_and_scoring(info)
    records = RecordTable(store.records())
    return ScoredCell(records, task.score(records, scoring))


def _task_and_scoring(info: dict[str, Any]) -> tuple[Task, Scoring]:
    scoring = info["scoring"]
    task = make_task(info["task_spec"]["_target_"], from_json(info["task_spec"]))
    return task, Scoring(scoring["language"], tuple(scoring["labels"]), scoring["metric"])


class GroupSummary:
    """The cells that may be compared with one another."""

    def __init__(self, members: Sequence[tuple[dict[str, Any], CellStore]], seed: int) -> None:
        self.seed = seed
        self.cells: list[dict[str, Any]] = []
        self.headlines: dict[str, Scored] = {}
        """By model; the other metrics' statistics are dropped as soon as their numbers are known."""
        self.ids: list[str] = []
        self.clusters: Any = []
        """Cluster numbers of the samples, in the order of `ids`."""
        info = members[0][0]
        self.task, self.scoring = _task_and_scoring(info)
        self.chance: list[dict[str, Any]] = []
        for info, store in members:
            outcome = store.outcome()
            self.cells.append(_blank(info, outcome))
            if outcome["status"] == "complete":
                self._score(self.cells[-1], _in_order(RecordTable(store.records()), self.ids), outcome)
        self.cells += self.chance
        self.comparisons = self._compare()
        rows = {c["model"]: self.headlines[c["model"]] for c in self._ranked()}
        self.table = [(rows, self.clusters)] if len(rows) > 1 else []

    def _score(self, cell: dict[str, Any], records: RecordTable, outcome: dict[str, Any]) -> None:
        first = not self.ids
        if first:
            self.ids, self.clusters = records.ids, statistics.numbered(records.clusters)
        scored = self.task.score(records, self.scoring)
        self.headlines[cell["model"]] = scored[0]
        self._fill(cell, scored)
        errors = records.column("error")
        failed = sum(error is not None for error in errors)
        cell["samples"], cell["failed"] = len(records), failed
        cell["coverage"] = 1 - failed / len(records) if records else None
        cell["slices"] = self._slices(scored[0], records)
        if failed and failed < len(records):
            answered = records.take([i for i, error in enumerate(errors) if error is None])
            cell["of_answered"] = _number(self.task.score(answered, self.scoring)[0].value)
        measured = dict(outcome.get("latency", {}))
        shared = SHARED if measured.get("gpu_shared") else ""
        cell["note"] = "; ".join(filter(None, (outcome.get("note"), measured.pop("note", ""), shared)))
        if cell["origin"] != "reference":
            answering = {name: outcome.get(name) for name in ("load_s", "samples_per_s", "peak_memory_mb")}
            cell["latency"] |= answering | measured | {"batch_size": cell.pop("batch_size", None)}
        if first:
            self._chance(cell, records)

    def _fill(self, cell: dict[str, Any], scored: Sequence[Scored]) -> None:
        """Headline, metrics with intervals, definitions, clusters."""
        found = statistics.estimates(scored, self.clusters, self.seed)
        cell["headline"] = scored[0].metric.name
        cell["metrics"] = {s.metric.name: _interval(e) for s, e in zip(scored, found, strict=True)}
        cell["definition"] = {s.metric.name: s.metric.definition for s in scored}
        cell["clusters"], cell["reliable"] = found[0].clusters, found[0].reliable
        if found[0].doubt:
            cell["doubt"] = found[0].doubt

    def _slices(self, headline: Scored, records: RecordTable) -> dict[str, Any]:
        parts = statistics.slices([headline], self.clusters, records.column("slices"), self.seed)
        return {
            name: {
                value: {"n": n, "metrics": {headline.metric.name: _interval(found[0])}}
                for value, (n, found) in values.items()
            }
            for name, values in parts.items()
        }

    def _chance(self, like: dict[str, Any], records: RecordTable) -> None:
        """The row of blind guessing about the same samples as another cell, where it is defined."""
        scored = self.task.chance(records, self.scoring)
        if not scored:
            return
        info = like | {"model": "chance", "origin": "reference", "route": None, "batch_size": None}
        cell = _blank(info, {"status": "complete"})
        scored = sorted(scored, key=lambda s: s.metric.name != like["headline"])
        self._fill(cell, scored)
        for entry in cell["metrics"].values():  # an expectation over these samples: exact, so it has no interval
            entry["low"] = entry["high"] = None
        cell["reliable"] = True
        cell.pop("doubt", None)
        cell |= {"samples": len(records), "failed": 0, "coverage": 1.0}
        self.chance.append(cell)

    def _ranked(self) -> list[dict[str, Any]]:
        return [c for c in self.cells if c["status"] == "complete" and c["origin"] != "reference"]

    def _compare(self) -> list[dict[str, Any]]:
        """Every pair of models on the headline; marks ranks and the group that is not told from the best."""
        rows = {cell["model"]: self.headlines[cell["model"]] for cell in self._ranked()}
        if not rows:
            return []
        found = statistics.compare_all(rows, self.clusters, self.seed)
        larger = next(iter(rows.values())).metric.larger_is_better
        ranks = statistics.rank_intervals(list(rows), found, larger)
        best = statistics.best_group({name: s.value for name, s in rows.items()}, found, larger)
        for cell in self._ranked():
            cell["rank"] = list(ranks[cell["model"]])
            cell["best"] = cell["model"] in best
        head = self.cells[0]
        same = {key: head[key] for key in ("task", "dataset", "language", "ablate")}
        return [
            {**same, "metric": next(iter(rows.values())).metric.name, "a": c.a, "b": c.b}
            | {k: _number(getattr(c, k)) for k in ("difference", "low", "high", "p", "p_holm", "detectable")}
            | {"n": c.n}
            for c in found
        ]


def _blank(info: dict[str, Any], outcome: dict[str, Any]) -> dict[str, Any]:
    """A cell of summary.json with what is known before scoring; the rest is null."""
    return {
        **{key: info[key] for key in ("model", "origin", "task", "dataset", "language", "ablate", "route")},
        "status": outcome["status"],
        "reason": outcome.get("reason"),
        "samples": info["samples"],
        "failed": None,
        "headline": None,
        "metrics": {},
        "slices": {},
        "latency": dict.fromkeys(LATENCY),
        "batch_size": info.get("batch_size_that_fits", info.get("batch_size")),
    }


def _in_order(records: RecordTable, ids: list[str]) -> RecordTable:
    """The records in the order of another cell's, so that pairs are pairs whatever order they were answered in."""
    if not ids or records.ids == ids:
        return records
    place = {name: i for i, name in enumerate(records.ids)}
    return records.take([place[name] for name in ids])


def _interval(found: statistics.Estimate) -> dict[str, float | None]:
    return {name: _number(getattr(found, name)) for name in ("value", "low", "high")}


def _number(value: float) -> float | None:
    """JSON has no NaN: what is undefined is null."""
    return float(value) if math.isfinite(value) else None


def _standings(tables: Sequence[tuple[dict[str, Scored], Sequence[str]]], seed: int) -> list[dict[str, Any]]:
    """Win rate and mean rank over the tables, where there are at least two."""
    if len(tables) < 2:
        return []
    return [
        {k: _number(v) if isinstance(v, float) else v for k, v in vars(s).items()}
        for s in statistics.standings(tables, seed)
    ]
