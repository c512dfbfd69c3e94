"""From records on disk to `summary.json`: scores with intervals, slices, paired comparisons and ranks.

It reads the run folder alone and needs neither a model nor a data set, so `harness report` can score an old run again
with a mended metric. The models of one `CellGroup` have the same samples, and are compared over all of them, failures
counting as wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import harness
from harness.analysis import statistics
from harness.analysis.record_table import RecordTable
from harness.analysis.scoring import SUMS, ScoredCell, chance, score
from harness.config.specs import TaskSpec, from_json
from harness.errors import UserError, commonest
from harness.metrics import Scored, finite
from harness.records import CellGroup
from harness.store.cells import CellStore
from harness.store.files import read_json
from harness.store.runs import SUMMARY, RunFolder
from harness.targets import known_target
from harness.task import Scoring, Task, make_task

INFO = {"model": str, "origin": str, "task": str, "dataset": str, "language": str, "ablate": str, "samples": int,
        "scoring": dict, "task_spec": dict}  # fmt: skip
"""What cell.json must say for its cell to be reported."""
LATENCY = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "samples_per_s", "tokens_per_s", "first_token_ms", "load_s",
           "peak_memory_mb", "batch_size")  # fmt: skip
"""Figures that every cell has, null where they are unknown; a full pass adds others."""

LEAST_COVERAGE = 0.5
"""A model that answered a smaller share of the samples has no rank."""
SHARES = ("cut_off", "refused", "empty", "unfinished")
"""Shares of a model's answers that are none, or not whole ones; null where no text was written."""
SHARED = "other processes computed on the GPU while latency was measured"


def build(folder: RunFolder) -> dict[str, Any]:
    """The object of summary.json, from the run folder alone."""
    plan = folder.manifest()
    groups: dict[CellGroup, list[tuple[dict[str, Any], CellStore]]] = defaultdict(list)
    for info, store in cells_of(folder):
        groups[CellGroup.of(info)].append((info, store))
    cells: list[dict[str, Any]] = list(_lost(folder, plan))
    comparisons: list[dict[str, Any]] = []
    tables: list[tuple[dict[str, Scored], statistics.Clusters]] = []
    for key, members in groups.items():
        try:
            group = GroupSummary(key, members, plan["seed"])
        except Exception as error:  # a task that is not there any more, or a comparison that fails
            cells += [_unscored(_blank(info, store.outcome()), error) for info, store in members]
            continue
        cells += group.cells
        comparisons += group.comparisons
        if not key.ablate:  # a model does not rank higher for doing well without what was taken away
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
        "scored_by": harness.__version__,
    }


def as_it_was(folder: RunFolder) -> dict[str, Any] | None:
    """What summary.json says, if this version scored the run's files as they are; None where they must be scored.

    Another language, or another place for the report, needs no other scores.
    """
    path = folder.path / SUMMARY
    try:
        found = read_json(path, {"cells": list, "scored_by": str})
        written = path.stat().st_mtime_ns
        stores = [folder.cell(key) for key in folder.manifest()["cells"]]
        files = [file for store in stores for file in store.folder.glob("*.json*")]
        newer = any(file.stat().st_mtime_ns > written for file in files)
    except (UserError, OSError):
        return None
    told = sum(cell.get("model") != "chance" for cell in found["cells"])
    sound = told == len(stores) and not newer and not any(store.damage for store in stores)
    return found if sound and found["scored_by"] == harness.__version__ else None


def cells_of(folder: RunFolder) -> Iterator[tuple[dict[str, Any], CellStore]]:
    """The cells of a run that have been begun, in the plan's order: what cell.json says of each, and its store."""
    for key in folder.manifest()["cells"]:
        store = folder.cell(key)
        with suppress(UserError):  # `_lost` tells of it
            yield _info(store), store


def _info(store: CellStore) -> dict[str, Any]:
    """What cell.json says; raises UserError where it is damaged or does not say what a cell is."""
    return read_json(store.folder / "cell.json", INFO)


