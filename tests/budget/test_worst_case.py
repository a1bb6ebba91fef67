"""What a call may take at most, and how its answer is bounded."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain.agents.middleware.types import ModelRequest
from langchain.agents.structured_output import AutoStrategy, ProviderStrategy, ToolStrategy
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from langchain_tokopt.budget.amounts import MAX_AMOUNT, Amount
from langchain_tokopt.budget.worst_case import DEFAULT_OUTPUT_TOKENS, affordable_output, cost, worst_case
from langchain_tokopt.pricing import Rates
from langchain_tokopt.tokens import TokenCounter
from tests.budget.figures import COUNTED, INPUT, RATES, WordCounter, case, usage
from tests.fakes import ScriptedModel

CLAUDE = Rates(
    input=Decimal(3),
    output=Decimal(15),
    cache_read=Decimal("0.3"),
    cache_write=Decimal("3.75"),
    cache_write_1h=Decimal(6),
    caching="explicit",
)


class Bounded(ScriptedModel):
    max_tokens: int | None = None
    n: int | None = None
    thinking: dict[str, Any] | None = None


class Weather(BaseModel):
    """Weather as it was asked for."""

    city: str
    degrees: int


@tool
def look(place: str) -> str:
    """Look at a place."""
    return place


def request(model: Any = None, **fields: Any) -> ModelRequest[Any]:
    return ModelRequest(model=model or Bounded(), messages=[HumanMessage("hi")], **fields)


def worst(model: Any = None, *, most: int | None = None, **fields: Any) -> Any:
    return worst_case(request(model, **fields), WordCounter(), max_output_tokens=most)


# --- the input ---


def test_the_input_is_reserved_with_a_margin() -> None:
    found = worst()
    assert (found.counted_tokens, found.input_tokens) == (COUNTED, INPUT)
    assert (found.model, found.provider) == ("gpt-4o-mini", "openai")


@pytest.mark.parametrize(
    ("model", "source", "expected"),
    [
        ("gpt-4o-mini", "tiktoken", INPUT),
        ("gpt-4o-mini", "estimate", 147),
        ("claude-sonnet-4-6", "tiktoken", 147),
        ("claude-sonnet-4-6", "estimate", 152),
        ("gemini-3-pro", "tiktoken", 147),
    ],
)
def test_the_margin_is_as_wide_as_the_count_is_uncertain(model: str, source: Any, expected: int) -> None:
    class Counter(WordCounter):
        def source(self, model: str | None = None) -> Any:
            return source

    asked = request(Bounded(model_name=model))
    assert worst_case(asked, Counter(), max_output_tokens=None).input_tokens == expected


@pytest.mark.parametrize("wanted", [Weather, AutoStrategy(Weather), ToolStrategy(Weather), ProviderStrategy(Weather)])
def test_the_schema_of_a_structured_answer_is_input(wanted: Any) -> None:
    bare = worst_case(request(), TokenCounter(), max_output_tokens=None)
    found = worst_case(request(response_format=wanted), TokenCounter(), max_output_tokens=None)
    assert found.counted_tokens > bare.counted_tokens + 16


def test_the_real_counter_serves_as_well() -> None:
    found = worst_case(request(), TokenCounter(), max_output_tokens=None)
    assert found.input_tokens > found.counted_tokens > 0


# --- the answer ---


@pytest.mark.parametrize(
    ("model", "settings", "expected"),
    [
        (Bounded(), {}, DEFAULT_OUTPUT_TOKENS),
        (Bounded(profile={"max_output_tokens": 64_000}), {}, 64_000),
        (Bounded(max_tokens=500, profile={"max_output_tokens": 64_000}), {}, 500),
        (Bounded(max_tokens=500), {"max_tokens": 70}, 70),
        (Bounded(max_tokens=500), {"max_completion_tokens": 80}, 80),
        (Bounded(max_tokens=500), {"max_output_tokens": 90}, 90),
        (Bounded(), {"num_predict": -1}, DEFAULT_OUTPUT_TOKENS),
        (Bounded(max_tokens=500), {"max_tokens": None}, 500),
    ],
)
def test_the_longest_answer_is_the_nearest_bound(model: Any, settings: dict[str, Any], expected: int) -> None:
    found = worst(model, model_settings=settings)
    assert found.output_tokens == expected
    assert not found.bounded


def test_several_answers_count_several_times() -> None:
    assert worst(Bounded(max_tokens=500, n=3)).output_tokens == 1500
    assert worst(Bounded(max_tokens=500, n=3), model_settings={"n": 2}).output_tokens == 1000


def test_a_maximum_of_the_budget_is_told_to_the_model() -> None:
    found = worst(Bounded(max_tokens=500), most=200, model_settings={"temperature": 0})
    assert (found.output_tokens, found.bounded) == (200, True)
    before = request(model_settings={"temperature": 0})
    assert found.bind(before).model_settings == {"temperature": 0, "max_completion_tokens": 200}
    assert before.model_settings == {"temperature": 0}


def test_a_maximum_above_the_model_s_own_changes_nothing() -> None:
    found = worst(Bounded(max_tokens=500), most=2000)
    assert (found.output_tokens, found.bounded) == (500, False)
    before = request()
    assert found.bind(before) is before


def test_a_maximum_that_cannot_be_enforced_does_not_lower_what_is_known() -> None:
    assert worst(Bounded(provider="somebody", max_tokens=500), most=200).output_tokens == 500
    found = worst(Bounded(provider="somebody"), most=200)
    assert (found.output_tokens, found.bounded) == (200, False)


@pytest.mark.parametrize(
    ("provider", "settings", "name"),
    [
        ("openai", {}, "max_completion_tokens"),
        ("azure", {}, "max_completion_tokens"),
        ("anthropic", {}, "max_tokens"),
        ("openai", {"max_tokens": 900}, "max_tokens"),
        ("somebody", {"max_output_tokens": 900}, "max_output_tokens"),
    ],
)
def test_the_answer_is_bounded_by_the_provider_s_own_setting(
    provider: str, settings: dict[str, Any], name: str
) -> None:
    sent = request(Bounded(provider=provider), model_settings=settings)
    found = worst_case(sent, WordCounter(), max_output_tokens=None).clamped(300)
    assert found.bind(sent).model_settings == {name: 300}


def test_the_bound_holds_for_each_of_several_answers() -> None:
    found = worst(Bounded(max_tokens=500, n=3)).clamped(1000)
    assert found.output_tokens == 999
    assert found.bind(request()).model_settings == {"max_completion_tokens": 333}


def test_real_chat_models_understand_the_setting() -> None:
    anthropic = pytest.importorskip("langchain_anthropic")
    openai = pytest.importorskip("langchain_openai")
    claude = anthropic.ChatAnthropic(model="claude-sonnet-4-5", api_key="none")
    gpt = openai.ChatOpenAI(model="gpt-4o-mini", api_key="none", max_tokens=900)
    for model, sent_as in ((claude, "max_tokens"), (gpt, "max_completion_tokens")):
        bound = worst(model).clamped(300).bind(request(model)).model_settings
        payload = model._get_request_payload([HumanMessage("hi")], **bound)
        assert {name: value for name, value in payload.items() if "tokens" in name} == {sent_as: 300}


def test_a_thinking_budget_is_known() -> None:
    assert worst(Bounded(thinking={"type": "enabled", "budget_tokens": 2000})).thinking_tokens == 2000
    assert worst(model_settings={"thinking": {"type": "enabled", "budget_tokens": 3000}}).thinking_tokens == 3000
    assert worst().thinking_tokens == 0


# --- the price ---


def test_no_discount_and_the_premium_for_writing_to_an_explicit_cache() -> None:
    assert cost(RATES, 100, 10) == Amount(200_000, 110)
    assert cost(CLAUDE, 1_000_000, 1_000_000) == Amount(18_750_000_000, 2_000_000)
    assert cost(CLAUDE, 1_000_000, 0, long_cache=True).nano == 6_000_000_000
    assert cost(CLAUDE.without_caching(), 1_000_000, 0).nano == 3_000_000_000
    assert cost(None, 100, 10) == Amount(0, 110)


HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
MINUTES = {"cache_control": {"type": "ephemeral"}}


def text_with(mark: dict[str, Any]) -> list[str | dict[Any, Any]]:
    return [{"type": "text", "text": "hi", **mark}]


@pytest.mark.parametrize(
    "fields",
    [
        lambda mark: {"model_settings": mark},
        lambda mark: {"system_message": SystemMessage(text_with(mark))},
        lambda mark: {"tools": [{"name": "look", "input_schema": {}, **mark}]},
        lambda mark: {"tools": [look.model_copy(update={"extras": mark})]},
        lambda mark: {"model": Bounded().model_copy(update={"model_kwargs": mark})},
    ],
    ids=["settings", "system", "tool", "extras", "model"],
)
def test_the_one_hour_cache_is_seen_wherever_it_is_asked_for(fields: Callable[[Any], dict[str, Any]]) -> None:
    assert worst(**fields(HOUR)).long_cache
    assert not worst(**fields(MINUTES)).long_cache


def test_the_one_hour_cache_is_seen_in_a_message() -> None:
    for mark, expected in ((HOUR, True), (MINUTES, False)):
        asked = request().override(messages=[HumanMessage(text_with(mark)), HumanMessage("and this")])
        assert worst_case(asked, WordCounter(), max_output_tokens=None).long_cache is expected


def test_what_was_written_for_an_hour_costs_so_where_the_report_leaves_it_open() -> None:
    hour, open_, told = case(long_cache=True), usage(1_000, 0), usage(1_000, 0)
    open_["input_token_details"] = {"cache_read": 100, "cache_creation": 900}
    told["input_token_details"] = {"cache_creation": 0, "ephemeral_1h_input_tokens": 900}  # type: ignore[typeddict-unknown-key]
    assert CLAUDE.cost(hour.as_asked(open_)) == (100 * Decimal("0.3") + 900 * 6) / 10**6
    assert CLAUDE.cost(case().as_asked(open_)) == (100 * Decimal("0.3") + 900 * Decimal("3.75")) / 10**6
    assert hour.as_asked(told) is told
    assert hour.as_asked(usage(1_000, 0)) == usage(1_000, 0)


def test_a_large_prompt_is_reserved_at_the_price_for_large_ones() -> None:
    large = Rates(input=Decimal(2), output=Decimal(20))
    rates = Rates(input=Decimal(1), output=Decimal(10), tiers=((1_000, large),))
    assert case(1_000).amount(rates) == case(1_000).amount(RATES)
    assert case(1_001).amount(rates) == case(1_001).amount(large)
    left = Amount(2_002_000 + 20_000 * 7, MAX_AMOUNT)
    assert affordable_output(case(1_001), rates, left) == 7


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (Amount(1_100_000, MAX_AMOUNT), 100),
        (Amount(1_099_999, MAX_AMOUNT), 99),
        (Amount(100_000, MAX_AMOUNT), 0),
        (Amount(99_999, MAX_AMOUNT), -1),
        (Amount(MAX_AMOUNT, 150), 50),
        (Amount(MAX_AMOUNT, 50), -50),
        (Amount(1_100_000, 150), 50),
    ],
)
def test_what_is_left_buys_so_much_output(left: Amount, expected: int) -> None:
    assert affordable_output(case(100), RATES, left) == expected


def test_output_that_costs_nothing_is_bounded_by_tokens_only() -> None:
    free = Rates(input=Decimal(1), output=Decimal(0))
    assert affordable_output(case(100), free, Amount(100_000, 500)) == 400
    assert affordable_output(case(100), None, Amount(0, 500)) == 400


@given(
    tokens=st.integers(0, 10**6),
    left=st.integers(0, 10**13),
    price_in=st.decimals("0.001", 1000, places=4),
    price_out=st.decimals("0.001", 1000, places=4),
)
def test_the_affordable_output_is_the_longest_that_fits(
    tokens: int, left: int, price_in: Decimal, price_out: Decimal
) -> None:
    rates = Rates(input=price_in, output=price_out)
    fits = affordable_output(case(tokens), rates, Amount(left, MAX_AMOUNT))
    if fits >= 0:
        assert cost(rates, tokens, fits).nano <= left
        assert cost(rates, tokens, fits + 1).nano >= left
    else:
        assert cost(rates, tokens, 0).nano > left


def test_usage_with_details_is_priced_once() -> None:
    reported = usage(1_000_000, 1_000_000)
    reported["input_token_details"] = {"cache_read": 1_000_000}
    reported["output_token_details"] = {"reasoning": 900_000}
    assert CLAUDE.cost(reported) == Decimal("15.3")
