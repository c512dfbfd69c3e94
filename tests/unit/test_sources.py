"""Tables become samples as the config says; a table of another form is one clear error before any model loads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from harness.config.specs import DatasetSpec
from harness.data import columns, data_file, load
from harness.errors import SampleError, UserError
from harness.media import open_image

ROWS = [
    {"id": 7, "image": "img/a.png", "q": "Red?", "a": "yes", "type": "closed", "split": "test", "zh": ["红的"]},
    {"id": 8, "image": "img/a.png", "q": "Blue?", "a": "no ", "type": "closed", "split": "test", "zh": []},
    {"id": 9, "image": "img/b.png", "q": "Which?", "a": "red", "type": "open", "split": "test", "zh": ["红", "红色"]},
    {"id": 10, "image": "img/c.png", "q": "Green?", "a": "yes", "type": "closed", "split": "train", "zh": None},
]
SPEC = DatasetSpec(
    source="jsonl",
    tasks=["vqa"],
    languages=["en", "zh"],
    path="set/rows.jsonl",
    columns={"id": "id", "image": "image", "question": "q", "references": "a"},
)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A data folder in a place with letters that break careless code."""
    base = tmp_path / "数据 (1)"
    (base / "set" / "img").mkdir(parents=True)
    write(base, ROWS)
    for name in "abc":
        Image.new("RGB", (4, 4), "red").save(base / "set" / "img" / f"{name}.png")
    return base


