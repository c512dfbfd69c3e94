"""Where each query's positives stand among a whole gallery, both ways from one matrix product, in bounded memory.

The items that score at least as high as the best positive are counted, which needs no sort. But ties decide recall
when a model maps many items to one point, so they are decided exactly: a blocked float32 product counts what is clearly
above or below, and only pairs within a hair of a positive's score are computed again in float64. Ties go against the
model.
The product runs on a GPU where torch is already loaded and has one, and in numpy elsewhere.

Shapes and words in this module:
    n, m, d         images, texts, and the length of their vectors
    a, b            the images' vectors float32 [n, d] and the texts' [m, d], with the rows of failed items zeroed
    block           float32 [rows, m]: the scores of up to ROWS images, from image number `start` on, with all texts
    query, item     an image and a text, or the other way round: each direction (`_Side`) has its own
    positive        an item that is right for a query; the k given pairs say which are
    entry           a (query, positive) pair; k of them, sorted by query, and for each query by falling score
    ahead [k]       for each entry, how many items that are not positives score at least as high
    position [k]    ahead + 1 + how many positives of the same query stand before it: the rank, ties at their worst
    hair            scores that are farther apart than this in float32 are in the same order in float64
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

ROWS = 240
"""Rows of a block; fewer than 256, so that counts down a column fit a byte."""
DEPTH = 10
"""found@k and AP@k look at no position beyond this one."""
_HAIR = 4e-6
"""The width of a hair relative to the largest norms: more than any rounding of a float32 product."""
_TIE = 1e-12
"""Scores this close in float64 are equal: sums in another order differ by less."""
_GROUPS = 16
"""How many columns are compared at a time to find a row's best ones."""
_PAIRS = 256
"""How many pairs are computed again at a time: their float64 copies fit the cache."""


@dataclass
class Ranking:
    """The q queries of one direction, in order. Positions count from 1, and ties stand at their worst position."""

    gallery: int
    """How many items were ranked."""
    rank: np.ndarray
    """Int64 [q]: the position of the best positive; 0 where a query has no positive."""
    positives: np.ndarray
    """Int64 [q]: how many items are right."""
    found5: np.ndarray
    """Int64 [q]: how many positives are among the first five."""
    found10: np.ndarray
    """Int64 [q]: how many positives are among the first ten."""
    average_precision10: np.ndarray
    """Float64 [q]: the sum over the positives among the first ten of the precision there, over min(positives, 10)."""
    top: np.ndarray
    """Int64 [q, k]: the first items, the best first."""

    def row(self, i: int) -> dict[str, int | float]:
        """Query i as plain numbers: with a direction, this is what `retrieval_scores` takes."""
        return {
            "rank": int(self.rank[i]),
            "positives": int(self.positives[i]),
            "found@5": int(self.found5[i]),
            "found@10": int(self.found10[i]),
            "ap@10": float(self.average_precision10[i]),
            "gallery": self.gallery,
        }


@dataclass
class _Side:
    """One direction while it is counted."""

    query: np.ndarray
    """Int64 [k]: each entry's query."""
    item: np.ndarray
    """Int64 [k]: each entry's positive."""
    score: np.ndarray
    """Float64 [k]: the score of the pair; -inf where either failed."""
    start: np.ndarray
    """Int64 [q + 1]: query q has the entries start[q] ... start[q + 1] - 1, of which the first is its best positive."""
    ahead: np.ndarray = field(init=False)
    """Int64 [k]: counted so far. In the end it is exact for a best positive, and below DEPTH for the others."""

    def __post_init__(self) -> None:
        self.ahead = np.zeros(len(self.query), dtype=np.int64)


