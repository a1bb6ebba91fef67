"""Answers that are held: what a flow may still change of an answer while it is streamed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, LLMResult
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import Field

from langchain_tokopt.flow import (
    Flow,
    Held,
    StreamClosed,
    compose,
    drive,
    guarded,
    internal_call,
    partial_answer,
    shadowed,
)
from langchain_tokopt.model import OptimizedChatModel
from tests.fakes import ScriptedModel, ai

both = pytest.mark.parametrize("way", ["stream", "astream"])


class Streaming(ScriptedModel):
    """Streams given chunks, one list a call; an exception among them is raised. `log` tells when each was made."""

    streams: list[list[Any]] = Field(default_factory=list)
    log: list[str] = Field(default_factory=list)

    def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Iterator[Any]:
        self._next(messages, stop, kwargs)
        for chunk in self.streams[len(self.calls) - 1]:
            if isinstance(chunk, BaseException):
                raise chunk
            self.log.append("made")
            info = dict(chunk.additional_kwargs).pop("info", None)
            kwargs = {key: value for key, value in chunk.additional_kwargs.items() if key != "info"}
            message = chunk.model_copy(deep=True, update={"additional_kwargs": kwargs})
            yield ChatGenerationChunk(message=message, generation_info=info)


def chunk(content: Any = "", **fields: Any) -> AIMessageChunk:
    return AIMessageChunk(content=content, **fields)


def call(
    name: str | None, args: str = "{}", *, index: int = 0, more: bool = False, content: Any = ""
) -> AIMessageChunk:
    """A piece of a call: its beginning, or `more` of its arguments."""
    name, call_id = (None, None) if more else (name, f"id_{name}")
    return chunk(content, tool_call_chunks=[tool_call_chunk(name=name, args=args, id=call_id, index=index)])


def end(tokens: int = 10, **metadata: str) -> AIMessageChunk:
    usage = UsageMetadata(input_tokens=tokens, output_tokens=1, total_tokens=tokens + 1)
    return chunk(usage_metadata=usage, response_metadata={"model_name": "m", **metadata}, chunk_position="last")


def held(request: ModelRequest[Any]) -> Flow:
    return (yield Held(request))


def renaming(request: ModelRequest[Any]) -> Flow:
    """Turns calls of `proxy` into calls of `real`."""
    response = yield Held(request)
    message = response.result[0]
    calls = [{**one, "name": "real", "args": {"n": 1}} for one in message.tool_calls]
    return replace(response, result=[message.model_copy(update={"tool_calls": calls})])


def searching(request: ModelRequest[Any]) -> Flow:
    """Answers calls of `search` itself and goes on."""
    asked: list[Any] = []
    while True:
        response = yield Held(request.override(messages=[*request.messages, *asked]))
        calls = [one for one in response.result[0].tool_calls if one["name"] == "search"]
        if not calls:
            return response
        asked += [*response.result, *(ToolMessage("found", tool_call_id=one["id"]) for one in calls)]


def around(flow: Any, *streams: list[Any]) -> tuple[OptimizedChatModel, Streaming]:
    inner = Streaming(streams=list(streams))
    return OptimizedChatModel.around(inner, flow), inner


async def chunks_of(model: Any, way: str, config: Any = None) -> list[AIMessageChunk]:
    if way == "stream":
        return list(model.stream("hi", config))
    return [one async for one in model.astream("hi", config)]


def added(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    return reduce(lambda one, other: one + other, chunks)  # type: ignore[arg-type,return-value]


def without_ids(chunks: list[AIMessageChunk]) -> list[AIMessageChunk]:
    return [one.model_copy(update={"id": None}) for one in chunks]


# --- one call --------------------------------------------------------------------------------------------------------


@both
async def test_text_goes_out_as_it_comes_and_calls_wait_for_the_flow(way: str) -> None:
    log: list[str] = []

    def flow(request: ModelRequest[Any]) -> Flow:
        response = yield Held(request)
        log.append("flow")
        return response

    model, inner = around(flow, [chunk("one "), chunk("two"), call("proxy", "{"), call("proxy", "}"), end()])
    inner.log = log
    model = OptimizedChatModel.around(inner, flow)
    if way == "stream":
        for one in model.stream("hi"):
            log.append(one.text or ("call" if one.tool_call_chunks else "end"))
    else:
        async for one in model.astream("hi"):
            log.append(one.text or ("call" if one.tool_call_chunks else "end"))
    assert log == ["made", "one ", "made", "two", "made", "made", "made", "flow", "call", "call", "end"]


@both
async def test_an_answer_that_is_given_back_goes_out_as_it_came(way: str) -> None:
    stream = [chunk("text ", id="a"), call("one", '{"a": '), call("one", "1}", more=True), call("two", index=1), end(5)]
    bare = await chunks_of(Streaming(streams=[stream]), way)
    assert without_ids(await chunks_of(around(held, stream)[0], way)) == without_ids(bare)


@both
async def test_the_calls_of_a_changed_message_go_out_instead(way: str) -> None:
    model, _ = around(
        renaming, [chunk("text"), call("proxy", '{"a"'), call("proxy", ": 1}", more=True), end(5, finish="tool_calls")]
    )
    chunks = await chunks_of(model, way)
    message = added(chunks)
    assert "'name': 'proxy'" not in str(chunks)
    assert message.tool_calls == [{"name": "real", "args": {"n": 1}, "id": "id_proxy", "type": "tool_call"}]
    assert (message.text, message.usage_metadata["total_tokens"]) == ("text", 6)  # type: ignore[index]
    assert message.response_metadata == {"model_name": "m", "finish": "tool_calls"}
    assert [one.chunk_position for one in chunks] == [None] * (len(chunks) - 1) + ["last"]
    assert len({one.id for one in chunks}) == 1


@both
async def test_blocks_of_a_changed_message_keep_their_places(way: str) -> None:
    def flow(request: ModelRequest[Any]) -> Flow:
        response = yield Held(request)
        message = response.result[0]
        content = [{**block, "name": "real"} if block["type"] == "tool_use" else block for block in message.content]
        calls = [{**one, "name": "real"} for one in message.tool_calls]
        changed = message.model_copy(
            update={"content": content, "tool_calls": calls, "additional_kwargs": {"note": {"by": "flow"}}}
        )
        return replace(response, result=[changed])

    def use(index: int) -> AIMessageChunk:
        block = {"type": "tool_use", "id": f"id_{index}", "name": "proxy", "input": {}, "index": index}
        return call(str(index), "", index=index, content=[block])

    def piece(index: int, text: str) -> AIMessageChunk:
        block = {"type": "input_json_delta", "partial_json": text, "index": index}
        return call(str(index), text, more=True, index=index, content=[block])

    text = {"type": "text", "text": "hm", "index": 0}
    server = [
        chunk([{"type": "server_tool_use", "id": "srv", "name": "web", "input": {}, "index": 3}]),
        chunk([{"type": "input_json_delta", "partial_json": '{"q": 1}', "index": 3}]),
    ]
    stream = [chunk([text]), use(1), piece(1, '{"a": 1}'), use(2), piece(2, "{}"), *server, chunk([]), end()]
    message = added(await chunks_of(around(flow, stream)[0], way))
    bare = added(await chunks_of(Streaming(streams=[stream]), way))
    assert message.tool_calls == [{**one, "name": "real"} for one in bare.tool_calls]
    by_index = {block["index"]: block for block in message.content}  # type: ignore[index,call-overload]
    assert by_index == {
        block["index"]: {**block, "name": "real"} if block["type"] == "tool_use" else block  # type: ignore[index,call-overload]
        for block in bare.content
    }
    assert message.additional_kwargs == {"note": {"by": "flow"}}


@both
async def test_calls_that_some_integrations_keep_beside_the_content_are_held_too(way: str) -> None:
    def flow(request: ModelRequest[Any]) -> Flow:
        response = yield from renaming(request)
        raw = {"tool_calls": [{"id": "id_proxy", "function": {"name": "real", "arguments": "{}"}}]}
        return replace(response, result=[response.result[0].model_copy(update={"additional_kwargs": raw})])

    raw = {"tool_calls": [{"id": "id_proxy", "index": 0, "function": {"name": "proxy", "arguments": "{}"}}]}
    chunks = await chunks_of(around(flow, [call("proxy").model_copy(update={"additional_kwargs": raw}), end()])[0], way)
    assert "proxy" not in str([one.additional_kwargs for one in chunks]).replace("id_proxy", "")
    assert [one["function"]["name"] for one in added(chunks).additional_kwargs["tool_calls"]] == ["real"]


@both
async def test_calls_that_could_not_be_read_go_out_as_they_were_said(way: str) -> None:
    def flow(request: ModelRequest[Any]) -> Flow:
        response = yield Held(request)
        broken = {"name": "bad", "args": "[1", "id": "b", "error": None, "type": "invalid_tool_call"}
        changed = response.result[0].model_copy(update={"tool_calls": [], "invalid_tool_calls": [broken]})
        return replace(response, result=[changed])

    message = added(await chunks_of(around(flow, [call("proxy"), end()])[0], way))
    assert [(one["name"], one["args"]) for one in message.invalid_tool_calls] == [("bad", "[1")]
    assert message.tool_calls == []


@both
async def test_an_answer_in_the_place_of_a_call_goes_out(way: str) -> None:
    def flow(request: ModelRequest[Any]) -> Flow:
        response = yield Held(request)
        return replace(response, result=[AIMessage("That cannot be done.")])

    message = added(await chunks_of(around(flow, [call("proxy"), end(7)])[0], way))
    assert (message.text, message.tool_calls) == ("That cannot be done.", [])
    assert message.usage_metadata["input_tokens"] == 7  # type: ignore[index]


@both
async def test_text_is_not_said_twice_when_a_flow_adds_to_it(way: str) -> None:
    def flow(request: ModelRequest[Any]) -> Flow:
        response = yield Held(request)
        changed = response.result[0].model_copy(update={"content": f"{response.result[0].text} Done."})
        return replace(response, result=[changed])

    assert added(await chunks_of(around(flow, [chunk("Hello."), end()])[0], way)).text == "Hello. Done."


@both
async def test_reasoning_goes_out_with_its_text_and_signed_thoughts_wait(way: str) -> None:
    reasoning = chunk([{"type": "reasoning", "id": "rs", "summary": [], "index": 0}])
    named = chunk([{"type": "text", "text": "", "id": "msg", "index": 1}])
    thinking = chunk([{"type": "thinking", "thinking": "hm", "index": 0}])
    text = chunk([{"type": "text", "text": "so", "index": 1}])
    for first, sent in ((reasoning, ["reasoning", "text", "text"]), (thinking, [])):
        seen: list[Any] = []

        def flow(request: ModelRequest[Any], seen: list[Any] = seen) -> Flow:
            response = yield Held(request)
            seen.append("flow")
            return response

        async for one in around(flow, [first, text, named, end()])[0].astream("hi"):
            seen += [block["type"] for block in one.content]  # type: ignore[index,call-overload]
        assert seen[: seen.index("flow")] == sent
        assert [kind for kind in seen if kind != "flow"] == [first.content[0]["type"], "text", "text"]  # type: ignore[index,call-overload]


@both
async def test_thoughts_beside_the_content_go_out_as_they_come(way: str) -> None:
    stream = [chunk(additional_kwargs={"reasoning_content": "hm "}), chunk("so"), call("search"), end()]
    chunks = await chunks_of(around(searching, stream, [chunk("done"), end()])[0], way)
    assert chunks[0].additional_kwargs == {"reasoning_content": "hm "}


# --- several calls ---------------------------------------------------------------------------------------------------


@both
async def test_calls_that_the_flow_answers_never_go_out(way: str) -> None:
    model, inner = around(
        searching,
        [chunk("I look."), call("search"), end(10, finish="tool_calls")],
        [call("search", index=0), end(20, finish="tool_calls")],
        [chunk("I "), chunk("act."), call("real"), end(30, finish="tool_calls")],
    )
    usage = UsageMetadataCallbackHandler()
    chunks = await chunks_of(model, way, {"callbacks": [usage]})
    message = added(chunks)
    assert "search" not in str(chunks)
    assert (message.text, [one["name"] for one in message.tool_calls]) == ("I look.\n\nI act.", ["real"])
    assert message.usage_metadata == {"input_tokens": 60, "output_tokens": 3, "total_tokens": 63}
    assert usage.usage_metadata["m"]["total_tokens"] == 63
    assert message.response_metadata == {"model_name": "m", "finish": "tool_calls"}
    assert len({one.id for one in chunks}) == 1
    assert [one.chunk_position for one in chunks] == [None] * (len(chunks) - 1) + ["last"]
    assert [one.text for one in chunks if one.text] == ["I look.", "\n\nI ", "act."]
    assert len(inner.calls) == 3


@both
async def test_blocks_of_two_answers_do_not_run_together(way: str) -> None:
    def text(words: str, index: Any = 0) -> AIMessageChunk:
        return chunk([{"type": "text", "text": words, "index": index}])

    def use(name: str, index: int) -> AIMessageChunk:
        block = {"type": "tool_use", "id": f"id_{name}", "name": name, "input": {}, "index": index}
        return call(name, index=index, content=[block])

    last = chunk([], usage_metadata=end().usage_metadata, chunk_position="last")
    head = chunk([], response_metadata={"model_name": "m"})
    first = [head, text("I "), text("look."), use("search", 1), last]
    message = added(
        await chunks_of(around(searching, first, [head, text("I act."), use("real", 1), use("other", 2), last])[0], way)
    )
    assert message.content == [
        {"type": "text", "text": "I look.", "index": 0},
        {"type": "text", "text": "\n\nI act.", "index": 1},
        {"type": "tool_use", "id": "id_real", "name": "real", "input": {}, "index": 2},
        {"type": "tool_use", "id": "id_other", "name": "other", "input": {}, "index": 3},
    ]
    assert [one["id"] for one in message.tool_calls] == ["id_real", "id_other"]
    assert message.response_metadata == {"model_name": "m"}
    named = added(
        await chunks_of(around(searching, [text("a", "lc_txt_0"), *first[3:]], [text("b", "lc_txt_0"), last])[0], way)
    )
    assert [block["text"] for block in named.content] == ["a", "\n\nb"]  # type: ignore[index,call-overload]


@both
async def test_thoughts_of_two_answers_never_meet(way: str) -> None:
    def thought(text: str) -> list[AIMessageChunk]:
        return [
            chunk([{"type": "thinking", "thinking": text, "index": 0}]),
            chunk([{"type": "thinking", "thinking": "", "signature": f"s-{text}", "index": 0}]),
            chunk([{"type": "text", "text": f"say {text}", "index": 1}]),
        ]

    streams = [[*thought("a"), call("search", index=2, content=[])], [*thought("b"), call("real", index=2, content=[])]]
    message = added(await chunks_of(around(searching, *streams)[0], way))
    assert message.content == [
        {"type": "thinking", "thinking": "b", "signature": "s-b", "index": 0},
        {"type": "text", "text": "say b", "index": 1},
    ]


@both
async def test_a_providers_id_wins_and_the_chunks_of_a_step_share_it(way: str) -> None:
    def stream(name: str, tool: str) -> list[AIMessageChunk]:
        return [chunk("x", id=name), call(tool).model_copy(update={"id": name}), end().model_copy(update={"id": name})]

    chunks = await chunks_of(around(searching, stream("first", "search"), stream("second", "real"))[0], way)
    assert {one.id for one in chunks} == {"first"}
    late = [chunk("x"), call("search"), chunk(id="one")], [chunk("x"), call("real"), chunk(id="two")]
    assert added(await chunks_of(around(searching, *late)[0], way)).id == "two"


@both
async def test_what_a_later_answer_tells_is_told_once(way: str) -> None:
    def stream(tool: str) -> list[AIMessageChunk]:
        head = {"model_provider": "p", "model_name": "m", "info": "x", "numbers": [1]}
        return [
            chunk(
                "x", response_metadata=head, additional_kwargs={"info": {"finger": "f", "logprobs": {"content": [1]}}}
            ),
            call(tool),
            chunk(response_metadata={"model_provider": "p"}, additional_kwargs={"info": {"finish": "stop"}}),
        ]

    message = added(await chunks_of(around(searching, stream("search"), stream("real"))[0], way))
    assert message.response_metadata == {
        "model_provider": "p",
        "model_name": "m",
        "info": "x",
        "numbers": [1, 1],
        "finger": "f",
        "logprobs": {"content": [1, 1]},
        "finish": "stop",
    }


async def test_a_step_is_one_message_to_a_graph() -> None:
    model, _ = around(
        searching,
        [chunk("I look."), call("search"), end()],
        [chunk("Done."), call("real"), end()],
    )
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "model")
    seen = list(graph.compile().stream({"messages": [HumanMessage("hi")]}, stream_mode=["messages", "values"]))
    streamed = {data[0].id for mode, data in seen if mode == "messages"}
    final = seen[-1][1]["messages"][-1]
    assert streamed == {final.id}
    assert (final.text, final.usage_metadata["total_tokens"]) == ("I look.\n\nDone.", 22)


# --- errors and streams that are left --------------------------------------------------------------------------------


@both
async def test_a_flow_may_recover_as_long_as_nothing_has_gone_out(way: str) -> None:
    seen: list[Any] = []

    def flow(request: ModelRequest[Any]) -> Flow:
        try:
            return (yield Held(request))
        except ValueError as error:
            seen.append(partial_answer(error))
            return (yield Held(request))

    usage = chunk(usage_metadata=end(4).usage_metadata)
    model, _ = around(flow, [call("lost"), usage, ValueError("cut")], [chunk("fine"), end(6)])
    message = added(await chunks_of(model, way))
    assert [one["name"] for one in seen[0].tool_calls] == ["lost"]
    assert (message.text, message.tool_calls, message.usage_metadata["input_tokens"]) == ("fine", [], 10)  # type: ignore[index]


@both
async def test_a_held_stream_that_breaks_after_text_is_an_error(way: str) -> None:
    def flow(request: ModelRequest[Any]) -> Flow:
        try:
            return (yield Held(request))
        except ValueError:
            return (yield Held(request))

    model, inner = around(flow, [chunk("one "), call("lost"), ValueError("cut")], [chunk("fine")])
    with pytest.raises(ValueError, match="cut"):
        await chunks_of(model, way)
    assert len(inner.calls) == 1


@both
async def test_an_answer_of_the_flow_follows_an_error_of_a_later_call(way: str) -> None:
    def flow(request: ModelRequest[Any]) -> Flow:
        first = yield Held(request)
        try:
            yield request
        except ValueError:
            return ModelResponse(result=[AIMessage("Cannot.")])
        return first

    model, _ = around(flow, [chunk("I look."), call("search"), end(5)], [ValueError("down")])
    message = added(await chunks_of(model, way))
    assert (message.text, message.tool_calls, message.usage_metadata["input_tokens"]) == ("I look.\n\nCannot.", [], 5)  # type: ignore[index]


@both
async def test_a_failed_call_of_the_flows_own_takes_nothing_from_the_answer(way: str) -> None:
    def flow(request: ModelRequest[Any]) -> Flow:
        response = yield Held(request)
        with pytest.raises(ValueError, match="judge"):
            yield internal_call(request)
        return response

    inner = Streaming(streams=[[chunk("text"), call("real"), end(5)]], responses=["", ValueError("judge")])
    message = added(await chunks_of(OptimizedChatModel.around(inner, flow), way))
    assert (message.text, [one["name"] for one in message.tool_calls]) == ("text", ["real"])
    assert message.usage_metadata["input_tokens"] == 5  # type: ignore[index]


async def test_closing_a_held_stream_tells_the_flow_all_that_was_said() -> None:
    seen: list[Any] = []

    def flow(request: ModelRequest[Any]) -> Flow:
        try:
            return (yield Held(request))
        except StreamClosed as error:
            seen.append(partial_answer(error))
            raise

    reasoning = chunk(additional_kwargs={"reasoning_content": "hm"})
    stream = around(flow, [reasoning, chunk("one "), chunk("two")])[0].stream("hi")
    assert [next(stream).text, next(stream).text] == ["", "one "]
    stream.close()  # type: ignore[attr-defined]
    astream = around(flow, [reasoning, chunk("one "), chunk("two")])[0].astream("hi")
    assert [(await anext(astream)).text, (await anext(astream)).text] == ["", "one "]
    await astream.aclose()  # type: ignore[attr-defined]
    assert [(one.text, one.additional_kwargs) for one in seen] == [("one ", {"reasoning_content": "hm"})] * 2


# --- flows around flows ----------------------------------------------------------------------------------------------


def twice(request: ModelRequest[Any]) -> Flow:
    """Drops the first answer and calls again."""
    yield request
    return (yield request)


@both
@pytest.mark.parametrize(
    "flow",
    [
        compose(held, twice),
        compose(held, compose(lambda request: (yield from twice(request)), held)),
        compose(lambda request: (yield request), searching),
        compose(guarded(held, part="x", failed=lambda *_: None), guarded(twice, part="y", failed=lambda *_: None)),
        guarded(searching, part="x", failed=lambda *_: None),
    ],
    ids=["inner calls twice", "inner is composed and holds too", "only the inner holds", "guarded both", "guarded"],
)
async def test_what_an_inner_flow_drops_is_held_for_the_outer_one(flow: Any, way: str) -> None:
    chunks = await chunks_of(around(flow, [call("search"), end(1)], [chunk("Done."), call("real"), end(2)])[0], way)
    assert "search" not in str(chunks)
    assert [one["name"] for one in added(chunks).tool_calls] == ["real"]
    assert added(chunks).usage_metadata["input_tokens"] == 3  # type: ignore[index]


@both
async def test_a_flow_that_fails_afterwards_lets_the_answer_out(way: str) -> None:
    def flow(request: ModelRequest[Any]) -> Flow:
        yield Held(request)
        raise RuntimeError("no disk")

    failed: list[str] = []
    guard = guarded(flow, part="x", failed=lambda part, error, stage: failed.append(stage))
    stream = [chunk("text", id="a"), call("proxy"), end()]
    bare = await chunks_of(Streaming(streams=[stream]), way)
    assert without_ids(await chunks_of(around(guard, stream)[0], way)) == without_ids(bare)
    assert failed == ["response"]


@both
async def test_in_shadow_nothing_is_held(way: str) -> None:
    shadow = shadowed(renaming, part="x", failed=lambda *_: None)
    stream = [chunk("text", id="a"), call("proxy"), chunk("more"), end()]
    bare = await chunks_of(Streaming(streams=[stream]), way)
    assert without_ids(await chunks_of(around(shadow, stream)[0], way)) == without_ids(bare)


def test_to_a_handler_a_held_request_is_the_request() -> None:
    seen: list[ModelRequest[Any]] = []

    def handler(request: ModelRequest[Any]) -> ModelResponse[Any]:
        seen.append(request)
        return ModelResponse(result=[AIMessage("ok")])

    request = ModelRequest(model=ScriptedModel(), messages=[HumanMessage("hi")])
    for flow in (held, compose(held, held), compose(held, twice)):
        assert drive(flow, request, handler).result[0].text == "ok"  # type: ignore[union-attr]
    assert seen == [request] * 4


# --- without streaming -----------------------------------------------------------------------------------------------


class Ends(BaseCallbackHandler):
    def __init__(self) -> None:
        self.results: list[LLMResult] = []

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        self.results.append(response)


@pytest.mark.parametrize("is_async", [False, True])
async def test_the_answer_of_several_calls_has_the_usage_of_all(is_async: bool) -> None:
    inner = ScriptedModel(
        responses=[
            ai("I look.", tool_calls=[{"name": "search", "args": {}}], input_tokens=10, output_tokens=1),
            ai("Done.", input_tokens=20, output_tokens=2, cache_read=5),
        ]
    )
    model = OptimizedChatModel.around(inner, searching)
    ends = Ends()
    config: Any = {"callbacks": [ends]}
    message = await model.ainvoke("hi", config) if is_async else model.invoke("hi", config)
    assert (message.text, message.tool_calls) == ("Done.", [])
    assert message.usage_metadata == {
        "input_tokens": 30,
        "output_tokens": 3,
        "total_tokens": 33,
        "input_token_details": {"cache_read": 5},
    }
    assert ends.results[0].llm_output == {"model_name": "gpt-4o-mini"}


def test_a_changed_copy_keeps_the_id_and_what_the_model_told() -> None:
    ids: list[str | None] = []

    def flow(request: ModelRequest[Any]) -> Flow:
        response = yield from renaming(request)
        ids.append(response.result[0].id)
        return response

    inner = ScriptedModel(responses=[ai(tool_calls=[{"name": "proxy", "args": {}}], input_tokens=3)])
    ends = Ends()
    message = OptimizedChatModel.around(inner, flow).invoke("hi", {"callbacks": [ends]})
    assert [one["name"] for one in message.tool_calls] == ["real"]
    assert ids == [message.id]
    assert str(message.id).startswith("lc_run-")
    assert (message.response_metadata, message.usage_metadata["input_tokens"]) == ({"model_name": "gpt-4o-mini"}, 3)  # type: ignore[index]
    assert ends.results[0].llm_output == {"model_name": "gpt-4o-mini"}


def test_of_all_messages_that_a_flow_returns_the_last_of_the_model_is_the_answer() -> None:
    def flow(request: ModelRequest[Any]) -> Flow:
        first = yield Held(request)
        second = yield Held(request)
        return replace(second, result=[*first.result, ToolMessage("found", tool_call_id="x"), *second.result])

    assert OptimizedChatModel.around(ScriptedModel(responses=["one", "two"]), flow).invoke("hi").text == "two"
    assert [one.text for one in around(flow, [call("a")], [chunk("two")])[0].stream("hi") if one.text] == ["two"]


# --- any stream ------------------------------------------------------------------------------------------------------


def pieces(blocks: bool) -> st.SearchStrategy[list[AIMessageChunk]]:
    """What a model may stream: text, calls in pieces, reasoning, metadata, usage, in any order."""

    def content(kind: str, index: int, **fields: Any) -> Any:
        return [{"type": kind, "index": index, **fields}] if blocks else ""

    words = st.sampled_from(["", "one ", "two"])
    text = st.builds(lambda word: chunk(content("text", 0, text=word) if blocks else word), words)
    start = st.builds(
        lambda n: call(f"{n}", '{"a": ', index=n, content=content("tool_use", n, id=f"id_{n}", name="t")),
        st.integers(1, 2),
    )
    more = st.builds(
        lambda n: call("", "1", more=True, index=n, content=content("input_json_delta", n, partial_json="1")),
        st.integers(1, 2),
    )
    reasoning = st.just(chunk(content("reasoning", 3, id="r")))
    thinking = st.just(chunk(content("thinking", 4, thinking="hm")))
    usage = st.builds(lambda n: chunk([] if blocks else "", usage_metadata=end(n).usage_metadata), st.integers(0, 9))
    told = st.just(chunk([] if blocks else "", response_metadata={"model_provider": "p"}, id="provider"))
    return st.lists(st.one_of(text, start, more, reasoning, thinking, usage, told), min_size=1, max_size=12)


def meaning(message: AIMessageChunk) -> Any:
    """What a message says, whatever the order in which its blocks became known."""
    content: Any = message.content
    shown = content if isinstance(content, str) else sorted(content, key=lambda block: block["index"])
    calls = sorted(message.tool_calls, key=lambda one: one["id"] or "")
    return shown, calls, message.usage_metadata, message.response_metadata


@settings(max_examples=50, deadline=None)
@given(st.booleans().flatmap(pieces))
def test_any_answer_that_is_given_back_adds_up_to_the_same_message(stream: list[AIMessageChunk]) -> None:
    bare = added(list(Streaming(streams=[stream]).stream("hi")))
    kept = added(list(around(held, stream)[0].stream("hi")))
    assert meaning(kept) == meaning(bare)


@settings(max_examples=50, deadline=None)
@given(st.booleans().flatmap(lambda blocks: st.tuples(pieces(blocks), pieces(blocks))))
def test_any_second_answer_has_the_usage_of_both_and_no_call_of_the_first(
    streams: tuple[list[AIMessageChunk], list[AIMessageChunk]],
) -> None:
    def again(request: ModelRequest[Any]) -> Flow:
        yield Held(request)
        return (yield Held(request))

    bare = [added(list(Streaming(streams=[stream]).stream("hi"))) for stream in streams]
    both_calls = added(list(around(again, *streams)[0].stream("hi")))
    assert [one["args"] for one in both_calls.tool_calls] == [one["args"] for one in bare[1].tool_calls]
    assert both_calls.text.endswith(bare[1].text)
    billed = sum(one.usage_metadata["input_tokens"] if one.usage_metadata else 0 for one in bare)
    assert (both_calls.usage_metadata or {"input_tokens": 0})["input_tokens"] == billed