def _lost(folder: RunFolder, plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The entries of cells that are in the plan, and whose folder is gone or does not say what they are."""
    for key in plan["cells"]:
        try:
            _info(folder.cell(key))
        except UserError as error:
            model, _, group = str(key).partition("/")
            task, dataset, language, ablate = (*group.split("."), "", "", "")[:4]
            origin = plan["models"].get(model, {}).get("origin", "reference")
            info = {"model": model, "origin": origin, "task": task, "dataset": dataset, "language": language}
            gone = not folder.cell(key).folder.exists()
            reason = "its folder is gone" if gone else str(error)
            outcome = {"status": "interrupted", "reason": f"{reason}; a resume asks it again"}
            yield _blank(info | {"ablate": ablate, "route": None, "samples": None}, outcome)


def score_cell(store: CellStore) -> ScoredCell:
    """Score one complete cell from its folder."""
    info = store.info()
    task, scoring = _task_and_scoring(info)
    return score(task, store.records(), scoring)


def _task_and_scoring(info: dict[str, Any]) -> tuple[Task, Scoring]:
    """The task by its name, with the settings that the folder keeps; raises UserError for a task that is not known."""
    scoring, target = info["scoring"], known_target("task", info["task"])
    if target is None:
        raise UserError(f"its task '{info['task']}' is not known here; --config-dir names the folder with its settings")
    try:
        spec = from_json(info["task_spec"])
    except KeyError:
        spec = None
    spec = replace(spec if isinstance(spec, TaskSpec) else TaskSpec(), _target_=target)
    task = make_task(target, spec)
    return task, Scoring(scoring["language"], tuple(scoring["labels"]), scoring["metric"])


class GroupSummary:
    """The entries of summary.json for the cells of one group, and the comparisons between them."""

    def __init__(self, key: CellGroup, members: Sequence[tuple[dict[str, Any], CellStore]], seed: int) -> None:
        self.key, self.seed = key, seed
        self.cells: list[dict[str, Any]] = []
        self.headlines: dict[str, Scored] = {}
        """Model -> headline. The other metrics' statistics are dropped as soon as their numbers are known."""
        self.ids: list[str] = []
        self.clusters: statistics.Clusters = []
        """The cluster numbers of the samples, in the order of `ids`."""
        self.task, self.scoring = _task_and_scoring(members[0][0])
        self.chance: list[dict[str, Any]] = []
        for info, store in members:
            outcome = store.outcome()
            self.cells.append(_blank(info, outcome))
            if outcome["status"] == "complete":
                self._score_or_say_why(self.cells[-1], store, outcome)
            elif info.get("remote"):  # what was spent is spent
                self.cells[-1]["cost"] = store.spent() or None
        self.cells += self.chance
        for cell in self._compared():
            cell["unranked_reason"] = self._unranked_reason(cell)
            cell["ranked"] = cell["unranked_reason"] is None
        self.comparisons = self._compare()
        rows = {cell["model"]: self.headlines[cell["model"]] for cell in self._compared() if cell["ranked"]}
        self.table = [(rows, self.clusters)] if len(rows) > 1 else []
        """What the group gives to the standings: nothing where fewer than two models are ranked."""

    def _score_or_say_why(self, cell: dict[str, Any], store: CellStore, outcome: dict[str, Any]) -> None:
        """Score a complete cell. One that cannot be scored counts as failed, and costs the others nothing."""
        blank, ids = dict(cell), self.ids
        try:
            found = score(self.task, store.records(), self.scoring)
            self._score(cell, in_order(found, self.ids), outcome)
        except Exception as error:  # a metric, a task of somebody's own, or records of another form
            self.ids = ids
            self.headlines.pop(cell["model"], None)
            cell.clear()
            cell.update(_unscored(blank, error))

    def _score(self, cell: dict[str, Any], found: ScoredCell, outcome: dict[str, Any]) -> None:
        """Fill in what the records of a complete cell say."""
        records, scored = found.records, found.scored
        first = not self.ids
        if first:
            self.ids, self.clusters = records.ids, statistics.numbered(records.clusters)
        self.headlines[cell["model"]] = scored[0]
        self._fill(cell, scored)
        refused = records.column("refused")
        errors = [None if r else error for r, error in zip(refused, records.column("error"), strict=True)]
        failed = sum(error is not None for error in errors)
        cell["samples"], cell["failed"] = len(records), failed
        cell["coverage"] = 1 - failed / len(records) if records else None
        if cell["origin"] != "reference":
            cell["text_cut"] = _text_cut(found.asked)
            cell |= found.counts
            if cell["max_new_tokens"] is None:  # 0.1.0 did not keep which answers the limit cut off
                cell["cut_off"] = None
        cell["failed_reason"] = commonest([error for error in errors if error is not None])
        cell["slices"] = statistics.slices_to_json(scored[0], self.clusters, records.column("slices"), self.seed)
        if failed and failed < len(records):
            answered = [i for i, error in enumerate(errors) if error is None]
            cell["of_answered"] = finite(replace(scored[0], statistics=scored[0].statistics[answered]).value)
        measured = dict(outcome.get("latency", {}))
        shared = SHARED if measured.get("gpu_shared") else ""
        notes = (outcome.get("note"), measured.pop("note", ""), shared, _several_names(found.counts["served_by"]))
        cell["note"] = "; ".join(filter(None, notes))
        if cell["origin"] != "reference":
            answering = {name: outcome.get(name) for name in ("load_s", "samples_per_s", "peak_memory_mb")}
            cell["latency"] |= answering | measured | {"batch_size": cell.pop("batch_size", None)}
        if first:
            self._chance(cell, found)

    def _fill(self, cell: dict[str, Any], scored: Sequence[Scored]) -> None:
        """Fill in the headline, the metrics with their intervals and definitions, and the clusters."""
        found = statistics.estimates(scored, self.clusters, self.seed)
        cell["headline"] = scored[0].metric.name
        cell["metrics"] = {
            s.metric.name: estimate.to_json()
            | {"larger_is_better": s.metric.larger_is_better, "definition": s.metric.definition}
            for s, estimate in zip(scored, found, strict=True)
        }
        cell["clusters"], cell["reliable"] = found[0].clusters, found[0].reliable
        if found[0].doubt:
            cell["doubt"] = found[0].doubt

    def _chance(self, like: dict[str, Any], found: ScoredCell) -> None:
        """Add the row of blind guessing about the same samples as the cell `like`, where it is defined."""
        scored = chance(self.task, found.asked, self.scoring)
        if not scored:
            return
        info = like | {
            "model": "chance",
            "origin": "reference",
            "route": None,
            "batch_size": None,
            "max_new_tokens": None,
        }
        cell = _blank(info, {"status": "complete"})
        scored = sorted(scored, key=lambda s: s.metric.name != like["headline"])
        self._fill(cell, scored)
        for entry in cell["metrics"].values():  # an expectation over these samples is exact, so it has no interval
            entry["low"] = entry["high"] = None
        cell["reliable"] = True
        cell.pop("doubt", None)
        cell |= {"samples": len(found.records), "failed": 0, "coverage": 1.0}
        self.chance.append(cell)

    def _compared(self) -> list[dict[str, Any]]:
        """The cells that are compared: complete ones of models."""
        return [c for c in self.cells if c["status"] == "complete" and c["origin"] != "reference"]

    def _unranked_reason(self, cell: dict[str, Any]) -> str | None:
        """Why a cell has no rank, no ★ and no win rate; None where it has.

        A model that answered less than half, or that has not been shown to beat the better one of prior and chance, has
        no place among models. Without an interval nothing has been shown.
        """
        if (cell["coverage"] or 0.0) < LEAST_COVERAGE:
            return "few_answers"
        name, metric = cell["headline"], self.headlines[cell["model"]].metric
        if cell["metrics"][name]["value"] is None:
            return "undefined"
        sign = 1 if metric.larger_is_better else -1
        bound = cell["metrics"][name]["low" if metric.larger_is_better else "high"]
        blind = [c["metrics"].get(name, {}).get("value") for c in self.cells if c["origin"] == "reference"]
        blind = [sign * value for value in blind if value is not None]
        if blind and (bound is None or sign * bound <= max(blind)):
            return "not_above_blind"
        return None

    def _compare(self) -> list[dict[str, Any]]:
        """Every pair of models on the headline. Each ranked cell gets its rank, and whether it is told from the best.

        The pairs of models without a rank are tested, and corrected for, as well.
        """
        compared = self._compared()
        rows = {cell["model"]: self.headlines[cell["model"]] for cell in compared}
        if not rows:
            return []
        metric = next(iter(rows.values())).metric
        found = statistics.compare_all(rows, self.clusters, self.seed)
        values = {cell["model"]: rows[cell["model"]].value for cell in compared if cell["ranked"]}
        ranks = statistics.rank_intervals(list(values), found, metric.larger_is_better)
        best = statistics.best_group(values, found, metric.larger_is_better)
        for cell in compared:
            cell["rank"] = list(ranks[cell["model"]]) if cell["ranked"] else None
            cell["best"] = cell["model"] in best
        return comparison_rows(self.key, metric.name, found)


def comparison_rows(group: CellGroup, metric: str, found: Sequence[statistics.Comparison]) -> list[dict[str, Any]]:
    """The entries of `comparisons` in summary.json for the pairs of one group."""
    return [
        {**group._asdict(), "metric": metric, "a": c.a, "b": c.b}
        | {name: finite(getattr(c, name)) for name in ("difference", "low", "high", "p", "p_adjusted")}
        | {"correction": c.correction, "p_holm": finite(c.p_adjusted)}  # its name in versions before this one
        | {"detectable": finite(c.detectable), "n": c.n}
        for c in found
    ]


def _blank(info: dict[str, Any], outcome: dict[str, Any]) -> dict[str, Any]:
    """A cell of summary.json with what is known before scoring; the rest is null."""
    return {
        **{key: info[key] for key in ("model", "origin", "task", "dataset", "language", "ablate", "route")},
        "status": outcome["status"],
        "reason": outcome.get("reason"),
        "samples": info["samples"],
        "dtype": info.get("dtype"),
        "remote": bool(info.get("remote")),
        "rows_left_out": info.get("rows_left_out", 0),
        "failed": None,
        "text_cut": None,
        "max_new_tokens": info.get("max_new_tokens"),
        **dict.fromkeys((*SHARES, *SUMS)),
        "headline": None,
        "metrics": {},
        "slices": {},
        "latency": dict.fromkeys(LATENCY),
        "batch_size": info.get("batch_size_that_fits", info.get("batch_size")),
    }


def _unscored(cell: dict[str, Any], error: Exception) -> dict[str, Any]:
    """The entry of a cell whose records cannot be scored; one that did not come so far stays as it is."""
    if cell["status"] != "complete":
        return cell
    return cell | {"status": "failed", "reason": why_unscored(error)}


def why_unscored(error: Exception) -> str:
    """Why records cannot be scored, from what scoring them raised."""
    reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return f"cannot be scored: {reason}"


def _several_names(served_by: dict[str, int]) -> str:
    """What a reader must know where a server answered one cell under several names of the model."""
    if len(served_by) < 2:
        return ""
    return f"the server named several models: {', '.join(f'{name} ({n})' for name, n in served_by.items())}"


def _text_cut(records: RecordTable) -> float | None:
    """The share of the samples (of retrieval, of the texts) whose text the model saw a part of alone."""
    queries = zip(records.column("text_cut"), records.column("retrieval"), strict=True)
    flags = [cut for cut, query in queries if not query or query.get("direction") == "t2i"]
    return sum(flags) / len(flags) if flags else None


def in_order(cell: ScoredCell, ids: list[str]) -> ScoredCell:
    """The cell in the order of another one's, so that pairs are pairs whatever order they were answered in.

    Raises UserError where it is not of the same samples.
    """
    if not ids or cell.records.ids == ids:
        return cell
    place = {name: i for i, name in enumerate(cell.records.ids)}
    if place.keys() != set(ids):
        raise UserError("its records are not of the samples that the other models were asked about")
    order = [place[name] for name in ids]
    scored = [replace(item, statistics=item.statistics[order]) for item in cell.scored]
    return replace(cell, records=cell.records.take(order), scored=scored)


def _standings(tables: Sequence[tuple[dict[str, Scored], statistics.Clusters]], seed: int) -> list[dict[str, Any]]:
    """Win rate and mean rank over the tables, where there are at least two."""
    if len(tables) < 2:
        return []
    return [
        {name: finite(value) if isinstance(value, float) else value for name, value in vars(standing).items()}
        for standing in statistics.standings(tables, seed)
    ]
