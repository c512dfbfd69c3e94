"""The final answer in a text that a model wrote: the one step between the two, for every model and before every metric.

Models wrap their answers: in a trace of reasoning before it, in tags or a box around it, behind the words "Final
answer:". What is scored is what they mean to be scored by, so all of this is taken away here and nowhere else. A text
without any of it is its own final answer, to the last blank.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from harness.metrics.text import CJK

_TRACE = re.compile(
    r"<\s*(?P<close>/)?\s*(?:seed:)?(?:think|thinking|thought)\s*>|◁\s*(?P<close2>/)?\s*think(?:ing)?\s*▷"
    r"|\[(?P<close3>/)?THINK\]",
    re.IGNORECASE,
)
"""The tags around a trace: of most models, of Seed, of Kimi and of Magistral."""
_ANY = re.compile(r"[<◁*\\]|\[/?think\]|final\s+answer|最[终后]的?答案", re.IGNORECASE)
"""One of these stands in every text that is not its own final answer."""
_TAGS = (
    (re.compile(r"<\s*(?:final[_ ])?answer\s*>", re.I), re.compile(r"<\s*/\s*(?:final[_ ])?answer\s*>", re.I)),
    (re.compile(r"<\|begin_of_box\|>", re.I), re.compile(r"<\|end_of_box\|>", re.I)),
)
"""What opens and what closes a mark that encloses the answer."""
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_FINAL_LINE = re.compile(
    r"(?:(?:\bfinal\s+answer(?:\s+is)?|最[终后]的?答案[是为]?)[*_]*\s*[:：]|^[#*_ ]*final\s+answer[*_ ]*$)[\s*_]*"
    r"(?P<rest>.+)",
    re.IGNORECASE | re.MULTILINE,
)
"""The words that announce the answer, and the rest of their line, or the next line where that is blank."""
_STRONG = re.compile(r"(?<!\*)\*{2,3}(?!\*)")
_WORD = re.compile(rf"[^\W{CJK}]")
"""A character that words are made of; between Chinese ones no word ends or begins."""
_TYPEFACE = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|operatorname)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")

NESTED = 4
"""So many marks inside of one another are opened, such as a box in answer tags; more are a model's endless loop."""


class Final(NamedTuple):
    """What an answer comes to."""

    text: str
    """The final answer; empty where there is none."""
    unfinished: bool
    """Whether the text ends inside a trace of reasoning, so that there is no answer."""


def final_answer(text: str) -> Final:
    """The final answer in a model's text.

    Traces of reasoning are taken away, also those whose opening tag stood in the prompt; the answer is what follows the
    last one, else what preceded it. The content of the last mark that encloses something (answer tags, box marks,
    `\\boxed{}`) is the answer, and so is the rest of the line behind a later "Final answer:". Paired ** around whole
    words go.

    >>> final_answer("<think>Two dogs.</think> The answer is <answer>**2**</answer>")
    Final(text='2', unfinished=False)
    >>> final_answer("<think>One, two ...")
    Final(text='', unfinished=True)
    """
    if not _ANY.search(text):
        return Final(text, False)
    left = _without_traces(text)
    if left is None:
        return Final("", True)
    for _ in range(NESTED):
        before, left = left, _without_emphasis(_marked(left))
        if left == before:
            break
    return Final(left if left == text else left.strip(), False)


def _without_traces(text: str) -> str | None:
    """The last stretch outside of all traces that is not blank; None where the text ends inside a trace."""
    outside: list[str] = []
    depth, at = 0, 0
    opened = -1
    for tag in _TRACE.finditer(text):
        if tag["close"] or tag["close2"] or tag["close3"]:
            if depth == 0:
                outside.clear()  # the opening tag stood in the prompt
            depth = max(0, depth - 1)
        else:
            if depth == 0:
                outside.append(text[at : tag.start()])
            if depth == 0 or text[opened : tag.start()].strip():  # a tag that is only doubled opens one trace
                depth += 1
            opened = tag.end()
        at = tag.end()
    if depth:
        return None
    outside.append(text[at:])
    if len(outside) == 1:
        return outside[0]
    return next((part for part in reversed(outside) if part.strip()), "")


def _marked(text: str) -> str:
    """The answer in the last mark that has one; the text, without marks around nothing, where there is none."""
    content, end = "", 0
    for _, stop, inner in sorted((*_tagged(text), *_boxed(text)), key=lambda mark: (mark[0], -mark[1])):
        if stop > end and inner.strip():  # else it is inside of another, or encloses nothing
            content, end = inner, stop
    lines = [match["rest"].strip().strip("*_").strip() for match in _FINAL_LINE.finditer(text, end)]
    if content or any(lines):
        return next(filter(None, reversed(lines)), content)
    for opening, closing in _TAGS:
        text = closing.sub("", opening.sub("", text))
    return re.sub(_BOX.pattern + r"\s*\}", "", text)


def _tagged(text: str) -> list[tuple[int, int, str]]:
    """(start, end, content) of each pair of tags. What a tag opens and none closes reaches to the end of the text; what
    one closes and none opens begins with the text."""
    found = []
    for opening, closing in _TAGS:
        tags = sorted((*opening.finditer(text), *closing.finditer(text)), key=lambda tag: tag.start())
        begin, first = None, True
        for tag in tags:
            if tag.re is opening:
                begin = tag
            elif begin is not None or first:
                start, inner = begin.span() if begin else (0, 0)
                found.append((start, tag.end(), text[inner : tag.start()]))
                begin = None
            first = False
        if begin is not None:
            found.append((begin.start(), len(text), text[begin.end() :]))
    return found


def _boxed(text: str) -> list[tuple[int, int, str]]:
    """(start, end, content) of each outermost `\\boxed{}`, whose braces may be nested; one that is not closed reaches
    to the end of the text."""
    found: list[tuple[int, int, str]] = []
    for match in _BOX.finditer(text):
        if found and match.start() < found[-1][1]:
            continue
        depth, end = 1, match.end()
        while depth and end < len(text):
            depth += {"{": 1, "}": -1}.get(text[end], 0) * (text[end - 1] != "\\")
            end += 1
        found.append((match.start(), end, _plain(text[match.end() : end - (depth == 0)])))
    return found


def _plain(latex: str) -> str:
    """The content of a box without the commands that only dress it."""
    for _ in range(NESTED):
        latex = _FRACTION.sub(r"\1/\2", _TYPEFACE.sub(r"\1", latex))
    latex = re.sub(r"\\[,!]", "", latex.replace("{,}", ",")).strip("$ ")
    return re.sub(r"\\([%$#&_{}])", r"\1", latex)


def _without_emphasis(text: str) -> str:
    """The text without the ** (or ***) that stand in pairs around whole words: those in 2**3 stay."""
    pairs: list[re.Match[str]] = []
    begin: re.Match[str] | None = None
    for mark in _STRONG.finditer(text):
        before, after = text[max(0, mark.start() - 1) : mark.start()], text[mark.end() : mark.end() + 1]
        if begin is not None and begin.group() == mark.group() and before.strip() and not _WORD.match(after):
            pairs += [begin, mark]
            begin = None
        elif after.strip() and not _WORD.match(before):
            begin = mark
    cuts = [0, *(place for mark in pairs for place in mark.span()), len(text)]
    return "".join(text[start:end] for start, end in zip(cuts[::2], cuts[1::2], strict=True))
