"""A call that both the middleware and the callback see is one call, whatever way it is made."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import AIMessage

from langchain_tokopt.events import ModelCall
from langchain_tokopt.flow import Flow, compose, internal_call
from langchain_tokopt.model import OptimizedChatModel
from langchain_tokopt.telemetry import Telemetry, UsageCallback, UsageMiddleware
from tests.fakes import ScriptedModel, ai
from tests.telemetry.watching import AGENT_WAYS, WAYS, Way, agent, ask

RESPONSES = {
    "usage": ai("hello you there", input_tokens=1000, output_tokens=20),
    "no usage": AIMessage("hello you there"),
    "id of the provider": ai("hello you there", input_tokens=1000, output_tokens=20, id="chatcmpl-1"),
    "tool call": ai(tool_calls=[{"name": "x", "args": {"a": 1}}], input_tokens=9, output_tokens=2),
}


def calls(telemetry: Telemetry) -> list[ModelCall]:
    found = [event for event in telemetry.events(ModelCall) if isinstance(event, ModelCall)]
    telemetry.close()
    return found


def both(**settings: Any) -> tuple[Telemetry, UsageMiddleware, UsageCallback]:
    telemetry = Telemetry()
    return telemetry, UsageMiddleware(telemetry, **settings), UsageCallback(telemetry)


@pytest.mark.parametrize("response", ["usage", "no usage", "id of the provider"])
@pytest.mark.parametrize("way", AGENT_WAYS)
async def test_in_an_agent(response: str, way: Way) -> None:
    telemetry, usage, callback = both()
    runnable = agent(ScriptedModel(responses=[RESPONSES[response]]), usage)
    for _ in range(3):
        await way(runnable, ask(), {"callbacks": [callback]})
    assert len(calls(telemetry)) == 3


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
@pytest.mark.parametrize("way", WAYS)
async def test_around_a_model(response: AIMessage, way: Way) -> None:
    telemetry, usage, callback = both()
    model = OptimizedChatModel.around(ScriptedModel(responses=[response]), usage.run_flow)
    for _ in range(3):
        await way(model, "hi", {"callbacks": [callback]})
    assert len(calls(telemetry)) == 3


@pytest.mark.parametrize("way", AGENT_WAYS)
async def test_around_the_model_of_an_agent_that_has_another_middleware_of_the_same_telemetry(way: Way) -> None:
    telemetry, usage, callback = both()
    inner = UsageMiddleware(telemetry)
    model = OptimizedChatModel.around(ScriptedModel(responses=[RESPONSES["usage"]]), inner.run_flow)
    await way(agent(model, usage), ask(), {"callbacks": [callback]})
    assert len(calls(telemetry)) == 1


@pytest.mark.parametrize("way", AGENT_WAYS)
async def test_a_failed_call_in_an_agent(way: Way) -> None:
    telemetry, usage, callback = both()
    with pytest.raises(ConnectionError):
        await way(agent(ScriptedModel(responses=[ConnectionError("x")]), usage), ask(), {"callbacks": [callback]})
    assert [call.error for call in calls(telemetry)] == ["ConnectionError"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_failed_call_around_a_model(way: Way) -> None:
    telemetry, usage, callback = both()
    model = OptimizedChatModel.around(ScriptedModel(responses=[ConnectionError("x")]), usage.run_flow)
    with pytest.raises(ConnectionError):
        await way(model, "hi", {"callbacks": [callback]})
    assert [call.error for call in calls(telemetry)] == ["ConnectionError"]


async def test_a_stream_around_a_model_that_is_closed() -> None:
    telemetry, usage, callback = both()
    model = OptimizedChatModel.around(ScriptedModel(responses=["a b c d e"]), usage.run_flow)
    stream: Any = model.stream("hi", {"callbacks": [callback]})
    next(stream)
    stream.close()
    astream: Any = model.astream("hi", {"callbacks": [callback]})
    await anext(astream)
    await astream.aclose()
    assert [(call.error, call.usage_source) for call in calls(telemetry)] == [("StreamClosed", "estimate")] * 2


@pytest.mark.parametrize("way", WAYS)
async def test_an_internal_call_around_a_model_is_counted_beside_the_users(way: Way) -> None:
    telemetry, usage, callback = both()

    def asks_first(request: ModelRequest[Any]) -> Flow:
        yield internal_call(request)
        return (yield request)

    model = OptimizedChatModel.around(
        ScriptedModel(responses=[RESPONSES["usage"]]), compose(asks_first, usage.run_flow)
    )
    await way(model, "hi", {"callbacks": [callback]})
    assert sorted(call.internal for call in calls(telemetry)) == [False, True]


@pytest.mark.parametrize("way", AGENT_WAYS)
async def test_two_callbacks_of_one_telemetry(way: Way) -> None:
    telemetry, usage, callback = both()
    runnable = agent(ScriptedModel(responses=[RESPONSES["usage"]]), usage)
    await way(runnable, ask(), {"callbacks": [callback, UsageCallback(telemetry)]})
    assert len(calls(telemetry)) == 1


async def test_who_is_first_does_not_matter_for_the_record() -> None:
    seen = []
    for watch in ("callback", "middleware", "both"):
        telemetry, usage, callback = both()
        runnable = agent(ScriptedModel(responses=[RESPONSES["usage"]]), *([usage] if watch != "callback" else []))
        for _ in range(2):
            config: Any = {"configurable": {"thread_id": "t"}, "metadata": {"project": "p"}}
            runnable.invoke(ask(), {**config, "callbacks": [callback] if watch != "middleware" else []})
        seen.append(
            [
                (call.who, call.model, call.provider, call.usage, call.cost_usd, call.repeated_prefix_tokens)
                for call in calls(telemetry)
            ]
        )
    assert seen[0] == seen[1] == seen[2]
    assert [figures[-1] for figures in seen[0]] == [0, 1000]
