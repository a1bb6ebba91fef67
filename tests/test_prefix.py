from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.prefix import (
    PrefixUse,
    PromptCache,
    Segment,
    caching_enabled,
    change_pays,
    rates_in_use,
    segments,
    split,
)
from langchain_tokopt.pricing import Rates
from langchain_tokopt.tokens import PER_REPLY, TokenCounter
from tests.fakes import FakeClock, ScriptedModel

OPENAI = Rates(
    provider="openai",
    model="gpt-4o",
    input=Decimal("2.5"),
    output=Decimal(10),
    cache_read=Decimal("1.25"),
    caching="automatic",
    min_cache_tokens=1024,
    cache_increment=128,
    cache_ttl_seconds=300.0,
)
OPENAI_WITH_WRITES = replace(OPENAI, model="gpt-6-sol", cache_write=Decimal(3), cache_increment=1)
ANTHROPIC = Rates(
    provider="anthropic",
    model="claude-sonnet-4-5",
    input=Decimal(3),
    output=Decimal(15),
    cache_read=Decimal("0.3"),
    cache_write=Decimal("3.75"),
    cache_write_1h=Decimal(6),
    caching="explicit",
    min_cache_tokens=1024,
    cache_ttl_seconds=300.0,
)
UNCACHED = Rates(provider="acme", model="plain", input=Decimal(2), output=Decimal(4))


def prompt(*sizes: int | tuple[str, int]) -> tuple[Segment, ...]:
    """Segments of these sizes; each is known by its place, or by the name that stands before its size."""
    named = [size if isinstance(size, tuple) else (str(at), size) for at, size in enumerate(sizes)]
    return tuple(Segment(name.encode(), size) for name, size in named)


@tool
def look(at: int) -> str:
    """Look at it."""
    return str(at)


@tool
def see() -> str:
    """See."""
    return ""


def request(**fields: Any) -> ModelRequest[Any]:
    defaults: dict[str, Any] = {"model": ScriptedModel(model_name="gpt-4o"), "messages": [HumanMessage("Hello there")]}
    return ModelRequest(**{**defaults, **fields})


# --- segments --------------------------------------------------------------------------------------------------------


class Answer(BaseModel):
    """The answer."""

    text: str


def test_segments_come_in_the_order_of_the_prefix() -> None:
    counter = TokenCounter()
    messages = [HumanMessage("Hello"), AIMessage("Hi!"), HumanMessage("How are you?")]
    whole = request(messages=messages, system_prompt="Be kind.", tools=[look, see], response_format=Answer)
    parts = segments(whole, counter)
    assert len(parts) == 2 + 1 + 1 + 3
    assert parts[:2] == segments(request(messages=[], tools=[look, see]), counter)
    assert parts[3:] == segments(request(messages=messages, system_prompt="Be kind."), counter)
    assert parts[-3:] == segments(request(messages=messages), counter)


@pytest.mark.parametrize("model", ["gpt-4o", "claude-sonnet-4-5", "mistral-large"])
def test_segments_have_the_tokens_of_the_request(model: str) -> None:
    counter = TokenCounter()
    whole = request(
        model=ScriptedModel(model_name=model), system_prompt="Be kind.", tools=[look, see], response_format=Answer
    )
    assert sum(part.tokens for part in segments(whole, counter)) == counter.request(whole).total - PER_REPLY


def test_segments_of_nothing() -> None:
    assert segments(request(messages=[]), TokenCounter()) == ()


def test_appending_leaves_the_segments_before_it_as_they_were() -> None:
    counter = TokenCounter()
    call = {"type": "tool_call", "name": "look", "args": {"at": 1}, "id": "c1"}
    history = [HumanMessage("Look", id="1"), AIMessage("", tool_calls=[call], id="2")]
    before = segments(request(messages=history, tools=[look]), counter)
    again = [HumanMessage("Look", id="other"), AIMessage("", tool_calls=[call], response_metadata={"x": 1})]
    after = segments(request(messages=[*again, ToolMessage("1", tool_call_id="c1")], tools=[look]), counter)
    assert after[: len(before)] == before
    assert len(after) == len(before) + 1


def test_order_of_tools_matters() -> None:
    counter = TokenCounter()
    one, other = (segments(request(tools=tools), counter) for tools in ([look, see], [see, look]))
    assert one[0].digest != other[0].digest
    assert {part.digest for part in one} == {part.digest for part in other}


