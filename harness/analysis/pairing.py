"""Whether two cells were asked the same: their samples are paired by id, and what each id stood for is compared.

Every record holds digests of its words and of the media as they were read. A medium that was not read in one of the
cells cannot be compared, so that its sample is paired by its id alone; records of versions before 0.2 have no digests,
and are paired by question and references. Both are counted, and whoever shows a comparison says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import counted
from harness.records import Record, text_digest
from harness.store.cells import CellStore


@dataclass(frozen=True)
class Pairing:
    """How the samples of two cells fit one another."""

    ids: bool
    """Whether both have the same ids."""
    samples: tuple[int, int]
    """How many samples either has."""
    other: int = 0
    """Ids that stand for other content."""
    by_id: int = 0
    """Ids whose media were not read in both cells."""
    by_words: int = 0
    """Ids without a digest in one of the cells: their questions and references are equal."""

    @property
    def refused(self) -> str:
        """Why the two cannot be compared; empty where they can."""
        if not self.ids:
            one, two = self.samples
            return (
                f"{counted(one, 'sample')} and {two}, not the same ones; only runs over the same samples (limit, seed, "
                "split) can be compared"
            )
        if self.other:
            stand = "stands" if self.other == 1 else "stand"
            return f"{counted(self.other, 'id')} of {self.samples[0]} {stand} for other questions, answers or media"
        return ""

    @property
    def note(self) -> str:
        """What could not be compared by content; empty where everything was."""
        found = []
        if self.by_words:
            found.append(
                f"{counted(self.by_words, 'sample')} paired by question and references alone, as versions before 0.2 "
                "kept no digests"
            )
        if self.by_id:
            found.append(f"media of {counted(self.by_id, 'sample')} were not read by both and are paired by id")
        return "; ".join(found)


def pair(one: CellStore, two: CellStore) -> Pairing:
    """Compare what the samples of two cells were, id by id."""
    left, right = digests(one), digests(two)
    sizes = len(left), len(right)
    if left.keys() != right.keys():
        return Pairing(False, sizes)
    if not all(left.values()) or not all(right.values()):
        left, right = _words(one), _words(two)
        other = sum(left[id_] != right[id_] for id_ in left)
        return Pairing(True, sizes, other, by_words=len(left) - other)
    return _by_content(left, right, sizes)


def _by_content(left: Mapping[str, str], right: Mapping[str, str], sizes: tuple[int, int]) -> Pairing:
    other = by_id = 0
    for id_, content in left.items():
        if content == right[id_] and "?" not in content:
            continue
        ours, theirs = content.split("-"), right[id_].split("-")
        known = [pair for pair in zip(ours, theirs, strict=False) if "?" not in pair]
        same = len(ours) == len(theirs) and all(a == b for a, b in known)
        other += not same
        by_id += same
    return Pairing(True, sizes, other, by_id)


def digests(store: CellStore) -> dict[str, str]:
    """The `content` of each record, by id."""
    return {record.id: record.content for record in store.records()}


def _words(store: CellStore) -> dict[str, str]:
    """A digest of each record's question and references, by id."""
    return {record.id: _of_words(record) for record in store.records()}


def _of_words(record: Record) -> str:
    return text_digest(record.question, record.references)
