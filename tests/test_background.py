"""Calls beside the user's answer: never waited for, always ended once, and nobody's run is told."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import AgentState, create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ExtendedModelResponse, ModelRequest, ModelResponse
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, get_usage_metadata_callback
from langchain_core.globals import set_llm_cache
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_config
from langgraph.runtime import get_runtime
from langgraph.types import Command
from typing_extensions import NotRequired

from langchain_tokopt.background import Background, BackgroundStats
from langchain_tokopt.budget import Budget, BudgetMiddleware
from langchain_tokopt.caller import call_who
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import Event, Failure, ModelCall, Who
from langchain_tokopt.flow import (
    Flow,
    FlowFunction,
    FlowMiddleware,
    adrive,
    compose,
    drive,
    guarded,
    is_background,
    is_internal,
    shadowed,
)
from langchain_tokopt.later import AbandonedError, Later
from langchain_tokopt.model import OptimizedChatModel
from langchain_tokopt.surroundings import apart_from_the_call
from langchain_tokopt.telemetry import Telemetry, UsageCallback, UsageMiddleware
from tests.fakes import ListSink, ScriptedModel, ai

WAIT = 20.0
before_311 = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="LangGraph hands no config to async nodes before 3.11"
)


class Ends:
    """Takes how calls ended, in order, and waits for it."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.threads: list[threading.Thread] = []
        self._more = threading.Semaphore(0)

    def then(self, response: ModelResponse[Any]) -> None:
        self._take(response.result[0].text)

    def otherwise(self, error: BaseException) -> None:
        self._take(error.reason if isinstance(error, AbandonedError) else repr(error))

    def _take(self, what: Any) -> None:
        self.threads.append(threading.current_thread())
        self.seen.append(what)
        self._more.release()

    def wait(self, count: int = 1) -> list[Any]:
        for _ in range(count):
            assert self._more.acquire(timeout=WAIT)
        return self.seen

    def later(self, request: ModelRequest[Any], text: str = "check") -> Later:
        return Later(request.override(messages=[HumanMessage(text)]), self.then, self.otherwise)


class Gate:
    """A model's answer that comes when the gate is opened."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        assert self.open.wait(WAIT)


class Asking(FlowMiddleware):
    """Asks for a call in the background, and lets the user's call go on, or answers it itself."""

    part = "asking"

    def __init__(self, ends: Ends, *, answer: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ends = ends
        self.answer = answer

    def flow(self, request: ModelRequest[Any]) -> Flow:
        assert (yield self.ends.later(request)) is None
        if self.answer is not None:
            return response(self.answer)
        return (yield request)


def request(text: str = "hi") -> ModelRequest[Any]:
    return ModelRequest(model=ScriptedModel(), messages=[HumanMessage(text)])


def response(text: str) -> ModelResponse[Any]:
    return ModelResponse(result=[AIMessage(text)])


def text_of(outcome: Any) -> str:
    return outcome.result[0].text


def echo(req: ModelRequest[Any]) -> ModelResponse[Any]:
    return response("/".join(m.text for m in req.messages))


Runner = Callable[..., Awaitable[Any]]


async def _sync(flow: FlowFunction, req: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Any]) -> Any:
    return drive(flow, req, handler)


async def _async(flow: FlowFunction, req: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Any]) -> Any:
    async def ahandler(r: ModelRequest[Any]) -> Any:
        return await asyncio.to_thread(handler, r) if is_background(r) else handler(r)

    return await adrive(flow, req, ahandler)


