"""Chunks of several answers that add up to one message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.utils.utils import LC_AUTO_PREFIX

# Texts in the metadata that LangChain does not string together when both chunks say the same.
MERGED: Final = frozenset({"id", "model_provider", "output_version"})


class Joint:
    """Makes the chunks of every answer but the first fit those that have gone out.

    When LangChain adds chunks up, blocks and calls of one index become one, texts in the metadata are strung together,
    and usage is added.
    """

    def __init__(self) -> None:
        self._answers = 0
        self._texts: list[str] = []  # all that has gone out
        self._before = 0  # how many of these belong to earlier answers
        self._shift = 0
        self._next = 0
        self._id: str | None = None
        self._told: dict[str, str] = {}
        self._telling: dict[str, str] = {}
        self._owed: UsageMetadata | None = None

    @property
    def text(self) -> str:
        """All text that has gone out."""
        return "".join(self._texts)

    def begin(self) -> None:
        """Another answer begins."""
        self._answers += 1
        self._before, self._shift = len(self._texts), self._next
        self._told.update(self._telling)
        self._telling = {}

    def owe(self, usage: UsageMetadata | None) -> None:
        """Pass on the usage of what does not go out, with the next chunk that does."""
        self._owed = add_usage(self._owed, usage) if usage else self._owed

    @property
    def owes(self) -> bool:
        """Whether there is usage that was not passed on yet."""
        return self._owed is not None

    def fit(self, chunk: ChatGenerationChunk) -> ChatGenerationChunk:
        """The chunk as it can go out now."""
        if self._answers > 1 or self._owed is not None:
            chunk = self._fitted(chunk, cast("AIMessageChunk", chunk.message))
        message = chunk.message
        if text := str(message.text):
            self._texts.append(text)
        self._next = max(self._next, *(index + 1 for index in indices(message)), 0)
        self._id = self._id or message.id
        for told in (message.response_metadata, chunk.generation_info or {}):
            self._telling.update((key, value) for key, value in told.items() if isinstance(value, str))
        return chunk

    def _fitted(self, chunk: ChatGenerationChunk, message: AIMessageChunk) -> ChatGenerationChunk:
        usage = message.usage_metadata
        update = {
            "content": self._moved(message.content),
            "tool_call_chunks": [{**piece, "index": self._index(piece["index"])} for piece in message.tool_call_chunks],
            "id": message.id if _is_langchains(self._id) and not _is_langchains(message.id) else self._id or message.id,
            "usage_metadata": usage if self._owed is None else add_usage(self._owed, usage),
            "response_metadata": self._news(message.response_metadata),
        }
        self._owed = None
        info = self._news(chunk.generation_info or {})
        return ChatGenerationChunk(message=message.model_copy(update=update), generation_info=info or None)

    def _moved(self, content: Any) -> Any:
        """The content in blocks of its own, and its text in a paragraph of its own."""
        gap = "\n\n" if self._before and self._before == len(self._texts) else ""
        if isinstance(content, str):
            return f"{gap}{content}" if content else content
        moved = []
        for block in content:
            new = {**block, "index": self._index(block["index"])} if _has_index(block) else block
            if gap and isinstance(new, dict) and new.get("type") == "text" and new.get("text"):
                new, gap = {**new, "text": f"{gap}{new['text']}"}, ""
            moved.append(new)
        return moved

    def _index(self, index: Any) -> Any:
        if isinstance(index, int):
            return index + self._shift
        return f"{index}_{self._answers}" if isinstance(index, str) and self._answers > 1 else index

    def _news(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """Metadata without the texts that an earlier answer has told."""
        return {
            key: value
            for key, value in told.items()
            if not isinstance(value, str) or key not in self._told or (key in MERGED and self._told[key] == value)
        }


def indices(message: BaseMessage) -> Iterator[int]:
    """The numbers that blocks and calls of a chunk have."""
    pieces = message.tool_call_chunks if isinstance(message, AIMessageChunk) else []
    for part in (*message.content, *pieces):
        if _has_index(part) and isinstance(part["index"], int):
            yield part["index"]


def _has_index(part: Any) -> bool:
    return isinstance(part, dict) and "index" in part


def _is_langchains(message_id: str | None) -> bool:
    """Whether an id gives way to a provider's."""
    return message_id is None or message_id.startswith(LC_AUTO_PREFIX)
