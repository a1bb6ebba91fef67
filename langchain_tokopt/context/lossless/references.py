"""The lines that stand for text which is elsewhere in the prompt: how they are written, and how they are read back.

`[same as lines 212-252 of tool result 4]`

Tool results are counted from 1 in the order of the prompt, lines from 1 in the result *as it is shown*. Not every
provider shows the ids of tool calls to the model, but every model sees what came first. A reference always points to
lines that are shown word for word, never to another reference, so it can be resolved by reading the prompt alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from langchain_core.messages import BaseMessage, ToolMessage

# What a line would have to look like to be taken for one of ours. Wider than what we write: a text that has such a line
# of its own is never changed, and never referred to on that line.
_LOOKS_LIKE = re.compile(r"^\[(?:same as (?:lines? \d|tool result \d)|line above repeats \d)", re.MULTILINE)
_NAME = re.compile(r"[\w.-]{1,64}")
_PLACE = r"tool result (\d+)(?:, part (\d+))?(?: \([\w.-]+\))?"
_SPAN = re.compile(rf"\[same as lines? (\d+)(?:-(\d+))? of (?:{_PLACE}|this result)\]")
_WHOLE = re.compile(rf"\[same as {_PLACE}\]")
_REPEAT = re.compile(r"\[line above repeats (\d+) more times\]")


def has_reference(text: str) -> bool:
    """Whether any line of the text looks like a reference."""
    return "[" in text and _LOOKS_LIKE.search(text) is not None


@dataclass(frozen=True, slots=True)
class Place:
    """A text of a tool result: the result's number in the prompt, and the text block's, both counted from 1.

    `part` is 0 where the content is one string; `name` is the tool's.
    """

    result: int
    part: int = 0
    name: str | None = None

    def __str__(self) -> str:
        part = f", part {self.part}" if self.part else ""
        name = f" ({self.name})" if self.name and _NAME.fullmatch(self.name) else ""
        return f"tool result {self.result}{part}{name}"


def same_lines(count: int, first: int, place: Place | None) -> str:
    """The reference for `count` lines that equal those from line `first` on (counted from 1) of `place`.

    `None` as the place: the same text further up.
    """
    lines = f"lines {first}-{first + count - 1}" if count > 1 else f"line {first}"
    return f"[same as {lines} of {place or 'this result'}]"


def same_text(place: Place) -> str:
    """The reference for a whole text that equals the one at `place`."""
    return f"[same as {place}]"


def repeated(count: int) -> str:
    """The reference for a line that comes `count` more times."""
    return f"[line above repeats {count} more times]"


# --- reading back ----------------------------------------------------------------------------------------------------

Shown: TypeAlias = "dict[tuple[int, int], list[str]]"


def expand(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The messages with every reference replaced by the text that it stands for; new messages where one was replaced.

    What `tool_output` left out, and the old shape of JSON, do not come back.

    Raises:
        ValueError: A reference points to lines that are not there.
    """
    expanded: list[BaseMessage] = []
    shown: Shown = {}
    number = 0
    for message in messages:
        if isinstance(message, ToolMessage):
            number += 1
            content = _expand_content(message.content, number, shown)
            if content != message.content:
                message = message.model_copy(update={"content": content})
        expanded.append(message)
    return expanded


def _expand_content(content: Any, number: int, shown: Shown) -> Any:
    if isinstance(content, str):
        return _expand_text(content, (number, 0), shown)
    parts: list[Any] = []
    for part, block in enumerate(content, 1):
        if isinstance(block, str):
            parts.append(_expand_text(block, (number, part), shown))
        elif block.get("type") == "text" and isinstance(block.get("text"), str):
            parts.append({**block, "text": _expand_text(block["text"], (number, part), shown)})
        else:
            parts.append(block)
    return parts


def _expand_text(text: str, here: tuple[int, int], shown: Shown) -> str:
    lines = shown[here] = text.split("\n")
    if not has_reference(text):
        return text
    restored: list[str] = []
    for line in lines:
        if span := _SPAN.fullmatch(line):
            first, last = int(span[1]), int(span[2] or span[1])
            there = (int(span[3]), int(span[4] or 0)) if span[3] else here
            restored += _take(shown, there, first, last, line)
        elif whole := _WHOLE.fullmatch(line):
            there = (int(whole[1]), int(whole[2] or 0))
            restored += _take(shown, there, 1, None, line)
        elif repeat := _REPEAT.fullmatch(line):
            restored += restored[-1:] * int(repeat[1])
        else:
            restored.append(line)
    return "\n".join(restored)


def _take(shown: Shown, place: tuple[int, int], first: int, last: int | None, reference: str) -> list[str]:
    lines = shown.get(place, [])
    last = len(lines) if last is None else last
    taken = lines[first - 1 : last]
    if not lines or len(taken) != last - first + 1 or any(_LOOKS_LIKE.match(line) for line in taken):
        msg = f"{reference!r} points to lines that are not shown"
        raise ValueError(msg)
    return taken
