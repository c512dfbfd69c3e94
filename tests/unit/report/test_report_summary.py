"""Reading summary.json: strict about what every run has, tolerant of what only some know; and joining runs."""

import json

import pytest

from harness import report
from harness.errors import UserError
from harness.report import summary, tables
from harness.report.strings import Strings

pytestmark = pytest.mark.usefixtures("no_charts")


def edit(folder, change):
    path = folder / "summary.json"
    data = json.loads(path.read_text("utf-8"))
    change(data)
    path.write_text(json.dumps(data), "utf-8")


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing is not a run: it has no summary\.json"):
        report.write(tmp_path / "nothing")


def test_a_damaged_file_is_named(demo):
    (demo / "summary.json").write_text('{"run": "demo", "cells": [', "utf-8")
    with pytest.raises(UserError, match=r"summary\.json cannot be read"):
        report.write(demo)


@pytest.mark.parametrize("key", ["model", "origin", "task", "dataset", "language", "status"])
def test_a_cell_without_a_required_key_is_named(demo, key):
    edit(demo, lambda data: data["cells"][2].pop(key))
    with pytest.raises(UserError, match=rf"summary\.json, cell 3 has no '{key}'"):
        report.write(demo)


def test_a_headline_without_a_number_is_an_error_and_no_empty_table(demo):
    edit(demo, lambda data: data["cells"][0].update(headline="f1"))
    with pytest.raises(UserError, match="the headline metric 'f1' is not among its metrics"):
        report.write(demo)


def test_an_unknown_origin_is_told_the_right_ones(demo):
    edit(demo, lambda data: data["cells"][0].update(origin="elsewhere"))
    with pytest.raises(UserError, match="must be one of in-house, domestic, international, reference"):
        report.write(demo)


def test_a_report_needs_no_more_than_the_required_keys(tmp_path):
    cell = {"model": "m", "origin": "in-house", "task": "vqa", "dataset": "d", "language": "en", "status": "complete"}
    cell |= {"headline": "exact_match", "metrics": {"exact_match": {"value": 0.5}}}
    (tmp_path / "summary.json").write_text(json.dumps({"run": "bare", "cells": [cell]}), "utf-8")
    out = report.write(tmp_path)
    assert "0.500" in (out / "report.md").read_text("utf-8")
    assert "1 model, 1 cell complete, 0 not scored" in (out / "report.md").read_text("utf-8")


def test_nan_and_infinity_are_unknown_numbers():
    assert summary.number(float("nan")) is None
    assert summary.number(float("inf")) is None
    assert summary.number("0.5") is None
    assert summary.number(0.5) == 0.5


def test_models_stand_by_falling_headline_and_reference_rows_below_them(demo):
    def good_prior(data):
        next(cell for cell in data["cells"] if cell["model"] == "prior")["metrics"]["exact_match"]["value"] = 0.99

    edit(demo, good_prior)
    group = summary.parse(summary.load(demo)).groups[0]
    values = [cell.score.value for cell in group.models]
    assert values == sorted(values, reverse=True)
    assert [cell.model for cell in group.cells[-2:]] == ["prior", "chance"]


def test_cells_of_another_ablation_are_another_group(demo):
    def ablate(data):
        data["cells"] += [{**cell, "ablate": "audio"} for cell in data["cells"] if cell["task"] == "vqa"]

    edit(demo, ablate)
    names = [group.key.name for group in summary.parse(summary.load(demo)).groups]
    assert names[:4] == ["vqa.pocket.en", "vqa.pocket.zh", "vqa.pocket.en.audio", "vqa.pocket.zh.audio"]


def test_joined_runs_label_the_models_whose_names_collide(tmp_path, build_run):
    one, two = build_run(tmp_path, "one"), build_run(tmp_path, "two")
    edit(two, lambda data: data["cells"].append({**data["cells"][0], "model": "newcomer"}))
    text = (report.write([one, two]) / "report.md").read_text("utf-8")
    assert "fusion-concat @ one" in text
    assert "fusion-concat @ two" in text
    assert "newcomer" in text
    assert "newcomer @" not in text


def test_joined_runs_show_equal_reference_rows_once_and_others_apart(tmp_path, build_run):
    one, two = build_run(tmp_path, "one"), build_run(tmp_path, "two")

    def other_prior(data):
        cell = next(cell for cell in data["cells"] if cell["model"] == "prior" and cell["task"] == "retrieval")
        cell["metrics"]["i2t_recall@1"]["value"] = 0.3

    edit(two, other_prior)
    data = summary.join([(summary.load(folder), "x", folder) for folder in (one, two)])
    assert [cell.label for cell in data.groups[0].references] == ["prior", "chance"]
    assert [cell.label for cell in data.groups[4].references] == ["prior @ one", "prior @ two"]


def test_joined_runs_go_to_a_folder_of_both_names_unless_told_otherwise(tmp_path, build_run):
    one, two = build_run(tmp_path, "one"), build_run(tmp_path, "two")
    assert report.write([one, two]) == tmp_path / "one+two"
    assert report.write([one, two], tmp_path / "其他 (1)") == tmp_path / "其他 (1)"
    assert (tmp_path / "其他 (1)" / "report.html").is_file()


def test_joined_runs_show_no_marks_that_were_tested_within_one_run(tmp_path, build_run):
    one, two = build_run(tmp_path, "one"), build_run(tmp_path, "two")
    text = (report.write([one, two]) / "report.md").read_text("utf-8")
    assert "★ fusion" not in text
    assert "Marks and ranks hold within one run" in text


def test_latencies_of_different_machines_are_set_apart_and_it_is_said(tmp_path, build_run):
    one, two = build_run(tmp_path, "one"), build_run(tmp_path, "two", gpu="Example GPU")
    data = summary.join([(summary.load(folder), "x", folder) for folder in (one, two)])
    assert data.groups[0].machines == ("Example CPU 3000 / 2 cores", "Example GPU / Example CPU 3000 / 2 cores")
    text = (report.write([one, two]) / "report.md").read_text("utf-8")
    assert "different machines" in text
    rows = [line for line in text.splitlines() if line.startswith("| fusion") and "Example" in line][:4]
    assert ["@ one" in row for row in rows] == [True, True, False, False]


def test_a_folder_that_cannot_be_written_is_a_message(demo, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        report.write(demo, tmp_path / "file" / "out")


def test_an_unknown_report_language_is_a_message(demo):
    with pytest.raises(UserError, match="en or zh"):
        report.write(demo, language="fr")


def test_many_slice_values_stand_below_one_another_and_the_largest_are_shown(demo):
    def many(data):
        for cell in data["cells"]:
            if cell["slices"]:
                part = cell["slices"]["category"].popitem()[1]
                cell["slices"]["category"] = {f"kind{i}": {**part, "n": i} for i in range(30)}

    edit(demo, many)
    group = summary.parse(summary.load(demo)).groups[0]
    table, more = tables.slices(group, "category", Strings("en"))
    assert [row.cells[0] for row in table.rows] == [f"kind{i} (n={i})" for i in range(6, 30)]
    assert table.columns[1].title == "fusion-self-attention"
    assert more == 6


def test_a_model_that_is_alone_is_not_called_the_best(demo):
    edit(demo, lambda data: data.update(cells=data["cells"][:1]))
    group = summary.parse(summary.load(demo)).groups[0]
    assert group.models[0].best
    assert tables.mark(group.models[0], group) == ""
