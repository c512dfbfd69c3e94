"""Do 95 % intervals cover the truth 95 % of the time? Draws from populations whose truth is known.

A population is many clusters with a metric's statistics; its truth is the metric over all of it. Each draw takes some
clusters, estimates, and looks whether the interval holds the truth. The first table must lie within 93-97 %; the second
shows where it need not (few clusters, rare classes) and how many of those estimates carry a mark.

Averages near 0 and 1 and over few clusters are drawn by formula, twice as often. Up to an intra-cluster correlation of
0.2, at least 93 % must be covered, or 90 % where the truth is 0.98 or more and the correlation is 0.2; where it is at
most 0.95, 99 % on average and no more. At 0.5 the width must be within 5 % of that of value ± t * SE. Where samples
correlate more, less may be covered, but then most of the estimates must carry a mark.

    python tests/benchmarks/intervals.py [draws]            about a quarter of an hour for 1,000
    python tests/benchmarks/intervals.py [draws] averages   these averages alone, a few minutes
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
from scipy.special import stdtrit

from harness.analysis.statistics import estimate, estimates
from harness.errors import counted
from harness.metrics import ALPHA, CONFIDENCE, Scored, averaged
from harness.metrics.captions import caption_scores
from harness.metrics.classification import RARE, classification_scores
from harness.metrics.ranking import rank_both
from harness.metrics.retrieval import retrieval_scores
from harness.metrics.tokenise import Tokeniser

POPULATION = 5_000
WORDS = Tokeniser("words", lambda texts: [text.split() for text in texts])


def sizes(rng):
    """Clusters of 1 to 10 samples."""
    return np.repeat(np.arange(POPULATION), rng.integers(1, 11, POPULATION))


def accuracy(p, seed=0):
    rng = np.random.default_rng(seed)
    cluster = sizes(rng)
    spread = 4.0
    per_cluster = rng.beta(p * spread, (1 - p) * spread, POPULATION)
    return averaged("accuracy", "", rng.random(len(cluster)) < per_cluster[cluster]), cluster


def macro_f1(classes, skew=0.0, seed=0):
    """An answer is right with a probability that its cluster shares, else a class at random; with `skew` some classes
    are rarer than others."""
    rng = np.random.default_rng(seed)
    cluster = sizes(rng)
    common = np.arange(1, classes + 1) ** -float(skew)
    true = rng.choice(classes, len(cluster), p=common / common.sum())
    right = rng.random(len(cluster)) < rng.beta(2.8, 1.2, POPULATION)[cluster]
    predicted = np.where(right, true, rng.integers(0, classes, len(cluster)))
    names = [str(c) for c in range(classes)]
    scored = classification_scores([names[c] for c in predicted], [names[c] for c in true], names)
    return next(s for s in scored if s.metric.name == "f1_macro"), cluster


def cider(seed=0):
    """Captions of nine random words, some of them exchanged; images of a cluster share how likely that is."""
    rng = np.random.default_rng(seed)
    cluster = sizes(rng)
    wrong = rng.beta(1, 2, POPULATION)[cluster]
    words = [f"w{i}" for i in range(400)]
    often = 1 / np.arange(1, 401)
    predictions, references = [], []
    for chance in wrong:
        base = rng.choice(words, 9, p=often / often.sum())
        texts = [np.where(rng.random(9) < q, rng.choice(words, 9), base) for q in (chance, 0.3, 0.3, 0.3)]
        predictions.append(" ".join(texts[0]))
        references.append([" ".join(text) for text in texts[1:]])
    return caption_scores(predictions, references, "en", WORDS)[0], cluster


def recall(k, noise, seed=0):
    """Five texts for each image of a fixed gallery; each image has a noise of its own for its texts."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((2_000, 32))
    owner = np.repeat(np.arange(2_000), 5)
    texts = images[owner] + noise * rng.gamma(2, 0.5, 2_000)[owner, None] * rng.standard_normal((10_000, 32))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    backward = rank_both(images, texts, np.stack([owner, np.arange(10_000)], axis=1))[1]
    scored = retrieval_scores([{"direction": "t2i", **backward.row(i)} for i in range(10_000)])
    return next(s for s in scored if s.metric.name == f"t2i_recall@{k}"), owner


