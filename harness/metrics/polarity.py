"""Yes or no: what an answer says where the choices are a yes and a no, in whatever wording and language.

English is read by its first word, which is the rule of MME's official evaluation (Fu et al. 2023): "Yes, there is no
dog" says yes. Chinese has no such word; there the first clause is read, whose verb has the answer: 是的, 不是, 没有.
An answer that says that it does not know is neither.
"""

from __future__ import annotations

import re
from functools import lru_cache

from harness.metrics.text import fold, named

_YES_WORDS = """
yes y yeah yep yup true t correct right
是 是的 对 对的 正确 正确的 真 真的 没错 属实 有 有的 存在 能 可以 会 √
"""
_NO_WORDS = """
no n nope nah not false f incorrect wrong
否 不 不是 不是的 不对 不正确 错 错的 错误 错误的 假 假的 不属实 没有 没 无 非 不存在 不能 不可以 不会 ×
"""
_YES, _NO = frozenset(_YES_WORDS.split()), frozenset(_NO_WORDS.split())
_NEGATIONS = ("不", "没", "没有", "非", "未", "无", "不是", "并非", "not ")
"""What makes the no of a pair out of its yes: 会 and 不会, "visible" and "not visible"."""
_UNSURE = re.compile(
    r"不知道|不(?:太|能)?(?:确定|清楚|明确|肯定)|不好说|不一定|不可知|未知|说不[清准好]|看不[清出]|难以|没法|没有?办法|无从|"
    r"有可能|(?:无法|不能)(?:确定|判断|判定|回答|确认|识别|看清|得知|知道|辨[别认]|分辨|提供|查看|根据|从)|"
    r"\b(?:unknown|unclear|unsure|uncertain|maybe|perhaps|(?:can|could|do)(?:not|n't| not) (?:tell|say|know|determine)|"
    r"not (?:sure|certain|clear|enough|known|possible to|applicable|able to (?:tell|say|see|determine))|"
    r"no (?:idea|clue|information|answer|opinion|way (?:to|of)))\b|\b(?:yes|no) ?(?:and|or|/) ?(?:yes|no)\b",
    re.IGNORECASE,
)
_FIRST_WORD = re.compile(r"[^\w]*(?:(?:the )?(?:final )?answer\s*(?:is|:)\s*[^\w]*)?([a-z]+)(\W|$)", re.IGNORECASE)
_ANNOUNCED = re.compile(
    r"\banswer (?:[^.,!?]{0,40}? )?(?:is|would be|should be)[\s:\"'(]*([a-z]+)(\W|$)", re.IGNORECASE
)
_STATED = {"true", "correct", "right", "false", "incorrect", "wrong"}
"""Words that are an answer only where nothing follows in the clause: "Correct." but not "Correct answers are rare"."""
_CLAUSE = re.compile(r"[，,。.；;！!？?：:\n]")
_BEFORE = re.compile(
    r"(?:[^\w√×]|嗯|哦|因此|所以|综上(?:所述)?|我(?:认为|觉得|想|猜)|(?:正确|最终)?答案(?:应该|应当|就)?[是为]?|回答[是为]?|结论[是为]?|"
    r"应该|应当|大概|看起来|看来|显然|确实|当然)+"
)
"""What may stand before the verb that answers."""
_SAYS_NO = re.compile(
    r"不(?!过|仅|但|只|错|光|止)|否(?!则|认|定)|没(?!错)|无(?!法|论|疑|非)|非(?!常)|并非|并不|并没|未(?!来|免|必)|错(?!过|开)|假(?!如|设|装|期)"
)
_SAYS_YES = re.compile(
    r"(?:是|对|会|能)(?:的|啊|呀|吧|哦|嘛|了)?$|是的|没错|不错|正确(?!答案|选项|的(?:答案|选项))|真的|属实|存在|可以|有(?!可能|时|点|人认)"
)
_DENIES_TWICE = re.compile(r"(?:不是|并?不|并非|没有?|非)(?:没|不|错|假|否|无)")
_NO_INSIDE = re.compile(r"不是|不对|不正确|没有|并非|并不|并没|不存在|(?<!是)否(?!则|认|定)")
_COMMON = {"是", "对", "会", "能"}
"""Words that every other sentence has: inside of one they answer nothing."""


