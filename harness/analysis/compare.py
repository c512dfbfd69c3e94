"""`harness compare`: is run B worse than run A, model by model? A gate for somebody's CI.

Cells of both runs are paired sample by sample over all their samples, failures counting as wrong, and tested on the
headline metric; p values are corrected over everything that is compared. A cell that A has and B has not counts as
worse: a model must not pass by crashing. So does one that cannot be compared, as its ids stand for other content, or
that cannot be tested, as all its samples are in one cluster: a gate must not pass on what nobody looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.analysis import statistics
from harness.analysis.pairing import Pairing, pair
from harness.analysis.summary import cells_of, in_order, score_cell, why_unscored
from harness.errors import UserError, nearest
from harness.metrics import ALPHA, Scored, finite
from harness.records import CellGroup
from harness.store.cells import CellStore
from harness.store.runs import RunFolder

FAILING = ("worse", "failed", "missing", "not comparable", "cannot be tested")
"""The verdicts that a gate stops at."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One cell in both runs; values are None where a run has none."""

    model: str
    model_b: str
    """The model of B, where it is another."""
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
    p_adjusted: float | None = None
    """After the correction over all that is compared."""
    correction: str = "holm"
    p_holm: float | None = None
    """The same, by its name in versions before this one."""
    n: int
    verdict: str
    """better, worse or same (not distinguishable); or missing (in B), failed (in B), not comparable or cannot be
    tested, which count as worse."""
    reason: str = ""
    """Why it is not comparable or cannot be tested."""
    note: str = ""
    """How samples were paired whose content could not be compared."""


class _Key(NamedTuple):
    """What a cell of A and its counterpart in B have in common."""

    model: str
    """Empty where two models were named."""
    group: CellGroup


class _Cell(NamedTuple):
    model: str
    store: CellStore
    outcome: Mapping[str, Any]


class _Pair(NamedTuple):
    """A cell's headline in both runs, over the same samples in the same order, and the test of b against a; only
    `pairing` says anything where they are not the same samples."""

    pairing: Pairing
    reason: str
    """Why the two are not comparable; empty where they are."""
    a: Scored | None = None
    b: Scored | None = None
    test: statistics.Comparison | None = None
    dtypes: str = ""
    """A remark on what the two were computed in, where it differs."""


def compare(a: RunFolder, b: RunFolder, model_a: str = "", model_b: str = "") -> list[Row]:
    """Every complete cell of A with its counterpart in B: model by model, or the one model of A with the one of B where
    any is named (the other run's is the same, unless it is named too).

    Raises UserError when the runs share no cell, or when none that they share can be compared.
    """
    left, right = _cells(a, model_a or model_b), _cells(b, model_b or model_a)
    shared = [key for key in left if key in right]
    if not shared:
        what = "task, data set and language" if model_a or model_b else "model on the same task, data set and language"
        raise UserError(f"{a.name} and {b.name} have no {what} in common.")
    pairs = {
        key: _pair(left[key], right[key])
        for key in shared
        if left[key].outcome["status"] == right[key].outcome["status"] == "complete"
    }
    if pairs and all(pair.reason for pair in pairs.values()):
        reasons = "; ".join(f"{_name(left[key], key)}: {pair.reason}" for key, pair in list(pairs.items())[:3])
        raise UserError(f"{a.name} and {b.name} cannot be compared. {reasons}.")
    tested = [pair.test.p if pair.test else math.nan for pair in pairs.values()]
    corrected = dict(zip(pairs, statistics.holm(tested), strict=True))
    rows = []
    for key, cell in left.items():
        if cell.outcome["status"] != "complete":
            continue
        known = {"model": cell.model, "model_b": right[key].model if key in right else "", **key.group._asdict()}
        if key in pairs:
            rows.append(_row(known, pairs[key], corrected[key]))
        else:
            verdict = "failed" if key in right else "missing"
            rows.append(Row(**known, n=cell.outcome["count"], verdict=verdict))
    return rows


def worse(rows: Sequence[Row]) -> list[Row]:
    """The rows that a gate must stop at."""
    return [row for row in rows if row.verdict in FAILING]


def _name(cell: _Cell, key: _Key) -> str:
    return f"{cell.model}.{key.group.name}"


def _cells(run: RunFolder, only: str) -> dict[_Key, _Cell]:
    """The models' cells of a run (those of one model, where it is named), without reference rows and skipped cells."""
    cells: dict[_Key, _Cell] = {}
    models: dict[str, None] = {}
    for info, store in cells_of(run):
        outcome = store.outcome()
        if info["origin"] == "reference":
            continue
        models[info["model"]] = None
        if outcome["status"] != "skipped" and info["model"] == (only or info["model"]):
            cells[_Key("" if only else info["model"], CellGroup.of(info))] = _Cell(info["model"], store, outcome)
    if only and only not in models:
        raise UserError(f"{run.name} has no model '{only}'. {nearest(only, models)}")
    return cells


def _pair(a: _Cell, b: _Cell) -> _Pair:
    """Score one cell of both runs and test the difference, if they were asked the same."""
    left, right = a.store, b.store
    pairing = pair(left, right)
    if pairing.refused:
        return _Pair(pairing, pairing.refused)
    try:
        ours = score_cell(left)
        theirs = in_order(score_cell(right), ours.records.ids)
    except Exception as error:  # a metric, a task of somebody's own, or records of another form
        return _Pair(pairing, why_unscored(error))
    first, second = ours.scored[0], theirs.scored[0]
    if first.metric.name != second.metric.name:
        return _Pair(pairing, f"one has the headline {first.metric.name}, the other {second.metric.name}")
    test = statistics.compare(second, first, ours.records.clusters)
    return _Pair(pairing, "", first, second, test, _dtypes(a, b))


def _dtypes(a: _Cell, b: _Cell) -> str:
    """A remark where the two were computed in different dtypes, which alone can change an answer."""
    first, second = (cell.store.info().get("dtype") for cell in (a, b))
    if not first or not second or first == second:
        return ""
    names = a.model if a.model == b.model else f"{a.model} and {b.model}"
    return f"{names}: computed in {first} in A and in {second} in B"


def _row(known: dict[str, Any], pair: _Pair, p: float) -> Row:
    if pair.a is None or pair.b is None or pair.test is None:
        return Row(**known, n=pair.pairing.samples[0], verdict="not comparable", reason=pair.reason)
    metric, test = pair.a.metric, pair.test
    verdict, reason = "same", ""
    if math.isnan(p):
        verdict = "cannot be tested"
        reason = "a score is undefined" if math.isnan(test.difference) else "all samples are in one cluster"
    elif p < ALPHA:
        verdict = "better" if (test.difference > 0) == metric.larger_is_better else "worse"
    return Row(
        **known,
        metric=metric.name,
        a=finite(pair.a.value),
        b=finite(pair.b.value),
        difference=finite(test.difference),
        low=finite(test.low),
        high=finite(test.high),
        p=finite(test.p),
        p_adjusted=finite(p),
        p_holm=finite(p),
        n=test.n,
        verdict=verdict,
        reason=reason,
        note="; ".join(filter(None, (pair.pairing.note, pair.dtypes))),
    )