# --- split -----------------------------------------------------------------------------------------------------------


def test_first_call_has_nothing_to_read() -> None:
    assert split(None, prompt(2000), OPENAI) == PrefixUse(0, 0, 2000)
    assert split(None, prompt(2000), ANTHROPIC) == PrefixUse(0, 2000, 0)
    assert split(None, prompt(2000), UNCACHED) == PrefixUse(0, 0, 2000)


def test_shared_beginning_is_read() -> None:
    before, now = prompt(1000, 1000), prompt(1000, 1000, 500)
    assert split(before, now, OPENAI) == PrefixUse(1920, 0, 580)  # 15 times 128
    assert split(before, now, OPENAI_WITH_WRITES) == PrefixUse(2000, 500, 0)
    assert split(before, now, ANTHROPIC) == PrefixUse(2000, 500, 0)
    assert split(before, now, UNCACHED) == PrefixUse(0, 0, 2500)


def test_nothing_behind_the_first_change_is_read() -> None:
    before, now = prompt(2000, 1000, 1000), prompt(2000, ("changed", 500), ("2", 1000))
    assert split(before, now, ANTHROPIC) == PrefixUse(2000, 1500, 0)


def test_shared_beginning_below_the_minimum_is_not_read() -> None:
    before, now = prompt(1023, 5000), prompt(1023, ("changed", 2000))
    assert split(before, now, OPENAI) == PrefixUse(0, 0, 3023)
    assert split(before, now, ANTHROPIC) == PrefixUse(0, 3023, 0)


def test_prompt_below_the_minimum_is_neither_read_nor_written() -> None:
    assert split(prompt(500, 500), prompt(500, 500), OPENAI) == PrefixUse(0, 0, 1000)
    assert split(prompt(500, 500), prompt(500, 500), ANTHROPIC) == PrefixUse(0, 0, 1000)


def test_cost_of_a_split() -> None:
    assert PrefixUse(1_000_000, 2_000_000, 3_000_000).cost(ANTHROPIC) == Decimal("0.3") + Decimal("7.5") + 9


PARTS = st.lists(st.builds(Segment, st.sampled_from([b"a", b"b", b"c", b"d"]), st.integers(0, 5000)), max_size=12)
RATES = st.builds(
    Rates,
    input=st.decimals(0, 100, places=3),
    output=st.decimals(0, 100, places=3),
    cache_read=st.decimals(0, 100, places=3),
    cache_write=st.decimals(0, 100, places=3),
    caching=st.sampled_from(["automatic", "explicit", "none"]),
    min_cache_tokens=st.integers(0, 5000),
    cache_increment=st.integers(1, 300),
)


@given(st.none() | PARTS, PARTS, RATES)
def test_every_token_is_billed_in_one_way(previous: Any, now: Any, rates: Rates) -> None:
    use = split(previous, now, rates)
    assert use.total == sum(part.tokens for part in now)
    assert min(use.read, use.write, use.plain) >= 0
    assert use.cost(rates) >= 0
    assert use.read % rates.cache_increment == 0


@given(PARTS, PARTS, RATES, st.integers(0, 12))
def test_the_more_was_sent_before_the_more_is_read(previous: Any, now: Any, rates: Rates, cut: int) -> None:
    assert split(previous[:cut], now, rates).read <= split(previous, now, rates).read <= split(now, now, rates).read


@given(PARTS, PARTS, RATES)
def test_what_is_read_was_sent(previous: Any, now: Any, rates: Rates) -> None:
    shared = 0
    for before, after in zip(previous, now, strict=False):
        if before.digest != after.digest:
            break
        shared += after.tokens
    assert split(previous, now, rates).read <= shared


# --- change_pays -----------------------------------------------------------------------------------------------------


def test_cut_in_the_cached_part_pays_only_over_enough_calls() -> None:
    # 4,000 tokens taken out before a tail of 8,000: saves 4,000 * 0.30 a call, and costs 8,000 * 3.45 once.
    before, after = prompt(2000, 4000, 8000), prompt(2000, ("2", 8000))

    def verdict(calls_expected: int) -> Any:
        return change_pays(
            previous=before, unchanged=before, changed=after, rates=ANTHROPIC, calls_expected=calls_expected
        )

    assert not verdict(0).pays
    assert not verdict(21).pays
    assert verdict(22).saved_usd == (Decimal(23 * 4000) * Decimal("0.3") - 8000 * Decimal("3.45")) / 1_000_000
    assert not verdict(22).saved_usd
    assert not verdict(22).pays
    assert verdict(23).pays


