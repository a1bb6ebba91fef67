"""The three APIs that the server speaks, each with its rules, its prompt cache and its wire format."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Protocol

from tests.providers import (
    rules_anthropic,
    rules_openai,
    rules_responses,
    wire_anthropic,
    wire_openai,
    wire_responses,
)
from tests.providers.billing import AnthropicCache, Bill, OpenAICache, tokens
from tests.providers.replies import Failure, Reply
from tests.providers.rules import RejectedError, anthropic_error, openai_error
from tests.providers.rules_anthropic_turns import Signer

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Sent:
    """An answer ready to be sent: whole or as a stream of events, and its bill."""

    bill: Bill
    reply: Reply
    whole: dict[str, Any]
    events: Iterator[tuple[bool, bytes]]
    broken: bytes


class Api(Protocol):
    """One API of a provider."""

    def check(self, body: Body, headers: Mapping[str, str]) -> Body:
        """The request as the model reads it, what the provider keeps of earlier turns included; or a refusal."""

    def read(self, body: Body) -> Bill:
        """The input side of the bill."""

    def too_long(self, size: int, window: int) -> RejectedError:
        """The refusal of a prompt of `size` tokens."""

    def answer(self, body: Body, reply: Reply, bill: Bill, created: int) -> Sent:
        """The answer to a request that was checked."""

    def error(self, failure: Failure) -> dict[str, Any]:
        """The body of an error."""

    def unreadable(self) -> RejectedError:
        """The refusal of a request that is not a JSON object."""


class _OpenAI:
    """What OpenAI's two APIs share."""

    def __init__(self, clock: Callable[[], float], ids: itertools.count[int]) -> None:
        self._cache = OpenAICache(clock)
        self._ids = ids

    def read(self, body: Body) -> Bill:
        return self._cache.read(body)

    def too_long(self, size: int, window: int) -> RejectedError:
        return openai_error(
            f"This model's maximum context length is {window} tokens. However, your messages resulted in {size} "
            "tokens. Please reduce the length of the messages.",
            param="messages",
            code="context_length_exceeded",
        )

    def error(self, failure: Failure) -> dict[str, Any]:
        return wire_openai.error(failure)

    def unreadable(self) -> RejectedError:
        return openai_error("We could not parse the JSON body of your request.")


class ChatCompletions(_OpenAI):
    """OpenAI's `POST /v1/chat/completions`."""

    path: ClassVar[str] = "/v1/chat/completions"

    def check(self, body: Body, headers: Mapping[str, str]) -> Body:
        rules_openai.check(body, authorization=headers.get("authorization"))
        return body

    def answer(self, body: Body, reply: Reply, bill: Bill, created: int) -> Sent:
        reply, bill, cut = _limited(
            _with_ids(reply, "call_", self._ids), bill, body.get("max_completion_tokens") or body.get("max_tokens")
        )
        frame: dict[str, Any] = {"model": body["model"], "answer_id": _next(self._ids), "created": created, "cut": cut}
        whole = wire_openai.body(reply, bill, **frame)
        return Sent(bill, reply, whole, wire_openai.events(reply, bill, body, **frame), wire_openai.broken())


