"""What the server answers: both wire formats, both bills, its errors, and what it records."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import pytest

from tests.fakes import FakeClock
from tests.providers.apis import sign
from tests.providers.billing import Bill
from tests.providers.post import ANTHROPIC_HEADERS, OPENAI_HEADERS, anthropic, openai, post, post_raw
from tests.providers.replies import Asked, Failure, Reply, ToolCall
from tests.providers.server import ProviderServer

CALL = Reply(text="I look.", tool_calls=(ToolCall(name="weather", args={"city": "Rome"}),))
TOOL = {
    "openai": {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
    },
    "anthropic": {"name": "weather", "input_schema": {"type": "object", "properties": {}}},
}
MODEL = {"openai": "gpt-4.1-mini", "anthropic": "claude-sonnet-4-5"}
PATH = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
HEADERS = {"openai": OPENAI_HEADERS, "anthropic": ANTHROPIC_HEADERS}
BOTH = pytest.mark.parametrize("provider_name", ["openai", "anthropic"])


@pytest.fixture
def server(running: ProviderServer) -> ProviderServer:
    return running.renewed()


def body(provider: str, question: str = "Hello?", **more: Any) -> dict[str, Any]:
    return {
        "model": MODEL[provider],
        "max_tokens": 100,
        "tools": [TOOL[provider]],
        "messages": [{"role": "user", "content": question}],
        **more,
    }


def sse(raw: bytes) -> list[tuple[str | None, Any]]:
    """Events of a stream as `(name, data)`."""
    events: list[tuple[str | None, Any]] = []
    for part in raw.decode().strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in part.split("\n"))
        data = fields["data"]
        events.append((fields.get("event"), data if data == "[DONE]" else json.loads(data)))
    return events


# --- answers ---------------------------------------------------------------------------------------------------------


def test_openai_answer_and_its_bill(server: ProviderServer) -> None:
    server.script = [CALL]
    status, answer = openai(server, body("openai"))
    assert status == 200
    choice = answer["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", "I look.")
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Rome"}'}
    tool = '{"function":{"name":"weather","parameters":{"properties":{},"type":"object"}},"type":"function"}'
    message = '{"content":"Hello?","role":"user"}'
    prompt = -(-len(tool + "\n" + message) // 4)
    output = -(-len('I look.weather{"city": "Rome"}') // 4)
    assert answer["usage"]["prompt_tokens"] == prompt
    assert answer["usage"]["completion_tokens"] == output
    assert answer["usage"]["total_tokens"] == prompt + output
    assert server.billed == Bill(input=prompt, output=output)


def test_anthropic_answer_and_its_bill(server: ProviderServer) -> None:
    server.script = [CALL]
    status, answer = anthropic(server, body("anthropic", system="Be brief."))
    assert (status, answer["stop_reason"]) == (200, "tool_use")
    assert [block["type"] for block in answer["content"]] == ["text", "tool_use"]
    assert answer["content"][1]["input"] == {"city": "Rome"}
    tool = '{"input_schema":{"properties":{},"type":"object"},"name":"weather"}'
    system = 'system:{"text":"Be brief.","type":"text"}'
    message = 'user:{"text":"Hello?","type":"text"}'
    prompt = -(-len(tool + system + message) // 4)
    output = -(-len('I look.weather{"city": "Rome"}') // 4)
    assert (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]) == (prompt, output)
    assert server.billed == Bill(input=prompt, output=output)


@pytest.mark.parametrize("wanted", [True, False])
def test_openai_stream_has_usage_only_when_it_is_asked_for(server: ProviderServer, wanted: bool) -> None:
    server.script = [CALL]
    options = {"stream_options": {"include_usage": True}} if wanted else {}
    _, raw, headers = post_raw(server, PATH["openai"], body("openai", stream=True, **options), OPENAI_HEADERS)
    events = sse(raw)
    assert headers["content-type"].startswith("text/event-stream")
    assert events[-1] == (None, "[DONE]")
    chunks = [data for _, data in events[:-1]]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "I look."
    calls = [part for delta in deltas for part in delta.get("tool_calls", ())]
    assert (calls[0]["id"], calls[0]["function"]["name"]) == ("call_00000000000000000001", "weather")
    assert "".join(part["function"]["arguments"] for part in calls) == '{"city": "Rome"}'
    finals = [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"]]
    assert (finals[-1], set(finals[:-1])) == ("tool_calls", {None})
    bill = server.answered[0].bill
    assert bill is not None
    if wanted:
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"]["total_tokens"] == bill.total
        assert all(chunk["usage"] is None for chunk in chunks[:-1])
    else:
        assert all("usage" not in chunk for chunk in chunks)


def test_anthropic_stream_has_its_events_in_order(server: ProviderServer) -> None:
    server.script = [Reply(thinking="Hm, well.", text="I look.", tool_calls=CALL.tool_calls)]
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}
    request = {**body("anthropic", stream=True), **thinking}
    _, raw, _ = post_raw(server, PATH["anthropic"], request, ANTHROPIC_HEADERS)
    events = sse(raw)
    assert all(name == data["type"] for name, data in events)
    names = [name for name, _ in events if name != "content_block_delta"]
    block = ["content_block_start", "content_block_stop"]
    assert names == ["message_start", "ping", *block * 3, "message_delta", "message_stop"]
    deltas = [data["delta"] for name, data in events if name == "content_block_delta"]
    assert "".join(d["thinking"] for d in deltas if d["type"] == "thinking_delta") == "Hm, well."
    assert [d["signature"] for d in deltas if d["type"] == "signature_delta"] == [sign("Hm, well.")]
    assert "".join(d["text"] for d in deltas if d["type"] == "text_delta") == "I look."
    assert "".join(d["partial_json"] for d in deltas if d["type"] == "input_json_delta") == '{"city": "Rome"}'
    bill = server.answered[0].bill
    assert bill is not None
    start = events[0][1]["message"]
    assert (start["content"], start["usage"]["input_tokens"], start["usage"]["output_tokens"]) == ([], bill.input, 1)
    final = events[-2][1]
    assert final["delta"]["stop_reason"] == "tool_use"
    assert (final["usage"]["input_tokens"], final["usage"]["output_tokens"]) == (bill.input, bill.output)
    assert final["usage"]["output_tokens_details"] == {"thinking_tokens": 3}


@BOTH
def test_answer_is_cut_at_the_requests_limit(server: ProviderServer, provider_name: str) -> None:
    server.script = ["x" * 100]
    _, answer, _ = post(server, PATH[provider_name], body(provider_name, max_tokens=5), HEADERS[provider_name])
    if provider_name == "openai":
        text, reason = answer["choices"][0]["message"]["content"], answer["choices"][0]["finish_reason"]
    else:
        text, reason = answer["content"][0]["text"], answer["stop_reason"]
    assert text == "x" * 20
    assert reason == {"openai": "length", "anthropic": "max_tokens"}[provider_name]
    assert server.billed.output == 5


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider_name", "status", "kind"),
    [
        ("openai", 429, "requests"),
        ("openai", 500, "server_error"),
        ("openai", 503, "service_unavailable_error"),
        ("anthropic", 429, "rate_limit_error"),
        ("anthropic", 500, "api_error"),
        ("anthropic", 529, "overloaded_error"),
    ],
)
def test_failure_in_the_providers_form(server: ProviderServer, provider_name: str, status: int, kind: str) -> None:
    server.script = [Failure(status=status, retry_after="2"), "fine"]
    got, answer, headers = post(server, PATH[provider_name], body(provider_name), HEADERS[provider_name])
    assert (got, answer["error"]["type"], headers["retry-after"]) == (status, kind, "2")
    assert server.billed == Bill()
    assert post(server, PATH[provider_name], body(provider_name), HEADERS[provider_name])[0] == 200
    assert [record.status for record in server.records] == [status, 200]


@BOTH
def test_stream_can_break_off_with_an_error(server: ProviderServer, provider_name: str) -> None:
    server.script = [Reply(text="one two three", break_after=1)]
    request = body(provider_name, stream=True)
    _, raw, _ = post_raw(server, PATH[provider_name], request, HEADERS[provider_name])
    name, data = sse(raw)[-1]
    assert (name, "error" in data) == ("error" if provider_name == "anthropic" else None, True)
    assert b"one" in raw
    assert b"two" not in raw


@BOTH
def test_script_at_its_end_is_an_error_and_not_a_refusal(server: ProviderServer, provider_name: str) -> None:
    status, answer, _ = post(server, PATH[provider_name], body(provider_name), HEADERS[provider_name])
    assert (status, answer["error"]["message"]) == (500, "the test's script is at its end")
    assert server.rejected == []


@BOTH
def test_policy_that_raises_is_told_to_the_test(server: ProviderServer, provider_name: str) -> None:
    def policy(asked: Asked) -> Reply:
        raise AssertionError(asked.last_user)

    server.policy = policy
    status, answer, _ = post(server, PATH[provider_name], body(provider_name), HEADERS[provider_name])
    assert (status, server.broken) == (500, ["the test's policy raised AssertionError('Hello?')"])
    assert answer["error"]["message"] == server.broken[0]


def test_unknown_path_is_not_found(server: ProviderServer) -> None:
    assert post(server, "/v1/completions", {}, OPENAI_HEADERS)[0] == 404


@BOTH
def test_client_that_leaves_is_seen(server: ProviderServer, provider_name: str) -> None:
    gate = threading.Event()
    server.script = [Reply(text="word " * 2000, gate=gate)]
    data = json.dumps(body(provider_name, stream=True, max_tokens=9000)).encode()
    host, port = server.root.removeprefix("http://").split(":")
    head = f"POST {PATH[provider_name]} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(data)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in HEADERS[provider_name].items())
    client = socket.create_connection((host, int(port)), timeout=10)
    client.sendall(head.encode() + b"\r\n" + data)
    first = client.recv(64)
    # Closed with a reset, so that the server's next writes fail.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    client.close()
    gate.set()
    assert first.startswith(b"HTTP/1.1 200")
    assert server.records[0].wait_ended()
    assert (server.records[0].status, server.records[0].complete) == (200, False)


# --- what a policy reads ---------------------------------------------------------------------------------------------


def test_policy_reads_both_providers_alike() -> None:
    seen: list[Asked] = []

    def policy(asked: Asked) -> Reply:
        seen.append(asked)
        return Reply(text="ok")

    call = {"name": "weather", "arguments": "{}"}
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Before?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c2", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "c2", "content": "sun"},
    ]
    messages = [
        {"role": "user", "content": "Before?"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "weather", "input": {}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "rain"},
                {"type": "text", "text": "Hello?"},
            ],
        },
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t2", "name": "weather", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t2", "content": "sun"}]},
    ]
    with ProviderServer(policy=policy) as server:
        assert openai(server, body("openai", messages=chat))[0] == 200
        assert anthropic(server, body("anthropic", messages=messages, system="Be brief."))[0] == 200
    for asked in seen:
        assert asked.offered == ["weather"]
        assert asked.system == "Be brief."
        assert asked.last_user == "Hello?"
        assert asked.results == ["rain", "sun"]
        assert asked.turn_results == ["sun"]


# --- prompt caches ---------------------------------------------------------------------------------------------------

LONG = "The quick brown fox. " * 400  # 8,400 characters: 2,100 tokens


def test_openai_caches_a_repeated_prefix_in_steps_of_128() -> None:
    clock = FakeClock()
    with ProviderServer(["a"] * 4, clock=clock) as server:
        first = [{"role": "system", "content": LONG}, {"role": "user", "content": "One?"}]
        second = [{"role": "system", "content": LONG}, {"role": "user", "content": "Two?"}]
        for messages in (first, second):
            assert openai(server, body("openai", messages=messages))[0] == 200
        clock.advance(301)
        assert openai(server, body("openai", messages=second))[0] == 200
        other = {**body("openai", messages=second), "model": "gpt-4.1"}
        assert openai(server, other)[0] == 200
        read = [record.bill.cache_read for record in server.answered if record.bill]
    assert read == [0, 2048, 0, 0]


def test_openai_caches_nothing_below_1024_tokens() -> None:
    with ProviderServer(["a"] * 2) as server:
        short = body("openai", "x" * 3900)
        openai(server, short)
        _, answer = openai(server, short)
    assert answer["usage"]["prompt_tokens"] > 980
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_openai_cache_breaks_when_the_tools_change() -> None:
    with ProviderServer(["a"] * 3) as server:
        request = body("openai", LONG)
        openai(server, request)
        openai(server, {**request, "tools": [{"type": "function", "function": {"name": "other"}}]})
        openai(server, request)
        read = [record.bill.cache_read for record in server.answered if record.bill]
    assert read == [0, 0, 2048]


MARK = {"cache_control": {"type": "ephemeral"}}


def marked(system: str, *messages: dict[str, Any], mark: dict[str, Any] = MARK, **more: Any) -> dict[str, Any]:
    return body("anthropic", system=[{"type": "text", "text": system, **mark}], messages=list(messages), **more)


USER = {"role": "user", "content": "One?"}


def bills(server: ProviderServer) -> list[tuple[int, int]]:
    return [(record.bill.cache_write, record.bill.cache_read) for record in server.answered if record.bill]


def test_anthropic_writes_what_is_marked_and_reads_it_back() -> None:
    clock = FakeClock()
    with ProviderServer(["a"] * 4, clock=clock) as server:
        _, first = anthropic(server, marked(LONG, USER))
        _, second = anthropic(server, marked(LONG, {"role": "user", "content": "Two?"}))
        clock.advance(299)
        anthropic(server, marked(LONG, USER))  # each read keeps it for another 5 minutes
        clock.advance(301)
        anthropic(server, marked(LONG, USER))
        found = bills(server)
    size = found[0][0]
    assert size > 2100
    assert found == [(size, 0), (0, size), (0, size), (size, 0)]
    usage = first["usage"]
    assert usage["cache_creation_input_tokens"] == size
    assert usage["cache_creation"] == {"ephemeral_5m_input_tokens": size, "ephemeral_1h_input_tokens": 0}
    assert second["usage"]["cache_read_input_tokens"] == size
    assert second["usage"]["input_tokens"] == usage["input_tokens"]


def test_anthropic_caches_nothing_that_is_not_marked() -> None:
    with ProviderServer(["a"] * 2) as server:
        for _ in range(2):
            anthropic(server, body("anthropic", LONG))
        assert bills(server) == [(0, 0), (0, 0)]


def test_anthropic_caches_nothing_below_1024_tokens() -> None:
    with ProviderServer(["a"] * 2) as server:
        for _ in range(2):
            anthropic(server, marked("x" * 3900, USER))
        assert bills(server) == [(0, 0), (0, 0)]


def test_anthropic_keeps_an_hour_when_it_is_asked_to() -> None:
    clock = FakeClock()
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    with ProviderServer(["a"] * 2, clock=clock) as server:
        _, first = anthropic(server, marked(LONG, USER, mark=hour))
        clock.advance(3599)
        _, second = anthropic(server, marked(LONG, USER, mark=hour))
    size = first["usage"]["cache_creation_input_tokens"]
    assert first["usage"]["cache_creation"]["ephemeral_1h_input_tokens"] == size > 0
    assert second["usage"]["cache_read_input_tokens"] == size


def test_anthropic_moves_its_automatic_breakpoint_with_the_conversation() -> None:
    with ProviderServer(["a"] * 2) as server:
        anthropic(server, body("anthropic", LONG, **MARK))
        longer = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "a"}, USER]
        anthropic(server, body("anthropic", messages=longer, **MARK))
        (size, nothing), (added, read) = bills(server)
    assert (nothing, read) == (0, size)
    assert 0 < added < 40


def test_anthropic_tools_stay_cached_when_the_messages_change() -> None:
    big = {**TOOL["anthropic"], "description": LONG, **MARK}
    with ProviderServer(["a"] * 3) as server:
        anthropic(server, body("anthropic", "One?", tools=[big]))
        anthropic(server, body("anthropic", "Two?", tools=[big], tool_choice={"type": "any"}))
        anthropic(server, body("anthropic", "One?", tools=[TOOL["anthropic"] | {"name": "new"}, big]))
        found = bills(server)
    assert found[0][0] == found[1][1] > 2100
    assert found[2][1] == 0


def defined(name: str, **more: Any) -> dict[str, Any]:
    definition = {**TOOL["anthropic"], "name": name, **more}
    return {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": definition}}


@pytest.mark.parametrize(
    ("tools", "mark", "read"),
    [
        ([TOOL["anthropic"]], {}, True),
        ([TOOL["anthropic"]], MARK, True),
        ([], {}, False),
        ([{**TOOL["anthropic"], "defer_loading": True}], {}, False),
    ],
    ids=["tools", "tools, and a breakpoint", "no tools", "deferred tools only"],
)
def test_anthropic_reads_what_is_before_a_tool_that_is_defined_in_a_message(
    tools: list[dict[str, Any]], mark: dict[str, Any], read: bool
) -> None:
    headers = {**ANTHROPIC_HEADERS, "anthropic-beta": "inline-tools-2026-09-15"}
    settings = {"model": "claude-opus-5-5", "tools": tools, **({} if mark else MARK)}
    question = {"role": "user", "content": [{"type": "text", "text": LONG, **mark}]}
    later = [question, {"role": "system", "content": [defined("second", **mark), defined("third")]}]
    with ProviderServer(["a"] * 2) as server:
        anthropic(server, body("anthropic", messages=[question], **settings), headers)
        anthropic(server, body("anthropic", messages=later, **settings), headers)
        (size, _), (_, found) = bills(server)
        assert server.rejected == []
    assert found == (size if read else 0)


@pytest.mark.parametrize(("blocks_between", "found"), [(19, True), (20, False)])
def test_anthropic_looks_at_20_blocks_the_marked_one_included(blocks_between: int, found: bool) -> None:
    head = {"role": "user", "content": [{"type": "text", "text": LONG, **MARK}]}
    tail = [{"type": "text", "text": f"Part {n}."} for n in range(blocks_between)]
    tail[-1] = {**tail[-1], **MARK}
    with ProviderServer(["a"] * 2) as server:
        anthropic(server, body("anthropic", messages=[head]))
        bare = {"role": "user", "content": [{"type": "text", "text": LONG}, *tail]}
        anthropic(server, body("anthropic", messages=[bare]))
        (size, _), (_, read) = bills(server)
    assert read == (size if found else 0)
