"""The forms in which a message holds a tool call, and how a call in all of them is put in another's place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message

# How models space and escape JSON. LangChain's converters write it like the first.
_STYLES: tuple[dict[str, Any], ...] = (
    {"ensure_ascii": False},
    {"ensure_ascii": False, "separators": (",", ":")},
    {},
    {"separators": (",", ":")},
)
_BLOCKS = frozenset({"tool_use", "function_call", "tool_call", "tool_call_chunk", "invalid_tool_call"})


@dataclass(frozen=True)
class CallForms:
    """One call in all its forms.

    Attributes:
        entry: The `ToolCall` or `InvalidToolCall`.
        block: The content block of the call: Anthropic's, OpenAI's (Responses), or LangChain's own.
        raw: The call among the `tool_calls` of `additional_kwargs`, where some integrations keep it.
    """

    entry: Mapping[str, Any]
    block: Mapping[str, Any] | None = None
    raw: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        return str(self.entry["name"])

    @property
    def args(self) -> Any:
        return self.entry["args"]

    @property
    def pieces(self) -> dict[str, Any]:
        """The forms that there are, as JSON can hold them."""
        forms = {"entry": self.entry, "block": self.block, "raw": self.raw}
        return {form: dict(piece) for form, piece in forms.items() if piece is not None}

    def renamed(self, name: str, args: Mapping[str, Any]) -> CallForms:
        """The call as one of another tool."""
        entry = {key: value for key, value in self.entry.items() if key != "error"}
        raw = None
        if self.raw is not None:
            function = self.raw["function"]
            arguments = _text_like(function.get("arguments"), args)
            raw = {**self.raw, "function": {**function, "name": name, "arguments": arguments}}
        block = None if self.block is None else _renamed_block(self.block, name, args)
        return CallForms({**entry, "name": name, "args": args, "type": "tool_call"}, block, raw)


def _renamed_block(block: Mapping[str, Any], name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    changed = {**block, "name": name}
    if block["type"] == "invalid_tool_call":
        changed.pop("error", None)
        return {**changed, "type": "tool_call", "args": args}
    for key in ("input", "args", "arguments", "partial_json"):
        value = block.get(key)
        if isinstance(value, str):
            changed[key] = _text_like(value, args)
        # After streaming, `partial_json` has what `input` lacks.
        elif isinstance(value, Mapping) and not (key == "input" and "partial_json" in block):
            changed[key] = args
    extras = block.get("extras")
    if isinstance(extras, Mapping) and isinstance(extras.get("arguments"), str):
        changed["extras"] = {**extras, "arguments": _text_like(extras["arguments"], args)}
    return changed


def calls_of(message: AIMessage) -> dict[str, CallForms]:
    """The message's calls by their ids."""
    content = message.content if isinstance(message.content, list) else []
    blocks = {_block_id(block): block for block in content if isinstance(block, dict)}
    raws = {raw.get("id"): raw for raw in message.additional_kwargs.get("tool_calls") or [] if "function" in raw}
    entries = [*message.tool_calls, *message.invalid_tool_calls]
    return {
        call_id: CallForms(dict(entry), blocks.get(call_id), raws.get(call_id))
        for entry in entries
        if (call_id := entry.get("id"))
    }


def with_calls(message: AIMessage, calls: Mapping[str, CallForms], extra: Mapping[str, Any]) -> AIMessage:
    """A copy of the message with these calls in the place of its own of the same ids.

    A chunk that was put together becomes a message. `extra` is added to `additional_kwargs`; `None` removes a key.
    """
    before = [*message.tool_calls, *message.invalid_tool_calls]
    entries: list[Any] = [_replaced(entry, entry.get("id"), calls, "entry") for entry in before]
    content = message.content
    if isinstance(content, list):
        content = [_replaced(block, _block_id(block), calls, "block") for block in content]
    kept = {**message.additional_kwargs, **extra}
    if isinstance(kept.get("tool_calls"), list):
        kept["tool_calls"] = [_replaced(raw, raw.get("id"), calls, "raw") for raw in kept["tool_calls"]]
    update = {
        "tool_calls": [entry for entry in entries if entry.get("type") != "invalid_tool_call"],
        "invalid_tool_calls": [entry for entry in entries if entry.get("type") == "invalid_tool_call"],
        "content": content,
        "additional_kwargs": {key: value for key, value in kept.items() if key not in extra or value is not None},
    }
    whole = message_chunk_to_message(message) if isinstance(message, AIMessageChunk) else message
    return cast("AIMessage", whole).model_copy(update=update)


def _replaced(piece: Any, call_id: str | None, calls: Mapping[str, CallForms], form: str) -> Any:
    call = calls.get(call_id) if call_id else None
    new = getattr(call, form) if call is not None else None
    return piece if new is None else dict(new)


def _block_id(block: Any) -> str | None:
    if not isinstance(block, dict) or block.get("type") not in _BLOCKS:
        return None
    return block.get("call_id") if block["type"] == "function_call" else block.get("id")


def same(one: CallForms, other: CallForms) -> bool:
    """Whether two calls are the same as JSON, the order of keys included."""
    return json.dumps(one.pieces, default=repr) == json.dumps(other.pieces, default=repr)


def parsed(value: Any) -> Any:
    """The value of a text that is JSON, also in a Markdown fence or with too many brackets at its end; else `value`."""
    if not isinstance(value, str):
        return value
    text = value.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    try:
        meant, end = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        return value
    return value if text[end:].strip("}] \t\r\n") else meant


def _text_like(given: Any, value: Mapping[str, Any]) -> str:
    """`value` as JSON, spaced and escaped as the text `given` is."""
    style = _STYLES[0]
    if isinstance(given, str):
        meant = parsed(given)
        style = next((one for one in _STYLES if json.dumps(meant, **one) == given), style)
    return json.dumps(value, **style)
