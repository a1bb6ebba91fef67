"""What stays together and what has to stay: a history as units, a message or a call with its results each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage

from langchain_tokopt.context.memory.render import is_users

_THOUGHTS: Final = frozenset({"thinking", "redacted_thinking", "reasoning", "reasoning_content"})
NEWEST: Final = "newest user message"
FIRST_THOUGHT: Final = "first thought of the answer"


@dataclass(frozen=True, slots=True)
class Unit:
    """Messages `start` to `end` (exclusive): one message, or one that calls tools with the results.

    Attributes:
        pinned: Why it has to stay as it is; `None` when it may go. See `units_of`.
    """

    start: int
    end: int
    pinned: str | None = None

    @property
    def indices(self) -> range:
        """Where its messages stand."""
        return range(self.start, self.end)


def units_of(messages: Sequence[BaseMessage]) -> list[Unit]:
    """The units of a valid history, in order.

    Pinned are system messages, the first and the newest message of the user, and where thoughts begin the answer to the
    newest one, what holds them: providers refuse an answer that has lost its first thought.
    """
    starts = [at for at, message in enumerate(messages) if not isinstance(message, ToolMessage)]
    users = [at for at in starts if is_users(messages[at])]
    first, newest = (users[0], users[-1]) if users else (-1, -1)
    answer = next((at for at in starts if at > newest and isinstance(messages[at], AIMessage)), -1)
    found = []
    for start, end in zip(starts, [*starts[1:], len(messages)], strict=False):
        why = None
        if is_system(messages[start]):
            why = "system message"
        elif start == newest:
            why = NEWEST
        elif start == first:
            why = "first task"
        elif start == answer and has_thoughts(messages[start]):
            why = FIRST_THOUGHT
        found.append(Unit(start, end, why))
    return found


def is_system(message: BaseMessage) -> bool:
    """Whether the message sets the rules."""
    return isinstance(message, SystemMessage) or (
        message.type == "chat" and getattr(message, "role", None) in ("system", "developer")
    )


def has_thoughts(message: BaseMessage) -> bool:
    """Whether the message holds thoughts of the model, which belong to the very text that follows them."""
    content: Any = message.content
    if not isinstance(content, str) and any(
        isinstance(block, dict) and block.get("type") in _THOUGHTS for block in content
    ):
        return True
    return any(message.additional_kwargs.get(kind) for kind in sorted(_THOUGHTS))
