"""Text made comparable: normalisation in English and Chinese, and what an answer in free text mentions.

English follows SQuAD's normalisation (Rajpurkar et al. 2016: lower case, no punctuation, no articles) after full-width
forms are made half-width, and the number words zero to ten are read as digits. In Chinese, punctuation and spaces are
dropped and Chinese numerals are read as digits, because "两只" and "2只" are the same answer. In both, numbers are kept
whole: SQuAD's rule alone would make 3.5 and 35 one answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache

from harness.errors import UserError

REMEMBERED = 2**16
"""How many different answers a metric remembers with their scores: those to questions of a closed set repeat."""

_HALF_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
_PUNCTUATION = str.maketrans("", "", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBER_WORDS = {word: str(value) for value, word in enumerate(_NUMBERS)}
_ARTICLE = re.compile(r"\b(a|an|the)\b(?![\ue000-\ue0ff])")

_DIGITS = {c: v for v, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000}
_LARGE = {"万": 10_000, "萬": 10_000, "亿": 100_000_000, "億": 100_000_000}
_NUMERAL = re.compile("[零〇一二三四五六七八九两兩十][零〇一二三四五六七八九两兩十百千万萬亿億]*")
CJK = "\u2e80-\u2eff\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
"""Inside a character class: Chinese characters."""
_CHINESE_TOKEN = re.compile(rf"[{CJK}]|(?<![^\W{CJK}])-?\d+(?:[^\w\s]-?\d+)*[%+]?(?![^\W{CJK}])|[^\W{CJK}]+(?:\.\d+)?")

_NOT_BEFORE = re.compile(
    r"(?:\b(?:not|no|never|neither|nor|cannot|except|without|isn't|aren't|wasn't|doesn't|don't|can't|won't|excluding|"
    r"eliminate[sd]?|eliminating|rules? out|ruled out|ruling out|rather than|instead of)"
    r"(?:\s+(?:be|is|it's|it|option|options|choice|answer|letter|either|a|an|the|any|really|actually|exactly|quite|very|"
    r"likely|probably|see|show|shows|contain|contains|have|has|seem|look|like)\b)*[\s(\"'*]*"
    r"|(?:排除|除了|不(?!仅|但|只|光|止|过|论|管|同)|没(?!错)|非(?!常|得)|未(?!来|免)|无(?!论|疑))"
    r"(?:太|大|很|会|能|可能|可以|应该|应当|应|该|必|再|是|像|属于|算|选择|选|为|有|见|到|看见|看到|看|发现|出现|存在|包含|含有|含|任何|"
    r"[一\d]+[只个条张辆种位]?|这|那|其他|的|什么|选项|答案)*[\s(\"'*]*)$",
    re.IGNORECASE,
)
_NOT_AFTER = re.compile(
    r"^[\s)\"'*]*(?:(?:is|are|was|looks?|seems?|would be)\s+(?:clearly\s+|also\s+)?"
    r"(?:not\b|wrong|incorrect|false|ruled out|eliminated)|isn't|(?:选项)?是?(?:不对|错误|错的|不正确|不符|不可能))",
    re.IGNORECASE,
)


def fold(text: str) -> str:
    """A text without what does not tell two apart: case, blanks around and between words, and Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def half_width(text: str) -> str:
    """The text with full-width ASCII forms and the ideographic space replaced by their half-width ones."""
    return text.translate(_HALF_WIDTH)


def arabic(numeral: str) -> str:
    """A Chinese numeral as digits: 十二 -> 12, 三百零五 -> 305, 二〇二四 -> 2024."""
    if not any(c in _UNITS or c in _LARGE for c in numeral):
        return "".join(str(_DIGITS[c]) for c in numeral)
    total = section = digit = 0
    for c in numeral:
        if c in _DIGITS:
            digit = _DIGITS[c]
        elif c in _UNITS:
            section += (digit or (1 if c == "十" else 0)) * _UNITS[c]
            digit = 0
        else:
            unit = _LARGE[c]
            above = total if total >= unit else 0
            total = above + (total - above + section + digit) * unit
            section = digit = 0
    return str(total + section + digit)


