from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_tokopt.wire import digest, freeze, message_digest

CALL = {"type": "tool_call", "name": "look", "args": {"at": 1}, "id": "c1"}


def ai(content: Any = "x", **fields: Any) -> AIMessage:
    return AIMessage(content=content, **fields)


def tool(content: Any = "x", tool_call_id: str = "c1", **fields: Any) -> ToolMessage:
    return ToolMessage(content=content, tool_call_id=tool_call_id, **fields)


SAME = [
    (HumanMessage("x", id="1"), HumanMessage("x", id="2")),
    (ai(response_metadata={"a": 1}), ai()),
    (ai(usage_metadata={"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}), ai()),
    (tool(artifact={"big": 1}), tool()),
    (AIMessageChunk(content="x"), ai()),
    (HumanMessage([{"type": "text", "text": "x"}]), HumanMessage("x")),
    (HumanMessage([{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]), HumanMessage("x")),
    (HumanMessage([{"type": "text", "text": "x"}, {"cachePoint": {"type": "default"}}]), HumanMessage("x")),
    (ai([{"type": "text", "text": "x", "id": "lc_1", "index": 0}]), ai()),
    (ai(tool_calls=[CALL]), ai(tool_calls=[dict(CALL)])),
]

DIFFERENT = [
    (HumanMessage("x"), HumanMessage("y")),
    (HumanMessage("x"), ai()),
    (HumanMessage("x"), SystemMessage("x")),
    (HumanMessage("x"), HumanMessage("x", name="anna")),
    (ai(), ai(tool_calls=[CALL])),
    (ai(tool_calls=[CALL]), ai(tool_calls=[{**CALL, "id": "c2"}])),
    (ai(tool_calls=[CALL]), ai(tool_calls=[{**CALL, "args": {"at": 2}}])),
    (ai(tool_calls=[CALL]), ai(tool_calls=[{**CALL, "args": {"at": 1.0}}])),
    (ai(tool_calls=[CALL]), ai(tool_calls=[{**CALL, "args": {"at": True}}])),
    (ai(tool_calls=[CALL]), ai(tool_calls=[{**CALL, "name": "see"}])),
    (ai(), ai(invalid_tool_calls=[{"type": "invalid_tool_call", "name": "a", "args": "{", "id": "1", "error": ""}])),
    (tool(), tool(tool_call_id="c2")),
    (tool(), tool(status="error")),
    (tool(), tool(name="look")),
    (ChatMessage(content="x", role="a"), ChatMessage(content="x", role="b")),
    (HumanMessage(["x", "y"]), HumanMessage(["xy"])),
    (HumanMessage("('x',)"), HumanMessage(["x", ""])),
    (
        HumanMessage([{"type": "image", "url": "https://a.test/1"}]),
        HumanMessage([{"type": "image", "url": "https://a.test/2"}]),
    ),
    (
        ai([{"type": "tool_use", "id": "1", "name": "a", "input": {}}]),
        ai([{"type": "tool_use", "id": "2", "name": "a", "input": {}}]),
    ),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_the_provider_does_not_see_makes_no_difference(one: BaseMessage, other: BaseMessage) -> None:
    assert message_digest(one) == message_digest(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_the_provider_sees_makes_a_difference(one: BaseMessage, other: BaseMessage) -> None:
    assert message_digest(one) != message_digest(other)


def test_digests_are_the_same_in_every_process() -> None:
    assert message_digest(HumanMessage("hello")).hex() == "e71ed0eb7d5ea4c77242a2e4eadb669c"


@given(st.text(), st.text())
def test_different_texts_have_different_digests(one: str, other: str) -> None:
    assert (message_digest(HumanMessage(one)) == message_digest(HumanMessage(other))) == (one == other)


@pytest.mark.parametrize("text", ["\ud800", "\x00", "<|endoftext|>", ""])
def test_odd_texts_have_a_digest(text: str) -> None:
    assert len(message_digest(HumanMessage(text))) == 16


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(JSON, JSON)
def test_json_values_are_frozen_apart(one: Any, other: Any) -> None:
    assert (freeze(one) == freeze(other)) == (repr(one) == repr(other))
    assert (digest("", freeze(one)) == digest("", freeze(other))) == (repr(one) == repr(other))
