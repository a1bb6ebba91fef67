"""What the consumer of a stream gets while a flow makes its calls: all of an answer, or what of it is certain."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, cast

from langchain.agents.middleware.types import ModelResponse
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.utils.utils import LC_ID_PREFIX

from langchain_tokopt.call.arguments import Call, answer_of, usage_of
from langchain_tokopt.call.chunks import chunks_of
from langchain_tokopt.call.joint import MERGED, Joint, indices
from langchain_tokopt.flow import Outcome

# Blocks that hold a tool call, whole or in pieces.
_CALLS = frozenset(
    {"tool_use", "function_call", "custom_tool_call", "tool_call", "tool_call_chunk", "invalid_tool_call"}
)
# Signed thoughts. Anthropic refuses those of two answers in one message, and text before them.
_SIGNED = frozenset({"thinking", "redacted_thinking", "reasoning_content"})
# Where some integrations keep calls among `additional_kwargs`.
_RAW_CALLS = frozenset({"tool_calls", "function_call"})


class StreamedAnswer:
    """The answer of one step as its consumer gets it, however many calls the flow makes for it.

    Chunks go out as they come. Of an answer that is held (`Held`) only text does, with the reasoning before it; what
    else there is waits for what the flow makes of it. After signed thoughts text waits, too: providers want it with
    them, and them without those of another answer. All that goes out adds up to one message, with the usage of all
    calls.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._said: list[ChatGenerationChunk] = []  # in the latest call, whether it has gone out or not
        self._waiting: list[ChatGenerationChunk] = []
        self._last: AIMessage | None = None  # the answer that all this is, once it is complete
        self._held = self._closed = self._sent = self._ended = self._open = False
        self._joint = Joint()
        self._id = f"{LC_ID_PREFIX}-{uuid.uuid4()}"

    @property
    def said(self) -> list[ChatGenerationChunk]:
        """What the model has said in the call that is under way."""
        return self._said if self._open else []

    @property
    def sent(self) -> bool:
        """Whether any of that has gone out."""
        return self._open and self._sent

    def begin(self, *, held: bool) -> None:
        """A call is made; what waits of the one before is dropped."""
        self._drop()
        self._said, self._held, self._closed, self._sent, self._open = [], held, False, False, True
        self._joint.begin()

    def take(self, chunk: ChatGenerationChunk) -> Iterator[ChatGenerationChunk]:
        """What goes out now that the model has said `chunk`."""
        if self._held and chunk.message.id is None:
            chunk.message.id = self._id  # LangChain gives one as a chunk goes out, which is too late for the flow
        self._said.append(chunk.model_copy())
        if self._held:
            message = cast("AIMessageChunk", chunk.message)
            self._closed = self._closed or _closes(message)
            if self._closed or not _speaks(message):
                self._waiting.append(chunk)
                return
            seen, self._waiting = _parted(self._waiting)
            yield from self._out(seen)
        yield from self._out([chunk])

    def response(self) -> ModelResponse[Any]:
        """The answer, now that the model has said all of it."""
        response = self._call.streamed(self._said)
        self._last, self._open = cast("AIMessage", response.result[0]), False
        return response

    def broke_off(self) -> list[ChatGenerationChunk]:
        """What was said in the call that is under way, which failed and counts no more."""
        said = self.said
        if self._open:
            self._drop()
        return said

    def _drop(self) -> None:
        for chunk in self._waiting:
            self._joint.owe(usage_of(chunk.message))
        self._waiting, self._last = [], None

    def rest(self, outcome: Outcome) -> Iterator[ChatGenerationChunk]:
        """What has not gone out yet of the answer that the flow gives in the end."""
        message = answer_of(outcome)
        if not self._call.results:
            yield from self._out(chunks_of(message))  # a cache hit
        elif message is self._last:
            yield from self._out(self._waiting)
        elif (self._held or self._last is None) and isinstance(message, AIMessage):
            yield from self._out(self._changed(message))
        if self._joint.owes or (self._held and not self._ended):
            end = AIMessageChunk(content=[] if isinstance(message.content, list) else "", id=self._id)
            end.chunk_position = "last"  # else LangChain adds one, with another id
            yield from self._out([ChatGenerationChunk(message=end)])

    def _out(self, chunks: Iterable[ChatGenerationChunk]) -> Iterator[ChatGenerationChunk]:
        for chunk in chunks:
            self._sent = True
            self._ended = getattr(chunk.message, "chunk_position", None) == "last"
            yield self._joint.fit(chunk)

    def _changed(self, message: AIMessage) -> list[ChatGenerationChunk]:
        """What waits, with the tool calls of `message` in the place of the answer's own."""
        seen, ends = _parted([less for chunk in self._waiting if (less := _without_calls(chunk)) is not None])
        seen = seen if message.content else []  # a thought alone, whose call was dropped, is no answer
        before = AIMessage("") if self._last is None else self._last
        text = str(message.text)
        if "".join([self._joint.text, *(str(chunk.message.text) for chunk in seen)]).endswith(text):
            text = ""
        free = itertools.count(1 + max((n for chunk in self._said for n in indices(chunk.message)), default=-1))
        added = [*_text_chunks(message, text.removeprefix(str(before.text)), free), *_call_chunks(message, free)]
        kwargs = {
            key: value
            for key, value in message.additional_kwargs.items()
            if key in _RAW_CALLS or key not in before.additional_kwargs
        }
        if kwargs:
            added = added or [_chunk(message, [])]
            added[-1].additional_kwargs = kwargs
        for chunk in added:
            chunk.id = self._id
        return [*seen, *(ChatGenerationChunk(message=chunk) for chunk in added), *ends]