def cover(population, clusters, draws, seed=1):
    """The truth, the mean number of samples in a draw, and the shares of draws whose interval holds the truth and whose
    interval is marked."""
    scored, cluster = population
    rng = np.random.default_rng(seed)
    truth = scored.value
    order = np.argsort(cluster, kind="stable")
    edges = np.searchsorted(cluster[order], np.arange(cluster.max() + 2))
    held = marked = rows_seen = 0
    for draw in range(draws):
        picked = rng.integers(0, cluster.max() + 1, clusters)
        rows = np.concatenate([order[edges[c] : edges[c + 1]] for c in picked])
        names = np.repeat(np.arange(clusters), [edges[c + 1] - edges[c] for c in picked])
        part = Scored(replace(scored.metric, doubt=rare(scored, rows)), scored.statistics[rows])
        found = estimate(part, names.astype(str), seed=draw)
        held += found.low <= truth <= found.high
        marked += not found.reliable
        rows_seen += len(rows)
    return truth, rows_seen / draws, held / draws, marked / draws


def rare(scored, rows):
    """The mark that a classification of these rows alone would carry."""
    if scored.metric.name != "f1_macro":
        return ""
    classes = scored.statistics.shape[1] // 3
    least = int(scored.statistics[rows].sum(axis=0)[2 * classes :].min())
    return f"the rarest class has {counted(least, 'sample')}" if least < RARE else ""


def table(title, rows, draws):
    print(f"\n{title}\n\n| metric | clusters | samples | truth | covered | marked |\n|---|---:|---:|---:|---:|---:|")
    for name, population, clusters in rows:
        truth, n, held, marked = cover(population, clusters, draws)
        print(f"| {name} | {clusters} | {n:.0f} | {truth:.3f} | {held:.1%} | {marked:.0%} |", flush=True)


GRID = np.array([0.0, 0.3, 0.6, 0.9, 1.0])
"""What an answer can score with `vqa_accuracy`."""
CLUSTERS = (10, 20, 30, 100)
TRUTHS = (0.5, 0.9, 0.95, 0.98, 0.99, 1.0)


def right_or_wrong(rng, p, correlation, index, runs):
    """Beta-binomial: a cluster's samples are right with a probability of its own. [runs, n]"""
    chance = np.full((runs, index[-1] + 1), p)
    if correlation and p < 1:
        alike = 1 / correlation - 1
        chance = rng.beta(p * alike, (1 - p) * alike, chance.shape)
    return rng.random((runs, len(index))) < chance[:, index]


def on_the_grid(rng, p, correlation, index, runs):
    """Values of GRID, the ends five times as common as the rest and tilted so that their mean is p. [runs, n]

    A sample repeats its cluster's value with probability sqrt(correlation), so that two of them correlate by as much as
    that says (Lunn and Davies 1998).
    """
    common = np.array([5.0, 1.0, 1.0, 1.0, 5.0])
    tilts = np.exp(np.linspace(-5, 60, 65_001)[:, None] * (GRID - 1)) * common
    tilts /= tilts.sum(axis=1, keepdims=True)
    share = tilts[np.abs(tilts @ GRID - p).argmin()] if p < 1 else GRID == 1
    own = rng.choice(GRID, (runs, len(index)), p=share)
    repeated = rng.choice(GRID, (runs, index[-1] + 1), p=share)[:, index]
    return np.where(rng.random(own.shape) < correlation**0.5, repeated, own)


