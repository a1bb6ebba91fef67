"""Budgets have booked what the provider says it billed, to the token and the nano-USD, and nothing stays held."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRetryMiddleware
from langchain_anthropic.middleware import AnthropicPromptCachingMiddleware
from langchain_core.messages import HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langgraph.checkpoint.memory import InMemorySaver

from langchain_tokopt import Pricing
from langchain_tokopt.budget import Budget, BudgetMiddleware
from langchain_tokopt.budget.bill import ESTIMATED
from langchain_tokopt.events import Reservation
from langchain_tokopt.pricing import to_nano
from tests.budget.figures import root
from tests.fakes import ListSink
from tests.providers.agents import RUNS, Run, apis, chat_model, run
from tests.providers.billing import Bill
from tests.providers.replies import Failure, Provider, Reply
from tests.providers.server import ProviderServer, Record
from tests.providers.weather import look_up, weather

HELLO = HumanMessage("How warm is it in Rome and Oslo?")
RULES = "Be brief, and say where you looked. " * 400  # long enough for any provider's prompt cache
ways = pytest.mark.parametrize("way", ["invoke", "stream"])
THINKS: dict[str, dict[str, Any]] = {
    "openai": {"model": "gpt-5-mini"},
    "responses": {"model": "gpt-5-mini", "reasoning": {"effort": "low", "summary": "auto"}},
    "anthropic": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
}
# Models whose price rises with the size of the prompt, and a prompt that is larger than that.
TIERS: dict[str, dict[str, Any]] = {
    "openai": {"model": "gpt-5.4"},
    "responses": {"model": "gpt-5.4"},
    "anthropic": {"model_name": "claude-haiku-5-5"},
}
LONG = "word " * 280_000


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


@pytest.fixture
def budget() -> Iterator[Budget]:
    one = Budget(usd="1000")
    yield one
    one.close()


def agent_of(name: Provider, server: ProviderServer, budget: Budget, sink: ListSink, **more: Any) -> Any:
    """An agent under the budget; `around` is middleware outside of it."""
    settings, around = more.pop("settings", {}), more.pop("around", [])
    model = chat_model(name, server, **settings)
    middleware = [*around, BudgetMiddleware(budget, sink=sink)]
    return create_agent(model, [weather], middleware=middleware, **more)


def price(record: Record) -> int:
    """Nano-USD for a request, by the provider's bill and the listed price for a prompt of its size."""
    bill = record.bill
    assert bill is not None
    details: Any = {
        "cache_read": bill.cache_read,
        "ephemeral_5m_input_tokens": bill.cache_write - bill.cache_write_1h,
        "ephemeral_1h_input_tokens": bill.cache_write_1h,
    }
    usage = UsageMetadata(
        input_tokens=bill.input, output_tokens=bill.output, total_tokens=bill.total, input_token_details=details
    )
    cost = Pricing().cost(usage, record.body["model"], record.provider.replace("responses", "openai"))
    assert cost is not None
    return to_nano(cost)


def assert_booked(budget: Budget, sink: ListSink, server: ProviderServer) -> None:
    """Spent is what was billed, nothing is held, and each call took no more than was reserved for it."""
    booked = root(budget)
    assert (booked["usd"]["held"], booked["tokens"]["held"], booked["calls"]["held"]) == (0, 0, 0)
    assert booked["tokens"]["spent"] == server.billed.total
    assert to_nano(booked["usd"]["spent"]) == sum(map(price, server.answered))
    assert booked["calls"]["spent"] == len(server.answered)
    assert_covered(sink, server)
    assert budget.reconcile() == []


def assert_covered(sink: ListSink, server: ProviderServer) -> None:
    reserved = [event for event in sink.of(Reservation) if event.action == "reserved"]
    for event, record in zip(reserved, server.records, strict=True):
        if record.bill is not None:
            assert record.bill.total <= (event.tokens or 0)
            assert price(record) <= to_nano(event.usd or Decimal(0))


def reasons(sink: ListSink) -> list[tuple[str, str | None]]:
    return [(event.action, event.reason) for event in sink.of(Reservation)]


# --- calls that succeed ----------------------------------------------------------------------------------------------


@apis
@pytest.mark.parametrize("kind", RUNS)
def test_a_run_is_booked_as_it_was_billed(
    provider: ProviderServer, budget: Budget, sink: ListSink, name: Provider, kind: Run
) -> None:
    provider.policy = look_up
    agent = agent_of(name, provider, budget, sink)
    assert run(kind, agent, [HELLO]).answer == "It is Rome: 21 c and Oslo: 21 c."
    assert len(provider.answered) == 2
    assert_booked(budget, sink, provider)


