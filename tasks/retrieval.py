"""Retrieval: the model finds the picture for a text and the text for a picture, each among the whole gallery.

Every image and every text is embedded once, however many rows hold it: two images are one if their bytes are equal, and
two texts if they are equal without outer blanks and in Unicode's composed form (NFC). The positives of a text are the
images of all rows that hold it, and those of an image all its texts; so a row for each caption means what a list of
captions means. Where a data set names a column of `positives`, all images and texts of the rows with one value of it
are positives of each other.

Queries are ranked when all vectors are there; the record of a query keeps the rank of its best positive, the first ids,
and how many positives were found, which is all that the metrics need.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from typing import get_args

import numpy as np

from harness.config.specs import PromptSpec
from harness.dataset import Dataset, Form, LazySequence, connected
from harness.media import contents
from harness.metrics import Scored, averaged
from harness.metrics.ranking import DEPTH, Ranking, rank_both
from harness.metrics.retrieval import MEASURES, Direction, retrieval_scores
from harness.records import Media, Record, Request, Route, Sample
from harness.task import Gallery, GalleryTask, Scoring


class Retrieval(GalleryTask):
    """Rankings of a gallery by similarity, in both directions."""

    name = "retrieval"
    routes = ("embed",)
    metrics = tuple(f"{way}_{name}" for way in get_args(Direction) for name in MEASURES)

    def request(self, sample: Sample, route: Route, dataset: Dataset, prompt: PromptSpec) -> Request:
        return Request(sample.media, language=sample.language)

    def clustered(self, dataset: Dataset) -> Dataset:
        return replace(dataset, samples=_Clustered(dataset, _read(dataset)[1]))

    def gallery(self, dataset: Dataset) -> Gallery:
        return _read(dataset)[0]

    def rank(self, gallery: Gallery, images: np.ndarray, texts: np.ndarray) -> list[Record]:
        image_ids, text_ids, pairs = list(gallery.images), list(gallery.texts), gallery.pairs
        forward, backward = rank_both(images, texts, pairs, top=DEPTH)
        return [
            *_records("i2t", gallery, image_ids, image_ids, text_ids, forward, images),
            *_records(
                "t2i", gallery, [image_ids[i] for i in _first_image(pairs)], text_ids, image_ids, backward, texts
            ),
        ]

    def score(self, records: Sequence[Record], scoring: Scoring) -> list[Scored]:
        return retrieval_scores([record.retrieval or {} for record in records])

    def chance(self, records: Sequence[Record], scoring: Scoring) -> list[Scored]:
        """For recall@k, a query with p positives among n items counts 1 - C(n - p, k) / C(n, k)."""
        scored = []
        for k in (1, 5, 10):
            for direction in get_args(Direction):
                rows = [r.retrieval if r.retrieval and r.retrieval["direction"] == direction else None for r in records]
                values = [_blind(row["gallery"], row["positives"], k) if row else 0.0 for row in rows]
                expected = averaged(f"{direction}_recall@{k}", "expectation of a random order", values)
                expected.statistics[:, 1] = [row is not None for row in rows]
                scored.append(expected)
        return scored


class _Clustered(LazySequence[Sample]):
    """Samples in clusters other than their own: `clusters` has the name of each one's."""

    def __init__(self, whole: Dataset, clusters: Sequence[str]) -> None:
        self.whole, self.samples, self.clusters = whole, whole.samples, clusters

    def __len__(self) -> int:
        return len(self.samples)

    def form(self) -> Form:
        """See `Dataset.form`."""
        return self.whole.form

    def item(self, index: int) -> Sample:
        return replace(self.samples[index], cluster=self.clusters[index])


