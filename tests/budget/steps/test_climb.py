"""The steps on top of each other, around real agents and bare models: what is sent, held, booked and told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware
from langchain.agents.middleware.types import ModelRequest
from langchain.agents.structured_output import ProviderStrategy
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from langchain_tokopt.budget import Budget, BudgetMiddleware, BudgetStoreError, UnknownPriceError
from langchain_tokopt.errors import BudgetExceededError, StoreError
from langchain_tokopt.events import Decision, Reservation
from langchain_tokopt.flow import BACKGROUND_TAG
from langchain_tokopt.model import OptimizedChatModel
from langchain_tokopt.pricing import Pricing, Rates
from langchain_tokopt.tokens import RequestTokens
from tests.budget.figures import RATES, WordCounter
from tests.budget.steps.memory_ledger import MemoryLedger
from tests.fakes import ListSink, ScriptedModel, ai

HI: Any = {"messages": [HumanMessage("hi")]}
CHEAP_RATES = Rates(input=Decimal("0.1"), output=Decimal(1))
PRICING = Pricing(
    overrides={"gpt-4o-mini": RATES, "gpt-4.1-nano": CHEAP_RATES, "dear": Rates(input=Decimal(9), output=Decimal(90))}
)
ANSWER = ai("done", input_tokens=100, output_tokens=50)


class HundredEach(WordCounter):
    """Every message has 100 tokens."""

    def request(self, request: ModelRequest[Any], *, corrected: bool = False) -> RequestTokens:
        return RequestTokens(system=0, tools=0, messages=(100,) * len(request.messages), reply=0)


class City(BaseModel):
    """City."""

    name: str


@tool
def look(place: str) -> str:
    """Look at a place."""
    return place


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


@pytest.fixture
def make(ledger: MemoryLedger) -> Iterator[Callable[..., Budget]]:
    made: list[Budget] = []

    def budget(**settings: Any) -> Budget:
        given = {"pricing": PRICING, "counter": HundredEach(), "max_output_tokens": 100, "store": ledger}
        made.append(Budget(**{**given, **settings}))
        return made[-1]

    yield budget
    for one in made:
        one.close()


def newest(request: ModelRequest[Any]) -> ModelRequest[Any]:
    """Only the newest message."""
    return request.override(messages=request.messages[-1:])


def cheap(**settings: Any) -> ScriptedModel:
    return ScriptedModel(**{"model_name": "gpt-4.1-nano", "responses": [ANSWER], **settings})


def told(sink: ListSink) -> list[tuple[str, str | None]]:
    return [(event.action, event.reason) for event in sink.of(Decision)]


def actions(sink: ListSink) -> list[str]:
    return [event.action for event in sink.of(Reservation)]


AROUND = pytest.mark.parametrize("way", ["agent", "wrapper"])
ASYNC = pytest.mark.parametrize("is_async", [False, True])


async def call(way: str, middleware: BudgetMiddleware, model: ScriptedModel, is_async: bool, messages: Any = HI) -> str:
    """What is answered, by an agent or by a wrapped model."""
    if way == "agent":
        agent = create_agent(model, middleware=[middleware])
        result = await agent.ainvoke(messages) if is_async else agent.invoke(messages)
        return str(result["messages"][-1].text)
    wrapped, given = OptimizedChatModel.around(model, middleware.run_flow), messages["messages"]
    return str((await wrapped.ainvoke(given) if is_async else wrapped.invoke(given)).text)


# --- fallback ---


@AROUND
@ASYNC
async def test_a_cheaper_model_is_called_and_booked_at_its_own_price(
    make: Callable[..., Budget], sink: ListSink, ledger: MemoryLedger, way: str, is_async: bool
) -> None:
    first, second = ScriptedModel(), cheap()
    budget = make(usd="0.001", on_exceeded=("fallback", "clamp"), fallback_model=second)
    assert await call(way, BudgetMiddleware(budget, sink=sink), first, is_async) == "done"
    assert first.calls == []
    assert second.calls[0].kwargs == {"max_completion_tokens": 100}
    assert ledger.spent.usd == Decimal("0.00006")
    assert not ledger.in_use
    assert told(sink) == [("applied", "fallback: gpt-4.1-nano is called instead of gpt-4o-mini")]
    reserved, settled = sink.of(Reservation)
    assert (reserved.usd, settled.usd) == (Decimal("0.0001137"), Decimal("0.00006"))


@ASYNC
async def test_a_stream_comes_from_the_cheaper_model(make: Callable[..., Budget], is_async: bool) -> None:
    budget = make(usd="0.001", on_exceeded=("fallback",), fallback_model=cheap(responses=["one two"]))
    agent = create_agent(ScriptedModel(responses=["never"]), middleware=[BudgetMiddleware(budget)])
    model = OptimizedChatModel.around(ScriptedModel(responses=["never"]), BudgetMiddleware(budget).run_flow)
    if is_async:
        parts = [part async for part in agent.astream(HI, stream_mode="messages")]
        chunks = [chunk.text async for chunk in model.astream("hi")]
    else:
        parts = list(agent.stream(HI, stream_mode="messages"))
        chunks = [chunk.text for chunk in model.stream("hi")]
    assert "".join(message.text for message, _ in parts) == "one two"  # type: ignore[union-attr, misc]
    assert "".join(chunks) == "one two"


def test_the_first_model_is_called_as_long_as_it_fits(make: Callable[..., Budget]) -> None:
    first, second = ScriptedModel(responses=[ANSWER]), cheap()
    budget = make(usd="0.0018", on_exceeded=("fallback",), fallback_model=second)
    agent = create_agent(first, middleware=[BudgetMiddleware(budget)])
    for _ in range(4):
        agent.invoke(HI)
    assert (len(first.calls), len(second.calls)) == (2, 2)


def test_the_answer_stays_as_short_as_it_was_asked_to_be(make: Callable[..., Budget]) -> None:
    second = cheap(profile={"max_output_tokens": 60})
    budget = make(usd="0.0005", max_output_tokens=None, on_exceeded=("fallback",), fallback_model=second)
    model = OptimizedChatModel.around(ScriptedModel(), BudgetMiddleware(budget).run_flow)
    model.invoke("hi", max_tokens=40)
    model.invoke("hi", max_tokens=500)
    assert [one.kwargs for one in second.calls] == [{"max_completion_tokens": 40}, {}]  # it gives no more than 60


@pytest.mark.parametrize(
    ("model", "settings", "reason"),
    [
        (cheap(model_name="dear"), {"usd": "0.001"}, "dear would not be cheaper"),
        (cheap(model_name="mystery"), {"usd": "0.001"}, "the price of mystery is not known"),
        (cheap(model_name="gpt-4o-mini"), {"usd": "0.001"}, "it is the model that is called already"),
        (cheap(), {"tokens": 50}, "gpt-4.1-nano would not take fewer tokens"),
        (
            cheap(profile={"max_input_tokens": 50}),
            {"usd": "0.001"},
            "100 tokens of input do not fit into its context window of 50",
        ),
    ],
)
def test_a_fallback_that_does_not_help_is_left_out_and_told(
    make: Callable[..., Budget], sink: ListSink, model: ScriptedModel, settings: dict[str, Any], reason: str
) -> None:
    budget = make(**settings, on_exceeded=("fallback", "raise"), fallback_model=model)
    with pytest.raises(BudgetExceededError):
        create_agent(ScriptedModel(), middleware=[BudgetMiddleware(budget, sink=sink)]).invoke(HI)
    assert told(sink) == [("skipped", f"fallback: {reason}")]
    assert model.calls == []
    assert actions(sink) == ["refused"]


def test_another_model_is_one_more_call(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(calls=1, on_exceeded=("fallback", "end"), fallback_model=cheap())
    agent = create_agent(ScriptedModel(responses=[ANSWER]), middleware=[BudgetMiddleware(budget, sink=sink)])
    agent.invoke(HI)
    assert agent.invoke(HI)["messages"][-1].response_metadata == {"finish_reason": "budget_exceeded"}
    assert told(sink)[0] == ("skipped", "fallback: it would be one call as well")


def test_a_model_without_a_price_gives_way_to_one_with_a_price(make: Callable[..., Budget], sink: ListSink) -> None:
    def agent(model: ScriptedModel) -> Any:
        budget = make(usd="1", unknown_price="refuse", on_exceeded=("fallback",), fallback_model=model)
        return create_agent(ScriptedModel(model_name="mystery"), middleware=[BudgetMiddleware(budget, sink=sink)])

    assert agent(cheap()).invoke(HI)["messages"][-1].text == "done"
    with pytest.raises(UnknownPriceError):
        agent(cheap(model_name="riddle")).invoke(HI)
    assert told(sink)[-1] == ("skipped", "fallback: the price of riddle is not known either")


def test_a_fallback_that_cannot_give_the_form_of_the_answer_is_left_out(
    make: Callable[..., Budget], sink: ListSink
) -> None:
    second = cheap(profile={"structured_output": False})
    budget = make(usd="0.001", on_exceeded=("fallback", "end"), fallback_model=second)
    middleware = BudgetMiddleware(budget, sink=sink)
    agent: Any = create_agent(ScriptedModel(), middleware=[middleware], response_format=ProviderStrategy(City))
    assert agent.invoke(HI)["structured_response"] is None
    assert told(sink)[0] == ("skipped", "fallback: it cannot answer in the form that is asked for")


def test_a_wrapped_model_s_tools_are_put_into_the_words_of_the_other(make: Callable[..., Budget]) -> None:
    first = ChatAnthropic(model_name="claude-sonnet-4-5-20250929", api_key="none", max_tokens_to_sample=500)  # type: ignore[arg-type, call-arg]
    second = cheap()
    budget = make(usd="0.001", on_exceeded=("fallback",), fallback_model=second)
    model = OptimizedChatModel.around(first, BudgetMiddleware(budget).run_flow)
    assert model.bind_tools([look], tool_choice="look").invoke("hi").text == "done"
    assert second.calls[0].tool_names == ["look"]
    assert second.calls[0].kwargs["tool_choice"] == "look"


def test_a_fallback_for_errors_around_the_budget_is_under_it_as_well(make: Callable[..., Budget]) -> None:
    theirs = cheap(responses=["from theirs"])
    budget = make(usd="0.001")
    agent = create_agent(ScriptedModel(), middleware=[ModelFallbackMiddleware(theirs), BudgetMiddleware(budget)])
    assert agent.invoke(HI)["messages"][-1].text == "from theirs"


# --- compress ---

LONG: Any = {"messages": [HumanMessage(text) for text in ("one", "two", "three")]}


@AROUND
@ASYNC
async def test_a_smaller_input_is_sent_when_it_makes_the_call_fit(
    make: Callable[..., Budget], sink: ListSink, ledger: MemoryLedger, way: str, is_async: bool
) -> None:
    budget = make(usd="0.0012", on_exceeded=("compress", "raise"))
    model = ScriptedModel(responses=[ANSWER])
    assert await call(way, BudgetMiddleware(budget, compress=newest, sink=sink), model, is_async, LONG) == "done"
    assert [message.text for message in model.calls[0].messages] == ["three"]
    assert told(sink) == [("applied", "compress: 100 tokens of input are left")]
    [decision] = sink.of(Decision)
    most = {"most_before": 300 + 15 + 32 + 100, "most_after": 100 + 5 + 32 + 100}
    assert decision.detail == {"step": "compress", "budget": "default", **most}
    assert (decision.tokens_before, decision.tokens_after, decision.saved_usd) == (None, None, None)
    assert not ledger.in_use


def test_the_input_is_compressed_as_often_as_that_helps(make: Callable[..., Budget], sink: ListSink) -> None:
    def without_the_oldest(request: ModelRequest[Any]) -> ModelRequest[Any]:
        return request.override(messages=request.messages[1:])

    budget = make(usd="0.0012", on_exceeded=("compress", "raise"))
    model = ScriptedModel(responses=[ANSWER])
    middleware = BudgetMiddleware(budget, compress=without_the_oldest, sink=sink)
    create_agent(model, middleware=[middleware]).invoke(LONG)
    assert [message.text for message in model.calls[0].messages] == ["three"]
    assert told(sink) == [("applied", "compress: 100 tokens of input are left")]


def test_the_thread_keeps_what_was_left_out(make: Callable[..., Budget]) -> None:
    budget = make(usd="0.0012", on_exceeded=("compress", "raise"))
    agent = create_agent(ScriptedModel(responses=[ANSWER]), middleware=[BudgetMiddleware(budget, compress=newest)])
    assert [message.text for message in agent.invoke(LONG)["messages"]] == ["one", "two", "three", "done"]


def broken(request: ModelRequest[Any]) -> ModelRequest[Any]:
    raise StoreError("no room")


@pytest.mark.parametrize(
    ("compress", "reason"),
    [(lambda request: request, "nothing gets smaller"), (broken, "it failed (StoreError: no room)")],
)
def test_a_compression_that_does_not_help_is_left_out_and_told(
    make: Callable[..., Budget], sink: ListSink, compress: Any, reason: str
) -> None:
    budget = make(usd="0.0005", on_exceeded=("compress", "raise"))
    middleware = BudgetMiddleware(budget, compress=compress, sink=sink)
    with pytest.raises(BudgetExceededError):
        create_agent(ScriptedModel(), middleware=[middleware]).invoke(LONG)
    assert told(sink) == [("skipped", f"compress: {reason}")]


def test_a_history_before_signed_thoughts_is_not_compressed(make: Callable[..., Budget], sink: ListSink) -> None:
    model = ChatAnthropic(model_name="claude-opus-5-5", api_key="none", thinking={"type": "adaptive"})  # type: ignore[arg-type, call-arg]
    budget = make(tokens=50, on_exceeded=("compress", "raise"))
    wrapped = OptimizedChatModel.around(model, BudgetMiddleware(budget, compress=newest, sink=sink).run_flow)
    with pytest.raises(BudgetExceededError):
        wrapped.invoke(LONG["messages"])
    assert told(sink) == [("skipped", "compress: the model's signed thoughts hold only after the history as it is")]


# --- on top of each other ---


def test_each_step_goes_on_from_the_one_before(make: Callable[..., Budget], sink: ListSink) -> None:
    second = cheap()
    budget = make(
        usd="0.00009",
        max_output_tokens=None,
        min_output_tokens=20,
        on_exceeded=("compress", "fallback", "clamp", "end"),
        fallback_model=second,
    )
    middleware = BudgetMiddleware(budget, compress=newest, sink=sink)
    assert create_agent(ScriptedModel(), middleware=[middleware]).invoke(LONG)["messages"][-1].text == "done"
    assert [message.text for message in second.calls[0].messages] == ["three"]
    # 90,000 nano-USD, 137 tokens of input at 100 each, the rest at 1,000 each.
    assert second.calls[0].kwargs == {"max_completion_tokens": 76}
    assert told(sink) == [
        ("applied", "compress: 100 tokens of input are left; it does not fit yet"),
        ("applied", "fallback: gpt-4.1-nano is called instead of gpt-4o-mini; it does not fit yet"),
        ("applied", "clamp: the answer is bounded to 76 tokens"),
    ]
    assert actions(sink) == ["reserved", "settled"]


def test_a_step_that_is_not_needed_is_not_taken(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(usd="0.0012", min_output_tokens=20, on_exceeded=("clamp", "compress", "raise"))
    model = ScriptedModel(responses=[ANSWER])
    middleware = BudgetMiddleware(budget, compress=newest, sink=sink)
    create_agent(model, middleware=[middleware]).invoke(LONG)
    assert [message.text for message in model.calls[0].messages] == ["one", "two", "three"]
    assert told(sink) == [("applied", "clamp: the answer is bounded to 85 tokens")]


def test_without_clamp_no_answer_is_bounded(make: Callable[..., Budget]) -> None:
    budget = make(usd="0.001", min_output_tokens=1, on_exceeded=("raise",))
    with pytest.raises(BudgetExceededError):
        create_agent(ScriptedModel(), middleware=[BudgetMiddleware(budget)]).invoke(HI)


def test_an_error_says_what_the_call_would_have_taken_in_the_end(make: Callable[..., Budget]) -> None:
    budget = make(usd="0.0001", on_exceeded=("compress", "fallback"), fallback_model=cheap())
    agent = create_agent(ScriptedModel(), middleware=[BudgetMiddleware(budget, compress=newest)])
    with pytest.raises(BudgetExceededError) as caught:
        agent.invoke(LONG)
    assert (caught.value.needed, caught.value.limit) == (Decimal("0.0001137"), Decimal("0.0001"))


# --- the end, and the ledger ---


@ASYNC
async def test_a_wrapped_model_gives_the_last_words_itself(make: Callable[..., Budget], is_async: bool) -> None:
    budget = make(usd="0.0001", on_exceeded="end")
    model = OptimizedChatModel.around(ScriptedModel(), BudgetMiddleware(budget).run_flow)
    if is_async:
        answer, chunks = await model.ainvoke("hi"), [chunk.text async for chunk in model.astream("hi")]
    else:
        answer, chunks = model.invoke("hi"), [chunk.text for chunk in model.stream("hi")]
    assert answer.response_metadata["finish_reason"] == "budget_exceeded"
    assert "".join(chunks) == answer.text
    assert answer.text.startswith("I have to stop here")


@pytest.mark.parametrize("settings", [{"response_format": {"type": "json"}}, {"response_schema": {}}])
def test_where_a_form_is_awaited_a_wrapped_model_raises(make: Callable[..., Budget], settings: dict[str, Any]) -> None:
    budget = make(usd="0.0001", on_exceeded="end")
    model = OptimizedChatModel.around(ScriptedModel(), BudgetMiddleware(budget).run_flow)
    with pytest.raises(BudgetExceededError):
        model.invoke("hi", **settings)


def test_in_the_background_the_end_is_no_answer(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(usd="0.0001", on_exceeded="end")
    aside = ScriptedModel(tags=[BACKGROUND_TAG])
    with pytest.raises(BudgetExceededError):
        create_agent(aside, middleware=[BudgetMiddleware(budget, sink=sink)]).invoke(HI)
    assert told(sink)[-1] == ("skipped", "end: it would be taken for an answer to a call beside the run")


@pytest.mark.parametrize("policy", ["open", "closed"])
def test_a_ledger_that_is_gone_is_no_reason_to_climb(
    make: Callable[..., Budget], ledger: MemoryLedger, sink: ListSink, policy: str
) -> None:
    first, second = ScriptedModel(responses=[ANSWER]), cheap()
    budget = make(usd="0.001", on_store_failure=policy, on_exceeded=("fallback", "ask", "end"), fallback_model=second)
    ledger.broken = True
    agent = create_agent(first, middleware=[BudgetMiddleware(budget, sink=sink)])
    if policy == "closed":
        with pytest.raises(BudgetStoreError):
            agent.invoke(HI)
    else:
        assert agent.invoke(HI)["messages"][-1].text == "done"
    assert (len(first.calls), len(second.calls)) == (int(policy == "open"), 0)
    assert told(sink) == []


def test_an_error_of_the_cheaper_model_releases(make: Callable[..., Budget], ledger: MemoryLedger) -> None:
    second = cheap(responses=[ConnectionError("down")])
    budget = make(usd="0.001", on_exceeded=("fallback",), fallback_model=second)
    with pytest.raises(ConnectionError):
        create_agent(ScriptedModel(), middleware=[BudgetMiddleware(budget)]).invoke(HI)
    assert not ledger.in_use
    assert not ledger.spent
