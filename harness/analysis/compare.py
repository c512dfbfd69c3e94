"""`harness compare`: is run B worse than run A, model by model? A gate for somebody's CI.

Cells of both runs are paired sample by sample over all their samples, failures counting as wrong, and tested on the
headline metric; p values are corrected over everything that is compared. A cell that A has and B has not counts as
worse: a model must not pass by crashing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis import statistics
from harness.analysis.summary import score_cell
from harness.errors import UserError
from harness.store.runs import RunFolder

Key = tuple[str, str, str, str, str]
"""Model, task, data set, language, ablation."""


@dataclass(frozen=True)
class Row:
    """One cell in both runs; values are None where a run has none."""

    model: str
    task: str
    dataset: str
    language: str
    ablate: str
    metric: str | None
    a: float | None
    b: float | None
    difference: float | None
    """b minus a."""
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    n: int
    verdict: str
    """better, worse, same (not distinguishable), or missing (in B) and failed (in B), which count as worse."""


def compare(a: RunFolder, b: RunFolder) -> list[Row]:
    """Every cell of A with its counterpart in B. Raises UserError when the runs share no cell, or not the samples."""
    left, right = _cells(a), _cells(b)
    shared = [key for key in left if key in right]
    if not shared:
        raise UserError(f"{a.name} and {b.name} have no model on the same task, data set and language in common.")
    found: dict[Key, tuple[Any, statistics.Comparison]] = {}
    for key in shared:
        if left[key][1]["status"] == right[key][1]["status"] == "complete":
            found[key] = _pair(a, b, key)
    corrected = dict(zip(found, statistics.holm([c.p for _, c in found.values()]), strict=True))
    rows = []
    for key, (_, outcome) in left.items():
        if outcome["status"] != "complete":
            continue
        if key in found:
            rows.append(_row(key, *found[key], corrected[key]))
        else:
            verdict = "failed" if key in right else "missing"
            empty = dict.fromkeys(("metric", "a", "b", "difference", "low", "high", "p", "p_holm"))
            rows.append(Row(*key, **empty, n=outcome["count"], verdict=verdict))  # pyright: ignore[reportArgumentType]
    return rows


def worse(rows: Sequence[Row]) -> list[Row]:
    """The rows that a gate must stop at."""
    return [row for row in rows if row.verdict in ("worse", "failed", "missing")]


def _cells(run: RunFolder) -> dict[Key, tuple[str, Mapping[str, Any]]]:
    """The models' cells of a run: folder and outcome by key; reference rows and skipped cells left out."""
    cells = {}
    for path in run.manifest()["cells"]:
        store = run.cell(path)
        if not (store.folder / "cell.json").exists():
            continue
        info, outcome = store.info(), store.outcome()
        if info["origin"] != "reference" and outcome["status"] != "skipped":
            key = tuple(info[name] for name in ("model", "task", "dataset", "language", "ablate"))
            cells[key] = (path, outcome)
    return cells


def _pair(a: RunFolder, b: RunFolder, key: Key) -> tuple[Any, statistics.Comparison]:
    left, right = (score_cell(run.cell(_cells(run)[key][0])) for run in (a, b))
    ids = left.records.ids
    by_id = {name: i for i, name in enumerate(right.records.ids)}
    if set(ids) != set(by_id):
        cell = ".".join(part for part in key if part)
        raise UserError(
            f"{cell}: {a.name} has {len(ids)} samples and {b.name} {len(by_id)}, not the same ones; only runs over the "
            "same samples (limit, seed, split) can be compared."
        )
    order = [by_id[name] for name in ids]
    ours = right.scored[0]
    other = type(ours)(ours.metric, ours.statistics[order])
    return (left.scored[0], other), statistics.compare(other, left.scored[0], left.records.clusters)


def _row(key: Key, scored: Any, found: statistics.Comparison, p_holm: float) -> Row:
    metric = scored[0].metric
    verdict = "same"
    if p_holm < 1 - statistics.LEVEL:
        verdict = "better" if (found.difference > 0) == metric.larger_is_better else "worse"

    def shown(value: float) -> float | None:
        return value if math.isfinite(value) else None

    numbers = (scored[0].value, scored[1].value, found.difference, found.low, found.high, found.p, p_holm)
    return Row(*key, metric.name, *map(shown, numbers), n=found.n, verdict=verdict)