def write(base: Path, rows: list) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    (base / "set" / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def samples(base: Path, language: str = "en", split: str | None = None, **changes):
    return load("mine", replace(SPEC, **changes), "vqa", language, split, base)  # pyright: ignore[reportArgumentType]


def test_columns_become_the_fields_of_a_sample(folder):
    first = samples(folder)[0]
    assert (first.id, first.question, first.references, first.language) == ("7", "Red?", ("yes",), "en")
    assert first.media[0].source == folder / "set" / "img" / "a.png"
    assert first.media[0].where.endswith("rows.jsonl, line 1")
    assert open_image(first.media[0]).size == (4, 4)


def test_texts_are_stripped(folder):
    assert samples(folder)[1].references == ("no",)


def test_questions_about_one_picture_share_medium_and_cluster(folder):
    first, second, third, _ = samples(folder)
    assert first.media == second.media
    assert first.cluster == second.cluster == "img/a.png"
    assert third.cluster != first.cluster


def test_rows_are_numbered_where_there_is_no_id(folder):
    columns = {key: column for key, column in SPEC.columns.items() if key != "id"}
    assert [sample.id for sample in samples(folder, columns=columns)] == ["0", "1", "2", "3"]


def test_where_keeps_the_rows_with_a_value_or_one_of_a_list(folder):
    assert [s.id for s in samples(folder, where={"type": "open"})] == ["9"]
    assert [s.id for s in samples(folder, where={"id": [8, 10]})] == ["8", "10"]


def test_a_split_is_a_filter_and_the_prior_comes_from_the_train_split(folder):
    spec = {
        "splits": {"test": {"split": "test"}, "train": {"split": "train"}},
        "train_split": "train",
        "slices": {"kind": "type"},
        "prior_by": "kind",
    }
    dataset = samples(folder, **spec)
    assert [sample.id for sample in dataset] == ["7", "8", "9"]
    assert dataset.prior == {"closed": ("yes",)}
    assert dataset.prior_split == "train"
    assert [sample.id for sample in samples(folder, split="train", **spec)] == ["10"]
    with pytest.raises(UserError, match=r"no split 'tset'\. Did you mean 'test'"):
        samples(folder, split="tset", **spec)


def test_without_a_train_split_the_prior_is_of_the_test_split_and_says_so(folder):
    dataset = samples(folder, slices={"kind": "type"}, prior_by="kind")
    assert dataset.prior == {"closed": ("yes", "no", "yes"), "open": ("red",)}
    assert dataset.prior_split == "test"


def test_slices_come_from_columns(folder):
    assert samples(folder, slices={"kind": "type"})[2].slices == {"kind": "open"}


def test_values_are_translated_also_by_language_and_from_truth_values(folder):
    write(folder, [{"id": 1, "image": "img/a.png", "q": "?", "a": True}])
    translations = {"a": {True: {"en": "true", "zh": "对"}}}
    assert samples(folder, values=translations)[0].references == ("true",)
    assert samples(folder, "zh", values=translations)[0].references == ("对",)
    assert samples(folder, values={"a": {"True": "so"}})[0].references == ("so",)


def test_a_language_stands_for_a_part_of_a_column_name_and_rows_without_it_are_left_out(folder):
    dataset = samples(folder, "zh", columns=SPEC.columns | {"references": "{language}"})
    assert [sample.references for sample in dataset] == [("红的",), ("红", "红色")]


def test_templates_are_filled_and_a_text_may_be_given_by_language(folder):
    columns = SPEC.columns | {"question": "Is it so? {q} ({type})"}
    assert samples(folder, columns=columns)[0].question == "Is it so? Red? (closed)"
    columns = SPEC.columns | {"question": {"en": "What is it?", "zh": "这是什么？"}}
    assert samples(folder, "zh", columns=columns)[0].question == "这是什么？"


def test_references_reach_into_lists_of_objects(folder):
    answers = [{"answer": "red"}, {"answer": "dark red"}]
    write(folder, [{"id": 1, "image": "img/a.png", "q": "?", "answers": answers}])
    dataset = samples(folder, columns=SPEC.columns | {"references": "answers.answer"})
    assert dataset[0].references == ("red", "dark red")


def choice_rows(**answer) -> list[dict]:
    base = {"image": "img/a.png", "q": "?", "A": "cat", "B": "dog", "C": "cow", "D": None}
    return [base | {"id": number} | answer for number in range(40)]


CHOICES = SPEC.columns | {"choices": ["A", "B", "C", "D"]}


def test_no_place_among_shuffled_choices_is_always_right_and_each_sample_keeps_its_order(folder):
    write(folder, choice_rows(a="A"))
    first = [sample.choices for sample in samples(folder, columns=CHOICES, order="shuffled")]
    places = {choices.index("cat") for choices in first}
    assert places == {0, 1, 2}
    write(folder, choice_rows(a="A")[::-1])
    assert [sample.choices for sample in samples(folder, columns=CHOICES, order="shuffled")][::-1] == first


def test_an_unknown_column_is_one_error_with_the_columns_found(folder):
    with pytest.raises(UserError) as error:
        samples(folder, columns=SPEC.columns | {"references": "answr"})
    message = str(error.value)
    assert "rows.jsonl has no column 'answr'" in message
    assert "Columns found: id, image, q, a, type, split, zh" in message
    for changes in ({"where": {"typ": "open"}}, {"slices": {"kind": "typ"}}):
        with pytest.raises(UserError, match=r"no column 'typ'\. Did you mean 'type'"):
            samples(folder, **changes)


def test_a_prior_that_is_counted_by_what_is_not_a_slice_is_an_error_with_the_nearest_one(folder):
    with pytest.raises(UserError, match=r"prior_by: 'kid' is not a slice\. Did you mean 'kind'\?"):
        samples(folder, slices={"kind": "type"}, prior_by="kid")


def test_an_unknown_field_is_named(folder):
    with pytest.raises(UserError, match="no field 'answer'"):
        samples(folder, columns=SPEC.columns | {"answer": "a"})


def test_a_filter_that_leaves_nothing_is_an_error(folder):
    with pytest.raises(UserError, match=r"no row of .*rows.jsonl has type = nothing"):
        samples(folder, where={"type": "nothing"})


def test_a_table_without_any_reference_is_an_error(folder):
    write(folder, [{"id": 1, "image": "img/a.png", "q": "?", "a": ""}])
    with pytest.raises(UserError, match="has a reference for language en"):
        samples(folder)


def test_double_ids_are_named_with_both_lines(folder):
    write(folder, [ROWS[0], ROWS[1], ROWS[0]])
    with pytest.raises(UserError, match=r"id '7': .*line 1, and .*line 3"):
        samples(folder)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["{}", '{"id": 1'], "line 2: this is not JSON"),
        (["[1, 2]"], "line 1: this is not a JSON object"),
        ([""], "is empty"),
    ],
)
def test_a_bad_line_and_an_empty_file_are_named(folder, lines, said):
    write(folder, lines)
    with pytest.raises(UserError, match=said):
        samples(folder)


