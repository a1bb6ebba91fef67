from __future__ import annotations

import itertools
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.pricing import Pricing, Rates
from langchain_tokopt.tokens import TokenCounter
from langchain_tokopt.tools import ToolIndex
from langchain_tokopt.tools.bill import Bill
from langchain_tokopt.tools.registry import Registry
from langchain_tokopt.tools.ways import Choice, choose
from tests.fakes import ScriptedModel, ai
from tests.tools.toolbox import CACHED, PLAIN, openai_dict, request

KEY = SecretStr("test")
COUNTER = TokenCounter()
DELETE = HumanMessage("delete the invoice")
EXPLICIT = replace(CACHED, caching="explicit")
ASKS_FOR_CACHING = {"cache_control": {"type": "ephemeral"}}

CHAT = ScriptedModel(model_name="chat", provider="nobody")
CLAUDE: Any = ChatAnthropic(model_name="claude-opus-4-8", api_key=KEY)  # type: ignore[call-arg]
OLD_CLAUDE: Any = ChatAnthropic(model_name="claude-sonnet-4-5", api_key=KEY)  # type: ignore[call-arg]
THINKING: Any = ChatAnthropic(  # type: ignore[call-arg]
    model_name="claude-opus-5-5", api_key=KEY, thinking={"type": "adaptive"}
)
GPT: Any = ChatOpenAI(model="gpt-5.5", api_key=KEY, use_responses_api=True)
MODELS = [CHAT, CLAUDE, OLD_CLAUDE, THINKING, GPT]
NAMES = ["chat", "claude-opus-4-8", "claude-opus-5-5", "claude-sonnet-4-5", "gpt-5.5"]


@cache
def registry(count: int, words: int) -> Registry:
    """So many tools with descriptions of so many words."""
    tools = [openai_dict(f"tool_{n}", "word " * words) for n in range(count)]
    return Registry(tools, ToolIndex(tools))


def bill(
    model: Any, rates: Rates | None, *, count: int = 120, words: int = 100, messages: Any = (DELETE,), **more: Any
) -> Bill:
    tools = registry(count, words)
    overrides = {} if rates is None else dict.fromkeys(NAMES, rates)
    return Bill(
        request(list(tools.tools), *messages, model=model, **more),
        tools,
        messages,
        COUNTER,
        Pricing(overrides=overrides),
    )


def chosen(of: Bill, mode: Any = "auto", **settings: Any) -> Choice:
    given = {"always": [], "picks": 10, "min_tools": None, "calls": (8, 24), "searches": True, **settings}
    return choose(of, DELETE.text, mode=mode, **given)


# --- auto ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "rates", "settings", "way", "form"),
    [
        (CHAT, PLAIN, {}, "rebind", None),
        (CHAT, None, {}, "rebind", None),  # the price is not known
        (CHAT, CACHED, {}, "proxy", None),
        (CLAUDE, EXPLICIT, {}, "rebind", "anthropic"),  # nothing asks for caching
        (CLAUDE, EXPLICIT, ASKS_FOR_CACHING, "inline", "anthropic"),
        (OLD_CLAUDE, EXPLICIT, ASKS_FOR_CACHING, "proxy", None),
        (THINKING, EXPLICIT, {}, "inline", "anthropic"),
        (GPT, CACHED, {}, "inline", "openai"),
        (GPT, PLAIN, {}, "rebind", "openai"),
    ],
)
def test_auto_chooses_by_what_is_cached_and_what_the_model_can_be_told(
    model: Any, rates: Rates | None, settings: dict[str, Any], way: str, form: str | None
) -> None:
    choice = chosen(bill(model, rates, model_settings=settings))
    assert (choice.way, choice.form, choice.problems) == (way, form, ())
    assert choice.reason.startswith("expected to pay: ")


@pytest.mark.parametrize(
    ("count", "words", "way"), [(30, 0, None), (40, 0, None), (120, 20, "inline"), (120, 100, "inline")]
)
def test_auto_binds_all_tools_where_telling_of_some_would_cost_more(count: int, words: int, way: str | None) -> None:
    choice = chosen(bill(GPT, CACHED, count=count, words=words))
    assert choice.way == way
    assert choice.reason.startswith("expected to pay: " if way else "would not pay: ")


def test_a_call_through_another_tool_must_save_more_than_a_direct_one() -> None:
    known: dict[str, Any] = {"always": [], "picks": 10, "asked": DELETE.text, "calls": (8, 24), "searches": True}
    seen = set()
    for count, words in itertools.product((40, 60, 80, 120), (0, 20, 60)):
        asked = bill(CHAT, CACHED, count=count, words=words)
        share = asked.outlook("proxy", **known).share
        pays = "enough" if share < Decimal("0.85") else "little" if share < 1 else "nothing"
        assert (chosen(asked).way == "proxy") is (pays == "enough")
        seen.add(pays)
    assert seen == {"enough", "little", "nothing"}


def test_a_thread_that_has_searched_stays_narrowed_when_prices_change() -> None:
    search = ai(tool_calls=[{"name": "search_tools", "args": {}, "id": "1"}])
    found = ToolMessage("- tool_3(item: string)", name="search_tools", tool_call_id="1")
    small = {"count": 40, "words": 0}
    assert chosen(bill(GPT, CACHED, **small)).way is None
    choice = chosen(bill(GPT, CACHED, messages=(DELETE, search, found), **small))
    assert (choice.way, choice.reason) == ("inline", "the thread was narrowed before")


