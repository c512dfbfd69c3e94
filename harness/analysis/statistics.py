"""Is it a difference? Intervals, paired tests, ranks and standings, all from one idea: clusters are what was sampled.

Questions share an image and captions share a photo, so the unit that is resampled or exchanged is the cluster. A metric
is a function of summed rows (`harness.metrics`), so a bootstrap is a product of a matrix of weights with the rows
summed by cluster. Every metric and model over the same samples shares those weights, which makes differences paired,
and cheap.

Intervals use the bootstrap's standard error, not its percentiles: with many classes the percentile interval of macro-F1
covers far less than it says, because resampling loses classes and shifts the whole distribution, but hardly changes its
width. A metric between 0 and 1 has a score interval, which holds near both ends (`_score_interval`); one of another
range, and every difference, has value ± t(g - 1) * SE.
Tests exchange the two models' answers cluster by cluster (approximate randomisation: Noreen 1989; Smucker et al. 2007),
which supposes no distribution at all, and Holm corrects them. That costs a draw for each pair, so more than MANY_MODELS
are tested by the bootstrap they share anyway (Romano and Wolf 2005). A caller passes the samples of all models in the
same order, failures included.

Shapes in this module:
    n                   samples
    g                   clusters of samples; above MANY_CLUSTERS, groups of clusters
    d                   statistics that a metric has for each sample
    index [n]           the number of each sample's cluster, from 0 to g - 1
    sums [g, d]         the statistics summed by cluster
    weights [b, g]      how often each cluster was drawn, for b of the RESAMPLES; a block of them fits the memory
    finish(weights @ sums) [b]      the metric under these resamples
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from harness.errors import counted
from harness.metrics import ALPHA, CONFIDENCE, FEW_CLUSTERS, Metric, Scored, finite, mean

RESAMPLES = 2_000
"""Bootstrap resamples behind an interval."""
MANY_CLUSTERS = 100_000
"""More clusters than this are resampled in groups."""
_CLUSTER_GROUPS = 5_000
DRAWS = 10_000
"""Exchanges behind a p value, at least; with more than MANY_MODELS, bootstrap resamples."""
MANY_MODELS = 20
"""More models than this are compared by the Romano-Wolf step-down instead of Holm's."""
POWER = 0.80
"""The detectable difference is the one that a test would show with this probability."""
PSEUDO_SAMPLES = 2
"""How many samples at the far end of the range an interval near 0 or 1 supposes beside those that were seen."""
PRIOR_CORRELATION = 0.2
"""The intra-cluster correlation of these, and of a sample in which nothing varies and so nothing tells it."""
Clusters = Sequence[str] | np.ndarray
"""The cluster of each sample: its name, or its number as `numbered` gives it (int64)."""
_SLAB = 2_000
"""Columns of a product that serves several models at once."""
_CORRELATED = 0.3
"""Samples that share a cluster and correlate more than this visibly exceed the 0.2 up to which intervals hold."""
_NO_SPREAD = 1e-9
"""A standard error below this is rounding: nothing varies between the clusters."""
_CHUNK = 4_000_000
"""How many elements the largest array has at most. This bounds memory and changes no number."""


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
        """Whether nothing is known that speaks against the interval."""
        return not self.doubt

    def to_json(self) -> dict[str, float | None]:
        """{"value", "low", "high"}, as summary.json has them; None for what is undefined."""
        return {"value": finite(self.value), "low": finite(self.low), "high": finite(self.high)}


@dataclass(frozen=True)
class Comparison:
    """Model `a` against model `b` on the same samples: `difference` is a's value minus b's."""

    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float
    """Two-sided, of this pair alone: by approximate randomisation, or by the bootstrap among more than MANY_MODELS."""
    n: int
    """How many samples both answered, or failed to."""
    detectable: float
    """The smallest true difference that this test set would have shown (5 % level, 80 % power)."""
    p_adjusted: float = math.nan
    """`p` after the correction over all pairs of the table; equal to `p` for a single pair."""
    correction: Literal["holm", "romano-wolf"] = "holm"
    """Which correction that is."""

    @property
    def significant(self) -> bool:
        """Whether the corrected test shows a difference (5 % level)."""
        return self.p_adjusted < ALPHA


