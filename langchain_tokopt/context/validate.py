"""Whether a message list is one that a provider takes, and whether an edit kept to what it may touch."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, BaseMessage, RemoveMessage, ToolMessage


def problem(messages: Sequence[BaseMessage]) -> str | None:
    """What is wrong with the list in a few words, `None` when it is valid.

    Every tool call is answered once, directly after the message that made it and before anything else comes; no result
    stands without its call; no message id comes twice. Ids of tool calls may come again in a later turn: some providers
    count them from 0 each time.
    """
    ids: set[str] = set()
    allowed: set[str | None] = set()
    waiting: set[str | None] = set()
    for message in messages:
        if (name := message.id) is not None:
            if name in ids:
                return "a message id comes twice"
            ids.add(name)
        if isinstance(message, ToolMessage):
            call = message.tool_call_id
            if call not in allowed:
                return "a tool result stands without its call, or a call has two results"
            allowed.discard(call)
            waiting.discard(call)
            continue
        if isinstance(message, RemoveMessage):
            return "a RemoveMessage, which belongs to state updates, is in the list"
        if waiting:
            return "a tool call has no result"
        allowed = set()
        if isinstance(message, AIMessage):
            calls = [call["id"] for call in message.tool_calls]
            waiting = set(calls)
            if len(waiting) != len(calls):
                return "two calls of one message share an id"
            # Calls that could not be parsed need no answer, but may have one.
            allowed = waiting | {call["id"] for call in message.invalid_tool_calls}
    return "a tool call has no result" if waiting else None


def only_results_changed(before: Sequence[BaseMessage], after: Sequence[BaseMessage]) -> bool:
    """Whether the lists differ in the text of tool results only, and no text became empty."""
    return len(before) == len(after) and all(
        old is new or _only_text_changed(old, new) for old, new in zip(before, after, strict=True)
    )


def _only_text_changed(old: BaseMessage, new: BaseMessage) -> bool:
    if not (isinstance(old, ToolMessage) and isinstance(new, ToolMessage)) or type(old) is not type(new):
        return False
    # Written out, because it is asked of every result on every call.
    same = (
        old.id == new.id
        and old.tool_call_id == new.tool_call_id
        and old.name == new.name
        and old.status == new.status
        and old.artifact is new.artifact
        and old.additional_kwargs == new.additional_kwargs
        and old.response_metadata == new.response_metadata
    )
    if not same:
        return False
    if isinstance(old.content, str) or isinstance(new.content, str):
        return isinstance(old.content, str) and isinstance(new.content, str) and bool(new.content)
    return len(old.content) == len(new.content)
