"""`harness compare`: is run B worse than run A, model by model? A gate for somebody's CI.

Cells of both runs are paired sample by sample over all their samples, failures counting as wrong, and tested on the
headline metric; p values are corrected over everything that is compared. A cell that A has and B has not counts as
worse: a model must not pass by crashing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from harness.analysis import statistics
from harness.analysis.summary import cells_of, score_cell
from harness.errors import UserError, counted
from harness.metrics import ALPHA, Scored, finite
from harness.records import CellGroup
from harness.store.cells import CellStore
from harness.store.runs import RunFolder


@dataclass(frozen=True, kw_only=True)
class Row:
    """One cell in both runs; values are None where a run has none."""

    model: str
    task: str
    dataset: str
    language: str
    ablate: str
    metric: str | None = None
    a: float | None = None
    b: float | None = None
    difference: float | None = None
    """b minus a."""
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    n: int
    verdict: str
    """better, worse or same (not distinguishable); or missing (in B) or failed (in B), which count as worse."""


class _Key(NamedTuple):
    """What a cell of A and its counterpart in B have in common."""

    model: str
    group: CellGroup


class _Cell(NamedTuple):
    store: CellStore
    outcome: Mapping[str, Any]


class _Pair(NamedTuple):
    """A cell's headline in both runs, over the same samples in the same order, and the test of b against a."""

    a: Scored
    b: Scored
    test: statistics.Comparison


def compare(a: RunFolder, b: RunFolder) -> list[Row]:
    """Every complete cell of A with its counterpart in B.

    Raises UserError when the runs share no cell, or when a cell they share is not over the same samples.
    """
    left, right = _cells(a), _cells(b)
    shared = [key for key in left if key in right]
    if not shared:
        raise UserError(f"{a.name} and {b.name} have no model on the same task, data set and language in common.")
    pairs = {
        key: _pair(a, b, key, left[key].store, right[key].store)
        for key in shared
        if left[key].outcome["status"] == right[key].outcome["status"] == "complete"
    }
    corrected = dict(zip(pairs, statistics.holm([pair.test.p for pair in pairs.values()]), strict=True))
    rows = []
    for key, cell in left.items():
        if cell.outcome["status"] != "complete":
            continue
        if key in pairs:
            rows.append(_row(key, pairs[key], corrected[key]))
        else:
            verdict = "failed" if key in right else "missing"
            rows.append(Row(model=key.model, **key.group._asdict(), n=cell.outcome["count"], verdict=verdict))
    return rows


def worse(rows: Sequence[Row]) -> list[Row]:
    """The rows that a gate must stop at."""
    return [row for row in rows if row.verdict in ("worse", "failed", "missing")]


def _cells(run: RunFolder) -> dict[_Key, _Cell]:
    """The models' cells of a run, without reference rows and skipped cells."""
    cells = {}
    for info, store in cells_of(run):
        outcome = store.outcome()
        if info["origin"] != "reference" and outcome["status"] != "skipped":
            cells[_Key(info["model"], CellGroup.of(info))] = _Cell(store, outcome)
    return cells


def _pair(a: RunFolder, b: RunFolder, key: _Key, left: CellStore, right: CellStore) -> _Pair:
    """Score one cell of both runs and test the difference."""
    ours, theirs = score_cell(left), score_cell(right)
    ids = ours.records.ids
    place = {name: i for i, name in enumerate(theirs.records.ids)}
    if set(ids) != set(place):
        raise UserError(
            f"{key.model}.{key.group.name}: {a.name} has {counted(len(ids), 'sample')} and {b.name} {len(place)}, not "
            "the same ones; only runs over the same samples (limit, seed, split) can be compared."
        )
    first, second = ours.scored[0], theirs.scored[0]
    second = replace(second, statistics=second.statistics[[place[name] for name in ids]])
    return _Pair(first, second, statistics.compare(second, first, ours.records.clusters))


def _row(key: _Key, pair: _Pair, p_holm: float) -> Row:
    metric, test = pair.a.metric, pair.test
    verdict = "same"
    if p_holm < ALPHA:
        verdict = "better" if (test.difference > 0) == metric.larger_is_better else "worse"
    return Row(
        model=key.model,
        **key.group._asdict(),
        metric=metric.name,
        a=finite(pair.a.value),
        b=finite(pair.b.value),
        difference=finite(test.difference),
        low=finite(test.low),
        high=finite(test.high),
        p=finite(test.p),
        p_holm=finite(p_holm),
        n=test.n,
        verdict=verdict,
    )