@given(
    prefix=st.integers(0, 20_000),
    cut=st.integers(1, 20_000),
    tail=st.integers(0, 20_000),
    newest=st.integers(0, 5_000),
    calls=st.integers(0, 60),
    read=st.decimals("0.01", 5, places=2),
    write=st.decimals("0.01", 20, places=2),
)
def test_break_even_rule(
    prefix: int, cut: int, tail: int, newest: int, calls: int, read: Decimal, write: Decimal
) -> None:
    """`G * H * r > T * (w - r)`: the tail was sent before and is written again, the newest message is new anyway."""
    assume(write >= read)
    rates = Rates(input=write, output=write, cache_read=read, cache_write=write, caching="explicit")
    before = prompt(("p", prefix), ("g", cut), ("t", tail))
    now = (*before, Segment(b"new", newest))
    changed = tuple(part for part in now if part.digest != b"g")
    verdict = change_pays(previous=before, unchanged=now, changed=changed, rates=rates, calls_expected=calls)
    gained, paid = cut * (calls + 1) * read, tail * (write - read)
    assert verdict.saved_usd == (gained - paid) / 1_000_000
    assert verdict.pays is (gained > paid)
    assert verdict.saved_usd == verdict.before_usd - verdict.after_usd


def test_cut_of_what_is_not_cached_yet_always_pays() -> None:
    before = prompt(5000)
    verdict = change_pays(
        previous=before, unchanged=prompt(5000, 3000), changed=prompt(5000, 100), rates=ANTHROPIC, calls_expected=0
    )
    assert verdict.saved_usd == 2900 * Decimal("3.75") / 1_000_000


def test_without_caching_every_cut_pays() -> None:
    before = prompt(2000, 4000, 8000)
    verdict = change_pays(
        previous=before, unchanged=before, changed=prompt(2000, ("2", 8000)), rates=UNCACHED, calls_expected=2
    )
    assert verdict.saved_usd == 3 * 4000 * Decimal(2) / 1_000_000


def test_cut_below_the_smallest_prompt_that_is_cached_can_cost_more() -> None:
    # 1,100 tokens are read at 0.30; the 1,000 that are left are no longer cached and cost 3.00.
    before = prompt(100, 1000)
    verdict = change_pays(
        previous=before, unchanged=before, changed=prompt(("1", 1000)), rates=ANTHROPIC, calls_expected=10
    )
    assert verdict.before_usd == 11 * 1100 * Decimal("0.3") / 1_000_000
    assert verdict.after_usd == 11 * 1000 * Decimal(3) / 1_000_000
    assert not verdict.pays


def test_nothing_changed_saves_nothing() -> None:
    before = prompt(2000, 4000)
    verdict = change_pays(previous=None, unchanged=before, changed=before, rates=OPENAI, calls_expected=3)
    assert (verdict.pays, verdict.saved_usd) == (False, Decimal(0))


def test_without_a_price_tokens_decide() -> None:
    before = prompt(2000, 4000, 8000)
    verdict = change_pays(
        previous=before, unchanged=before, changed=prompt(2000, ("2", 8000)), rates=None, calls_expected=1
    )
    assert verdict.pays
    assert verdict.saved_usd == Decimal("0.008")
    assert verdict.reason == (
        "The change saves 8,000 tokens over this call and 1 more: this call 10,000 tokens instead of 14,000 tokens, "
        "each later one 10,000 tokens instead of 14,000 tokens. The price of the model is not known, so tokens were "
        "compared."
    )


def test_reason_names_the_figures() -> None:
    before = prompt(2000, 4000, 8000)
    verdict = change_pays(
        previous=before, unchanged=before, changed=prompt(2000, ("2", 8000)), rates=ANTHROPIC, calls_expected=5
    )
    assert verdict.reason == (
        "The change costs $0.020400 more over this call and 5 more: this call $0.030600 instead of $0.004200, "
        "each later one $0.003000 instead of $0.004200."
    )


