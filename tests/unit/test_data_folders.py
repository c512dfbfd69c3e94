"""The bundled configs read the real folders: every sample is there, and its first media open."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.compose import compose
from harness.data import load
from harness.media import open_audio, open_image

DATA = Path(__file__).parents[2].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"there is no data folder {DATA}")

CELLS = [
    ("vqa-rad", "vqa", "en", 451, 203),
    ("coco-363", "captioning", "en", 283, 283),
    ("coco-363", "retrieval", "zh", 7, 7),
    ("coco-363-foils", "vqa", "en", 518, 137),
    ("esc-10", "classification", "en", 160, 160),
    ("esc-10", "classification", "zh", 160, 160),
    ("fsdd", "classification", "zh", 300, 300),
    ("nlvr1", "vqa", "en", 400, 400),
]


@pytest.fixture(scope="module")
def specs():
    run, *_ = compose(["task=all", "dataset=all", "model=all"], absent=True)
    return run.datasets


@pytest.mark.parametrize(("name", "task", "language", "count", "clusters"), CELLS)
def test_a_folder_is_read_whole(specs, name, task, language, count, clusters):
    dataset = load(name, specs[name], task, language, data_dir=DATA)
    samples = list(dataset)
    assert len(samples) == count
    assert len({sample.cluster for sample in samples}) == clusters
    for sample in samples:
        assert sample.references
        assert not dataset.labels or set(sample.references) <= set(dataset.labels)
        assert not sample.choices or set(sample.references) <= set(sample.choices)
        assert all(medium.source.is_file() for medium in sample.media)
    assert samples[0].media
    for medium in samples[0].media:
        assert open_image(medium).width if medium.kind == "image" else len(open_audio(medium, 16_000))


def test_the_prior_of_vqa_rad_comes_from_its_train_split(specs):
    dataset = load("vqa-rad", specs["vqa-rad"], "vqa", "en", data_dir=DATA)
    assert dataset.prior_split == "train"
    assert sum(map(len, dataset.prior.values())) == 2_248 - 451