def covered(values, p, correlation, clusters, draws, batch=50):
    """How often the interval of an average holds p, is marked, and how wide it is; the same of value ± t * SE. The
    draws of a batch share the clusters' sizes."""
    seed = [draws, clusters, round(1000 * p), round(1000 * correlation)]
    rng = np.random.default_rng(seed)
    t = stdtrit(clusters - 1, (1 + CONFIDENCE) / 2)
    found = []
    for _ in range(draws // batch):
        index = np.repeat(np.arange(clusters), rng.integers(1, 11, clusters))
        scored = [averaged("accuracy", "", row) for row in values(rng, p, correlation, index, batch)]
        for e in estimates(scored, index, seed=int(rng.integers(2**31))):
            low, high = max(0.0, e.value - t * e.se), min(1.0, e.value + t * e.se)
            found.append((e.low <= p <= e.high, not e.reliable, e.high - e.low, low <= p <= high, high - low))
    return np.mean(found, axis=0)


def averages(draws):
    populations = (("right or wrong", right_or_wrong), ("0, .3, .6, .9, 1", on_the_grid))
    points = [
        (name, correlation, clusters, [covered(values, p, correlation, clusters, draws) for p in TRUTHS])
        for name, values in populations
        for correlation in (0.0, 0.2, 0.5)
        for clusters in CLUSTERS
    ]
    print(f"\n{draws} draws; a coverage of 93 % is known to {196 * (0.93 * 0.07 / draws) ** 0.5:.1f} points")
    head = "| values | correlation | clusters | " + " | ".join(map(str, TRUTHS)) + " |"
    rule = "|---|---:|---:|" + "---:|" * len(TRUTHS)
    for title, cell in (
        ("Averages: covered, and marked †", lambda f: f"{f[0]:.1%}, {f[1]:.0%} †"),
        ("The same draws by value ± t * SE", lambda f: f"{f[3]:.1%}"),
        ("Mean width over that of value ± t * SE", lambda f: f"{f[2] / f[4]:.2f}" if f[4] else "—"),
    ):
        print(f"\n### {title}\n\n{head}\n{rule}")
        for name, correlation, clusters, found in points:
            print(f"| {name} | {correlation} | {clusters} | " + " | ".join(map(cell, found)) + " |")
    check(points)


def check(points):
    """Print each bar and the worst that was found."""
    flat = [(p, rho, *found) for _, rho, _, row in points for p, found in zip(TRUTHS, row, strict=True)]
    firm = min(f[2] for f in flat if f[1] == 0 or (f[1] == 0.2 and f[0] < 0.98))
    loose = min(f[2] for f in flat if f[1] == 0.2 and f[0] >= 0.98)
    usual = np.mean([f[2] for f in flat if f[1] <= 0.2 and f[0] <= 0.95])
    widths = [f[4] / f[6] for f in flat if f[1] <= 0.2 and f[0] == 0.5]
    marks = [f[3] for f in flat if f[1] == 0.5 and f[2] < 0.93]
    print(
        f"\nLeast coverage {firm:.1%} (bar 93 %), at 0.98 and more with correlation 0.2 {loose:.1%} (90 %); mean up to",
        end="",
    )
    print(f" 0.95 {usual:.1%} (at most 99 %); width at 0.5 {min(widths):.3f} to {max(widths):.3f} (0.95 to 1.05).")
    if marks:
        print(
            f"At correlation 0.5, {len(marks)} points are below 93 %; at least {min(marks):.0%} of the estimates of "
            "each are marked."
        )


def main(draws):
    error = 196 * (ALPHA * CONFIDENCE / draws) ** 0.5
    print(f"{draws} draws, clusters of 1 to 10 samples; a coverage of 95 % is known to {error:.1f} points")
    good = [(f"accuracy {p}", accuracy(p), 100) for p in (0.3, 0.5, 0.7, 0.9)]
    good += [("macro-F1, 10 classes", macro_f1(10), 100), ("macro-F1, 30 classes", macro_f1(30), 200)]
    good += [("macro-F1, 10 skewed classes", macro_f1(10, 0.7), 150)]
    good += [("CIDEr given document frequencies", cider(), 100)]
    good += [(f"recall@{k} given the gallery", recall(k, 1.6), 100) for k in (1, 5, 10)]
    table("Where intervals hold", good, draws)
    bad = [(f"accuracy 0.7, {g} clusters", accuracy(0.7), g) for g in (5, 10, 15, 20, 30)]
    bad += [(f"accuracy {p}", accuracy(p), 100) for p in (0.95, 0.98, 0.99)]
    bad += [("macro-F1, 30 classes", macro_f1(30), 50), ("macro-F1, 30 skewed classes", macro_f1(30, 1.0), 50)]
    table("Where they need not, and whether that is marked", bad, draws)
    averages(2 * draws)


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    averages(2 * number) if "averages" in sys.argv else main(number)
