"""The purse: what a request may cost is laid aside before it is asked, and a budget is never passed."""

from __future__ import annotations

import pytest

from harness.config.specs import EndpointSpec, ModelSpec
from harness.records import Answer, Request
from harness.run.purse import Purse, left_to, price, tokens_of

SPEC = EndpointSpec(price_in=1e6, price_out=2e6)
"""A token of a request costs 1, one of an answer 2."""


def request(letters: int = 40, most: int = 10) -> Request:
    """Ten tokens and at most ten more: it may cost 30."""
    return Request(("x" * letters,), max_new_tokens=most)


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("abc", 1), ("abcde", 2), ("红色", 2), ("a 红色", 3)])
def test_four_letters_or_one_other_character_are_a_token(text, tokens):
    assert tokens_of(Request((text,))) == tokens


def test_one_request_is_tried_and_then_as_many_as_could_be_paid_at_their_dearest():
    purse = Purse(SPEC, 100)
    first, *others = [request() for _ in range(5)]
    assert purse.allows([first])
    assert not purse.allows([others[0]])  # the rule has not been held against any answer
    purse.settle(first, answer := Answer("yes", 10, 5))
    assert answer.cost == 20
    assert purse.left == 80
    assert [purse.allows([other]) for other in others] == [True, True, False, False]
    for other in others[:2]:
        purse.settle(other, Answer("yes", 10, 5))
    assert (purse.left, purse.allows([others[2]])) == (40, True)


def test_a_rule_that_falls_short_is_put_right_by_the_first_count():
    purse = Purse(SPEC, 1_000)
    purse.allows([one := request()])
    purse.settle(one, Answer("yes", 400, 5))  # forty times as many as by the rule
    assert purse.left == 590
    assert purse.allows([request()])  # may cost 420
    assert not purse.allows([request()])


def test_an_answer_without_counts_costs_what_it_may_and_an_error_nothing():
    purse = Purse(SPEC, 100)
    purse.allows([one := request()])
    purse.settle(one, answer := Answer("yes"))
    assert (answer.cost, purse.left) == (None, 70)
    purse.allows([other := request()])
    purse.settle(other, ValueError("no"))
    assert purse.left == 70


def test_what_is_embedded_is_paid_by_the_rule():
    purse = Purse(SPEC, 25)
    assert [purse.pays([request()]) for _ in range(3)] == [True, True, False]
    assert purse.left == 5


def test_an_adapters_own_cost_stands_and_without_prices_there_is_no_bound():
    purse = Purse(SPEC, 100)
    purse.allows([one := request()])
    purse.settle(one, Answer("yes", 10, 5, cost=1.5))
    assert purse.left == 98.5
    assert price(ModelSpec(), 10, 10) is price(EndpointSpec(), 10, 10) is price(SPEC, None, 10) is None


def test_the_nearest_bound_counts():
    assert left_to(SPEC, None, 5, 9) is None
    assert left_to(EndpointSpec(), 10, 0, 0) is None
    own = EndpointSpec(price_in=1, price_out=1, budget=8)
    assert [left_to(own, of_run, 5, 9) for of_run in (None, 10, 100, 1)] == [3, 1, 3, 0]
