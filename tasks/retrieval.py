"""Retrieval: the model finds the picture for a text and the text for a picture, each among the whole gallery.

Every unique image and text is embedded once. Queries are ranked when all vectors are there; the record of a query keeps
the rank of its best positive, the first ids, and how many positives were found, which is all that the metrics need.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import get_args

import numpy as np

from harness.config.specs import PromptSpec
from harness.dataset import Dataset
from harness.metrics import Scored, averaged
from harness.metrics.ranking import DEPTH, Ranking, rank_both
from harness.metrics.retrieval import MEASURES, Direction, retrieval_scores
from harness.records import Record, Request, Route, Sample
from harness.task import Gallery, GalleryTask, Scoring


class Retrieval(GalleryTask):
    """Rankings of a gallery by similarity, in both directions."""

    name = "retrieval"
    routes = ("embed",)
    metrics = tuple(f"{way}_{name}" for way in get_args(Direction) for name in MEASURES)

    def request(self, sample: Sample, route: Route, dataset: Dataset, prompt: PromptSpec) -> Request:
        return Request(sample.media, language=sample.language)

    def gallery(self, dataset: Dataset) -> Gallery:
        images: dict[str, Request] = {}
        texts: dict[str, Request] = {}
        text_image: dict[str, str] = {}
        clusters: dict[str, str] = {}
        for sample in dataset:
            key = sample.id
            images[key] = Request(sample.media, language=sample.language)
            clusters[key] = sample.cluster
            for number, caption in enumerate(sample.references):
                texts[f"{key}#{number}"] = Request((caption,), language=sample.language)
                text_image[f"{key}#{number}"] = key
        return Gallery(images, texts, text_image, clusters)

    def rank(self, gallery: Gallery, images: np.ndarray, texts: np.ndarray) -> list[Record]:
        image_ids, text_ids = list(gallery.images), list(gallery.texts)
        place = {name: i for i, name in enumerate(image_ids)}
        pairs = np.array([(place[gallery.text_image[name]], i) for i, name in enumerate(text_ids)], dtype=np.int64)
        forward, backward = rank_both(images, texts, pairs, top=DEPTH)
        return [
            *_records("i2t", gallery, image_ids, text_ids, forward, images),
            *_records("t2i", gallery, text_ids, image_ids, backward, texts),
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


def _records(
    direction: Direction,
    gallery: Gallery,
    queries: Sequence[str],
    items: Sequence[str],
    ranking: Ranking,
    vectors: np.ndarray,
) -> Iterator[Record]:
    """The record of each query of one direction, in order. A row of NaN among the queries' `vectors` failed."""
    failed = np.asarray(np.isnan(vectors).any(axis=1))
    for i, name in enumerate(queries):
        image = name if direction == "i2t" else gallery.text_image[name]
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
