"""Images that stand in the rows themselves, rows that have none, and the places that a text has for images."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image, features

from harness.config.specs import DatasetSpec, PromptSpec, TaskSpec
from harness.data import load
from harness.dataset import Dataset
from harness.errors import SampleError
from harness.media import encoded, open_image
from harness.records import Media, Request, Sample
from harness.task import placed
from harness.tasks.vqa import Vqa

FORMS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM", "ICO"]
FORMS += ["WEBP"] if features.check("webp") else []


def picture(form: str = "PNG", colour: str = "red", size: int = 32) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(file, form)
    return file.getvalue()


def base(content: bytes) -> str:
    return base64.b64encode(content).decode()


DRESSES = {
    "plain": base,
    "without padding": lambda content: base(content).rstrip("="),
    "URL-safe": lambda content: base64.urlsafe_b64encode(content).decode(),
    "with line breaks": lambda content: base64.encodebytes(content).decode(),
    "with written line breaks": lambda content: base64.encodebytes(content).decode().replace("\n", "\\n"),
    "data URI": lambda content: f"data:image/png;base64,{base(content)}",
    "data URI without a type": lambda content: f"DATA:;base64, {base(content)}",
    "data URI with escapes": lambda content: f"data:image/png;base64,{base(content).replace('+', '%2B')}",
    "as Python prints bytes": lambda content: repr(base64.b64encode(content)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dress", DRESSES)
def test_an_image_in_a_text_is_its_bytes(form, dress):
    content = picture(form)
    assert encoded(DRESSES[dress](content)) == content


@pytest.mark.parametrize(
    "path",
    ["1.jpg", "images/1", "iVBORw0K", "/9j/photos", "R0lGODlh.gif", "0", "", "data", "a/" * 300, "照片/一", "Qk0AAAAA",
     "C:\\new\\red", "b'x'", "UklGRiQAAABXQVZF/x"[:12], "deadbeefdeadbeef" * 8, "my photo of a cat"],
)  # fmt: skip
def test_a_path_stays_a_path(path):
    assert encoded(path) is None


@pytest.fixture
def opened(tmp_path):
    """Reads rows from a file: `opened(rows, ending, **settings)`."""
    Image.new("RGB", (4, 4), "blue").save(tmp_path / "blue.png")

    def read(rows: list[dict], ending: str = "jsonl", **settings) -> Dataset:
        columns = {"id": "id", "image": "image", "question": "q", "references": "a"}
        rows = [{"id": str(i), "q": "What?", "a": "red"} | row for i, row in enumerate(rows)]
        if ending == "jsonl":
            (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
            spec = DatasetSpec("jsonl", ["vqa"], path="rows.jsonl", columns=columns, **settings)
            return load("set", spec, "vqa", "en", data_dir=tmp_path)
        import pandas as pd

        (tmp_path / "hub").mkdir()
        pd.DataFrame(rows).to_csv(
            tmp_path / "hub" / f"test.{ending}", sep="\t" if ending == "tsv" else ",", index=False
        )
        spec = DatasetSpec("hub", ["vqa"], path=str(tmp_path / "hub"), columns=columns, **settings)
        return load("set", spec, "vqa", "en")

    return read


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def colours(sample: Sample) -> list[tuple[int, ...]]:
    return [open_image(medium).getpixel((0, 0)) for medium in sample.media]  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv"])
def test_base64_in_a_cell_opens_and_nothing_repeats_it(opened, ending):
    texts = [dress(picture()) for name, dress in DRESSES.items() if "line breaks" not in name or ending == "jsonl"]
    large = base(picture("BMP", "lime", 400))  # 640,000 letters: more than a field of Python's csv module may have
    dataset = opened([{"image": text} for text in [*texts, large]], ending)
    for sample in dataset:
        (medium,) = sample.media
        assert len(medium.key) < 40
        assert sample.cluster == medium.key
        assert sample.fault == ""
    assert [colours(sample) for sample in dataset] == [[(255, 0, 0)]] * len(texts) + [[(0, 255, 0)]]
    assert len({sample.cluster for sample in dataset}) == 2


def test_a_list_of_images_may_be_a_list_or_be_written_as_one(opened):
    both = [base(picture()), "blue.png"]
    for cell in (both, json.dumps(both), str(both)):
        (sample,) = opened([{"image": cell}])
        assert colours(sample) == [(255, 0, 0), (0, 0, 255)]


def test_an_object_may_hold_the_image_as_a_text(opened):
    (sample,) = opened([{"image": {"bytes": base(picture()), "path": "gone.png"}}])
    assert colours(sample) == [(255, 0, 0)]


def test_the_id_of_another_row_stands_for_its_image(opened):
    dataset = opened([{"image": base(picture())}, {"image": "0"}, {"image": 0}, {"image": "blue.png"}, {"image": "3"}])
    assert [colours(dataset[number]) for number in range(4)] == [[(255, 0, 0)]] * 3 + [[(0, 0, 255)]]
    assert dataset[0].cluster == dataset[1].cluster
    with pytest.raises(SampleError, match=r"3 .*there is no such file"):  # only where the row itself holds the picture
        open_image(dataset[4].media[0])


@pytest.mark.parametrize(
    "text",
    [base(picture(size=64))[:-40], base(picture("JPEG"))[:301], "data:image/png;base64,no picture",
     "data:image/png,no picture", "A" * 5_000, "some <svg> text that is no path. " * 200],
)  # fmt: skip
def test_a_damaged_image_fails_without_being_repeated(opened, text):
    (sample,) = opened([{"image": text}])
    with pytest.raises(SampleError) as raised:
        open_image(sample.media[0])
    assert "rows.jsonl, line 1" in str(raised.value)
    assert len(str(raised.value)) < 250
    assert text[:12] not in str(raised.value) + sample.media[0].key + sample.cluster


def test_a_path_that_does_not_exist_is_named(opened):
    (sample,) = opened([{"image": "abcdefgh"}])
    with pytest.raises(SampleError, match=r"abcdefgh .*there is no such file"):
        open_image(sample.media[0])


@pytest.mark.parametrize("cell", [None, "", float("nan"), []])
def test_a_row_without_an_image_is_asked_without_one_where_that_is_said(opened, cell):
    rows = [{"image": "blue.png"}, {"image": cell}]
    with pytest.raises(SampleError, match="does not open"):
        open_image(opened(rows)[1].media[0])
    dataset = opened(rows, image_optional=True)
    assert [len(sample.media) for sample in dataset] == [1, 0]
    assert dataset[1].cluster == "1"


# Places -------------------------------------------------------------------------------------------------------------

ONE, TWO, THREE = (Media("image", name, Path(f"{name}.png")) for name in ("one", "two", "three"))
SOUND = Media("audio", "bark", Path("bark.wav"))


@pytest.mark.parametrize(
    ("media", "text", "parts"),
    [
        ([ONE], "What?", [ONE, "What?"]),
        ([ONE], "", [ONE]),
        ([], "What is <image>?", ["What is <image>?"]),
        ([ONE], "<image>\nWhat?", [ONE, "What?"]),
        ([ONE], "What is <image 1>?", ["What is ", ONE, "?"]),
        ([ONE], "<image> <image>\nWhat?", [ONE, "<image>\nWhat?"]),  # there is one image
        ([ONE, TWO], "<image> <image>\nWhat?", [ONE, TWO, "What?"]),
        ([ONE, TWO], "<image 2> and <image 1>", [TWO, "and ", ONE]),
        ([ONE, TWO], "Which?\nA. <image 1>\nB. <image 2>", ["Which?\nA. ", ONE, "\nB. ", TWO]),
        ([ONE, TWO, THREE], "Like <image 2>?", [ONE, THREE, "Like ", TWO, "?"]),
        ([ONE, TWO, THREE], "<image> <image 1> <image>", [TWO, ONE, THREE]),
        ([ONE], "Is <image 1> like <image 1>?", ["Is ", ONE, " like <image 1>?"]),
        ([ONE], "<image 0> <image 2> <image 10>", [ONE, "<image 0> <image 2> <image 10>"]),
        ([SOUND, ONE], "<audio> <image 1> what?", [SOUND, "<audio> ", ONE, " what?"]),
        ([ONE, TWO], "<Image 1> <image_2>", [ONE, TWO]),
    ],
)
def test_marks_are_places_as_far_as_there_are_images(media, text, parts):
    assert list(placed(media, text)) == parts


def test_an_option_may_be_an_image():
    words = {"en": "{question}\n{choices}\nAnswer."}
    prompt = PromptSpec(words, words, words, words, words, {}, {}, words, words)
    sample = Sample("1", "1", "en", (ONE, TWO), "Which is red?", choices=("<image 1>", "<image 2>", "none"))
    request = Vqa(TaskSpec("x")).request(sample, "generate", Dataset("set", "en", [sample]), prompt)
    assert request.parts == ("Which is red?\nA. ", ONE, "\nB. ", TWO, "\nC. none\nAnswer.")
    assert request.text == "Which is red?\nA. \nB. \nC. none\nAnswer."


def test_text_is_parted_by_a_line_break_where_nothing_else_parts_it():
    assert Request(("Look at ", ONE, ": what?")).text == "Look at : what?"
    assert Request(("before", ONE, "after")).text == "before\nafter"
