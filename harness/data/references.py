"""Which of a row's choices are right: what the references column means, decided over all rows of a table at once.

People write the right choice as its letter, as its text, or as its place counted from 0 or from 1, and a single row
often cannot tell which of these is meant. A reading is possible where it fits every row. Where two are possible and
differ in some row, nothing is guessed: the run is refused, and the message names the key that decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from harness.metrics.choice import letter
from harness.metrics.text import fold

Reading = Literal["letter", "text", "index0", "index1"]
READINGS: tuple[Reading, ...] = get_args(Reading)

_OWN_LETTER = re.compile(r"^[(（\[]?([A-Za-z])[)）\].．:：、]\s*(?=\S)")
"""The letter that an option brings along, as in "B. dog" or "(B) dog"."""


@dataclass(frozen=True)
class Options:
    """The choices of one row, in the data set's own order."""

    texts: tuple[str, ...]
    places: tuple[int, ...]
    """The column (or the place in the list) of each: cells that are empty leave gaps."""
    written: tuple[str, ...]
    """As the data set writes them, letters included."""

    @classmethod
    def of(cls, cells: Sequence[str]) -> Options:
        """The options in a row's cells, some of which may be empty.

        A letter in front of an option is not part of it if every option carries the letter of its own place.
        """
        filled = [(place, text) for place, text in enumerate(cells) if text]
        written = tuple(text for _, text in filled)
        found = [_OWN_LETTER.match(text) for text in written]
        own = [match is not None and letter(match[1]) == place for match, (place, _) in zip(found, filled, strict=True)]
        texts = tuple(text[match.end() :] for text, match in zip(written, found, strict=True) if match)
        return cls(texts if all(own) else written, tuple(place for place, _ in filled), written)

    def right(self, reference: str, reading: Reading) -> tuple[int, ...]:
        """Which options a reference names in one reading, by their number in `texts`; none where it names none.

        Of options with the same text, either is right.
        """
        if reading == "text":
            number = _alike(reference, self.texts, self.written)
        else:
            place = letter(reference) if reading == "letter" else _place(reference, first=int(reading == "index1"))
            number = self.places.index(place) if place in self.places else None
        return () if number is None else tuple(i for i, text in enumerate(self.texts) if text == self.texts[number])


def _place(reference: str, first: int) -> int | None:
    return int(reference) - first if re.fullmatch(r"\d{1,9}", reference) else None


def _alike(reference: str, *forms: Sequence[str]) -> int | None:
    """The number of the text that equals a reference, else of the only ones that equal it but for case, outer blanks
    and Unicode form."""
    for texts in forms:
        if reference in texts:
            return texts.index(reference)
    plain = fold(reference)
    for texts in forms:
        equal = [i for i, text in enumerate(texts) if fold(text) == plain]
        if equal and len({texts[i] for i in equal}) == 1:
            return equal[0]
    return None


@dataclass
class Decision:
    """Gathers, row by row, which readings of the references are possible."""

    allowed: tuple[Reading, ...] = READINGS
    fits: dict[Reading, int] = field(default_factory=dict)
    """In how many rows a reading names a choice for every reference."""
    differ: dict[tuple[Reading, Reading], int] = field(default_factory=dict)
    """The first row in which two readings that both fit it name other choices."""
    rows: int = 0

    def add(self, row: int, options: Options, references: Iterable[str]) -> None:
        """Take one row with choices into account."""
        self.rows += 1
        found: dict[Reading, frozenset[int]] = {}
        for reading in self.allowed:
            named = [options.right(reference, reading) for reference in references]
            if all(named):
                self.fits[reading] = self.fits.get(reading, 0) + 1
                found[reading] = frozenset(i for some in named for i in some)
        for i, first in enumerate(READINGS):
            for second in READINGS[i + 1 :]:
                if first in found and second in found and found[first] != found[second]:
                    self.differ.setdefault((first, second), row)

    def best(self) -> tuple[Reading, ...]:
        """The readings that fit the most rows."""
        most = max(self.fits.values(), default=0)
        return tuple(reading for reading in self.allowed if self.fits.get(reading, 0) == most)

    def conflict(self) -> tuple[Reading, Reading, int] | None:
        """Two of the best readings that differ in a row, and the row; None where they all mean the same."""
        best = self.best()
        pairs = [(row, pair) for pair, row in self.differ.items() if set(pair) <= set(best)]
        if not pairs:
            return None
        row, (first, second) = min(pairs)
        return first, second, row


class Labels:
    """The declared labels of a data set, found again in what its rows say."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self._exact: Mapping[str, int] = {label: i for i, label in enumerate(labels)}
        folded: dict[str, set[int]] = {}
        for i, label in enumerate(labels):
            folded.setdefault(fold(label), set()).add(i)
        self._folded = {plain: numbers.pop() for plain, numbers in folded.items() if len(numbers) == 1}

    def number(self, reference: str) -> int | None:
        """The number of the label that a reference names, in spite of case, blanks and Unicode form; None for none."""
        found = self._exact.get(reference)
        return self._folded.get(fold(reference)) if found is None else found
