"""What the mechanism promises to every concern and to every agent."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphBubbleUp, GraphInterrupt
from langgraph.types import Command, interrupt

from langchain_tokopt.caller import call_who
from langchain_tokopt.errors import BudgetExceededError, ConfigurationError
from langchain_tokopt.events import CacheLookup, Failure, Who, request_scope, who
from langchain_tokopt.flow import (
    Flow,
    FlowFunction,
    FlowMiddleware,
    adrive,
    compose,
    drive,
    guarded,
    internal_call,
    is_internal,
    shadowed,
)
from tests.fakes import ListSink, ScriptedModel


def request(text: str = "hi") -> ModelRequest[Any]:
    return ModelRequest(model=ScriptedModel(), messages=[HumanMessage(text)])


def response(text: str) -> ModelResponse[Any]:
    return ModelResponse(result=[AIMessage(text)])


def text_of(outcome: Any) -> str:
    return outcome.result[0].text


def echo(req: ModelRequest[Any]) -> ModelResponse[Any]:
    return response("/".join(m.text for m in req.messages))


Runner = Callable[[FlowFunction, ModelRequest[Any], Callable[[ModelRequest[Any]], Any]], Awaitable[Any]]


async def _sync(flow: FlowFunction, req: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Any]) -> Any:
    return drive(flow, req, handler)


async def _async(flow: FlowFunction, req: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Any]) -> Any:
    async def ahandler(r: ModelRequest[Any]) -> Any:
        return handler(r)

    return await adrive(flow, req, ahandler)


@pytest.fixture(params=[_sync, _async], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Runner:
    return request.param


def adding(word: str) -> FlowFunction:
    def flow(req: ModelRequest[Any]) -> Flow:
        answer = yield req.override(messages=[*req.messages, HumanMessage(word)])
        return response(f"{answer.result[0].text}<{word}")

    return flow


async def test_flows_wrap_each_other_first_outermost(run: Runner) -> None:
    outcome = await run(compose(adding("a"), adding("b"), adding("c")), request(), echo)
    assert text_of(outcome) == "hi/a/b/c<c<b<a"


async def test_no_flows_send_the_request_as_it_is(run: Runner) -> None:
    sent: list[ModelRequest[Any]] = []
    req = request()

    def handler(r: ModelRequest[Any]) -> ModelResponse[Any]:
        sent.append(r)
        return echo(r)

    await run(compose(), req, handler)
    assert sent == [req]


async def test_a_flow_may_answer_without_calling_the_model(run: Runner) -> None:
    def flow(req: ModelRequest[Any]) -> Flow:
        return response("from memory")
        yield req

    def handler(r: ModelRequest[Any]) -> ModelResponse[Any]:
        raise AssertionError(r)

    assert text_of(await run(compose(flow, adding("x")), request(), handler)) == "from memory"


async def test_a_flow_may_call_more_than_once(run: Runner) -> None:
    def flow(req: ModelRequest[Any]) -> Flow:
        first = yield req
        second = yield req.override(messages=[HumanMessage("again")])
        return response(text_of(first) + "+" + text_of(second))

    assert text_of(await run(compose(flow, adding("b")), request(), echo)) == "hi/b<b+again/b<b"


async def test_an_error_of_the_model_is_thrown_into_the_flow_which_may_recover(run: Runner) -> None:
    seen: list[str] = []

    def inner(req: ModelRequest[Any]) -> Flow:
        try:
            return (yield req)
        finally:
            seen.append("inner closed")

    def outer(req: ModelRequest[Any]) -> Flow:
        try:
            return (yield req)
        except ValueError as error:
            seen.append(str(error))
            return (yield req.override(messages=[HumanMessage("second try")]))

    def handler(r: ModelRequest[Any]) -> ModelResponse[Any]:
        if r.messages[0].text == "hi":
            raise ValueError("overloaded")
        return echo(r)

    assert text_of(await run(compose(outer, inner), request(), handler)) == "second try"
    assert seen == ["inner closed", "overloaded", "inner closed"]


async def test_an_error_of_the_model_reaches_the_caller_unchanged(run: Runner) -> None:
    error = ValueError("no")

    def handler(_: ModelRequest[Any]) -> ModelResponse[Any]:
        raise error

    with pytest.raises(ValueError, match="no") as caught:
        await run(guarded(compose(adding("a"), adding("b")), part="x", failed=lambda *_: None), request(), handler)
    assert caught.value is error


async def test_flows_are_closed_when_the_model_fails(run: Runner) -> None:
    closed: list[str] = []

    def holding(name: str) -> FlowFunction:
        def flow(req: ModelRequest[Any]) -> Flow:
            try:
                return (yield req)
            finally:
                closed.append(name)

        return flow

    def handler(_: ModelRequest[Any]) -> ModelResponse[Any]:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await run(compose(holding("outer"), holding("inner")), request(), handler)
    assert closed == ["inner", "outer"]


@pytest.mark.parametrize("bubble", [GraphBubbleUp(), GraphInterrupt()], ids=["bubble", "interrupt"])
async def test_a_bubbling_interrupt_passes_even_a_flow_that_swallows_errors(run: Runner, bubble: Exception) -> None:
    released: list[bool] = []

    def flow(req: ModelRequest[Any]) -> Flow:
        try:
            return (yield req)
        except Exception:
            released.append(True)
            return response("swallowed")

    def handler(_: ModelRequest[Any]) -> ModelResponse[Any]:
        raise bubble

    with pytest.raises(GraphBubbleUp):
        await run(compose(flow, adding("a")), request(), handler)
    assert released == [True]


async def test_cancelling_the_model_call_cancels_the_flow() -> None:
    seen: list[str] = []
    started = asyncio.Event()

    def flow(req: ModelRequest[Any]) -> Flow:
        try:
            return (yield req)
        except asyncio.CancelledError:
            seen.append("released")
            raise

    async def handler(_: ModelRequest[Any]) -> ModelResponse[Any]:
        started.set()
        await asyncio.sleep(60)
        return response("late")

    task = asyncio.create_task(adrive(compose(flow, adding("b")), request(), handler))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["released"]


async def test_cancelling_during_a_step_waits_for_the_step_and_then_tells_the_flow() -> None:
    entered, go_on = threading.Event(), threading.Event()
    seen: list[str] = []

    def flow(req: ModelRequest[Any]) -> Flow:
        entered.set()
        assert go_on.wait(10)
        seen.append("reserved")
        try:
            return (yield req)
        except asyncio.CancelledError:
            seen.append("released")
            raise

    async def handler(_: ModelRequest[Any]) -> ModelResponse[Any]:
        raise AssertionError

    task = asyncio.create_task(adrive(flow, request(), handler))
    await asyncio.to_thread(entered.wait, 10)
    task.cancel()
    await asyncio.sleep(0.01)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["reserved", "released"]


async def test_the_event_loop_is_not_blocked_by_a_flow() -> None:
    go_on = threading.Event()

    def flow(req: ModelRequest[Any]) -> Flow:
        assert go_on.wait(10)  # would hang if it ran in the loop, which is what sets it
        return (yield req)

    async def handler(r: ModelRequest[Any]) -> ModelResponse[Any]:
        return echo(r)

    task = asyncio.create_task(adrive(flow, request(), handler))
    await asyncio.sleep(0)
    go_on.set()
    assert text_of(await task) == "hi"


# --- stepping aside --------------------------------------------------------------------------------------------------


class Breaking(FlowMiddleware):
    """Fails before the call, after it, or while handling the model's error."""

    part = "breaking"

    def __init__(self, where: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.where = where

    def flow(self, request: ModelRequest[Any]) -> Flow:
        if self.where == "before":
            raise RuntimeError("no index")
        if self.where == "nothing":
            return None  # type: ignore[return-value]
        try:
            answer = yield request.override(messages=[*request.messages, HumanMessage("changed")])
        except ValueError as error:
            raise KeyError("worse") from error
        if self.where == "after":
            raise RuntimeError("no disk")
        return answer


@pytest.mark.parametrize(
    ("where", "stage", "sent"),
    [("before", "request", "hi"), ("nothing", "request", "hi"), ("after", "response", "hi/changed")],
)
async def test_a_flow_that_fails_steps_aside(
    run: Runner, where: str, stage: str, sent: str, caplog: pytest.LogCaptureFixture
) -> None:
    sink = ListSink()
    middleware = Breaking(where, sink=sink)
    for _ in range(2):
        assert text_of(await run(middleware.run_flow, request(), echo)) == sent
    failures = sink.of(Failure)
    assert [(f.part, f.stage) for f in failures] == [("breaking", stage)] * 2
    assert len([r for r in caplog.records if "stepped aside" in r.message]) == 1


async def test_the_models_own_error_wins_over_a_flows_error_while_handling_it(run: Runner) -> None:
    sink = ListSink()

    def handler(_: ModelRequest[Any]) -> ModelResponse[Any]:
        raise ValueError("rate limit")

    with pytest.raises(ValueError, match="rate limit"):
        await run(Breaking("", sink=sink).run_flow, request(), handler)
    assert sink.of(Failure)[0].error == "KeyError: 'worse'"


async def test_only_a_budget_may_stop_a_call(run: Runner) -> None:
    class Refusing(FlowMiddleware):
        part = "refusing"

        def flow(self, request: ModelRequest[Any]) -> Flow:
            raise BudgetExceededError("spent", limit=1, spent=1, needed=1, unit="tokens")
            yield request

    with pytest.raises(BudgetExceededError):
        await run(Refusing().run_flow, request(), echo)
    assert text_of(await run(Refusing(mode="shadow").run_flow, request(), echo)) == "hi"


async def test_a_failure_after_an_internal_call_still_makes_the_real_call(run: Runner) -> None:
    class Summarising(FlowMiddleware):
        part = "summary"

        def flow(self, request: ModelRequest[Any]) -> Flow:
            yield internal_call(request.override(messages=[HumanMessage("summarise")]))
            raise RuntimeError("bad summary")

    assert text_of(await run(Summarising().run_flow, request("question"), echo)) == "question"


# --- shadow ----------------------------------------------------------------------------------------------------------


async def test_shadow_changes_neither_request_nor_response(run: Runner) -> None:
    sent: list[ModelRequest[Any]] = []
    seen: list[str] = []

    def changing(req: ModelRequest[Any]) -> Flow:
        answer = yield req.override(messages=[HumanMessage("changed")])
        seen.append(text_of(answer))
        return response("changed too")

    def handler(r: ModelRequest[Any]) -> ModelResponse[Any]:
        sent.append(r)
        return echo(r)

    req = request()
    outcome = await run(shadowed(changing, part="x", failed=lambda *_: None), req, handler)
    assert (text_of(outcome), sent, seen) == ("hi", [req], ["hi"])


async def test_shadow_serves_no_answer_of_its_own_and_makes_no_further_call(run: Runner) -> None:
    sent: list[str] = []

    def handler(r: ModelRequest[Any]) -> ModelResponse[Any]:
        sent.append(r.messages[0].text)
        return echo(r)

    def hit(req: ModelRequest[Any]) -> Flow:
        return response("stored")
        yield req

    def twice(req: ModelRequest[Any]) -> Flow:
        yield internal_call(req.override(messages=[HumanMessage("judge")]))
        return (yield req)

    def again(req: ModelRequest[Any]) -> Flow:
        yield req
        return (yield req.override(messages=[HumanMessage("again")]))

    for flow in (hit, twice, again):
        outcome = await run(shadowed(flow, part="x", failed=lambda *_: None), request(), handler)
        assert text_of(outcome) == "hi"
    assert sent == ["hi", "hi", "hi"]


async def test_shadow_survives_a_failing_flow_and_passes_the_models_error(run: Runner) -> None:
    failed: list[tuple[str, str]] = []

    def flow(req: ModelRequest[Any]) -> Flow:
        yield req
        raise RuntimeError("later")

    shadow = shadowed(flow, part="x", failed=lambda part, error, stage: failed.append((str(error), stage)))
    assert text_of(await run(shadow, request(), echo)) == "hi"
    assert failed == [("later", "response")]

    def handler(_: ModelRequest[Any]) -> ModelResponse[Any]:
        raise ValueError("model")

    with pytest.raises(ValueError, match="model"):
        await run(shadow, request(), handler)


async def test_events_in_shadow_say_so() -> None:
    class Emitting(FlowMiddleware):
        part = "emitting"

        def flow(self, request: ModelRequest[Any]) -> Flow:
            self.sink.emit(CacheLookup(outcome="miss"))
            return (yield request)

    for mode in ("optimize", "shadow"):
        sink = ListSink()
        drive(Emitting(sink=sink, mode=mode).run_flow, request(), echo)  # type: ignore[arg-type]
        assert [event.mode for event in sink.events] == [mode]


def test_an_unknown_mode_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigurationError, match=r"mode='of'.*optimize.*shadow"):
        Breaking("", mode="of")


