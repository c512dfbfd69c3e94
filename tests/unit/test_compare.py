"""Two runs against one another: what is paired with what, what is refused, and what a gate stops at."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from made_runs import answered, write_run

from harness.analysis.compare import compare, worse
from harness.analysis.pairing import pair
from harness.cli.main import main
from harness.errors import UserError
from harness.records import Sample, sample_digest, text_digest

TRUTH = ["red"] * 40
RIGHT, WRONG = ["red"] * 40, ["blue"] * 40


def digested(answers, truth=TRUTH, media="m", question="Question {i}?", **more):
    """Records with digests, each of a picture whose digest ends in its number."""
    records = answered(answers, truth, **more)
    for i, record in enumerate(records):
        record.question = question.format(i=i)
        record.content = f"{text_digest(record.question, record.references)}-{media}{i}"
    return records


def without_digests(records):
    return [replace(record, content="") for record in records]


def test_other_content_under_the_same_ids_is_refused_with_the_count(tmp_path):
    a = write_run(tmp_path, "a", {"m": digested(RIGHT)})
    for name, records, count in (
        ("questions", digested(RIGHT, question="NEW question {i}?"), 40),
        ("answers", digested(RIGHT, truth=["red"] * 30 + ["blue"] * 10), 10),
        ("media", digested(RIGHT, media="other"), 40),
        ("one picture", [replace(digested(RIGHT)[0], content="f" * 16 + "-f"), *digested(RIGHT)[1:]], 1),
    ):
        stands = "id of 40 stands" if count == 1 else "ids of 40 stand"
        with pytest.raises(UserError, match=rf"m\.vqa\.quiz\.en: {count} {stands} for other questions, answers or med"):
            compare(a, write_run(tmp_path, name, {"m": records}))


def test_what_can_be_compared_is_and_the_rest_fails_the_gate(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path, "a", {"m": digested(RIGHT), "changed": digested(RIGHT)})
    write_run(tmp_path, "b", {"m": digested(RIGHT), "changed": digested(RIGHT, media="other")})
    words = ["compare", "a", "b", "results_dir=."]
    assert main(words) == 0
    assert "cannot be compared: changed on vqa quiz en (40 ids of 40 stand for other" in capsys.readouterr().err
    assert main([*words, "--fail-if-worse"]) == 1
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["model"], row["verdict"]) for row in rows] == [("m", "same"), ("changed", "not comparable")]


def test_media_that_were_not_read_are_paired_by_id_and_counted(tmp_path):
    unread = digested(RIGHT)
    for record in unread[:3]:
        record.content = record.content.partition("-")[0] + "-?"
    a, b = write_run(tmp_path, "a", {"m": digested(RIGHT)}), write_run(tmp_path, "b", {"m": unread})
    (row,) = compare(a, b)
    assert row.verdict == "same"
    assert row.note == "media of 3 samples were not read by both and are paired by id"


def test_runs_without_digests_pair_by_question_and_references_and_it_is_said(tmp_path):
    a = write_run(tmp_path, "a", {"m": without_digests(digested(RIGHT))})
    b = write_run(tmp_path, "b", {"m": digested(RIGHT, media="other")})
    (row,) = compare(a, b)
    assert row.note.startswith("40 samples paired by question and references alone")
    changed = write_run(tmp_path, "c", {"m": digested(RIGHT, question="NEW question {i}?")})
    with pytest.raises(UserError, match="40 ids of 40 stand for other"):
        compare(a, changed)


def test_one_cluster_cannot_be_tested_and_fails_the_gate(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, answers in (("a", RIGHT), ("b", WRONG)):
        write_run(tmp_path, name, {"m": digested(answers, cluster="a.png")})
    assert main(["compare", "a", "b", "results_dir=.", "--fail-if-worse"]) == 1
    said = capsys.readouterr()
    assert "cannot be tested" in said.out
    assert "cannot be tested: m on vqa quiz en (all samples are in one cluster)" in said.err
    (row,) = compare(*(write_run(tmp_path, name, {"m": digested(RIGHT, cluster="a.png")}) for name in ("c", "d")))
    assert worse([row]) == [row]


def test_two_models_are_tested_against_one_another_by_name(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path, "a", {"old": digested(RIGHT), "new": digested(WRONG)})
    write_run(tmp_path, "b: late", {"new": digested(RIGHT)})
    assert main(["compare", "a:old", "a:new", "results_dir=.", "--json", "--fail-if-worse"]) == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["model"], row["model_b"], row["verdict"]) == ("old", "new", "worse")
    assert (row["a"], row["b"], row["n"]) == (1.0, 0.0, 40)
    assert main(["compare", "a:new", "b: late", "results_dir=.", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["model"], row["model_b"], row["verdict"]) == ("new", "new", "better")
    assert main(["compare", "a:odl", "b: late:new", "results_dir=."]) == 2
    assert "a has no model 'odl'. Did you mean 'old'?" in capsys.readouterr().err


def test_an_error_rate_that_falls_is_better(tmp_path, error_rate_task):
    truth = ["abcdefghij"] * 40
    runs = [
        write_run(tmp_path, name, {"m": digested([answer] * 40, truth)}, error_rate_task)
        for name, answer in (("a", "xxxxxfghij"), ("b", "xbcdefghij"))
    ]
    assert [row.verdict for row in compare(*runs)] == ["better"]
    assert [row.verdict for row in compare(*runs[::-1])] == ["worse"]


def test_a_cell_that_cannot_be_scored_is_named_and_the_others_are_compared(tmp_path, error_rate_task):
    broken = [replace(record, references=()) for record in digested(RIGHT)]
    models = {"broken": broken, "m": digested([answer * 4 for answer in RIGHT], ["redredredred"] * 40)}
    runs = [write_run(tmp_path, name, models, error_rate_task) for name in ("a", "b")]
    rows = {row.model: row for row in compare(*runs)}
    assert rows["m"].verdict == "same"
    assert rows["broken"].verdict == "not comparable"
    assert rows["broken"].reason.startswith("cannot be scored: IndexError")


def test_the_order_of_lines_and_of_options_changes_no_content(tmp_path):
    one = Sample("1", "c", "en", question="Which?", references=("a",), choices=("a", "b", "c"))
    shown = replace(one, choices=("c", "a", "b"), order=(2, 0, 1))
    assert sample_digest(one) == sample_digest(shown) == text_digest("Which?", ["a"], ["a", "b", "c"])
    assert sample_digest(replace(one, choices=("b", "a", "c"))) != sample_digest(one)
    run = write_run(tmp_path, "a", {"m": digested(RIGHT), "backwards": digested(RIGHT)[::-1]})
    found = pair(run.cell("m/vqa.quiz.en"), run.cell("backwards/vqa.quiz.en"))
    assert (found.refused, found.note) == ("", "")
