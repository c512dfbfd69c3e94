"""How often a model fails to answer properly: in the wrong language, with nothing, or repeating itself without end.

These rates explain a low score: a model that answers a Chinese question in English may know the answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from harness.metrics import Metric, Scored, mean
from harness.metrics.text import CJK, REMEMBERED

_CHINESE = re.compile(f"[{CJK}]")
_LATIN = re.compile(r"[A-Za-z]")
LEAST_REPEATED = 20
"""Characters below which a repetition does not count: a short one, such as "no no no", may be meant."""

_CANNOT = (
    r"(?:can't|can ?not|won't|will not|(?:'m|am) (?:unable|not able|not allowed)|(?:must|have to) decline|don't have)"
)
_REFUSALS = (
    # "I'm sorry, but I can't ...", "Unfortunately, I am unable to ..."
    rf"(?:(?:i'm|i am|we are)?\s*(?:very |so |truly )?(?:sorry|afraid)|(?:i|my|our)\s+apolog\w+|unfortunately)\b"
    rf"[^.!?]{{0,40}}?[.!]?\s*\b(?:i|we)\s*{_CANNOT}",
    # "As an AI, I can't see ..."
    rf"as an? (?:ai|artificial|(?:\w+ )?language model)\b[^.!?]{{0,80}}?\bi\s*(?:{_CANNOT}|do not|don't)",
    # "I cannot assist with that"; but "I cannot see a dog" is an answer
    rf"(?:i|we)\s*{_CANNOT}(?: be able)?(?: to)?\s+(?:assist|help|comply|ful ?fil|provide|answer|respond|engage|"
    r"participate|process|analy[sz]e|discuss|identify|recogni[sz]e|continue|do that|"
    r"(?:see|view|access|open)\s+(?:the |this |any |your )?(?:image|picture|photo|video|file)s?\b)",
    # 抱歉，我无法……
    r"(?:很|非常|十分|真的|实在)?(?:抱歉|对不起|不好意思|遗憾)[^。！？]{0,20}?(?:无法|不能|没有?办法|没法|不便|不可以|不会)",
    # 作为人工智能，我无法……
    r"(?:我是|作为)(?:一[个名款位])?(?:ai|人工智能|[^，。]{0,6}?语言模型|[^，。]{0,4}?助手)[^。！？]{0,30}?(?:无法|不能|没有|不具备)",
    # 我不能回答……; but 我不能确定 is an answer
    r"我(?:无法|不能|没有?办法|没法|不便|拒绝)[^，。！？]{0,12}?(?:回答|提供|协助|帮|满足|讨论|识别|处理|查看|访问|生成|参与|给出|"
    r"看到?(?:这|该|您|你)?[张幅个的]*(?:图|照片|视频))",
)
"""How refusals begin, in English and Chinese."""
_REFUSAL = re.compile(rf"[^\w]*(?:{'|'.join(_REFUSALS)})", re.IGNORECASE)


def is_empty(text: str) -> bool:
    """Whether an answer holds no text."""
    return not text.strip()


def refuses(text: str) -> bool:
    """Whether an answer begins by declining to answer, in English or Chinese.

    These are the usual wordings of chat models, such as "I'm sorry, but I can't ...", "As an AI, I cannot see ..." and
    抱歉，我无法……. A refusal that is only mentioned further on is none.
    """
    return _REFUSAL.match(unicodedata.normalize("NFKC", text[:300]).replace("’", "'")) is not None


def wrong_language(text: str, language: str) -> bool:
    """Whether a text is not in the language of its question: Latin words without one Chinese character where that is
    Chinese, more Chinese characters than Latin letters where it is English.

    Numbers, single letters (a choice) and an empty text are in no language, and so never in the wrong one.
    """
    chinese, latin = len(_CHINESE.findall(text)), len(_LATIN.findall(text))
    return (chinese == 0 and latin >= 2) if language == "zh" else chinese > latin


def repeats_endlessly(text: str) -> bool:
    """Whether a text ends in one unit that comes at least four times and fills half of the text or more."""
    text = " ".join(text.split())[::-1]
    n = len(text)
    if n < LEAST_REPEATED:
        return False
    matched = _matches(text)
    return any(period + matched[period] >= max(4 * period, LEAST_REPEATED, n / 2) for period in range(1, n // 4 + 1))


def _matches(text: str) -> list[int]:
    """For each place, how long the text from there on equals its beginning, in time linear in its length (the Z
    algorithm, Gusfield 1997)."""
    found = [0] * len(text)
    left = right = 0
    for i in range(1, len(text)):
        length = min(right - i, found[i - left]) if i < right else 0
        while i + length < len(text) and text[length] == text[i + length]:
            length += 1
        found[i] = length
        if i + length > right:
            left, right = i, i + length
    return found


def answer_hygiene(predictions: Sequence[str | None], language: str) -> list[Scored]:
    """`wrong_language_rate`, `empty_rate` and `repetition_rate`, as shares of the answers given.

    A prediction of None, that of a sample that failed, is not among these.
    """
    name = {"en": "English", "zh": "Chinese"}[language]
    checks = (
        ("wrong_language_rate", f"share of the answers not in {name}", lambda text: wrong_language(text, language)),
        ("empty_rate", "share of the answers that are empty", is_empty),
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