def test_calls_expected_below_zero_count_as_none() -> None:
    before = prompt(2000, 4000)
    arguments: dict[str, Any] = {"previous": None, "unchanged": before, "changed": prompt(2000), "rates": OPENAI}
    assert change_pays(**arguments, calls_expected=-3) == change_pays(**arguments, calls_expected=0)


@given(PARTS, PARTS, PARTS, RATES, st.integers(0, 50))
def test_verdict_is_consistent_for_any_prompts(previous: Any, now: Any, changed: Any, rates: Rates, calls: int) -> None:
    verdict = change_pays(previous=previous, unchanged=now, changed=changed, rates=rates, calls_expected=calls)
    assert min(verdict.before_usd, verdict.after_usd) >= 0
    assert verdict.pays is (verdict.after_usd < verdict.before_usd)
    back = change_pays(previous=previous, unchanged=changed, changed=now, rates=rates, calls_expected=calls)
    assert back.saved_usd == -verdict.saved_usd


# --- is it cached? ---------------------------------------------------------------------------------------------------

MARK = {"cache_control": {"type": "ephemeral"}}
MARKED: list[str | dict[Any, Any]] = [{"type": "text", "text": "Hi", **MARK}]


@pytest.mark.parametrize(
    "fields",
    [
        {"model_settings": MARK},
        {"system_message": SystemMessage(MARKED)},
        {"messages": [HumanMessage("Hi"), HumanMessage(MARKED)]},
        {"messages": [HumanMessage([{"type": "text", "text": "Hi"}, {"cachePoint": {"type": "default"}}])]},
        {"tools": [look.model_copy(update={"extras": MARK})]},
        {"tools": [{"name": "a", "input_schema": {"type": "object"}, **MARK}]},
    ],
)
def test_explicit_caching_takes_place_where_the_request_asks_for_it(fields: dict[str, Any]) -> None:
    assert caching_enabled(request(**fields), ANTHROPIC)
    assert rates_in_use(request(**fields), ANTHROPIC) == ANTHROPIC


def test_setting_that_the_model_was_built_with_asks_for_it_too() -> None:
    class Built(ScriptedModel):
        model_kwargs: dict[str, Any] = MARK

    assert caching_enabled(request(model=Built()), ANTHROPIC)
    assert not caching_enabled(request(model=Built(), model_settings={"cache_control": None}), ANTHROPIC)


def test_explicit_caching_is_off_where_nobody_asks_for_it() -> None:
    plain = request(system_prompt="Be kind.", tools=[look], messages=[HumanMessage([{"type": "text", "text": "Hi"}])])
    assert not caching_enabled(plain, ANTHROPIC)
    assert rates_in_use(plain, ANTHROPIC) == ANTHROPIC.without_caching()


def test_automatic_caching_needs_no_asking() -> None:
    assert caching_enabled(request(), OPENAI)
    assert rates_in_use(request(), OPENAI) == OPENAI
    assert not caching_enabled(request(model_settings=MARK), UNCACHED)


def test_lifetime_that_the_request_asks_for() -> None:
    hour = rates_in_use(request(model_settings={"cache_control": {"type": "ephemeral", "ttl": "1h"}}), ANTHROPIC)
    assert (hour.cache_write, hour.cache_ttl_seconds) == (Decimal(6), 3600.0)
    day = rates_in_use(request(model_settings={"prompt_cache_retention": "24h"}), OPENAI)
    assert day == replace(OPENAI, cache_ttl_seconds=86_400.0)


# --- PromptCache -----------------------------------------------------------------------------------------------------


def test_cache_reads_what_was_sent_and_writes_the_rest() -> None:
    cache = PromptCache(clock=FakeClock())
    assert cache.observe(prompt(2000), ANTHROPIC) == PrefixUse(0, 2000, 0)
    assert cache.observe(prompt(2000, 500), ANTHROPIC) == PrefixUse(2000, 500, 0)
    assert cache.observe(prompt(2000, ("other", 700)), ANTHROPIC) == PrefixUse(2000, 700, 0)
    assert cache.observe(prompt(2000, 500, 100), ANTHROPIC) == PrefixUse(2500, 100, 0)