@dataclass(frozen=True)
class Standing:
    """Where a model stands over several tables. Only wins count: unlike metrics are never averaged."""

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
    """The rows [n, d] summed by cluster: [count, d], sparse where the rows are.

    >>> _cluster_sums(np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0]]), np.array([0, 0, 1]), 2).tolist()
    [[1.0, 2.0], [1.0, 1.0]]
    """
    from scipy import sparse

    n = len(index)
    indicator = sparse.csr_array((np.ones(n), (index, np.arange(n))), shape=(count, n))
    sums = indicator @ rows
    return sums.tocsr() if sparse.issparse(sums) else np.asarray(sums)


def numbered(clusters: Clusters) -> np.ndarray:
    """Int64 [n]: each sample's cluster as its place among the sorted names; clusters that are numbers already stay.

    A caller that asks about the same clusters many times so need not have their names sorted each time.
    """
    if isinstance(clusters, np.ndarray) and clusters.dtype == np.int64:
        return clusters
    number = {name: i for i, name in enumerate(sorted(set(clusters)))}
    return np.fromiter((number[name] for name in clusters), np.int64, len(clusters))


def _count(clusters: Clusters) -> int:
    return len(np.unique(numbered(clusters)))


def _index(clusters: Clusters, n: int, seed: int) -> tuple[np.ndarray, int]:
    """The `index` [n] of the samples, and how many clusters there are.

    Above MANY_CLUSTERS, whole clusters are dealt at random into 5,000 groups: the sums of groups vary as those of
    clusters do, so the standard error stays right for every metric while memory and time stay bounded.
    """
    if len(clusters) != n:
        raise ValueError(f"{len(clusters)} clusters for {n} samples")
    names, index = np.unique(numbered(clusters), return_inverse=True)
    count = len(names)
    if count > MANY_CLUSTERS:
        groups = np.random.default_rng(seed).permutation(count) % _CLUSTER_GROUPS
        return groups[index], _CLUSTER_GROUPS
    return index, count


