"""Which message lists are valid, and which edits are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage

from langchain_tokopt.context.validate import only_results_changed, problem
from tests.strategies import message_lists


def calls(*ids: str) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "t", "args": {}, "id": i, "type": "tool_call"} for i in ids])


def result(call: str, content: Any = "x", **fields: Any) -> ToolMessage:
    return ToolMessage(content, tool_call_id=call, **fields)


UNPARSED = AIMessage(
    "", invalid_tool_calls=[{"name": "t", "args": "{", "id": "a", "error": "no JSON", "type": "invalid_tool_call"}]
)


@examples(deadline=None)
@given(message_lists())
def test_every_generated_history_is_valid(messages: list[BaseMessage]) -> None:
    assert problem(messages) is None


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [SystemMessage("s"), HumanMessage("h"), AIMessage("a")],
        [calls("a", "b"), result("b"), result("a")],
        [calls("a"), result("a"), calls("a"), result("a")],
        [UNPARSED, HumanMessage("again")],
        [UNPARSED, result("a"), HumanMessage("again")],
    ],
)
def test_valid(messages: list[BaseMessage]) -> None:
    assert problem(messages) is None


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([calls("a")], "a tool call has no result"),
        ([calls("a", "b"), result("a")], "a tool call has no result"),
        ([calls("a", "b"), result("a"), HumanMessage("h"), result("b")], "a tool call has no result"),
        ([calls("a"), calls("b"), result("a"), result("b")], "a tool call has no result"),
        ([result("a")], "a tool result stands without its call, or a call has two results"),
        ([calls("a"), result("a"), result("a")], "a tool result stands without its call, or a call has two results"),
        (
            [calls("a"), result("a"), HumanMessage("h"), result("a")],
            "a tool result stands without its call, or a call has two results",
        ),
        ([calls("a", "a"), result("a")], "two calls of one message share an id"),
        ([HumanMessage("h", id="1"), AIMessage("a", id="1")], "a message id comes twice"),
        ([RemoveMessage(id="1")], "a RemoveMessage, which belongs to state updates, is in the list"),
    ],
)
def test_invalid(messages: list[BaseMessage], expected: str) -> None:
    assert problem(messages) == expected


@pytest.mark.parametrize(
    ("old", "new", "fine"),
    [
        (result("a"), result("a", "y"), True),
        (result("a", ["x"]), result("a", ["y"]), True),
        (result("a"), result("a", ""), False),
        (result("a"), result("a", ["x"]), False),
        (result("a", ["x"]), result("a", "x"), False),
        (result("a", ["x"]), result("a", []), False),
        (result("a"), result("b"), False),
        (result("a", id="1"), result("a", id="2"), False),
        (result("a"), result("a", status="error"), False),
        (result("a", artifact=[1]), result("a", artifact=[1]), False),
        (HumanMessage("x"), HumanMessage("x"), False),
    ],
)
def test_only_the_text_of_results_may_change(old: BaseMessage, new: BaseMessage, fine: bool) -> None:
    assert only_results_changed([old], [new]) is fine
    assert only_results_changed([old], [old]) is True
    assert only_results_changed([old], []) is False