def test_prefix_is_kept_for_its_lifetime_from_its_last_use() -> None:
    clock = FakeClock()
    cache = PromptCache(clock=clock)
    cache.observe(prompt(2000, 500), ANTHROPIC)
    clock.advance(299)
    assert cache.observe(prompt(2000), ANTHROPIC).read == 2000
    clock.advance(299)
    assert cache.observe(prompt(2000, 500), ANTHROPIC) == PrefixUse(2000, 500, 0)  # only the shorter one was used again
    clock.advance(300)
    assert cache.observe(prompt(2000, 500), ANTHROPIC) == PrefixUse(0, 2500, 0)


def test_scopes_providers_and_models_share_nothing() -> None:
    cache = PromptCache(clock=FakeClock())
    cache.observe(prompt(2000), ANTHROPIC, "a")
    assert cache.observe(prompt(2000), ANTHROPIC, "b").read == 0
    assert cache.observe(prompt(2000), replace(ANTHROPIC, model="other"), "a").read == 0
    assert cache.observe(prompt(2000), replace(ANTHROPIC, provider="other"), "a").read == 0
    assert cache.observe(prompt(2000), ANTHROPIC, "a").read == 2000


def test_same_pieces_behind_another_beginning_are_not_read() -> None:
    cache = PromptCache(clock=FakeClock())
    cache.observe(prompt(("x", 100), ("y", 5000)), ANTHROPIC)
    assert cache.observe(prompt(("z", 100), ("y", 5000)), ANTHROPIC).read == 0


def test_cache_without_room_forgets_what_was_not_used_for_longest() -> None:
    cache = PromptCache(max_entries=2, clock=FakeClock())
    for name in ("a", "b", "a", "c"):
        cache.observe(prompt((name, 2000)), ANTHROPIC)
    assert len(cache) == 2
    assert cache.observe(prompt(("a", 2000)), ANTHROPIC).read == 2000
    assert cache.observe(prompt(("b", 2000)), ANTHROPIC).read == 0


def test_of_one_prompt_the_longest_prefix_is_forgotten_first() -> None:
    cache = PromptCache(max_entries=2, clock=FakeClock())
    cache.observe(prompt(2000, 500, 500), ANTHROPIC)
    assert cache.observe(prompt(2000, 500, 500), ANTHROPIC) == PrefixUse(2500, 500, 0)


def test_cache_needs_room() -> None:
    with pytest.raises(ConfigurationError, match="max_entries=0"):
        PromptCache(max_entries=0)


def test_prompt_of_nothing() -> None:
    assert PromptCache(clock=FakeClock()).observe((), ANTHROPIC) == PrefixUse(0, 0, 0)


@given(st.lists(st.tuples(PARTS, st.sampled_from(["", "a"]), st.integers(0, 400)), max_size=8), RATES)
def test_cache_never_reads_more_than_was_sent_to_it(calls: list[Any], rates: Rates) -> None:
    clock = FakeClock()
    cache = PromptCache(max_entries=20, clock=clock)
    sent: list[tuple[str, Any]] = []
    for parts, scope, wait in calls:
        clock.advance(wait)
        use = cache.observe(parts, rates, scope)
        assert use.total == sum(part.tokens for part in parts)
        best = max((split(earlier, parts, rates).read for other, earlier in sent if other == scope), default=0)
        assert use.read <= best
        assert len(cache) <= 20
        sent.append((scope, parts))


def test_threads_share_the_cache() -> None:
    cache = PromptCache(max_entries=10_000, clock=FakeClock())
    common = prompt(3000)
    cache.observe(common, ANTHROPIC)

    def converse(thread: int) -> list[PrefixUse]:
        uses, history = [], common
        for turn in range(40):
            history = (*history, Segment(f"{thread}/{turn}".encode(), 10))
            uses.append(cache.observe(history, ANTHROPIC))
        return uses

    with ThreadPoolExecutor(8) as pool:
        for uses in pool.map(converse, range(8)):
            assert uses == [PrefixUse(3000 + 10 * turn, 10, 0) for turn in range(40)]
    assert len(cache) == 1 + 8 * 40


def test_threads_that_push_each_other_out_leave_the_cache_whole() -> None:
    cache = PromptCache(max_entries=50, clock=FakeClock())

    def work(thread: int) -> bool:
        return all(
            cache.observe(prompt(*((f"{thread}/{turn}/{at}", 100) for at in range(20))), ANTHROPIC).total == 2000
            for turn in range(30)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert len(cache) == 50
