"""Each rule of OpenAI's Responses API refuses what it must, and takes the right form; and its streams are whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.providers.post import OPENAI_HEADERS, post_raw, responses
from tests.providers.replies import Reply, ToolCall
from tests.providers.server import ProviderServer

USER = {"role": "user", "content": "What is the weather?"}
OPEN = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CLOSED = {**OPEN, "additionalProperties": False}


def tool(name: str = "weather", **more: Any) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": OPEN, **more}


def call(call_id: str = "call_1", **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": "weather", "arguments": "{}", **more}


def result(call_id: str = "call_1") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": "sunny"}


def ai(text: str = "fine", **more: Any) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}], **more}


def thought(item_id: str = "rs_1") -> dict[str, Any]:
    return {"type": "reasoning", "id": item_id, "summary": []}


def added(*tools: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "additional_tools", "role": "developer", "tools": list(tools), **more}


def body(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "gpt-5-mini", "input": list(items or (USER,)), **more}


def text_format(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"text": {"format": {"type": "json_schema", "name": "Answer", "schema": schema, "strict": True, **more}}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"input": "x"}, "Missing required parameter: 'model'."),
    "no input": ({"model": "m"}, "Missing required parameter: 'input'."),
    "parameter of the other API": (body(max_tokens=100), "Unknown parameter: 'max_tokens'."),
    "limit too low": (body(max_output_tokens=15), "Expected a value >= 16, but got 15 instead."),
    "tool without a name": (body(tools=[{"type": "function"}]), "Missing required parameter: 'tools[0].name'."),
    "tool of the other API": (
        body(tools=[{"type": "function", "function": {"name": "x"}}]),
        "Missing required parameter: 'tools[0].name'.",
    ),
    "tool name with a dot": (body(tools=[tool("a.b")]), "Invalid 'tools[0].name': string does not match pattern."),
    "tool twice": (body(tools=[tool(), tool()]), "duplicate tool name 'weather'"),
    "tool twice, once added": (
        body(USER, added(tool()), tools=[tool()]),
        "duplicate tool name 'weather'",
    ),
    "tools added by the user": (body(USER, added(tool(), role="user")), "Supported values are: 'developer'."),
    "unknown key beside added tools": (body(USER, added(tool(), cache=1)), "Unknown parameter: 'input[1].cache'."),
    "tool added in the form of the other API": (
        body(USER, added({"type": "function", "function": {"name": "x"}})),
        "Missing required parameter: 'tools[0].name'.",
    ),
    "parameters not an object": (body(tools=[tool(parameters={"type": "string"})]), "got 'type: \"string\"'"),
    "strict tool left open": (body(tools=[tool(strict=True)]), "'additionalProperties' is required"),
    "tool_choice of an unknown tool": (
        body(tools=[tool()], tool_choice={"type": "function", "name": "other"}),
        "Tool choice 'other' not found in 'tools' parameter.",
    ),
    "unknown role": (body({"role": "tool", "content": "x"}), "Invalid value: 'tool'."),
    "unknown item": (body({"type": "tool_result"}), "Invalid value: 'tool_result'."),
    "unknown key in a message": (body({**USER, "name": "Ada"}), "Unknown parameter: 'input[0].name'."),
    "output text of the user": (
        body({"role": "user", "content": [{"type": "output_text", "text": "x"}]}),
        "Invalid value: 'output_text'.",
    ),
    "id of LangChain's own": (body(USER, ai(id="lc_1")), "Expected an ID that begins with 'msg'."),
    "item twice": (body(USER, ai(id="msg_1"), USER, ai(id="msg_1")), "Duplicate item found with id msg_1."),
    "call without an output": (body(USER, call(), USER), "No tool output found for function call call_1."),
    "output without a call": (body(USER, result()), "No tool call found for function call output with call_id call_1."),
    "output before its call": (body(USER, result(), call()), "No tool call found for function call output"),
    "answered twice": (body(USER, call(), result(), result()), "No tool call found for function call output"),
    "call twice": (body(USER, call(), result(), call(), result()), "Duplicate function call with call_id call_1."),
    "arguments that are not JSON": (body(USER, call(arguments="{"), result()), "not valid JSON"),
    "reasoning at the end": (
        body(USER, thought()),
        "Item 'rs_1' of type 'reasoning' was provided without its required following item.",
    ),
    "reasoning before the user": (body(USER, thought(), USER), "was provided without its required following item."),
    "format left open": (body(**text_format(OPEN)), "'additionalProperties' is required"),
    "format without a schema": (body(**text_format({})), "Missing required parameter: 'text.format.schema'."),
    "going on from nothing": (
        body(previous_response_id="resp_9"),
        "Previous response with id 'resp_9' not found.",
    ),
}

ACCEPTED: dict[str, dict[str, Any]] = {
    "a text": {"model": "gpt-5-mini", "input": "Hello?"},
    "a question": body(),
    "instructions": body(instructions="Be brief."),
    "the lowest limit": body(max_output_tokens=16),
    "a tool": body(tools=[tool()], tool_choice={"type": "function", "name": "weather"}),
    "a tool of the provider's own": body(tools=[{"type": "web_search"}]),
    "a tool added later": body(USER, added(tool("other")), tools=[tool()]),
    "an answered call": body(USER, call(id="fc_1"), result()),
    "two answered calls": body(USER, call(), call("call_2"), result("call_2"), result(), USER),
    "reasoning and a call": body(USER, thought(), call(), result()),
    "reasoning and a message": body(USER, thought(), ai(id="msg_1"), USER),
    "a closed format": body(**text_format(CLOSED)),
}


@pytest.fixture
def server(running: ProviderServer) -> ProviderServer:
    return running.renewed(script=["fine"])


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_request_is_refused_in_the_providers_words(server: ProviderServer, name: str) -> None:
    request, words = REFUSED[name]
    status, answer = responses(server, request)
    assert status == 400
    assert words in answer["error"]["message"]
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert server.answered == []
    assert server.script == ["fine"]


@pytest.mark.parametrize("name", ACCEPTED)
def test_valid_request_is_answered(server: ProviderServer, name: str) -> None:
    status, answer = responses(server, ACCEPTED[name])
    assert (status, server.rejected) == (200, [])
    assert answer["output"][0]["content"][0]["text"] == "fine"


def test_request_without_a_key_is_refused(server: ProviderServer) -> None:
    assert responses(server, body(), headers={})[0] == 401


def test_call_without_the_reasoning_before_it_is_refused(server: ProviderServer) -> None:
    server.script = [Reply(thinking="Hm.", tool_calls=(ToolCall(name="weather"),)), "Sunny."]
    _, answer = responses(server, body(tools=[tool()]))
    reasoning, made = answer["output"]
    output = result(made["call_id"])
    status, refused = responses(server, body(USER, made, output, tools=[tool()]))
    assert status == 400
    assert refused["error"]["message"] == (
        f"Item '{made['id']}' of type 'function_call' was provided without its required 'reasoning' item: "
        f"'{reasoning['id']}'."
    )
    assert responses(server, body(USER, reasoning, made, output, tools=[tool()]))[0] == 200


def test_conversation_goes_on_from_an_earlier_response(server: ProviderServer) -> None:
    server.script = [Reply(tool_calls=(ToolCall(name="weather"),)), lambda asked: Reply(text=asked.turn_results[0])]
    _, first = responses(server, body(tools=[tool()]))
    given = [result(first["output"][0]["call_id"])]
    _, second = responses(server, body(*given, tools=[tool()], previous_response_id=first["id"]))
    assert second["output"][0]["content"][0]["text"] == "sunny"
    assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"]


def test_response_that_was_not_stored_is_not_found(server: ProviderServer) -> None:
    _, first = responses(server, body(store=False))
    assert responses(server, body(previous_response_id=first["id"]))[0] == 400


def test_answer_is_cut_at_the_requests_limit(server: ProviderServer) -> None:
    server.script = ["x" * 100]
    _, answer = responses(server, body(max_output_tokens=16))
    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert answer["output"][0]["content"][0]["text"] == "x" * 64
    assert answer["usage"]["output_tokens"] == 16


def test_stream_has_its_events_in_order(server: ProviderServer) -> None:
    server.script = [Reply(thinking="Hm, well.", text="I look.", tool_calls=(ToolCall(name="weather", args={"a": 1}),))]
    _, raw, _ = post_raw(server, "/v1/responses", body(tools=[tool()], stream=True), OPENAI_HEADERS)
    events = [json.loads(part.split("data: ", 1)[1]) for part in raw.decode().strip().split("\n\n")]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert kinds[:2] == ["created", "in_progress"]
    assert kinds[-1] == "completed"
    assert kinds.count("output_item.added") == kinds.count("output_item.done") == 3
    deltas = [(event["type"], event["delta"]) for event in events if "delta" in event]
    assert "".join(d for kind, d in deltas if kind.endswith("summary_text.delta")) == "Hm, well."
    assert "".join(d for kind, d in deltas if kind.endswith("output_text.delta")) == "I look."
    assert "".join(d for kind, d in deltas if kind.endswith("arguments.delta")) == '{"a": 1}'
    whole = events[-1]["response"]
    assert [item["type"] for item in whole["output"]] == ["reasoning", "message", "function_call"]
    bill = server.answered[0].bill
    assert bill is not None
    assert (whole["usage"]["total_tokens"], whole["usage"]["output_tokens_details"]) == (
        bill.total,
        {"reasoning_tokens": 3},
    )


def test_repeated_prefix_is_read_from_the_cache(server: ProviderServer) -> None:
    server.script = ["a", "b"]
    long = {"role": "system", "content": "The quick brown fox. " * 400}
    responses(server, body(long, USER))
    _, answer = responses(server, body(long, {"role": "user", "content": "And now?"}))
    assert answer["usage"]["input_tokens_details"] == {"cached_tokens": 2048}
