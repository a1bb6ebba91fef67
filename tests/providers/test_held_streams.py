"""What the providers' own clients stream while a flow answers searches and rewrites calls is one message."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import pytest
from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tokopt.flow import Flow, Held
from langchain_tokopt.model import OptimizedChatModel
from langchain_tokopt.tools.proxy import caller_tool, proxied, unwrapped
from langchain_tokopt.tools.schema import ToolSpec
from langchain_tokopt.tools.search import search_schema
from tests.providers.agents import APIS, apis, chat_model
from tests.providers.replies import Provider, Reply, ToolCall
from tests.providers.server import ProviderServer

KNOWN = {"get_user": ToolSpec("get_user", "A user.", {"type": "object", "properties": {"id": {"type": "integer"}}})}
TOOLS = [
    convert_to_openai_tool(caller_tool("call_tool")),
    search_schema("search_tools"),
]
SEARCH = ToolCall(name="search_tools", args={"query": "user"})
CALL = ToolCall(name="call_tool", args={"name": "get_user", "arguments": {"id": 7, "note": "é"}})
THINKS: dict[str, Any] = {"thinking": {"type": "enabled", "budget_tokens": 1024}}

both = pytest.mark.parametrize("way", ["stream", "astream"])


def flow(request: ModelRequest[Any]) -> Flow:
    """What the tools' flow does: hidden tools are called by proxy, and searches answered here."""
    asked: list[Any] = []
    while True:
        shown = proxied([*request.messages, *asked], KNOWN, "call_tool")
        response = yield Held(request.override(messages=shown))  # type: ignore[arg-type]
        searches = [call for call in response.result[0].tool_calls if call["name"] == "search_tools"]
        if not searches:
            messages, _ = unwrapped(response.result, "call_tool", KNOWN)
            return replace(response, result=messages)
        asked += [*response.result, *(ToolMessage("get_user(id)", tool_call_id=call["id"]) for call in searches)]


def model(name: Provider, server: ProviderServer, **settings: Any) -> Any:
    return OptimizedChatModel.around(chat_model(name, server, **settings), flow).bind_tools(TOOLS)


def streamed(way: str, bound: Any, messages: Sequence[BaseMessage]) -> list[AIMessageChunk]:
    if way == "stream":
        return list(bound.stream(messages))

    async def collect() -> list[AIMessageChunk]:
        return [chunk async for chunk in bound.astream(messages)]

    return asyncio.run(collect())


def added(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    return reduce(lambda one, other: one + other, chunks)  # type: ignore[arg-type,return-value]


SETTINGS = [
    *((name, {}) for name in APIS),
    *((name, {"output_version": "v1"}) for name in APIS),
    ("responses", {"output_version": "v0"}),
    ("anthropic", THINKS),
    ("anthropic", {**THINKS, "output_version": "v1"}),
]


@both
@pytest.mark.parametrize(("name", "settings"), SETTINGS)
@pytest.mark.parametrize("text", ["I look.", ""], ids=["with text", "without"])
def test_a_step_of_several_calls_is_one_message_that_the_provider_takes(
    provider: ProviderServer, name: Provider, settings: dict[str, Any], text: str, way: str
) -> None:
    provider.script = [
        Reply(thinking="Who?", text=text, tool_calls=(SEARCH,)),
        Reply(thinking="Ah.", text=text and "I ask.", tool_calls=(CALL, replace(CALL, args={"name": "get_user"}))),
        "It is Ann.",
    ]
    bound = model(name, provider, **settings)
    chunks = streamed(way, bound, [HumanMessage("Who is 7?")])
    message = added(chunks)
    shown = str([(chunk.content, chunk.tool_call_chunks) for chunk in chunks])
    assert "search_tools" not in shown
    assert "call_tool" not in shown
    # Where thoughts cannot stand beside those of another answer, the first one's text did not go out either.
    alone = "thinking" in settings or settings.get("output_version") == "v0"
    assert message.text == (("I ask." if alone else "I look.\n\nI ask.") if text else "")
    assert [(call["name"], call["args"]) for call in message.tool_calls] == [
        ("get_user", {"id": 7, "note": "é"}),
        ("get_user", {}),
    ]
    assert message.usage_metadata["total_tokens"] == provider.billed.total  # type: ignore[index]
    assert message.response_metadata["model_provider"] in ("openai", "anthropic")
    assert len({chunk.id for chunk in chunks if str(chunk.id).startswith("lc_run-")}) == 1
    results = [ToolMessage("Ann", name="get_user", tool_call_id=call["id"]) for call in message.tool_calls]
    assert bound.invoke([HumanMessage("Who is 7?"), message, *results]).text == "It is Ann."
    assert provider.rejected == []
    assert provider.records[-1].raw.count(b"call_tool") == provider.records[0].raw.count(b"call_tool") + 2


@apis
@both
def test_text_is_there_before_the_answer_is_complete(provider: ProviderServer, name: Provider, way: str) -> None:
    gate = threading.Event()
    provider.script = [Reply(text="I look now.", tool_calls=(CALL,), gate=gate, pieces_before_gate=2)]
    seen: list[str] = []

    def see(chunk: AIMessageChunk) -> None:
        seen.append(chunk.text)
        if "".join(seen) == "I look ":
            gate.set()  # would hang until the server gives up if text were held

    if way == "stream":
        for chunk in model(name, provider).stream("hi"):
            see(chunk)
    else:

        async def read() -> None:
            async for chunk in model(name, provider).astream("hi"):
                see(chunk)

        asyncio.run(read())
    assert gate.is_set()
    assert "".join(seen) == "I look now."


@apis
@both
def test_an_answer_without_calls_streams_as_it_does_without_the_flow(
    provider: ProviderServer, name: Provider, way: str
) -> None:
    provider.script = [Reply(thinking="Hm.", text="All is well here."), Reply(thinking="Hm.", text="All is well here.")]
    bare = added(streamed(way, chat_model(name, provider).bind_tools(TOOLS), [HumanMessage("hi")]))
    mine = added(streamed(way, model(name, provider), [HumanMessage("hi")]))
    assert (mine.text, mine.usage_metadata) == (bare.text, bare.usage_metadata)
    assert mine.response_metadata.keys() == bare.response_metadata.keys()
    assert [block["type"] for block in mine.content_blocks] == [block["type"] for block in bare.content_blocks]


@apis
@both
def test_a_stream_that_breaks_in_a_held_call_is_the_providers_error(
    provider: ProviderServer, name: Provider, way: str
) -> None:
    provider.script = [Reply(tool_calls=(CALL,), break_after=1)]
    with pytest.raises(Exception, match=r"server had an error|Overloaded"):
        streamed(way, model(name, provider), [HumanMessage("hi")])


@apis
@pytest.mark.parametrize("is_async", [False, True])
def test_without_streaming_the_usage_is_that_of_all_calls(
    provider: ProviderServer, name: Provider, is_async: bool
) -> None:
    provider.script = [Reply(text="I look.", tool_calls=(SEARCH,)), Reply(text="I ask.", tool_calls=(CALL,))]
    bound = model(name, provider)
    message = asyncio.run(bound.ainvoke("Who is 7?")) if is_async else bound.invoke("Who is 7?")
    assert (message.text, [call["name"] for call in message.tool_calls]) == ("I ask.", ["get_user"])
    assert message.usage_metadata["total_tokens"] == provider.billed.total
    assert provider.rejected == []