# --- in a real agent -------------------------------------------------------------------------------------------------


class Note(FlowMiddleware):
    """Adds a word to what the model is sent."""

    part = "note"

    def flow(self, request: ModelRequest[Any]) -> Flow:
        note = HumanMessage(f"note {self.name}")
        return (yield request.override(messages=[*request.messages, note]))


@pytest.mark.parametrize("is_async", [False, True])
async def test_flows_in_an_agent_change_the_view_and_not_the_state(is_async: bool) -> None:
    model = ScriptedModel(responses=["done"])
    agent = create_agent(model, middleware=[Note(name="one"), Note(name="two")], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    given = {"messages": [HumanMessage("hi")]}
    state = await agent.ainvoke(given, config) if is_async else agent.invoke(given, config)
    assert [m.text for m in model.calls[0].messages] == ["hi", "note one", "note two"]
    assert [m.text for m in state["messages"]] == ["hi", "done"]


# https://docs.langchain.com/oss/python/langgraph/streaming#async-with-python-%3C-3-11
before_311 = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="LangGraph hands no config to async nodes before 3.11"
)
both = pytest.mark.parametrize("is_async", [False, pytest.param(True, marks=before_311)])


@both
async def test_who_is_read_from_the_config_of_the_run(is_async: bool) -> None:
    seen: list[Who] = []

    class Asking(FlowMiddleware):
        part = "asking"

        def flow(self, request: ModelRequest[Any]) -> Flow:
            seen.append(call_who(request))
            return (yield request)

    agent = create_agent(ScriptedModel(), middleware=[Asking()], name="helper")
    config: Any = {"configurable": {"thread_id": "t1", "user_id": 7}, "metadata": {"project": "p"}}
    given = {"messages": [HumanMessage("hi")]}
    await agent.ainvoke(given, config) if is_async else agent.invoke(given, config)
    assert (seen[0].thread, seen[0].user, seen[0].project, seen[0].agent) == ("t1", "7", "p", "helper")
    assert seen[0].node == "model"


