"""The tool with which a model gets back a text that it is shown in part: its schema, and the answers to its calls.

A call is answered where the model is called (`retrieval_flow`), from the thread's own messages. Every character of a
text can be had: a long one comes in parts, and each says how to get the next.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from heapq import nlargest
from types import MappingProxyType
from typing import Any, Final

from langchain_core.messages import BaseMessage, ToolCall, ToolMessage

from langchain_tokopt.context.handles import handle
from langchain_tokopt.context.retrieval_text import Part, page, passages, sendable

NAME: Final = "retrieve_original"
DESCRIPTION: Final = (
    "Returns the original of a text that is shown in part: from line `start`, or its lines that match `query`."
)
_OURS: Final = re.compile(rf"{NAME}(?:_\d+)?")
_ARTIFACT_KEY: Final = "tokopt_retrieved"
# An id as models write it, in quotes or brackets; after a plus sign, the character from which on the text is wanted.
_ADDRESS: Final = re.compile(r"[\s\"'`\[\](){}<>#]*([\w.-]{1,64})(?:\+(\d{1,12}))?[\s\"'`\[\](){}<>]*")
_NUMBER: Final = re.compile(r"\s*[+-]?\d{1,12}\s*")
_IDS_TOLD: Final = 5
_SHOWN_CHARS: Final = 40


def retrieval_name(taken: Collection[str]) -> str:
    """A name for the tool that no other tool has: `retrieve_original` where it is free."""
    numbered = (f"{NAME}_{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (NAME, *numbered) if name not in taken)


def retrieval_schema(name: str, *, strict: bool = False) -> dict[str, Any]:
    """The tool `name(id, query=None, start=None)` as it is sent to the model. `strict` as in `bind_tools`."""
    text, number = {"type": "string"}, {"type": "integer"}
    parameters: dict[str, Any] = {
        "type": "object",
        "properties": {"id": text, "query": text, "start": number},
        "required": ["id"],
    }
    function: dict[str, Any] = {"name": name, "description": DESCRIPTION, "parameters": parameters}
    if strict:
        optional = {"query": {"type": ["string", "null"]}, "start": {"type": ["integer", "null"]}}
        parameters.update(
            properties={"id": text, **optional}, required=["id", "query", "start"], additionalProperties=False
        )
        function["strict"] = True
    return {"type": "function", "function": function}


def is_retrieved(message: ToolMessage) -> bool:
    """Whether this is what the tool returned: by its artifact, or by its name where no artifact was kept."""
    if isinstance(message.artifact, dict) and _ARTIFACT_KEY in message.artifact:
        return True
    return message.artifact is None and message.name is not None and _OURS.fullmatch(message.name) is not None


class Originals:
    """The texts of a thread by their ids.

    Args:
        messages: The thread's own messages, as they are stored.
        blocks: Further texts by their ids, such as a run of messages that is shown as one.
        marked: The ids that the model was told of; by default those of all texts.
    """

    def __init__(
        self,
        messages: Sequence[BaseMessage],
        blocks: Mapping[str, str] = MappingProxyType({}),
        *,
        marked: Collection[str] | None = None,
    ) -> None:
        self._messages = messages
        self._blocks = blocks
        self._marked = marked

    @cached_property
    def _texts(self) -> dict[str, str]:
        found = dict(self._blocks)
        for message in self._messages:
            for text in _texts_of(message):
                found.setdefault(handle(text), text)
        return found

    def find(self, id: str) -> str | None:  # noqa: A002 - the tool's own parameter
        """The text with this id, `None` if there is none. Upper case does not matter."""
        return self._texts.get(id, self._texts.get(id.lower()))

    def nearest(self, asked: str, k: int = _IDS_TOLD) -> list[str]:
        """At most `k` ids, those most like `asked` first; of equal ones the latest first."""
        ids = [one for one in self._texts if self._marked is None or one in self._marked]
        wanted = asked[:_SHOWN_CHARS].lower()
        likeness = ((SequenceMatcher(None, wanted, one).ratio(), at, one) for at, one in enumerate(ids))
        return [one for _, _, one in nlargest(k, likeness)]


def _texts_of(message: BaseMessage) -> Iterator[str]:
    if isinstance(message, ToolMessage) and is_retrieved(message):
        return
    if isinstance(message.content, str):
        yield message.content
        return
    blocks = [block if isinstance(block, str) else _text_in(block) for block in message.content]
    texts = [text for text in blocks if text is not None]
    yield from texts
    if len(texts) > 1:
        yield str(message.text)


def _text_in(block: Mapping[str, Any]) -> str | None:
    text = block.get("text")
    return text if block.get("type") == "text" and isinstance(text, str) else None


# --- answers ---------------------------------------------------------------------------------------------------------


def answer(call: ToolCall, originals: Originals) -> ToolMessage:
    """The result of a call of the tool. Bad arguments, and an id that there is not, give an error that helps."""
    asked = _read(call["args"])
    if isinstance(asked, str):
        return _result(call, asked, error=True)
    text = originals.find(asked.id)
    if text is None:
        return _result(call, _unknown(asked.id, originals), error=True)
    found = asked.of(sendable(text))
    return _result(call, found.text, error=found.error)


def refusal(call: ToolCall) -> ToolMessage:
    """The result of a call that is one too many."""
    return _result(call, "That is enough for one step. Go on with what you have.")


def unreadable(call: Mapping[str, Any]) -> ToolMessage:
    """The result of a call whose arguments are no JSON."""
    return _result(call, 'The call is not valid JSON. It looks like {"id": "..."}.', error=True)


def _result(call: Mapping[str, Any], text: str, *, error: bool = False) -> ToolMessage:
    return ToolMessage(
        text,
        name=call["name"],
        tool_call_id=call["id"] or "",
        status="error" if error else "success",
        artifact={_ARTIFACT_KEY: True},
    )


@dataclass(frozen=True)
class _Asked:
    """What a call asks for: the text's id, the character or the line where to begin, and what to look for."""

    id: str
    offset: int
    start: int
    query: str

    def of(self, text: str) -> Part:
        give: Callable[..., Part] = passages if self.query else page
        more = {"query": self.query} if self.query else {}
        return give(text, self.id, offset=self.offset, start=self.start, **more)


def _read(args: Any) -> _Asked | str:
    """The arguments, or what is wrong with them."""
    given = args if isinstance(args, Mapping) else {}
    wanted, query, start = given.get("id"), given.get("query"), given.get("start")
    if not isinstance(wanted, str) or not wanted.strip():
        return "Give the text's `id` as a string."
    address = _ADDRESS.fullmatch(wanted)
    if address is None:
        return f"'{_short(wanted)}' is no id. Give only the id, as it was shown."
    if query is not None and not isinstance(query, str):
        return "`query` must be a string: some words to look for."
    if (isinstance(start, str) and _NUMBER.fullmatch(start)) or (isinstance(start, float) and start.is_integer()):
        start = int(start)
    if start is not None and (isinstance(start, bool) or not isinstance(start, int)):
        return "`start` must be a whole number: the first line that you want."
    return _Asked(address[1], int(address[2] or 0), max(1, start or 1), " ".join((query or "").split()))


def _unknown(wanted: str, originals: Originals) -> str:
    nearest = ", ".join(originals.nearest(wanted))
    there = f" The ids that come nearest are: {nearest}." if nearest else " No text here has one."
    return sendable(f"There is no text with the id '{_short(wanted)}'.{there}")


def _short(text: str) -> str:
    return sendable(text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…")
