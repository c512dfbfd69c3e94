"""How often a model fails to answer properly: in the wrong language, with nothing, or repeating itself without end.

These rates explain a low score: a model that answers a Chinese question in English may know the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from harness.metrics import Metric, Scored, mean
from harness.metrics.text import CJK, REMEMBERED

_CHINESE = re.compile(f"[{CJK}]")
_LATIN = re.compile(r"[A-Za-z]")
LEAST_REPEATED = 20
"""Characters below which a repetition does not count: a short one, such as "no no no", may be meant."""


def wrong_language(text: str, language: str) -> bool:
    """Whether a text is not in the language of its question: Latin words without one Chinese character where that is
    Chinese, more Chinese characters than Latin letters where it is English.

    Numbers, single letters (a choice) and an empty text are in no language, and so never in the wrong one.
    """
    chinese, latin = len(_CHINESE.findall(text)), len(_LATIN.findall(text))
    return (chinese == 0 and latin >= 2) if language == "zh" else chinese > latin


def repeats_endlessly(text: str) -> bool:
    """Whether a text ends in one unit that comes at least four times and fills half of the text or more."""
    text = " ".join(text.split())
    n = len(text)
    for period in range(1, n // 4 + 1):
        run = period
        while run < n and text[n - 1 - run] == text[n - 1 - run + period]:
            run += 1
        if run >= max(4 * period, LEAST_REPEATED, n / 2):
            return True
    return False


def answer_hygiene(predictions: Sequence[str | None], language: str) -> list[Scored]:
    """`wrong_language_rate`, `empty_rate` and `repetition_rate`, as shares of the answers given.

    A prediction of None, that of a sample that failed, is not among these.
    """
    name = {"en": "English", "zh": "Chinese"}[language]
    checks = (
        ("wrong_language_rate", f"share of the answers not in {name}", lambda text: wrong_language(text, language)),
        ("empty_rate", "share of the answers that are empty", lambda text: not text.strip()),
        ("repetition_rate", "share of the answers that end in one unit repeated four times or more", repeats_endlessly),
    )
    given = np.fromiter((p is not None for p in predictions), np.float64, len(predictions))
    found = []
    for rate, definition, check in checks:
        once = lru_cache(maxsize=REMEMBERED)(check)  # answers from a closed set repeat
        hits = np.fromiter((p is not None and once(p) for p in predictions), np.float64, len(predictions))
        metric = Metric(rate, definition, mean, larger_is_better=False)
        found.append(Scored(metric, np.stack([hits, given], axis=1)))
    return found
