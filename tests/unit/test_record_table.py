"""Records held by column are the records that went in, and what repeats is there once."""

from __future__ import annotations

import pytest

from harness.analysis import record_table as table
from harness.analysis.record_table import RecordTable
from harness.records import Record

RECORDS = [
    Record("1", "a.png", references=("red", "dark red"), slices={"kind": "colour"}, answer="red"),
    Record("2", "2", references=("red", "dark red"), error="no picture"),
    Record("3", "a.png", choices=("red", "blue"), scores=(0.25, 1.0), slices={"kind": "colour"}, answer="blue"),
    Record("4", "4", retrieval={"direction": "i2t", "rank": 1, "top": ["1", "2"]}),
]


@pytest.fixture(params=[2**16, 1])
def records(request, monkeypatch) -> RecordTable:
    """With room to remember every value that may repeat, and with hardly any."""
    monkeypatch.setattr(table, "_KNOWN", request.param)
    return RecordTable(iter(RECORDS))


def test_the_records_come_back_in_their_order(records):
    assert list(records) == RECORDS
    assert [records[i] for i in range(len(records))] == RECORDS
    assert list(records[1:3]) == RECORDS[1:3]


def test_some_are_taken_in_the_order_asked_for(records):
    assert list(records.take([3, 0])) == [RECORDS[3], RECORDS[0]]


def test_a_column_has_a_value_for_every_record(records):
    assert records.column("answer") == ["red", None, "blue", None]
    assert records.column("slices") == [{"kind": "colour"}, {}, {"kind": "colour"}, {}]
    assert RecordTable(RECORDS[:1]).column("error") == [None]


def test_what_repeats_is_kept_once():
    copies = (Record(str(i), str(i), references=(f"{'re'}d", "blue"), answer="".join("red")) for i in range(3))
    kept = RecordTable(copies)
    assert len({id(references) for references in kept.column("references")}) == 1
    assert len({id(answer) for answer in kept.column("answer")}) == 1


def test_what_is_not_scored_is_left_out():
    (record,) = RecordTable([Record("1", "1", question="What?", media=("a.png",), tokens_out=3, answer="red")])
    assert (record.question, record.media, record.tokens_out, record.answer) == ("", (), None, "red")
