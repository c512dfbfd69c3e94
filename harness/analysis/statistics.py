"""Is it a difference? Intervals, paired tests, ranks and standings, all from one idea: clusters are what was sampled.

Questions share an image and captions share a photo, so the unit that is resampled or exchanged is the cluster. A metric
is a function of summed rows (`harness.metrics`), so a bootstrap is a product of a matrix of weights [resamples,
clusters] with the rows summed by cluster [clusters, d], and every metric and model over the same samples shares those
weights: that makes differences paired, and cheap.

Intervals are estimate ± t(G-1) * SE, not percentiles: with many classes the percentile interval of macro-F1 covers far
less than it says, because resampling loses classes and shifts the whole distribution, but hardly its width.
Tests exchange the two models' answers cluster by cluster (approximate randomisation: Noreen 1989; Smucker et al. 2007),
which needs no distribution at all. A caller passes the samples of both models in the same order, failures included.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from harness.metrics import Metric, Scored

RESAMPLES = 2_000
LEVEL = 0.95
FEW_CLUSTERS = 20
"""Below this an interval is printed but marked: the bootstrap is known to be too narrow."""
MANY_CLUSTERS = 100_000
DRAWS = 10_000
POWER = 0.80
Clusters = Sequence[str] | np.ndarray
"""Of each sample the cluster's name, or its number as `numbered` gives it."""
_CHUNK = 4_000_000
"""Elements of the largest array held at once; bounds memory, never changes a number."""


@dataclass(frozen=True)
class Estimate:
    """A metric's value with its interval; NaN where there is none."""

    value: float
    low: float
    high: float
    se: float
    clusters: int
    doubt: str = ""
    """Why the interval may cover less than it says; empty where it is reliable."""

    @property
    def reliable(self) -> bool:
        return not self.doubt


@dataclass(frozen=True)
class Comparison:
    """Model `a` against model `b` on the same samples: `difference` is a's value minus b's."""

    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float
    """Two-sided, by approximate randomisation."""
    n: int
    """Samples."""
    detectable: float
    """The smallest true difference that this test set would have shown (5 % level, 80 % power)."""
    p_holm: float = math.nan
    """After Holm's correction over all pairs of the table; equal to `p` for a single pair."""

    @property
    def significant(self) -> bool:
        return self.p_holm < 1 - LEVEL


@dataclass(frozen=True)
class Standing:
    """Where a model stands over several tables, by wins alone: unlike metrics are never averaged."""

    model: str
    win_rate: float
    """Mean over tables of the share of the other models it beats; a tie counts half."""
    win_rate_low: float
    win_rate_high: float
    borda: float
    """Mean rank over tables, 1 the best; ties share the mean of their ranks."""
    borda_low: float
    borda_high: float
    tables: int


# Clusters -------------------------------------------------------------------------------------------------------------


def _cluster_sums(rows: Any, index: np.ndarray, count: int) -> Any:
    """Sum the rows [n, d] of each cluster: [count, d], sparse where the rows are."""
    from scipy import sparse

    n = len(index)
    indicator = sparse.csr_array((np.ones(n), (index, np.arange(n))), shape=(count, n))
    sums = indicator @ rows
    return sums.tocsr() if sparse.issparse(sums) else np.asarray(sums)


def numbered(clusters: Clusters) -> np.ndarray:
    """Int64 [n]: the clusters' numbers in the order of their names; numbers stay what they are. Whoever asks about the
    same clusters many times spares sorting their names each time."""
    if isinstance(clusters, np.ndarray) and clusters.dtype == np.int64:
        return clusters
    number = {name: i for i, name in enumerate(sorted(set(clusters)))}
    return np.fromiter((number[name] for name in clusters), np.int64, len(clusters))


def _count(clusters: Clusters) -> int:
    return len(np.unique(numbered(clusters)))


def _index(clusters: Clusters, n: int, seed: int) -> tuple[np.ndarray, int]:
    """Cluster number [n] of each sample and how many clusters there are.

    Above MANY_CLUSTERS they are dealt at random into 5,000 groups of whole clusters: the sums of groups vary as those
    of clusters do, so the standard error stays right for every metric while memory and time stay bounded.
    """
    if len(clusters) != n:
        raise ValueError(f"{len(clusters)} clusters for {n} samples")
    names, index = np.unique(numbered(clusters), return_inverse=True)
    count = len(names)
    if count > MANY_CLUSTERS:
        groups = np.random.default_rng(seed).permutation(count) % 5_000
        return groups[index], 5_000
    return index, count


