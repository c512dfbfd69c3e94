"""Retrieval metrics from what is kept of each query: the rank of its best positive, and how many positives came first.

"Recall" means that any positive was found, as CLIP papers use the word; the share of all positives that was found is
called `found`. The rankings themselves are made by `harness.metrics.ranking`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from harness.errors import counted
from harness.metrics import Metric, Scored, mean

Direction = Literal["i2t", "t2i"]
MEASURES = ("recall@1", "recall@5", "recall@10", "mrr", "median_rank", "map@10", "found@5", "found@10")
"""What is measured in each direction; a metric's name begins with its direction."""
_SOUGHT = {"i2t": "texts for an image", "t2i": "images for a text"}


def retrieval_scores(queries: Sequence[Mapping[str, Any]]) -> list[Scored]:
    """All metrics of both directions, recall@1 of each first; every metric has a row for every query, in order.

    A query has a `direction` ("i2t" or "t2i"), the `rank` of its best positive from 1 (None where the query failed; it
    counts as worst), how many `positives` there are (a query with none is left out, and the definition says how many
    were), `found@5`, `found@10`, `ap@10`, and `gallery`, the number of items ranked.
    """
    by_direction = {direction: _one_way(direction, queries) for direction in get_args(Direction)}
    headlines = [scored[0] for scored in by_direction.values() if scored]
    return headlines + [s for scored in by_direction.values() for s in scored[1:]]


def _one_way(direction: Direction, queries: Sequence[Mapping[str, Any]]) -> list[Scored]:
    """The metrics of one direction, recall@1 first; empty where no query has it.

    A query of the other direction, or one that is left out, has a row of zeros, which no sum notices.
    """
    asked = np.array([q["direction"] == direction for q in queries], dtype=bool)
    if not asked.any():
        return []
    size = max(int(q.get("gallery") or q.get("rank") or 1) for q, own in zip(queries, asked, strict=True) if own)
    positives = np.array([q.get("positives") or 0 for q in queries], dtype=np.float64)
    failed = np.array([q.get("rank") is None for q in queries])
    included = asked & ((positives > 0) | failed)
    rank = np.array([q.get("rank") or size for q in queries], dtype=np.float64)

    def column(name: str) -> np.ndarray:
        return np.array([q.get(name) or 0 for q in queries], dtype=np.float64)

    left_out = int((asked & ~included).sum())
    note = f"; {counted(left_out, 'query', 'queries')} without a positive left out" if left_out else ""

    def average(name: str, definition: str, values: np.ndarray) -> Scored:
        values = np.where(included & ~failed, values, 0.0)
        metric = Metric(f"{direction}_{name}", f"{_SOUGHT[direction]}: {definition}{note}", mean)
        return Scored(metric, np.stack([values, included.astype(np.float64)], axis=1))

    def recall(k: int) -> Scored:
        return average(f"recall@{k}", f"any positive among the first {k}, ties against the model", rank <= k)

    of_all = np.maximum(positives, 1)
    return [
        *(recall(k) for k in (1, 5, 10)),
        average("mrr", "mean of 1 / rank of the best positive", 1 / rank),
        _median_rank(direction, rank, included, size, note),
        average("map@10", "mean average precision over the first 10, out of min(positives, 10)", column("ap@10")),
        average("found@5", "mean share of a query's positives among the first 5", column("found@5") / of_all),
        average("found@10", "mean share of a query's positives among the first 10", column("found@10") / of_all),
    ]


def _median_rank(direction: Direction, rank: np.ndarray, included: np.ndarray, size: int, note: str) -> Scored:
    """The median rank of the queries that are `included` (bool [n]), in a gallery of `size` items.

    A query's statistics [size] are 1 at its rank and 0 elsewhere, so that sums are a histogram, which has a median.
    """
    from scipy import sparse

    rows = np.flatnonzero(included)
    at = (rows, rank[rows].astype(np.int64) - 1)
    statistics = sparse.csr_array((np.ones(len(rows)), at), shape=(len(rank), size))

    def finish(sums: np.ndarray) -> np.ndarray:
        running = np.cumsum(sums, axis=-1)
        total = running[..., -1:]
        lower = (running < np.floor((total + 1) / 2)).sum(axis=-1)
        upper = (running < np.floor(total / 2) + 1).sum(axis=-1)
        return np.where(total[..., 0] > 0, (lower + upper) / 2 + 1, np.nan)

    definition = f"{_SOUGHT[direction]}: median rank of the best positive{note}"
    name, last = f"{direction}_median_rank", float(size)
    metric = Metric(name, definition, finish, low=1.0, high=last, larger_is_better=False)
    return Scored(metric, statistics)
