"""What must hold for the view of any history."""

from __future__ import annotations

from typing import Any

from hypothesis import assume, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage, message_to_dict
from langgraph.graph.message import add_messages

from langchain_tokopt.context import HistoryCompression, expand, problem
from langchain_tokopt.context.lossless.references import has_reference
from tests.strategies import message_lists, removals, tool_texts


def everything(messages: list[BaseMessage]) -> list[dict[str, Any]]:
    return [message_to_dict(message) for message in messages]


def without_text(message: BaseMessage) -> dict[str, Any]:
    """All of a message but the text of a tool result."""
    fields = message_to_dict(message)
    if isinstance(message, ToolMessage):
        blocks = message.content if isinstance(message.content, list) else []
        others = [
            {**b, "text": ""} if isinstance(b, dict) and b.get("type") == "text" else b
            for b in blocks
            if isinstance(b, dict)
        ]
        fields["data"]["content"] = [type(message.content).__name__, len(blocks), others]
        fields["data"]["artifact"] = id(message.artifact)
    return fields


@examples(deadline=None)
@given(message_lists())
def test_only_the_text_of_tool_results_changes(messages: list[BaseMessage]) -> None:
    before = everything(messages)
    view = HistoryCompression().view(messages)
    assert everything(messages) == before
    assert problem(view) is None
    assert [without_text(message) for message in view] == [without_text(message) for message in messages]
    for old, new in zip(messages, view, strict=True):
        assert new is old or isinstance(new, ToolMessage)
        if isinstance(old, ToolMessage) and old.status == "error":
            assert new is old


@examples(deadline=None)
@given(message_lists())
def test_a_view_of_a_view_changes_nothing(messages: list[BaseMessage]) -> None:
    view = HistoryCompression().view(messages)
    assert everything(HistoryCompression().view(view)) == everything(view)


@examples(deadline=None, max_examples=60)
@given(message_lists(), st.integers(0, 40))
def test_appending_never_changes_what_was_sent(messages: list[BaseMessage], start: int) -> None:
    whole = everything(HistoryCompression().view(messages, start=start))
    growing = HistoryCompression()
    for end in range(len(messages) + 1):
        earlier = messages[:end]
        if problem(earlier) is None:
            assert everything(growing.view(earlier, start=start)) == whole[:end]


@examples(deadline=None)
@given(message_lists(), message_lists())
def test_what_is_remembered_changes_nothing(first: list[BaseMessage], second: list[BaseMessage]) -> None:
    histories = [first, second, first[: len(first) // 2] + second, first]
    remembering = HistoryCompression()
    for messages in histories:
        fresh = HistoryCompression(remember=False).view(messages)
        assert everything(remembering.view(messages)) == everything(fresh)


@examples(deadline=None)
@given(message_lists())
def test_every_reference_resolves_to_the_original_text(messages: list[BaseMessage]) -> None:
    assume(not any(has_reference(text) for message in messages for text in _texts(message)))
    view = HistoryCompression(json=False, whitespace=False).view(messages)
    assert everything(expand(view)) == everything(messages)


@examples(deadline=None)
@given(message_lists())
def test_references_stand_for_the_text_without_references(messages: list[BaseMessage]) -> None:
    assume(not any(has_reference(text) for message in messages for text in _texts(message)))
    undeduped = HistoryCompression(dedupe=False).view(messages)
    assert everything(expand(HistoryCompression().view(messages))) == everything(undeduped)


@examples(deadline=None)
@given(removals())
def test_a_history_after_removals_is_valid_or_passed_through(case: tuple[list[BaseMessage], list[BaseMessage]]) -> None:
    messages, update = case
    after: list[BaseMessage] = add_messages(messages, update)  # type: ignore[assignment,arg-type]
    view = HistoryCompression().view(after)
    if problem(after) is None:
        assert problem(view) is None
        assert [without_text(message) for message in view] == [without_text(message) for message in after]
    else:
        assert all(new is old for new, old in zip(view, after, strict=True))


@examples(deadline=None)
@given(message_lists(max_turns=3), st.lists(st.integers(0, 20), max_size=3))
def test_a_broken_history_is_passed_through(messages: list[BaseMessage], dropped: list[int]) -> None:
    broken = [message for n, message in enumerate(messages) if n not in dropped]
    view = HistoryCompression().view(broken)
    if problem(broken) is not None:
        assert all(new is old for new, old in zip(view, broken, strict=True))


@examples(deadline=None)
@given(st.lists(tool_texts(), min_size=1, max_size=5))
def test_no_text_gets_longer_or_empty(texts: list[str]) -> None:
    messages: list[BaseMessage] = []
    for text in texts:
        call = {"name": "bash", "args": {}, "id": "c0", "type": "tool_call"}
        messages += [AIMessage("", tool_calls=[call]), ToolMessage(text, tool_call_id="c0")]
    for old, new in zip(messages, HistoryCompression().view(messages), strict=True):
        assert new is old or 0 < len(new.content) < len(old.content)


def _texts(message: BaseMessage) -> list[str]:
    if isinstance(message.content, str):
        return [message.content]
    return [block if isinstance(block, str) else str(block.get("text", "")) for block in message.content]
