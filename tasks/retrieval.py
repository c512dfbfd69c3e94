"""Retrieval: find the picture for a text and the text for a picture, each among the whole gallery.

Every unique image and text is embedded once. A query is ranked when all vectors are there; its record keeps the rank of
its best positive, the first ids, and how many positives were found, which is all that the metrics need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from harness.config.specs import PromptSpec
from harness.dataset import Dataset
from harness.metrics import Scored, averaged
from harness.metrics.retrieval import retrieval_scores
from harness.records import Record, Request, Route, Sample
from harness.task import Gallery, GalleryTask, Scoring

if TYPE_CHECKING:
    import numpy as np

    from harness.metrics.ranking import Ranking


class Retrieval(GalleryTask):
    name = "retrieval"
    routes = ("embed",)

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
        import numpy as np

        from harness.metrics.ranking import DEPTH, rank_both

        image_ids, text_ids = list(gallery.images), list(gallery.texts)
        place = {name: i for i, name in enumerate(image_ids)}
        pairs = np.array([(place[gallery.text_image[name]], i) for i, name in enumerate(text_ids)], dtype=np.int64)
        forward, back = rank_both(images, texts, pairs, top=DEPTH)
        records = []
        directions: tuple[tuple[Literal["i2t", "t2i"], list[str], list[str], Ranking, np.ndarray], ...] = (
            ("i2t", image_ids, text_ids, forward, images),
            ("t2i", text_ids, image_ids, back, texts),
        )
        for direction, queries, items, ranking, vectors in directions:
            failed = np.isnan(vectors).any(axis=1)
            for i, name in enumerate(queries):
                image = name if direction == "i2t" else gallery.text_image[name]
                row = {"direction": direction, **ranking.row(i)}
                record = Record(
                    id=f"{direction}:{name}",
                    cluster=gallery.clusters[image],
                    question=gallery.texts[name].text if direction == "t2i" else "",
                    media=tuple(medium.key for medium in gallery.images[image].media("image")),
                    retrieval=row | {"top": [items[k] for k in ranking.top[i]]},
                )
                if failed[i]:
                    record.retrieval = row | {"rank": None}
                records.append(record)
        return records

    def score(self, records: Sequence[Record], scoring: Scoring) -> list[Scored]:
        return retrieval_scores([record.retrieval or {} for record in records])

    def chance(self, records: Sequence[Record], scoring: Scoring) -> list[Scored]:
        """A query with p positives among n items: 1 - C(n - p, k) / C(n, k) for recall@k."""
        scored = []
        for k in (1, 5, 10):
            for direction in ("i2t", "t2i"):
                rows = [r.retrieval if r.retrieval and r.retrieval["direction"] == direction else None for r in records]
                values = [_blind(row["gallery"], row["positives"], k) if row else 0.0 for row in rows]
                expected = averaged(f"{direction}_recall@{k}", "expectation of a random order", values)
                expected.statistics[:, 1] = [row is not None for row in rows]
                scored.append(expected)
        return scored


def _blind(gallery: int, positives: int, k: int) -> float:
    """The chance that a random order of the gallery has a positive among its first k."""
    return 1 - math.comb(gallery - positives, k) / math.comb(gallery, k) if k <= gallery else 1.0
