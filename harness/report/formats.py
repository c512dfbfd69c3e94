"""How numbers and foreign text are written: in the same way in every output, so that a figure reads alike
everywhere."""

from __future__ import annotations

import re
from typing import Any

from harness.errors import printable
from harness.report.summary import Number, number

NONE = "—"
"""Stands for what is undefined or unknown."""
_COUNTED = ("median_rank",)
"""Names end so where a metric counts something, instead of being a share or a score."""


def metric(value: float | None, name: str = "") -> str:
    """A metric's value with three decimals, but a median rank as a plain number."""
    if value is None:
        return NONE
    return f"{value:,.1f}".removesuffix(".0") if name.endswith(_COUNTED) else f"{value:.3f}"


def interval(score: Number, name: str = "") -> str:
    """The interval, such as [0.701, 0.767]; — where there is none."""
    if score.low is None or score.high is None:
        return NONE
    return f"[{metric(score.low, name)}, {metric(score.high, name)}]"


def with_interval(score: Number, name: str = "") -> str:
    """The value and its interval, if it has one."""
    if score.low is None or score.high is None:
        return metric(score.value, name)
    return f"{metric(score.value, name)} {interval(score, name)}"


def quantity(value: Any) -> str:
    """Milliseconds, rates and seconds with three significant figures; from 100 on as whole numbers, with thousands
    separated."""
    value = number(value)
    if value is None:
        return NONE
    for limit, digits in ((99.95, 0), (9.995, 1)):
        if abs(value) >= limit:
            return f"{value:,.{digits}f}"
    return f"{value:.2f}"


def count(value: Any) -> str:
    """A whole number, with thousands separated."""
    value = number(value)
    return NONE if value is None else f"{value:,.0f}"


def share(value: Any) -> str:
    """A share as a percentage; never rounded up to 100 nor down to 0, so that one failure in a thousand still shows."""
    value = number(value)
    if value is None:
        return NONE
    percent = round(100 * value, 1)
    if value < 1:
        percent = min(percent, 99.9)
    if value > 0:
        percent = max(percent, 0.1)
    return f"{percent:.1f}".removesuffix(".0") + " %"


def probability(value: Any) -> str:
    """A p-value."""
    value = number(value)
    if value is None:
        return NONE
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def signed(value: Any) -> str:
    """A difference with its sign and three decimals; zero has no sign."""
    value = number(value)
    if value is None:
        return NONE
    return f"{value:+.3f}" if round(value, 3) else "0.000"


_BREAKS = re.compile(r"[\s\u2028\u2029\x85]+")


def clean(text: Any, limit: int = 0) -> str:
    """Foreign text (a model's output, an error) on one line, without characters that steer a terminal or turn the
    direction of reading, and without piles of marks.

    With `limit`, longer text is cut and ends in "…".
    """
    text = str(text)
    cut = bool(limit) and len(text) > _SPARE * limit
    if cut:  # first, so that a text of a million characters costs no more than what is shown of it
        text = text[: _SPARE * limit]
    text = printable(_BREAKS.sub(" ", text).strip(), keep="")
    if not limit or (len(text) <= limit and not cut):
        return text
    return text[: limit - 1].rstrip() + "…"


_SPARE = 8
"""Of a text that is to be cut, so many times the length is looked at: white space and marks may take it up."""
