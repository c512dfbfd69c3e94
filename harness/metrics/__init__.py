"""Metrics: each is a row of sufficient statistics a sample, and a `finish` from their sum to the number.

Accuracy, macro-F1, BLEU, CIDEr and recall@k all have this shape, and so share one bootstrap: resampling clusters is
one matrix product over the summed rows (`harness.analysis.statistics`). The functions in this package know no task, no
adapter and no record: they take predictions and references and return `Scored`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Metric:
    """What a number is called and what it means."""

    name: str
    definition: str
    """Which definition, tokeniser and normalisation: stands beside the number wherever it is printed."""
    finish: Callable[[np.ndarray], np.ndarray]
    """Summed statistics [..., d] -> values [...]; NaN where undefined (no sample of any kind)."""
    low: float = 0.0
    high: float = 1.0
    """The metric's range, to which intervals are clipped (inf where there is none)."""
    larger_is_better: bool = True
    interval: bool = True
    """False where no honest interval is known (ECE)."""
    doubt: str = ""
    """Why its interval may cover less than it says, known from the data (a class with few samples); shown as a mark."""


@dataclass(frozen=True)
class Scored:
    """A metric and its statistics over n samples, in the records' order."""

    metric: Metric
    statistics: Any
    """Float64 [n, d], an ndarray or a scipy csr_array; finish(statistics.sum(0)) is the corpus value."""

    @property
    def value(self) -> float:
        return float(self.metric.finish(self.statistics.sum(axis=0)))


def mean(sums: np.ndarray) -> np.ndarray:
    """`finish` of a plain average: statistics are [value, 1]."""
    import numpy as np

    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[..., 0] / sums[..., 1]


def averaged(name: str, definition: str, values: ArrayLike, **options) -> Scored:  # noqa: ANN003 - passed to Metric
    """The plain average of per-sample `values` [n] as a Scored."""
    import numpy as np

    values = np.asarray(values, dtype=np.float64)
    return Scored(Metric(name, definition, mean, **options), np.stack([values, np.ones_like(values)], axis=1))
