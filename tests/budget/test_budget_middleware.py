"""The budget around real agents: every attempt counts, nothing stays held, and a refusal does what was asked for."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRetryMiddleware
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain.agents.structured_output import AutoStrategy, ProviderStrategy, StructuredOutputError, ToolStrategy
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from langchain_tokopt.budget import (
    Budget,
    BudgetMiddleware,
    BudgetStoreError,
    Limit,
    UnknownNodeError,
    UnknownPriceError,
)
from langchain_tokopt.budget.watch import active_watch
from langchain_tokopt.database import Database
from langchain_tokopt.errors import BudgetExceededError, ConfigurationError
from langchain_tokopt.events import Failure, Reservation
from langchain_tokopt.model import OptimizedChatModel
from langchain_tokopt.pricing import Pricing, Rates
from tests.budget.figures import COUNTED, INPUT, PRICING, WordCounter, root, scopes
from tests.fakes import ListSink, ScriptedModel, ai

HI: Any = {"messages": [HumanMessage("hi")]}
# What one call of the scripted model costs: 100 tokens in, 50 out.
ANSWER = ai("done", input_tokens=100, output_tokens=50)
PRICE = Decimal("0.0006")


class Weather(BaseModel):
    """Weather."""

    city: str


@tool
def look(place: str) -> str:
    """Look at a place."""
    return f"nothing in {place}"


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


@pytest.fixture
def make() -> Iterator[Callable[..., Budget]]:
    made: list[Budget] = []

    def budget(**settings: Any) -> Budget:
        made.append(Budget(**{"pricing": PRICING, "counter": WordCounter(), "max_output_tokens": 100, **settings}))
        return made[-1]

    yield budget
    for one in made:
        one.close()


def spent(budget: Budget) -> Decimal:
    """What was spent, once nothing is held any more."""
    assert root(budget)["usd"]["held"] == 0
    assert root(budget)["tokens"]["held"] == 0
    found: Decimal = root(budget)["usd"]["spent"]
    return found


def actions(sink: ListSink) -> list[str]:
    return [event.action for event in sink.of(Reservation)]


# --- plain calls ---


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_call_is_reserved_and_settled_with_what_the_provider_reports(
    make: Callable[..., Budget], sink: ListSink, is_async: bool
) -> None:
    budget = make(usd="1")
    model = ScriptedModel(responses=[ANSWER])
    agent = create_agent(model, middleware=[BudgetMiddleware(budget, sink=sink)])
    result = await agent.ainvoke(HI) if is_async else agent.invoke(HI)
    assert result["messages"][-1].text == "done"
    assert spent(budget) == PRICE
    reserved, settled = sink.of(Reservation)
    assert (reserved.action, reserved.tokens, reserved.usd) == ("reserved", INPUT + 100, Decimal("0.001137"))
    assert (settled.action, settled.tokens, settled.usd, settled.reason) == ("settled", 150, PRICE, None)
    assert settled.who.node == "model"
    assert reserved.request == settled.request is not None
    assert model.calls[0].kwargs == {"max_completion_tokens": 100}


@pytest.mark.parametrize("is_async", [False, True])
async def test_fifty_calls_at_once_spend_no_more_than_the_limit(
    make: Callable[..., Budget], sink: ListSink, is_async: bool
) -> None:
    # Each call costs 0.20 USD, and its input is free: what is reserved is what is spent.
    pricing = Pricing(overrides={"gpt-4o-mini": Rates(input=Decimal(0), output=Decimal(2000))})
    budget = make(usd="1", pricing=pricing)
    model = ScriptedModel(responses=[ai("done", input_tokens=100, output_tokens=100)])
    agent = create_agent(model, middleware=[BudgetMiddleware(budget, sink=sink)])
    inputs: list[Any] = [HI] * 50
    if is_async:
        results = await agent.abatch(inputs, return_exceptions=True)
    else:
        results = agent.batch(inputs, return_exceptions=True)
    assert Counter(type(result).__name__ for result in results) == {"dict": 5, "CallRefusedError": 45}
    assert len(model.calls) == 5
    assert spent(budget) == 1
    assert Counter(actions(sink)) == {"reserved": 5, "settled": 5, "refused": 45}


def test_without_usage_the_answer_is_estimated_and_said_so(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(usd="1")
    agent = create_agent(
        ScriptedModel(responses=["three words long"]), middleware=[BudgetMiddleware(budget, sink=sink)]
    )
    agent.invoke(HI)
    assert spent(budget) == Decimal("0.00013")
    assert sink.of(Reservation)[1].reason == "the provider reported no usage: estimated"


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_stream_without_usage_is_estimated(make: Callable[..., Budget], sink: ListSink, is_async: bool) -> None:
    budget = make(usd="1")
    agent = create_agent(
        ScriptedModel(responses=["three words long"]), middleware=[BudgetMiddleware(budget, sink=sink)]
    )
    if is_async:
        parts = [part async for part in agent.astream(HI, stream_mode="messages")]
    else:
        parts = list(agent.stream(HI, stream_mode="messages"))
    assert len(parts) > 2
    assert spent(budget) == Decimal("0.00013")
    assert sink.of(Reservation)[1].reason == "the provider reported no usage: estimated"


def test_a_stream_that_is_closed_early_is_booked_in_full(make: Callable[..., Budget]) -> None:
    budget = make(usd="1")
    answer = ai("one two three four", input_tokens=100, output_tokens=50)
    agent = create_agent(ScriptedModel(responses=[answer]), middleware=[BudgetMiddleware(budget)])
    stream: Any = agent.stream(HI, stream_mode="messages")
    next(stream)
    stream.close()
    assert spent(budget) == PRICE


def test_the_input_as_the_provider_counts_it_includes_what_was_cached(make: Callable[..., Budget]) -> None:
    budget = make(usd="1")
    answer = ai("done", input_tokens=100, output_tokens=50, cache_read=90)
    create_agent(ScriptedModel(responses=[answer]), middleware=[BudgetMiddleware(budget)]).invoke(HI)
    assert spent(budget) == PRICE
    assert root(budget)["tokens"]["spent"] == 150


def test_an_answer_from_langchain_s_own_cache_is_free(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(usd="1")
    model = ScriptedModel(responses=[ANSWER], cache=InMemoryCache())
    agent = create_agent(model, middleware=[BudgetMiddleware(budget, sink=sink)])
    messages: Any = {"messages": [HumanMessage("hi", id="always the same")]}
    agent.invoke(messages)
    agent.invoke(messages)
    assert len(model.calls) == 1
    assert spent(budget) == PRICE
    assert actions(sink) == ["reserved", "settled", "reserved", "released"]
    assert sink.of(Reservation)[3].reason == "answered by LangChain's own cache"


def test_a_model_that_keeps_its_own_turn_is_called_as_it_is(make: Callable[..., Budget]) -> None:
    budget = make(usd="1", max_output_tokens=None)
    model = GenericFakeChatModel(messages=iter([AIMessage("first"), AIMessage("second")]))
    agent = create_agent(model, middleware=[BudgetMiddleware(budget)])
    assert [agent.invoke(HI)["messages"][-1].text for _ in range(2)] == ["first", "second"]


# --- errors, interrupts, cancellation ---


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_error_of_the_provider_releases(make: Callable[..., Budget], sink: ListSink, is_async: bool) -> None:
    budget = make(usd="1")
    agent = create_agent(
        ScriptedModel(responses=[ConnectionError("down")]), middleware=[BudgetMiddleware(budget, sink=sink)]
    )
    with pytest.raises(ConnectionError, match="down"):
        await agent.ainvoke(HI) if is_async else agent.invoke(HI)
    assert spent(budget) == 0
    assert actions(sink) == ["reserved", "released"]
    assert sink.of(Reservation)[1].reason == "ConnectionError"


class Broken(ScriptedModel):
    """Streams two words, and then the connection breaks."""

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        for word in ("one ", "two "):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        raise ConnectionError("cut")


def test_an_error_in_the_middle_of_a_stream_books_the_input_and_what_was_seen(
    make: Callable[..., Budget], sink: ListSink
) -> None:
    budget = make(usd="1")
    agent = create_agent(Broken(), middleware=[BudgetMiddleware(budget, sink=sink)])
    with pytest.raises(ConnectionError, match="cut"):
        list(agent.stream(HI, stream_mode="messages"))
    assert spent(budget) == Decimal("0.00012")
    assert sink.of(Reservation)[1].reason == "ConnectionError in the middle of the answer"


def test_an_interrupt_before_the_model_releases(make: Callable[..., Budget], sink: ListSink) -> None:
    class Ask(AgentMiddleware):
        def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[..., Any]) -> Any:
            interrupt("may I?")
            return handler(request)

    budget = make(usd="1")
    model = ScriptedModel(responses=[ANSWER])
    agent = create_agent(model, middleware=[BudgetMiddleware(budget, sink=sink), Ask()], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    assert agent.invoke(HI, config)["__interrupt__"][0].value == "may I?"
    assert spent(budget) == 0
    assert actions(sink) == ["reserved", "released"]
    assert agent.invoke(Command(resume="yes"), config)["messages"][-1].text == "done"
    assert spent(budget) == PRICE


def test_an_interrupt_after_the_answer_books_it_each_time(make: Callable[..., Budget]) -> None:
    class Ask(AgentMiddleware):
        def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[..., Any]) -> Any:
            response = handler(request)
            interrupt("is that right?")
            return response

    budget = make(usd="1")
    agent = create_agent(
        ScriptedModel(responses=[ANSWER]), middleware=[BudgetMiddleware(budget), Ask()], checkpointer=InMemorySaver()
    )
    config: Any = {"configurable": {"thread_id": "t"}}
    agent.invoke(HI, config)
    assert spent(budget) == PRICE
    agent.invoke(Command(resume="yes"), config)
    assert spent(budget) == 2 * PRICE


class Slow(ScriptedModel):
    """Streams two words and then waits for ever."""

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        for word in ("one ", "two "):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        await asyncio.Event().wait()

    async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.Event().wait()


async def until(task: asyncio.Task[Any], condition: Callable[[], bool]) -> None:
    while not condition():
        assert not task.done(), task
        await asyncio.sleep(0.005)


async def test_a_cancelled_stream_is_booked_with_what_was_seen(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(usd="1")
    agent = create_agent(Slow(), middleware=[BudgetMiddleware(budget, sink=sink)])
    seen: list[str] = []

    async def read() -> None:
        parts: AsyncIterator[Any] = agent.astream(HI, stream_mode="messages")
        async for message, _ in parts:
            seen.append(message.text)

    task = asyncio.create_task(read())
    await until(task, lambda: len(seen) == 2)
    assert root(budget)["usd"]["held"] == Decimal("0.001137")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["one ", "two "]
    assert spent(budget) == Decimal("0.00012")
    assert actions(sink) == ["reserved", "settled"]
    assert sink.of(Reservation)[1].reason == "CancelledError: input and what was seen of the answer"


async def test_a_cancelled_call_is_booked_with_its_input(make: Callable[..., Budget]) -> None:
    budget = make(usd="1")
    task = asyncio.create_task(create_agent(Slow(), middleware=[BudgetMiddleware(budget)]).ainvoke(HI))
    await until(task, lambda: root(budget)["usd"]["held"] > 0)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert spent(budget) == Decimal("0.0001")


async def test_a_call_that_is_cancelled_before_the_model_is_called_releases(
    make: Callable[..., Budget], sink: ListSink
) -> None:
    class Wait(AgentMiddleware):
        async def awrap_model_call(self, request: ModelRequest[Any], handler: Callable[..., Any]) -> Any:
            await asyncio.Event().wait()

    budget = make(usd="1")
    agent = create_agent(ScriptedModel(), middleware=[BudgetMiddleware(budget, sink=sink), Wait()])
    task = asyncio.create_task(agent.ainvoke(HI))
    await until(task, lambda: root(budget)["usd"]["held"] > 0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert spent(budget) == 0
    assert sink.of(Reservation)[1].reason == "CancelledError before the model was called"


# --- retries ---


def retry(**settings: Any) -> ModelRetryMiddleware:
    return ModelRetryMiddleware(max_retries=2, initial_delay=0, jitter=False, **settings)


STRUCTURED: dict[str, Any] = {"response_format": ToolStrategy(Weather, handle_errors=False)}
# The provider answers and charges, but the answer does not have the form that was asked for.
UNUSABLE = ai(tool_calls=[{"name": "Weather", "args": {}}], input_tokens=100, output_tokens=50)
USABLE = ai(tool_calls=[{"name": "Weather", "args": {"city": "Bonn"}}], input_tokens=100, output_tokens=50)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("inside", [False, True], ids=["retry outside", "retry inside"])
async def test_every_attempt_that_was_charged_counts(
    make: Callable[..., Budget], sink: ListSink, inside: bool, is_async: bool
) -> None:
    budget = make(usd="1")
    model = ScriptedModel(responses=[UNUSABLE, ConnectionError("down"), USABLE])
    parts: list[Any] = [retry(), BudgetMiddleware(budget, sink=sink)]
    agent: Any = create_agent(model, middleware=parts[::-1] if inside else parts, **STRUCTURED)
    result = await agent.ainvoke(HI) if is_async else agent.invoke(HI)
    assert result["structured_response"] == Weather(city="Bonn")
    assert len(model.calls) == 3
    assert spent(budget) == 2 * PRICE
    assert root(budget)["tokens"]["spent"] == 300
    expected = ["reserved", "settled"] if inside else ["reserved", "settled", "reserved", "released"]
    assert actions(sink)[: len(expected)] == expected


def test_an_answer_that_cannot_be_parsed_is_paid_for(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(usd="1")
    agent: Any = create_agent(
        ScriptedModel(responses=[UNUSABLE]), middleware=[BudgetMiddleware(budget, sink=sink)], **STRUCTURED
    )
    with pytest.raises(StructuredOutputError):
        agent.invoke(HI)
    assert spent(budget) == PRICE
    assert sink.of(Reservation)[1].reason == "StructuredOutputValidationError after the answer"


def test_a_refusal_is_not_tried_again(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(usd="0.0001")
    agent = create_agent(ScriptedModel(), middleware=[retry(), BudgetMiddleware(budget, sink=sink)])
    with pytest.raises(BudgetExceededError):
        agent.invoke(HI)
    assert actions(sink) == ["refused"]


def test_a_fallback_further_in_is_priced_as_the_model_it_is(make: Callable[..., Budget]) -> None:
    dear = Rates(input=Decimal(10), output=Decimal(100))
    budget = make(usd="1", pricing=Pricing(overrides={"gpt-4o-mini": PRICING.rates("gpt-4o-mini"), "dear": dear}))  # type: ignore[dict-item]
    other = ScriptedModel(responses=[ANSWER], model_name="dear")

    class Fallback(AgentMiddleware):
        def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[..., Any]) -> Any:
            try:
                return handler(request)
            except ConnectionError:
                return handler(request.override(model=other))

    model = ScriptedModel(responses=[ConnectionError("down")])
    create_agent(model, middleware=[BudgetMiddleware(budget), Fallback()]).invoke(HI)
    assert spent(budget) == 10 * PRICE


def test_two_budgets_around_one_call_both_count_it(make: Callable[..., Budget]) -> None:
    day, run = make(usd="1", per="day", name="day"), make(tokens=1000, per="run", name="run")
    model = ScriptedModel(responses=[ai(tool_calls=[{"name": "look", "args": {"place": "x"}}]), ANSWER])
    outer, inner = BudgetMiddleware(day, name="day"), BudgetMiddleware(run, name="run")
    create_agent(model, [look], middleware=[outer, retry(), inner]).invoke(HI)
    assert root(day)["tokens"]["spent"] == COUNTED + 150
    [figures] = scopes(run).values()
    assert figures["tokens"] == {"limit": 1000, "spent": COUNTED + 150, "held": 0, "left": 750}


# --- refusals ---


def test_a_refusal_raises(make: Callable[..., Budget]) -> None:
    budget = make(usd="0.0018")
    model = ScriptedModel(responses=[ANSWER])
    agent = create_agent(model, middleware=[BudgetMiddleware(budget)])
    agent.invoke(HI)
    agent.invoke(HI)
    with pytest.raises(BudgetExceededError) as refused:
        agent.invoke(HI)
    assert (refused.value.limit, refused.value.spent) == (Decimal("0.0018"), 2 * PRICE)
    assert refused.value.needed == Decimal("0.001137")
    assert len(model.calls) == 2


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_refusal_can_end_the_run_under_pending_tool_results(
    make: Callable[..., Budget], is_async: bool
) -> None:
    budget = make(usd="0.0018", per="day", on_exceeded="end")
    call = ai(tool_calls=[{"name": "look", "args": {"place": "x"}}], input_tokens=100, output_tokens=80)
    model = ScriptedModel(responses=[call])
    agent = create_agent(model, [look], middleware=[BudgetMiddleware(budget)])
    result = await agent.ainvoke(HI) if is_async else agent.invoke(HI)
    kinds = [message.type for message in result["messages"]]
    assert kinds == ["human", "ai", "tool", "ai"]
    last = result["messages"][-1]
    assert last.text.startswith("I have to stop here: the budget does not allow another call. $0.0009 of $0.0018 is")
    assert last.tool_calls == []
    assert last.response_metadata == {"finish_reason": "budget_exceeded"}
    assert len(model.calls) == 1


class Behind(AgentMiddleware):
    """A hook behind the model, which an agent's loop goes through."""

    def after_model(self, state: Any, runtime: Any) -> None:
        return None