def test_with_few_and_small_tools_all_are_bound() -> None:
    few, large = bill(CHAT, PLAIN, count=29, words=40), bill(CHAT, PLAIN, count=29, words=400)
    assert chosen(few, picks=2).reason == f"too few to pay: 29 tools, {few.given} schema tokens"
    assert chosen(bill(CHAT, PLAIN, count=30, words=40), picks=2).way == "rebind"
    assert chosen(large, picks=2).way == "rebind"
    assert chosen(few, picks=2, min_tools=29).way == "rebind"
    assert chosen(large, picks=2, min_tools=30).way is None


@pytest.mark.parametrize("mode", ["auto", "rebind", "inline", "proxy"])
def test_when_every_tool_would_be_bound_there_is_nothing_to_choose(mode: str) -> None:
    choice = chosen(bill(CHAT, PLAIN, count=12), mode, picks=10, always=["tool_3", "tool_7"])
    assert (choice.way, choice.reason, choice.problems) == (None, "every tool would be bound: 12 tools", ())


# --- forced ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "mode", "form"),
    [
        (CHAT, "rebind", None),
        (CLAUDE, "rebind", None),
        (CHAT, "proxy", None),
        (THINKING, "proxy", None),
        (CLAUDE, "inline", "anthropic"),
        (THINKING, "inline", "anthropic"),
        (GPT, "inline", "openai"),
    ],
)
def test_a_mode_is_a_mode_whatever_it_costs(model: Any, mode: str, form: str | None) -> None:
    assert chosen(bill(model, CACHED, count=12, words=0), mode) == Choice(mode, form, f"asked for by mode={mode!r}")  # type: ignore[arg-type]


@pytest.mark.parametrize("rates", [PLAIN, CACHED, None])
@pytest.mark.parametrize("words", [0, 100])
@pytest.mark.parametrize("model", [CHAT, OLD_CLAUDE])
def test_inline_where_the_model_cannot_is_as_auto_with_a_problem(model: Any, rates: Rates | None, words: int) -> None:
    asked = bill(model, rates, words=words)
    (problem,) = chosen(asked, "inline").problems
    assert isinstance(problem, ConfigurationError)
    assert str(problem).startswith(
        "mode='inline' cannot be used: use a model whose profile says mid_conversation_tools"
    )
    assert replace(chosen(asked, "inline"), problems=()) == chosen(asked)


THOUGHT = AIMessage([{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "yes"}])


@pytest.mark.parametrize(
    ("model", "messages"), [(THINKING, (DELETE,)), (CLAUDE, (DELETE, THOUGHT, HumanMessage("and now?")))]
)
def test_rebind_with_a_model_that_thinks_is_as_auto_with_a_problem(model: Any, messages: Any) -> None:
    asked = bill(model, EXPLICIT, messages=messages)
    choice = chosen(asked, "rebind")
    (problem,) = choice.problems
    assert str(problem) == (
        "mode='rebind' cannot be used: use another mode with a model that thinks: "
        "its signed thoughts hold only while the tools stay the same"
    )
    assert (choice.way, choice.form) == ("inline", "anthropic")
    assert replace(choice, problems=()) == chosen(asked)


# --- never worse than binding everything -----------------------------------------------------------------------------

MONEY = st.decimals(min_value=0, max_value=20, places=2)


@st.composite
def prices(draw: st.DrawFn) -> Rates | None:
    if draw(st.integers(0, 9)) == 0:
        return None
    full = draw(MONEY)
    return Rates(
        input=full,
        output=draw(MONEY),
        cache_read=full * draw(st.sampled_from([Decimal("0.1"), Decimal("0.25"), Decimal("0.5"), Decimal(1)])),
        cache_write=full * draw(st.sampled_from([Decimal(1), Decimal("1.25"), Decimal(2)])),
        caching=draw(st.sampled_from(["automatic", "explicit", "none"])),
        min_cache_tokens=draw(st.sampled_from([0, 1_024, 4_096])),
        cache_increment=draw(st.sampled_from([1, 128])),
    )


@given(
    st.sampled_from(MODELS),
    prices(),
    st.integers(1, 60),
    st.sampled_from([0, 5, 20, 60, 200]),
    st.integers(1, 15),
    st.lists(st.integers(1, 40), min_size=1, max_size=2),
    st.booleans(),
    st.sampled_from(["auto", "inline"]),
    st.sampled_from([{}, ASKS_FOR_CACHING]),
)
def test_no_way_is_chosen_that_is_expected_to_cost_more_than_all_tools(
    model: Any,
    rates: Rates | None,
    count: int,
    words: int,
    picks: int,
    calls: list[int],
    searches: bool,
    mode: Any,
    settings: dict[str, Any],
) -> None:
    asked = bill(model, rates, count=count, words=words, model_settings=settings)
    if mode == "inline" and model in (CLAUDE, THINKING, GPT):
        mode = "auto"  # there it is possible, and no question of money
    choice = chosen(asked, mode, picks=picks, calls=calls, searches=searches, min_tools=0)
    if choice.way is None:
        return
    known: dict[str, Any] = {"always": [], "picks": picks, "asked": DELETE.text, "searches": searches}
    for length in calls:
        outlook = asked.outlook(choice.way, calls=(length,), **known)
        assert outlook.narrowed < outlook.everything
        # Nor one that costs more than another that was possible.
        if asked.caches and choice.way != "rebind" and model is not THINKING:
            others = asked.outlook("rebind", calls=calls, **known)
            assert asked.outlook(choice.way, calls=calls, **known).share <= others.share
