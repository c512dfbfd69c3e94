"""Classification: accuracy, per-class averages, top-5, calibration, and free-text answers mapped to labels.

Statistics are counts by class (answered right, answered, true), which add up over samples, so macro-F1 has an interval
like any average. Averages follow scikit-learn with `labels=` the declared set and zero_division=0. An answer that maps
to no label counts as wrong, and does not count as a class of its own.

Shapes in this module:
    n           samples
    c           classes, numbered in the order of the labels
    t [n]       int64, each sample's true class
    p [n]       int64, the class answered; -1 where the answer maps to no label
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from harness.errors import UserError, counted
from harness.metrics import Metric, Scored, averaged
from harness.metrics.choice import extract_choice

ECE_BINS = 15
"""The bins of equal width into which confidences are sorted."""
RARE = 10
"""Averages over classes are marked where a class has fewer samples: their intervals then cover less than they say."""


def map_to_label(text: str, labels: Sequence[str], language: str) -> str | None:
    """The one label that a free-text answer means, read as an answer to a list without letters is; None where it means
    none or several."""
    number = extract_choice(text, labels, language, lettered=False)
    return None if number is None else labels[number]


def classification_scores(
    predicted: Sequence[str | None],
    true: Sequence[str],
    labels: Sequence[str] = (),
    scores: np.ndarray | None = None,
) -> list[Scored]:
    """All classification metrics, accuracy first.

    A `predicted` None, for an error or an answer that maps to no label, counts as wrong. `labels` is the declared set;
    where it is empty, the union of true and predicted labels stands for it. `scores`, float [n, c], add top-5 accuracy
    (a tie with the true label's score goes against the model) and ECE; softmax makes them probabilities unless every
    row is a distribution already. A row of NaN (an error) counts as wrong, and ECE leaves it out. Raises UserError
    where a true label is not declared, or where there is not one score for each label.
    """
    if scores is not None and not labels:
        raise UserError("Scores by label need the declared list of labels, in the scores' order.")
    labels = tuple(labels) or tuple(sorted({*true, *(p for p in predicted if p is not None)}))
    number = {label: i for i, label in enumerate(labels)}
    for row, label in enumerate(true, 1):
        if label not in number:
            declared = counted(len(labels), "declared label")
            raise UserError(f"Sample {row}: its true label '{label}' is not among the {declared}.")
    t = np.array([number[label] for label in true], dtype=np.int64)
    p = np.array([-1 if label is None else number.get(label, -1) for label in predicted], dtype=np.int64)
    right = p == t
    found = [
        averaged("accuracy", "share of samples whose label is right; no label is wrong", right),
        *_by_class(t, p, len(labels)),
        averaged("unmapped_rate", "share of samples answered with no declared label", p < 0, larger_is_better=False),
    ]
    if scores is not None:
        if scores.shape != (len(t), len(labels)):
            needed = f"{counted(len(t), 'sample')} and {counted(len(labels), 'label')}"
            raise UserError(f"The scores have the shape {scores.shape}, but there are {needed}.")
        found += [*([_top5(t, scores)] if len(labels) > 5 else []), _ece(t, scores)]
    return found


# Averages over classes ------------------------------------------------------------------------------------------------


def _by_class(t: np.ndarray, p: np.ndarray, classes: int) -> list[Scored]:
    """Balanced accuracy and the macro, micro and weighted averages.

    A sample's statistics are [3 c]: for each class whether it was answered rightly, answered, and true. They are sparse
    where there are many classes.
    """
    from scipy import sparse

    n, rows = len(t), np.arange(len(t))
    answered, right = p >= 0, p == t
    parts = ((rows[right], t[right]), (rows[answered], classes + p[answered]), (rows, 2 * classes + t))
    at = tuple(np.concatenate([part[axis] for part in parts]) for axis in (0, 1))
    counts = sparse.csr_array((np.ones(len(at[0])), at), shape=(n, 3 * classes))
    if classes <= 50:
        counts = counts.toarray()

    def averages(name: str, definition: str, finish: Callable[..., np.ndarray], doubt: str = "") -> Scored:
        def finished(sums: np.ndarray) -> np.ndarray:
            return finish(*(sums[..., i * classes : (i + 1) * classes] for i in range(3)))

        return Scored(Metric(name, definition, finished, doubt=doubt), counts)

    support = np.bincount(t, minlength=classes) if n else np.zeros(classes)
    least = int(support.min()) if classes else 0
    doubt = f"the rarest class has {counted(least, 'sample')}" if n and least < RARE else ""
    over = f"over the {counted(classes, 'label')}"
    return [
        averages("balanced_accuracy", "mean recall over the labels that occur", _balanced, doubt),
        averages("precision_macro", f"mean precision {over}; 0 where never answered", _precision, doubt),
        averages("recall_macro", f"mean recall {over}; 0 where it does not occur", _recall, doubt),
        averages("f1_macro", f"mean F1 {over}; 0 where a label neither occurs nor is answered", _f1, doubt),
        averages("f1_micro", f"F1 of the counts summed {over}", _f1_micro),
        averages("f1_weighted", "mean F1 weighted by how often a label occurs", _f1_weighted),
    ]


# Each of these turns sums [..., c] of the three counts into values [...]; a ratio with nothing below it is 0.


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.zeros_like(a, dtype=np.float64), where=b > 0)


def _defined(values: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.where(true.sum(axis=-1) > 0, values, np.nan)


def _balanced(right: np.ndarray, answered: np.ndarray, true: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return _ratio(right, true).sum(axis=-1) / (true > 0).sum(axis=-1)


def _precision(right: np.ndarray, answered: np.ndarray, true: np.ndarray) -> np.ndarray:
    return _defined(_ratio(right, answered).mean(axis=-1), true)


def _recall(right: np.ndarray, answered: np.ndarray, true: np.ndarray) -> np.ndarray:
    return _defined(_ratio(right, true).mean(axis=-1), true)


def _f1(right: np.ndarray, answered: np.ndarray, true: np.ndarray) -> np.ndarray:
    return _defined(_ratio(2 * right, answered + true).mean(axis=-1), true)


def _f1_micro(right: np.ndarray, answered: np.ndarray, true: np.ndarray) -> np.ndarray:
    return _defined(_ratio(2 * right.sum(axis=-1), answered.sum(axis=-1) + true.sum(axis=-1)), true)


def _f1_weighted(right: np.ndarray, answered: np.ndarray, true: np.ndarray) -> np.ndarray:
    f1 = _ratio(2 * right, answered + true)
    return _defined(_ratio((f1 * true).sum(axis=-1), true.sum(axis=-1)), true)


# Scores by label ------------------------------------------------------------------------------------------------------


def _top5(t: np.ndarray, scores: np.ndarray) -> Scored:
    own = scores[np.arange(len(t)), t][:, None]
    ahead = (scores >= own).sum(axis=1) - 1
    hit = (ahead < 5) & ~np.isnan(scores).any(axis=1)
    return averaged("top5_accuracy", "share of samples whose label is among the five best scores, ties against", hit)


def _ece(t: np.ndarray, scores: np.ndarray) -> Scored:
    """Expected calibration error (Guo et al. 2017) of the most probable label.

    A sample's statistics are [ECE_BINS, 2], flat: in the bin of its confidence, right - confidence and 1; else 0.
    """
    given = ~np.asarray(np.isnan(scores).any(axis=1))
    s = np.where(given[:, None], scores, 0.0).astype(np.float64)
    probabilities = s
    if not ((s[given] >= 0).all() and np.allclose(s[given].sum(axis=1), 1, atol=1e-3)):
        probabilities = np.exp(s - s.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    confidence = probabilities.max(axis=1) if len(t) else np.zeros(0)
    right = (probabilities.argmax(axis=1) == t) if len(t) else np.zeros(0)
    place = np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)
    statistics = np.zeros((len(t), ECE_BINS, 2))
    statistics[np.arange(len(t)), place, 0] = (right - confidence) * given
    statistics[np.arange(len(t)), place, 1] = given

    def finish(sums: np.ndarray) -> np.ndarray:
        bins = sums.reshape(*sums.shape[:-1], ECE_BINS, 2)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.abs(bins[..., 0]).sum(axis=-1) / bins[..., 1].sum(axis=-1)

    definition = f"expected calibration error of the best label's probability, {ECE_BINS} bins of equal width"
    metric = Metric("ece", definition, finish, larger_is_better=False, interval=False)
    return Scored(metric, statistics.reshape(len(t), ECE_BINS * 2))
