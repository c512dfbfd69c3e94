"""Which choice a free-text answer makes: a letter or a choice's own words, in English and Chinese.

Models asked for "the letter only" answer with reasons, with a trace of thought, with a correction half way, or refuse.
The choice read must be the one that a careful person would read, and none where two choices remain: guessing would make
the accuracy of a talkative model a matter of regular expressions. So every letter is found first, letters that are only
named to be ruled out are dropped, and then the first of these decides: the whole answer, an answer that is announced
("the answer is B"), the only letter that is named, a choice's own words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from string import ascii_uppercase

from harness.metrics.text import denied, half_width, mentions, normalise

_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)|^.*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_DECORATION = re.compile(r"\\(?:boxed|text|mathbf|mathrm)\s*\{([^{}]*)\}|[*_`$]+|</?answer>")
_OPENING, _CLOSING = r"[\s\"'“”‘’«([{<【〔「『《*_`$#]*", r"[\s\"'“”‘’».,:;!?)\]}>】〕」』》、。*_`$]*"
"""What may stand around a bare letter. Signs such as + and # behind it may not: C++ and A+ are names."""
_WHOLE = re.compile(
    rf"{_OPENING}(?:-\s+)?(?:(?:the\s+)?(?:answer|option|choice|letter|选项|答案|选择|选)\s*(?:is\b|[:是为])?{_OPENING})?"
    rf"([A-Z])\s*(?:选项|项)?{_CLOSING}",
    re.IGNORECASE | re.ASCII,
)
_LEADING = re.compile(r"^\W*([A-Za-z])\s*[.):、](?=\s|\W|[\u4e00-\u9fff]|$|\w{2})")
_TOKEN = re.compile(r"(?<![A-Za-z0-9'’\-])([A-Z])(?![A-Za-z0-9'’]|-\w)")
_LOWER_TOKEN = re.compile(r"\(([a-z])\)")
_CUE = re.compile(
    r"(?:\b(?:answers?|choice|option|correct one|choose|chose|pick|select|go with|going with|opt for)"
    r"(?:\s+(?:is|was|are|be|should be|would be|must be|has to be|the|correct|likely|most|probably|definitely|"
    r"therefore|to|letter|option|choice|answer|one))*\s*[:=\-]?\s*(?:option|choice|letter)?"
    r"|\b(?:it's|it is|it must be|it should be|that's|should be|must be|would be)\s+(?:option|choice|letter)?"
    r"|(?:答案|选项|正确|选择|应选|应该选|应当选|故选|选|应该是|应为|应是)(?:应该|应当|应|就|显然|只能|可能)?"
    r"(?:是|为|选|选择)?\s*[:]?\s*(?:选项)?)[\s(\[\"'“]*$",
    re.IGNORECASE,
)
_LOWER_CUE = re.compile(r"\b(?:answer|option|choice)(?:\s+is)?\s*:?\s*\(?([a-z])(?![\w'])", re.IGNORECASE)
_CUE_AFTER = re.compile(
    r"^[\s)\]\"'”.]*(?:is\s+(?:the\s+)?(?:correct|right|best|answer)|(?:选项)?是?(?:正确|对的|答案))", re.IGNORECASE
)
_JOINT = re.compile(r"^[\s)\]]*(?:or|and|/|,|&|、|或者?|和|及|与)\s*(?:option|选项)?\s*[(\[]?[A-Z](?![A-Za-z])")
_CORRECTION = re.compile(
    r"\b(?:wait|actually|correction|on second thoughts?|i mean|let me (?:re|correct)\w*|i made a mistake|sorry|"
    r"scratch that|no,)|(?<![A-Z])(?<![A-Z]是)不对|等等|等一下|更正|纠正|我错了|修正|重新考虑",
    re.IGNORECASE,
)
_REASON = re.compile(r"\s+(?:because|since|as|is|isn't|and|or|nor|but|due|given|for|which|with|in this)\b")
"""What follows an A or I that names a choice; before any other word it is the article or the pronoun."""


