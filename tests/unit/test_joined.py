"""Several runs in one report: one table for what was asked alike, tables of their own for what was not."""

from __future__ import annotations

import csv

import pytest
from made_runs import answered, write_run

from harness.analysis.statistics import holm
from harness.cli.main import main
from harness.records import text_digest

TRUTH = ["red"] * 60


def digested(right, media="m", truth=TRUTH):
    """Sixty answers, so many of them right, each about a picture whose digest ends in its number."""
    records = answered(["red"] * right + ["blue"] * (60 - right), truth)
    for i, record in enumerate(records):
        record.content = f"{text_digest(record.question, record.references)}-{media}{i}"
    return records


@pytest.fixture
def reported(tmp_path, monkeypatch):
    """Join these runs from the command line, and give the report's text and the folder of its tables."""
    monkeypatch.chdir(tmp_path)

    def join(*names, language="en"):
        assert main(["report", *names, "results_dir=.", "--out", "out", "--lang", language]) == 0
        return (tmp_path / "out" / "report.md").read_text("utf-8"), tmp_path / "out" / "tables"

    return join


def test_runs_over_the_same_samples_are_tested_together_with_one_correction(tmp_path, reported):
    write_run(tmp_path, "a", {"m": digested(30), "old": digested(31)})
    write_run(tmp_path, "b", {"m": digested(58)})
    text, tables = reported("a", "b")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert "★ m @ b" in text
    assert "★ old" not in text
    assert "These rows come from several runs that asked the same samples" in text
    assert sum(row.startswith(("| **★ m @ b**", "| old ", "| m @ a ")) and "0." in row for row in rows) >= 3
    with (tables / "comparisons.csv").open() as file:
        found = list(csv.DictReader(file))
    assert {(row["a"], row["a_run"], row["b"], row["b_run"]) for row in found} == {
        ("m", "a", "old", "a"),
        ("m", "a", "m", "b"),
        ("old", "a", "m", "b"),
    }
    assert [float(row["p_adjusted"]) for row in found] == pytest.approx(holm([float(row["p"]) for row in found]))


def test_other_content_under_the_same_ids_has_a_table_of_its_own(tmp_path, reported):
    write_run(tmp_path, "a", {"m": digested(40)})
    write_run(tmp_path, "b", {"m": digested(50, media="other"), "n": digested(20, media="other")})
    write_run(tmp_path, "c", {"late": digested(45)})
    text, tables = reported("a", "b", "c")
    headings = [line for line in text.splitlines() if line.startswith("### Visual")]
    assert headings == [
        "### Visual question answering · quiz · English · a, c · n = 60",
        "### Visual question answering · quiz · English · b · n = 60",
    ]
    assert "b: a table of its own, because 60 of its 60 ids stand for other questions, answers or media" in text
    assert {path.name for path in tables.glob("vqa*.csv")} == {"vqa.quiz.en.csv", "vqa.quiz.en.2.csv"}
    chinese, _ = reported("a", "b", "c", language="zh")
    assert "b：单独成表，因为其 60 个编号中有 60 个" in chinese


def test_other_samples_have_a_table_of_their_own(tmp_path, reported):
    write_run(tmp_path, "a", {"m": digested(40)})
    write_run(tmp_path, "b", {"m": digested(40)[:50]})
    text, _ = reported("a", "b")
    assert "· b · n = 50" in text
    assert "m @ b" in text


def test_how_samples_without_digests_or_media_were_paired_is_said(tmp_path, reported):
    old, unread = digested(40), digested(40)
    for record in old:
        record.content = ""
    unread[0].content = unread[0].content.partition("-")[0] + "-?"
    write_run(tmp_path, "a", {"m": digested(40)})
    write_run(tmp_path, "b", {"m": unread})
    write_run(tmp_path, "c", {"m": old})
    assert "1 sample is paired by id alone" in reported("a", "b")[0]
    assert "60 samples are paired by question and references alone" in reported("a", "c")[0]