@pytest.fixture(params=[_sync, _async], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Runner:
    return request.param


# --- the promise -----------------------------------------------------------------------------------------------------


async def test_the_answer_does_not_wait_for_the_call_in_the_background(run: Runner) -> None:
    ends, gate, marks = Ends(), Gate(), []

    def handler(r: ModelRequest[Any]) -> ModelResponse[Any]:
        if is_background(r):
            marks.append((is_internal(r), "nostream" in r.model.tags, r.model.cache))
            gate.pass_through()
        return echo(r)

    middleware = Asking(ends)
    req = request()
    assert text_of(await run(middleware.run_flow, req, handler)) == "hi"
    assert await asyncio.to_thread(gate.reached.wait, WAIT)
    assert ends.seen == []
    assert middleware.background.stats().under_way == 1
    gate.open.set()
    assert await middleware.background.adrain(WAIT)
    assert ends.seen == ["check"]
    assert ends.threads[0] is not threading.main_thread()
    assert marks == [(True, True, False)]
    assert not is_internal(req)
    assert middleware.background.stats() == BackgroundStats(under_way=0, answered=1, failed=0, dropped=0, abandoned=0)


async def test_it_goes_through_the_flows_inside_of_the_one_that_asked(run: Runner) -> None:
    ends, log = Ends(), []

    def noting(name: str) -> FlowFunction:
        def flow(req: ModelRequest[Any]) -> Flow:
            log.append(f"{name}:{req.messages[0].text}")
            answer = yield req
            return response(f"{text_of(answer)}<{name}")

        return flow

    asking = Asking(ends)
    flows = [noting("out"), asking.run_flow, noting("in"), noting("innermost")]
    for flow in (
        compose(*flows),
        compose(compose(*flows[:2]), compose(*flows[2:])),
        compose(compose(*flows[:3]), flows[3]),
    ):
        log.clear()
        ends.seen.clear()
        assert text_of(await run(flow, request(), echo)) == "hi<innermost<in<out"
        assert await asking.background.adrain(WAIT)
        assert ends.seen == ["check<innermost<in"]
        assert sorted(log) == ["in:check", "in:hi", "innermost:check", "innermost:hi", "out:hi"]


async def test_a_call_in_the_background_may_ask_for_another(run: Runner) -> None:
    outer, inner = Ends(), Ends()
    first, second = Asking(outer), Asking(inner)
    assert text_of(await run(compose(first.run_flow, second.run_flow), request(), echo)) == "hi"
    await asyncio.to_thread(outer.wait)
    await asyncio.to_thread(inner.wait, 2)
    assert (outer.seen, inner.seen) == (["check"], ["check", "check"])


async def test_an_error_is_told_to_the_flow_and_put_on_record_and_reaches_nobody_else(run: Runner) -> None:
    ends, sink = Ends(), ListSink()

    def handler(r: ModelRequest[Any]) -> ModelResponse[Any]:
        if is_background(r):
            raise ValueError("overloaded")
        return echo(r)

    middleware = Asking(ends, sink=sink)
    assert text_of(await run(middleware.run_flow, request(), handler)) == "hi"
    assert await middleware.background.adrain(WAIT)
    assert ends.seen == ["ValueError('overloaded')"]
    (failure,) = sink.of(Failure)
    assert (failure.part, failure.error, failure.stage) == ("asking", "ValueError: overloaded", "background")
    assert middleware.background.stats().failed == 1


async def test_what_then_raises_is_put_on_record_and_otherwise_is_not_called(run: Runner) -> None:
    called: list[str] = []
    sink = ListSink()

    class Broken(FlowMiddleware):
        part = "broken"

        def flow(self, request: ModelRequest[Any]) -> Flow:
            def then(_: ModelResponse[Any]) -> None:
                called.append("then")
                raise KeyError("mine")

            yield Later(request, then, lambda _: called.append("otherwise"))
            return (yield request)

    middleware = Broken(sink=sink)
    await run(middleware.run_flow, request(), echo)
    assert await middleware.background.adrain(WAIT)
    assert called == ["then"]
    assert [(f.error, f.stage) for f in sink.of(Failure)] == [("KeyError: 'mine'", "background")]


async def test_those_beyond_the_limit_are_dropped_and_counted(run: Runner) -> None:
    ends, gate, sink = Ends(), Gate(), ListSink()

    def handler(r: ModelRequest[Any]) -> ModelResponse[Any]:
        if is_background(r):
            gate.pass_through()
        return echo(r)

    middleware = Asking(ends, sink=sink)
    middleware.background = Background(limit=1)
    for _ in range(3):
        assert text_of(await run(middleware.run_flow, request(), handler)) == "hi"
    assert ends.seen == ["1 others were under way"] * 2
    gate.open.set()
    assert await middleware.background.adrain(WAIT)
    assert ends.seen[2:] == ["check"]
    assert middleware.background.stats() == BackgroundStats(under_way=0, answered=1, failed=0, dropped=2, abandoned=0)
    assert sink.events == []


async def test_the_answer_goes_out_before_the_call_begins(run: Runner) -> None:
    ends, sent = Ends(), []

    def handler(r: ModelRequest[Any]) -> ModelResponse[Any]:
        sent.append(r.messages[0].text)
        return echo(r)

    middleware = Asking(ends)
    middleware.background = Background(grace_seconds=3600)
    assert text_of(await run(middleware.run_flow, request(), handler)) == "hi"
    assert sent == ["hi"]
    assert await middleware.background.adrain(WAIT)  # who waits for it does not wait for the grace
    assert (sent, ends.seen) == (["hi", "check"], ["check"])


async def test_a_call_that_was_given_up_before_it_began_is_not_made(run: Runner) -> None:
    ends, sent = Ends(), []

    def handler(r: ModelRequest[Any]) -> ModelResponse[Any]:
        sent.append(r.messages[0].text)
        return echo(r)

    middleware = Asking(ends)
    middleware.background = Background(grace_seconds=3600)
    await run(middleware.run_flow, request(), handler)
    (errand,) = middleware.background._errands
    middleware.background._abandon("enough")
    errand.hurry()
    if errand.task is not None:
        await asyncio.wait([errand.task])
    assert await middleware.background.adrain(WAIT)
    assert (sent, ends.seen) == (["hi"], ["enough"])


@pytest.mark.parametrize(
    ("argument", "value"),
    [*(("limit", value) for value in (-1, 1.5, True, "many")), ("grace_seconds", -1), ("grace_seconds", float("nan"))],
)
def test_a_setting_that_cannot_work_is_refused(argument: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{argument}="):
        Background(**{argument: value})


def test_other_work_is_done_in_a_thread_too_and_its_error_is_told() -> None:
    background, told = Background(limit=1), []
    assert background.run(lambda: told.append(threading.current_thread().daemon))
    assert not background.run(lambda: told.append("too much"))
    assert background.drain(WAIT)
    assert background.run(lambda: 1 / 0, told.append)
    assert background.drain(WAIT)
    assert told[0] is True
    assert isinstance(told[1], ZeroDivisionError)
    assert background.stats() == BackgroundStats(under_way=0, answered=1, failed=1, dropped=1, abandoned=0)


async def test_in_shadow_and_without_a_place_it_is_not_made(run: Runner) -> None:
    sent: list[str] = []

    def handler(r: ModelRequest[Any]) -> ModelResponse[Any]:
        sent.append(r.messages[0].text)
        return echo(r)

    ends = Ends()

    def before_and_after(req: ModelRequest[Any]) -> Flow:
        yield ends.later(req)
        answer = yield req
        yield ends.later(req)
        return answer

    def failed(*_: Any) -> None:
        raise AssertionError

    shadow = shadowed(before_and_after, part="x", failed=failed)
    assert text_of(await run(shadow, request(), handler)) == "hi"
    assert ends.seen == ["in shadow no further call is made"] * 2
    ends.seen.clear()
    assert text_of(await run(guarded(before_and_after, part="x", failed=failed), request(), handler)) == "hi"
    assert ends.seen == ["nobody makes calls in the background here"] * 2
    assert sent == ["hi", "hi"]


async def test_a_flow_that_fails_after_asking_steps_aside_and_the_call_goes_on(run: Runner) -> None:
    ends, sink = Ends(), ListSink()

    class Breaking(FlowMiddleware):
        part = "breaking"

        def flow(self, request: ModelRequest[Any]) -> Flow:
            yield ends.later(request)
            raise RuntimeError("afterwards")

    middleware = Breaking(sink=sink)
    assert text_of(await run(middleware.run_flow, request(), echo)) == "hi"
    assert await middleware.background.adrain(WAIT)
    assert ends.seen == ["check"]
    assert [(f.error, f.stage) for f in sink.of(Failure)] == [("RuntimeError: afterwards", "request")]


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_close_waits_for_a_bounded_time_and_abandons_what_hangs(run: Runner) -> None:
    ends, gate = Ends(), Gate()

    def handler(r: ModelRequest[Any]) -> ModelResponse[Any]:
        if is_background(r):
            gate.pass_through()
        return echo(r)

    middleware = Asking(ends)
    await run(middleware.run_flow, request(), handler)
    assert await asyncio.to_thread(gate.reached.wait, WAIT)
    await asyncio.to_thread(middleware.background.close, 0.01)
    assert ends.seen == ["it was closed"]
    gate.open.set()
    await run(middleware.run_flow, request(), handler)
    assert ends.seen == ["it was closed"] * 2
    stats = middleware.background.stats()
    assert (stats.under_way, stats.answered, stats.dropped, stats.abandoned) == (0, 0, 1, 1)


async def test_close_lets_what_is_under_way_finish(run: Runner) -> None:
    ends, gate = Ends(), Gate()

    def handler(r: ModelRequest[Any]) -> ModelResponse[Any]:
        if is_background(r):
            gate.pass_through()
        return echo(r)

    middleware = Asking(ends)
    await run(middleware.run_flow, request(), handler)
    closing = asyncio.create_task(asyncio.to_thread(middleware.background.close, WAIT))
    assert await asyncio.to_thread(gate.reached.wait, WAIT)
    gate.open.set()
    await closing
    assert ends.seen == ["check"]


async def test_on_its_own_loop_nothing_is_waited_for() -> None:
    ends = Ends()
    middleware = Asking(ends)
    assert text_of(await _async(middleware.run_flow, request(), echo)) == "hi"
    task = next(iter(middleware.background._errands)).task
    assert middleware.background.drain(WAIT) is False
    middleware.background.close(WAIT)
    assert ends.seen == ["it was closed"]
    assert task is not None
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_loop_that_ends_abandons_its_calls() -> None:
    ends, released = Ends(), []
    begun = asyncio.Event()

    def watching(req: ModelRequest[Any]) -> Flow:
        try:
            return (yield req)
        except BaseException as error:
            released.append(type(error))
            raise

    async def handler(r: ModelRequest[Any]) -> ModelResponse[Any]:
        if is_background(r):
            begun.set()
            await asyncio.sleep(3600)
        return echo(r)

    middleware = Asking(ends)

    async def main() -> None:
        assert text_of(await adrive(compose(middleware.run_flow, watching), request(), handler)) == "hi"
        await begun.wait()

    asyncio.run(main())
    assert ends.seen == ["its event loop ended"]
    assert released == [asyncio.CancelledError]
    assert middleware.background.stats().abandoned == 1


def test_a_call_whose_loop_ends_before_it_began_is_abandoned() -> None:
    ends = Ends()
    middleware = Asking(ends)

    async def handler(r: ModelRequest[Any]) -> ModelResponse[Any]:
        raise AssertionError(r)

    async def main() -> None:
        refused = await middleware.background.astart(ends.later(request()), lambda: handler(request()))
        assert refused is None
        task = next(iter(middleware.background._errands)).task
        assert task is not None
        task.cancel()

    asyncio.run(main())
    assert ends.seen == ["its event loop ended"]


def test_a_loop_that_is_closed_without_a_word_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    ends, released = Ends(), []
    begun = threading.Event()

    def watching(req: ModelRequest[Any]) -> Flow:
        try:
            return (yield req)
        except GeneratorExit:
            released.append("closed")
            raise

    async def handler(r: ModelRequest[Any]) -> ModelResponse[Any]:
        if is_background(r):
            begun.set()
            await asyncio.sleep(3600)
        return echo(r)

    middleware = Asking(ends)

    async def main() -> None:
        await adrive(compose(middleware.run_flow, watching), request(), handler)
        while not begun.is_set():
            await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    assert middleware.background.stats() == BackgroundStats(under_way=0, answered=0, failed=0, dropped=0, abandoned=1)
    assert ends.seen == ["its event loop ended"]
    gc.collect()
    assert released == ["closed"]
    assert caplog.records == []


PROCESS = """
import sys, threading
from tests.test_background import Asking, Ends, Gate, echo, request
from langchain_tokopt.flow import drive, is_background

ends, gate = Ends(), Gate()
ends._take = lambda what: print(what, flush=True)

def handler(r):
    if is_background(r):
        gate.reached.set()
        threading.Event().wait()
    return echo(r)

def main():
    middleware = Asking(ends)
    drive(middleware.run_flow, request(), handler)
    assert gate.reached.wait(20)
    return middleware

if sys.argv[1] == "child":
    import multiprocessing
    process = multiprocessing.get_context("fork").Process(target=main)
    process.start()
    process.join(30)
    print("exit", process.exitcode, flush=True)
elif sys.argv[1] == "fork":
    import os
    middleware = main()
    child = os.fork()
    if child == 0:
        print("child", middleware.background.stats().under_way, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print("parent", middleware.background.stats().under_way, flush=True)
else:
    kept = main()
"""


def _process(way: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROCESS, way],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


def test_a_process_that_ends_waits_for_no_call_and_abandons_it() -> None:
    assert _process("plain") == ["it was closed"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_so_does_a_child_of_multiprocessing_and_a_fork_takes_no_call_with_it() -> None:
    assert _process("child") == ["it was closed", "exit 0"]
    assert _process("fork") == ["child 0", "parent 1", "it was closed"]


# --- in a real agent -------------------------------------------------------------------------------------------------


class Listening(BaseCallbackHandler):
    """What a run's callbacks are told of model calls."""

    def __init__(self) -> None:
        self.starts: list[str] = []
        self.tags: list[Any] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, *, tags: Any = None, **kwargs: Any) -> None:
        self.starts.append(messages[0][-1].text)
        self.tags.append(tags)


class Inside(FlowMiddleware):
    """Looks around where the call in the background is made."""

    part = "inside"

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def flow(self, request: ModelRequest[Any]) -> Flow:
        if is_background(request):
            config = get_config()
            runtime = get_runtime()
            runtime.stream_writer("leak")
            request.runtime.stream_writer("leak")  # type: ignore[union-attr]
            keys = {key for key in config["configurable"] if key.startswith(("__pregel", "checkpoint"))}
            self.seen.append((call_who(request), keys, runtime.context, config["callbacks"]))
        return (yield request)


def answering(gate: Gate) -> Callable[[list[Any]], AIMessage]:
    def answer(messages: list[Any]) -> AIMessage:
        if messages[-1].text == "check":
            gate.pass_through()
            return ai("checked", input_tokens=7, output_tokens=1)
        return ai("the answer", input_tokens=5, output_tokens=2)

    return answer


async def _go(agent: Any, way: str, config: Any) -> tuple[list[Any], dict[str, Any] | None]:
    """What was streamed, and the state at the end where the way gives it."""
    given = {"messages": [HumanMessage("hi")]}
    modes = ["messages", "custom", "updates"]
    if way == "invoke":
        return [], await asyncio.to_thread(agent.invoke, given, config, context={"tenant": "acme"})
    if way == "ainvoke":
        return [], await agent.ainvoke(given, config, context={"tenant": "acme"})
    if way == "stream":
        stream = agent.stream(given, config, stream_mode=modes, context={"tenant": "acme"})
        return await asyncio.to_thread(list, stream), None
    if way == "astream":
        return [
            part async for part in agent.astream(given, config, stream_mode=modes, context={"tenant": "acme"})
        ], None
    events = agent.astream_events(given, config, version="v2", context={"tenant": "acme"})
    return [event async for event in events], None


@before_311
@pytest.mark.parametrize("early", [True, False], ids=["ends-first", "ends-last"])
@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream", "astream_events"])
async def test_in_an_agent_nobody_is_told_and_the_caller_is_known(way: str, early: bool) -> None:
    gate, ends, sink, listening, inside = Gate(), Ends(), ListSink(), Listening(), Inside()
    if early:
        gate.open.set()
    model = ScriptedModel(responses=[answering(gate)])
    asking = Asking(ends)
    agent: Any = create_agent(
        model,
        middleware=[asking, inside, UsageMiddleware(sink=sink)],
        checkpointer=InMemorySaver(),
        context_schema=dict,
    )
    config: Any = {
        "configurable": {"thread_id": "t", "user_id": "ada"},
        "metadata": {"project": "p"},
        "callbacks": [listening],
    }
    with get_usage_metadata_callback() as spent:
        streamed, state = await _go(agent, way, config)
        checkpoints = len(list(agent.get_state_history(config)))
        gate.open.set()
        assert await asking.background.adrain(WAIT)
    assert ends.seen == ["checked"]
    assert "checked" not in repr(streamed)
    assert "leak" not in repr(streamed)
    assert listening.starts == ["hi"]
    assert sum(usage["total_tokens"] for usage in spent.usage_metadata.values()) == 7
    if state is not None:
        assert [m.text for m in state["messages"]] == ["hi", "the answer"]
    assert [m.text for m in agent.get_state(config).values["messages"]] == ["hi", "the answer"]
    assert len(list(agent.get_state_history(config))) == checkpoints
    ((who, keys, context, callbacks),) = inside.seen
    assert (who.user, who.thread, who.project, who.tenant, who.node) == ("ada", "t", "p", "acme", "model")
    assert keys == {"__pregel_runtime"}
    assert (context, callbacks) == ({"tenant": "acme"}, None)
    calls = {call.internal: call for call in sink.of(ModelCall)}
    assert calls[True].usage is not None
    assert calls[True].usage["input_tokens"] == 7
    assert calls[True].request == calls[False].request
    assert calls[True].who == calls[False].who
    assert len(sink.events) == 2


@before_311
@pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
@pytest.mark.parametrize("is_async", [False, True])
async def test_v3_streams_are_told_nothing(is_async: bool) -> None:
    gate, ends = Gate(), Ends()
    gate.open.set()
    asking = Asking(ends)
    agent: Any = create_agent(ScriptedModel(responses=[answering(gate)]), middleware=[asking])
    given = {"messages": [HumanMessage("hi")]}
    if is_async:
        stream = await agent.astream_events(given, version="v3")
        events = [event async for event in stream]
        assert await asking.background.adrain(WAIT)
    else:
        events = await asyncio.to_thread(lambda: list(agent.stream_events(given, version="v3")))
        assert asking.background.drain(WAIT)
    assert ends.seen == ["checked"]
    assert "answer" in repr(events)
    assert "checked" not in repr(events)


class Noted(AgentState[Any]):
    noted: NotRequired[str]


class Commanding(AgentMiddleware[Any, Any, Any]):
    """Sends a command with every answer, as LangChain lets a middleware do."""

    def __init__(self) -> None:
        super().__init__()
        self.state_schema = Noted
        self.tools = []

    def _with_command(self, request: ModelRequest[Any], answer: Any) -> Any:
        return ExtendedModelResponse(
            model_response=answer, command=Command(update={"noted": request.messages[-1].text})
        )

    def wrap_model_call(self, request: ModelRequest[Any], handler: Any) -> Any:
        return self._with_command(request, handler(request))

    async def awrap_model_call(self, request: ModelRequest[Any], handler: Any) -> Any:
        return self._with_command(request, await handler(request))


@pytest.mark.parametrize("is_async", [False, True])
async def test_commands_of_the_two_calls_are_not_mixed_up(is_async: bool) -> None:
    """The call in the background runs to its end while the user's is inside LangChain's chain of middleware."""
    ends = Ends()

    class AskingAround(FlowMiddleware):
        part = "around"

        def flow(self, request: ModelRequest[Any]) -> Flow:
            answer = yield request
            yield ends.later(request)
            ends.wait()
            return answer

    agent: Any = create_agent(ScriptedModel(responses=["ok"]), middleware=[AskingAround(), Commanding()])
    given = {"messages": [HumanMessage("hi")]}
    state = await agent.ainvoke(given) if is_async else agent.invoke(given)
    assert ends.seen == ["ok"]
    assert state["noted"] == "hi"


def test_a_handler_of_langchains_gets_lists_of_its_own_and_nothing_else_changes() -> None:
    told: list[int] = []
    total = {"sum": 0}

    def handler(number: int, factor: int = 2, *, more: int = 1) -> int:
        told.append(number)
        total["sum"] += number
        return number * factor + more

    assert apart_from_the_call(handler) is handler
    assert apart_from_the_call(len) is len
    handler.__module__ = "langchain.agents.factory"
    assert apart_from_the_call(handler)(3) == 7
    assert (told, total) == ([], {"sum": 3})


@pytest.mark.parametrize("is_async", [False, pytest.param(True, marks=before_311)])
async def test_langchains_own_cache_does_not_answer(is_async: bool) -> None:
    ends = Ends()
    model = ScriptedModel(responses=["one", "two"])

    class Same(FlowMiddleware):
        part = "same"

        def flow(self, request: ModelRequest[Any]) -> Flow:
            answer = yield request
            yield Later(request, ends.then, ends.otherwise)
            return answer

    same = Same()
    agent: Any = create_agent(model, middleware=[same])
    set_llm_cache(InMemoryCache())
    try:
        given = {"messages": [HumanMessage("hi")]}
        await agent.ainvoke(given) if is_async else agent.invoke(given)
        assert await same.background.adrain(WAIT)
    finally:
        set_llm_cache(None)
    assert ends.seen == ["two"]


@pytest.mark.parametrize("is_async", [False, pytest.param(True, marks=before_311)])
async def test_a_handler_that_says_so_is_told(is_async: bool) -> None:
    class Metering(Listening):
        sees_background_calls = True

    ends, metering, listening = Ends(), Metering(), Listening()
    asking = Asking(ends)
    agent: Any = create_agent(ScriptedModel(), middleware=[asking])
    given, config = {"messages": [HumanMessage("hi")]}, {"callbacks": [metering, listening]}
    await agent.ainvoke(given, config) if is_async else agent.invoke(given, config)
    assert await asking.background.adrain(WAIT)
    assert sorted(metering.starts) == ["check", "hi"]
    assert listening.starts == ["hi"]
    assert "tokopt:internal" in metering.tags[metering.starts.index("check")]


def test_a_budget_refuses_it_and_says_no_farewell() -> None:
    ends, sink = Ends(), ListSink()
    asking = Asking(ends, answer="stored", sink=sink)
    budget = Budget(tokens=1, per="day", on_exceeded="end")
    agent: Any = create_agent(ScriptedModel(), middleware=[asking, BudgetMiddleware(budget)])
    state = agent.invoke({"messages": [HumanMessage("hi")]})
    assert asking.background.drain(WAIT)
    assert state["messages"][-1].text == "stored"
    assert "0 of 1 tokens are spent or held" in ends.seen[0]
    assert sink.events == []
    assert asking.background.stats().failed == 1


# --- around a model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, "stored text"])
@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_around_a_model_in_a_chain(way: str, answer: str | None) -> None:
    gate, ends, sink, listening = Gate(), Ends(), ListSink(), Listening()
    seen: list[Who] = []

    def whose(req: ModelRequest[Any]) -> Flow:
        if is_background(req):
            seen.append(call_who(req))
        return (yield req)

    inner = ScriptedModel(responses=[answering(gate)])
    asking = Asking(ends, answer=answer)
    flow = compose(asking.run_flow, whose, UsageMiddleware(sink=sink).run_flow)
    model = OptimizedChatModel.around(inner, flow)
    chain = ChatPromptTemplate.from_template("{q}") | model | StrOutputParser()
    config: Any = {"callbacks": [listening], "configurable": {"user_id": "ada"}, "metadata": {"project": "p"}}
    with get_usage_metadata_callback() as spent:
        if way == "invoke":
            text = chain.invoke({"q": "hi"}, config)
        elif way == "ainvoke":
            text = await chain.ainvoke({"q": "hi"}, config)
        elif way == "stream":
            text = "".join(chain.stream({"q": "hi"}, config))
        else:
            text = "".join([part async for part in chain.astream({"q": "hi"}, config)])
        assert text == (answer or "the answer")
        assert await asyncio.to_thread(gate.reached.wait, WAIT)
        gate.open.set()
        assert await asking.background.adrain(WAIT)
    assert ends.seen == ["checked"]
    assert listening.starts == ["hi"]
    assert "checked" not in repr(spent.usage_metadata)
    assert [(who.user, who.project) for who in seen] == [("ada", "p")]
    assert sorted(call.internal for call in sink.of(ModelCall)) == ([True] if answer else [False, True])


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_a_model_alone_keeps_its_caller_and_the_run_its_id(way: str) -> None:
    ends, run_id, metering = Ends(), uuid.uuid4(), Listening()
    metering.sees_background_calls = True  # type: ignore[attr-defined]
    runs: list[Any] = []
    metering.on_llm_end = lambda *_, run_id, **__: runs.append(run_id)  # type: ignore[method-assign]
    seen: list[Who] = []

    def whose(req: ModelRequest[Any]) -> Flow:
        seen.append(call_who(req))
        return (yield req)

    asking = Asking(ends)
    model = OptimizedChatModel.around(ScriptedModel(), compose(asking.run_flow, whose))
    config: Any = {"configurable": {"user_id": "ada"}, "run_id": run_id, "callbacks": [metering]}
    await model.ainvoke("hi", config) if way == "ainvoke" else model.invoke("hi", config)
    assert await asking.background.adrain(WAIT)
    assert [(who.user, who.run) for who in seen] == [("ada", str(run_id))] * 2
    assert len(runs) == len(set(runs)) == 2
    assert run_id in runs


def test_the_usage_callback_is_told_once_beside_the_usage_middleware() -> None:
    events: list[Event] = []
    telemetry = Telemetry()
    telemetry.emit = events.append  # type: ignore[method-assign]
    callback = UsageCallback(telemetry)
    ends = Ends()
    asking = Asking(ends)
    model = ScriptedModel(responses=[ai("x", input_tokens=3, output_tokens=1)])
    agent: Any = create_agent(model, middleware=[asking, UsageMiddleware(telemetry)])
    agent.invoke({"messages": [HumanMessage("hi")]}, {"callbacks": [callback]})
    assert asking.background.drain(WAIT)
    assert sorted(event.internal for event in events if isinstance(event, ModelCall)) == [False, True]
    telemetry.close()


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_model_that_another_optimiser_wrapped_knows_whose_call_it_is(is_async: bool) -> None:
    ends, seen = Ends(), []

    def serving_all_but_internal_calls(req: ModelRequest[Any]) -> Flow:
        seen.append((req.messages[-1].text, is_internal(req), is_background(req), req.model.cache))
        return response("stored") if not is_internal(req) else (yield req)

    inner = ScriptedModel(responses=["from the model"])
    model = OptimizedChatModel.around(inner, serving_all_but_internal_calls, owner="other")
    asking = Asking(ends)
    agent: Any = create_agent(model, middleware=[asking])
    given = {"messages": [HumanMessage("hi")]}
    state = await agent.ainvoke(given) if is_async else agent.invoke(given)
    assert await asking.background.adrain(WAIT)
    assert state["messages"][-1].text == "stored"
    assert ends.seen == ["from the model"]
    assert sorted(seen) == [("check", True, True, False), ("hi", False, False, None)]
    assert inner.tags is None


def test_the_models_own_callbacks_are_not_told_either() -> None:
    ends, listening, metering = Ends(), Listening(), Listening()
    metering.sees_background_calls = True  # type: ignore[attr-defined]
    asking = Asking(ends)
    agent: Any = create_agent(ScriptedModel(callbacks=[listening, metering]), middleware=[asking])
    agent.invoke({"messages": [HumanMessage("hi")]})
    assert asking.background.drain(WAIT)
    assert (listening.starts, sorted(metering.starts)) == (["hi"], ["check", "hi"])
