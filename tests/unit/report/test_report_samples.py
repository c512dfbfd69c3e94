"""The samples shown: the same for all models, telling, and read in one pass that keeps little."""

import json

import pytest

from harness import report
from harness.errors import UserError
from harness.records import Record
from harness.report import samples, summary


def group_of(folder, position=0):
    return summary.parse(summary.load(folder), folder=folder).groups[position]


def test_every_model_answers_the_samples_that_are_shown(demo):
    examples = samples.examples(group_of(demo))
    assert examples
    for example in examples:
        models = [model for reply in example.replies for model in reply.models]
        assert sorted(models) == sorted(cell.label for cell in group_of(demo).models)


def test_a_failed_sample_is_among_those_shown_with_its_reason(demo):
    errors = [r.record.error for e in samples.examples(group_of(demo)) for r in e.replies if r.record.error]
    assert errors == ["UnidentifiedImageError: scene6.png (test.jsonl, row 13) does not open"]


def test_samples_on_which_models_part_come_first(demo):
    first = samples.examples(group_of(demo))[0]
    assert {reply.right for reply in first.replies} == {True, False}


def test_the_choice_does_not_hang_on_the_order_of_lines(demo, monkeypatch):
    monkeypatch.setattr(samples, "EXAMPLES", 15)
    before = [example.asked.id for example in samples.examples(group_of(demo))]
    for path in demo.rglob("records.jsonl"):
        lines = path.read_text("utf-8").splitlines(keepends=True)
        path.write_text("".join(sorted(lines, reverse=True)), "utf-8")
    assert [example.asked.id for example in samples.examples(group_of(demo))] == before


def test_a_torn_last_line_is_left_out(demo):
    for path in demo.rglob("records.jsonl"):
        path.write_text(path.read_text("utf-8") + '{"id": "q999", "clus', "utf-8")
    assert samples.examples(group_of(demo))


def test_a_line_that_is_no_record_is_named(demo):
    path = demo / "cells" / "fusion-concat" / "vqa.pocket.en" / "records.jsonl"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[:4], "not json\n", *lines[4:]]), "utf-8")
    with pytest.raises(UserError, match=r"records\.jsonl, line 5, is not a record"):
        samples.examples(group_of(demo))


def test_a_group_without_records_shows_no_samples(demo):
    assert samples.examples(group_of(demo, 4)) == []


@pytest.mark.parametrize(
    ("record", "task", "right"),
    [
        (Record("a", "a", references=("red",), answer="Red."), "vqa", True),
        (Record("a", "a", references=("red", "crimson"), answer="crimson"), "vqa", True),
        (Record("a", "a", references=("red",), answer="blue"), "vqa", False),
        (Record("a", "a", references=("red",), error="OSError"), "vqa", False),
        (Record("a", "a", references=("a red star",), answer="a star"), "captioning", None),
        (Record("a", "a", references=("a red star",), answer="a red star"), "captioning", True),
        (Record("i2t:a", "a", retrieval={"rank": 1}), "retrieval", True),
        (Record("i2t:a", "a", retrieval={"rank": 4}), "retrieval", False),
    ],
)
def test_right_and_wrong_are_marked_only_where_that_is_plain(record, task, right):
    assert samples.matches(record, task, "en") is right


def test_long_files_are_read_without_being_kept(demo):
    group = group_of(demo)
    path = group.models[0].folder / "records.jsonl"
    row = json.loads(path.read_text("utf-8").splitlines()[0])
    with path.open("w", encoding="utf-8") as file:
        for i in range(5000):
            file.write(json.dumps({**row, "id": f"r{i}"}) + "\n")
    assert len(samples._draw(group.models[0])) == samples.EXAMPLES


def test_the_page_shows_the_images_that_are_files_and_does_without_the_others(demo, no_charts):
    from PIL import Image

    Image.new("RGB", (900, 600), "red").save(demo / "scene.png")
    (demo / "broken.png").write_bytes(b"no image")
    for path in demo.rglob("records.jsonl"):
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for row in rows:
            row["media"] = [str(demo / "scene.png"), str(demo / "broken.png"), "not-a-file.png", "clip.wav"]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    page = (report.write(demo) / "report.html").read_text("utf-8")
    shown = len(samples.examples(group_of(demo))) + len(samples.examples(group_of(demo, 1)))
    assert page.count('<img alt="" src="data:image/jpeg;base64,') == shown
    assert str(demo) not in page


def test_images_that_are_no_files_are_shown_from_the_copies_that_the_driver_kept(demo, no_charts):
    import numpy as np

    from harness.records import Media, Sample
    from harness.run import driver

    def sample(number):
        picture = Media("image", f"scene{number // 2}.png", np.full((8, 8, 3), number, dtype=np.uint8))
        return Sample(f"q{number:03d}", f"scene{number // 2}", "en", media=(picture,))

    driver._keep_thumbnails((sample(number) for number in range(40)), demo / "media")
    assert len(list((demo / "media").iterdir())) == 20
    page = (report.write(demo) / "report.html").read_text("utf-8")
    shown = [e for position in (0, 1) for e in samples.examples(group_of(demo, position))]
    assert page.count('<img alt="" src="data:image/png;base64,') == len(shown)


def test_copies_are_kept_of_no_more_than_may_be_shown(tmp_path):
    import numpy as np

    from harness.records import Media, Sample
    from harness.run import driver

    black = np.zeros((4, 4, 3), dtype=np.uint8)
    many = (Sample(f"q{i}", f"c{i}", "en", media=(Media("image", f"p{i}", black),)) for i in range(500))
    driver._keep_thumbnails(many, tmp_path / "media")
    assert len(list((tmp_path / "media").iterdir())) == samples.EXAMPLES


def test_samples_shown_are_of_different_pictures(demo):
    clusters = [example.asked.cluster for example in samples.examples(group_of(demo))]
    assert len(set(clusters)) == len(clusters) == samples.SHOWN
