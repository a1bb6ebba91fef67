"""`OtelSink` in agents and around models: the span that is active gets what happens under it, however it is run."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from langchain.agents.middleware.types import ModelRequest
from langchain_core.tools import tool
from opentelemetry.trace import get_current_span

from langchain_tokopt.events import Decision
from langchain_tokopt.flow import Flow, FlowMiddleware, compose, internal_call
from langchain_tokopt.model import OptimizedChatModel
from langchain_tokopt.telemetry import FanOut, OtelSink, UsageCallback, UsageMiddleware
from tests.fakes import ListSink, ScriptedModel, ai
from tests.telemetry.test_otel import Otel
from tests.telemetry.watching import AGENT_WAYS, WAYS, Way, agent, ask


@pytest.fixture
def otel() -> Iterator[Otel]:
    otel = Otel()
    yield otel
    otel.close()


class History(FlowMiddleware):
    """A part that says that it saved something."""

    part = "history"

    def flow(self, request: ModelRequest[Any]) -> Flow:
        saved = Decimal("0.1")
        self.sink.emit(Decision(part="history", action="applied", tokens_before=9, tokens_after=4, saved_usd=saved))
        return (yield request)


def model(*responses: Any) -> ScriptedModel:
    return ScriptedModel(responses=list(responses) or [ai("hello you", input_tokens=1000, output_tokens=20)])


def flows(sink: Any) -> list[FlowMiddleware]:
    return [History(sink=sink), UsageMiddleware(sink=sink)]


DID = {"tokopt.history.saved.cost.exact": "0.1", "tokopt.calls": 1, "tokopt.tokens.input": 1000}


def says(span: Any, **expected: Any) -> bool:
    return {**DID, **expected}.items() <= dict(span.attributes).items()


@pytest.mark.parametrize("way", AGENT_WAYS)
async def test_the_span_around_an_agent(otel: Otel, way: Way) -> None:
    runnable = agent(model(), *flows(otel.sink()))
    with otel.tracer.start_as_current_span("user"):
        await way(runnable, ask(), {})
    (span,) = otel.spans()
    assert says(span)


@pytest.mark.parametrize("way", WAYS)
async def test_the_span_around_a_wrapped_model(otel: Otel, way: Way) -> None:
    middleware = flows(otel.sink())
    wrapped = OptimizedChatModel.around(model(), compose(*(each.run_flow for each in middleware)))
    with otel.tracer.start_as_current_span("user"):
        await way(wrapped, "hi", {})
    (span,) = otel.spans()
    assert says(span)


@pytest.mark.parametrize("way", AGENT_WAYS)
async def test_a_span_of_each_call_in_an_agent(otel: Otel, way: Way) -> None:
    sink = otel.sink(spans=True)
    with otel.tracer.start_as_current_span("user") as user:
        await way(agent(model(), *flows(sink), name="writer"), ask(), {"configurable": {"thread_id": "t1"}})
    span, outer = otel.spans()
    assert says(span, **{"gen_ai.agent.name": "writer", "gen_ai.conversation.id": "t1"})
    assert span.parent.span_id == user.get_span_context().span_id
    assert (outer.name, dict(outer.attributes)) == ("user", {})


async def test_async_agents_in_tools_and_calls_of_the_optimisers_own_have_spans_of_their_own(otel: Otel) -> None:
    sink = otel.sink(spans=True)

    class AsksFirst(FlowMiddleware):
        part = "asks_first"

        def flow(self, request: ModelRequest[Any]) -> Flow:
            yield internal_call(request)
            return (yield request)

    inner = agent(model(), *flows(sink), name="helper")

    @tool
    async def research(question: str) -> str:
        """Look into something."""
        return str((await inner.ainvoke(ask(question)))["messages"][-1].text)

    calls = [{"name": "research", "args": {"question": text}} for text in "ab"]
    outer = model(ai("first"), ai(tool_calls=calls, input_tokens=5), ai("second"), ai("done", input_tokens=6))
    await agent(outer, AsksFirst(), *flows(sink), tools=[research], name="boss").ainvoke(ask())
    spans = otel.spans()
    assert [(span.attributes["gen_ai.agent.name"], span.attributes["tokopt.call.internal"]) for span in spans] == [
        ("boss", True),
        ("boss", False),
        ("helper", False),
        ("helper", False),
        ("boss", True),
        ("boss", False),
    ]
    assert sum(span.attributes.get("gen_ai.usage.input_tokens", 0) for span in spans) == 2011


def test_a_callback_alone_can_tell_it_too(otel: Otel) -> None:
    events = ListSink()
    callback = UsageCallback(sink=FanOut(events, otel.sink(spans=True)))
    model().batch(["a", "b", "c"], {"callbacks": [callback]})
    assert len(events.events) == len(otel.spans()) == callback.usage.calls == 3


def test_a_sink_that_fails_keeps_nobody_from_being_told(otel: Otel, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def emit(self, event: Any) -> None:
            raise RuntimeError("no")

    events = ListSink()
    runnable = agent(model(), *flows(FanOut(Broken(), otel.sink(), events)))
    for _ in range(2):
        runnable.invoke(ask())
    assert len(events.events) == 4
    assert sum(otel.points()["tokopt.calls"].values()) == 2
    assert [record.getMessage() for record in caplog.records] == ["Broken could not take an event: RuntimeError: no"]


def test_nothing_of_it_stays_active() -> None:
    before = get_current_span()
    agent(model(), *flows(OtelSink(spans=True))).invoke(ask())
    assert get_current_span() is before