@cache
def _converter():  # noqa: ANN202 - opencc has no types
    try:
        from opencc import OpenCC  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            "Reading Traditional as Simplified Chinese needs opencc: pip install 'multimodal-harness[zh]'."
        ) from error
    return OpenCC("t2s")


@lru_cache(maxsize=100_000)
def normalise(text: str, language: str, simplify: bool = False) -> str:
    """The form in which two answers are compared; `simplify` reads Traditional Chinese as Simplified.

    What belongs to a number stands, so that 35 is not 3.5, 5 not -5 and 12 not 1/2; how it is written does not matter
    (see `_numbers`). A text of which nothing would be left, such as "A" or "+", stands for itself.

    Raises UserError where `simplify` is asked for and opencc is not installed.
    """
    whole = _numbers(" ".join(half_width(text).lower().split()))
    if language == "zh":
        if simplify:
            whole = _converter().convert(whole)
        marks = (" " if unicodedata.category(c).startswith("P") else c for c in whole)
        plain = re.sub(rf"(?<=[{CJK}])\s+|\s+(?=[{CJK}])", "", " ".join("".join(marks).split()))
        plain = _NUMERAL.sub(lambda m: arabic(m.group()), plain)
    else:
        words = whole.translate(_PUNCTUATION)
        kept = _ARTICLE.sub(" ", words).split() or words.split()[-1:]  # an article before nothing is a name
        plain = " ".join(NUMBER_WORDS.get(word, word) for word in kept)
    return (plain or whole).translate(_SHOWN)


_IN_NUMBERS = ".,/:-%+#*^×÷=~'"
_HIDDEN = {ord(mark): 0xE000 + i for i, mark in enumerate(_IN_NUMBERS)}
_SHOWN = {code: mark for mark, code in _HIDDEN.items()}
"""Marks that belong to a number are kept as characters of private use while all other marks are removed."""
_HAS_SIGN = re.compile(r"[\d+#\-]")
_DASHES = {ord(dash): "-" for dash in "−﹣‐‑‒–"}
_CURRENCY = "[$€£¥￥₩₹]"
_NUMBER = re.compile(
    rf"(?:(?<![^\W{CJK}])(?P<sign>[-+])?(?:{_CURRENCY}\s?)?(?P<minus>-)?(?P<point>\.)?)?"
    r"(?P<digits>\d+(?:(?:(?:\*\*|[.,/:\-+*^×÷=~'])[.\-]?|\s?/\s?|e[-+]?)\d+)*)(?P<after>\s?%|\+(?!\w))?"
    rf"(?:\s?{_CURRENCY}(?!\s?[.\d]))?"
)
_IN_NAME = re.compile(rf"[^\W\d{CJK}]")
"""A letter before a number makes it part of a name, whose zeros and commas tell: v2.0 is not v2."""
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_DECIMAL = re.compile(r"(?<![\d.,])(\d*)\.(\d+)(?![\d.,])")
_NAME_WITH_SIGN = re.compile(r"(?<=[a-z])(?:\+{1,2}(?![\w+])|#(?!\w))|(?<![^\W_])[a-z]{1,2}-(?=[\s.,;]|$)")


def _numbers(text: str) -> str:
    """The text, in lower case, with each number in one form and the marks that belong to it hidden from what removes
    marks.

    A sign, a decimal point, a percent sign and what stands between two digits (1/2, 10:30, 3-5, 2,5) belong to it. A
    thousands comma, zeros behind the last decimal, a leading plus, a currency sign and the kind of dash that is its
    minus make no difference. So do the signs of a name belong to it: C++, C#, A-.
    """
    text = text.translate(_DASHES)
    if not _HAS_SIGN.search(text):
        return text
    return _NAME_WITH_SIGN.sub(lambda m: m.group().translate(_HIDDEN), _NUMBER.sub(_number, text))