def _weights(count: int, width: int, seed: int) -> Iterator[np.ndarray]:
    """Bootstrap weights: blocks [b, count] of how often each cluster was drawn; RESAMPLES rows in all."""
    rng = np.random.default_rng(seed)
    size = max(1, _CHUNK // max(count, width))
    for start in range(0, RESAMPLES, size):
        b = min(size, RESAMPLES - start)
        drawn = rng.integers(count, size=(b, count))
        drawn += np.arange(b)[:, None] * count
        drawn = np.bincount(drawn.ravel(), minlength=b * count)  # no more blocks at a time than needed: they are large
        drawn = drawn.astype(np.float64)
        yield drawn.reshape(b, count)


def replicates(scored: Sequence[Scored], clusters: Clusters, seed: int = 0) -> np.ndarray:
    """The metrics' values under the cluster bootstrap: [RESAMPLES, len(scored)], all under the same resamples.

    `clusters` names the cluster of each sample. Raises ValueError where lengths differ.
    """
    n = scored[0].statistics.shape[0] if scored else 0
    index, count = _index(clusters, n, seed)
    if count == 0:
        return np.full((RESAMPLES, len(scored)), np.nan)
    sums = [_cluster_sums(s.statistics, index, count) for s in scored]
    values = [[] for _ in scored]
    for weights in _weights(count, max(s.shape[1] for s in sums), seed):
        for out, s, total in zip(values, scored, sums, strict=True):
            out.append(s.metric.finish(weights @ total))
        del weights
    return np.stack([np.concatenate(v) for v in values], axis=1)


# Intervals ------------------------------------------------------------------------------------------------------------


def _t(probability: float, degrees: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def _standard_error(values: np.ndarray, count: int) -> float:
    """Of bootstrap values [resamples], with the G/(G-1) correction of the variance; NaN under two clusters."""
    values = values[np.isfinite(values)]
    if count < 2 or len(values) < 2:
        return math.nan
    return float(values.std(ddof=1)) * math.sqrt(count / (count - 1))


def _doubt(metric: Metric, value: float, margin: float, count: int) -> str:
    if not metric.interval or math.isnan(value):
        return ""
    if count < FEW_CLUSTERS:
        return f"only {count} clusters" if count != 1 else "only 1 cluster"
    if margin == 0 or value - 2 * margin < metric.low or value + 2 * margin > metric.high:
        # For a share this is about n * p < 15: its distribution is then too skewed for ± t * SE.
        return "too near the end of its range"
    return metric.doubt


def estimates(scored: Sequence[Scored], clusters: Clusters, seed: int = 0) -> list[Estimate]:
    """The value and 95 % interval of several metrics over the same samples, from the same resamples.

    value ± t(G-1) * SE, clipped to the metric's range; under two clusters, or where a metric has no honest interval,
    the bounds are NaN.
    """
    with_interval = [i for i, s in enumerate(scored) if s.metric.interval]
    clusters = numbered(clusters)
    count = _count(clusters)
    values = replicates([scored[i] for i in with_interval], clusters, seed) if with_interval and count > 1 else None
    column = {i: values[:, j] for j, i in enumerate(with_interval)} if values is not None else {}
    found = []
    for i, s in enumerate(scored):
        value = s.value
        se = _standard_error(column[i], count) if i in column else math.nan
        margin = _t((1 + LEVEL) / 2, count - 1) * se if count > 1 else math.nan
        low, high = max(value - margin, s.metric.low), min(value + margin, s.metric.high)
        if math.isnan(margin):
            low = high = math.nan
        found.append(Estimate(value, low, high, se, count, _doubt(s.metric, value, margin, count)))
    return found


def estimate(scored: Scored, clusters: Clusters, seed: int = 0) -> Estimate:
    """`estimates` of one metric."""
    return estimates([scored], clusters, seed)[0]


def slices(
    scored: Sequence[Scored], clusters: Clusters, fields: Sequence[Mapping[str, str]], seed: int = 0
) -> dict[str, dict[str, tuple[int, list[Estimate]]]]:
    """Estimates within each value of each field: {field: {value: (n, one estimate for each metric)}}, values sorted.

    `fields` gives each sample's fields, such as {"category": "colour"}; a sample without the field is left out of it.
    """
    found: dict[str, dict[str, tuple[int, list[Estimate]]]] = {}
    clusters = numbered(clusters)
    for name in sorted({key for row in fields for key in row}):
        values = [row.get(name) for row in fields]
        for value in sorted({v for v in values if v is not None}):
            rows = [i for i, v in enumerate(values) if v == value]
            part = [replace(s, statistics=s.statistics[rows]) for s in scored]
            found.setdefault(name, {})[value] = (len(rows), estimates(part, clusters[rows], seed))
    return found


# Pairs ----------------------------------------------------------------------------------------------------------------


def _exchanges(count: int, width: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks [b, count] of 0 and 1: whether a draw exchanges the two models' answers in that cluster."""
    rng = np.random.default_rng(seed)
    size = max(1, _CHUNK // max(count, width))
    row = -(-count // 8)
    for start in range(0, draws, size):
        b = min(size, draws - start)
        bits = np.frombuffer(rng.bytes(b * row), dtype=np.uint8).reshape(b, row)
        yield np.unpackbits(bits, axis=1, count=count).astype(np.float64)


def _randomisation(pairs: Sequence[tuple[Scored, Scored]], index: np.ndarray, count: int, seed: int) -> list[float]:
    """Two-sided p of each pair's difference when each cluster's answers may as well be the other model's.

    p = (1 + draws at least as far apart as observed) / (1 + draws), so it is never 0. All pairs share the draws.
    """
    from scipy import sparse

    gaps = [_cluster_sums(a.statistics - b.statistics, index, count) for a, b in pairs]
    edges = np.cumsum([0] + [gap.shape[1] for gap in gaps])
    joined: Any = sparse.hstack(gaps, format="csr") if sparse.issparse(gaps[0]) else np.concatenate(gaps, axis=1)
    totals = [(a.statistics.sum(axis=0), b.statistics.sum(axis=0)) for a, b in pairs]
    observed = np.array([abs(a.value - b.value) for a, b in pairs])
    least = observed - 1e-9 * np.maximum(1.0, observed)
    draws = max(DRAWS, 40 * len(pairs))
    extreme = np.zeros(len(pairs))
    for exchange in _exchanges(count, int(edges[-1]), draws, seed):
        moved = exchange @ joined
        for i, ((a, _), (total_a, total_b)) in enumerate(zip(pairs, totals, strict=True)):
            part = moved[:, edges[i] : edges[i + 1]]
            apart = np.abs(a.metric.finish(total_a - part) - a.metric.finish(total_b + part))
            extreme[i] += (apart >= least[i]).sum()
    return np.where(np.isnan(observed), np.nan, (1 + extreme) / (1 + draws)).tolist()


def compare_all(scored: Mapping[str, Scored], clusters: Clusters, seed: int = 0) -> list[Comparison]:
    """Every pair of models on the same samples, in the mapping's order, with Holm's correction over all the pairs.

    The interval of a difference is paired: both models under the same resamples. Draws: max(10,000, 40 x pairs), so
    that the smallest corrected p can still be significant. Raises ValueError where the models' sample counts differ.
    """
    names = list(scored)
    pairs = list(combinations(range(len(names)), 2))
    if not pairs:
        return []
    rows = list(scored.values())
    n, clusters = len(clusters), numbered(clusters)
    if any(s.statistics.shape[0] != n for s in rows):
        raise ValueError("models compared must have the same samples")
    index, count = _index(clusters, n, seed)
    g = _count(clusters)
    values = replicates(rows, clusters, seed)
    both = [(rows[i], rows[j]) for i, j in pairs]
    tested = _randomisation(both, index, count, seed) if g > 1 else [math.nan] * len(pairs)
    found = []
    for (i, j), p in zip(pairs, tested, strict=True):
        metric = rows[i].metric
        difference = rows[i].value - rows[j].value
        se = _standard_error(values[:, i] - values[:, j], g)
        span = metric.high - metric.low
        margin = _t((1 + LEVEL) / 2, g - 1) * se if g > 1 else math.nan
        low, high = (max(difference - margin, -span), min(difference + margin, span))
        if math.isnan(margin):
            low = high = math.nan
        found.append(Comparison(names[i], names[j], difference, low, high, p, n, detectable(se, g, len(pairs))))
    return [replace(c, p_holm=p) for c, p in zip(found, holm([c.p for c in found]), strict=True)]


def compare(a: Scored, b: Scored, clusters: Clusters, seed: int = 0) -> Comparison:
    """One pair, without correction: `a` against `b` on the same samples."""
    return compare_all({"a": a, "b": b}, clusters, seed)[0]


def detectable(se: float, clusters: int, pairs: int = 1) -> float:
    """The smallest true difference that a test at 5 % / `pairs` shows with 80 % power, for this SE of a difference.

    (t(1 - alpha/2) + t(power)) * SE, with clusters - 1 degrees of freedom; NaN under two clusters.
    """
    if clusters < 2:
        return math.nan
    return (_t(1 - (1 - LEVEL) / pairs / 2, clusters - 1) + _t(POWER, clusters - 1)) * se


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order given; NaN stays NaN and counts as no test (Holm 1979)."""
    adjusted = np.asarray(p, dtype=np.float64).copy()
    tested = np.flatnonzero(~np.isnan(adjusted))
    order = tested[np.argsort(adjusted[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(adjusted[order] * factors))
    return adjusted.tolist()


# Ranks ----------------------------------------------------------------------------------------------------------------


def rank_intervals(
    models: Sequence[str], comparisons: Sequence[Comparison], larger_is_better: bool = True
) -> dict[str, tuple[int, int]]:
    """The ranks a model may have: from 1 + those significantly better than it to all but those significantly worse."""
    better, worse = dict.fromkeys(models, 0), dict.fromkeys(models, 0)
    for c in comparisons:
        if c.significant and c.a in better and c.b in better:
            first_wins = (c.difference > 0) == larger_is_better
            winner, loser = (c.a, c.b) if first_wins else (c.b, c.a)
            worse[winner] += 1
            better[loser] += 1
    return {m: (1 + better[m], len(models) - worse[m]) for m in models}


def best_group(
    values: Mapping[str, float], comparisons: Sequence[Comparison], larger_is_better: bool = True
) -> set[str]:
    """The best model and all that the corrected tests do not tell from it; empty where no value is defined.

    A model without a value, or without a test against the best, is not in the group.
    """
    best = _best(values, larger_is_better)
    if best is None:
        return set()
    same = {c.b if c.a == best else c.a for c in comparisons if best in (c.a, c.b) and not c.significant}
    return {best} | {m for m in same if m in values and not math.isnan(values[m])}


def _best(values: Mapping[str, float], larger_is_better: bool) -> str | None:
    defined = {m: v for m, v in values.items() if not math.isnan(v)}
    if not defined:
        return None
    return max(defined, key=defined.__getitem__) if larger_is_better else min(defined, key=defined.__getitem__)


def origin_gaps(
    values: Mapping[str, float],
    origins: Mapping[str, str],
    comparisons: Sequence[Comparison],
    larger_is_better: bool = True,
) -> tuple[dict[str, str], list[Comparison]]:
    """The best model of each origin in one table, and the comparisons between them (the gaps, with intervals).

    A gap is that of the two chosen models; choosing the best of several on the same samples flatters an origin with
    many models a little. Gaps read in-house against the others, then domestic against international.
    """
    order = [o for o in ("in-house", "domestic", "international") if o in set(origins.values())]
    chosen: dict[str, str] = {}
    for origin in order:
        best = _best({m: v for m, v in values.items() if origins.get(m) == origin}, larger_is_better)
        if best is not None:
            chosen[origin] = best
    pair = {(c.a, c.b): c for c in comparisons} | {(c.b, c.a): _reversed(c) for c in comparisons}
    wanted = [(chosen[x], chosen[y]) for x, y in combinations(chosen, 2)]
    return chosen, [pair[w] for w in wanted if w in pair]


def _reversed(c: Comparison) -> Comparison:
    return replace(c, a=c.b, b=c.a, difference=-c.difference, low=-c.high, high=-c.low)


def standings(tables: Sequence[tuple[Mapping[str, Scored], Clusters]], seed: int = 0) -> list[Standing]:
    """Win rate and mean (Borda) rank over several tables, best first, each table (models' headline Scored, clusters).

    Only models in every table are ranked, so that nobody gains by skipping a hard one. Intervals are the 2.5 and 97.5
    percentiles over bootstrap replicates of every table; they speak of these tables, not of tables not chosen.
    """
    shared = [m for m in tables[0][0] if all(m in table for table, _ in tables)] if tables else []
    if len(shared) < 2:
        return []
    ranks = np.zeros((RESAMPLES + 1, len(shared)))
    for number, (table, clusters) in enumerate(tables):
        rows = [table[m] for m in shared]
        point = np.array([[s.value for s in rows]])
        values = np.concatenate([point, replicates(rows, clusters, seed + number)])
        ranks += _ranks(values if rows[0].metric.larger_is_better else -values) / len(tables)
    wins = (len(shared) - ranks) / (len(shared) - 1)
    tail = 100 * (1 - LEVEL) / 2
    found = []
    for i, model in enumerate(shared):
        win = (wins[0, i], *np.percentile(wins[1:, i], [tail, 100 - tail]))
        rank = (ranks[0, i], *np.percentile(ranks[1:, i], [tail, 100 - tail]))
        found.append(Standing(model, *map(float, win + rank), tables=len(tables)))
    return sorted(found, key=lambda s: s.borda)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks [r, k] by row, 1 for the largest; ties share their mean rank; NaN counts as the worst."""
    values = np.where(np.isnan(values), -np.inf, values)
    above = (values[:, None, :] > values[:, :, None]).sum(axis=2)
    equal = (values[:, None, :] == values[:, :, None]).sum(axis=2)
    return above + (equal + 1) / 2
