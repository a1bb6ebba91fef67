"""Messages as plain lines of text: who said what, which tool was called with what, what it gave."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

# What our own messages carry in `additional_kwargs`, which no provider is sent: "digest", "summary", "recall" or
# "left out".
MARK: Final = "tokopt_memory"

ROLES: Final = frozenset({"User", "Assistant", "System"})

_DATE_KEYS: Final = ("timestamp", "created_at", "date")
_ISO_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d(?=$|[T ])")
_LONGEST_DATE: Final = 40
_THINKING: Final = frozenset({"thinking", "redacted_thinking", "reasoning", "reasoning_content"})
# Calls stand in the content of some providers' messages as well as in `tool_calls`.
_CALLS: Final = frozenset({"tool_use", "tool_call", "tool_call_chunk", "function_call"})


@dataclass(frozen=True, slots=True)
class Line:
    """What one message, or one tool call in it, is as text.

    Attributes:
        index: Where the message stands in the thread.
        kind: Something said, a tool call, a tool's result, or both of them in short.
        speaker: Who says it; for calls and results the tool's name.
        text: What is said, the call's arguments as JSON, or the result.
        date: The day, if the message carries one, else "".
        call_id: Which call this is, or answers.
    """

    index: int
    kind: Literal["said", "call", "result", "tool"]
    speaker: str
    text: str
    date: str = ""
    call_id: str | None = None

    def __str__(self) -> str:
        if self.kind == "call":
            return f"[call] {self.speaker}({self.text})"
        if self.kind == "tool":
            return f"[tool] {self.speaker}{self.text}"
        label = f"[result] {self.speaker}" if self.kind == "result" else self.speaker
        return f"{label}: {self.text}"


def lines_of(messages: Iterable[BaseMessage], start: int = 0) -> Iterator[Line]:
    """The lines of messages of which the first stands at index `start`. Thoughts are left out, as in `message.text`."""
    names: dict[str | None, str] = {}
    for index, message in enumerate(messages, start):
        date, text = date_of(message), text_of(message)
        if isinstance(message, ToolMessage):
            name = message.name or names.get(message.tool_call_id) or "tool"
            yield Line(index, "result", name, text, date, message.tool_call_id)
            continue
        if text:
            yield Line(index, "said", speaker_of(message), text, date)
        if isinstance(message, AIMessage):
            for call in message.tool_calls:
                names[call["id"]] = call["name"]
                yield Line(index, "call", call["name"], arguments(call["args"]), date, call["id"])


def rendered(lines: Iterable[Line]) -> str:
    """Lines as one text. A day is said where it begins."""
    parts: list[str] = []
    day = ""
    for line in lines:
        if line.date and line.date != day:
            day = line.date
            parts.append(f"[{day}]")
        parts.append(str(line))
    return "\n".join(parts)


def text_of(message: BaseMessage) -> str:
    """The message's text; what else it holds, such as pictures, is named by its kind."""
    if isinstance(message.content, str):
        return message.content
    parts: list[str] = []
    for block in message.content:
        if isinstance(block, str):
            parts.append(block)
            continue
        kind = block.get("type")
        text = block.get("text")
        if kind == "text" and isinstance(text, str):
            parts.append(text)
        elif kind not in _THINKING and kind not in _CALLS:
            parts.append(f"[{kind}]")
    return "\n".join(part for part in parts if part)


def only_text(message: BaseMessage) -> bool:
    """Whether the message says everything in text, apart from thoughts and tool calls."""
    return isinstance(message.content, str) or all(
        isinstance(block, str) or block.get("type") == "text" or block.get("type") in (_THINKING | _CALLS)
        for block in message.content
    )


def speaker_of(message: BaseMessage) -> str:
    """The message's name, else its role."""
    if message.name:
        return message.name
    if isinstance(message, HumanMessage):
        return "User"
    if isinstance(message, AIMessage):
        return "Assistant"
    if isinstance(message, SystemMessage):
        return "System"
    return message.role if isinstance(message, ChatMessage) else message.type


def ends_of(text: str, longest: int) -> str:
    """The text, or where it is longer than that its beginning and its end: the rest is there for who asks for it."""
    if len(text) <= longest:
        return text
    end = longest // 4
    return f"{text[: longest - end]}\n{text[-end:]}"


def date_of(message: BaseMessage) -> str:
    """The day that the message carries as `timestamp`, `created_at` or `date`, else ""."""
    for holder in (message.additional_kwargs, message.response_metadata):
        for key in _DATE_KEYS:
            value = holder.get(key)
            if isinstance(value, str) and 0 < len(value) <= _LONGEST_DATE:
                day = _ISO_DATE.match(value)
                return day[0] if day else " ".join(value.split())
    return ""


def arguments(args: Mapping[str, Any]) -> str:
    """A call's arguments as JSON, in their own order."""
    try:
        return json.dumps(args, ensure_ascii=False)
    except (TypeError, ValueError):
        return str(args)


def made_here(message: BaseMessage) -> bool:
    """Whether the message is one of ours: a digest, a summary, a recall, or a note of what is left out."""
    return MARK in message.additional_kwargs


def is_users(message: BaseMessage) -> bool:
    """Whether the user wrote the message."""
    return isinstance(message, HumanMessage) and not made_here(message)