def _side(option: str) -> bool | None:
    """Whether an option is a yes or a no by itself; None for any other."""
    first = _CLAUSE.split(fold(option).strip(" \"'“”().。"))[0].strip()
    for words, side in ((_YES, True), (_NO, False)):
        if first in words or (
            first.split(" ")[0] in words - _STATED and first.isascii() and len(first.split(" ")[0]) > 1
        ):
            return side
    return None


@lru_cache(maxsize=4096)
def yes_and_no(choices: tuple[str, ...]) -> tuple[int, int] | None:
    """Which of the choices is the yes and which the no, where they are such a pair; a third may say "unknown".

    >>> yes_and_no(("no", "yes")), yes_and_no(("正确", "错误")), yes_and_no(("会", "不会")), yes_and_no(("cat", "dog"))
    ((1, 0), (0, 1), (0, 1), None)
    """
    sure = [i for i, choice in enumerate(choices) if not _UNSURE.search(choice)]
    if len(sure) != 2 or len(choices) > 3:
        return None
    first, second = sure
    sides = _side(choices[first]), _side(choices[second])
    if sides == (True, False):
        return first, second
    if sides == (False, True):
        return second, first
    for yes, no in ((first, second), (second, first)):
        if fold(choices[no]) in {negation + fold(choices[yes]) for negation in _NEGATIONS}:
            return yes, no
    return None


def said_first(text: str, yes: str, no: str) -> bool | None:
    """What the first word, or in Chinese the first clause, says; `yes` and `no` are the choices. None: neither."""
    word = _FIRST_WORD.match(text)
    if word is not None:
        return _by_word(text, word, yes, no)
    before = _BEFORE.match(text)
    clause = _CLAUSE.split(text[before.end() if before else 0 :])[0].strip()
    return _by_clause(clause, yes, no)


def _by_word(text: str, word: re.Match[str], yes: str, no: str) -> bool | None:
    said, stated = word[1].lower(), word[2] in ("", ".", ",", "!", ";", ":", "\n")
    unsure = _UNSURE.match(text, word.start(1))
    if unsure is not None:
        return None
    if said in (fold(yes), fold(no)):
        return said == fold(yes)
    if said in _STATED and not stated:
        return None
    if len(said) == 1 and word[0].strip() != text.strip():
        return None
    return True if said in _YES else False if said in _NO else None


def _by_clause(clause: str, yes: str, no: str) -> bool | None:
    if _UNSURE.search(clause):
        return None
    for option, side in sorted(((yes, True), (no, False)), key=lambda item: -len(item[0])):
        if clause == option or re.match(
            rf"{re.escape(option)}(?!可能|时|点|否|于|面|方|称|比|这|此|图|议|量|源)", clause
        ):
            return side
    if _SAYS_YES.match(clause):
        return True
    return False if _SAYS_NO.match(clause) and not _DENIES_TWICE.match(clause) else None


def said_anywhere(text: str, yes: str, no: str, language: str) -> bool | None:
    """What an answer says further on: what it announces ("the answer is no"), else the choice that it names, else what
    denies. A choice behind a 不 or a "not" is not named, but a yes that is denied is a no."""
    announced = list(_ANNOUNCED.finditer(text))
    if announced and (said := _by_word(text, announced[-1], yes, no)) is not None:
        return said
    if _UNSURE.search(next(filter(str.strip, _CLAUSE.split(text)), "")):
        return None
    found = [(side, denied) for _, side, denied in named(text, (no, yes), language) if (no, yes)[side] not in _COMMON]
    sides = {bool(side) for side, denied in found if not denied}
    if sides:
        return sides.pop() if len(sides) == 1 else None
    if any(side and denied for side, denied in found):
        return False
    return False if not found and _NO_INSIDE.search(text) else None