@lru_cache(maxsize=100_000)
def _extract(text: str, choices: tuple[str, ...], language: str) -> int | None:
    text = _DECORATION.sub(lambda m: m.group(1) or "", half_width(_THOUGHT.sub(" ", text))).strip()
    letters = ascii_uppercase[: len(choices)]
    bare = letter(text)
    if bare is not None and bare < len(letters):
        return bare
    plain = normalise(text, language)
    exact = [i for i, choice in enumerate(choices) if normalise(choice, language) == plain]
    if plain and exact:
        return exact[0] if len(exact) == 1 else None
    found = _by_letter(text, letters)
    if found is not None:
        return found if found >= 0 else None
    return _only(mentions(text, choices, language), _corrected_at(_flatten(text)))


def extract_choice(text: str, choices: Sequence[str], language: str) -> int | None:
    """Index of the one choice that an answer makes; None where it makes none or leaves several.

    `choices` are in the order shown, lettered A, B, C ... (at most 26 have a letter).
    """
    return _extract(text, tuple(choices), language)


def letter(text: str) -> int | None:
    """The place of the letter that a text consists of, in any usual dress; None for any other text.

    >>> [letter(text) for text in ("B", "b", "(B)", "B.", "Ｂ", "【B】", "option B", "选项B", "B or C", "C++")]
    [1, 1, 1, 1, 1, 1, 1, 1, None, None]
    """
    whole = _WHOLE.fullmatch(unicodedata.normalize("NFKC", text))
    return ascii_uppercase.index(whole.group(1).upper()) if whole else None


def reference_choice(reference: str, choices: Sequence[str]) -> int | None:
    """Index of the choice that a reference names, by its text or else by its letter; None where it names neither."""
    if reference in choices:
        return list(choices).index(reference)
    for language in ("en", "zh"):
        matches = [i for i, c in enumerate(choices) if normalise(c, language) == normalise(reference, language)]
        if len(matches) == 1:
            return matches[0]
    letter = half_width(reference).strip(" .()").upper()
    letters = ascii_uppercase[: len(choices)]
    return letters.index(letter) if len(letter) == 1 and letter in letters else None


def _flatten(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("’", "'"))


def _corrected_at(text: str) -> int:
    """Where the last correction begins; -1 where there is none."""
    return max((match.start() for match in _CORRECTION.finditer(text)), default=-1)


def _by_letter(text: str, letters: str) -> int | None:
    """Index of the letter that an answer settles on; -1 where it names letters but settles on none, None where it names
    none."""
    text = _flatten(text)
    leading = _LEADING.match(text)
    found: list[tuple[int, str, bool]] = []  # position, letter, whether stated as the answer
    for match in [*_TOKEN.finditer(text), *_LOWER_TOKEN.finditer(text), *_LOWER_CUE.finditer(text)]:
        letter, (start, end) = match.group(1).upper(), match.span(1)
        if letter not in letters or any(position == start for position, _, _ in found):
            continue
        first = leading is not None and leading.start(1) == start
        cued = bool(_CUE.search(text[:start]) or _CUE_AFTER.match(text[end:])) or match.re is _LOWER_CUE
        bare_word = letter in "AI" and text[start - 1 : start] not in ("(", "[")
        # "A dog" and "I think" hold a word and no choice, unless the answer is announced ("the answer is A because").
        followed = re.match(r"\s+[a-z]|'", text[end:]) and not _REASON.match(text[end:])
        if followed and ((bare_word and not cued and not first) or (letter == "A" and cued)):
            continue
        if denied(text, start, end):
            found.append((start, "", False))
        elif cued and _JOINT.match(text[end:]):
            found.append((start, letter, False))
        else:
            found.append((start, letter, cued or first))
    if not found:
        return None
    found.sort()
    left = [item for item in found if item[1]]
    corrected = _corrected_at(text)
    later = [item for item in left if item[0] > corrected] if corrected >= 0 else []
    for group in (later, left):
        stated = [letter for _, letter, is_stated in group if is_stated]
        named = {letter for _, letter, _ in group}
        if stated:
            return letters.index(stated[-1])
        if len(named) == 1:
            return letters.index(named.pop())
        if group:
            return -1
    return None


def _only(found: list[tuple[int, int]], corrected: int) -> int | None:
    """The one option that the mentions (position, index) after the last correction agree on, else that all of them do;
    None where they disagree."""
    for group in ([m for m in found if m[0] > corrected] if corrected >= 0 else [], found):
        named = {index for _, index in group}
        if len(named) == 1:
            return named.pop()
    return None
