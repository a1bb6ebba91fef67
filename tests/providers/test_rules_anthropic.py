"""Each of Anthropic's rules refuses what it must, in Anthropic's words, and takes the right form."""

from __future__ import annotations

from typing import Any

import pytest

from tests.providers.apis import sign
from tests.providers.post import ANTHROPIC_HEADERS, anthropic
from tests.providers.replies import Reply, ToolCall
from tests.providers.rules_anthropic import INLINE_TOOLS_BETA, TOOL_CHANGES_BETA
from tests.providers.server import ProviderServer

USER = {"role": "user", "content": "What is the weather?"}
MARK = {"cache_control": {"type": "ephemeral"}}
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
THINK = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2048}


def tool(name: str = "weather", **more: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    return {"name": name, "input_schema": schema, **more}


def text(words: str = "fine", **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def use(call_id: str = "toolu_1", **more: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "weather", "input": {"city": "Rome"}, **more}


def result(call_id: str = "toolu_1", content: Any = "sunny", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **more}


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def ai(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def system(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "system", "content": list(blocks)}


def body(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": "claude-sonnet-4-5", "max_tokens": 100, "messages": list(messages or (USER,)), **more}


def talk(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return body(*messages, tools=[tool()], **more)


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in body().items() if name != key}


def addition(definition: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": definition}, **more}


def named(kind: str, name: str) -> dict[str, Any]:
    return {"type": kind, "tool": {"type": "tool_reference", "name": name}}


ADDED = addition(tool("added"))
INLINE_HEADERS = {**ANTHROPIC_HEADERS, "anthropic-beta": INLINE_TOOLS_BETA}
NEW_MODEL = {"model": "claude-opus-5-5"}
FORMAT = {"type": "json_schema", "schema": {"type": "object", "properties": {}, "additionalProperties": False}}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no max_tokens": (without("max_tokens"), "max_tokens: Field required"),
    "no model": (without("model"), "model: Field required"),
    "no messages": (without("messages"), "messages: Field required"),
    "max_tokens zero": (body(max_tokens=0), "max_tokens: Input should be greater than or equal to 1"),
    "max_tokens text": (body(max_tokens="9"), "max_tokens: Input should be a valid integer"),
    "unknown parameter": (body(parallel_tool_calls=True), "parallel_tool_calls: Extra inputs are not permitted"),
    "empty messages": ({**body(), "messages": []}, "messages: at least one message is required"),
    "first message of the assistant": (body(ai(text())), 'messages: first message must use the "user" role'),
    "unknown role": (body(USER, {"role": "tool", "content": "x"}), "messages.1.role: Input should be"),
    "system among the messages": (
        body(USER, {"role": "system", "content": "x"}),
        "role 'system' is not supported on this model",
    ),
    "system first": (
        body({"role": "system", "content": "x"}, USER, **NEW_MODEL),
        "messages.0: use the top-level 'system' parameter for the initial system prompt",
    ),
    "system after the assistant": (
        body(USER, ai(text()), system(text()), **NEW_MODEL),
        "messages.2: role 'system' must follow a user message",
    ),
    "system between user messages": (
        body(USER, system(text()), USER, **NEW_MODEL),
        "messages.1: role 'system' must be last or precede an assistant message",
    ),
    "system block that is no text": (body(system=[{"type": "image"}]), "system.0.type: Input should be 'text'"),
    "empty system block": (body(system=[text("")]), "system: text content blocks must be non-empty"),
    "unknown key in a system block": (body(system=[text("x", id="1")]), "system.0.text.id: Extra inputs are not"),
    "unknown key in a message": (body({**USER, "name": "Ada"}), "messages.0.name: Extra inputs are not permitted"),
    "unknown key in a block": (body(user(text(index=0))), "messages.0.content.0.text.index: Extra inputs are not"),
    "unknown block": (
        body(user({"type": "reasoning"})),
        "messages.0.content.0: Input tag 'reasoning' found using 'type'",
    ),
    "empty content": (body({"role": "user", "content": ""}), "all messages must have non-empty content"),
    "empty list": (body(user()), "all messages must have non-empty content"),
    "empty assistant in the middle": (body(USER, ai(), USER), "messages.1: all messages must have non-empty content"),
    "empty text block": (body(user(text(""))), "messages: text content blocks must be non-empty"),
    "empty text block of the assistant": (talk(USER, ai(text(""), use()), user(result())), "must be non-empty"),
    "empty text in a tool result": (talk(USER, ai(use()), user(result(content=[text("")]))), "must be non-empty"),
    "blank text block": (body(user(text("  \n"))), "messages: text content blocks must contain non-whitespace text"),
    "blank text": (body({"role": "user", "content": " "}), "messages: text content blocks must contain non-whitespace"),
    "trailing space at the end": (
        body(USER, ai(text("The answer is "))),
        "messages: final assistant content cannot end with trailing whitespace",
    ),
    "tool_use of the user": (body(user(use())), "messages.0: `tool_use` blocks can only be in `assistant` messages"),
    "tool_result of the assistant": (
        body(USER, ai(result())),
        "messages.1: `tool_result` blocks can only be in `user` messages",
    ),
    "tool_use without input": (talk(USER, ai(use(input=None))), "messages.1.content.0.tool_use.input: Field required"),
    "tool_use with text input": (talk(USER, ai(use(input="{}"))), "tool_use.input: Input should be a valid dictionary"),
    "tool_use with a bad id": (talk(USER, ai(use("a.b"))), "tool_use.id: String should match pattern"),
    "call without an answer at the end": (
        talk(USER, ai(use())),
        "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1.",
    ),
    "call without an answer before text": (talk(USER, ai(use()), USER), "immediately after: toolu_1."),
    "one of two calls without an answer": (
        talk(USER, ai(use(), use("toolu_2")), user(result())),
        "immediately after: toolu_2.",
    ),
    "answer one turn late": (talk(USER, ai(use()), USER, ai(text()), user(result())), "immediately after: toolu_1."),
    "text before the answer": (talk(USER, ai(use()), user(text(), result())), "immediately after: toolu_1."),
    "orphan at the start": (
        talk(user(result(), text())),
        "messages.0.content.0: unexpected `tool_use_id` found in `tool_result` blocks: toolu_1. Each `tool_result`",
    ),
    "orphan of another call": (
        talk(USER, ai(use()), user(result(), result("toolu_9"))),
        "messages.2.content.1: unexpected `tool_use_id` found in `tool_result` blocks: toolu_9.",
    ),
    "answered twice": (
        talk(USER, ai(use()), user(result(), result())),
        "messages.2.content.1: each tool_use must have a single result. Found multiple `tool_result` blocks with id",
    ),
    "id twice in one turn": (
        talk(USER, ai(use(), use()), user(result())),
        "messages.1.content.1: `tool_use` ids must be",
    ),
    "id twice in the conversation": (
        talk(USER, ai(use()), user(result()), ai(use()), user(result())),
        "messages.3.content.0: `tool_use` ids must be unique",
    ),
    "calls without tools": (
        body(USER, ai(use()), user(result())),
        "Requests which have `tool_use` or `tool_result` blocks in their messages must define tools",
    ),
    "tool name with a dot": (body(tools=[tool("a.b")]), "tools.0.custom.name: String should match pattern"),
    "tool name of 129": (body(tools=[tool("a" * 129)]), "tools.0.custom.name: String should match pattern"),
    "tool twice": (body(tools=[tool(), tool()]), "tools: Tool names must be unique."),
    "tool without a schema": (body(tools=[{"name": "a"}]), "tools.0.custom.input_schema: Field required"),
    "tool schema not an object": (
        body(tools=[tool(input_schema={"type": "string"})]),
        "tools.0.custom.input_schema.type: Input should be 'object'",
    ),
    "tool schema with anyOf on top": (
        body(tools=[tool(input_schema={"type": "object", "anyOf": []})]),
        "input_schema does not support oneOf, allOf, or anyOf at the top level",
    ),
    "tool schema of an unknown type": (
        body(tools=[tool(input_schema={"type": "object", "properties": {"a": {"type": "str"}}})]),
        "JSON schema is invalid. It must match JSON Schema draft 2020-12",
    ),
    "unknown key in a tool": (body(tools=[tool(parameters={})]), "tools.0.custom.parameters: Extra inputs are not"),
    "tool_choice without tools": (body(tool_choice={"type": "auto"}), "may only be specified while providing tools"),
    "tool_choice of an unknown tool": (
        talk(tool_choice={"type": "tool", "name": "other"}),
        "Tool 'other' not found in provided tools",
    ),
    "tool_choice of an unknown kind": (talk(tool_choice={"type": "required"}), "tool_choice: Input tag 'required'"),
    "tool_choice as text": (talk(tool_choice={"type": "function"}), "tool_choice: Input tag 'function'"),
    "five breakpoints": (
        body(user(text(**MARK), text(**MARK)), system=[text(**MARK)], tools=[tool(**MARK), tool("b", **MARK)]),
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    "an automatic fifth": (
        body(user(*[text(**MARK)] * 4), **MARK),
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    "an hour after five minutes": (
        body(user(text(**HOUR)), system=[text(**MARK)]),
        "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block.",
    ),
    "unknown cache_control": (body(user(text(cache_control={"type": "forever"}))), "cache_control: Input should be"),
    "thinking of an unknown kind": (body(thinking={"type": "on"}), "thinking: Input tag 'on'"),
    "thinking without a size": (body(thinking={"type": "enabled"}), "thinking.enabled.budget_tokens: Field required"),
    "thinking too small": (
        body(thinking={"type": "enabled", "budget_tokens": 100}),
        "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
    ),
    "thinking as large as the answer": (
        body(thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=1024),
        "`max_tokens` must be greater than `thinking.budget_tokens`.",
    ),
    "thinking with a temperature": (body(temperature=0.5, **THINK), "`temperature` may only be set to 1"),
    "thinking with a forced tool": (
        {**talk(tool_choice={"type": "any"}), **THINK},
        "Thinking may not be enabled when tool_choice forces tool use.",
    ),
    "thinking without a signature": (
        body(USER, ai({"type": "thinking", "thinking": "hm"}, text()), USER),
        "messages.1.content.0.thinking.signature: Field required",
    ),
    "thinking with another signature": (
        body(USER, ai({"type": "thinking", "thinking": "hm", "signature": "x"}, text()), USER),
        "messages.1.content.0: Invalid `signature` in `thinking` block",
    ),
    "redacted thinking that was changed": (
        body(USER, ai({"type": "redacted_thinking", "data": "aaaa.bbbb"}, text()), USER),
        "messages.1.content.0: Invalid `data` in `redacted_thinking` block",
    ),
    "breakpoint on thinking": (
        body(USER, ai({"type": "thinking", "thinking": "hm", "signature": "x", **MARK}, text()), USER),
        "messages.1.content.0.thinking.cache_control: Extra inputs are not permitted",
    ),
    "tool added without its beta": (
        body(USER, system(ADDED), **NEW_MODEL),
        f"`tool_addition` requires the beta header {INLINE_TOOLS_BETA}",
    ),
    "format left open": (
        body(output_config={"format": {**FORMAT, "schema": {"type": "object", "properties": {}}}}),
        "For 'object' type, 'additionalProperties' must be explicitly set to false",
    ),
    "format without a schema": (body(output_config={"format": {"type": "json_schema"}}), "schema: Field required"),
}

ACCEPTED: dict[str, dict[str, Any]] = {
    "a question": body(),
    "a system prompt": body(system="Be brief."),
    "a system prompt in blocks": body(system=[text("Be brief.", **MARK), text("Be kind.")]),
    "two user messages, which are merged": body(USER, USER),
    "a prefilled answer": body(USER, ai(text("The answer is"))),
    "an empty last answer": body(USER, {"role": "assistant", "content": ""}),
    "trailing space in the middle": body(USER, ai(text("The answer is ")), USER),
    "an answered call": talk(USER, ai(use()), user(result())),
    "an answered call and text after it": talk(USER, ai(text(), use()), user(result(), text("and?"))),
    "two answered calls, in any order": talk(USER, ai(use(), use("toolu_2")), user(result("toolu_2"), result())),
    "answers in two user messages": talk(USER, ai(use(), use("toolu_2")), user(result("toolu_2")), user(result())),
    "a result without content": talk(USER, ai(use()), user({"type": "tool_result", "tool_use_id": "toolu_1"})),
    "an empty result": talk(USER, ai(use()), user(result(content=""))),
    "a failed result": talk(USER, ai(use()), user(result(is_error=True))),
    "no tools any more, but one for the history": talk(USER, ai(use()), user(result()), ai(text()), USER),
    "a name of 128": body(tools=[tool("a" * 128)]),
    "a tool of the provider's own": body(tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 1}]),
    "a forced tool": talk(tool_choice={"type": "tool", "name": "weather"}),
    "no tool": talk(tool_choice={"type": "none"}),
    "four breakpoints": body(user(text(**MARK), text(**MARK)), system=[text(**MARK)], tools=[tool(**MARK)]),
    "three breakpoints and the automatic one": body(user(*[text(**MARK)] * 3), **MARK),
    "an hour before five minutes": body(user(text(**MARK)), system=[text(**HOUR)]),
    "thinking": {**body(), **THINK},
    "thinking with a free choice of tools": {**talk(tool_choice={"type": "auto"}), **THINK},
    "adaptive thinking": body(thinking={"type": "adaptive"}),
    "system after the user": body(USER, system(text("Be brief.")), **NEW_MODEL),
    "system between user and assistant": body(USER, system(text()), ai(text()), USER, **NEW_MODEL),
    "a closed format": body(output_config={"format": FORMAT}),
}


@pytest.fixture
def server(running: ProviderServer) -> ProviderServer:
    return running.renewed(script=["fine"])


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_request_is_refused_in_the_providers_words(server: ProviderServer, name: str) -> None:
    request, words = REFUSED[name]
    status, answer = anthropic(server, request)
    assert status == 400
    assert words in answer["error"]["message"]
    assert (answer["type"], answer["error"]["type"]) == ("error", "invalid_request_error")
    assert server.rejected == [answer["error"]["message"]]
    assert server.answered == []
    assert server.script == ["fine"]


@pytest.mark.parametrize("name", ACCEPTED)
def test_valid_request_is_answered(server: ProviderServer, name: str) -> None:
    status, answer = anthropic(server, ACCEPTED[name])
    assert (status, server.rejected) == (200, [])
    assert answer["content"] == [{"type": "text", "text": "fine"}]
    assert len(server.answered) == 1


def test_request_without_a_key_is_refused(server: ProviderServer) -> None:
    status, answer = anthropic(server, body(), headers={"anthropic-version": "2023-06-01"})
    assert (status, answer["error"]["type"]) == (401, "authentication_error")


def test_request_without_a_version_is_refused(server: ProviderServer) -> None:
    status, answer = anthropic(server, body(), headers={"x-api-key": "test"})
    assert (status, answer["error"]["message"]) == (400, "anthropic-version: header is required")


def test_prompt_larger_than_the_window_is_refused(server: ProviderServer) -> None:
    server.context_window = 10
    status, answer = anthropic(server, body({"role": "user", "content": "x" * 100}))
    assert status == 400
    assert answer["error"]["message"].startswith("prompt is too long: ")


def test_tool_added_in_mid_conversation_is_offered_and_may_be_called(server: ProviderServer) -> None:
    server.script = [lambda asked: Reply(text=",".join(asked.offered))]
    turns = [USER, system(ADDED), ai(use("toolu_1", name="added")), user(result())]
    headers = {**ANTHROPIC_HEADERS, "anthropic-beta": f"{TOOL_CHANGES_BETA},{INLINE_TOOLS_BETA}"}
    status, answer = anthropic(server, body(*turns, tools=[tool()], **NEW_MODEL), headers)
    assert (status, server.rejected) == (200, [])
    assert answer["content"][0]["text"] == "weather,added"


CHANGES_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown name added": (named("tool_addition", "other"), "messages.1.content.0: tool 'other' is not declared"),
    "unknown name removed": (named("tool_removal", "other"), "messages.1.content.0: tool 'other' is not declared"),
    "schema of another API": (
        addition({"name": "x", "parameters": {}}),
        "messages.1.content.0.tool.definition.custom.parameters: Extra inputs are not permitted",
    ),
    "anyOf at the top": (
        addition({"name": "x", "input_schema": {"type": "object", "anyOf": []}}),
        "input_schema does not support oneOf, allOf, or anyOf at the top level",
    ),
    "known name of another type": (
        addition({"name": "weather", "type": "web_search_20250305"}),
        "messages.1.content.0: tool 'weather' is already defined as a different type of tool",
    ),
    "two breakpoints on one": (
        addition(tool("x", **MARK), **MARK),
        "messages.1.content.0: cache_control goes on the block or in the definition, not both",
    ),
    "breakpoint on a deferred one": (
        addition(tool("x", defer_loading=True), **MARK),
        "messages.1.content.0: a deferred definition cannot carry cache_control",
    ),
}


@pytest.mark.parametrize("name", CHANGES_REFUSED)
def test_invalid_change_of_tools_is_refused(server: ProviderServer, name: str) -> None:
    block, words = CHANGES_REFUSED[name]
    status, answer = anthropic(server, talk(USER, system(block), **NEW_MODEL), INLINE_HEADERS)
    assert status == 400
    assert words in answer["error"]["message"]


@pytest.mark.parametrize(
    "blocks",
    [
        [ADDED, ADDED],
        [addition(tool(description="A newer one."))],
        [ADDED, named("tool_removal", "added"), named("tool_addition", "added")],
        [addition(tool("x", **MARK)), addition(tool("y"), **MARK), text("Use them.")],
    ],
    ids=["again", "under a known name", "removed and added", "with a breakpoint"],
)
def test_valid_change_of_tools_is_accepted(server: ProviderServer, blocks: list[dict[str, Any]]) -> None:
    assert anthropic(server, talk(USER, system(*blocks), **NEW_MODEL), INLINE_HEADERS)[0] == 200


def test_breakpoints_in_definitions_count(server: ProviderServer) -> None:
    blocks = [addition(tool(f"x{n}", **MARK)) for n in range(5)]
    _, answer = anthropic(server, talk(USER, system(*blocks), **NEW_MODEL), INLINE_HEADERS)
    assert answer["error"]["message"].startswith("A maximum of 4 blocks with cache_control may be provided. Found 5.")


# --- thinking in a tool loop: the server knows what it gave ----------------------------------------------------------


def start_loop(server: ProviderServer, *, redacted: bool = False) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The blocks of a turn in which the server thought and called a tool, and the result for it."""
    reply = Reply(
        thinking="I must look.", text="One moment.", tool_calls=(ToolCall(name="weather"),), redacted=redacted
    )
    server.script = [reply, "It is sunny."]
    status, answer = anthropic(server, {**talk(), **THINK})
    assert status == 200
    return answer["content"], user(result(answer["content"][-1]["id"]))


@pytest.mark.parametrize("redacted", [False, True])
def test_tool_loop_with_its_thinking_goes_on(server: ProviderServer, redacted: bool) -> None:
    blocks, answer_to_it = start_loop(server, redacted=redacted)
    kinds = [block["type"] for block in blocks]
    assert kinds == ["redacted_thinking" if redacted else "thinking", "text", "tool_use"]
    status, answer = anthropic(server, {**talk(USER, ai(*blocks), answer_to_it), **THINK})
    assert (status, answer["content"]) == (200, [text("It is sunny.")])


@pytest.mark.parametrize("redacted", [False, True])
def test_tool_loop_without_its_thinking_is_refused(server: ProviderServer, redacted: bool) -> None:
    blocks, answer_to_it = start_loop(server, redacted=redacted)
    status, answer = anthropic(server, {**talk(USER, ai(*blocks[1:]), answer_to_it), **THINK})
    assert status == 400
    assert (
        "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`."
        in (answer["error"]["message"])
    )


def test_tool_loop_with_other_signed_thinking_is_refused(server: ProviderServer) -> None:
    blocks, answer_to_it = start_loop(server)
    other = {"type": "thinking", "thinking": "Something else.", "signature": sign("Something else.")}
    status, answer = anthropic(server, {**talk(USER, ai(other, *blocks[1:]), answer_to_it), **THINK})
    assert status == 400
    assert "blocks in the latest assistant message cannot be modified." in answer["error"]["message"]


def test_thinking_with_one_character_changed_is_refused(server: ProviderServer) -> None:
    blocks, answer_to_it = start_loop(server)
    changed = {**blocks[0], "thinking": blocks[0]["thinking"] + " "}
    status, answer = anthropic(server, {**talk(USER, ai(changed, *blocks[1:]), answer_to_it), **THINK})
    assert (status, answer["error"]["message"]) == (
        400,
        "messages.1.content.0: Invalid `signature` in `thinking` block",
    )


def test_thinking_of_an_ended_loop_may_be_left_out(server: ProviderServer) -> None:
    blocks, answer_to_it = start_loop(server)
    ended = [USER, ai(*blocks[1:]), answer_to_it, ai(text("It is sunny.")), USER]
    assert anthropic(server, {**talk(*ended), **THINK})[0] == 200


def test_unknown_loop_needs_thinking_when_it_is_enabled(server: ProviderServer) -> None:
    status, answer = anthropic(server, {**talk(USER, ai(use()), user(result())), **THINK})
    assert status == 400
    assert "Expected `thinking` or `redacted_thinking`, but found `tool_use`." in answer["error"]["message"]


@pytest.mark.parametrize("redacted", [False, True])
@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 200),
        ({"tools": [tool(**MARK)], "messages": [user(text(USER["content"], **MARK))]}, 200),
        ({"system": "Be brief."}, 400),
        ({"tools": [tool(), tool("other")]}, 400),
        ({"messages": [user(text("Another question"))]}, 400),
    ],
    ids=["same", "breakpoints", "system", "tools", "question"],
)
def test_newest_models_take_their_thinking_only_after_what_it_was_thought_after(
    server: ProviderServer, redacted: bool, change: dict[str, Any], status: int
) -> None:
    settings = {**NEW_MODEL, "thinking": {"type": "adaptive"}}
    server.script = [Reply(thinking="Hm.", redacted=redacted, tool_calls=(ToolCall(name="weather"),)), "Sunny."]
    _, first = anthropic(server, talk(**settings))
    turns = [*change.get("messages", [USER]), ai(*first["content"]), user(result(first["content"][-1]["id"]))]
    found, answer = anthropic(server, {**talk(**settings), **change, "messages": turns})
    assert found == status
    if status == 400:
        assert "The block is bound to a different conversation." in answer["error"]["message"]