def rank_both(images: np.ndarray, texts: np.ndarray, pairs: np.ndarray, top: int = 0) -> tuple[Ranking, Ranking]:
    """The image-to-text and the text-to-image ranking, by dot product.

    `images` [n, d] and `texts` [m, d] are floats, `pairs` int [k, 2] are the (image, text) that belong together, and
    `top` says how many first items to keep of each query. A row that is not finite stands for an item that failed, and
    comes behind everything.

    The scores here are [1.0, 0.6, 0.8] for the first image and [0.0, 0.8, 0.6] for the second, whose own text is the
    last: one other text is ahead of it.

    >>> images = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> texts = np.array([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]])
    >>> forward, backward = rank_both(images, texts, np.array([[0, 0], [0, 1], [1, 2]]))
    >>> forward.rank.tolist(), forward.positives.tolist(), backward.rank.tolist()
    ([1, 2], [2, 1], [1, 2, 2])

    Ties go against the model:

    >>> rank_both(images, np.ones((2, 2)), np.array([[0, 0], [1, 1]]))[0].rank.tolist()
    [2, 2]
    """
    a, failed_a = _finite(images)
    b, failed_b = _finite(texts)
    pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    pairs = np.stack(np.divmod(np.unique(pairs[:, 0] * len(b) + pairs[:, 1]), max(1, len(b))), axis=1)
    score = _dots(a, b, pairs[:, 0], pairs[:, 1])
    score[failed_a[pairs[:, 0]] | failed_b[pairs[:, 1]]] = -np.inf
    hair = np.float64(_HAIR * max(_largest(a) * _largest(b), 1e-30))
    forward = _side(pairs[:, 0], pairs[:, 1], score, len(a))
    backward = _side(pairs[:, 1], pairs[:, 0], score, len(b))
    forward_top = np.zeros((len(a), min(top, len(b))), dtype=np.int64)
    backward_top = _Top(len(b), min(top, len(a)))
    product = _product(b)
    for start in range(0, len(a), ROWS):
        block = product(a[start : start + ROWS])
        block[failed_a[start : start + ROWS]] = -np.inf
        block[:, failed_b] = -np.inf
        _count_rows(block, start, forward, hair, a, b)
        _count_columns(block, start, backward, hair, a, b)
        if top:
            forward_top[start : start + len(block)] = _first(block, forward_top.shape[1])
            backward_top.add(block, start)
    return (
        _ranking(forward, len(a), len(b), forward_top),
        _ranking(backward, len(b), len(a), backward_top.item),
    )


# Preparation ----------------------------------------------------------------------------------------------------------


def _finite(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The vectors as float32 with the rows of failed items zeroed, and bool [rows]: which rows those are."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    failed = ~np.asarray(np.isfinite(vectors).all(axis=1))
    return (np.where(failed[:, None], np.float32(0), vectors) if failed.any() else vectors), failed


def _largest(vectors: np.ndarray) -> float:
    """The largest norm of a row."""
    return float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors).max())) if len(vectors) else 0.0