def test_blank_lines_and_a_byte_order_mark_are_passed_over_and_lines_keep_their_numbers(folder):
    rows = [json.dumps(row) for row in ROWS[:2]]
    (folder / "set" / "rows.jsonl").write_bytes(f"\ufeff{rows[0]}\r\n\r\n   \r\n{rows[1]}".encode())
    assert [sample.id for sample in samples(folder)] == ["7", "8"]
    assert samples(folder)[1].media[0].where.endswith("rows.jsonl, line 4")
    (folder / "set" / "rows.jsonl").write_bytes(rows[0].encode() + b'\n{"id": "\xff"}\n')
    with pytest.raises(UserError, match=f"not UTF-8 text .* at byte {len(rows[0]) + 9}"):
        samples(folder)


def test_questions_are_as_long_as_what_is_asked_with_them(folder):
    assert samples(folder).lengths() == [4, 5, 6, 6]
    assert samples(folder).take([2, 0]).lengths() == [6, 4]
    assert samples(folder, columns=SPEC.columns | {"question": {"en": "What is it?"}}).lengths() == [0] * 4
    write(folder, choice_rows(a="A")[:1])
    dataset = samples(folder, columns=CHOICES)
    assert dataset.lengths() == [1 + 3 * 3] == replace(dataset, samples=list(dataset)).lengths()


def test_a_missing_file_says_where_it_was_looked_for_and_what_to_set(tmp_path, monkeypatch):
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    with pytest.raises(UserError, match=r"none is set. Say data_dir=FOLDER or set .* HARNESS_DATA"):
        samples(None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError) as error:
        samples(tmp_path)
    assert str(tmp_path / "set" / "rows.jsonl") in str(error.value)
    assert "data_dir=FOLDER" in str(error.value)


def test_the_data_folder_may_come_from_the_environment(folder, monkeypatch):
    monkeypatch.setenv("HARNESS_DATA", str(folder))
    assert data_file(SPEC, None) == folder / "set" / "rows.jsonl"
    assert len(samples(None)) == 4  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("image", ["img/none.png", None])
def test_a_missing_picture_fails_its_sample_alone_and_names_the_row(folder, image):
    write(folder, [ROWS[0], ROWS[1] | {"image": image}])
    good, bad = samples(folder)
    open_image(good.media[0])
    with pytest.raises(SampleError, match=r"rows.jsonl, line 2\) does not open"):
        open_image(bad.media[0])


def test_a_row_that_cannot_be_read_is_a_sample_with_a_fault_and_the_others_are_sound(folder, monkeypatch):
    def broken(row, column):
        if row.get("id") == 8 and column == "q":
            raise OSError("bad block")
        return reach(row, column)

    whole, reach = list(samples(folder)), columns._reach
    monkeypatch.setattr(columns, "_reach", broken)
    first, second, *rest = samples(folder, slices={"category": "type"})
    assert [sample.question for sample in (first, *rest)] == [whole[i].question for i in (0, 2, 3)]
    assert (second.id, second.references, second.slices) == ("8", ("no",), {"category": "closed"})
    assert "rows.jsonl, line 2 cannot be read: OSError: bad block" in second.fault
    with pytest.raises(SampleError, match="line 2"):
        open_image(second.media[0])


def test_half_a_character_in_an_id_is_no_fault(folder):
    write(folder, [json.dumps(ROWS[0] | {"id": "\ud83d"})])
    assert samples(folder)[0].fault == ""


