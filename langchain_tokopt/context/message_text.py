"""What a message says, as text: its own words, and the calls that it makes."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage

_ESCAPE: Final = re.compile(r"\\(.)")


def message_text(message: BaseMessage) -> str:
    """The text of the message, and of its tool calls: name and arguments."""
    text = str(message.text)
    if not isinstance(message, AIMessage) or not (message.tool_calls or message.invalid_tool_calls):
        return text
    calls = [f"{call['name']} {_dumped(call['args'])}" for call in message.tool_calls]
    calls += [f"{call['name']} {call['args']}" for call in message.invalid_tool_calls]
    return "\n".join([text, *calls])


def _dumped(arguments: Any) -> str:
    try:
        dumped = json.dumps(arguments, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return _written(arguments)
    # Line breaks in an argument stay line breaks: names are read from it.
    if "\\\\" not in dumped:
        return dumped.replace("\\n", "\n")
    return _ESCAPE.sub(lambda escape: "\n" if escape[1] == "n" else escape[0], dumped)


def _written(arguments: Any) -> str:
    """As Python writes it; what is nested too deeply for that as nothing."""
    try:
        return str(arguments)
    except RecursionError:
        return ""
