"""Data sets and other lazy sequences are read like lists, and make no more than what is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from harness.dataset import Chosen, Dataset, LazySequence
from harness.records import Sample


class Squares(LazySequence[int]):
    """The squares of 0, 1, 2 and so on; it notes which were made."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.made: list[int] = []

    def __len__(self) -> int:
        return self.count

    def item(self, index: int) -> int:
        self.made.append(index)
        return index * index


class Measured(LazySequence[Sample]):
    """Samples that know how long their questions are, and that must not be made to find it out."""

    def __len__(self) -> int:
        return 4

    def item(self, index: int) -> Sample:
        raise AssertionError("a sample was made")

    def lengths(self) -> list[int]:
        return [4, 3, 2, 1]


PLACES = [0, 4, -1, -5]
SLICES = [slice(None), slice(1, 3), slice(-2, None), slice(None, None, -2), slice(3, 1), slice(2, 99)]


def quiz() -> Dataset:
    return Dataset("quiz", "en", [Sample(str(i), str(i), "en", question="?" * i, choices=("a",)) for i in range(5)])


@pytest.mark.parametrize("sequence", [Squares(5), Chosen([9, 16, 1, 0, 4], [3, 2, 4, 0, 1])])
def test_it_is_read_like_the_list_of_its_items(sequence):
    whole = [0, 1, 4, 9, 16]
    assert list(sequence) == whole
    assert [sequence[place] for place in PLACES] == [whole[place] for place in PLACES]
    assert [sequence[piece] for piece in SLICES] == [whole[piece] for piece in SLICES]
    assert list(reversed(sequence)) == whole[::-1]
    assert (9 in sequence, 8 in sequence, sequence.index(9)) == (True, False, 3)


def test_a_data_set_is_read_like_its_samples_also_when_some_are_taken():
    ids = ["4", "2", "0"]
    for dataset in (replace(quiz(), samples=[quiz()[int(name)] for name in ids]), quiz().take([4, 2, 0])):
        assert [sample.id for sample in dataset] == ids
        assert [dataset[place].id for place in (0, 2, -1)] == ["4", "0", "0"]
        assert [[sample.id for sample in dataset[piece]] for piece in SLICES] == [ids[piece] for piece in SLICES]
        with pytest.raises(IndexError):
            dataset[3]


@pytest.mark.parametrize("place", [5, -6])
def test_a_place_beyond_its_ends_is_an_error_and_makes_nothing(place):
    squares = Squares(5)
    with pytest.raises(IndexError):
        squares[place]
    assert squares.made == []


def test_an_item_is_made_when_it_is_asked_for_and_not_before():
    squares = Squares(1_000_000)
    items: Iterator[int] = iter(squares)
    assert squares.made == []
    assert (next(items), squares[-1], squares[2:4]) == (0, 999_999**2, [4, 9])
    assert squares.made == [0, 999_999, 2, 3]


def test_samples_taken_twice_know_their_places_in_the_whole_data_set():
    assert quiz().source_indices is None
    taken = quiz().take([4, 2, 0]).take([2, 0])
    assert taken.source_indices == (0, 4)
    assert [sample.id for sample in taken] == ["0", "4"]


def test_lengths_are_those_of_question_and_choices_whichever_way_they_are_known():
    assert quiz().lengths() == [1, 2, 3, 4, 5]
    assert quiz().take([3, 0]).lengths() == [4, 1]
    measured = replace(quiz(), samples=Measured())
    assert measured.lengths() == [4, 3, 2, 1]
    assert measured.take([3, 0]).lengths() == [1, 4]
