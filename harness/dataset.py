"""A data set as tasks and the engine see it: a sequence of samples in one language, and what it declares about itself.

Sources (`harness.data`, `harness.pocket`) build data sets; nothing here knows files or hubs. A data set may have more
samples than fit into memory, so its sequences are lazy: an item is made when it is asked for, and made again when it is
asked for again. `LazySequence` is what all of them share.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, Protocol, TypeVar, overload, runtime_checkable

from harness.records import Language, Modality, Sample

Item = TypeVar("Item")


class LazySequence(Sequence[Item]):
    """A sequence that makes an item when it is asked for. A subclass says how many there are, and makes one of them."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def item(self, index: int) -> Item:
        """The item at `index`, which is at least 0 and less than the length."""

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self.item(place) for place in range(len(self))[index]]
        if not 0 <= index < self.__len__():  # as a plain call it takes half as long as len() does
            index = range(len(self))[index]  # counted from the end, or an IndexError
        return self.item(index)

    def __iter__(self) -> Iterator[Item]:
        return map(self.item, range(len(self)))


class Chosen(LazySequence[Item]):
    """Some items of another sequence, in an order of their own: those at `indices`."""

    def __init__(self, whole: Sequence[Item], indices: Sequence[int]) -> None:
        self.whole, self.indices = whole, indices

    def __len__(self) -> int:
        return len(self.indices)

    def item(self, index: int) -> Item:
        return self.whole[self.indices[index]]

    def __iter__(self) -> Iterator[Item]:
        return map(self.whole.__getitem__, self.indices)


@runtime_checkable
class KnowsLengths(Protocol):
    """Samples whose questions can be measured without making the samples."""

    def lengths(self) -> list[int]:
        """For each sample the number of characters of its question and of its choices."""
        ...


class Form(NamedTuple):
    """What can be known of samples without making them; one number for each sample."""

    choices: Sequence[int]
    """How many choices of its own it has."""
    references: Sequence[int]
    rotations: Sequence[int]
    """By how many places its choices are turned; a question that is asked in every order is asked first with 0."""


@runtime_checkable
class KnowsForm(Protocol):
    """Samples whose form is known without making the samples."""

    def form(self) -> Form:
        """See `Dataset.form`."""
        ...


@dataclass(frozen=True)
class Dataset(Sequence[Sample]):
    """Samples of one split in one language. It is read as `samples` are, to which it passes on what is asked of it."""

    name: str
    language: Language
    samples: Sequence[Sample]
    """May be lazy."""
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
    left_out: tuple[str, ...] = ()
    """Why rows were left out, one sentence for each: their references name no choice or label."""

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        return self.samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def take(self, indices: Sequence[int]) -> Dataset:
        """The same data set with only these samples, in this order."""
        whole = self.samples
        if isinstance(whole, _ChosenSamples):
            whole, indices = whole.whole, [whole.indices[i] for i in indices]
        return replace(self, samples=_ChosenSamples(whole, tuple(indices)))

    @property
    def source_indices(self) -> tuple[int, ...] | None:
        """Where the samples stand in the whole data set that they were taken from; None for the whole."""
        return tuple(self.samples.indices) if isinstance(self.samples, _ChosenSamples) else None

    def lengths(self) -> list[int]:
        """For each sample the number of characters of its question and of its choices."""
        if isinstance(self.samples, KnowsLengths):
            return self.samples.lengths()
        return [_length(sample) for sample in self.samples]

    @cached_property
    def form(self) -> Form:
        """The numbers of choices and references of each sample, and how its choices are turned."""
        return _form(self.samples)


class _ChosenSamples(Chosen[Sample]):
    """What `Dataset.take` takes."""

    def form(self) -> Form:
        return Form(*([counts[i] for i in self.indices] for counts in _form(self.whole)))

    def lengths(self) -> list[int]:
        if isinstance(self.whole, KnowsLengths):
            known = self.whole.lengths()
            return [known[i] for i in self.indices]
        return [_length(sample) for sample in self]


def _form(samples: Sequence[Sample]) -> Form:
    if isinstance(samples, KnowsForm):
        return samples.form()
    made = [(len(sample.choices), len(sample.references), 0) for sample in samples]
    return Form(*zip(*made, strict=True)) if made else Form((), (), ())


def _length(sample: Sample) -> int:
    return len(sample.question) + sum(map(len, sample.choices))


def connected(marks: Iterable[Iterable[Hashable]]) -> list[int]:
    """For each item the number of the first item that it is connected with: through a mark that both have, or through
    others. An item without a mark is by itself.

    >>> connected([["a"], ["b"], ["c"], ["b", "d"], ["d", "a"], []])
    [0, 0, 2, 0, 0, 5]
    """
    first: list[int] = []
    holder: dict[Hashable, int] = {}
    for number, own in enumerate(marks):
        first.append(number)
        for mark in own:
            a, b = _root(first, holder.setdefault(mark, number)), _root(first, number)
            first[max(a, b)] = min(a, b)
    return [_root(first, number) for number in range(len(first))]


def _root(first: list[int], number: int) -> int:
    """The end of the chain that begins at `number`; the chain is halved on the way."""
    while first[number] != number:
        first[number] = first[first[number]]
        number = first[number]
    return number
