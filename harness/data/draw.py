"""The samples that a run asks about, and their order, which are decided from a seed before any model loads."""

from __future__ import annotations

import random
from collections import defaultdict

from harness.dataset import Dataset
from harness.errors import UserError

WINDOW = 1_024
"""How many neighbouring samples are sorted by length: many batches, and yet what shares a picture stays together."""


def by_length(dataset: Dataset) -> Dataset:
    """The data set with the longest samples first in each window of neighbours; itself where that changes nothing."""
    lengths = dataset.lengths()
    order = sorted(range(len(dataset)), key=lambda i: (i // WINDOW, -lengths[i]))
    return dataset if order == list(range(len(dataset))) else dataset.take(order)


def draw(dataset: Dataset, limit: int | None, seed: int) -> Dataset:
    """At most `limit` samples, drawn by seed as whole clusters and kept in the data set's order; None: all.

    Each stratum (a value of the slice that the prior is counted by, or a label) gives clusters in proportion. Raises
    UserError for a data set without samples, and for a limit that no cluster fits into.
    """
    if not len(dataset):
        raise UserError(f"dataset={dataset.name} ({dataset.language}) has no samples.")
    if limit is None:
        return dataset
    members: dict[str, list[int]] = defaultdict(list)
    strata: dict[str, list[str]] = defaultdict(list)
    for i, sample in enumerate(dataset):
        if sample.cluster not in members:
            label = sample.references[0] if dataset.labels and sample.references else ""
            strata[sample.slices.get(dataset.prior_by) or label].append(sample.cluster)
        members[sample.cluster].append(i)
    chance = random.Random(seed)
    order: list[tuple[float, float, str]] = []
    for stratum in sorted(strata):
        clusters = strata[stratum]
        chance.shuffle(clusters)
        order += [((k + 0.5) / len(clusters), chance.random(), cluster) for k, cluster in enumerate(clusters)]
    taken: list[int] = []
    for _, _, cluster in sorted(order):
        if len(taken) + len(members[cluster]) <= limit:
            taken += members[cluster]
    if not taken:
        raise UserError(f"limit={limit} is smaller than every cluster of {dataset.name}; give a larger one.")
    return dataset.take(sorted(taken))
