"""Which choice a free-text answer makes: a letter or a choice's own words, in English and Chinese.

Models asked for "the letter only" answer with reasons, with a correction half way, or refuse.
The choice read must be the one that a careful person would read, and none where two choices remain: guessing would make
the accuracy of a talkative model a matter of regular expressions. So every letter is found first, letters that are only
named to be ruled out are dropped, and then the first of these decides: the whole answer, an answer that is announced
("the answer is B"), the only letter that is named, a choice's own words. Where the choices are a yes and a no, the
answer's first word decides before these (`harness.metrics.polarity`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from string import ascii_uppercase

from harness.metrics.polarity import said_anywhere, said_first, yes_and_no
from harness.metrics.text import NEAR, denied, fold, half_width, mentions, normalise

_DECORATION = re.compile(r"\\(?:boxed|text|mathbf|mathrm)\s*\{([^{}]*)\}|[*_`$]+")
_OPENING, _CLOSING = r"[\s\"'“”‘’«([{<【〔「『《*_`$#]*", r"[\s\"'“”‘’».,:;!?)\]}>】〕」』》、。*_`$]*"
"""What may stand around a bare letter. Signs such as + and # behind it may not: C++ and A+ are names."""
_BARE = (
    rf"{_OPENING}(?:-\s+)?(?:(?:the\s+)?(?:answer|option|choice|letter|number|选项|答案|选择|选)\s*(?:is\b|[:是为])?{_OPENING})?"
    rf"(%s)\s*(?:选项|项)?{_CLOSING}"
)
_WHOLE = re.compile(_BARE % "[A-Z]", re.IGNORECASE | re.ASCII)
_WHOLE_NUMBER = re.compile(_BARE % r"\d{1,4}", re.IGNORECASE | re.ASCII)
_NUMBER = re.compile(
    r"^\W*(\d{1,4})\s*[.):、](?!\d)|\b(?:answer|option|choice|number)\s*(?:is|:)?\s*\(?(\d{1,4})(?![\w%]|[.,:/]\d)"
    r"|(?:答案|选项|选择|选)\s*[是为:]?\s*(\d{1,4})(?![\w%]|[.,:/]\d)",
    re.IGNORECASE,
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
def _extract(text: str, choices: tuple[str, ...], language: str, lettered: bool) -> int | None:
    numbered = lettered and len(choices) > len(ascii_uppercase)
    bare = _DECORATION.sub(lambda m: m.group(1) or "", half_width(text)).strip()
    if lettered:
        mark = _bare_number(bare) if numbered else letter(bare)
        if mark is not None and 0 <= mark < len(choices):
            return mark
    for form, places in zip(_FORMS, _places(choices, language), strict=True):
        alike = places.get(form(text, language))
        if alike is not None:
            return alike if alike >= 0 else None
    text = bare
    pair = yes_and_no(choices)
    if pair is not None and (said := said_first(text, choices[pair[0]], choices[pair[1]])) is not None:
        return pair[not said]
    letters = ascii_uppercase[: len(choices)] if lettered else "".join(choices).upper()
    if numbered:
        found = {int(next(filter(None, match.groups()))) - 1 for match in _NUMBER.finditer(text)}
        if len(found) == 1 and found <= set(range(len(choices))):
            return found.pop()
    elif len(letters) == len(choices) and letters.isascii() and letters.isalpha():
        found = _by_letter(text, letters)
        if found is not None:
            return found if found >= 0 else None
    if pair is not None:
        said = said_anywhere(text, choices[pair[0]], choices[pair[1]], language)
        return None if said is None else pair[not said]
    return _only(mentions(text, choices, language), _corrected_at(_flatten(text)))


def extract_choice(text: str, choices: Sequence[str], language: str, lettered: bool = True) -> int | None:
    """Index of the one choice that a final answer makes; None where it makes none or leaves several.

    `choices` are in the order shown. `lettered` says that a mark stood before each of them in the prompt: A, B, C ...,
    or 1, 2, 3 ... where they are more than 26. Without marks a letter means nothing, unless it is itself a choice.
    """
    return _extract(text, tuple(choices), language, lettered)


def _bare_number(text: str) -> int | None:
    whole = _WHOLE_NUMBER.fullmatch(unicodedata.normalize("NFKC", text))
    return int(whole.group(1)) - 1 if whole else None


def _undressed(text: str) -> str:
    return fold(text).strip("\"'“”‘’«»()[]{}<>【】〔〕「」『』《》*_` ").rstrip(".,!?;:。、").strip()


_FORMS: tuple[Callable[[str, str], str], ...] = (
    lambda text, language: text.strip(),
    lambda text, language: fold(text),
    lambda text, language: _undressed(text),
    normalise,
)
"""The forms in which an answer is compared with a whole choice, the strictest first: C++ is not C."""


@lru_cache(maxsize=4096)
def _places(choices: tuple[str, ...], language: str) -> list[dict[str, int]]:
    """For each of _FORMS, the choice by its form: the first of equal ones, and -1 where unlike ones have one form."""
    found: list[dict[str, int]] = []
    for form in _FORMS:
        places: dict[str, int] = {}
        for number, choice in enumerate(choices):
            plain = form(choice, language)
            first = places.setdefault(plain, number)
            if first < 0 or choices[first] != choice:
                places[plain] = -1
        places.pop("", None)
        found.append(places)
    return found


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
    seen: set[int] = set()
    for match in [*_TOKEN.finditer(text), *_LOWER_TOKEN.finditer(text), *_LOWER_CUE.finditer(text)]:
        named, (start, end) = match.group(1).upper(), match.span(1)
        if named not in letters or start in seen:
            continue
        seen.add(start)
        ahead, behind = text[max(0, start - NEAR) : start], text[end : end + NEAR]
        first = leading is not None and leading.start(1) == start
        cued = bool(_CUE.search(ahead) or _CUE_AFTER.match(behind)) or match.re is _LOWER_CUE
        bare_word = named in "AI" and text[start - 1 : start] not in ("(", "[")
        # "A dog" and "I think" hold a word and no choice, unless the answer is announced ("the answer is A because").
        followed = re.match(r"\s+[a-z]|'", behind) and not _REASON.match(behind)
        if followed and ((bare_word and not cued and not first) or (named == "A" and cued)):
            continue
        if denied(text, start, end):
            found.append((start, "", False))
        elif cued and _JOINT.match(behind):
            found.append((start, named, False))
        else:
            found.append((start, named, cued or first))
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
