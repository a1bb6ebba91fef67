"""A wrapped model does what the model inside does, with flows around it."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from langchain_tokopt.caller import call_who
from langchain_tokopt.flow import Flow, StreamClosed, compose, guarded, internal_call, partial_answer
from langchain_tokopt.model import OptimizedChatModel
from tests.fakes import Call, ScriptedModel, ai


def straight(request: ModelRequest[Any]) -> Flow:
    return (yield request)


def wrapped(*responses: Any, flow: Any = straight, **kwargs: Any) -> tuple[OptimizedChatModel, ScriptedModel]:
    inner = ScriptedModel(responses=list(responses) or ["ok"], **kwargs)
    return OptimizedChatModel.around(inner, flow), inner


def serving(text: str) -> Any:
    def flow(request: ModelRequest[Any]) -> Flow:
        return ModelResponse(result=[AIMessage(text)])
        yield request

    return flow


@tool
def add(a: int, b: int) -> int:
    """Sum of two numbers."""
    return a + b


@tool
def sub(a: int, b: int) -> int:
    """Difference of two numbers."""
    return a - b


class Answer(BaseModel):
    """An answer."""

    value: int


async def call(model: Any, way: str, given: Any, config: Any = None, **kwargs: Any) -> str:
    if way == "invoke":
        return model.invoke(given, config, **kwargs).text
    if way == "ainvoke":
        return (await model.ainvoke(given, config, **kwargs)).text
    if way == "stream":
        return "".join(chunk.text for chunk in model.stream(given, config, **kwargs))
    return "".join([chunk.text async for chunk in model.astream(given, config, **kwargs)])


WAYS = ["invoke", "ainvoke", "stream", "astream"]


@pytest.mark.parametrize("way", WAYS)
async def test_the_flow_sees_the_request_and_the_answer(way: str) -> None:
    seen: list[Any] = []

    def flow(request: ModelRequest[Any]) -> Flow:
        seen.append((request.system_message, request.messages, dict(request.model_settings), request.model))
        response = yield request.override(messages=[*request.messages, HumanMessage("and this")])
        seen.append(response.result[0])
        return response

    model, inner = wrapped(ai("four words of text", input_tokens=9, output_tokens=4), flow=flow)
    given = [SystemMessage("be brief"), HumanMessage("hi")]
    assert await call(model, way, given, stop=["x"], temperature=0) == "four words of text"
    system, messages, settings, seen_model = seen[0]
    assert (system, messages, settings) == (given[0], [given[1]], {"stop": ["x"], "temperature": 0})
    assert seen_model is inner
    assert [m.text for m in inner.calls[0].messages] == ["be brief", "hi", "and this"]
    assert inner.calls[0].kwargs == {"temperature": 0, "stop": ["x"]}
    assert (seen[1].text, seen[1].usage_metadata["input_tokens"]) == ("four words of text", 9)
    assert seen[1].response_metadata["model_name"] == "gpt-4o-mini"


@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_of_the_flow_arrives_in_every_way_and_calls_no_model(way: str) -> None:
    model, inner = wrapped(flow=serving("straight from memory"))
    assert await call(model, way, "hi") == "straight from memory"
    assert inner.calls == []


async def test_a_miss_streams_through_and_a_hit_comes_in_chunks() -> None:
    miss, _ = wrapped("one two three")
    assert [c.text for c in miss.stream("hi") if c.text] == ["one ", "two ", "three"]
    assert [c.text async for c in miss.astream("hi") if c.text] == ["one ", "two ", "three"]
    hit, _ = wrapped(flow=serving("one two three"))
    assert [c.text for c in hit.stream("hi") if c.text] == ["one ", "two ", "three"]
    assert [c.text async for c in hit.astream("hi") if c.text] == ["one ", "two ", "three"]


async def test_the_first_chunk_arrives_before_the_model_is_done() -> None:
    log: list[str] = []

    class Slow(ScriptedModel):
        def _stream(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
            for chunk in super()._stream(*args, **kwargs):
                log.append("made")
                yield chunk

    model = OptimizedChatModel.around(Slow(responses=["a b c"]), straight)
    for chunk in model.stream("hi"):
        log.append(f"got {chunk.text}")
        if len(log) == 2:
            break
    assert log == ["made", "got a "]


async def test_events_of_a_hit_look_like_those_of_a_model() -> None:
    model, _ = wrapped(flow=serving("two words"))
    kinds = [(e["event"], e["name"]) async for e in model.astream_events("hi", version="v2")]
    assert kinds[0] == ("on_chat_model_start", "ScriptedModel")
    assert kinds[-1] == ("on_chat_model_end", "ScriptedModel")
    assert kinds.count(("on_chat_model_stream", "ScriptedModel")) >= 2


@pytest.mark.parametrize("way", WAYS)
async def test_usage_is_counted_once(way: str) -> None:
    model, _ = wrapped(ai("answer", input_tokens=10, output_tokens=2))
    usage = UsageMetadataCallbackHandler()
    await call(model, way, "hi", {"callbacks": [usage]})
    counted = usage.usage_metadata["gpt-4o-mini"]
    assert (counted["input_tokens"], counted["output_tokens"]) == (10, 2)


async def test_callbacks_of_the_inner_model_fire_once() -> None:
    class Starts(BaseCallbackHandler):
        def __init__(self) -> None:
            self.names: list[Any] = []

        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            self.names.append(kwargs.get("name"))

    starts = Starts()
    model, _ = wrapped(callbacks=[starts], name="mine")
    model.invoke("hi")
    assert starts.names == ["mine"] or len(starts.names) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_the_config_of_the_call_reaches_the_flow(way: str) -> None:
    threads: list[str | None] = []

    def flow(request: ModelRequest[Any]) -> Flow:
        threads.append(call_who(request).thread)
        return (yield request)

    model, _ = wrapped(flow=flow)
    await call(model, way, "hi", {"configurable": {"thread_id": "t9"}})
    await call(model, way, "hi")
    assert threads == ["t9", None]


def test_batch_runs_each_input_once() -> None:
    model, inner = wrapped("a")
    assert [m.text for m in model.batch(["1", "2", "3"])] == ["a", "a", "a"]
    assert len(inner.calls) == 3


# --- tools -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_a_flow_sees_the_tools_themselves_and_may_narrow_them(way: str) -> None:
    seen: list[Any] = []

    def flow(request: ModelRequest[Any]) -> Flow:
        seen.append(list(request.tools))
        return (yield request.override(tools=[t for t in request.tools if t.name == "sub"]))  # type: ignore[union-attr]

    model, inner = wrapped(flow=flow)
    await call(model.bind_tools([add, sub], parallel_tool_calls=False), way, "hi")
    assert seen == [[add, sub]]
    assert inner.calls[0].tool_names == ["sub"]
    assert inner.calls[0].kwargs == {"parallel_tool_calls": False}


def test_tools_that_no_flow_touches_reach_the_model_as_they_were_bound() -> None:
    model, inner = wrapped()
    model.bind_tools([add, sub], tool_choice="add").invoke("hi")
    bare = ScriptedModel()
    bare.bind_tools([add, sub], tool_choice="add").invoke("hi")
    assert inner.calls == bare.calls


def test_without_tools_left_nothing_about_tools_is_sent() -> None:
    def flow(request: ModelRequest[Any]) -> Flow:
        return (yield request.override(tools=[], tool_choice=None))

    model, inner = wrapped(flow=flow)
    model.bind_tools([add], parallel_tool_calls=True, tool_choice="any").invoke("hi")
    assert inner.calls == [Call(inner.calls[0].messages, [], {})]


def test_bound_dicts_can_be_narrowed_too() -> None:
    def flow(request: ModelRequest[Any]) -> Flow:
        return (yield request.override(tools=request.tools[:1]))

    bound = ScriptedModel().bind_tools([add, sub])
    model, inner = wrapped(flow=flow)
    model.bind(tools=bound.kwargs["tools"]).invoke("hi")  # type: ignore[attr-defined]
    assert inner.calls[0].tool_names == ["add"]


def test_python_functions_and_schemas_can_be_bound() -> None:
    def mul(a: int, b: int) -> int:
        """Product."""
        return a * b

    model, inner = wrapped()
    model.bind_tools([mul, Answer]).invoke("hi")
    assert inner.calls[0].tool_names == ["mul", "Answer"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_structured_output_goes_through_the_flow(is_async: bool) -> None:
    sent: list[str] = []

    def flow(request: ModelRequest[Any]) -> Flow:
        sent.append(request.messages[0].text)
        return (yield request)

    model, _ = wrapped(ai(tool_calls=[{"name": "Answer", "args": {"value": 4}}]), flow=flow)
    chain = model.with_structured_output(Answer)
    assert (await chain.ainvoke("2+2") if is_async else chain.invoke("2+2")) == Answer(value=4)
    assert sent == ["2+2"]


# --- errors, retries, streams cut short ------------------------------------------------------------------------------


def test_with_retry_goes_through_the_flow_each_time() -> None:
    tries: list[int] = []

    def flow(request: ModelRequest[Any]) -> Flow:
        tries.append(1)
        return (yield request)

    model, _ = wrapped(ValueError("busy"), "fine", flow=flow)
    retrying = model.with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
    assert retrying.invoke("hi").text == "fine"
    assert len(tries) == 2


@pytest.mark.parametrize("way", WAYS)
async def test_a_flow_may_recover_from_an_error_of_the_model(way: str) -> None:
    def flow(request: ModelRequest[Any]) -> Flow:
        try:
            return (yield request)
        except ValueError:
            return (yield request.override(messages=[HumanMessage("simpler")]))

    model, inner = wrapped(ValueError("too long"), "fine", flow=flow)
    assert await call(model, way, "hi") == "fine"
    assert [c.messages[0].text for c in inner.calls] == ["hi", "simpler"]


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_stream_that_breaks_is_not_continued_with_another_answer(way: str) -> None:
    class Breaking(ScriptedModel):
        def _stream(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
            yield from list(super()._stream(*args, **kwargs))[:1]
            raise ValueError("cut")

    seen: list[Any] = []

    def flow(request: ModelRequest[Any]) -> Flow:
        try:
            return (yield request)
        except ValueError as error:
            seen.append(partial_answer(error))
            return (yield request)

    model = OptimizedChatModel.around(Breaking(responses=["one two"]), flow)
    with pytest.raises(ValueError, match="cut"):
        await call(model, way, "hi")
    assert [m.text for m in seen] == ["one "]


async def test_closing_a_stream_tells_the_flow_what_was_seen() -> None:
    seen: list[Any] = []

    def flow(request: ModelRequest[Any]) -> Flow:
        try:
            return (yield request)
        except StreamClosed as error:
            seen.append(partial_answer(error))
            raise

    model, _ = wrapped("one two three", flow=compose(straight, guarded(flow, part="x", failed=lambda *_: None)))
    stream = model.stream("hi")
    assert next(stream).text == "one "
    stream.close()  # type: ignore[attr-defined]
    astream = model.astream("hi")
    assert (await anext(astream)).text == "one "
    await astream.aclose()  # type: ignore[attr-defined]
    assert [m.text for m in seen] == ["one ", "one "]


async def test_cancelling_a_stream_tells_the_flow() -> None:
    seen: list[str] = []

    class Hanging(ScriptedModel):
        async def _astream(self, *args: Any, **kwargs: Any) -> Any:
            for chunk in self._stream(*args, **kwargs):
                yield chunk
                await asyncio.sleep(60)

    def flow(request: ModelRequest[Any]) -> Flow:
        try:
            return (yield request)
        except asyncio.CancelledError as error:
            partial = partial_answer(error)
            seen.append(partial.text if partial else "")
            raise

    model = OptimizedChatModel.around(Hanging(responses=["one two"]), flow)
    got = asyncio.Event()

    async def consume() -> None:
        async for _ in model.astream("hi"):
            got.set()

    task = asyncio.create_task(consume())
    await got.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["one "]


@pytest.mark.parametrize("way", WAYS)
async def test_an_internal_call_is_not_part_of_the_answer(way: str) -> None:
    def flow(request: ModelRequest[Any]) -> Flow:
        summary = yield internal_call(request.override(messages=[HumanMessage("summarise")]))
        return (yield request.override(messages=[HumanMessage(summary.result[0].text)]))

    model, inner = wrapped("the summary", "the answer", flow=flow)
    usage = UsageMetadataCallbackHandler()
    assert await call(model, way, "hi", {"callbacks": [usage]}) == "the answer"
    assert [c.messages[0].text for c in inner.calls] == ["summarise", "the summary"]


# --- the model inside ------------------------------------------------------------------------------------------------


def test_what_langchain_keeps_on_a_model_is_kept() -> None:
    limiter = InMemoryRateLimiter(requests_per_second=1000)
    cache = InMemoryCache()
    inner = ScriptedModel(tags=["t"], metadata={"m": 1}, rate_limiter=limiter, cache=cache, disable_streaming=True)
    model = OptimizedChatModel.around(inner, straight)
    assert (model.tags, model.metadata, model.rate_limiter, model.cache) == (["t"], inner.metadata, limiter, cache)
    assert len(list(model.stream("a b c"))) == 1
    assert model.model_name == "gpt-4o-mini"
    assert model._llm_type == "scripted"
    assert model.get_name() == "ScriptedModel"
    with pytest.raises(AttributeError):
        _ = model.no_such_thing


def test_langchains_own_cache_is_asked_once_and_under_the_inner_models_key() -> None:
    cache = InMemoryCache()
    inner = ScriptedModel(responses=["first", "second"], cache=cache)
    model = OptimizedChatModel.around(inner, straight)
    assert [model.invoke("hi").text for _ in range(2)] == ["first", "first"]
    assert inner.invoke("hi").text == "first"


def test_a_model_without_streaming_is_served_whole_and_still_gets_its_flow() -> None:
    class Whole(ScriptedModel):
        _stream = ScriptedModel.__mro__[1]._stream  # BaseChatModel's: not implemented

    model = OptimizedChatModel.around(Whole(responses=["a b"], can_stream=False), straight)
    assert [c.text for c in model.stream("hi") if c.text] == ["a b"]


def test_several_generations_are_kept() -> None:
    class Two(ScriptedModel):
        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            one, two = (ChatGeneration(message=AIMessage(text)) for text in ("one", "two"))
            return ChatResult(generations=[one, two], llm_output={"k": 1})

    model = OptimizedChatModel.around(Two(), straight)
    result = model.generate([[HumanMessage("hi")]])
    assert [g.text for g in result.generations[0]] == ["one", "two"]


def test_a_wrapped_model_can_be_copied() -> None:
    model, _ = wrapped("x")
    assert copy.copy(model).invoke("hi").text == "x"
    assert model.model_copy().invoke("hi").text == "x"
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        pickle.dumps(model)  # flows hold databases and indexes; better an error than a half of one


# --- in graphs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
async def test_in_an_agent_and_in_a_hand_written_graph(is_async: bool) -> None:
    sent: list[int] = []

    def flow(request: ModelRequest[Any]) -> Flow:
        sent.append(len(request.messages))
        return (yield request)

    script = [ai(tool_calls=[{"name": "add", "args": {"a": 1, "b": 2}}]), "three"]
    model, _ = wrapped(*script, flow=flow)
    agent = create_agent(model, tools=[add], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    given: Any = {"messages": [HumanMessage("1+2")]}
    state = await agent.ainvoke(given, config) if is_async else agent.invoke(given, config)
    assert [type(m) for m in state["messages"]] == [HumanMessage, AIMessage, ToolMessage, AIMessage]
    assert sent == [1, 3]

    model, _ = wrapped("a b c", flow=flow)
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "model")
    compiled = graph.compile()
    chunks = [c for c, _ in compiled.stream(given, stream_mode="messages") if isinstance(c, AIMessageChunk)]
    assert "".join(c.text for c in chunks) == "a b c"
    assert len(chunks) >= 3


def test_composed_flows_of_a_wrapped_model_keep_their_order() -> None:
    order: list[str] = []

    def named(name: str) -> Any:
        def flow(request: ModelRequest[Any]) -> Flow:
            order.append(f"{name} in")
            response = yield request
            order.append(f"{name} out")
            return response

        return flow

    model, _ = wrapped(flow=compose(named("cache"), named("usage")))
    model.invoke("hi")
    assert order == ["cache in", "usage in", "usage out", "cache out"]
