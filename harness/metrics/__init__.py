"""Metrics: each gives a row of statistics for every sample, and a `finish` that turns their sum into the number.

Accuracy, macro-F1, BLEU, CIDEr and recall@k all have this shape, and so share one bootstrap: resampling clusters is
one matrix product over the summed rows (`harness.analysis.statistics`). The functions in this package know no task, no
adapter and no record: they take predictions and references and return `Scored`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

ALPHA = 0.05
"""A difference counts as shown where its corrected p value is below this."""
CONFIDENCE = 1 - ALPHA
"""The level of every interval."""
FEW_CLUSTERS = 20
"""An interval from fewer clusters is printed but marked: the bootstrap is known to be too narrow there."""


@dataclass(frozen=True)
class Metric:
    """What a number is called and what it means."""

    name: str
    definition: str
    """Which definition, tokeniser and normalisation it follows: printed beside the number wherever that stands."""
    finish: Callable[[np.ndarray], np.ndarray]
    """Turns summed statistics [..., d] into values [...]; NaN where the value is undefined (there was no sample)."""
    low: float = 0.0
    high: float = 1.0
    """The metric's range is [low, high], and intervals are clipped to it. A side without a limit is infinite."""
    larger_is_better: bool = True
    interval: bool = True
    """False for a metric of which no honest interval is known (ECE)."""
    doubt: str = ""
    """Why its interval may cover less than it says, as far as the data tell (a class with few samples)."""


@dataclass(frozen=True)
class Scored:
    """A metric and its statistics over n samples, in the records' order."""

    metric: Metric
    statistics: Any
    """Float64 [n, d], an ndarray or a scipy csr_array; finish(statistics.sum(0)) is the value over all samples."""

    @property
    def value(self) -> float:
        """The metric over all samples."""
        return float(self.metric.finish(self.statistics.sum(axis=0)))


def finite(value: float) -> float | None:
    """The number as JSON can hold it, which has no NaN: None where it is undefined or infinite."""
    return float(value) if math.isfinite(value) else None


def mean(sums: np.ndarray) -> np.ndarray:
    """The `finish` of a plain average, whose statistics are [value, 1] for each sample.

    >>> rows = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0], [1.0, 1.0]])  # right, wrong, right, right
    >>> float(mean(rows.sum(axis=0)))
    0.75
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[..., 0] / sums[..., 1]


def averaged(name: str, definition: str, values: ArrayLike, **options) -> Scored:  # noqa: ANN003 - passed to Metric
    """The plain average of per-sample `values` [n] as a Scored."""
    values = np.asarray(values, dtype=np.float64)
    return Scored(Metric(name, definition, mean, **options), np.stack([values, np.ones_like(values)], axis=1))