def _weights(count: int, width: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """The bootstrap's `weights`, block by block: `resamples` rows in all. `width` is the widest d they will meet."""
    rng = np.random.default_rng(seed)
    size = max(1, _CHUNK // max(count, width))
    for start in range(0, resamples, size):
        b = min(size, resamples - start)
        drawn = rng.integers(count, size=(b, count))
        drawn += np.arange(b)[:, None] * count  # each row counts in cells of its own
        # One name for all three: the blocks are large, and each is let go as soon as the next is there.
        drawn = np.bincount(drawn.ravel(), minlength=b * count)
        drawn = drawn.astype(np.float64)
        yield drawn.reshape(b, count)


def replicates(scored: Sequence[Scored], clusters: Clusters, seed: int = 0) -> np.ndarray:
    """The metrics' values under the cluster bootstrap: [RESAMPLES, len(scored)], all under the same resamples.

    Raises ValueError where there is not one cluster for each sample.
    """
    n = scored[0].statistics.shape[0] if scored else 0
    index, count = _index(clusters, n, seed)
    if count == 0:
        return np.full((RESAMPLES, len(scored)), np.nan)
    sums = [_cluster_sums(s.statistics, index, count) for s in scored]
    values = [[] for _ in scored]
    for weights in _weights(count, max(s.shape[1] for s in sums), RESAMPLES, seed):
        for out, s, total in zip(values, scored, sums, strict=True):
            out.append(s.metric.finish(weights @ total))
        del weights  # before the next block is made
    return np.stack([np.concatenate(v) for v in values], axis=1)


# Intervals ------------------------------------------------------------------------------------------------------------


def _t(probability: float, degrees: float) -> float:
    """The quantile of Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def _standard_error(values: np.ndarray, count: int) -> float:
    """The standard error that bootstrap values [RESAMPLES] show, with the variance corrected by g / (g - 1), which the
    bootstrap lacks; NaN under two clusters."""
    values = values[np.isfinite(values)]
    if count < 2 or len(values) < 2:
        return math.nan
    return float(values.std(ddof=1)) * math.sqrt(count / (count - 1))


def _margin(se: float, count: int) -> float:
    """Half the width of the interval; NaN under two clusters."""
    return _t((1 + CONFIDENCE) / 2, count - 1) * se if count > 1 else math.nan


def _interval(value: float, margin: float, least: float, most: float) -> tuple[float, float]:
    """value ± margin, clipped to [least, most]; NaN on both sides where the margin is."""
    if math.isnan(margin):
        return math.nan, math.nan
    return max(value - margin, least), min(value + margin, most)


def _columns(statistics: Any) -> Any:
    """The statistics of an average [n, 2], sparse or not, as its two columns: the weighted values and the weights."""
    return np.asarray(statistics.toarray() if hasattr(statistics, "toarray") else statistics).T


def _sizes(scored: Scored, index: np.ndarray) -> np.ndarray:
    """Float64 [g]: how many samples each cluster has; of an average, only those that count in it."""
    weights = _columns(scored.statistics)[1] if scored.metric.finish is mean else None
    return np.bincount(np.unique(index, return_inverse=True)[1], weights).astype(np.float64)


def _is_share(metric: Metric) -> bool:
    """Whether the metric lies between 0 and 1, as accuracy, F1 and BLEU do."""
    return (metric.low, metric.high) == (0.0, 1.0)


def _seen_by_a_sample(sizes: np.ndarray) -> float:
    """The mean size of the cluster that a sample is in, from the clusters' `sizes` [g]."""
    return float((sizes**2).sum() / sizes.sum())


def _correlation(scored: Scored, value: float, se: float, sizes: np.ndarray) -> float:
    """The intra-cluster correlation, from 0 to 1, that the standard error of a share shows beside that of independent
    samples: (SE² / SE²_independent - 1) / (m - 1), with m from `_seen_by_a_sample`; PRIOR_CORRELATION where nothing
    varies."""
    own = _seen_by_a_sample(sizes)
    if own <= 1:
        return 0.0
    n = sizes.sum()
    independent = value * (1 - value) / n
    if scored.metric.finish is mean:
        total, weight = _columns(scored.statistics)
        independent = float(((total - value * weight) ** 2).sum()) / n**2
    if se < _NO_SPREAD or independent <= 0:
        return PRIOR_CORRELATION
    return min(1.0, max(0.0, (se**2 / independent - 1) / (own - 1)))


def _degrees(gamma: np.ndarray) -> float:
    """Degrees of freedom, at least 1, of a standard error to which clusters add the variances `gamma` [g]: g* - 1, with
    the effective number of clusters g* = (sum of γ)² / (sum of γ²) of Carter, Schnepel and Steigerwald (2017).

    >>> _degrees(np.array([4.0, 4.0, 4.0])), round(_degrees(np.array([8.0, 4.0, 4.0, 4.0])), 2)
    (2.0, 2.57)
    """
    return max(1.0, float(gamma.sum() ** 2 / (gamma**2).sum()) - 1)


def _score_interval(value: float, se: float, sizes: np.ndarray, correlation: float = 0.0) -> tuple[float, float]:
    """The interval of a share `value`, whose clusters have `sizes` [g] samples that correlate with one another.

    It is the score interval of Wilson (1927) with an effective sample size, as surveys use it for clustered proportions
    (Dean and Pagano 2015; Franco et al. 2019): all shares P with |value - P| <= t * sqrt(P * (1 - P) / n_eff), where
    n_eff = value * (1 - value) / SE² and Student's t stands for the normal quantile. At 0.5 it is as wide as value ±
    t * SE, and near the ends it is lopsided. Three things make it hold there and with few clusters:

    - Degrees of freedom are those of `_degrees`, g - 1 where all clusters have one size and fewer where they differ:
      the sum of a cluster has the variance size * (1 + correlation * (size - 1)).
    - Near an end few samples say how much the values vary and whether they do so together. PSEUDO_SAMPLES more at the
      far end are supposed, with PRIOR_CORRELATION; they weigh (1 - 2 * value)², so that 0.5 needs none.
    - Where nothing varies, n_eff is n / (1 + PRIOR_CORRELATION * (m - 1)) of the n samples, with m the mean size of the
      cluster that a sample is in. It is n where no samples share a cluster. n alone supposes that samples of a cluster
      are independent, and the number of clusters that they are copies; equal values cannot tell, so neither is right.

    A hundred right answers of a hundred, one to a cluster, leave room for a share of 0.962 (t² / (n + t²) is wrong):

    >>> low, high = _score_interval(1.0, 0.0, np.ones(100))
    >>> round(low, 3), high
    (0.962, 1.0)
    """
    n = float(sizes.sum())
    prior = 1 + PRIOR_CORRELATION * (_seen_by_a_sample(sizes) - 1)
    spread, pseudo = max(0.0, value * (1 - value)), PSEUDO_SAMPLES * (1 - 2 * value) ** 2
    n_eff = n / prior if se < _NO_SPREAD else (spread + pseudo / n) / (se**2 + pseudo * prior / n**2)
    degrees = _degrees(sizes * (1 + correlation * np.maximum(0.0, sizes - 1)))
    z = _t((1 + CONFIDENCE) / 2, degrees) ** 2 / n_eff
    middle, half = (value + z / 2) / (1 + z), math.sqrt(z * (spread + z / 4)) / (1 + z)
    return max(0.0, min(value, middle - half)), min(1.0, max(value, middle + half))


def _doubt(metric: Metric, value: float, margin: float, sizes: np.ndarray, correlation: float) -> str:
    """Why the interval may cover less than it says; empty where nothing speaks against it.

    `margin` is t * SE. The score interval of a share holds near an end up to a correlation of 0.2, so it is not doubted
    where no samples share a cluster, and it is doubted further from an end where they visibly correlate more.
    """
    if not metric.interval or math.isnan(value):
        return ""
    if len(sizes) < FEW_CLUSTERS:
        return f"only {counted(len(sizes), 'cluster')}"
    reach = (3 if correlation > _CORRELATED else 2) * margin
    at_end = margin == 0 or value - reach < metric.low or value + reach > metric.high
    if at_end and not (_is_share(metric) and sizes.max() <= 1):
        # For a share of independent samples this is about n * p < 15.
        return "too near the end of its range"
    return metric.doubt


def estimates(scored: Sequence[Scored], clusters: Clusters, seed: int = 0) -> list[Estimate]:
    """The value and 95 % interval of several metrics over the same samples, from the same resamples.

    A metric between 0 and 1 has a score interval (`_score_interval`), another value ± t(g - 1) * SE, clipped to its
    range. Both contain the value and stay in the range; their bounds are NaN under two clusters, or where no honest
    interval of the metric is known.
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
        margin = _margin(se, count)
        sizes, correlation = _sizes(s, clusters), 0.0
        if _is_share(s.metric) and not math.isnan(se):
            correlation = _correlation(s, value, se, sizes)
            low, high = _score_interval(value, se, sizes, correlation)
        else:
            low, high = _interval(value, margin, s.metric.low, s.metric.high)
        doubt = _doubt(s.metric, value, margin, sizes, correlation)
        found.append(Estimate(value=value, low=low, high=high, se=se, clusters=count, doubt=doubt))
    return found


def estimate(scored: Scored, clusters: Clusters, seed: int = 0) -> Estimate:
    """`estimates` of one metric.

    A hundred independent answers, half of them right, are known to about 1.98 * sqrt(0.5 * 0.5 / 100):

    >>> from harness.metrics import averaged
    >>> found = estimate(averaged("accuracy", "", [1, 0] * 50), np.arange(100))
    >>> found.value, round(found.low, 2), round(found.high, 2)
    (0.5, 0.4, 0.6)
    """
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


def slices_to_json(
    headline: Scored, clusters: Clusters, fields: Sequence[Mapping[str, str]], seed: int = 0
) -> dict[str, dict[str, Any]]:
    """The `slices` of one metric, as summary.json has them: {field: {value: {"n", "metrics": {name: estimate}}}}."""
    return {
        field: {
            value: {"n": n, "metrics": {headline.metric.name: found[0].to_json()}}
            for value, (n, found) in values.items()
        }
        for field, values in slices([headline], clusters, fields, seed).items()
    }


# Pairs ----------------------------------------------------------------------------------------------------------------


def _exchanges(count: int, width: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks [b, count] of 0 and 1, `draws` rows in all: whether a draw exchanges the two models' answers in a
    cluster."""
    rng = np.random.default_rng(seed)
    size = max(1, _CHUNK // max(count, width))
    row = -(-count // 8)  # bytes whose bits decide about one draw
    for start in range(0, draws, size):
        b = min(size, draws - start)
        bits = np.frombuffer(rng.bytes(b * row), dtype=np.uint8).reshape(b, row)
        yield np.unpackbits(bits, axis=1, count=count).astype(np.float64)


def _randomisation(pairs: Sequence[tuple[Scored, Scored]], index: np.ndarray, count: int, seed: int) -> list[float]:
    """The two-sided p of each pair's difference, supposing that a cluster's answers may as well be the other model's.

    p = (1 + draws at least as far apart as observed) / (1 + draws), so it is never 0. All pairs share the draws.
    """
    from scipy import sparse

    # Exchanging a cluster moves its difference of sums from one model to the other. The pairs' differences stand side
    # by side in one matrix [count, width], so that one product a block serves them all.
    gaps = [_cluster_sums(a.statistics - b.statistics, index, count) for a, b in pairs]
    edges = np.cumsum([0] + [gap.shape[1] for gap in gaps])
    joined: Any = sparse.hstack(gaps, format="csr") if sparse.issparse(gaps[0]) else np.concatenate(gaps, axis=1)
    totals = [(a.statistics.sum(axis=0), b.statistics.sum(axis=0)) for a, b in pairs]
    observed = np.array([abs(a.value - b.value) for a, b in pairs])
    least = observed - 1e-9 * np.maximum(1.0, observed)  # equal but for rounding counts as at least as far apart
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
    """Every pair of models on the same samples, in the mapping's order, corrected over all the pairs.

    Up to MANY_MODELS: approximate randomisation with max(10,000, 40 x pairs) draws, so that the smallest corrected p
    can still be significant, and Holm's correction. Above: `_step_down`, from 10,000 bootstrap resamples. The interval
    of a difference is paired: both models under the same resamples. Raises ValueError where the models' sample counts
    differ.
    """
    names, rows = list(scored), list(scored.values())
    if len(names) < 2:
        return []
    n, clusters = len(clusters), numbered(clusters)
    if any(s.statistics.shape[0] != n for s in rows):
        raise ValueError("models compared must have the same samples")
    index, count = _index(clusters, n, seed)
    g = _count(clusters)
    many = len(names) > MANY_MODELS
    sums = [_cluster_sums(s.statistics, index, count) for s in rows] if many else []
    values = _joined_replicates(rows, sums, seed) if many else replicates(rows, clusters, seed)
    first, second = np.triu_indices(len(names), 1)  # the order of itertools.combinations
    points = np.array([s.value for s in rows])
    difference = points[first] - points[second]
    se = _pair_errors(values, first, second, g)
    if g < 2:
        p = adjusted = np.full(len(first), math.nan)
    elif many:
        p, adjusted = _step_down(values, first, second, difference, se, _cluster_variances(rows, sums))
    else:
        p = np.array(
            _randomisation([(rows[i], rows[j]) for i, j in zip(first, second, strict=True)], index, count, seed)
        )
        adjusted = np.array(holm(p.tolist()))
    span = rows[0].metric.high - rows[0].metric.low
    margin = _margin(1.0, g) * se
    columns = (difference, np.maximum(difference - margin, -span), np.minimum(difference + margin, span), p)
    shown = detectable(1.0, g, len(first)) * se
    correction = "romano-wolf" if many else "holm"
    return [
        Comparison(names[i], names[j], d, low, high, own, n, least, corrected, correction)
        for i, j, d, low, high, own, least, corrected in zip(
            first.tolist(), second.tolist(), *(c.tolist() for c in (*columns, shown, adjusted)), strict=True
        )
    ]


def compare(a: Scored, b: Scored, clusters: Clusters, seed: int = 0) -> Comparison:
    """One pair, without correction: `a` against `b` on the same samples."""
    return compare_all({"a": a, "b": b}, clusters, seed)[0]


# Many models ----------------------------------------------------------------------------------------------------------


def _joined_replicates(rows: Sequence[Scored], sums: Sequence[Any], seed: int) -> np.ndarray:
    """What `replicates` gives, under DRAWS resamples: float64 [DRAWS, s]. The models' `sums` by cluster stand side by
    side, so that one product serves many models."""
    from scipy import sparse

    dense = [np.asarray(s.toarray()) if sparse.issparse(s) and s.shape[1] <= _SLAB else s for s in sums]
    found = np.full((DRAWS, len(rows)), math.nan)
    start = 0
    for weights in _weights(sums[0].shape[0], _SLAB, DRAWS, seed):
        block = slice(start, start := start + len(weights))
        for members in _slabs([s.shape[1] for s in dense]):
            joined = dense[members[0]] if len(members) == 1 else np.concatenate([dense[m] for m in members], axis=1)
            product = weights @ joined
            edge = 0
            for m in members:
                found[block, m] = rows[m].metric.finish(product[:, edge : (edge := edge + dense[m].shape[1])])
    return found


def _slabs(widths: Sequence[int]) -> list[list[int]]:
    """The places of consecutive `widths` whose sum is at most _SLAB; a wider one stands alone.

    >>> _slabs([_SLAB - 1, 1, 2, _SLAB + 1])
    [[0, 1], [2], [3]]
    """
    slabs: list[list[int]] = []
    filled = _SLAB
    for place, width in enumerate(widths):
        if not slabs or filled + width > _SLAB:
            slabs.append([])
            filled = 0
        slabs[-1].append(place)
        filled += width
    return slabs


def _cluster_variances(rows: Sequence[Scored], sums: Sequence[Any]) -> np.ndarray:
    """Float64 [g]: how much each cluster adds to the variances of the models' differences: the variance over models of
    what leaving it out changes (the jackknife's influence). `sums` are the models' sums by cluster."""
    count = sums[0].shape[0]
    changed = np.empty((len(rows), count))
    for row, own, out in zip(rows, sums, changed, strict=True):
        total, size = own.sum(axis=0), max(1, _CHUNK // own.shape[1])
        for start in range(0, count, size):
            part = own[start : start + size]
            out[start : start + size] = row.metric.finish(
                total - (part.toarray() if hasattr(part, "toarray") else part)
            )
    changed -= changed.mean(axis=1, keepdims=True)
    return np.where(np.isfinite(changed), changed, 0.0).var(axis=0)


def _pair_errors(values: np.ndarray, first: np.ndarray, second: np.ndarray, g: int) -> np.ndarray:
    """Float64 [pairs]: `_standard_error` of each pair's difference, from bootstrap values [b, s]."""
    if g < 2:
        return np.full(len(first), math.nan)
    if len(values[0]) <= MANY_MODELS:
        return np.array([_standard_error(values[:, i] - values[:, j], g) for i, j in zip(first, second, strict=True)])
    covariance = np.cov(_without_gaps(values), rowvar=False)
    own = covariance.diagonal()
    variance = np.maximum(0.0, own[first] + own[second] - 2 * covariance[first, second])
    # What is left of equal models is rounding.
    variance[variance <= 1e-12 * (own[first] + own[second])] = 0.0
    return np.sqrt(variance * g / (g - 1))


def _without_gaps(values: np.ndarray) -> np.ndarray:
    """Bootstrap values [b, s], where a resample in which a model's metric is undefined takes the model's mean."""
    gaps = ~np.isfinite(values)
    if not gaps.any():
        return values
    mean_of_rest = np.where(gaps, 0.0, values).sum(axis=0) / np.maximum(1, (~gaps).sum(axis=0))
    return np.where(gaps, mean_of_rest, values)


def _step_down(
    values: np.ndarray, first: np.ndarray, second: np.ndarray, difference: np.ndarray, se: np.ndarray, gamma: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The two-sided p of each pair alone, and adjusted by the step-down of Romano and Wolf (2005, 2016); 1 where the
    standard error is 0, NaN where a value is undefined.

    `values` [b, s] are the models' bootstrap values, `first` and `second` [pairs] the numbers of each pair's models. A
    pair's statistic is |difference| / SE; in a resample it is how far the resampled difference is from the mean of
    them all, over SE. The adjusted p of the k-th largest statistic is the share of resamples in which any of the pairs
    from the k-th on reaches it, and at least that of the one before. All pairs share the resamples, so the correction
    knows how much they depend on one another, which Holm's does not.

    With few clusters the observed statistic has the tails of Student's t, but the bootstrap's, whose SE is fixed, those
    of the normal distribution. So the observed one is brought to the normal scale by its probability under t, with the
    degrees of freedom that clusters leave which add the variances `gamma` [g], and the bootstrap's SE is its own,
    without the factor g / (g - 1).
    """
    from scipy.special import ndtri, stdtr

    p, adjusted = np.where(np.isnan(difference), math.nan, 1.0), np.where(np.isnan(difference), math.nan, 1.0)
    tested = np.flatnonzero(~np.isnan(difference) & (se > 0))
    if not len(tested):
        return p, adjusted
    observed = -ndtri(stdtr(_degrees(gamma), -np.abs(difference[tested]) / se[tested]))
    # A model's deviations stand in one row. Single precision is enough beside a standard error, and twice as fast.
    rows = np.ascontiguousarray(_without_gaps(values).T)
    rows = (rows - rows.mean(axis=1, keepdims=True)).astype(np.float32)
    scale = math.sqrt(len(gamma) / (len(gamma) - 1)) / se[tested]
    largest = np.zeros(rows.shape[1], dtype=np.float32)
    pair = np.empty_like(largest)
    reached = np.zeros((2, len(tested)), dtype=np.int64)
    order = np.argsort(observed, kind="stable")  # from the least significant pair on, so `largest` only grows
    models = np.stack([first[tested], second[tested]], axis=1)[order].tolist()
    for k, (i, j), factor, least in zip(
        order.tolist(), models, scale[order].tolist(), observed[order].tolist(), strict=True
    ):
        np.subtract(rows[i], rows[j], out=pair)
        np.multiply(pair, factor, out=pair)
        np.abs(pair, out=pair)
        np.maximum(largest, pair, out=largest)
        reached[0, k] = np.count_nonzero(pair >= least)
        reached[1, k] = np.count_nonzero(largest >= least)
    alone, together = (1 + reached) / (1 + rows.shape[1])
    p[tested] = alone
    adjusted[tested[order]] = np.maximum.accumulate(together[order][::-1])[::-1]
    return p, adjusted


def detectable(se: float, clusters: int, pairs: int = 1) -> float:
    """The smallest true difference that a test at 5 % / `pairs` shows with 80 % power, where `se` is the difference's.

    It is (t(1 - alpha / 2) + t(power)) * SE with `clusters` - 1 degrees of freedom; NaN under two clusters.
    """
    if clusters < 2:
        return math.nan
    return (_t(1 - ALPHA / pairs / 2, clusters - 1) + _t(POWER, clusters - 1)) * se


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order given (Holm 1979). NaN stays NaN and does not count as a test.

    The smallest of three is multiplied by 3, the next by 2, and none may be below the one before it:

    >>> [round(p, 2) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
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
    """The best model and all models that the corrected tests do not tell from it; empty where no value is defined.

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


def standings(tables: Sequence[tuple[Mapping[str, Scored], Clusters]], seed: int = 0) -> list[Standing]:
    """Win rate and mean (Borda) rank over several tables, the best model first.

    A table is the headline Scored of each model, and the clusters of its samples. Only models in every table are
    ranked, so that no model gains by skipping a hard one. Intervals are the 2.5 and 97.5 percentiles over bootstrap
    replicates of every table; they speak of these tables, not of others that might have been chosen.
    """
    shared = [m for m in tables[0][0] if all(m in table for table, _ in tables)] if tables else []
    if len(shared) < 2:
        return []
    ranks = np.zeros((RESAMPLES + 1, len(shared)))  # the first row is of the samples as they are
    for number, (table, clusters) in enumerate(tables):
        rows = [table[m] for m in shared]
        point = np.array([[s.value for s in rows]])
        values = np.concatenate([point, replicates(rows, clusters, seed + number)])
        ranks += _ranks(values if rows[0].metric.larger_is_better else -values) / len(tables)
    wins = (len(shared) - ranks) / (len(shared) - 1)
    tail = 100 * (1 - CONFIDENCE) / 2
    found = []
    for i, model in enumerate(shared):
        win_low, win_high = np.percentile(wins[1:, i], [tail, 100 - tail])
        rank_low, rank_high = np.percentile(ranks[1:, i], [tail, 100 - tail])
        found.append(
            Standing(
                model=model,
                win_rate=float(wins[0, i]),
                win_rate_low=float(win_low),
                win_rate_high=float(win_high),
                borda=float(ranks[0, i]),
                borda_low=float(rank_low),
                borda_high=float(rank_high),
                tables=len(tables),
            )
        )
    return sorted(found, key=lambda s: s.borda)


def _ranks(values: np.ndarray) -> np.ndarray:
    """The ranks of values [r, s] within their row, 1 for the largest; ties share their mean rank, and NaN is the worst.

    >>> _ranks(np.array([[0.7, 0.9, 0.7]])).tolist()
    [[2.5, 1.0, 2.5]]
    """
    from scipy.stats import rankdata

    return rankdata(-np.where(np.isnan(values), -np.inf, values), axis=1)
