"""Modality ablation: how much of a score a model owes to the picture, the clip or the question.

`ablate=audio` takes every clip out of the samples; `ablate=shuffled-audio` gives each sample the clip of another one,
so that nothing looks unusual to the model and only the content is wrong. It is done to the samples, before a task makes
requests of them, so it holds for every task and every model alike, and records show what the model was given.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.dataset import Dataset, Form, LazySequence
from harness.errors import UserError
from harness.records import Modality, Sample, sample_digest


def modality(ablation: str) -> Modality:
    """The modality that an ablation takes away or exchanges."""
    return ablation.removeprefix("shuffled-")  # pyright: ignore[reportReturnType]


def applies(dataset: Dataset, ablation: str) -> bool:
    """Whether the samples have what the ablation takes away."""
    return ablation == "none" or any(_pieces(sample, modality(ablation)) for sample in dataset)


def ablated(dataset: Dataset, ablation: str, seed: int) -> Dataset:
    """The data set after the ablation, which depends on `seed` and the samples' order alone.

    When shuffled, a sample is given what a sample of another cluster has, and never anything that its own cluster
    holds. Raises UserError where no other cluster has something else to give.
    """
    if ablation == "none":
        return dataset
    kind = modality(ablation)
    donors = _donors(dataset, kind, seed) if ablation.startswith("shuffled-") else None
    return replace(dataset, samples=_Ablated(dataset, kind, donors))


class _Ablated(LazySequence[Sample]):
    """Samples without one modality, or with another one's: `donors` maps a sample's position to its donor's."""

    def __init__(self, whole: Dataset, kind: Modality, donors: Mapping[int, int] | None) -> None:
        self.whole, self.samples, self.donors = whole, whole.samples, donors
        self.kind: Modality = kind

    def __len__(self) -> int:
        return len(self.samples)

    def form(self) -> Form:
        """See `Dataset.form`: what is taken away is neither a choice nor a reference."""
        return self.whole.form

    def item(self, index: int) -> Sample:
        sample = self.samples[index]
        if self.donors is None:
            return _with(sample, self.kind, ())
        donor = self.donors.get(index)
        return sample if donor is None else _with(sample, self.kind, _pieces(self.samples[donor], self.kind))


def _pieces(sample: Sample, kind: Modality) -> tuple[Any, ...]:
    """What a sample has of a modality: its media of that kind or, for text, its question."""
    if kind == "text":
        return (sample.question,) if sample.question else ()
    return tuple(medium for medium in sample.media if medium.kind == kind)


def _with(sample: Sample, kind: Modality, pieces: Sequence[Any]) -> Sample:
    """The sample with `pieces` in the places of its own (from the first again where they are fewer), or without any."""
    if kind == "text":
        return replace(sample, question=pieces[0] if pieces else "", content=sample_digest(sample))
    media, taken = [], 0
    for medium in sample.media:
        if medium.kind != kind:
            media.append(medium)
        elif pieces:
            media.append(pieces[taken % len(pieces)])
            taken += 1
    return replace(sample, media=tuple(media))


def _donors(dataset: Dataset, kind: Modality, seed: int) -> dict[int, int]:
    """For each sample that has the modality, by position, the position of the sample whose pieces it is given.

    The clusters are put in a circle by chance, and each takes from the next one that holds none of its own pieces.
    """
    members: dict[str, list[int]] = {}
    pieces: dict[str, set[Any]] = {}
    for i, sample in enumerate(dataset):
        if own := _pieces(sample, kind):
            members.setdefault(sample.cluster, []).append(i)
            pieces.setdefault(sample.cluster, set()).update(own)
    circle = list(members)
    random.Random(f"ablation/{kind}/{seed}").shuffle(circle)
    found: dict[int, int] = {}
    for place, cluster in enumerate(circle):
        others = (circle[(place + step) % len(circle)] for step in range(1, len(circle)))
        giver = next((other for other in others if pieces[cluster].isdisjoint(pieces[other])), None)
        if giver is None:
            raise UserError(
                f"ablate=shuffled-{kind}: in {dataset.name} no other sample has another {kind} to give to "
                f"'{cluster}'. Take more samples, or ablate={kind}."
            )
        for number, i in enumerate(members[cluster]):
            found[i] = members[giver][number % len(members[giver])]
    return found