def _number(match: re.Match[str]) -> str:
    digits = re.sub(r"\s", "", (match["point"] or "") + match["digits"])
    if not _IN_NAME.match(match.string[max(0, match.start() - 1) : match.start()]):
        digits = _GROUPED.sub(lambda m: m.group().replace(",", ""), digits)
        digits = _DECIMAL.sub(lambda m: f"{m[1] or '0'}.{m[2].rstrip('0')}".removesuffix("."), digits)
    sign = "-" if "-" in (match["sign"], match["minus"]) else ""
    return f"{sign}{digits}{(match['after'] or '').strip()}".translate(_HIDDEN)


def tokens(text: str, language: str, simplify: bool = False) -> list[str]:
    """The tokens of a text after normalising it: words in English; in Chinese single characters, with runs of Latin
    letters and digits kept whole."""
    text = normalise(text, language, simplify)
    return _CHINESE_TOKEN.findall(text) if language == "zh" else text.split()


NEAR = 100
"""So many characters around a mention can rule it out: looking further would take the square of an answer's length."""


def denied(text: str, start: int, end: int) -> bool:
    """Whether text[start:end] is named only to be ruled out, as in "not B", "B is wrong" or "排除B"; what denies a list
    ("neither A nor B") denies each of its members."""
    text, start, end = text[max(0, start - NEAR) : end + NEAR], min(start, NEAR), min(start, NEAR) + end - start
    before = re.sub(r"(?:\b[A-Za-z]\s*(?:,|、|\bor\b|\bnor\b|和|或)\s*)+$", "", text[:start])
    after = re.sub(r"^\s*(?:,|、|\bor\b|\band\b|和|或)\s*[A-Z]\b", "", text[end:])
    return bool(_NOT_BEFORE.search(text[:start]) or _NOT_BEFORE.search(before) or _NOT_AFTER.search(after))


def mentions(text: str, options: Sequence[str], language: str) -> list[tuple[int, int]]:
    """Which options an answer names without ruling them out: (position, index), in order.

    An option inside a longer one that is named there ("cat" in "wild cat") does not count, nor does a number inside of
    another one.
    """
    return [(position, index) for position, index, denied in named(text, options, language) if not denied]


def named(text: str, options: Sequence[str], language: str) -> list[tuple[int, int, bool]]:
    """Which options an answer names, as `mentions` has it, and whether each is ruled out: (position, index, denied).

    Both sides are normalised, and in English only whole words count.
    """
    answer = _spaced(text, language)
    found: list[tuple[int, int, int]] = []
    for index, option in enumerate(options):
        name = _spaced(option, language).strip()
        if not name:
            continue
        before, after = (r"(?<!\w)", r"(?!\w)") if language == "en" or name.isascii() else ("", "")
        if name[0].isdigit():
            before = r"(?<!\d)(?<!\d[.,/:])(?<!-)"
        if name[-1].isdigit():
            after = r"(?![\d%]|[.,/:\-+]\d)" + after
        for match in re.finditer(f"{before}{re.escape(name)}{after}", answer):
            found.append((match.start(), match.end(), index))
    longest: list[tuple[int, int, int]] = []
    for s, e, i in sorted(found, key=lambda item: (item[0], -item[1])):
        if not longest or e > longest[-1][1] or (s, e) == longest[-1][:2]:  # else inside of the one before
            longest.append((s, e, i))
    return sorted((s, i, denied(answer, s, e)) for s, e, i in longest)


def _spaced(text: str, language: str) -> str:
    """The text normalised clause by clause, so that no option is found across a full stop or comma."""
    clauses = re.split(r"[.,;:!?](?!\d)|[。,、;：;!?\n]", half_width(text).replace("’", "'"))
    if language == "en":
        # Contractions carry the denial ("isn't"), which normalising would hide.
        clauses = [re.sub(r"n't\b", " not", clause) for clause in clauses]
        return " . ".join(normalise(clause, "en") for clause in clauses)
    return "。".join(normalise(clause, "zh") for clause in clauses)