@pytest.mark.parametrize("strategy", [Weather, ToolStrategy(Weather), ProviderStrategy(Weather), AutoStrategy(Weather)])
@pytest.mark.parametrize("others", [[], [Behind()]], ids=["alone", "behind another"])
@pytest.mark.parametrize("tools", [[], [look]], ids=["no tools", "tools"])
@pytest.mark.parametrize("is_async", [False, True])
async def test_where_a_structured_answer_is_awaited_a_refusal_ends_the_run_without_one(
    make: Callable[..., Budget], strategy: Any, others: list[Any], tools: list[Any], is_async: bool
) -> None:
    budget = make(usd="0.0001", on_exceeded="end")
    agent: Any = create_agent(
        ScriptedModel(), tools, middleware=[*others, BudgetMiddleware(budget)], response_format=strategy
    )
    limit: Any = {"recursion_limit": 10}
    result = await agent.ainvoke(HI, limit) if is_async else agent.invoke(HI, limit)
    assert [message.type for message in result["messages"]] == ["human", "ai"]
    assert result["messages"][-1].text.startswith("I have to stop here")
    assert result["messages"][-1].response_metadata == {"finish_reason": "budget_exceeded"}
    assert result["structured_response"] is None


def test_a_structured_answer_of_an_earlier_turn_is_not_given_again(make: Callable[..., Budget]) -> None:
    budget = make(calls=1, on_exceeded="end")
    agent: Any = create_agent(
        ScriptedModel(responses=[USABLE]),
        middleware=[BudgetMiddleware(budget)],
        response_format=ToolStrategy(Weather),
        checkpointer=InMemorySaver(),
    )
    config: Any = {"configurable": {"thread_id": "t"}}
    assert agent.invoke(HI, config)["structured_response"] == Weather(city="Bonn")
    assert agent.invoke(HI, config)["structured_response"] is None


