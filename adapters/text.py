"""What all adapters do with a text before and after it is tokenised: keep it text, and tell whether it was cut.

A tokenizer reads its special tokens wherever they stand, and a processor puts pictures where it sees its placeholder: a
question that merely mentions <image> or <|im_end|> would break the request, or forge a turn of the conversation. A
blank behind the first character of such a mark keeps it readable for the model and makes it plain text for the library.
Nothing else is changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


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


def longer_texts(
    tokenizer: Any, texts: Sequence[str], ids: torch.Tensor, context: int | None, padding: bool | str
) -> list[bool]:
    """For each text whether a tokenizer of transformers cut it at the context to make `ids` int64 [n, length] of them.

    Only texts that fill the context (all but two places of it, as padding may look like the marks at a text's end) are
    tokenised again, and with the same settings, which a tokenizer keeps for all threads: it tells what it left over.
    """
    found = [False] * len(texts)
    if context is None or ids.shape[1] < context:
        return found
    full = ((ids != tokenizer.pad_token_id).sum(dim=1) >= context - 2).nonzero()[:, 0].tolist()
    if full:
        some = [texts[i] for i in full]
        made = tokenizer(some, padding=padding, truncation=True, max_length=context)
        for number, i in enumerate(full):
            if made.encodings is not None:
                found[i] = bool(made.encodings[number].overflowing)
            else:  # a tokenizer that is written in Python
                found[i] = len(tokenizer(some[number], verbose=False).input_ids) > context
    return found