def test_a_task_or_language_that_a_data_set_has_not_is_refused(folder):
    with pytest.raises(UserError, match="not made for task 'captioning'"):
        load("mine", SPEC, "captioning", "en", data_dir=folder)
    with pytest.raises(UserError, match="no language 'zh'"):
        samples(folder, "zh", languages=["en"])


@pytest.fixture
def hub_folder(tmp_path, monkeypatch) -> Path:
    """A local parquet data set as the hub would hold it: two questions share one picture."""
    import datasets

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    pictures = []
    for colour in ("red", "red", "blue"):
        path = tmp_path / f"{colour}.png"
        Image.new("RGB", (4, 4), colour).save(path)
        pictures.append({"bytes": path.read_bytes(), "path": None})
    answers = [[{"answer": "yes"}, {"answer": "no"}], [{"answer": "no"}], [{"answer": "blue"}]]
    table = datasets.Dataset.from_dict(
        {"image": pictures, "q": ["Red?", "Blue?", "Which?"], "answers": answers, "type": ["closed", "closed", "open"]},
        features=datasets.Features(
            image=datasets.Image(),
            q=datasets.Value("string"),
            answers=[{"answer": datasets.Value("string")}],
            type=datasets.Value("string"),
        ),
    )
    (tmp_path / "hub").mkdir()
    table.to_parquet(tmp_path / "hub" / "validation.parquet")
    return tmp_path / "hub"


def hub_spec(folder: Path, **changes) -> DatasetSpec:
    columns = {"image": "image", "question": "q", "references": "answers.answer"}
    spec = DatasetSpec(source="hub", tasks=["vqa"], path=str(folder), split="validation", columns=columns)
    return replace(spec, **changes)


def test_the_hub_source_maps_as_the_local_one_and_does_not_decode(hub_folder):
    dataset = load("theirs", hub_spec(hub_folder, slices={"kind": "type"}), "vqa", "en")
    first, second, third = dataset
    assert first.references == ("yes", "no")
    assert isinstance(first.media[0].source, bytes)
    assert open_image(first.media[0]).getpixel((0, 0)) == (255, 0, 0)
    assert first.media == second.media
    assert first.cluster == second.cluster != third.cluster
    assert third.slices == {"kind": "open"}
    assert "row 2" in third.media[0].where


def test_the_hub_source_filters_and_names_columns_alike(hub_folder):
    assert len(load("theirs", hub_spec(hub_folder, where={"type": "open"}), "vqa", "en")) == 1
    with pytest.raises(UserError, match=r"no column 'typ'\. Did you mean 'type'"):
        load("theirs", hub_spec(hub_folder, slices={"kind": "typ"}), "vqa", "en")


def test_what_was_fetched_is_read_from_the_cache_at_its_revision(hub_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "hf" / "datasets--somebody--questions" / "snapshots" / commit
    snapshot.parent.mkdir(parents=True)
    hub_folder.rename(snapshot)
    spec = hub_spec(Path("somebody/questions"), revision=commit)
    assert len(load("theirs", spec, "vqa", "en")) == 3
    with pytest.raises(UserError, match=r"at revision fedc is not on this machine. 'harness fetch dataset=theirs'"):
        load("theirs", replace(spec, revision="fedc"), "vqa", "en")


def test_a_hub_data_set_that_cannot_be_had_says_why_and_how_to_fetch_it(hub_folder):
    with pytest.raises(UserError, match=r"nobody/nothing is not on this machine. 'harness fetch dataset=theirs'"):
        load("theirs", hub_spec(Path("nobody/nothing")), "vqa", "en")
    with pytest.raises(UserError, match="neither a folder nor a hub id"):
        load("theirs", hub_spec(Path("a/b/c")), "vqa", "en")
    with pytest.raises(UserError, match="split tset, cannot be loaded"):
        load("theirs", hub_spec(hub_folder, split="tset"), "vqa", "en")
