"""What the newest tool results of a thread teach: which tools a user's text led to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langchain_tokopt.tools.thread import last_question

_BEFORE = 2


@dataclass(frozen=True, slots=True)
class Lesson:
    """A user's text, the tools that it led to with success, those called before it, and the ids of the new calls."""

    text: str
    called: tuple[str, ...]
    before: tuple[str, ...]
    call_ids: tuple[str, ...]


def newest_lesson(messages: Sequence[BaseMessage]) -> Lesson | None:
    """What the results since the last answer teach; `None` when there are none, or no question led to them."""
    end = len(messages)
    while end and isinstance(messages[end - 1], ToolMessage):
        end -= 1
    if end == len(messages) or not end or not isinstance(messages[end - 1], AIMessage):
        return None
    text = last_question(messages[:end])
    succeeded = _succeeded(messages[end - 1 :])
    if not text or not succeeded:
        return None
    earlier = [name for _, name in _succeeded(messages[: end - 1])]
    return Lesson(
        text,
        tuple(dict.fromkeys(name for _, name in succeeded)),
        tuple(earlier[-_BEFORE:]),
        tuple(call_id for call_id, _ in succeeded),
    )


def _succeeded(messages: Sequence[BaseMessage]) -> list[tuple[str, str]]:
    """Id and name of each call that was answered without an error, in order."""
    names: dict[str | None, str] = {}
    found: list[tuple[str, str]] = []
    for message in messages:
        if isinstance(message, AIMessage):
            names.update((call["id"], call["name"]) for call in message.tool_calls)
        elif isinstance(message, ToolMessage) and message.status != "error":
            name = names.get(message.tool_call_id) or message.name
            if name:
                found.append((message.tool_call_id, name))
    return found