def _parted(
    chunks: Iterable[ChatGenerationChunk],
) -> tuple[list[ChatGenerationChunk], list[ChatGenerationChunk]]:
    """The chunks that a reader sees something of, and those that only tell about the answer."""
    seen: list[ChatGenerationChunk] = []
    told: list[ChatGenerationChunk] = []
    for chunk in chunks:
        (seen if chunk.message.content else told).append(chunk)
    return seen, told


def _closes(message: AIMessageChunk) -> bool:
    """Whether all waits from here on: for a tool call, or for thoughts that are signed or kept beside the content."""
    kinds = {block.get("type") for block in message.content if isinstance(block, dict)}
    beside = any(value and not isinstance(value, str) for value in message.additional_kwargs.values())
    return bool(message.tool_call_chunks or kinds & (_CALLS | _SIGNED) or beside)


def _speaks(message: AIMessageChunk) -> bool:
    """Whether it is text, or what some integrations keep beside the content: thoughts without a signature."""
    content: Any = message.content
    text = content if isinstance(content, str) else [block for block in content if _is_text(block)]
    return bool(text) or any(isinstance(value, str) and value for value in message.additional_kwargs.values())


def _is_text(block: Any) -> bool:
    # Also one that brings a text's id or its sources.
    return isinstance(block, str) or block.get("type") == "text"


def _without_calls(chunk: ChatGenerationChunk) -> ChatGenerationChunk | None:
    """The chunk without its pieces of tool calls; `None` when nothing else is in it."""
    message = cast("AIMessageChunk", chunk.message)
    if not _closes(message):
        return chunk
    # Anthropic writes the arguments of calls and those of tools that it runs itself in blocks of the same type.
    gone = _CALLS | {"input_json_delta"} if message.tool_call_chunks else _CALLS
    content: Any = message.content
    if isinstance(content, list):
        content = [block for block in content if not (isinstance(block, dict) and block.get("type") in gone)]
    kwargs = {key: value for key, value in message.additional_kwargs.items() if key not in _RAW_CALLS}
    told = message.response_metadata.keys() - MERGED
    if not (content or kwargs or told or chunk.generation_info or message.usage_metadata or message.chunk_position):
        return None
    update = {
        "content": content,
        "additional_kwargs": kwargs,
        "tool_call_chunks": [],
        "tool_calls": [],
        "invalid_tool_calls": [],
    }
    return ChatGenerationChunk(message=message.model_copy(update=update), generation_info=chunk.generation_info)


def _text_chunks(message: AIMessage, text: str, free: Iterator[int]) -> Iterator[AIMessageChunk]:
    if text:
        yield _chunk(message, [{"type": "text", "text": text, "index": next(free)}], text)


def _call_chunks(message: AIMessage, free: Iterator[int]) -> Iterator[AIMessageChunk]:
    """A chunk for each call, with its content block; `free` gives indices to those that have none."""
    blocks = {
        block.get("call_id") or block.get("id"): block
        for block in message.content
        if isinstance(block, dict) and block.get("type") in _CALLS
    }
    for call in [*message.tool_calls, *message.invalid_tool_calls]:
        block = blocks.get(call["id"])
        index = block.get("index") if block else None
        index = index if isinstance(index, int) else next(free)
        args = call["args"] if isinstance(call["args"], str) else json.dumps(call["args"], ensure_ascii=False)
        chunk = _chunk(message, [{**block, "index": index}] if block else [])
        chunk.tool_call_chunks = [tool_call_chunk(name=call["name"], args=args, id=call["id"], index=index)]
        yield chunk


def _chunk(message: AIMessage, blocks: list[Any], text: str = "") -> AIMessageChunk:
    """A chunk whose content is of the message's kind."""
    told = {key: message.response_metadata[key] for key in MERGED - {"id"} if key in message.response_metadata}
    return AIMessageChunk(content=text if isinstance(message.content, str) else blocks, response_metadata=told)
