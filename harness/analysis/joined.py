"""Several runs in one table: which of their cells share their samples, and the tests over all models of these.

Runs whose ids stand for the same content make one table, in which every pair of models is tested, with one correction
over all of them. A run whose ids stand for other content has a table of its own: its figures are not of the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.analysis import statistics
from harness.analysis.pairing import Pairing, pair
from harness.analysis.summary import comparison_rows, in_order, score_cell
from harness.records import CellGroup
from harness.store.cells import CellStore
from harness.store.runs import RunFolder


@dataclass
class _Table:
    """The cells of a group that share their samples."""

    first: CellStore
    headline: str
    cells: list[tuple[int, dict[str, Any], CellStore]] = field(default_factory=list)
    """The number of the run, the entry of summary.json, and the store."""
    pairings: list[Pairing] = field(default_factory=list)
    """How each further run fits the first one."""
    apart: Pairing | None = None
    """How its first run fits the group's first table, in which it is not."""

    @property
    def runs(self) -> list[int]:
        return list(dict.fromkeys(run for run, _, _ in self.cells))


def join(folders: Sequence[RunFolder], summaries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a joined report needs to know of each table of a group that several runs have: {the group's keys, "part",
    "runs": their numbers, "comparisons", "cells": [{"run", "model", "rank", "best"}], "by_id", "by_words", "other",
    "samples"}.

    `summaries` are the folders' summaries. A group of which a run has other content than the runs before it has several
    parts, from 0; `other` counts its ids that stand for something else (all of them where the ids differ).
    """
    groups: dict[CellGroup, dict[int, list[tuple[dict[str, Any], CellStore]]]] = {}
    for run, (folder, summary) in enumerate(zip(folders, summaries, strict=True)):
        for cell in summary["cells"]:
            if cell["status"] == "complete" and cell["origin"] != "reference":
                group = CellGroup.of(cell)
                own = groups.setdefault(group, {}).setdefault(run, [])
                own.append((cell, folder.cell(f"{cell['model']}/{group.name}")))
    seed = summaries[0]["seed"]
    return [
        _told(group, part, table, seed)
        for group, by_run in groups.items()
        if len(by_run) > 1
        for part, table in enumerate(_tables(by_run))
    ]


def _tables(by_run: Mapping[int, Sequence[tuple[dict[str, Any], CellStore]]]) -> list[_Table]:
    """The tables of one group, in the order of the runs."""
    tables: list[_Table] = []
    for run, cells in by_run.items():
        entry, store = cells[0]
        apart = None
        for table in tables:
            pairing = pair(table.first, store)
            if not pairing.refused and table.headline == entry["headline"]:
                table.pairings.append(pairing)
                break
            apart = apart or pairing
        else:
            table = _Table(store, entry["headline"], apart=apart)
            tables.append(table)
        table.cells += [(run, *cell) for cell in cells]
    return tables


def _told(group: CellGroup, part: int, table: _Table, seed: int) -> dict[str, Any]:
    apart = table.apart
    told: dict[str, Any] = {**group._asdict(), "part": part, "runs": table.runs, "comparisons": [], "cells": []}
    told |= {"by_id": max((p.by_id for p in table.pairings), default=0)}
    told |= {"by_words": max((p.by_words for p in table.pairings), default=0)}
    told |= {"other": (apart.other if apart.ids else apart.samples[1]) if apart else 0}
    told |= {"samples": apart.samples[1] if apart else 0}
    if len(table.runs) < 2:
        return told
    ids: list[str] = []
    clusters: statistics.Clusters = []
    rows = {}
    for run, cell, store in table.cells:
        found = in_order(score_cell(store), ids)
        if not ids:
            ids, clusters = found.records.ids, statistics.numbered(found.records.clusters)
        rows[f"{run}/{cell['model']}"] = found.scored[0]
    metric = next(iter(rows.values())).metric
    tests = statistics.compare_all(rows, clusters, seed)
    values = {f"{run}/{cell['model']}": cell for run, cell, _ in table.cells}
    ranked = {name: rows[name].value for name, cell in values.items() if cell["ranked"]}
    ranks = statistics.rank_intervals(list(ranked), tests, metric.larger_is_better)
    best = statistics.best_group(ranked, tests, metric.larger_is_better)
    for name in values:
        run, _, model = name.partition("/")
        rank = list(ranks[name]) if name in ranks else None
        told["cells"].append({"run": int(run), "model": model, "rank": rank, "best": name in best})
    for row in comparison_rows(group, metric.name, tests):
        for side in ("a", "b"):
            run, _, row[side] = row[side].partition("/")
            row[f"{side}_run"] = int(run)
        told["comparisons"].append(row)
    return told
