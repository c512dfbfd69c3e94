"""The one way from records to numbers: `harness run`, `report`, `compare` and `score` all come through here.

What holds for every task is done here and not in each: what a model wrote is read for its final answer, the headline is
the one that the data set declares, and samples that count only together become one row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harness.analysis.record_table import RecordTable
from harness.errors import UserError
from harness.metrics import Scored, mean
from harness.metrics.answers import final_answer
from harness.metrics.hygiene import is_empty, refuses
from harness.records import Record
from harness.task import Scoring, Task


@dataclass(frozen=True)
class ScoredCell:
    """Records and all their metrics, the headline first."""

    asked: RecordTable
    """The records as they are stored."""
    records: RecordTable
    """What counts: a group of records that count together is one record here."""
    scored: list[Scored]
    """Statistics with a row for each of `records`."""
    counts: dict[str, Any]
    """Entries of the cell in summary.json: which shares of the answers are no proper ones, and what all took (see
    `Counts`)."""


SUMS = ("tokens_in", "tokens_out", "reasoning_tokens", "cost")
"""Figures of a record that are summed over the cell, where any record has them."""


@dataclass
class Counts:
    """Counts, over the answers that a model wrote, those that are not proper ones; and what all records took."""

    given: int = 0
    """The texts that were written, and the refusals."""
    counted: int = 0
    """Those of which it is known whether the token limit ended them."""
    cut_off: int = 0
    """Ended by the token limit."""
    refused: int = 0
    """By the model's own words, or by an error that the adapter says is a refusal, or cut off by a server's filter."""
    empty: int = 0
    """Without a final answer, those with an unfinished trace included."""
    unfinished: int = 0
    """Ended inside a trace of reasoning."""
    sums: dict[str, float] = field(default_factory=dict)
    """By the name of a figure (see SUMS)."""
    served_by: Counter[str] = field(default_factory=Counter)
    """How many answers came under each of a server's names for the model."""

    def read(self, record: Record) -> Record:
        """The record with the final answer by today's rules, whichever version wrote it; its text is counted."""
        for name in SUMS:
            if (value := getattr(record, name)) is not None:
                self.sums[name] = self.sums.get(name, 0) + value
        if record.served_by:
            self.served_by[record.served_by] += 1
        if record.refused:
            self.given += 1
            self.refused += 1
            return record
        text = record.written
        if text is None:
            return record
        final = final_answer(text)
        self.given += 1
        self.counted += record.cut_off or record.finish is not None or record.tokens_out is not None
        self.cut_off += record.cut_off
        self.refused += record.finish == "filter" or refuses(final.text)
        self.empty += is_empty(final.text)
        self.unfinished += final.unfinished
        return record if record.answer == final.text else replace(record, answer=final.text)

    def to_json(self) -> dict[str, Any]:
        """Shares of the answers, 0 to 1, None where there is none; and sums, None where no record has the figure."""
        found: dict[str, Any] = {"cut_off": self.cut_off / self.counted if self.counted else None}
        for name in ("refused", "empty", "unfinished"):
            found[name] = getattr(self, name) / self.given if self.given else None
        found |= {name: self.sums.get(name) for name in SUMS}
        return found | {"served_by": dict(self.served_by.most_common())}


def score(task: Task, records: Iterable[Record], scoring: Scoring) -> ScoredCell:
    """Score records as the task does. Raises UserError where the declared headline cannot be computed from them."""
    counts = Counts()
    table = RecordTable(map(counts.read, records))
    scored = task.score(table, scoring)
    if scoring.metric:
        scored = _headline_first(scored, scoring.metric)
    groups = _groups(table)
    if groups is None:
        return ScoredCell(table, table, list(scored), counts.to_json())
    return ScoredCell(table, table.grouped(groups), [_joined(item, groups) for item in scored], counts.to_json())


def chance(task: Task, records: RecordTable, scoring: Scoring) -> list[Scored]:
    """What blind guessing is expected to score; a group is guessed with the product of its records' chances."""
    groups, expected = _groups(records), task.chance(records, scoring)
    return expected if groups is None else [_joined(item, groups, product=True) for item in expected]


def _headline_first(scored: Sequence[Scored], name: str) -> list[Scored]:
    if all(item.metric.name != name for item in scored):
        raise UserError(f"the metric {name} cannot be computed from these answers")
    return sorted(scored, key=lambda item: item.metric.name != name)


def _groups(records: RecordTable) -> list[str] | None:
    """The group of each record, which is its id where it counts by itself; None where all do."""
    groups = [group or id_ for id_, group in zip(records.ids, records.column("group"), strict=True)]
    return None if groups == records.ids else groups


def _joined(scored: Scored, groups: Sequence[str], product: bool = False) -> Scored:
    """One row for each group in the place of its records' rows: the worst of their values (of chances the product),
    and of a rate all that it counts."""
    if scored.metric.finish is not mean:
        raise UserError(f"{scored.metric.name} has no value for a group of samples that count together")
    place = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    index, rows = np.array([place[group] for group in groups]), np.asarray(scored.statistics)
    if not scored.metric.larger_is_better:
        sums = np.zeros((len(place), 2))
        np.add.at(sums, index, rows)
        return replace(scored, statistics=sums)
    values = np.ones(len(place))
    (np.multiply if product else np.minimum).at(values, index, rows[:, 0])
    return replace(scored, statistics=np.stack([values, np.ones(len(place))], axis=1))
