"""What a person wrote stays text: a mark in it, such as <image> or <|im_end|>, must not act as the model's own mark.

A tokenizer reads its special tokens wherever they stand, and a processor puts pictures where it sees its placeholder: a
question that merely mentions one would break the request, or forge a turn of the conversation. A blank behind the first
character of such a mark keeps it readable for the model and makes it plain text for the library. Nothing else changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any


def marks_of(tokenizer: Any, processor: Any = None) -> re.Pattern[str] | None:
    """What a tokenizer of transformers takes for special tokens, and the tokens that its processor has a name for."""
    found = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    found.update(map(str, tokenizer.all_special_tokens))
    for holder in (tokenizer, processor):
        named = getattr(holder, "__dict__", {}).items()
        found.update(value for name, value in named if "token" in name and isinstance(value, str))
    return any_of(found)


def any_of(marks: Iterable[str], flags: int = 0) -> re.Pattern[str] | None:
    """A pattern for any of these marks, the longest first; None where there is none. Words and blanks are no marks."""
    real = sorted({mark for mark in marks if len(mark) > 1 and re.search(r"[^\w\s]", mark)}, key=lambda m: (-len(m), m))
    return re.compile("|".join(map(re.escape, real)), flags) if real else None


def plain(text: str, marks: re.Pattern[str] | None) -> str:
    """The text with a blank in each of the marks.

    >>> plain("What is <image>, and what < image>?", any_of(["<image>"]))
    'What is < image>, and what < image>?'
    """
    return marks.sub(lambda mark: f"{mark[0][0]} {mark[0][1:]}", text) if marks else text
