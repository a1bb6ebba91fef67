"""OpenAI's answers on the wire: a JSON body, or server-sent events.

https://platform.openai.com/docs/api-reference/chat and https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.providers.billing import Bill
from tests.providers.replies import Failure, Reply, words

ARGUMENT_PIECE = 12
ERRORS = {
    400: ("invalid_request_error", None, "Bad request."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or you do not have access to it."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("service_unavailable_error", None, "The server is currently overloaded. Please try again later."),
}


def error(failure: Failure) -> dict[str, Any]:
    """The body of an error."""
    kind, code, text = ERRORS.get(failure.status, ERRORS[500])
    return {"error": {"message": failure.message or text, "type": kind, "param": None, "code": code}}


def usage(bill: Bill) -> dict[str, Any]:
    """The usage block: cached tokens are part of the prompt tokens, reasoning is part of the completion tokens."""
    return {
        "prompt_tokens": bill.input,
        "completion_tokens": bill.output,
        "total_tokens": bill.total,
        "prompt_tokens_details": {"cached_tokens": bill.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": bill.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _finish(reply: Reply, *, cut: bool) -> str:
    return "length" if cut else "tool_calls" if reply.tool_calls else "stop"


def body(reply: Reply, bill: Bill, *, model: str, answer_id: str, created: int, cut: bool) -> dict[str, Any]:
    """The answer to a request without `stream`."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": None, "annotations": []}
    if reply.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": json.dumps(call.args)}}
            for call in reply.tool_calls
        ]
    return {
        "id": f"chatcmpl-{answer_id}",
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(reply, cut=cut)}],
        "usage": usage(bill),
        "service_tier": "default",
        "system_fingerprint": "fp_test",
    }


def events(
    reply: Reply, bill: Bill, request: Mapping[str, Any], *, model: str, answer_id: str, created: int, cut: bool
) -> Iterator[tuple[bool, bytes]]:
    """The answer to a request with `stream`, one event a piece, `[DONE]` included; `True` marks a piece of content.

    Usage comes in a last chunk without choices, and only when `stream_options.include_usage` asks for it.
    """
    wants_usage = bool((request.get("stream_options") or {}).get("include_usage"))
    frame = {
        "id": f"chatcmpl-{answer_id}",
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "service_tier": "default",
        "system_fingerprint": "fp_test",
        **({"usage": None} if wants_usage else {}),
    }

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**frame, "choices": [choice]})

    yield False, chunk({"role": "assistant", "content": None if reply.tool_calls and not reply.text else ""})
    for piece in words(reply.text):
        yield True, chunk({"content": piece})
    for n, call in enumerate(reply.tool_calls):
        head = {"index": n, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        yield True, chunk({"tool_calls": [head]})
        arguments = json.dumps(call.args)
        for start in range(0, len(arguments), ARGUMENT_PIECE):
            piece = arguments[start : start + ARGUMENT_PIECE]
            yield True, chunk({"tool_calls": [{"index": n, "function": {"arguments": piece}}]})
    yield False, chunk({}, _finish(reply, cut=cut))
    if wants_usage:
        yield False, event({**frame, "choices": [], "usage": usage(bill)})
    yield False, b"data: [DONE]\n\n"


def broken() -> bytes:
    """The event of an error in the middle of a stream."""
    return event(error(Failure(status=500)))


def event(data: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()
