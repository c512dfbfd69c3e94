"""The ways in which a run can go wrong, by who has to act.

`UserError` is a mistake in the command, the config or the data's form: the command line prints its message (what is
wrong, where, what to do) without a traceback and leaves with status 2. `SampleError` belongs to one sample: it becomes
a Record with its error, counts as wrong, and the run goes on. `StorageError` means that the run folder takes no more
(a full disk): the run stops, and what is there stays valid. Anything else is a defect and may keep its traceback.
"""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """The command, the config or the form of the data is wrong; the message says what, where and what to do."""


class StorageError(Exception):
    """The run folder cannot be written any more; the message says why and how to go on. Exit status 1."""


class SampleError(Exception):
    """One sample cannot be answered (a file that does not open, an adapter that raises); the others can."""


class MediaError(SampleError):
    """A sample's picture or clip does not open: a fault of the data, and of no model."""


class Refused(SampleError):
    """The model, or the filter of the server before it, declined to answer: an answer of its own kind, which counts as
    wrong. Asking again is no use."""


class OutOfBudget(Exception):
    """No more requests can be paid for (a budget is reached, a quota is used up): the model's cells are interrupted for
    this reason, and a resume goes on with them. An adapter raises it, or puts it in the place of an answer."""


class TransientError(Exception):
    """What failed may work in a moment (a busy server, a broken connection): an adapter that asks a server raises it,
    and the engine asks again after a pause before it counts as a failure."""


def counted(number: int, noun: str, nouns: str = "") -> str:
    """A number with its noun, such as "1 sample" or "2 samples"; `nouns` is the plural where an s does not make it."""
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"


BIDI = frozenset("\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
"""Characters that turn the direction of reading."""
MARKS = 5
"""So many combining marks stay on one character: more than any script needs, and too few to reach other lines."""


def printable(text: str, keep: str = "\n\t") -> str:
    """Text that comes from anywhere as a terminal or a page may show it: nothing in it steers a terminal, turns the
    direction of reading or piles up over other lines.

    Control characters but those of `keep`, bidirectional overrides and lone surrogates become U+FFFD.

    >>> printable("red: \\x1b[31m")
    'red: \ufffd[31m'
    """
    if text.isascii() and text.isprintable():
        return text
    shown: list[str] = []
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        if category in ("Mn", "Me"):
            marks += 1
            if marks > MARKS:
                continue
        elif category != "Cf":  # which is not seen, so that what comes behind it piles up as well
            marks = 0
        bad = (category in ("Cc", "Cs") and character not in keep) or character in BIDI
        shown.append("\ufffd" if bad else character)
    return "".join(shown)


NAMED = 8
"""So many names are told where none is near."""


def nearest(name: str, known: Iterable[str], see: str = "") -> str:
    """A hint for a message about an unknown `name`: the nearest right name, else the first few of them, as a sentence.

    `see` is the command that lists them all.
    """
    known = sorted(known)
    by_lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name[:200].lower(), by_lower, n=1)
    if close:
        return f"Did you mean '{by_lower[close[0]]}'?"
    if not known:
        return "There are none."
    more = len(known) - NAMED if len(known) > NAMED + 2 else 0
    told = ", ".join(known[:NAMED] if more else known)
    return f"Known: {told} and {more} more{f' (`{see}`)' if see else ''}." if more else f"Known: {told}."


_DIFFERS = re.compile(r"[\w.:\\/-]*[\d\\/][\w.:\\/-]*", re.ASCII)
"""Words that differ between errors of one kind: numbers, ids and addresses with a digit, paths."""


def alike(error: str) -> str:
    """The text of an error without what differs from sample to sample, so that errors of one kind are equal.

    >>> alike("KeyError: no row 17 in /data/a.png") == alike("KeyError: no row 9 in /data/b.png")
    True
    """
    return _DIFFERS.sub("#", error)


def commonest(errors: Sequence[str]) -> str | None:
    """The first of the errors of the commonest kind; None where there are none."""
    if not errors:
        return None
    kind, _ = Counter(map(alike, errors)).most_common(1)[0]
    return next(error for error in errors if alike(error) == kind)
