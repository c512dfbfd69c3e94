"""Many records in little memory, for scoring: by column, with equal values kept once and blank columns not at all.

A `Record` takes about 600 bytes, so that a report over a million of them would not fit beside a model; here it takes
about 100. What scoring never reads (the question, the media's names) is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, fields
from typing import Any

from harness.records import Record

_NOT_SCORED = (
    *("question", "media", "raw", "content", "tokens_in", "tokens_out", "finish", "reasoning", "reasoning_tokens"),
    *("cost", "served_by"),
)
"""Fields that are left out."""
_BLANK: dict[str, Any] = {
    field.name: field.default_factory() if field.default_factory is not MISSING else field.default
    for field in fields(Record)
    if field.name not in ("id", "cluster")
}
"""Every field but id and cluster, with its blank value."""
_REPEATED = ("references", "choices", "slices", "order", "right", "answer", "error")
"""Fields whose values are worth looking up among those known."""
_KNOWN = 2**16
"""How many different values are remembered at a time, to find those that repeat."""


class RecordTable(Sequence[Record]):
    """A sequence of records, each of which is built when it is asked for. Iterating is cheap; a column is cheaper."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.ids: list[str] = []
        self.clusters: list[str] = []
        self._columns: dict[str, list[Any]] = {name: [] for name in _BLANK}
        known: dict[Any, Any] = {}
        scored = [(name, blank) for name, blank in _BLANK.items() if name not in _NOT_SCORED]
        for number, record in enumerate(records):
            if len(known) > _KNOWN:
                known.clear()
            self.ids.append(record.id)
            self.clusters.append(record.id if record.cluster == record.id else _shared(record.cluster, known))
            for name, blank in scored:
                value = getattr(record, name)
                if value != blank:
                    column = self._columns[name]
                    column.extend([blank] * (number - len(column)))
                    column.append(_shared(value, known) if name in _REPEATED else value)
        for name, column in self._columns.items():
            if column:
                column.extend([_BLANK[name]] * (len(self.ids) - len(column)))

    def column(self, name: str) -> list[Any]:
        """One field of every record, in order. The caller must not change the list."""
        return self._columns[name] or [_BLANK[name]] * len(self.ids)

    def take(self, indices: Sequence[int]) -> RecordTable:
        """A table of only these records, in this order."""
        taken = RecordTable()
        taken.ids, taken.clusters = [self.ids[i] for i in indices], [self.clusters[i] for i in indices]
        taken._columns = {name: [full[i] for i in indices] if full else [] for name, full in self._columns.items()}
        return taken

    def grouped(self, groups: Sequence[str]) -> RecordTable:
        """A table with one record for each group, named after it: the group's first record, or its first that failed.

        `groups` has the name of each record's group.
        """
        first: dict[str, int] = {}
        for i, (group, error) in enumerate(zip(groups, self.column("error"), strict=True)):
            if group not in first or (error is not None and self.column("error")[first[group]] is None):
                first[group] = i
        table = self.take(list(first.values()))
        table.ids = list(first)
        return table

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Record]:
        # The columns stand in the order of Record's fields: by name, a million records would take several times longer.
        return map(Record, self.ids, self.clusters, *map(self.column, _BLANK))

    def __getitem__(self, index):  # noqa: ANN001, ANN204 - Sequence's two overloads
        if isinstance(index, slice):
            return self.take(range(*index.indices(len(self))))
        others = (column[index] if column else _BLANK[name] for name, column in self._columns.items())
        return Record(self.ids[index], self.clusters[index], *others)


def _shared(value: Any, known: dict[Any, Any]) -> Any:
    """The value, or one equal to it that is known already. A tuple's parts are shared one by one as well."""
    key = tuple(value.items()) if isinstance(value, dict) else value
    found = known.get(key)
    if found is None:
        found = known[key] = tuple(_shared(part, known) for part in value) if isinstance(value, tuple) else value
    return found