@apis
@ways
def test_cached_tokens_are_counted_once_and_at_their_price(
    provider: ProviderServer, budget: Budget, sink: ListSink, name: Provider, way: Run
) -> None:
    provider.policy = look_up
    caching = [AnthropicPromptCachingMiddleware()] if name == "anthropic" else []
    agent = agent_of(name, provider, budget, sink, around=caching, system_prompt=RULES, checkpointer=InMemorySaver())
    for _ in range(2):
        run(way, agent, [HELLO], {"configurable": {"thread_id": "1"}})
    assert provider.billed.cache_read > 5_000
    assert (provider.billed.cache_write > 0) == (name == "anthropic")
    assert_booked(budget, sink, provider)


@ways
def test_a_cache_of_one_hour_is_booked_at_its_price(
    provider: ProviderServer, budget: Budget, sink: ListSink, way: Run
) -> None:
    provider.policy = look_up
    caching = [AnthropicPromptCachingMiddleware(ttl="1h")]
    agent = agent_of("anthropic", provider, budget, sink, around=caching, system_prompt=RULES)
    run(way, agent, [HELLO])
    assert provider.billed.cache_write_1h > 2_000
    assert_booked(budget, sink, provider)


@apis
@ways
def test_reasoning_is_counted_once(
    provider: ProviderServer, budget: Budget, sink: ListSink, name: Provider, way: Run
) -> None:
    provider.policy = look_up
    agent = agent_of(name, provider, budget, sink, settings=THINKS[name])
    run(way, agent, [HELLO])
    assert provider.billed.reasoning > 0
    assert_booked(budget, sink, provider)


@apis
@ways
def test_a_long_prompt_is_reserved_and_booked_at_the_price_for_long_ones(
    provider: ProviderServer, budget: Budget, sink: ListSink, name: Provider, way: Run
) -> None:
    provider.script = ["Short.", "Long."]
    agent = agent_of(name, provider, budget, sink, settings=TIERS[name])
    run(way, agent, [HELLO])
    run(way, agent, [HumanMessage(LONG)])
    assert provider.answered[1].bill is not None
    assert provider.answered[1].bill.input > 272_000
    assert_booked(budget, sink, provider)


# --- calls that fail -------------------------------------------------------------------------------------------------


@apis
@ways
def test_what_the_client_tries_again_is_reserved_and_booked_once(
    provider: ProviderServer, budget: Budget, sink: ListSink, name: Provider, way: Run
) -> None:
    busy = Failure(status=429, retry_after="0.01")
    provider.script = [busy, busy, Reply(text="Warm.")]
    agent = agent_of(name, provider, budget, sink, settings={"max_retries": 2})
    assert run(way, agent, [HELLO]).answer == "Warm."
    assert [record.status for record in provider.records] == [429, 429, 200]
    assert [action for action, _ in reasons(sink)] == ["reserved", "settled"]
    provider.records[:] = provider.answered
    assert_booked(budget, sink, provider)
    provider.records.clear()  # a refusal is no mistake of this test's


@apis
@ways
def test_what_the_agent_tries_again_is_reserved_each_time_and_booked_once(
    provider: ProviderServer, budget: Budget, sink: ListSink, name: Provider, way: Run
) -> None:
    provider.script = [Failure(status=500), Failure(status=500), Reply(text="Warm.")]
    retry = ModelRetryMiddleware(max_retries=2, initial_delay=0, jitter=False)
    agent = agent_of(name, provider, budget, sink, around=[retry])
    assert run(way, agent, [HELLO]).answer == "Warm."
    assert [action for action, _ in reasons(sink)] == [
        "reserved",
        "released",
        "reserved",
        "released",
        "reserved",
        "settled",
    ]
    assert_booked(budget, sink, provider)


@apis
def test_a_stream_that_breaks_off_is_booked_with_its_input_and_what_was_seen(
    provider: ProviderServer, budget: Budget, sink: ListSink, name: Provider
) -> None:
    provider.script = [Reply(text="It is warm in Rome.", break_after=2), "It is warm."]
    agent = agent_of(name, provider, budget, sink)
    with pytest.raises(Exception, match=r"(?i)error|overloaded"):
        run("stream", agent, [HELLO])
    action, reason = reasons(sink)[-1]
    assert (action, str(reason).partition(" ")[2]) == ("settled", "in the middle of the answer")
    booked = sink.of(Reservation)[-1]
    assert 0 < root(budget)["tokens"]["spent"] == (booked.tokens or 0) < (sink.of(Reservation)[0].tokens or 0)
    assert root(budget)["usd"]["held"] == 0
    assert run("stream", agent, [HELLO]).answer == "It is warm."