class Responses(_OpenAI):
    """OpenAI's `POST /v1/responses`. It keeps what it answered, for requests that go on from there."""

    path: ClassVar[str] = "/v1/responses"

    def __init__(self, clock: Callable[[], float], ids: itertools.count[int]) -> None:
        super().__init__(clock, ids)
        self._kept: dict[str, list[dict[str, Any]]] = {}
        self._reasoned: dict[str, str] = {}

    def check(self, body: Body, headers: Mapping[str, str]) -> Body:
        given = body.get("input") or []
        items = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
        previous = body.get("previous_response_id")
        if previous is not None and previous not in self._kept:
            raise openai_error(
                f"Previous response with id '{previous}' not found.",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        items = [*self._kept.get(previous or "", []), *items]
        rules_responses.check(body, authorization=headers.get("authorization"), items=items, reasoned=self._reasoned)
        return {**body, "input": items}

    def answer(self, body: Body, reply: Reply, bill: Bill, created: int) -> Sent:
        reply, bill, cut = _limited(_with_ids(reply, "call_", self._ids), bill, body.get("max_output_tokens"))
        frame: dict[str, Any] = {"model": body["model"], "answer_id": _next(self._ids), "created": created, "cut": cut}
        whole = wire_responses.body(reply, bill, body, **frame)
        made = whole["output"]
        if reply.thinking:
            self._reasoned.update({item["id"]: made[0]["id"] for item in made[1:2]})
        if body.get("store") is not False:
            self._kept[whole["id"]] = [*body["input"], *made]
        return Sent(bill, reply, whole, wire_responses.events(reply, bill, body, **frame), wire_responses.broken())


class Messages:
    """Anthropic's `POST /v1/messages`. It signs what it thinks, and knows its thinking again."""

    path: ClassVar[str] = "/v1/messages"

    def __init__(self, clock: Callable[[], float], ids: itertools.count[int]) -> None:
        self._cache = AnthropicCache(clock)
        self._ids = ids
        self._thinking: dict[str, tuple[dict[str, Any], ...]] = {}
        self._lock = threading.Lock()

    def check(self, body: Body, headers: Mapping[str, str]) -> Body:
        rules_anthropic.check(body, headers=headers, signer=Signer(sign, self._thinking))
        return body

    def read(self, body: Body) -> Bill:
        return self._cache.read(body)

    def too_long(self, size: int, window: int) -> RejectedError:
        return anthropic_error(f"prompt is too long: {size} tokens > {window} maximum")

    def answer(self, body: Body, reply: Reply, bill: Bill, created: int) -> Sent:
        thinks = (body.get("thinking") or {}).get("type", "disabled") != "disabled"
        reply = _with_ids(reply if thinks else replace(reply, thinking=""), "toolu_", self._ids)
        reply, bill, cut = _limited(reply, bill, body["max_tokens"])
        thinking: tuple[dict[str, Any], ...] = ()
        signed = partial(Signer(sign, {}).bound, body=body, at=len(body["messages"]))
        if reply.thinking and reply.redacted:
            hidden = base64.b64encode(reply.thinking.encode()).decode()
            thinking = ({"type": "redacted_thinking", "data": f"{hidden}.{signed(hidden)}"},)
        elif reply.thinking:
            thinking = ({"type": "thinking", "thinking": reply.thinking, "signature": signed(reply.thinking)},)
        if thinks:
            with self._lock:
                self._thinking.update({call.id or "": thinking for call in reply.tool_calls})
        frame: dict[str, Any] = {
            "model": body["model"],
            "answer_id": _next(self._ids),
            "thinking": thinking,
            "cut": cut,
        }
        whole = wire_anthropic.body(reply, bill, **frame)
        return Sent(bill, reply, whole, wire_anthropic.events(reply, bill, **frame), wire_anthropic.broken())

    def error(self, failure: Failure) -> dict[str, Any]:
        return wire_anthropic.error(failure)

    def unreadable(self) -> RejectedError:
        return anthropic_error("We could not parse the JSON body of your request.")


def sign(text: str) -> str:
    """The signature of a thinking text."""
    return base64.b64encode(hmac.new(b"provider", text.encode(), hashlib.sha256).digest()).decode()


def _next(ids: itertools.count[int]) -> str:
    return f"{next(ids):024d}"


def _with_ids(reply: Reply, prefix: str, ids: itertools.count[int]) -> Reply:
    calls = tuple(replace(call, id=call.id or f"{prefix}{next(ids):020d}") for call in reply.tool_calls)
    return replace(reply, tool_calls=calls)


def _limited(reply: Reply, bill: Bill, limit: int | None) -> tuple[Reply, Bill, bool]:
    """The reply within the request's output limit, with its bill, and whether it was cut."""
    arguments = sum(len(call.name) + len(json.dumps(call.args)) for call in reply.tool_calls)
    reasoning = tokens(len(reply.thinking))
    used = max(tokens(len(reply.text) + arguments) + reasoning, 1)
    if limit is None or used <= limit:
        return reply, replace(bill, output=used, reasoning=reasoning), False
    room = max(limit - reasoning, 0) * 4
    cut = replace(reply, text=reply.text[:room], tool_calls=())
    return cut, replace(bill, output=limit, reasoning=min(reasoning, limit)), True
