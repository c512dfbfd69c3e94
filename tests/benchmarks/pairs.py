"""Do paired tests call equal models different, and do they see what they say they would?

Models answer questions that are harder or easier for all of them, clusters of 1 to 10. Equal models: the share of
tables with any significant pair after Holm's correction must be at most 6 %. Unequal models: the share found must be
what the detectable difference promises, 80 %.

Many models are corrected by another procedure, which must raise a false alarm as seldom: where all are equal, and among
equals where half of the models are worse. It must find the others as often, within two points, as the procedure for few
models does on the same tables, and take no more than 5 CPU-seconds for 100 models over 1,000 samples and 120 for 1,000;
three times that for macro-F1.

    python tests/benchmarks/pairs.py [draws]        a few minutes for 1,000
    python tests/benchmarks/pairs.py [draws] many   many models alone, twenty minutes for 1,000
"""

from __future__ import annotations

import sys
import time
from unittest.mock import patch

import numpy as np

from harness.analysis import statistics
from harness.analysis.statistics import best_group, compare, compare_all, rank_intervals
from harness.metrics import averaged
from harness.metrics.classification import classification_scores


def questions(rng, clusters):
    """The cluster name of each question, and how much easier than others the question is."""
    index = np.repeat(np.arange(clusters), rng.integers(1, 11, clusters))
    return index.astype(str), rng.normal(0, 1, clusters)[index] + rng.normal(0, 1, len(index))


def answers(rng, ability, ease):
    return rng.random(len(ease)) < 1 / (1 + np.exp(-(ability + ease)))


def macro_f1(rng, questions):
    """A function from which answers were right to macro-F1 over four balanced classes; a wrong answer is another
    class."""
    true = rng.integers(0, 4, questions)

    def score(right):
        predicted = np.where(right, true, (true + rng.integers(1, 4, questions)) % 4)
        scored = classification_scores([str(c) for c in predicted], [str(c) for c in true], list("0123"))
        return next(s for s in scored if s.metric.name == "f1_macro")

    return score


def family_wise(metric, models, clusters, draws):
    errors = 0
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        names, ease = questions(rng, clusters)
        score = macro_f1(rng, len(ease)) if metric == "macro-F1" else lambda right: averaged("accuracy", "", right)
        table = {str(m): score(answers(rng, 0.5, ease)) for m in range(models)}
        errors += any(c.significant for c in compare_all(table, names, seed=draw))
    return errors / draws


def power(ability, clusters, draws):
    """The share of draws in which the better model is found, the mean difference, and the mean detectable
    difference."""
    found, difference, detectable = 0, 0.0, 0.0
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        names, ease = questions(rng, clusters)
        a, b = answers(rng, ability, ease), answers(rng, 0.0, ease)
        c = compare(averaged("accuracy", "", a), averaged("accuracy", "", b), names, seed=draw)
        found += c.significant
        difference += c.difference / draws
        detectable += c.detectable / draws
    return found / draws, difference, detectable


MODELS = 24
"""Enough for the procedure that many models are compared by."""
ABILITIES = {0.5: 0.0, 0.95: 3.7}
"""The ability that answers about this share of the questions."""


