"""Which files a row may name: those of its data, and others only where the data set's own file says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from harness.config.specs import DatasetSpec
from harness.data import load
from harness.dataset import Dataset
from harness.errors import SampleError, UserError
from harness.media import open_image

SPEC = DatasetSpec(
    source="jsonl",
    tasks=["vqa"],
    path="set/rows.jsonl",
    columns={"image": "image", "audio": "sound", "question": "q", "references": "a"},
)


@pytest.fixture
def base(tmp_path) -> Path:
    """A data folder, whose colour is red, and beside it a private one, whose colour is blue."""
    for place, colour in (("data/set/1.png", "red"), ("data/other/1.png", "red"), ("private/1.png", "blue")):
        (tmp_path / place).parent.mkdir(parents=True)
        Image.new("RGB", (4, 4), colour).save(tmp_path / place)
    return tmp_path / "data"


def rows(base: Path, image: object, data_dir: Path | None = None, **changes) -> Dataset:
    row = {"image": image, "sound": None, "q": "Which colour?", "a": "red", "keep": "yes"} | changes.pop("row", {})
    (base / "set" / "rows.jsonl").write_text(json.dumps(row) + "\n")
    return load("mine", replace(SPEC, **changes), "vqa", "en", None, data_dir or base)


def colour(dataset: Dataset) -> object:
    return open_image(dataset[0].media[0]).getpixel((0, 0))


RED, BLUE = (255, 0, 0), (0, 0, 255)
OUTSIDE = {
    "an absolute path": "{private}/1.png",
    "points": "../../private/1.png",
    "points behind a folder": "../other/../../private/1.png",
    "points behind no folder": "none/../../../private/1.png",
    "a file of the system": "/etc/passwd",
    "a name that only begins alike": "{data}-set/1.png",
    "two slashes": "//etc/passwd",
}


@pytest.mark.parametrize("dress", ["text", "list", "list as a text", "mapping", "sound"])
@pytest.mark.parametrize("place", OUTSIDE)
def test_a_row_that_names_a_place_elsewhere_ends_the_command(base, place, dress):
    said = OUTSIDE[place].format(private=base.parent / "private", data=base)
    image: object = {"list": ["1.png", said], "list as a text": json.dumps(["1.png", said]), "sound": "1.png",
                     "mapping": {"path": said}}.get(dress, said)  # fmt: skip
    with pytest.raises(UserError, match=r"rows\.jsonl, line 1: (image|audio): .*outside: true"):
        rows(base, image, row={"sound": said} if dress == "sound" else {})


def test_rows_that_pass_a_filter_are_looked_at_too(base):
    with pytest.raises(UserError, match="outside: true"):
        rows(base, "/etc/passwd", where={"keep": "yes"})


def test_a_template_is_looked_at_with_its_columns_filled_in(base):
    with pytest.raises(UserError, match="outside: true"):
        rows(base, "../../private/1", columns=SPEC.columns | {"image": "{image}.png"})


@pytest.mark.parametrize(
    "place", ["1.png", "./1.png", "../other/1.png", "{data}/other/1.png", "{data}/set/../set/1.png"]
)
def test_the_folder_of_the_rows_and_data_dir_are_the_datas_own(base, place):
    assert colour(rows(base, place.format(data=base))) == RED


def test_a_link_counts_where_it_lies(base):
    (base / "set" / "link.png").symlink_to(base.parent / "private" / "1.png")
    (base / "set" / "folder").symlink_to(base.parent / "private")
    assert colour(rows(base, "link.png")) == BLUE
    assert colour(rows(base, "folder/1.png")) == BLUE


def test_points_behind_a_link_lead_to_no_other_place_than_they_say(base):
    (base / "set" / "deep").symlink_to(base.parent / "private")
    (base.parent / "1.png").write_bytes((base.parent / "private" / "1.png").read_bytes())
    assert colour(rows(base, "deep/../1.png")) == RED  # the system would go to the folder above `private`


def test_a_data_dir_that_is_a_link_is_known_by_both_names(base):
    link = base.parent / "by another name"
    link.symlink_to(base)
    for place in (base, link):
        assert colour(rows(base, str(place / "other" / "1.png"), data_dir=link)) == RED


def test_outside_true_lets_rows_name_any_file(base):
    assert colour(rows(base, "../../private/1.png", outside=True)) == BLUE


def test_a_path_in_a_table_on_disk_is_looked_at_as_its_sample_is_built(base):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (base / "hub").mkdir()
    paths = [{"bytes": None, "path": str(base.parent / "private" / "1.png")}, {"bytes": None, "path": "1.png"}]
    pq.write_table(pa.table({"image": paths, "q": ["?"] * 2, "a": ["red"] * 2}), base / "hub" / "test.parquet")
    (base / "hub" / "1.png").write_bytes((base / "set" / "1.png").read_bytes())
    columns = {"image": "image", "question": "q", "references": "a"}
    spec = replace(SPEC, source="hub", path=str(base / "hub"), columns=columns)
    far, near = load("mine", spec, "vqa", "en", None, None)
    assert "outside: true" in far.fault
    with pytest.raises(SampleError):
        open_image(far.media[0])
    assert open_image(near.media[0]).getpixel((0, 0)) == RED