@apis
@ways
def test_a_connection_that_breaks_leaves_nothing_held(
    provider: ProviderServer, budget: Budget, sink: ListSink, name: Provider, way: Run
) -> None:
    gate = threading.Event()
    provider.script = [Reply(text="It is warm.", gate=gate, pieces_before_gate=1)]
    agent = agent_of(name, provider, budget, sink, settings={"timeout": 0.2})
    if way == "invoke":
        provider.policy = lambda asked: Reply(text="Late." if gate.wait(20) else "Later.")
    with pytest.raises(Exception, match=r"(?i)timed? ?out"):
        run(way, agent, [HELLO])
    gate.set()
    assert provider.records[0].wait_ended()
    booked = root(budget)
    assert (booked["usd"]["held"], booked["tokens"]["held"], booked["calls"]["held"]) == (0, 0, 0)
    assert budget.reconcile() == []


@apis
async def test_a_cancelled_stream_is_booked_with_its_input_and_what_was_seen(
    provider: ProviderServer, budget: Budget, sink: ListSink, name: Provider
) -> None:
    gate = threading.Event()
    provider.script = [Reply(text="It is warm in Rome, and cold in Oslo.", gate=gate, pieces_before_gate=3)]
    agent = agent_of(name, provider, budget, sink)
    seen: list[str] = []

    async def read() -> None:
        async for chunk, _ in agent.astream({"messages": [HELLO]}, stream_mode="messages"):
            seen.append(chunk.text)

    task = asyncio.create_task(read())
    while "warm" not in "".join(seen):
        assert not task.done()
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    assert await asyncio.to_thread(provider.records[0].wait_ended)
    booked = root(budget)
    assert (booked["usd"]["held"], booked["tokens"]["held"], booked["calls"]["held"]) == (0, 0, 0)
    assert reasons(sink)[-1] == ("settled", "CancelledError: input and what was seen of the answer")
    assert_covered(sink, provider)
    # No client reports the input before the end: both are estimated.
    assert 0 < booked["tokens"]["spent"] <= (sink.of(Reservation)[0].tokens or 0)


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_without_usage_what_was_streamed_is_estimated(
    provider: ProviderServer, budget: Budget, sink: ListSink, way: Run
) -> None:
    provider.script = ["It is warm in Rome, and cold in Oslo."]
    agent = agent_of("openai", provider, budget, sink, settings={"stream_usage": False})
    run(way, agent, [HELLO])
    assert "stream_options" not in provider.records[0].body
    assert reasons(sink)[-1] == ("settled", ESTIMATED)
    booked = root(budget)
    assert booked["usd"]["held"] == 0
    reserved, settled = sink.of(Reservation)
    assert 0 < booked["tokens"]["spent"] == settled.tokens
    assert (settled.tokens or 0) <= (reserved.tokens or 0)


# --- many at once ----------------------------------------------------------------------------------------------------


@apis
def test_many_agents_under_one_limit_are_billed_no_more_than_it(
    provider: ProviderServer, sink: ListSink, name: Provider, at_once: Callable[..., Any]
) -> None:
    provider.policy = lambda asked: Reply(text="Warm. " * 20)
    limit = "0.03" if name == "anthropic" else "0.003"
    budget = Budget(usd=limit, max_output_tokens=300, on_exceeded="end")
    agent = agent_of(name, provider, budget, sink)
    answers = at_once(24, lambda _: run("stream", agent, [HELLO]).answer)
    assert_booked_within(budget, provider)
    made = sum(answer.startswith("Warm.") for answer in answers)
    assert made == len(provider.answered) < 24
    budget.close()


def assert_booked_within(budget: Budget, server: ProviderServer) -> None:
    booked = root(budget)["usd"]
    assert booked["held"] == 0
    assert to_nano(booked["spent"]) == sum(map(price, server.answered))
    assert booked["spent"] <= booked["limit"]


@pytest.fixture
def at_once() -> Callable[..., list[Any]]:
    """Call a function in many threads at once; what each returned."""

    def calls(count: int, work: Callable[[int], Any]) -> list[Any]:
        found: list[Any] = [None] * count

        def one(number: int) -> None:
            found[number] = work(number)

        threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    return calls


def test_the_price_of_a_bill_is_that_of_its_parts() -> None:
    record = Record("anthropic", b"", {}, body={"model": "claude-sonnet-4-6"})
    record.bill = Bill(input=10_000, output=1_000, cache_read=4_000, cache_write=3_000, cache_write_1h=1_000)
    # 3,000 plain at 3, 4,000 read at 0.30, 2,000 written at 3.75 and 1,000 at 6, 1,000 out at 15 USD per million.
    assert price(record) == 3_000 * 3_000 + 4_000 * 300 + 2_000 * 3_750 + 1_000 * 6_000 + 1_000 * 15_000