def test_only_agents_that_can_end_have_a_node_for_it(make: Callable[..., Budget]) -> None:
    def nodes(budget: Budget, **settings: Any) -> set[str]:
        middleware = BudgetMiddleware(budget, **settings)
        return set(create_agent(ScriptedModel(), middleware=[middleware]).get_graph().nodes) - {"__start__", "__end__"}

    assert nodes(make(usd="1")) == {"model"}
    assert nodes(make(usd="1", on_exceeded="end")) == {"model", "BudgetMiddleware.after_model"}
    assert nodes(make(usd="1", on_exceeded="end"), mode="shadow") == {"model"}
    assert nodes(make(usd="1", on_exceeded="end"), name="mine") == {"model", "mine.after_model"}


def test_a_subclass_raises_where_it_cannot_end(make: Callable[..., Budget]) -> None:
    class Mine(BudgetMiddleware):
        pass

    budget = make(usd="0.0001", on_exceeded="end")
    agent: Any = create_agent(ScriptedModel(), middleware=[Mine(budget)], response_format=ToolStrategy(Weather))
    with pytest.raises(BudgetExceededError):
        agent.invoke(HI, {"recursion_limit": 10})
    last = create_agent(ScriptedModel(), middleware=[Mine(budget)]).invoke(HI)["messages"][-1]
    assert last.text.startswith("I have to stop here")


