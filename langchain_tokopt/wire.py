"""What a provider sees of a message: as a key that can be compared, and as a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langchain_tokopt.tool_schemas import CACHE_MARKS

# Of a content block: positions that streaming put there, and marks for the provider's cache.
_NOT_SHOWN: Final = CACHE_MARKS | {"index"}
_NOT_SHOWN_NOR_ID: Final = _NOT_SHOWN | {"id"}
# Blocks whose id the provider matches with another one's; LangChain's ids of other blocks are its own affair.
_WITH_ID: Final = frozenset(
    {"tool_use", "tool_call", "tool_result", "function_call", "function_call_output", "server_tool_use"}
)


def message_digest(message: BaseMessage) -> bytes:
    """16 bytes that stand for everything of a message that the provider sees; equal in every process.

    Role, content, tool calls (name, arguments, id), name, tool_call_id and status. Not: message ids, usage and response
    metadata, marks for the provider's cache.
    """
    content = message.content if isinstance(message.content, str) else _content(message.content or [])
    text, blocks = (content, None) if isinstance(content, str) else ("", content)
    role = message.type.removesuffix("MessageChunk").lower()  # a chunk that was put together is the message
    if isinstance(message, AIMessage):
        calls = tuple((call["name"], freeze(call["args"]), call.get("id")) for call in message.tool_calls)
        broken = tuple((call.get("name"), call.get("args"), call.get("id")) for call in message.invalid_tool_calls)
        return digest(text, role, message.name, blocks, calls, broken)
    if isinstance(message, ToolMessage):
        return digest(text, role, message.name, blocks, message.tool_call_id, message.status)
    # A ChatMessage has a role of its own.
    return digest(text, role, message.name, blocks, getattr(message, "role", None))


def digest(text: str, *rest: Hashable) -> bytes:
    """16 bytes for a text and for strings, bytes, numbers and nested tuples of them."""
    # The text is hashed as it is, which is much faster than its `repr`; its length keeps it apart from the rest.
    hasher = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16)
    hasher.update(f"{len(text)}{rest!r}".encode("utf-8", "surrogatepass"))
    return hasher.digest()


def _content(content: list[Any]) -> Hashable:
    """Content blocks as nested tuples; a list with one block of plain text is the same as that text."""
    blocks = tuple(_block(block) for block in content if not _is_mark(block))
    if len(blocks) == 1 and isinstance(blocks[0], str):
        return blocks[0]
    return blocks


def _block(block: Any) -> Hashable:
    if not isinstance(block, dict):
        return freeze(block)
    kind = block.get("type")
    hidden = _NOT_SHOWN if isinstance(kind, str) and kind in _WITH_ID else _NOT_SHOWN_NOR_ID
    shown = {key: value for key, value in block.items() if key not in hidden}
    if shown.keys() == {"type", "text"} and shown["type"] == "text" and isinstance(shown["text"], str):
        return shown["text"]
    return freeze(shown)


def _is_mark(block: Any) -> bool:
    return isinstance(block, dict) and bool(block) and block.keys() <= CACHE_MARKS


def freeze(value: Any) -> Hashable:
    """A JSON-like value as nested tuples; what differs as JSON stays different, the order of keys included."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return ("{}", *((str(key), freeze(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return ("[]", *(freeze(item) for item in value))
    return (type(value).__name__, repr(value))  # 1, 1.0 and True are equal in Python, but not the same JSON