def _read(dataset: Dataset) -> tuple[Gallery, list[str]]:
    """The gallery of a data set, and the name of the cluster that each of its samples is in.

    An image is named by the first sample that holds it, and a text by the first one and its number there. Samples are
    in one cluster that share an image, a text, a value of `positives` or a cluster of their own, and so are those that
    others connect; it has the name of its first sample's.
    """
    known: dict[Media, Media] = {}
    samples = [replace(s, media=tuple(known.setdefault(medium, medium) for medium in s.media)) for s in dataset]
    content = dict(zip(known, contents(list(known)), strict=True))
    images: dict[str, Request] = {}
    texts: dict[str, Request] = {}
    image_of: dict[Hashable, str] = {}
    text_of: dict[str, str] = {}
    sides: dict[Hashable, tuple[dict[str, None], dict[str, None]]] = {}
    marks: list[list[Hashable]] = []
    for sample in samples:
        # A sample that an ablation has left without media shares nothing with others.
        shown = tuple(content[medium] for medium in sample.media) or (None, sample.id)
        image = image_of.setdefault(shown, sample.id)
        images.setdefault(image, Request(sample.media, language=sample.language))
        own: list[str] = []
        for number, caption in enumerate(sample.references):
            text = text_of.setdefault(unicodedata.normalize("NFC", caption.strip()), f"{sample.id}#{number}")
            texts.setdefault(text, Request((caption,), language=sample.language))
            own.append(text)
        joined = ("positives", sample.positives) if sample.positives else ("sample", sample.id)
        with_it = sides.setdefault(joined, ({}, {}))
        with_it[0][image] = None
        with_it[1].update(dict.fromkeys(own))
        marks.append([joined, ("cluster", sample.cluster), ("image", image), *(("text", text) for text in own)])
    image_place, text_place = ({name: i for i, name in enumerate(side)} for side in (images, texts))
    places = [([image_place[i] for i in some], [text_place[t] for t in others]) for some, others in sides.values()]
    pairs = np.zeros((sum(len(some) * len(others) for some, others in places), 2), dtype=np.int64)
    if len(pairs):
        np.concatenate([np.repeat(some, len(others)) for some, others in places], out=pairs[:, 0])
        np.concatenate([np.tile(others, len(some)) for some, others in places], out=pairs[:, 1], casting="unsafe")
    clusters = [samples[first].cluster for first in connected(marks)]
    of_sample = {sample.id: cluster for sample, cluster in zip(samples, clusters, strict=True)}
    return Gallery(images, texts, pairs, {name: of_sample[name] for name in images}), clusters


def _first_image(pairs: np.ndarray) -> list[int]:
    """For each text, in order, the first of the images that belong to it, by their places. Every text has one."""
    return pairs[np.lexsort(pairs.T)][np.unique(np.sort(pairs[:, 1]), return_index=True)[1], 0].tolist()


def _records(
    direction: Direction,
    gallery: Gallery,
    images: Sequence[str],
    queries: Sequence[str],
    items: Sequence[str],
    ranking: Ranking,
    vectors: np.ndarray,
) -> Iterator[Record]:
    """The record of each query of one direction, in order, for each of which `images` has the image that it is or that
    belongs to it. A row of NaN among the queries' `vectors` failed."""
    failed = np.asarray(np.isnan(vectors).any(axis=1))
    for i, (name, image) in enumerate(zip(queries, images, strict=True)):
        found = {"direction": direction, **ranking.row(i)}
        found |= {"rank": None} if failed[i] else {"top": [items[k] for k in ranking.top[i]]}
        yield Record(
            id=f"{direction}:{name}",
            cluster=gallery.clusters[image],
            question=gallery.texts[name].text if direction == "t2i" else "",
            media=tuple(medium.key for medium in gallery.images[image].media("image")),
            retrieval=found,
        )


def _blind(gallery: int, positives: int, k: int) -> float:
    """The probability that a random order of the gallery has a positive among its first k.

    >>> _blind(gallery=4, positives=1, k=1)
    0.25
    """
    return 1 - math.comb(gallery - positives, k) / math.comb(gallery, k) if k <= gallery else 1.0
