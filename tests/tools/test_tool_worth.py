from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.pricing import Rates
from langchain_tokopt.tools.worth import Worth, rounded_up, worth

CACHED = Rates(
    input=Decimal(3),
    output=Decimal(15),
    cache_read=Decimal("0.3"),
    cache_write=Decimal("3.75"),
    caching="explicit",
    min_cache_tokens=0,
)


def thread(rates: Rates | None, *, everything: int = 10_000, calls: int = 1, searches: bool = False) -> Worth:
    return worth(
        everything=everything, core=100, picked=1_000, system=200, asked=50, rates=rates, calls=calls, searches=searches
    )


def test_one_uncached_call_costs_its_tokens() -> None:
    outlook = thread(None)
    assert (outlook.everything, outlook.narrowed, outlook.unit) == (Decimal(10_250), Decimal(1_350), "tokens")
    assert str(outlook) == "1350 tokens a thread with some tools, 10250 with all (13%)"


def test_the_possible_search_is_counted() -> None:
    # One more call in 0.15 of the messages, with 60 tokens of output.
    assert thread(None, searches=True).narrowed == Decimal(1_350) + Decimal("0.15") * (1_350 + 60)


def test_one_cached_call_writes_what_all_tools_would_have_read() -> None:
    outlook = thread(CACHED)
    million = 1_000_000
    assert outlook.everything == (10_200 * Decimal("0.3") + 50 * Decimal("3.75")) / million
    assert outlook.narrowed == (100 * Decimal("0.3") + 1_250 * Decimal("3.75")) / million
    assert outlook.unit == "USD"
    assert not outlook.pays


def test_a_second_message_writes_everything_after_the_tools_again() -> None:
    three, four = thread(CACHED, calls=3), thread(CACHED, calls=4)
    million = 1_000_000
    # What is added is half of what was picked first; before it, three calls left 500 tokens each.
    assert four.narrowed - three.narrowed == (1_100 * Decimal("0.3") + 2_250 * Decimal("3.75")) / million
    assert four.everything - three.everything == (11_250 * Decimal("0.3") + 500 * Decimal("3.75")) / million


@pytest.mark.parametrize(
    ("tools", "uncached", "cached"), [(2_000, True, False), (10_000, True, False), (40_000, True, True)]
)
def test_whether_it_pays_depends_on_the_cache(tools: int, uncached: bool, cached: bool) -> None:
    assert thread(None, everything=tools, calls=8).pays is uncached
    assert thread(CACHED, everything=tools, calls=8).pays is cached


@given(st.integers(0, 100_000))
def test_rounding_up_gives_the_next_power_of_two(tokens: int) -> None:
    rounded = rounded_up(tokens)
    assert rounded >= tokens
    assert rounded == 0 or (rounded & (rounded - 1) == 0 and rounded < 2 * tokens)
