"""Answers of OpenAI's Responses API on the wire: a JSON body, or server-sent events.

https://platform.openai.com/docs/api-reference/responses and .../responses-streaming
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.providers.billing import Bill
from tests.providers.replies import Failure, Reply, words
from tests.providers.wire_openai import ARGUMENT_PIECE, error


def usage(bill: Bill) -> dict[str, Any]:
    """The usage block: cached tokens are part of the input tokens, reasoning is part of the output tokens."""
    return {
        "input_tokens": bill.input,
        "input_tokens_details": {"cached_tokens": bill.cache_read},
        "output_tokens": bill.output,
        "output_tokens_details": {"reasoning_tokens": bill.reasoning},
        "total_tokens": bill.total,
    }


def output(reply: Reply, *, answer_id: str) -> list[dict[str, Any]]:
    """The items of a turn: reasoning, a message, calls. Their ids are made from the answer's and the calls' ids."""
    items: list[dict[str, Any]] = []
    if reply.thinking:
        summary = [{"type": "summary_text", "text": reply.thinking}]
        items.append({"id": f"rs_{answer_id}", "type": "reasoning", "summary": summary})
    if reply.text:
        text = {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}
        message = {"id": f"msg_{answer_id}", "type": "message", "status": "completed", "role": "assistant"}
        items.append({**message, "content": [text]})
    for call in reply.tool_calls:
        item = {"id": f"fc_{call.id}", "type": "function_call", "status": "completed", "call_id": call.id}
        items.append({**item, "name": call.name, "arguments": json.dumps(call.args)})
    return items


def body(
    reply: Reply, bill: Bill, request: Mapping[str, Any], *, model: str, answer_id: str, created: int, cut: bool
) -> dict[str, Any]:
    """The answer to a request without `stream`."""
    return {
        "id": f"resp_{answer_id}",
        "object": "response",
        "created_at": created,
        "status": "incomplete" if cut else "completed",
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": request.get("instructions"),
        "max_output_tokens": request.get("max_output_tokens"),
        "metadata": {},
        "model": model,
        "output": output(reply, answer_id=answer_id),
        "parallel_tool_calls": request.get("parallel_tool_calls", True),
        "previous_response_id": request.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": request.get("store", True),
        "temperature": 1.0,
        "text": request.get("text") or {"format": {"type": "text"}},
        "tool_choice": request.get("tool_choice", "auto"),
        "tools": request.get("tools") or [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage(bill),
        "user": None,
    }


def events(
    reply: Reply, bill: Bill, request: Mapping[str, Any], *, model: str, answer_id: str, created: int, cut: bool
) -> Iterator[tuple[bool, bytes]]:
    """The answer to a request with `stream`, one event a piece; `True` marks a piece of content."""
    whole = body(reply, bill, request, model=model, answer_id=answer_id, created=created, cut=cut)
    start = {**whole, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    number = itertools.count()

    def event(kind: str, **data: Any) -> bytes:
        shown = json.dumps({"type": kind, "sequence_number": next(number), **data})
        return f"event: {kind}\ndata: {shown}\n\n".encode()

    yield False, event("response.created", response=start)
    yield False, event("response.in_progress", response=start)
    for index, item in enumerate(whole["output"]):
        at = {"item_id": item["id"], "output_index": index}
        if item["type"] == "reasoning":
            yield False, event("response.output_item.added", output_index=index, item={**item, "summary": []})
            part = {"type": "summary_text", "text": ""}
            yield False, event("response.reasoning_summary_part.added", **at, summary_index=0, part=part)
            for piece in words(reply.thinking):
                yield True, event("response.reasoning_summary_text.delta", **at, summary_index=0, delta=piece)
            yield False, event("response.reasoning_summary_text.done", **at, summary_index=0, text=reply.thinking)
            done = {**part, "text": reply.thinking}
            yield False, event("response.reasoning_summary_part.done", **at, summary_index=0, part=done)
        elif item["type"] == "message":
            opening = {**item, "status": "in_progress", "content": []}
            yield False, event("response.output_item.added", output_index=index, item=opening)
            part = {**item["content"][0], "text": ""}
            yield False, event("response.content_part.added", **at, content_index=0, part=part)
            for piece in words(reply.text):
                yield True, event("response.output_text.delta", **at, content_index=0, delta=piece, logprobs=[])
            yield False, event("response.output_text.done", **at, content_index=0, text=reply.text, logprobs=[])
            yield False, event("response.content_part.done", **at, content_index=0, part=item["content"][0])
        else:
            opening = {**item, "status": "in_progress", "arguments": ""}
            yield False, event("response.output_item.added", output_index=index, item=opening)
            arguments = item["arguments"]
            for n in range(0, len(arguments), ARGUMENT_PIECE):
                piece = arguments[n : n + ARGUMENT_PIECE]
                yield True, event("response.function_call_arguments.delta", **at, delta=piece)
            yield False, event("response.function_call_arguments.done", **at, arguments=arguments, name=item["name"])
        yield False, event("response.output_item.done", output_index=index, item=item)
    yield False, event("response.incomplete" if cut else "response.completed", response=whole)


def broken() -> bytes:
    """The event of an error in the middle of a stream."""
    found = error(Failure(status=500))["error"]
    data = {
        "type": "error",
        "sequence_number": 9_999,
        "code": "server_error",
        "message": found["message"],
        "param": None,
    }
    return b"event: error\n" + f"data: {json.dumps(data)}\n\n".encode()
