"""How figures are written: never more than is known, never rounded to what is not so."""

import pytest

from harness.report import formats
from harness.report.summary import Number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "100 %"),
        (0.9999, "99.9 %"),
        (0.985, "98.5 %"),
        (0.5, "50 %"),
        (0.00001, "0.1 %"),
        (0.0, "0 %"),
        (None, "—"),
    ],
)
def test_one_failure_in_many_thousands_still_shows(value, text):
    assert formats.share(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1234, "0.12"),
        (6.2, "6.20"),
        (9.999, "10.0"),
        (28.44, "28.4"),
        (412.5, "412"),
        (12345.6, "12,346"),
        (None, "—"),
    ],
)
def test_times_and_rates_have_three_figures(value, text):
    assert formats.quantity(value) == text


def test_a_metric_has_three_decimals_and_a_median_rank_is_a_plain_number():
    assert formats.metric(0.86, "exact_match") == "0.860"
    assert formats.metric(3.0, "i2t_median_rank") == "3"
    assert formats.metric(2.5, "i2t_median_rank") == "2.5"
    assert formats.metric(None, "accuracy") == "—"


def test_a_number_without_an_interval_stands_alone():
    assert formats.with_interval(Number(0.5, 0.4, 0.6)) == "0.500 [0.400, 0.600]"
    assert formats.with_interval(Number(0.5)) == "0.500"
    assert formats.with_interval(Number()) == "—"


def test_small_p_values_are_no_zero():
    assert formats.probability(0.00001) == "<0.001"
    assert formats.probability(0.05) == "0.050"


def test_long_text_is_cut_visibly():
    assert formats.clean("a" * 20, 10) == "a" * 9 + "…"
    assert formats.clean("a" * 10, 10) == "a" * 10


def test_a_difference_has_a_sign_unless_it_is_none():
    assert formats.signed(0.02) == "+0.020"
    assert formats.signed(-0.02) == "-0.020"
    assert formats.signed(-0.0) == formats.signed(-0.0001) == "0.000"