def _dots(a: np.ndarray, b: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Float64 [k]: the dot product of a[rows[i]] and b[columns[i]] for each i."""
    out = np.empty(len(rows))
    for start in range(0, len(rows), _PAIRS):
        part = slice(start, start + _PAIRS)
        out[part] = np.einsum("ij,ij->i", a[rows[part]].astype(np.float64), b[columns[part]].astype(np.float64))
    return out


def _product(b: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function that gives some rows' scores with all of `b`, float32 [rows, m]. A call may overwrite the result of
    the one before."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        buffer = np.empty((ROWS, len(b)), dtype=np.float32)
        return lambda block: np.matmul(block, b.T, out=buffer[: len(block)])
    other = torch.from_numpy(b).to("cuda").T
    return lambda block: (torch.from_numpy(block).to("cuda") @ other).cpu().numpy()


def _side(query: np.ndarray, item: np.ndarray, score: np.ndarray, queries: int) -> _Side:
    """The direction with these pairs [k], sorted into entries."""
    order = np.lexsort((-score, query))
    query, item, score = query[order], item[order], score[order]
    return _Side(query, item, score, np.searchsorted(query, np.arange(queries + 1)))


# Counting -------------------------------------------------------------------------------------------------------------


def _count_rows(block: np.ndarray, start: int, side: _Side, hair: float, a: np.ndarray, b: np.ndarray) -> None:
    """Count what stands ahead of the positives of the queries that are this block's rows.

    Such a query's scores are all in this block, so this counts each query once and for all.
    """

    def count(entry: int, others: np.ndarray, items: np.ndarray, own: np.ndarray) -> int:
        """How many of `items` are ahead of an entry; `others` are their scores, and `own` those of the positives."""
        low, high = np.float32(side.score[entry] - hair), np.float32(side.score[entry] + hair)
        maybe = np.count_nonzero(others >= low) - np.count_nonzero(own >= low)
        surely = np.count_nonzero(others >= high) - np.count_nonzero(own >= high) if maybe else 0
        if maybe != surely and low > -np.inf:  # some are within a hair: float64 decides about these
            query = side.query[entry]
            near = items[(others >= low) & (others < high)]
            near = np.setdiff1d(near, side.item[side.start[query] : side.start[query + 1]])
            exact = _dots(a, b, np.full(len(near), query), near)
            surely += np.count_nonzero(exact >= side.score[entry] - _TIE)
        return int(surely)

    everything = np.arange(block.shape[1])
    edges = side.start[start : start + len(block) + 1].tolist()
    for i, scores in enumerate(block):
        first, last = edges[i], edges[i + 1]
        if first == last:
            continue
        own = scores[side.item[first:last]]
        if last - first == 1:  # the usual case in one direction: a text has one image
            side.ahead[first] = count(first, scores, everything, own)
            continue
        # Beyond the best, a positive matters only where fewer than DEPTH others are ahead of it. At least DEPTH + p
        # items, and so DEPTH others, reach `floor`: only the few items from there on need be looked at.
        floor = _reached_by(scores, DEPTH + last - first) - hair
        least = np.float32(floor - hair)
        items = np.flatnonzero(scores >= least)
        others, near = scores[items], own[own >= least]
        entries = slice(first, min(last, first + DEPTH))
        counts = _reaching(others, near, side.score[entries], hair)
        for entry, (maybe, surely) in enumerate(counts.T.tolist(), first):
            if side.score[entry] < floor:
                side.ahead[entry] = DEPTH if entry > first else count(entry, scores, everything, own)
            elif maybe == surely:
                side.ahead[entry] = maybe
            else:
                side.ahead[entry] = count(entry, others, items, near)
            if side.ahead[entry] >= DEPTH:  # and so have those that score lower; `_ranking` fills them in
                break


def _reaching(others: np.ndarray, own: np.ndarray, scores: np.ndarray, hair: float) -> np.ndarray:
    """Int64 [2, s]: how many of `others`, without `own`, may be ahead of each of `scores` [s] (they are at most a hair
    below it), and how many surely are (they are a hair above it)."""
    edges = np.concatenate([scores - hair, scores + hair]).astype(np.float32)
    found = len(others) - np.searchsorted(np.sort(others), edges)
    found -= len(own) - np.searchsorted(np.sort(own), edges)
    return found.reshape(2, -1)


def _reached_by(scores: np.ndarray, count: int) -> float:
    """A high score that at least `count` of the items reach; -inf where there are few items.

    The count-th largest of many groups' maxima is one, and costs less than the count-th largest score.
    """
    groups = max(128, 4 * count)
    width = len(scores) // groups
    if width < 4:
        return -np.inf
    best = scores[: width * groups].reshape(groups, width).max(axis=1)
    return float(np.partition(best, -count)[-count])


def _count_columns(block: np.ndarray, start: int, side: _Side, hair: float, a: np.ndarray, b: np.ndarray) -> None:
    """Add what in this block's rows stands ahead of the positives of the queries that are its columns.

    Queries are taken all at once: first the best positive of each, then the second best of those that have one, ...
    """
    mine = (side.item >= start) & (side.item < start + len(block))
    row, column = side.item[mine] - start, side.query[mine]  # where positives stand in this block
    count = np.diff(side.start)
    for level in range(min(DEPTH, int(count.max(initial=0)))):  # as far as anything is within DEPTH
        columns = np.flatnonzero(count > level)
        entry = side.start[columns] + level
        if level:  # where DEPTH others are ahead of the positive before, this one is of no interest
            open_ = side.ahead[entry - 1] < DEPTH
            columns, entry = columns[open_], entry[open_]
        if not len(columns):
            break
        # From here on arrays are [rows, c] or [c] for the c columns that are left; `place` is a column's number there.
        scores = block if len(columns) == block.shape[1] else block[:, columns]
        place = np.full(block.shape[1], -1)
        place[columns] = np.arange(len(columns))
        known = place[column] >= 0
        own_row, own_place = row[known], place[column[known]]
        own = scores[own_row, own_place]
        counts = []
        for edge in (side.score[entry] - hair, side.score[entry] + hair):
            edge = edge.astype(np.float32)
            # Sums of bytes are several times faster than sums of int64, and ROWS of them fit a byte.
            above = np.add.reduce((scores >= edge).view(np.uint8), axis=0, dtype=np.uint8).astype(np.int64)
            counts.append(above - np.bincount(own_place[own >= edge[own_place]], minlength=len(columns)))
            if not counts[0].any():
                break
        maybe, surely = counts[0], counts[-1]  # how many may be ahead, and how many are for sure
        unsure = np.flatnonzero((maybe != surely) & np.isfinite(side.score[entry]))
        if len(unsure):  # float64 decides about the items within a hair that are not positives themselves
            least = side.score[entry[unsure]]
            part = scores[:, unsure]
            near = (part >= (least - hair).astype(np.float32)) & (part < (least + hair).astype(np.float32))
            again = np.full(len(columns), -1)
            again[unsure] = np.arange(len(unsure))
            hit = again[own_place] >= 0
            near[own_row[hit], again[own_place[hit]]] = False
            r, u = np.nonzero(near)
            behind = _dots(a, b, start + r, columns[unsure[u]]) < least[u] - _TIE
            surely[unsure] = maybe[unsure] - np.bincount(u[behind], minlength=len(unsure))
        side.ahead[entry] += surely


def _ranking(side: _Side, queries: int, gallery: int, top: np.ndarray) -> Ranking:
    """What a side's counts say of each query."""
    positives = np.diff(side.start)
    for level in range(1, int(positives.max(initial=0))):
        # Counting stopped at positives beyond DEPTH; those after them have at least as much ahead.
        entry = side.start[:-1][positives > level] + level
        side.ahead[entry] = np.maximum(side.ahead[entry], side.ahead[entry - 1])
    nth = np.arange(len(side.query)) - side.start[side.query]
    position = side.ahead + nth + 1
    best = np.zeros(queries, dtype=np.int64)
    has = positives > 0
    best[has] = position[side.start[:-1][has]]
    within = position <= DEPTH
    precision = np.where(within, (nth + 1) / position, 0.0)
    total = np.bincount(side.query, weights=precision, minlength=queries)
    return Ranking(
        gallery=gallery,
        rank=best,
        positives=positives,
        found5=np.bincount(side.query[position <= 5], minlength=queries),
        found10=np.bincount(side.query[within], minlength=queries),
        average_precision10=total / np.maximum(1, np.minimum(positives, DEPTH)),
        top=top,
    )


# First items ----------------------------------------------------------------------------------------------------------


def _first(block: np.ndarray, k: int) -> np.ndarray:
    """Int64 [rows, k]: the k best columns of each row, the best first.

    >>> _first(np.array([[0.3, 0.9, 0.5]]), 2).tolist()
    [[1, 2]]
    """
    n, m = block.shape
    width = m // _GROUPS
    if width > 4 * k:
        # The columns j, j + width, j + 2 * width ... are one family. The k best columns belong to at most k families,
        # and these are the families with the k best maxima; the columns left over at the end are looked at as well.
        grouped = block[:, : width * _GROUPS].reshape(n, _GROUPS, width).max(axis=1)
        best = np.argpartition(grouped, -k, axis=1)[:, -k:]
        rest = np.broadcast_to(np.arange(width * _GROUPS, m), (n, m - width * _GROUPS))
        among = np.concatenate([best + width * g for g in range(_GROUPS)] + [rest], axis=1)
    else:
        among = np.broadcast_to(np.arange(m), (n, m))
    scores = np.take_along_axis(block, among, axis=1)
    some = np.argpartition(scores, -k, axis=1)[:, -k:]
    order = np.argsort(-np.take_along_axis(scores, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(among, np.take_along_axis(some, order, axis=1), axis=1)


class _Top:
    """The k best rows seen so far for each column; blocks are added one after another, from the first on."""

    def __init__(self, columns: int, k: int) -> None:
        self.score = np.full((columns, k), -np.inf, dtype=np.float32)
        self.item = np.zeros((columns, k), dtype=np.int64)

    def add(self, block: np.ndarray, start: int) -> None:
        """Take in a block whose first row has the number `start`."""
        k = self.item.shape[1]
        if start == 0:
            upright = np.ascontiguousarray(block.T)
            first = _first(upright, min(k, len(block)))
            self.item[:, : first.shape[1]] = first
            self.score[:, : first.shape[1]] = np.take_along_axis(upright, first, axis=1)
            return
        column, row = np.divmod(np.flatnonzero(self.score[:, -1:] < block.T), len(block))
        if not len(column):
            return
        # Few rows of a later block are among a column's best: the k best of those are merged with what it has.
        order = np.lexsort((-block[row, column], column))
        row, column = row[order], column[order]
        touched, begin = np.unique(column, return_index=True)
        place = np.searchsorted(touched, column)
        nth = np.arange(len(column)) - begin[place]
        row, place, nth = row[nth < k], place[nth < k], nth[nth < k]
        score = np.full((len(touched), 2 * k), -np.inf, dtype=np.float32)
        item = np.zeros((len(touched), 2 * k), dtype=np.int64)
        score[:, :k], item[:, :k] = self.score[touched], self.item[touched]
        score[place, k + nth], item[place, k + nth] = block[row, touched[place]], row + start
        best = np.argsort(-score, axis=1, kind="stable")[:, :k]
        self.score[touched] = np.take_along_axis(score, best, axis=1)
        self.item[touched] = np.take_along_axis(item, best, axis=1)
