"""The tokenizer of the models trained here: byte-level BPE over a small corpus, English and Chinese.

Words of the corpus become single tokens, each Chinese character one; any other text falls back to shorter pieces and at
last to bytes, so that nothing is unknown and every text survives the round trip. Byte-level BPE is also what Qwen, GPT
and SmolVLM use, so the same file serves a model of any architecture.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, START, END = "<|pad|>", "<|start|>", "<|end|>"
"""The first three tokens of every tokenizer, with ids 0, 1, 2."""

_ALONE = r"[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]|\d"
"""Chinese characters, their punctuation and digits are never merged with a neighbour."""


def normalise(text: str) -> str:
    """The text in the form NFKC, where full-width punctuation is plain, with single spaces and none at its ends."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).strip()


def build_tokenizer(corpus: Iterable[str], *, special: Iterable[str] = (), size: int = 1024) -> Tokenizer:
    """A tokenizer trained on `corpus`, with PAD, START, END and then `special` as its first tokens.

    `size` is an upper limit: what the corpus does not hold is not made up. The same corpus gives the same tokenizer.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_ALONE), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, START, END, *special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(set(corpus)), trainer)
    return tokenizer