def many_models(rng, clusters, ability, worse):
    """Models of one ability, the second half of them `worse` by as much; and the clusters' names."""
    names, ease = questions(rng, clusters)
    abilities = [ability - worse * (m >= MODELS // 2) for m in range(MODELS)]
    return {str(m): averaged("accuracy", "", answers(rng, a, ease)) for m, a in enumerate(abilities)}, names


def unequal(c):
    return (int(c.a) < MODELS // 2) != (int(c.b) < MODELS // 2)


def many_false_alarms(clusters, ability, worse, draws):
    alarms = 0
    for draw in range(draws):
        table, names = many_models(np.random.default_rng(draw), clusters, ability, worse)
        found = compare_all(table, names, seed=draw)
        alarms += any(c.significant for c in found if not worse or not unequal(c))
    return alarms / draws


def many_power(clusters, ability, worse, draws):
    """The shares of unequal pairs that are found: by the procedure for many models, and by that for few."""
    found = np.zeros(2)
    for draw in range(draws):
        table, names = many_models(np.random.default_rng(draw), clusters, ability, worse)
        for place, limit in enumerate((statistics.MANY_MODELS, MODELS)):
            with patch.object(statistics, "MANY_MODELS", limit):
                pairs = compare_all(table, names, seed=draw)
            found[place] += np.mean([c.significant for c in pairs if unequal(c)]) / draws
    return found


def cost(metric, models):
    """CPU seconds for comparing and ranking models over 1,000 samples, one to a cluster, and the number of pairs."""
    rng = np.random.default_rng(0)
    ease, true = rng.normal(0, 1, 1_000), rng.integers(0, 10, 1_000)
    labels, table = list("0123456789"), {}
    for m in range(models):
        right = answers(rng, 2 * m / models - 1, ease)
        predicted = np.where(right, true, (true + rng.integers(1, 10, 1_000)) % 10)
        scored = classification_scores([labels[c] for c in predicted], [labels[c] for c in true], labels)
        table[str(m)] = next(s for s in scored if s.metric.name == metric)
    start = time.process_time()
    found = compare_all(table, np.arange(1_000))
    rank_intervals(list(table), found)
    best_group({name: s.value for name, s in table.items()}, found)
    return time.process_time() - start, len(found)


def many(draws):
    print(f"\n| {MODELS} models | clusters | share right | tables with a false alarm |\n|---|---:|---:|---:|")
    for clusters in (20, 50, 1_000):
        for share, ability in ABILITIES.items():
            for name, worse in (("all equal", 0.0), ("half of them worse", 2.0)):
                alarms = many_false_alarms(clusters, ability, worse, draws)
                print(f"| {name} | {clusters} | {share} | {alarms:.1%} |", flush=True)
    print("\n| clusters | share right | worse by | found | by Holm and exchanges |\n|---:|---:|---:|---:|---:|")
    for clusters, share, worse in ((20, 0.5, 2.0), (50, 0.5, 1.2), (100, 0.5, 0.8), (100, 0.95, 1.2), (200, 0.5, 0.6)):
        ours, others = many_power(clusters, ABILITIES[share], worse, max(1, draws // 20))
        print(f"| {clusters} | {share} | {worse} | {ours:.1%} | {others:.1%} |", flush=True)
    print("\n| metric | models | pairs | CPU s | limit |\n|---|---:|---:|---:|---:|")
    limits = {("accuracy", 100): 5, ("accuracy", 1_000): 120, ("f1_macro", 100): 15, ("f1_macro", 1_000): 360}
    for (metric, models), limit in limits.items():
        seconds, pairs = cost(metric, models)
        print(f"| {metric} | {models} | {pairs:,} | {seconds:.1f} | {limit} |", flush=True)


def main(draws):
    print("| equal models | clusters | metric | tables with a false alarm |\n|---:|---:|---|---:|")
    tables = ((2, 30, "accuracy"), (2, 100, "accuracy"), (5, 100, "accuracy"), (4, 100, "macro-F1"))
    for models, clusters, metric in tables:
        print(f"| {models} | {clusters} | {metric} | {family_wise(metric, models, clusters, draws):.1%} |", flush=True)
    print("\n| clusters | true difference | detectable difference | found |\n|---:|---:|---:|---:|")
    for clusters, ability in ((100, 0.4), (100, 0.55), (200, 0.4)):
        found, difference, detectable = power(ability, clusters, draws)
        print(f"| {clusters} | {difference:.3f} | {detectable:.3f} | {found:.1%} |", flush=True)

    many(draws)


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    many(number) if "many" in sys.argv else main(number)
