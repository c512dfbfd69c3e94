"""Answers that are no answers: in the wrong language, empty, or repeating themselves without end; each a rate.

They explain a low score: a model that answers a Chinese question in English may know the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from harness.metrics import Metric, Scored, mean
from harness.metrics.text import CJK

_CHINESE = re.compile(f"[{CJK}]")
_LATIN = re.compile(r"[A-Za-z]")
LEAST_REPEATED = 20
"""Characters; shorter stretches such as "no no no" or a rhyme may be meant."""


def wrong_language(text: str, language: str) -> bool:
    """Asked in Chinese, a text of words without one Chinese character; asked in English, mostly Chinese characters.

    Numbers, single letters (a choice) and an empty text are in no language.
    """
    chinese, latin = len(_CHINESE.findall(text)), len(_LATIN.findall(text))
    return (chinese == 0 and latin >= 2) if language == "zh" else chinese > latin


def repeats_endlessly(text: str) -> bool:
    """Whether the text ends in one unit said at least four times, over half of it and at least 20 characters."""
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
    """`wrong_language_rate`, `empty_rate`, `repetition_rate` over the answers given (None, an error, is no answer)."""
    import numpy as np

    name = {"en": "English", "zh": "Chinese"}[language]
    checks = (
        ("wrong_language_rate", f"share of the answers not in {name}", lambda text: wrong_language(text, language)),
        ("empty_rate", "share of the answers that are empty", lambda text: not text.strip()),
        ("repetition_rate", "share of the answers that end in one unit repeated four times or more", repeats_endlessly),
    )
    given = np.fromiter((p is not None for p in predictions), np.float64, len(predictions))
    found = []
    for rate, definition, check in checks:
        once = lru_cache(maxsize=2**16)(check)  # answers from a closed set repeat
        hits = np.fromiter((p is not None and once(p) for p in predictions), np.float64, len(predictions))
        metric = Metric(rate, definition, mean, larger_is_better=False)
        found.append(Scored(metric, np.stack([hits, given], axis=1)))
    return found
