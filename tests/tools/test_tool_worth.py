from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.pricing import Rates
from langchain_tokopt.tools.worth import Way, Worth, rounded_up, worth

READ, WRITE, OUTPUT = Decimal("0.3"), Decimal("3.75"), Decimal(15)
CACHED = Rates(
    input=Decimal(3), output=OUTPUT, cache_read=READ, cache_write=WRITE, caching="explicit", min_cache_tokens=0
)
MILLION = 1_000_000
WAYS: list[Way] = ["rebind", "inline", "proxy"]


def thread(
    rates: Rates | None, way: Way = "rebind", *, everything: int = 10_000, calls: int = 1, searches: bool = False
) -> Worth:
    return worth(
        way=way,
        everything=everything,
        core=100,
        picked=1_000,
        system=200,
        asked=50,
        rates=rates,
        calls=calls,
        searches=searches,
    )


@pytest.mark.parametrize(("way", "narrowed"), [("rebind", 1_350), ("inline", 1_350), ("proxy", 1_362)])
def test_one_uncached_call_costs_its_tokens(way: Way, narrowed: int) -> None:
    outlook = thread(None, way)
    assert (outlook.everything, outlook.narrowed, outlook.unit) == (Decimal(10_250), Decimal(narrowed), "tokens")
    assert str(thread(None)) == "1350 tokens a thread with some tools, 10250 with all (13%)"


@pytest.mark.parametrize(("way", "call"), [("rebind", 1_350), ("inline", 1_350), ("proxy", 1_362)])
def test_the_possible_search_is_counted(way: Way, call: int) -> None:
    # One more call in 0.15 of the messages, with 60 tokens of output.
    assert thread(None, way, searches=True).narrowed == call + Decimal("0.15") * (1_350 + 60)


def test_one_cached_call_writes_what_all_tools_would_have_read() -> None:
    # The system prompt comes before what is told in the conversation, and behind tools that are bound anew.
    everything = (10_200 * READ + 50 * WRITE) / MILLION
    rebind, inline, proxy = (thread(CACHED, way) for way in WAYS)
    assert [outlook.everything for outlook in (rebind, inline, proxy)] == [everything] * 3
    assert rebind.narrowed == (100 * READ + 1_250 * WRITE) / MILLION
    assert inline.narrowed == (300 * READ + 1_050 * WRITE) / MILLION
    assert proxy.narrowed == inline.narrowed + 12 * OUTPUT / MILLION
    assert (rebind.unit, rebind.pays) == ("USD", False)


def test_a_second_message_writes_everything_after_new_tools_again_unless_they_are_told_of() -> None:
    def fourth(way: Way) -> tuple[Decimal, Decimal]:
        three, four = thread(CACHED, way, calls=3), thread(CACHED, way, calls=4)
        return four.everything - three.everything, four.narrowed - three.narrowed

    # What is added is half of what was picked first; before it, three calls left 500 tokens each, and a message came.
    full = (11_250 * READ + 500 * WRITE) / MILLION
    told = (2_350 * READ + 1_000 * WRITE) / MILLION
    assert fourth("rebind") == (full, (1_100 * READ + 2_250 * WRITE) / MILLION)
    assert fourth("inline") == (full, told)
    assert fourth("proxy") == (full, told + 12 * OUTPUT / MILLION)


@pytest.mark.parametrize(
    ("tools", "uncached", "cached"),
    [
        (2_000, True, []),
        (10_000, True, ["inline", "proxy"]),
        (40_000, True, ["rebind", "inline", "proxy"]),
    ],
)
def test_whether_it_pays_depends_on_the_cache_and_the_way(tools: int, uncached: bool, cached: list[Way]) -> None:
    assert [thread(None, way, everything=tools, calls=8).pays for way in WAYS] == [uncached] * 3
    assert [way for way in WAYS if thread(CACHED, way, everything=tools, calls=8).pays] == cached


def test_nothing_to_leave_out_is_worth_nothing() -> None:
    outlook = Worth(Decimal(0), Decimal(0), "USD")
    assert (outlook.pays, outlook.share) == (False, Decimal(1))


@given(st.sampled_from(WAYS), st.integers(0, 50_000), st.integers(0, 5_000), st.integers(1, 30))
def test_without_a_cache_each_token_is_paid_in_each_call(way: Way, everything: int, picked: int, calls: int) -> None:
    outlook = worth(
        way=way,
        everything=everything,
        core=70,
        picked=picked,
        system=30,
        asked=20,
        rates=None,
        calls=calls,
        searches=False,
    )
    thread = sum(30 + 20 + 500 * call for call in range(calls))
    told = sum(70 + picked + (call // 3) * int(picked * 0.5) for call in range(calls))
    assert outlook.everything == everything * calls + thread
    assert outlook.narrowed == told + thread + (12 * calls if way == "proxy" else 0)


@given(st.integers(0, 100_000))
def test_rounding_up_gives_the_next_power_of_two(tokens: int) -> None:
    rounded = rounded_up(tokens)
    assert rounded >= tokens
    assert rounded == 0 or (rounded & (rounded - 1) == 0 and rounded < 2 * tokens)
