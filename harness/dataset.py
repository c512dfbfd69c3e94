"""A data set as tasks and the engine see it: a sequence of samples in one language, and what it declares about itself.

Sources (`harness.data`) build them; nothing here knows files or hubs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from harness.records import Language, Modality, Sample


@dataclass(frozen=True)
class Dataset(Sequence[Sample]):
    """Samples of one split in one language."""

    name: str
    language: Language
    samples: Sequence[Sample]
    """May be lazy: indexing builds the sample."""
    labels: tuple[str, ...] = ()
    """The declared label set, in the samples' language: classes, or the closed answers of a VQA set."""
    modalities: tuple[Modality, ...] = ("text", "image")
    """What a model must take to be asked at all."""
    prior: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """References of the train split by slice value (the `prior_by` field; "" for all), for the prior reference row."""
    prior_by: str = ""
    prior_split: str = "train"
    """Where `prior` comes from; the test split's own name where a data set has no other."""
    metric: str = ""
    """The headline metric, where the data set's official one is not the task's default."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index):  # noqa: ANN001, ANN204 - Sequence's two overloads
        return self.samples[index]

    def take(self, indices: Sequence[int]) -> Dataset:
        """The same data set with only these samples, in this order."""
        whole = self.samples
        if isinstance(whole, _Taken):
            whole, indices = whole.samples, [whole.indices[i] for i in indices]
        return replace(self, samples=_Taken(whole, indices))

    @property
    def taken(self) -> tuple[int, ...] | None:
        """Where the samples stand in the whole data set that they were taken from; None for the whole."""
        return self.samples.indices if isinstance(self.samples, _Taken) else None

    def lengths(self) -> list[int]:
        """Of each sample, the characters of its question and choices."""
        read = getattr(self.samples, "lengths", None)
        return read() if read else [_length(sample) for sample in self.samples]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)


class _Taken(Sequence[Sample]):
    """Some samples of a sequence, still built only when asked for."""

    def __init__(self, samples: Sequence[Sample], indices: Sequence[int]) -> None:
        self.samples, self.indices = samples, tuple(indices)

    def lengths(self) -> list[int]:
        read = getattr(self.samples, "lengths", None)
        whole = read() if read else None
        return [_length(self.samples[i]) if whole is None else whole[i] for i in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index):  # noqa: ANN001, ANN204 - Sequence's two overloads
        if isinstance(index, slice):
            return [self.samples[i] for i in self.indices[index]]
        return self.samples[self.indices[index]]


def _length(sample: Sample) -> int:
    return len(sample.question) + sum(map(len, sample.choices))
