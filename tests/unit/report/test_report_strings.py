"""The fixed texts of a report: complete in both languages, and right for one as for many."""

import string

import pytest

from harness.report.strings import STRINGS, Strings


def fields(text):
    """The names of the values that are put into a text."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("key", STRINGS)
def test_both_languages_take_the_same_values(key):
    english, chinese = STRINGS[key]
    assert fields(english) == fields(chinese)


@pytest.mark.parametrize("key", [key for key in STRINGS if key.endswith(" (one)")])
def test_a_text_for_one_belongs_to_a_text_for_many(key):
    many = key.removesuffix(" (one)")
    assert [fields(text) for text in STRINGS[key]] == [fields(text) - {"n"} for text in STRINGS[many]]


def test_one_thing_is_not_spoken_of_as_several():
    english, chinese = Strings("en"), Strings("zh")
    assert english("more_slices", n=1, file="slices.csv") == "1 more value is in slices.csv."
    assert english("more_slices", n=2, file="slices.csv") == "2 more values are in slices.csv."
    assert [chinese("counted_models", n=n) for n in (1, 2)] == ["1 个模型", "2 个模型"]
