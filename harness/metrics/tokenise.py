"""Captions to tokens: the Penn Treebank tokens of coco-caption, and Chinese by character or word.

BLEU, ROUGE and CIDEr move by whole points with the tokeniser, so its name stands beside each score. coco-caption runs
Stanford's tokeniser in Java. Where Java and its jar (from pycocoevalcap) are installed, that very program is used;
elsewhere the rules below are, which agree with it on COCO's captions. Chinese text never gets the English rules,
because it has no spaces between words.
"""

from __future__ import annotations

import logging
import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from harness.errors import UserError
from harness.metrics import java
from harness.metrics.text import CJK, half_width

_SEPARATORS = re.compile(r"[\n\r\t\v\f\x1c-\x1e\x85\u2028\u2029]")
"""What any program on the way takes for the end of a line; a caption with one inside must not become two."""
_DROPPED = frozenset(["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", *".?!,:;", "-", "--", "..."])
"""The punctuation that coco-caption drops. Its list is upper case and the tokens are lower case, so "-lrb-" stays."""


@dataclass(frozen=True)
class Tokeniser:
    """A way to cut texts into tokens, with its name."""

    name: str
    """Printed beside every score made with it."""
    split: Callable[[Sequence[str]], list[list[str]]]
    """Turns texts into the tokens of each."""


def caption_tokeniser(language: str, words: bool = False) -> Tokeniser:
    """The tokeniser for captions of a language; `words` cuts Chinese into jieba's words instead of characters.

    Raises UserError where jieba is asked for and not installed.
    """
    if language == "zh":
        return Tokeniser("jieba words", _jieba) if words else Tokeniser("Chinese characters", _characters)
    jar = _stanford_jar()
    return Tokeniser("PTB (Stanford CoreNLP 3.4.1)", _stanford) if jar else Tokeniser("PTB (Python rules)", _rules)


# Penn Treebank, in Python ---------------------------------------------------------------------------------------------

_ABBREVIATIONS = (
    "mr|mrs|ms|dr|prof|sr|jr|st|ave|blvd|rd|gen|col|capt|sgt|lt|gov|sen|rep|rev|hon|pres|inc|corp|co|ltd|vs|etc|"
    "jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec|mt|ft|no|vol|fig|u\\.s|u\\.k|a\\.m|p\\.m|e\\.g|i\\.e|d\\.c"
)
_CLITIC = r"'(?:s|m|d|re|ve|ll)\b"
_TOKEN = re.compile(
    rf"""
    (?:https?://|www\.)[^\s<>"]*[^\s<>".,!?;:)]            # addresses
  | [\w.+-]+@[\w-]+(?:\.[\w-]+)+
  | (?:can)(?=not\b) | (?:gon|wan)(?=na\b) | (?:got)(?=ta\b) | (?:gim|lem)(?=me\b)
  | \w+(?=n't\b) | n't\b | {_CLITIC} | '\d\ds\b | '[nN]' | '[tT](?=(?:is|was)\b) | y'(?=all\b)
  | </?[a-z]+>
  | (?:[a-z]\.){{2,}} | (?:[a-z]\.)+[a-z]\b | (?:{_ABBREVIATIONS})\.(?!\w) | (?-i:[A-HJ-Z])\.(?=\s*\S)(?!\w)
  | (?<!\w)[-+]\d+(?:[.,]\d+)*(?![\w-]) | \d+(?:[.,:/]\d+)+(?:st|nd|rd|th|s)?(?![\w-]) | \.\d+
  | [^\W_]+(?:[-'/_.][^\W_]+)*?(?={_CLITIC}|n't\b)
  | [a-z]+&[a-z](?=s\b) | [a-z]+&[a-z]+\b
  | [^\W_]+(?:[-'/_.][^\W_]+)*
  | \.{{3,}} | -{{2,}} | [?!]{{2,}} | [^\w\s] | _+
    """,
    re.VERBOSE | re.IGNORECASE,
)
_STRAIGHT = str.maketrans("‘’“”", "''\"\"")
_ESCAPED = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-", '"': "''"}


def _rules(texts: Sequence[str]) -> list[list[str]]:
    """The tokens of each text that coco-caption keeps."""
    return [[t for t in ptb_tokens(text) if t not in _DROPPED] for text in texts]


def ptb_tokens(text: str) -> list[str]:
    """All Penn Treebank tokens of a text, lower case, punctuation included.

    >>> ptb_tokens("A man's dog isn't (that) big.")
    ['a', 'man', "'s", 'dog', 'is', "n't", '-lrb-', 'that', '-rrb-', 'big', '.']
    """
    found: list[str] = _TOKEN.findall(text.translate(_STRAIGHT))
    return [_ESCAPED.get(t, t.lower()) for t in found]


# Stanford's, in Java --------------------------------------------------------------------------------------------------


def _stanford_jar() -> Path | None:
    """The tokeniser's jar, or None where it or Java is not installed."""
    return java.jar("tokenizer/stanford-corenlp-3.4.1.jar")


def _stanford(texts: Sequence[str]) -> list[list[str]]:
    return _stanford_once(tuple(texts))


@lru_cache(maxsize=1)
def _stanford_once(texts: tuple[str, ...]) -> list[list[str]]:
    """The tokens of each caption. One metric after another asks for the same captions, so they are kept; a caller must
    not change them."""
    jar = _stanford_jar()
    if not texts or jar is None:
        return _rules(texts)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "captions.txt"
        lines = "".join(_SEPARATORS.sub(" ", text) + "\n" for text in texts)
        file.write_bytes(lines.encode(errors="replace"))  # a text may hold half a character
        command = ["java", "-Dfile.encoding=UTF-8", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
        command += ["-preserveLines", "-lowerCase", "-encoding", "UTF-8", str(file)]
        done = subprocess.run(command, capture_output=True, check=False)
    lines = done.stdout.decode("utf-8").split("\n")[: len(texts)]
    if done.returncode != 0 or len(lines) != len(texts):
        raise RuntimeError(f"Stanford's tokeniser failed: {done.stderr.decode('utf-8', 'replace')[-500:]}")
    return [[t for t in line.rstrip().split(" ") if t and t not in _DROPPED] for line in lines]


# Chinese --------------------------------------------------------------------------------------------------------------

_CHINESE = re.compile(rf"[{CJK}]|[^\W_{CJK}]+(?:[.'-][^\W_{CJK}]+)*")


def _characters(texts: Sequence[str]) -> list[list[str]]:
    """Single Chinese characters, with runs of Latin letters and digits kept whole, and without punctuation."""
    return [_CHINESE.findall(half_width(text).lower()) for text in texts]


def _jieba(texts: Sequence[str]) -> list[list[str]]:
    """Words as jieba cuts them, without punctuation."""
    try:
        import jieba  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("Chinese words need jieba: pip install 'multimodal-harness[zh]'.") from error
    jieba.setLogLevel(logging.WARNING)
    return [[t for t in jieba.lcut(half_width(text).lower()) if any(c.isalnum() for c in t)] for text in texts]
