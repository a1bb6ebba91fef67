"""Messages as they are shown, made once: what is the same object as before need not be counted and hashed again."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_core.messages import ToolMessage

from langchain_tokopt.context.lossless.ingest import ShownResult

# What a message is beside its content and what can be changed in place.
_FIELDS = ("id", "name", "tool_call_id", "status", "artifact")


@dataclass(frozen=True, slots=True)
class _Made:
    message: ToolMessage
    content: str
    shown: ShownResult
    copy: ToolMessage
    text: str

    def holds(self, message: ToolMessage, shown: ShownResult) -> bool:
        """Whether nothing was replaced since, in the message or in the copy."""
        return (
            self.message is message
            and self.shown is shown
            and self.content is message.content
            and self.text is self.copy.content
            and _is_plain(message)
            and _is_plain(self.copy)
            and all(getattr(message, field) is getattr(self.copy, field) for field in _FIELDS)
        )


class ShownCopies:
    """Tool results with other texts. Safe to share between threads of execution.

    Args:
        limit: So many are remembered; 0 for none.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._made: dict[int, _Made] = {}

    def of(self, message: ToolMessage, shown: ShownResult) -> ToolMessage:
        """The message as it is shown; the same object as before, unless something in it was replaced."""
        known = self._made.get(id(message))
        if known is not None and known.holds(message, shown):
            return known.copy
        text = shown.content(message)
        # What is put into the copy on its way must not come into the thread.
        own = {"additional_kwargs": {**message.additional_kwargs}, "response_metadata": {**message.response_metadata}}
        copy = message.model_copy(update={"content": text, **own})
        if self._limit and isinstance(message.content, str) and isinstance(text, str) and _is_plain(message):
            if len(self._made) >= self._limit:
                self._made = {}
            self._made[id(message)] = _Made(message, message.content, shown, copy, text)
        return copy


def _is_plain(message: ToolMessage) -> bool:
    """Whether the message has nothing that could be changed in place."""
    return not message.additional_kwargs and not message.response_metadata
