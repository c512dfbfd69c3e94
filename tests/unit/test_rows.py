"""What the rows of a table mean: their cells, which of their choices are right, and in which order these are shown."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from harness.config.specs import DatasetSpec
from harness.data import load
from harness.data.cells import listed, texts
from harness.errors import UserError

SPEC = DatasetSpec(
    source="jsonl",
    tasks=["vqa", "classification"],
    path="rows.jsonl",
    columns={"id": "id", "question": "q", "choices": "options", "references": "answer"},
)


@pytest.fixture
def read(tmp_path):
    """Reads rows as a data set: `read(rows, task, **settings)`."""

    def made(rows: list, task: str = "vqa", **settings):
        lines = [json.dumps({"id": number, "q": "?"} | row, ensure_ascii=False) for number, row in enumerate(rows)]
        (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
        return load("mine", replace(SPEC, **settings), task, "en", data_dir=tmp_path)

    return made


def right(dataset) -> list[list[str]]:
    """The right choices of each sample, found through their places alone."""
    found = []
    for sample in dataset:
        order = sample.order or range(len(sample.choices))
        found.append([choice for choice, own in zip(sample.choices, order, strict=True) if own in sample.right])
    return found


ANIMALS = ["cat", "dog", "cow"]


# Which choice is right ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dress", ["B", "b", "(B)", "B.", "B)", "Ｂ", "（B）", "option B", "选项B)", " B "])
def test_a_letter_in_any_dress_names_its_choice(read, dress):
    assert right(read([{"options": ANIMALS, "answer": dress}] * 2)) == [["dog"]] * 2


def test_a_letter_names_its_column_also_where_columns_before_it_are_empty(read):
    rows = [{"A": None, "B": "dog", "C": "cat", "answer": "C"}, {"A": "dog", "B": "", "C": "cat", "answer": "A"}]
    columns = SPEC.columns | {"choices": ["A", "B", "C"]}
    assert right(read(rows, columns=columns)) == [["cat"], ["dog"]]


def test_a_letter_is_a_place_where_options_are_letters_and_some_row_shows_it(read):
    rows = [{"options": ["B", "A"], "answer": "A"}, {"options": ANIMALS, "answer": "C"}]
    assert right(read(rows)) == [["B"], ["cow"]]


@pytest.mark.parametrize(("answers", "meant"), [([0, 2], ["cat", "cow"]), ([1, 3], ["cat", "cow"])])
def test_numbers_are_counted_from_where_all_rows_fit(read, answers, meant):
    found = right(read([{"options": ANIMALS, "answer": answer} for answer in answers]))
    assert found == [[text] for text in meant]


def test_two_readings_that_differ_are_refused_with_both_and_the_key_to_set(read):
    rows = [{"options": ANIMALS, "answer": answer} for answer in (1, 2)]
    with pytest.raises(UserError) as error:
        read(rows)
    for part in ("line 1 (id '0')", "'dog'", "'cat'", "answer_is: index0", "answer_is: index1"):
        assert part in str(error.value)
    assert right(read(rows, answer_is="index0")) == [["dog"], ["cow"]]
    assert right(read(rows, answer_is="index1")) == [["cat"], ["dog"]]


def test_readings_that_mean_the_same_in_every_row_are_no_conflict(read):
    assert right(read([{"options": [1, 2, 3, 4], "answer": answer} for answer in (2, 4)])) == [["2"], ["4"]]


def test_figures_among_figures_are_refused_where_they_may_be_places(read):
    with pytest.raises(UserError, match="answer_is"):
        read([{"options": ["3", "2", "1"], "answer": 2}])


def test_texts_are_found_in_spite_of_case_blanks_and_unicode_form(read):
    rows = [{"options": ["Café", "ｔｅａ", "milk"], "answer": answer} for answer in ("cafe\u0301 ", "TEA", "Milk")]
    assert right(read(rows)) == [["Café"], ["ｔｅａ"], ["milk"]]


def test_of_two_equal_options_either_is_right(read):
    assert right(read([{"options": ["red", "blue", "red"], "answer": "C"}] * 2)) == [["red", "red"]] * 2


def test_letters_go_from_options_only_where_each_carries_its_own(read):
    rows = [
        {"options": ["A. cat", "(B) dog", "C、牛"], "answer": "B"},
        {"options": ["A. Smith", "B. Jones", "C. Lee"], "answer": "C. Lee"},
        {"options": ["B. Smith", "A. Jones"], "answer": "A"},
    ]
    found = [sample.choices for sample in read(rows[:1])]
    assert found == [("cat", "dog", "牛")]
    assert right(read(rows[1:2])) == [["Lee"]]
    assert [sample.choices for sample in read(rows[2:])] == [("B. Smith", "A. Jones")]


# Cells ----------------------------------------------------------------------------------------------------------------


def test_empty_cells_are_none_nan_and_blanks_and_never_a_text():
    assert [texts(cell) for cell in (None, float("nan"), "", "  ", [])] == [[]] * 5
    assert texts(["a", None, float("nan")]) == ["a", "", ""]
    assert texts("nan") == ["nan"]


def test_whole_numbers_that_pandas_made_floats_are_whole():
    assert texts([3.0, -2.0, 2.5, 7, True]) == ["3", "-2", "2.5", "7", "True"]


@pytest.mark.parametrize("cell", [{"a": 1}, [["a"]], [{"a": 1}]])
def test_objects_and_lists_of_lists_are_an_error_with_the_line(read, cell):
    with pytest.raises(UserError, match=r"rows.jsonl, line 2 \(id '1'\): question cannot be read"):
        read(
            [{"answer": "x"}, {"answer": "x", "q": cell}], columns={"id": "id", "question": "q", "references": "answer"}
        )


@pytest.mark.parametrize(
    ("line", "said"), [("[" * 100_000, "nested too deep"), ('{"id": ' + "9" * 5_000 + "}", "too long")]
)
def test_a_line_that_python_cannot_read_is_named(tmp_path, line, said):
    (tmp_path / "rows.jsonl").write_text('{"id": 0, "q": "?", "answer": "x"}\n' + line)
    with pytest.raises(UserError, match=rf"rows.jsonl, line 2: .*{said}"):
        load("mine", replace(SPEC, columns={"references": "answer"}), "vqa", "en", data_dir=tmp_path)


@pytest.mark.parametrize("written", ["['a', 'b c']", '["a", "b c"]', "['a' 'b c']", "['a'\n 'b c']"])
def test_a_list_written_as_a_text_is_a_list(written):
    assert listed(written) == ["a", "b c"]


@pytest.mark.parametrize("written", ["[a, b]", "a, b", "[__import__('os')]", "['a'"])
def test_other_texts_are_no_list_and_nothing_is_executed(written):
    assert listed(written) is None


def test_references_are_lists_only_where_every_row_is_one(read):
    columns = {"id": "id", "question": "q", "references": "answer"}
    assert [s.references for s in read([{"answer": "['a', 'b']"}] * 2, columns=columns)] == [("a", "b")] * 2
    mixed = read([{"answer": "['a', 'b']"}, {"answer": "[sic]"}], columns=columns)
    assert [s.references for s in mixed] == [("['a', 'b']",), ("[sic]",)]


def test_a_template_of_empty_cells_is_empty_and_never_says_none(read):
    rows = [{"answer": "x", "hint": None, "p": {"f": "inner"}}, {"answer": "x", "hint": "h", "p": None}]
    for template, said in (("Hint: {hint}", ["", "Hint: h"]), ("{hint} {p.f}", ["inner", "h"])):
        columns = {"id": "id", "question": template, "references": "answer"}
        assert [sample.question for sample in read(rows, columns=columns)] == said


@pytest.mark.parametrize(("ending", "sep"), [("csv", ","), ("tsv", "\t")])
def test_in_csv_and_tsv_only_an_empty_field_is_empty(tmp_path, monkeypatch, ending, sep):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "表 (1)"
    folder.mkdir()
    cells = ["None", "NA", "nan", "007", "1e5", ""]
    rows = [
        {"id": i, "year": year, "answer": cell}
        for i, (cell, year) in enumerate(zip(cells, [1990.0, None] * 3, strict=True))
    ]
    pd.DataFrame(rows).to_csv(folder / f"test.{ending}", sep=sep, index=False)
    columns = {"id": "id", "question": "In {year}?", "references": "answer"}
    spec = DatasetSpec(source="hub", tasks=["vqa"], path=str(folder), columns=columns)
    found = list(load("mine", spec, "vqa", "en"))
    assert [sample.references for sample in found] == [("None",), ("NA",), ("nan",), ("007",), ("1e5",)]
    assert [sample.question for sample in found] == ["In 1990?", "", "In 1990?", "", "In 1990?"]


# Rows that mean nothing -----------------------------------------------------------------------------------------------


def test_an_answer_outside_its_choices_is_refused_before_anything_runs_or_left_out_and_counted(read):
    rows = [{"options": ANIMALS, "answer": answer} for answer in ("A", "B", "E")]
    with pytest.raises(UserError, match=r"'mine': .*line 3 \(id '2'\): the answer 'E', read as the letter"):
        read(rows)
    dataset = read(rows, bad_rows="leave_out")
    assert len(dataset) == 2
    assert len(dataset.left_out) == 1
    assert "line 3 (id '2')" in dataset.left_out[0]


LABELS = {"columns": {"id": "id", "references": "answer"}, "labels": {"en": ["cyan", "Polish", "polish", "red"]}}


def test_labels_are_found_in_spite_of_case_and_blanks_where_that_is_one_label(read):
    rows = [{"answer": answer} for answer in ("Cyan ", "polish", "Polish", "ＲＥＤ")]
    found = [sample.references for sample in read(rows, "classification", **LABELS)]
    assert found == [("cyan",), ("polish",), ("Polish",), ("red",)]
    with pytest.raises(UserError, match="the label 'POLISH' is not declared"):
        read([{"answer": "POLISH"}], "classification", **LABELS)


def test_an_undeclared_label_is_named_with_its_line_and_the_nearest_one(read):
    with pytest.raises(UserError, match=r"line 2 \(id '1'\): the label 'cyann' is not declared. Did you mean 'cyan'"):
        read([{"answer": "red"}, {"answer": "cyann"}], "classification", **LABELS)


def test_a_label_that_is_declared_twice_is_refused(read):
    with pytest.raises(UserError, match="'red' stands twice"):
        read([{"answer": "red"}], "classification", **(LABELS | {"labels": {"en": ["red", "red"]}}))


def test_labels_that_are_not_declared_are_gathered(read):
    rows = [{"answer": answer} for answer in ("b", "a", "b")]
    assert read(rows, "classification", columns=LABELS["columns"]).labels == ("a", "b")
    assert read(rows, "vqa", columns=LABELS["columns"]).labels == ()


@pytest.mark.parametrize(("labels", "found"), [({}, ["tench", "shark"]), ({"en": ["鲨鱼", "丁鱥"]}, ["丁鱥", "鲨鱼"])])
def test_numbers_of_the_hubs_labels_become_names(tmp_path, monkeypatch, labels, found):
    import datasets

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features({"answer": datasets.ClassLabel(names=["shark", "tench"])})
    datasets.Dataset.from_dict({"answer": [1, 0]}, features=features).to_parquet(tmp_path / "test.parquet")
    spec = DatasetSpec(source="hub", tasks=["classification"], path=str(tmp_path), labels=labels)
    dataset = load("fish", replace(spec, columns={"references": "answer"}), "classification", "en")
    assert [sample.references[0] for sample in dataset] == found
    assert dataset.labels == tuple(labels.get("en", ["shark", "tench"]))


# Orders and groups ----------------------------------------------------------------------------------------------------


def test_the_order_is_the_data_sets_own_unless_it_says_otherwise(read):
    rows = [{"options": ANIMALS, "answer": "A"}] * 3
    assert [sample.choices for sample in read(rows)] == [tuple(ANIMALS)] * 3
    shuffled = read(rows, order="shuffled")
    assert {sample.choices for sample in shuffled} != {tuple(ANIMALS)}
    assert right(shuffled) == [["cat"]] * 3


def test_a_circular_question_is_asked_in_every_rotation_and_stays_one_group_and_cluster(read):
    dataset = read([{"options": ANIMALS, "answer": "B"}, {"options": ["yes", "no"], "answer": "A"}], order="circular")
    assert [sample.id for sample in dataset] == ["0~0", "0~1", "0~2", "1~0", "1~1"]
    assert [sample.choices for sample in dataset][:3] == [
        ("cat", "dog", "cow"),
        ("dog", "cow", "cat"),
        ("cow", "cat", "dog"),
    ]
    assert [sample.group for sample in dataset] == ["0"] * 3 + ["1"] * 2
    assert right(dataset) == [["dog"]] * 3 + [["yes"]] * 2
    assert list(dataset.form.rotations) == [0, 1, 2, 0, 1]


def test_rows_of_a_group_share_a_cluster_through_whatever_connects_them(read):
    rows = [
        {"picture": "a", "set": "1", "answer": "x"},
        {"picture": "b", "set": "1", "answer": "x"},
        {"picture": "b", "set": "2", "answer": "x"},
        {"picture": "c", "set": "3", "answer": "x"},
    ]
    columns = {"id": "id", "question": "q", "references": "answer", "cluster": "picture"}
    for right_ in ("all", "each"):
        dataset = read(rows, columns=columns, group="set", right=right_)
        clusters = [sample.cluster for sample in dataset]
        assert clusters[0] == clusters[1] == clusters[2] != clusters[3]
        assert [sample.group for sample in dataset] == (["1", "1", "2", "3"] if right_ == "all" else [""] * 4)


def test_a_group_may_be_an_index_modulo_a_number(read):
    rows = [{"index": index, "answer": "x"} for index in (5, 1_000_005, 6)]
    columns = {"id": "index", "question": "q", "references": "answer"}
    dataset = read(rows, columns=columns, group="index % 1000000", right="all")
    assert [sample.group for sample in dataset] == ["5", "5", "6"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"order": "sorted"}, "order: 'sorted' is unknown"),
        ({"answer_is": "leter"}, "Did you mean 'letter'"),
        ({"right": "all"}, "right: all needs group"),
        ({"group": "nothing"}, "no column 'nothing'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(read, settings, said):
    with pytest.raises(UserError, match=said):
        read([{"options": ANIMALS, "answer": "A"}], **settings)


def test_a_folder_of_cases_is_read_as_it_should_be():
    cases = Path(__file__).parents[3] / "shared" / "cases"
    if not cases.is_dir():
        pytest.skip("the folder of small cases is not beside this repository")
    spec = replace(
        SPEC, path=str(cases / "integer-answers" / "data.jsonl"), columns=SPEC.columns | {"question": "question"}
    )
    assert right(load("cases", spec, "vqa", "en")) == [["2"], ["4"], ["3"]]
