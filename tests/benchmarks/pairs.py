"""Do paired tests call equal models different, and do they see what they say they would?

Models answer questions that are harder or easier for all of them, clusters of 1 to 10. Equal models: the share of
tables with any significant pair after Holm's correction must be at most 6 %. Unequal models: the share found must be
what the detectable difference promises, 80 %.

    python tests/benchmarks/pairs.py [draws]        a few minutes for 1,000
"""

from __future__ import annotations

import sys

import numpy as np

from harness.analysis.statistics import compare, compare_all
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


def main(draws):
    print("| equal models | clusters | metric | tables with a false alarm |\n|---:|---:|---|---:|")
    tables = ((2, 30, "accuracy"), (2, 100, "accuracy"), (5, 100, "accuracy"), (4, 100, "macro-F1"))
    for models, clusters, metric in tables:
        print(f"| {models} | {clusters} | {metric} | {family_wise(metric, models, clusters, draws):.1%} |", flush=True)
    print("\n| clusters | true difference | detectable difference | found |\n|---:|---:|---:|---:|")
    for clusters, ability in ((100, 0.4), (100, 0.55), (200, 0.4)):
        found, difference, detectable = power(ability, clusters, draws)
        print(f"| {clusters} | {difference:.3f} | {detectable:.3f} | {found:.1%} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)
