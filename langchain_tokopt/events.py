"""What can happen, and who is told.

Parts emit events into one `Sink`; telemetry listens. No part imports telemetry.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from langchain_core.messages.ai import UsageMetadata

Mode = Literal["optimize", "shadow"]

_request_id: ContextVar[str | None] = ContextVar("tokopt_request_id", default=None)


@contextmanager
def request_scope(request: str | None = None) -> Iterator[str]:
    """Give every event emitted inside one model request the same id; nested scopes keep the outer one.

    `request` re-enters a scope, for a driver that cannot keep it open (a stream hands control back between chunks).
    """
    current = _request_id.get()
    if current is not None and request is None:
        yield current
        return
    request = request or uuid.uuid4().hex
    token = _request_id.set(request)
    try:
        yield request
    finally:
        _request_id.reset(token)


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """Whom an event belongs to. Every field is a plain string, or `None` when the caller did not say."""

    tenant: str | None = None
    project: str | None = None
    task: str | None = None
    agent: str | None = None
    user: str | None = None
    thread: str | None = None
    run: str | None = None
    node: str | None = None


# Where each field is looked for, first hit wins: the runtime context, then `configurable`, then `metadata`.
_KEYS: dict[str, tuple[str, ...]] = {
    "tenant": ("tenant", "tenant_id"),
    "project": ("project", "project_id"),
    "task": ("task", "task_id"),
    "agent": ("agent", "agent_name", "lc_agent_name"),
    "user": ("user_id", "user"),
    "thread": ("thread_id",),
    "run": ("run_id",),
    "node": ("langgraph_node",),
}


def who(
    *,
    config: Mapping[str, Any] | None = None,
    context: object = None,
    metadata: Mapping[str, Any] | None = None,
) -> Who:
    """Whom a call belongs to: read from a runtime context (mapping or object), a RunnableConfig, callback metadata."""
    config = config or {}
    sources: list[Any] = [
        context,
        config.get("configurable"),
        config.get("metadata"),
        metadata,
    ]
    found: dict[str, str] = {}
    # Whom the server has authenticated is who it is, whatever a client says of itself.
    authenticated = lookup(config.get("configurable"), ("langgraph_auth_user_id",))
    if authenticated is not None:
        found["user"] = authenticated
    for name, keys in _KEYS.items():
        for source in () if name in found else sources:
            value = lookup(source, keys)
            if value is not None:
                found[name] = value
                break
    run = config.get("run_id")
    if run is not None and "run" not in found:
        found["run"] = str(run)
    return Who(**found)


def lookup(source: object, keys: tuple[str, ...]) -> str | None:
    """The first of the keys that a mapping or an object has a plain value for, as text."""
    if source is None:
        return None
    for key in keys:
        value = source.get(key) if isinstance(source, Mapping) else getattr(source, key, None)
        if isinstance(value, (str, int, uuid.UUID)) and not isinstance(value, bool) and value != "":
            return str(value)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened during one model request.

    `at` is Unix time in seconds; `request` groups the events of one model request; `mode` tells a real
    change ("optimize") from one that was only computed ("shadow").
    """

    who: Who = field(default_factory=Who)
    at: float = field(default_factory=time.time)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    request: str | None = field(default_factory=_request_id.get)
    mode: Mode = "optimize"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall(Event):
    """One call that reached a model.

    `usage` is LangChain's `UsageMetadata`; `usage_source` says whether the provider reported it or we estimated it.
    `cost_usd` is `None` when the price is unknown. `repeated_prefix_tokens`: how many leading input tokens were sent
    before within the provider's cache lifetime (an estimate of ours, `None` when not computed); it lets the same
    call be priced under another provider's prompt-cache rules. `latency_seconds` is the model's own time.
    """

    model: str | None = None
    provider: str | None = None
    usage: UsageMetadata | None = None
    usage_source: Literal["provider", "estimate"] | None = None
    cost_usd: Decimal | None = None
    repeated_prefix_tokens: int | None = None
    latency_seconds: float | None = None
    error: str | None = None
    internal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLookup(Event):
    """One look into the semantic cache. A hit (`outcome` "exact" or "semantic") means that no model was called.

    `saved_input_tokens` / `saved_output_tokens` / `saved_usd` are what the stored answer cost when the model gave it
    (estimates of what this call would have cost). `seconds` is the time that the lookup took.
    """

    outcome: Literal["exact", "semantic", "miss", "bypass"]
    similarity: float | None = None
    threshold: float | None = None
    saved_input_tokens: int | None = None
    saved_output_tokens: int | None = None
    saved_usd: Decimal | None = None
    reason: str | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Event):
    """What a part did to one request, or why it left it alone. All token figures are estimates of ours.

    `saved_usd` counts the provider's prompt cache and may be negative or `None` (unknown price).
    """

    part: str
    action: Literal["applied", "skipped"]
    tokens_before: int | None = None
    tokens_after: int | None = None
    saved_usd: Decimal | None = None
    reason: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation(Event):
    """A step in the life of a budget reservation; amounts are what this step moved (`usd` is `None` if unpriced).

    `path` is where the call stands in the hierarchy of the budget of that name.
    """

    action: Literal["reserved", "settled", "released", "refused", "expired", "overage"]
    reservation: str | None = None
    budget: str = "default"
    path: str | None = None
    tokens: int | None = None
    usd: Decimal | None = None
    reason: str | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitAlert(Event):
    """Spending under a limit has reached one of the shares that its owner wants to hear of.

    `limit` and `spent` are nano-USD, tokens or calls, as `unit` says; `resets_at` is Unix time in seconds, `None` for a
    limit that never ends. `hard` tells a limit that stops calls from one that only alerts.
    """

    budget: str
    path: str
    per: str
    unit: Literal["usd", "tokens", "calls"]
    share: float
    limit: int
    spent: int
    hard: bool = True
    resets_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(Event):
    """A part failed and stepped aside; the agent went on without it."""

    part: str
    error: str
    stage: Literal["request", "response", "background"] = "request"


@runtime_checkable
class Sink(Protocol):
    """Somebody who is told. `emit` must be quick, thread-safe, and must not raise."""

    def emit(self, event: Event) -> None: ...


class NullSink:
    """Forgets everything."""

    def emit(self, event: Event) -> None:
        return None


class ShadowSink:
    """Passes events on, marked as computed only."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def emit(self, event: Event) -> None:
        self._sink.emit(replace(event, mode="shadow"))