def test_calls_that_are_still_open_get_a_result_when_the_run_ends(make: Callable[..., Budget]) -> None:
    budget = make(usd="0.0001", on_exceeded="end")
    agent = create_agent(ScriptedModel(), [look], middleware=[BudgetMiddleware(budget)])
    calls = ai(tool_calls=[{"name": "look", "args": {"place": place}} for place in ("here", "there")])
    done = ToolMessage("nothing", tool_call_id="call_0", name="look")
    result = agent.invoke({"messages": [HumanMessage("hi"), calls, done]})
    assert [message.type for message in result["messages"]] == ["human", "ai", "tool", "tool", "ai"]
    closed = result["messages"][3]
    assert (closed.tool_call_id, closed.name, closed.status) == ("call_1", "look", "error")
    assert closed.text == "This was not done: the budget does not allow the run to go on."


@pytest.mark.parametrize("is_async", [False, True])
async def test_the_last_message_is_streamed_like_any_other(make: Callable[..., Budget], is_async: bool) -> None:
    budget = make(usd="0.0001", on_exceeded="end")
    agent = create_agent(ScriptedModel(), middleware=[BudgetMiddleware(budget)])
    if is_async:
        parts = [part async for part in agent.astream(HI, stream_mode="messages")]
    else:
        parts = list(agent.stream(HI, stream_mode="messages"))
    texts = [message.text for message, _ in parts]  # type: ignore[union-attr, misc]
    assert len(texts) == 1
    assert texts[0].startswith("I have to stop here")


