"""Each of OpenAI's rules refuses what it must, in OpenAI's words, and takes the right form."""

from __future__ import annotations

from typing import Any

import pytest

from tests.providers.post import openai
from tests.providers.server import ProviderServer

USER = {"role": "user", "content": "What is the weather?"}


def tool(name: str = "weather", **function: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    return {"type": "function", "function": {"name": name, "parameters": schema, **function}}


def call(call_id: str = "call_1", arguments: str = '{"city": "Rome"}', name: str = "weather") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def asks(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def result(call_id: str = "call_1", content: Any = "sunny") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def body(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4.1-mini", "messages": list(messages or (USER,)), **more}


def schema(fmt: dict[str, Any], *, strict: bool = True, name: str = "Answer") -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": name, "schema": fmt, "strict": strict}}


CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
OPEN = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"messages": [USER]}, "you must provide a model parameter"),
    "no messages": ({"model": "gpt-4.1-mini"}, "Missing required parameter: 'messages'."),
    "empty messages": ({"model": "m", "messages": []}, "Invalid 'messages': empty array."),
    "unknown parameter": (body(max_token=3), "Unrecognized request argument supplied: max_token"),
    "max_tokens zero": (body(max_tokens=0), "Invalid 'max_tokens': integer below minimum value."),
    "max_completion_tokens negative": (
        body(max_completion_tokens=-1),
        "Invalid 'max_completion_tokens': integer below minimum value. Expected a value >= 1, but got -1 instead.",
    ),
    "max_tokens text": (body(max_tokens="9"), "Invalid type for 'max_tokens': expected an integer, but got a string"),
    "both limits": (body(max_tokens=5, max_completion_tokens=5), "at the same time is not supported"),
    "max_tokens with a reasoning model": (
        {**body(max_tokens=5), "model": "gpt-5-mini"},
        "Unsupported parameter: 'max_tokens' is not supported with this model.",
    ),
    "two choices": (body(n=2), "Invalid 'n'"),
    "stream_options without stream": (
        body(stream_options={"include_usage": True}),
        "only allowed when 'stream' is enabled",
    ),
    "empty tools": (body(tools=[]), "Invalid 'tools': empty array."),
    "129 tools": (
        body(tools=[tool(f"t{n}") for n in range(129)]),
        "Invalid 'tools': array too long. Expected an array with maximum length 128, but got an array with length 129",
    ),
    "tool of an unknown type": (body(tools=[{"type": "web_search"}]), "Invalid value: 'web_search'."),
    "tool name with a dot": (body(tools=[tool("a.b")]), "Invalid 'tools[0].function.name': string does not match"),
    "tool name of 65": (body(tools=[tool("a" * 65)]), "Invalid 'tools[0].function.name': string too long."),
    "tool name empty": (body(tools=[tool("")]), "Invalid 'tools[0].function.name'"),
    "tool twice": (body(tools=[tool(), tool()]), "duplicate tool name 'weather'"),
    "parameters not an object": (
        body(tools=[tool(parameters={"type": "string"})]),
        "Invalid schema for function 'weather': schema must be a JSON Schema of 'type: \"object\"', got",
    ),
    "parameters without a type": (body(tools=[tool(parameters={"properties": {}})]), "got 'type: \"None\"'"),
    "parameters without properties": (
        body(tools=[tool(parameters={"type": "object"})]),
        "In context=(), object schema missing properties.",
    ),
    "array without items": (
        body(tools=[tool(parameters={"type": "object", "properties": {"tags": {"type": "array"}}})]),
        "In context=('properties', 'tags'), array schema missing items.",
    ),
    "unknown type in a schema": (
        body(tools=[tool(parameters={"type": "object", "properties": {"a": {"type": "str"}}})]),
        "'str' is not valid under any of the given schemas.",
    ),
    "strict tool left open": (body(tools=[tool(strict=True, parameters=OPEN)]), "'additionalProperties' is required"),
    "strict tool with an optional key": (
        body(tools=[tool(strict=True, parameters={**CLOSED, "required": []})]),
        "'required' is required to be supplied and to be an array including every key in properties. Missing 'a'.",
    ),
    "tool_choice without tools": (
        body(tool_choice="auto"),
        "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.",
    ),
    "parallel_tool_calls without tools": (
        body(parallel_tool_calls=False),
        "Invalid value for 'parallel_tool_calls': 'parallel_tool_calls' is only allowed when 'tools' are specified.",
    ),
    "tool_choice of an unknown tool": (
        body(tools=[tool()], tool_choice={"type": "function", "function": {"name": "other"}}),
        "Invalid value for 'tool_choice': no function named 'other' was specified in the 'tools' parameter.",
    ),
    "tool_choice of an unknown kind": (body(tools=[tool()], tool_choice="any"), "Invalid value: 'any'."),
    "unknown role": (body({"role": "robot", "content": "x"}), "Invalid value: 'robot'. Supported values are:"),
    "unknown key in a message": (body({**USER, "id": "1"}), "Unknown parameter: 'messages[0].id'."),
    "name with a space": (
        body({**USER, "name": "Ada L"}),
        "Invalid 'messages[0].name': string does not match pattern.",
    ),
    "null content of a user": (
        body({"role": "user", "content": None}),
        "Invalid value for 'content': expected a string, got null.",
    ),
    "null content of an assistant that calls nothing": (
        body(USER, {"role": "assistant", "content": None}),
        "Invalid value for 'content': expected a string, got null.",
    ),
    "content that is an object": (body({"role": "user", "content": {"a": 1}}), "but got an object instead"),
    "content that is an empty list": (
        body({"role": "user", "content": []}),
        "Invalid 'messages[0].content': empty array.",
    ),
    "thinking block": (
        body(USER, {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}]}),
        "Invalid value: 'thinking'. Supported values are: 'refusal' and 'text'.",
    ),
    "image in a tool result": (
        body(USER, asks(call()), result(content=[{"type": "image_url", "image_url": {"url": "data:,"}}])),
        "Image URLs are only allowed for messages with role 'user', but this message with role 'tool' contains",
    ),
    "cache_control on a text": (
        body({"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}),
        "Unknown parameter: 'messages[0].content[0].cache_control'.",
    ),
    "call without an answer at the end": (
        body(USER, asks(call())),
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'.",
    ),
    "call without an answer before the user": (
        body(USER, asks(call()), USER),
        "The following tool_call_ids did not have response messages: call_1",
    ),
    "one of two calls without an answer": (
        body(USER, asks(call(), call("call_2")), result("call_2"), USER),
        "The following tool_call_ids did not have response messages: call_1",
    ),
    "answer after another message": (
        body(USER, asks(call()), USER, result()),
        "The following tool_call_ids did not have response messages: call_1",
    ),
    "orphan at the start": (
        body(result(), USER),
        "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
    ),
    "orphan of another call": (
        body(USER, asks(call()), result("call_9")),
        "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
    ),
    "answered twice": (body(USER, asks(call()), result(), result()), "Duplicate value for 'tool_call_id' of 'call_1'"),
    "id twice in one message": (
        body(USER, asks(call(), call()), result()),
        "Duplicate value for 'tool_call_id' of 'call_1' in message[1].",
    ),
    "id twice in the conversation": (
        body(USER, asks(call()), result(), USER, asks(call()), result()),
        "Duplicate value for 'tool_call_id' of 'call_1' in message[4].",
    ),
    "tool message without an id": (
        body(USER, asks(call()), {"role": "tool", "content": "sunny"}),
        "Missing parameter 'tool_call_id': messages with role 'tool' must have a 'tool_call_id'.",
    ),
    "tool message without content": (
        body(USER, asks(call()), result(content=None)),
        "Invalid value for 'content': expected a string, got null.",
    ),
    "empty tool_calls": (
        body(USER, {"role": "assistant", "content": "x", "tool_calls": []}),
        "Invalid 'messages[1].tool_calls': empty array.",
    ),
    "call without an id": (
        body(USER, asks({"type": "function", "function": {"name": "weather", "arguments": "{}"}})),
        "Missing required parameter: 'messages[1].tool_calls[0].id'.",
    ),
    "called name with a space": (
        body(USER, asks(call(name="the weather")), result()),
        "Invalid 'messages[1].tool_calls[0].function.name': string does not match pattern.",
    ),
    "arguments that are not JSON": (
        body(USER, asks(call(arguments="{city")), result()),
        "Invalid 'messages[1].tool_calls[0].function.arguments': not valid JSON.",
    ),
    "response_format of an unknown type": (body(response_format={"type": "xml"}), "Invalid value: 'xml'."),
    "json_object without the word": (
        body(response_format={"type": "json_object"}),
        "'messages' must contain the word 'json' in some form",
    ),
    "json_schema without a schema": (
        body(response_format={"type": "json_schema", "json_schema": {"name": "x"}}),
        "Missing required parameter: 'response_format.json_schema.schema'.",
    ),
    "json_schema with a bad name": (
        body(response_format=schema(CLOSED, name="my answer")),
        "Invalid 'response_format.json_schema.name': string does not match pattern.",
    ),
    "json_schema left open": (
        body(response_format=schema(OPEN)),
        "Invalid schema for response_format 'Answer': In context=(), 'additionalProperties' is required",
    ),
    "json_schema of a list": (
        body(response_format=schema({"type": "array", "items": OPEN}, strict=False)),
        "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"array\"'.",
    ),
}

ACCEPTED: dict[str, dict[str, Any]] = {
    "a question": body(),
    "a system prompt": body({"role": "system", "content": "Be brief."}, USER),
    "a developer prompt in the middle": body(USER, {"role": "developer", "content": "Be brief."}, USER),
    "two user messages": body(USER, USER),
    "a named speaker": body({**USER, "name": "Ada_L"}),
    "an image from the user": body(
        {
            "role": "user",
            "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "data:,"}}],
        }
    ),
    "a limit": body(max_tokens=1),
    "a limit for a reasoning model": {**body(max_completion_tokens=1), "model": "gpt-5-mini"},
    "128 tools": body(tools=[tool(f"t{n}") for n in range(128)]),
    "a tool without parameters": body(tools=[{"type": "function", "function": {"name": "now"}}]),
    "a name of 64": body(tools=[tool("a" * 64)]),
    "an open tool": body(tools=[tool(parameters=OPEN)]),
    "a strict tool": body(tools=[tool(strict=True, parameters=CLOSED)]),
    "an array with items": body(
        tools=[tool(parameters={"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}}})]
    ),
    "a forced tool": body(tools=[tool()], tool_choice={"type": "function", "function": {"name": "weather"}}),
    "any tool": body(tools=[tool()], tool_choice="required", parallel_tool_calls=False),
    "an answered call": body(USER, asks(call()), result()),
    "an answered call without tools": body(USER, asks(call()), result(), USER),
    "two answered calls, in any order": body(USER, asks(call(), call("call_2")), result("call_2"), result(), USER),
    "two turns of calls": body(USER, asks(call()), result(), asks(call("call_2")), result("call_2")),
    "an empty result": body(USER, asks(call()), result(content="")),
    "a result in parts": body(USER, asks(call()), result(content=[{"type": "text", "text": "sunny"}])),
    "an assistant with text and calls": body(USER, {**asks(call()), "content": "One moment."}, result()),
    "json_object with the word": body({"role": "user", "content": "As JSON"}, response_format={"type": "json_object"}),
    "a closed json_schema": body(response_format=schema(CLOSED)),
    "an open json_schema that is not strict": body(response_format=schema(OPEN, strict=False)),
}


@pytest.fixture
def server(running: ProviderServer) -> ProviderServer:
    return running.renewed(script=["fine"])


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_request_is_refused_in_the_providers_words(server: ProviderServer, name: str) -> None:
    request, words = REFUSED[name]
    status, answer = openai(server, request)
    assert status == 400
    assert words in answer["error"]["message"]
    assert answer["error"]["type"] == "invalid_request_error"
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert server.rejected == [answer["error"]["message"]]
    assert server.answered == []
    assert server.script == ["fine"]


@pytest.mark.parametrize("name", ACCEPTED)
def test_valid_request_is_answered(server: ProviderServer, name: str) -> None:
    status, answer = openai(server, ACCEPTED[name])
    assert (status, server.rejected) == (200, [])
    assert answer["choices"][0]["message"]["content"] == "fine"
    assert len(server.answered) == 1


def test_request_without_a_key_is_refused(server: ProviderServer) -> None:
    status, answer = openai(server, body(), headers={})
    assert status == 401
    assert "API key" in answer["error"]["message"]


def test_request_that_is_not_json_is_refused(server: ProviderServer) -> None:
    status, answer = openai(server, "{")
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")


def test_prompt_larger_than_the_window_is_refused(server: ProviderServer) -> None:
    server.context_window = 10
    status, answer = openai(server, body({"role": "user", "content": "x" * 100}))
    assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")
