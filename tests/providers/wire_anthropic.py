"""Anthropic's answers on the wire: a JSON body, or server-sent events.

https://docs.claude.com/en/api/messages and https://docs.claude.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.providers.billing import Bill
from tests.providers.replies import Failure, Reply, words

ARGUMENT_PIECE = 12
ERRORS = {
    400: ("invalid_request_error", "Bad request."),
    401: ("authentication_error", "invalid x-api-key"),
    404: ("not_found_error", "Not found"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
    500: ("api_error", "Internal server error"),
    529: ("overloaded_error", "Overloaded"),
}


def error(failure: Failure) -> dict[str, Any]:
    """The body of an error."""
    kind, text = ERRORS.get(failure.status, ERRORS[500])
    return {"type": "error", "error": {"type": kind, "message": failure.message or text}, "request_id": "req_test"}


def usage(bill: Bill) -> dict[str, Any]:
    """The usage block: `input_tokens` leaves out what was read from or written to the cache."""
    return {
        "input_tokens": bill.input - bill.cache_read - bill.cache_write,
        "cache_creation_input_tokens": bill.cache_write,
        "cache_read_input_tokens": bill.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": bill.cache_write - bill.cache_write_1h,
            "ephemeral_1h_input_tokens": bill.cache_write_1h,
        },
        "output_tokens": bill.output,
        "output_tokens_details": {"thinking_tokens": bill.reasoning},
        "service_tier": "standard",
    }


def content(reply: Reply, thinking: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    """The content blocks of a turn: thinking, text, tool calls."""
    blocks = [dict(block) for block in thinking]
    if reply.text:
        blocks.append({"type": "text", "text": reply.text})
    blocks += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": dict(call.args)} for call in reply.tool_calls
    ]
    return blocks


def _stop_reason(reply: Reply, *, cut: bool) -> str:
    return "max_tokens" if cut else "tool_use" if reply.tool_calls else "end_turn"


def body(
    reply: Reply, bill: Bill, *, model: str, answer_id: str, thinking: tuple[dict[str, Any], ...], cut: bool
) -> dict[str, Any]:
    """The answer to a request without `stream`."""
    return {
        "id": f"msg_{answer_id}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content(reply, thinking),
        "stop_reason": _stop_reason(reply, cut=cut),
        "stop_sequence": None,
        "usage": usage(bill),
    }


def events(
    reply: Reply, bill: Bill, *, model: str, answer_id: str, thinking: tuple[dict[str, Any], ...], cut: bool
) -> Iterator[tuple[bool, bytes]]:
    """The answer to a request with `stream`, one event a piece; `True` marks a piece of content.

    Usage comes twice: the input side in `message_start`, all of it, cumulated, in `message_delta`.
    """
    message = body(reply, bill, model=model, answer_id=answer_id, thinking=thinking, cut=cut)
    start = {**message, "content": [], "stop_reason": None, "usage": {**message["usage"], "output_tokens": 1}}
    yield False, event({"type": "message_start", "message": start})
    yield False, event({"type": "ping"})
    for index, block in enumerate(message["content"]):
        opening, deltas = _deltas(block)
        yield False, event({"type": "content_block_start", "index": index, "content_block": opening})
        for delta in deltas:
            yield True, event({"type": "content_block_delta", "index": index, "delta": delta})
        yield False, event({"type": "content_block_stop", "index": index})
    final = {key: value for key, value in message["usage"].items() if key not in ("cache_creation", "service_tier")}
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield False, event({"type": "message_delta", "delta": delta, "usage": final})
    yield False, event({"type": "message_stop"})


def _deltas(block: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if block["type"] == "text":
        return {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in words(block["text"])]
    if block["type"] == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in words(block["thinking"])]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
        return {"type": "thinking", "thinking": "", "signature": ""}, deltas
    if block["type"] == "tool_use":
        arguments = json.dumps(block["input"]) if block["input"] else ""
        pieces = [arguments[n : n + ARGUMENT_PIECE] for n in range(0, len(arguments), ARGUMENT_PIECE)] or [""]
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return dict(block), []


def broken() -> bytes:
    """The event of an error in the middle of a stream."""
    return b"event: error\n" + f"data: {json.dumps(error(Failure(status=529)))}\n\n".encode()


def event(data: Mapping[str, Any]) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()