def test_a_call_without_a_price_can_end_the_run_or_raise(make: Callable[..., Budget]) -> None:
    model = ScriptedModel(model_name="mystery-9")
    ends = make(usd="1", unknown_price="refuse", on_exceeded="end")
    last = create_agent(model, middleware=[BudgetMiddleware(ends)]).invoke(HI)["messages"][-1]
    assert "price is not known" in last.text
    with pytest.raises(UnknownPriceError, match="mystery-9"):
        create_agent(model, middleware=[BudgetMiddleware(make(usd="1", unknown_price="refuse"))]).invoke(HI)
    assert model.calls == []


def test_the_answer_is_bounded_to_what_is_left(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(usd="0.02", max_output_tokens=None)
    model = ScriptedModel(responses=[ANSWER], profile={"max_output_tokens": 64_000})
    create_agent(model, middleware=[BudgetMiddleware(budget, sink=sink)]).invoke(HI)
    # 20,000,000 nano-USD, 137 tokens of input at 1,000 each, the rest at 10,000 each.
    assert model.calls[0].kwargs == {"max_completion_tokens": 1986}
    assert spent(budget) == PRICE


# --- runs and threads ---


def tool_loop(rounds: int) -> ScriptedModel:
    call = ai(tool_calls=[{"name": "look", "args": {"place": "x"}}], input_tokens=100, output_tokens=50)
    return ScriptedModel(responses=[*[call] * rounds, ANSWER] * 20)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("mode", ["optimize", "shadow"])
async def test_the_calls_of_one_run_count_together_and_each_run_alone(
    make: Callable[..., Budget], sink: ListSink, mode: Any, is_async: bool
) -> None:
    budget = make(usd="1", per="run")
    middleware = BudgetMiddleware(budget, sink=sink, mode=mode)
    agent = create_agent(tool_loop(2), [look], middleware=[middleware], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    for _ in range(2):
        result = await agent.ainvoke(HI, config) if is_async else agent.invoke(HI, config)
    assert "tokopt_run" not in result
    assert [figures["usd"]["spent"] for figures in scopes(budget).values()] == [3 * PRICE, 3 * PRICE]


def test_the_attempts_of_a_run_s_first_call_count_together(make: Callable[..., Budget]) -> None:
    budget = make(usd="1", per="run")
    model = ScriptedModel(responses=[UNUSABLE, UNUSABLE, USABLE])
    agent: Any = create_agent(model, middleware=[retry(), BudgetMiddleware(budget)], **STRUCTURED)
    agent.invoke(HI)
    [figures] = scopes(budget).values()
    assert figures["usd"]["spent"] == 3 * PRICE


def test_a_run_that_has_an_id_is_counted_under_it(make: Callable[..., Budget]) -> None:
    budget = make(usd="1", per="run")
    run = "00000000-0000-0000-0000-000000000007"
    agent = create_agent(tool_loop(1), [look], middleware=[BudgetMiddleware(budget)])
    agent.invoke(HI, {"run_id": UUID(run)})
    assert {scope: figures["usd"]["spent"] for scope, figures in scopes(budget).items()} == {run: 2 * PRICE}


def test_the_runs_of_a_thread_count_together(make: Callable[..., Budget]) -> None:
    budget = make(usd="0.0020", per="thread")
    agent = create_agent(
        ScriptedModel(responses=[ANSWER]), middleware=[BudgetMiddleware(budget)], checkpointer=InMemorySaver()
    )
    for _ in range(2):
        agent.invoke(HI, {"configurable": {"thread_id": "a"}})
    with pytest.raises(BudgetExceededError):
        agent.invoke(HI, {"configurable": {"thread_id": "a"}})
    agent.invoke(HI, {"configurable": {"thread_id": "b"}})
    spent_by = {scope: figures["usd"]["spent"] for scope, figures in scopes(budget).items()}
    assert spent_by == {"a": 2 * PRICE, "b": PRICE}


def test_a_run_without_a_thread_is_a_thread_of_its_own(make: Callable[..., Budget]) -> None:
    budget = make(usd="1", per="thread")
    agent = create_agent(tool_loop(1), [look], middleware=[BudgetMiddleware(budget)])
    agent.invoke(HI)
    agent.invoke(HI)
    assert [figures["usd"]["spent"] for figures in scopes(budget).values()] == [2 * PRICE, 2 * PRICE]


# --- shadow ---


def test_in_shadow_nothing_is_refused_and_everything_is_on_record(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(usd="0.0012", on_exceeded="end")
    model = ScriptedModel(responses=[ANSWER])
    agent = create_agent(model, middleware=[BudgetMiddleware(budget, sink=sink, mode="shadow")])
    for _ in range(3):
        assert agent.invoke(HI)["messages"][-1].text == "done"
    assert [call.kwargs for call in model.calls] == [{}, {}, {}]
    assert spent(budget) == 3 * PRICE
    assert actions(sink) == ["reserved", "settled"] + ["refused", "reserved", "settled"] * 2
    assert {event.mode for event in sink.events} == {"shadow"}


def test_in_shadow_a_model_without_a_price_is_called(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(usd="1", unknown_price="refuse")
    model = ScriptedModel(responses=[ANSWER], model_name="mystery-9")
    create_agent(model, middleware=[BudgetMiddleware(budget, sink=sink, mode="shadow")]).invoke(HI)
    assert len(model.calls) == 1
    assert actions(sink) == ["refused", "reserved", "settled"]


def test_in_shadow_an_error_releases(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(usd="1")
    model = ScriptedModel(responses=[ConnectionError("down")])
    with pytest.raises(ConnectionError):
        create_agent(model, middleware=[BudgetMiddleware(budget, sink=sink, mode="shadow")]).invoke(HI)
    assert spent(budget) == 0


# --- a ledger that cannot be used ---


@pytest.mark.parametrize("is_async", [False, True])
async def test_open_lets_the_agent_go_on(make: Callable[..., Budget], sink: ListSink, is_async: bool) -> None:
    database = Database()
    budget = make(usd="1", store=database)
    database.close()
    agent = create_agent(ScriptedModel(responses=[ANSWER]), middleware=[BudgetMiddleware(budget, sink=sink)])
    result = await agent.ainvoke(HI) if is_async else agent.invoke(HI)
    assert result["messages"][-1].text == "done"
    assert [(event.part, event.stage) for event in sink.of(Failure)] == [("budget", "request"), ("budget", "response")]


@pytest.mark.parametrize("on_exceeded", ["raise", "end"])
@pytest.mark.parametrize("is_async", [False, True])
async def test_closed_stops_the_agent(
    make: Callable[..., Budget], sink: ListSink, is_async: bool, on_exceeded: str
) -> None:
    database = Database()
    budget = make(usd="1", store=database, on_store_failure="closed", on_exceeded=on_exceeded)
    database.close()
    model = ScriptedModel(responses=[ANSWER])
    agent = create_agent(model, middleware=[BudgetMiddleware(budget, sink=sink)])
    with pytest.raises(BudgetStoreError, match="closed"):
        await agent.ainvoke(HI) if is_async else agent.invoke(HI)
    assert model.calls == []
    assert [event.stage for event in sink.of(Failure)] == ["request"]


@pytest.mark.parametrize(("policy", "calls"), [("open", 1), ("closed", 0)])
def test_a_call_that_cannot_be_counted_is_one_that_cannot_be_checked(
    make: Callable[..., Budget], sink: ListSink, policy: str, calls: int
) -> None:
    class Broken(WordCounter):
        def request(self, request: ModelRequest[Any], *, corrected: bool = False) -> Any:
            raise KeyError("no such encoding")

    budget = make(usd="1", counter=Broken(), on_store_failure=policy)
    model = ScriptedModel(responses=[ANSWER])
    agent = create_agent(model, middleware=[BudgetMiddleware(budget, sink=sink)])
    if policy == "closed":
        with pytest.raises(BudgetStoreError, match="no such encoding"):
            agent.invoke(HI)
    else:
        agent.invoke(HI)
        assert len(sink.of(Failure)) == 1
    assert len(model.calls) == calls


# --- the middleware itself ---


def test_only_a_budget_is_taken() -> None:
    with pytest.raises(ConfigurationError, match="pass a Budget"):
        BudgetMiddleware("5 USD")  # type: ignore[arg-type]


def test_a_flow_without_runtime_and_state_works(make: Callable[..., Budget]) -> None:
    budget = make(usd="1", per="run")
    middleware = BudgetMiddleware(budget)
    request: ModelRequest[Any] = ModelRequest(model=ScriptedModel(), messages=[HumanMessage("hi")])
    response = middleware.wrap_model_call(request, lambda _: ModelResponse(result=[ANSWER]))
    assert response == ModelResponse(result=[ANSWER])
    [figures] = scopes(budget).values()
    assert figures["usd"]["spent"] == PRICE


def test_one_middleware_serves_many_threads_at_once(make: Callable[..., Budget]) -> None:
    budget = make(usd="1")
    agent = create_agent(tool_loop(3), [look], middleware=[BudgetMiddleware(budget)])
    threads = [threading.Thread(target=lambda: agent.invoke(HI)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.reconcile() == []
    assert spent(budget) % PRICE == 0
    assert spent(budget) >= 8 * PRICE


def test_nothing_is_watched_outside_of_a_call(make: Callable[..., Budget]) -> None:
    middleware = BudgetMiddleware(make(usd="1"))
    create_agent(ScriptedModel(responses=[ANSWER]), middleware=[middleware]).invoke(HI)
    assert active_watch(middleware) is None


# --- a wrapped model: no agent, no callbacks further in ---


def wrapped(budget: Budget, model: Any) -> OptimizedChatModel:
    return OptimizedChatModel.around(model, BudgetMiddleware(budget).run_flow)


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_wrapped_model_is_under_the_limit(make: Callable[..., Budget], is_async: bool) -> None:
    budget = make(usd="0.0018")
    model = wrapped(budget, ScriptedModel(responses=[ANSWER]))
    for _ in range(2):
        answer = await model.ainvoke("hi") if is_async else model.invoke("hi")
        assert answer.text == "done"
    with pytest.raises(BudgetExceededError):
        await model.ainvoke("hi") if is_async else model.invoke("hi")
    assert spent(budget) == 2 * PRICE


async def test_a_stream_of_a_wrapped_model_is_booked_up_to_where_it_was_cut(make: Callable[..., Budget]) -> None:
    budget = make(usd="1")
    model = wrapped(budget, ScriptedModel(responses=["one two three four"]))
    assert "".join(part.text for part in model.stream("hi")) == "one two three four"
    assert spent(budget) == Decimal("0.00014")
    stream: Any = model.stream("hi")
    assert [next(stream).text, next(stream).text] == ["one ", "two "]
    stream.close()
    assert spent(budget) == Decimal("0.00026")
    async_stream: Any = model.astream("hi")
    assert (await anext(async_stream)).text == "one "
    await async_stream.aclose()
    assert spent(budget) == Decimal("0.00037")


async def test_a_wrapped_call_that_is_cancelled_is_booked_with_its_input(make: Callable[..., Budget]) -> None:
    budget = make(usd="1")
    task = asyncio.create_task(wrapped(budget, Slow()).ainvoke("hi"))
    await until(task, lambda: root(budget)["usd"]["held"] > 0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert spent(budget) == Decimal("0.0001")


def test_where_a_structured_answer_is_forced_a_wrapped_model_raises(make: Callable[..., Budget]) -> None:
    budget = make(usd="0.0001", on_exceeded="end")
    model = wrapped(budget, ScriptedModel())
    assert model.invoke("hi").text.startswith("I have to stop here")
    with pytest.raises(BudgetExceededError):
        model.bind_tools([look], tool_choice="any").invoke("hi")


# --- where a call stands ---


@dataclass
class Caller:
    """A runtime context."""

    team: str
    budget_path: str | None = None


LIMITS = {"team=*": Limit(usd="1", per="day"), "acme/*": Limit(usd="1", per="day")}


def nodes(budget: Budget) -> set[str]:
    return {one["node"] for one in budget.status()["nodes"] if one["usd"]["spent"]}


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("place", ["context", "configurable", "metadata"])
async def test_a_caller_says_where_a_call_stands(make: Callable[..., Budget], place: str, is_async: bool) -> None:
    budget = make(limits=LIMITS, levels=("team", "user"))
    model = ScriptedModel(responses=[ANSWER])
    agent: Any = create_agent(model, middleware=[BudgetMiddleware(budget)], context_schema=Caller)
    config: Any = {} if place == "context" else {place: {"team": "red", "user_id": "a/b"}}
    context = Caller("red") if place == "context" else None
    if is_async:
        await agent.ainvoke(HI, config, context=context)
    else:
        agent.invoke(HI, config, context=context)
    expected = {"global", "team=red"} | (set() if place == "context" else {"team=red/user=a%2Fb"})
    assert nodes(budget) == expected


def test_a_caller_says_the_whole_path(make: Callable[..., Budget]) -> None:
    budget = make(limits=LIMITS)
    agent = create_agent(ScriptedModel(responses=[ANSWER]), middleware=[BudgetMiddleware(budget)])
    agent.invoke(HI, {"configurable": {"budget_path": "acme/red", "user_id": "ann"}})
    assert nodes(budget) == {"global", "acme", "acme/red"}
    agent.invoke(HI, {"configurable": {"budget_path": ["acme", "a/b"]}})
    assert "acme/a%2Fb" in nodes(budget)


def test_a_client_cannot_be_another_user_than_the_server_knows(make: Callable[..., Budget]) -> None:
    budget = make(limits={"user=*": Limit(usd="1", per="day")}, levels=("user",))
    agent = create_agent(ScriptedModel(responses=[ANSWER]), middleware=[BudgetMiddleware(budget)])
    agent.invoke(HI, {"configurable": {"user_id": "rich", "langgraph_auth_user_id": "ann"}})
    assert nodes(budget) == {"global", "user=ann"}


@pytest.mark.parametrize("path", ["a//b", "acme/*", "x" * 200, 7, ["acme", 7], {"a": 1}])
def test_a_path_that_cannot_be_read_stops_the_call(make: Callable[..., Budget], path: Any) -> None:
    budget = make(limits=LIMITS)
    model = ScriptedModel(responses=[ANSWER])
    config: Any = {"configurable": {"budget_path": path}}
    agent = create_agent(model, middleware=[BudgetMiddleware(budget)])
    with pytest.raises(UnknownNodeError, match="budget_path="):
        agent.invoke(HI, config)
    assert model.calls == []
    create_agent(model, middleware=[BudgetMiddleware(budget, mode="shadow")]).invoke(HI, config)
    assert nodes(budget) == {"global"}


# --- agents that tools call ---


@pytest.mark.parametrize("per", ["run", "thread"])
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
async def test_what_a_tool_s_agent_spends_belongs_to_the_run_that_called_it(
    make: Callable[..., Budget], per: str, named: bool, is_async: bool
) -> None:
    budget = make(limits={"global": Limit(usd="1", per=per)})  # type: ignore[arg-type]
    inner: Any = create_agent(ScriptedModel(responses=[ANSWER]), middleware=[BudgetMiddleware(budget)])

    @tool
    async def ask_later(question: str) -> str:
        """Asks a colleague."""
        return (await inner.ainvoke(HI))["messages"][-1].text

    @tool
    def ask(question: str) -> str:
        """Asks a colleague."""
        return inner.invoke(HI)["messages"][-1].text

    used = ask_later if is_async else ask
    calls = [{"name": used.name, "args": {"question": "?"}, "id": f"c{number}"} for number in range(2)]
    model = ScriptedModel(responses=[ai(tool_calls=calls, input_tokens=100, output_tokens=50), ANSWER] * 2)
    outer: Any = create_agent(model, [used], middleware=[BudgetMiddleware(budget)])
    config: Any = {"run_id": UUID(int=7)} if named else {}
    for _ in range(2):
        await outer.ainvoke(HI, config) if is_async else outer.invoke(HI, config)
    found = [figures["usd"]["spent"] for figures in scopes(budget).values()]
    assert found == ([8 * PRICE] if named else [4 * PRICE, 4 * PRICE])
    await inner.ainvoke(HI) if is_async else inner.invoke(HI)
    assert len(scopes(budget)) == len(found) + 1


def test_only_limits_on_runs_and_threads_look_at_tool_calls(make: Callable[..., Budget]) -> None:
    assert type(BudgetMiddleware(make(usd="1"))) is BudgetMiddleware
    both = BudgetMiddleware(make(usd="1", per="run", on_exceeded="end"))
    assert type(both).wrap_tool_call is not AgentMiddleware.wrap_tool_call
    assert type(both).after_model is not AgentMiddleware.after_model
    assert both.name == "BudgetMiddleware"
