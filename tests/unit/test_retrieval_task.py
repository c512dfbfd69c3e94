"""Retrieval by content: what rows hold twice is one image or one text, and everything that belongs together counts."""

from __future__ import annotations

import json
import random
import shutil
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.config.specs import DatasetSpec, TaskSpec
from harness.data import load
from harness.data.ablation import ablated
from harness.data.draw import draw
from harness.dataset import Dataset
from harness.errors import UserError
from harness.media import contents
from harness.records import Media, Record, Sample
from harness.task import Scoring
from harness.tasks.retrieval import Retrieval

COLOURS = ["red", "green", "blue", "white"]
TASK = Retrieval(TaskSpec("harness.tasks.retrieval.Retrieval"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A picture of each colour, and a copy of the red one under another name."""
    for colour in COLOURS:
        Image.new("RGB", (4, 4), colour).save(tmp_path / f"{colour}.png")
    shutil.copy(tmp_path / "red.png", tmp_path / "copy.png")
    return tmp_path


def opened(folder: Path, rows: Sequence[dict], **spec) -> Dataset:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    columns = {"id": "id", "image": "image", "references": "caption"}
    made = DatasetSpec("jsonl", ["retrieval"], path="rows.jsonl", columns=columns, **spec)
    return load("set", made, "retrieval", "en", data_dir=folder)


def row(id_: str, picture: str, caption: str | list[str], **more) -> dict:
    return {"id": id_, "image": f"{picture}.png", "caption": caption, **more}


def ranked(dataset: Dataset, image_of: Mapping[str, np.ndarray], text_of: Mapping[str, np.ndarray]) -> list[Record]:
    """The records of a model whose vectors of pictures (by file) and of captions are given."""
    gallery = TASK.gallery(dataset)
    images = [image_of[request.media("image")[0].source.name] for request in gallery.images.values()]  # pyright: ignore
    texts = [text_of[request.text.strip()] for request in gallery.texts.values()]
    return TASK.rank(gallery, np.array(images, np.float32), np.array(texts, np.float32))


def scores(records: list[Record]) -> dict[str, float]:
    return {scored.metric.name: scored.value for scored in TASK.score(records, Scoring("en"))}


def test_a_row_for_each_caption_means_what_a_list_of_captions_means(folder):
    captions = {colour: [f"a {colour} square", f"it is {colour}"] for colour in COLOURS}
    listed = opened(folder, [row(c, c, texts) for c, texts in captions.items()])
    single = [row(f"{c}{i}", c, text) for c, texts in captions.items() for i, text in enumerate(texts)]
    single[1]["image"] = "copy.png"  # the same bytes under another name
    chance = np.random.default_rng(3)
    image_of = {f"{c}.png": chance.normal(size=8) for c in COLOURS}
    text_of = {text: chance.normal(size=8) for texts in captions.values() for text in texts}
    whole, apart = ranked(listed, image_of, text_of), ranked(opened(folder, single), image_of, text_of)
    assert [r.retrieval and r.retrieval["rank"] for r in whole] == [r.retrieval and r.retrieval["rank"] for r in apart]
    assert scores(whole) == scores(apart)
    assert len({record.cluster for record in apart}) == len(COLOURS)


def test_every_image_that_a_text_belongs_to_is_a_positive_of_it(folder):
    rows = [row("a", "red", " a square"), row("b", "green", ["a square", "grass"]), row("c", "blue", "water")]
    dataset = opened(folder, rows)
    gallery = TASK.gallery(dataset)
    assert list(gallery.images) == ["a", "b", "c"]
    assert list(gallery.texts) == ["a#0", "b#1", "c#0"]
    eye = np.eye(3)
    vectors = {"red.png": eye[0], "green.png": eye[1], "blue.png": eye[2]}
    found = {r.id: r.retrieval for r in ranked(dataset, vectors, dict(zip(["a square", "grass", "water"], eye)))}  # noqa: B905
    assert {name: query["positives"] for name, query in found.items() if query} == {
        "i2t:a": 1, "i2t:b": 2, "i2t:c": 1, "t2i:a#0": 2, "t2i:b#1": 1, "t2i:c#0": 1,
    }  # fmt: skip


def test_texts_are_one_in_any_unicode_form_and_the_first_is_shown(folder):
    composed, split = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
    gallery = TASK.gallery(opened(folder, [row("a", "red", split), row("b", "green", f"{composed}  ")]))
    assert [request.text for request in gallery.texts.values()] == [split]
    assert gallery.pairs.tolist() == [[0, 0], [1, 0]]


def test_a_column_of_positives_joins_all_images_and_texts_of_one_value(folder):
    rows = [row(c, c, f"a {c} square", kind="warm" if c == "red" else "cold") for c in ("red", "green", "blue")]
    dataset = opened(folder, [*rows, row("white", "white", "paper", kind=None)], positives="kind")
    gallery = TASK.gallery(dataset)
    # By hand: red has its own text, green and blue have both of theirs, and white, without a value, its own.
    assert sorted(map(tuple, gallery.pairs.tolist())) == [(0, 0), (1, 1), (1, 2), (2, 1), (2, 2), (3, 3)]
    assert [gallery.clusters[c] for c in COLOURS] == ["red.png", "green.png", "green.png", "white.png"]
    with pytest.raises(UserError, match=r"positives: .* has no column 'knd'\. Did you mean 'kind'"):
        opened(folder, rows, positives="knd")


def random_rows(seed: int, n: int = 60) -> Dataset:
    """Rows that draw their image and their captions from few, so that much is shared by chance."""
    chance = random.Random(seed)
    samples = []
    for i in range(n):
        image = chance.randrange(40)
        medium = Media("image", f"file {i}", str(image).encode())
        captions = tuple(str(chance.randrange(200)) for _ in range(chance.randrange(1, 4)))
        samples.append(Sample(f"s{i}", f"s{i}", "en", (medium,), references=captions))
    return Dataset("set", "en", samples)


def components(dataset: Sequence[Sample]) -> list[set[str]]:
    """By growing each set of ids until nothing that they hold is in another sample."""
    held = {s.id: {("image", s.media[0].source), *(("text", text) for text in s.references)} for s in dataset}
    found: list[set[str]] = []
    for start in held:
        if any(start in one for one in found):
            continue
        grown, things, before = {start}, set(held[start]), 0
        while before != len(grown):
            before = len(grown)
            grown |= {other for other, own in held.items() if own & things}
            things = set().union(*(held[one] for one in grown))
        found.append(grown)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_positives_and_clusters_are_what_the_definition_says(seed):
    dataset = random_rows(seed)
    gallery = TASK.gallery(dataset)
    source = {s.id: bytes(s.media[0].source) for s in dataset}  # pyright: ignore[reportArgumentType]
    images, texts = list(gallery.images), list(gallery.texts)
    found = {(source[images[i]], gallery.texts[texts[j]].text) for i, j in gallery.pairs}
    assert found == {(source[s.id], text) for s in dataset for text in s.references}
    assert len(images) == len(set(source.values()))
    assert len(texts) == len({text for s in dataset for text in s.references})
    seen = TASK.clustered(dataset)
    groups: dict[str, set[str]] = {}
    for sample in seen:
        groups.setdefault(sample.cluster, set()).add(sample.id)
    assert sorted(map(sorted, groups.values())) == sorted(map(sorted, components(list(dataset))))
    assert all(gallery.clusters[s.id] == s.cluster for s in seen if s.id in gallery.clusters)


@pytest.mark.parametrize("seed", range(3))
def test_a_limit_takes_whole_clusters_and_a_shuffled_image_is_never_ones_own(seed):
    dataset = random_rows(seed)
    whole = components(list(dataset))
    drawn = {sample.id for sample in draw(TASK.clustered(dataset), 30, seed)}
    assert all(group <= drawn or group.isdisjoint(drawn) for group in whole)
    own = {
        s.id: {t.media[0].source for group in whole if s.id in group for t in dataset if t.id in group} for s in dataset
    }
    for sample in ablated(TASK.clustered(dataset), "shuffled-image", seed):
        assert bytes(sample.media[0].source) not in own[sample.id]  # pyright: ignore[reportArgumentType]


def test_samples_without_media_share_nothing(folder):
    dataset = ablated(opened(folder, [row("a", "red", "one"), row("b", "red", "two")]), "image", 0)
    assert list(TASK.gallery(dataset).images) == ["a", "b"]


def test_media_are_compared_by_their_bytes(folder):
    red, copy, green = (Media("image", name, folder / name) for name in ("red.png", "copy.png", "green.png"))
    encoded = Media("image", "given", (folder / "red.png").read_bytes())
    absent = [Media("image", f"none {i}", folder / "none.png") for i in range(2)]
    empty = [Media("image", f"row {i}, no image", b"") for i in range(2)]
    names = contents([red, copy, green, encoded, *absent, *empty])
    assert names[0] == names[1] == names[3]
    assert len(set(names)) == 6
    shutil.copy(folder / "green.png", folder / "copy.png")  # what changed is read again
    assert contents([copy, green, red])[0] != names[1]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_reference_run_keeps_its_ids(language):
    spec = DatasetSpec("pocket", ["retrieval"], languages=[language])
    gallery = TASK.gallery(load("pocket", spec, "retrieval", language))
    cells = Path(__file__).parents[2] / "results" / "reference" / "cells" / "pocket-clip"
    lines = (cells / f"retrieval.pocket.{language}" / "records.jsonl").read_text(encoding="utf-8").splitlines()
    ids = [*(f"i2t:{name}" for name in gallery.images), *(f"t2i:{name}" for name in gallery.texts)]
    assert [json.loads(line)["id"] for line in lines] == ids
