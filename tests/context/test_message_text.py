"""What a message says, as text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_tokopt.context.message_text import message_text
from tests.strategies import message_lists


def calling(args: Any, text: str = "") -> AIMessage:
    return AIMessage(text, tool_calls=[{"name": "read", "args": args, "id": "c", "type": "tool_call"}])


def test_it_is_the_text_of_the_content() -> None:
    assert message_text(HumanMessage("Hello")) == "Hello"
    assert message_text(ToolMessage([{"type": "text", "text": "a"}, "b"], tool_call_id="c")) == "ab"
    assert message_text(HumanMessage([{"type": "image_url", "image_url": {"url": "data:,"}}])) == ""


def test_calls_are_said_with_their_arguments() -> None:
    assert message_text(calling({"path": "a.py", "n": 1}, "I look.")) == 'I look.\nread {"path": "a.py", "n": 1}'


def test_line_breaks_in_arguments_are_line_breaks() -> None:
    assert message_text(calling({"code": "a_b\nc_d"})) == '\nread {"code": "a_b\nc_d"}'


def test_a_backslash_before_an_n_is_no_line_break() -> None:
    assert message_text(calling({"path": "C:\\new\nline"})) == '\nread {"path": "C:\\\\new\nline"}'


def test_calls_that_are_no_json_are_said_as_they_came() -> None:
    bad = {"name": "read", "args": '{"path": ', "id": "c", "error": None, "type": "invalid_tool_call"}
    assert message_text(AIMessage("", invalid_tool_calls=[bad])) == '\nread {"path": '


def deep(levels: int = 100_000) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for _ in range(levels):
        made = {"a": made}
    return made


@pytest.mark.parametrize("value", [object, {1, 2}, b"bytes", float("nan"), "\ud800\0", {(1, 2): 3}, {None: 1}])
def test_odd_arguments_are_said_somehow(value: Any) -> None:
    assert message_text(calling({"value": value})).startswith("\nread {")


def test_arguments_that_are_nested_too_deeply_are_left_out() -> None:
    message = AIMessage("Hello")
    message.tool_calls = [{"name": "read", "args": deep(), "id": "c", "type": "tool_call"}]
    assert message_text(message).startswith("Hello\nread")


@given(message_lists())
def test_any_message_has_a_text(messages: list[BaseMessage]) -> None:
    for message in messages:
        assert message_text(message).startswith(str(message.text))