def test_who_prefers_the_context_and_ignores_what_is_not_a_name() -> None:
    class Context:
        user_id = "ctx"
        project = ""

    config = {"configurable": {"user_id": "conf", "thread_id": True, "project": object()}, "metadata": {"project": "m"}}
    assert who(config=config, context=Context()) == Who(user="ctx", project="m")


def test_one_request_gives_its_events_one_id() -> None:
    with request_scope() as outer:
        with request_scope() as inner:
            event = CacheLookup(outcome="miss")
        assert event.request == outer == inner
    assert CacheLookup(outcome="miss").request is None


@both
async def test_an_interrupt_inside_a_flow_is_resumed(is_async: bool) -> None:
    class Asking(FlowMiddleware):
        part = "asking"

        def flow(self, request: ModelRequest[Any]) -> Flow:
            if interrupt("may I?") != "yes":
                return response("not allowed")
            return (yield request)

    model = ScriptedModel(responses=["done"])
    agent = create_agent(model, middleware=[Asking()], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}

    async def go(given: Any) -> Any:
        return await agent.ainvoke(given, config) if is_async else agent.invoke(given, config)

    state = await go({"messages": [HumanMessage("hi")]})
    assert state["__interrupt__"][0].value == "may I?"
    assert model.calls == []
    state = await go(Command(resume="yes"))
    assert state["messages"][-1].text == "done"
    assert len(model.calls) == 1


@before_311
async def test_an_internal_call_stays_out_of_the_users_token_stream() -> None:
    class Summarising(FlowMiddleware):
        part = "summary"

        def flow(self, request: ModelRequest[Any]) -> Flow:
            marked = internal_call(request.override(messages=[HumanMessage("summarise")]))
            assert is_internal(marked)
            assert not is_internal(request)
            yield marked
            return (yield request)

    model = ScriptedModel(responses=["the summary", "the answer"])
    agent = create_agent(model, middleware=[Summarising()])
    tokens = [
        chunk.text
        async for chunk, _ in agent.astream({"messages": [HumanMessage("hi")]}, stream_mode="messages")
        if chunk.type == "AIMessageChunk"
    ]
    assert "".join(tokens) == "the answer"
    assert len(model.calls) == 2
