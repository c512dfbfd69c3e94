"""A data set as tasks and the engine see it: a sequence of samples in one language, and what it declares about itself.

Sources (`harness.data`) build them; nothing here knows files or hubs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar, overload, runtime_checkable

from harness.records import Language, Modality, Sample

Item = TypeVar("Item", covariant=True)


class LazySequence(Sequence[Item]):
    """A sequence whose items are built when they are asked for. A subclass says how many there are, and builds one."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def item(self, index: int) -> Item:
        """The item at a place from 0 to the last one."""

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self.item(place) for place in range(*index.indices(len(self)))]
        return self.item(range(len(self))[index])

    def __iter__(self) -> Iterator[Item]:
        return map(self.item, range(len(self)))


@runtime_checkable
class KnowsLengths(Protocol):
    """A sequence of samples that knows how long their texts are without building the samples."""

    def lengths(self) -> list[int]:
        """The number of characters in each sample's question and choices."""
        ...


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
    def source_indices(self) -> tuple[int, ...] | None:
        """The places of the samples in the whole data set that they were taken from; None for the whole."""
        return self.samples.indices if isinstance(self.samples, _Taken) else None

    def lengths(self) -> list[int]:
        """The number of characters in each sample's question and choices."""
        return _lengths(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)


class _Taken(LazySequence[Sample]):
    """Some samples of a sequence, still built only when asked for."""

    def __init__(self, samples: Sequence[Sample], indices: Sequence[int]) -> None:
        self.samples, self.indices = samples, tuple(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def item(self, index: int) -> Sample:
        return self.samples[self.indices[index]]

    def lengths(self) -> list[int]:
        if not isinstance(self.samples, KnowsLengths):  # no other sample than these need be built
            return [_length(sample) for sample in self]
        whole = self.samples.lengths()
        return [whole[i] for i in self.indices]


def _lengths(samples: Sequence[Sample]) -> list[int]:
    return samples.lengths() if isinstance(samples, KnowsLengths) else [_length(sample) for sample in samples]


def _length(sample: Sample) -> int:
    return len(sample.question) + sum(map(len, sample.choices))
