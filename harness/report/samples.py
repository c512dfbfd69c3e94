"""A few samples of each group, with the models' answers side by side: the faces behind the figures.

A hash of cluster and id decides which samples these are. So all models are shown with the same ones, a report made
again shows the same, and files of any length are read in one pass that keeps little.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UserError
from harness.metrics.answers import final_answer
from harness.metrics.text import normalise
from harness.records import EXAMPLES, Record, example_order
from harness.report import formats
from harness.report.strings import Strings
from harness.report.summary import Cell, Group

SHOWN = 6
"""How many samples of a group are shown."""


@dataclass(frozen=True)
class Reply:
    """One answer and the models that gave it."""

    record: Record
    right: bool | None
    """None where a mark would mislead, as for a caption that is not word for word a reference."""
    models: tuple[str, ...]


@dataclass(frozen=True)
class Example:
    """A sample with the models' answers to it, the right ones first."""

    asked: Record
    """One model's record, for what all have in common: question, references, choices, slices."""
    replies: tuple[Reply, ...]
    media: tuple[Path, ...] = ()
    """Folders in which thumbnails of its images may be (see `pictures`)."""


def examples(group: Group) -> list[Example]:
    """At most SHOWN samples, first those on which the models disagree, of different kinds and clusters as far as
    possible.

    Raises UserError for a records file with a line that is not a record; a torn last line is left out, as on a resume.
    """
    drawn = {cell.label: _draw(cell) for cell in group.models}
    drawn = {label: records for label, records in drawn.items() if records}
    if not drawn:
        return []
    ids = dict.fromkeys(id_ for records in drawn.values() for id_ in records)
    return _choose([_example(id_, drawn, group) for id_ in ids])


def matches(record: Record, task: str, language: str) -> bool | None:
    """Whether the answer equals a reference, normalised as for exact match, or a query's true match came first."""
    if record.error is not None:
        return False
    if record.retrieval is not None:
        return record.retrieval.get("rank") == 1
    if record.answer is None or not record.references:
        return None
    answer = record.answer if record.written is None else final_answer(record.written).text  # as it is scored
    same = normalise(answer, language) in {normalise(reference, language) for reference in record.references}
    return (same or None) if task == "captioning" else same


def reply_text(record: Record, strings: Strings) -> str:
    """A model's answer to a sample, in one line: a text, an error, or the rank of a query's first true match."""
    if record.error is not None:
        return strings("no_answer", error=formats.clean(record.error, 200))
    if record.retrieval is not None:
        rank = record.retrieval.get("rank")
        if rank is None:
            return strings("no_match")
        text = strings("rank_answer", rank=formats.count(rank))
        first = record.retrieval.get("top") or []
        return text + (strings("found_first", ids=formats.clean(", ".join(map(str, first[:3])), 120)) if first else "")
    return formats.clean(record.answer, 300) if record.answer else strings("empty_answer")


def _draw(cell: Cell) -> dict[str, Record]:
    """The EXAMPLES records that come first in `example_order`, by id; empty where the cell has no records file."""
    path = cell.folder / "records.jsonl" if cell.folder else None
    if path is None or not path.is_file():
        return {}
    first = heapq.nsmallest(EXAMPLES, _lines(path))
    records = [_record(path, number, line) for _, number, line in first]
    return {record.id: record for record in records}


_BEGINNING = re.compile(r'{"id": "([^"\\]*)", "cluster": "([^"\\]*)"')
"""How a line begins, as we write it: what orders the lines is found without parsing all of them."""


def _lines(path: Path) -> Iterator[tuple[tuple[int, int, str], int, str]]:
    """Each line with its place in `example_order` and its number."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith("\n"):
                return
            if found := _BEGINNING.match(line):
                yield example_order(found[2], found[1]), number, line
            else:
                record = _record(path, number, line)
                yield example_order(record.cluster, record.id), number, line


def _record(path: Path, number: int, line: str) -> Record:
    """The record in a line; raises UserError where it holds none."""
    try:
        return Record.from_json(json.loads(line))
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}, line {number}, is not a record: {error}. Restore it or run again.") from None


def _example(id_: str, drawn: dict[str, dict[str, Record]], group: Group) -> Example:
    given: dict[tuple[str | None, str | None, str], list[str]] = {}
    first: dict[tuple[str | None, str | None, str], Record] = {}
    for label, records in drawn.items():
        if (record := records.get(id_)) is None:
            continue
        key = (record.answer, record.error, json.dumps(record.retrieval, sort_keys=True, default=str))
        given.setdefault(key, []).append(label)
        first.setdefault(key, record)
    replies = [
        Reply(first[key], matches(first[key], group.key.task, group.key.language), tuple(labels))
        for key, labels in given.items()
    ]
    replies.sort(key=lambda reply: (reply.right is not True, reply.record.error is not None, -len(reply.models)))
    folders = dict.fromkeys(cell.folder.parents[2] / "media" for cell in group.models if cell.folder)
    return Example(replies[0].record, tuple(replies), tuple(folders))


def _choose(found: Sequence[Example]) -> list[Example]:
    """The samples to show, first those that divide the models; with one that no model got right and one that failed, if
    there are any."""

    def divides(example: Example) -> int:
        """How many models are on the smaller side, where some are right and some are not."""
        right = sum(len(reply.models) for reply in example.replies if reply.right)
        return min(right, sum(len(reply.models) for reply in example.replies) - right)

    telling = sorted(found, key=lambda example: -divides(example))
    chosen: list[Example] = []
    for condition in (
        lambda e: any(reply.record.error is not None for reply in e.replies),
        lambda e: all(reply.right is False for reply in e.replies),
    ):
        chosen.extend([example for example in telling if condition(example) and example not in chosen][:1])
    for fresh in (_differ, _apart, lambda *_: True):
        for example in telling:
            if len(chosen) < SHOWN and example not in chosen and all(fresh(example, other) for other in chosen):
                chosen.append(example)
    return sorted(chosen, key=telling.index)


def _apart(a: Example, b: Example) -> bool:
    return a.asked.cluster != b.asked.cluster


def _differ(a: Example, b: Example) -> bool:
    """Whether two samples are of different clusters and have different values in their first slice field."""
    kinds = [next(iter(example.asked.slices.values()), None) for example in (a, b)]
    return _apart(a, b) and kinds[0] != kinds[1]
