"""What decides how a thread is shown."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.context.policy import LEAST_CALLS_LEFT, Expected, Policy, Prices
from langchain_tokopt.rates import Rates

INPUT, OUTPUT = Decimal(3), Decimal(15)


def test_prices_are_relative_to_tokens_that_are_not_cached() -> None:
    rates = Rates(
        input=INPUT, output=OUTPUT, cache_read=Decimal("0.3"), cache_write=Decimal("3.75"), caching="explicit"
    )
    assert Prices.of(rates) == Prices(read=0.1, write=1.25)


def test_a_cache_that_writes_by_itself_takes_the_price_of_the_input() -> None:
    rates = Rates(input=INPUT, output=OUTPUT, cache_read=Decimal("1.5"), cache_write=Decimal(0), caching="automatic")
    assert Prices.of(rates) == Prices(read=0.5, write=1.0)


@pytest.mark.parametrize(
    "rates",
    [Rates(input=INPUT, output=OUTPUT), Rates(input=Decimal(0), output=Decimal(0), caching="automatic")],
    ids=["no cache", "for nothing"],
)
def test_without_a_cache_all_tokens_cost_the_same(rates: Rates) -> None:
    assert Prices.of(rates) == Prices(read=1.0, write=1.0)
    assert Policy(None, prices=Prices.of(rates)).rewrite_factor == 0


def test_of_an_unknown_model_it_is_assumed_that_rewriting_is_dear() -> None:
    assert Policy(None, prices=Prices.of(None)).rewrite_factor == pytest.approx(1.15)


def test_at_first_a_few_calls_are_expected_and_later_as_many_as_were_made() -> None:
    assert Expected().calls_left(0) == LEAST_CALLS_LEFT
    assert Expected().calls_left(30) == 30


def test_earlier_threads_say_how_long_the_next_one_goes_on() -> None:
    long, short = Expected((60,) * 50), Expected((3,) * 50)
    assert long.calls_left(10) == pytest.approx(50, abs=4)
    assert short.calls_left(2) < 2
    assert short.calls_left(10) == 10  # none of them tells what comes now


@given(st.lists(st.integers(0, 500), max_size=60), st.integers(0, 600))
def test_what_is_left_is_between_nothing_and_the_longest_thread(calls: list[int], made: int) -> None:
    left = Expected(tuple(calls)).calls_left(made)
    assert 0 < left <= max(LEAST_CALLS_LEFT, made, *(one - made for one in calls), 0)


def test_a_policy_is_written_the_same_in_every_process() -> None:
    policy = Policy(None, expected=Expected((1, 2), trims=True), tool="t")
    assert repr(policy) == repr(Policy(None, expected=Expected((1, 2), trims=True), tool="t"))
    assert repr(policy) != repr(Policy(None, expected=Expected((1, 2)), tool="t"))
    assert " at 0x" not in repr(policy)
