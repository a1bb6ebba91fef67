"""Answers as streams of chunks: a whole one in pieces, a model's own, and what was seen of one that broke off."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCall
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

from langchain_tokopt.flow import StreamClosed


def chunks_of(message: BaseMessage) -> Iterator[ChatGenerationChunk]:
    """A complete answer as a stream of chunks: text word by word, everything else in one chunk, then the end."""
    given = message if isinstance(message, AIMessage) else AIMessage(content=message.content)
    content: Any = given.content
    if isinstance(content, str):
        for word in _words(content):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word, id=given.id))
        content = ""
    elif all(isinstance(block, dict) for block in content):
        for n, block in enumerate(content):
            for piece in _pieces({"index": n, **block}):
                yield ChatGenerationChunk(message=AIMessageChunk(content=[piece], id=given.id))
        content = []
    last = AIMessageChunk(
        content=content,
        id=given.id,
        name=given.name,
        additional_kwargs=given.additional_kwargs,
        response_metadata=given.response_metadata,
        usage_metadata=given.usage_metadata,
        tool_call_chunks=[_chunk_of(n, tool_call) for n, tool_call in enumerate(given.tool_calls)],
        chunk_position="last",
    )
    yield ChatGenerationChunk(message=last)


def _chunk_of(index: int, call: ToolCall) -> ToolCallChunk:
    return tool_call_chunk(
        name=call["name"], args=json.dumps(call["args"], ensure_ascii=False), id=call["id"], index=index
    )


def _pieces(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A content block word by word if it is text, else as it is; chunks of one `index` become one block again."""
    words = _words(block["text"]) if block.get("type") == "text" and isinstance(block.get("text"), str) else []
    if len(words) < 2:
        yield block
        return
    yield {**block, "text": words[0]}
    for word in words[1:]:
        yield {"type": "text", "text": word, "index": block["index"]}


def _words(text: str) -> list[str]:
    if len(text) > 4096:
        return text.splitlines(keepends=True)
    words: list[str] = []
    for part in text.split(" "):
        words.append(part + " ")
    if words:
        words[-1] = words[-1][:-1]
    return [word for word in words if word]


def model_chunks(
    model: BaseChatModel, messages: list[BaseMessage], options: dict[str, Any]
) -> Iterator[ChatGenerationChunk]:
    """What a model streams, below its callbacks; its whole answer in chunks if it cannot stream."""
    if _streams(model, "_stream"):
        yield from model._stream(messages, **options)  # noqa: SLF001
        return
    yield from chunks_of(model._generate(messages, **options).generations[0].message)  # noqa: SLF001


async def amodel_chunks(
    model: BaseChatModel, messages: list[BaseMessage], options: dict[str, Any]
) -> AsyncIterator[ChatGenerationChunk]:
    """`model_chunks` on an event loop."""
    if _streams(model, "_astream") or _streams(model, "_stream"):
        async for chunk in model._astream(messages, **options):  # noqa: SLF001
            yield chunk
        return
    result = await model._agenerate(messages, **options)  # noqa: SLF001
    for chunk in chunks_of(result.generations[0].message):
        yield chunk


def _streams(model: BaseChatModel, method: str) -> bool:
    return getattr(type(model), method) is not getattr(BaseChatModel, method)


def told(error: BaseException, chunks: list[ChatGenerationChunk]) -> BaseException:
    """What a flow is told when a stream ends early: the error with what was streamed before it (`partial_answer`)."""
    if isinstance(error, GeneratorExit):
        error = StreamClosed()
    if chunks:
        with contextlib.suppress(Exception):  # chunks that do not fit, a class with slots: then it is the error alone
            error.tokopt_partial = generate_from_stream(iter(chunks)).generations[0].message  # type: ignore[attr-defined]
    return error
