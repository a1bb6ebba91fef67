"""Events on OpenTelemetry spans: on the one that is active, or each model call on one of its own."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from langchain_tokopt.events import CacheLookup, Event, ModelCall, Reservation
from langchain_tokopt.telemetry.otel_genai import usage_attributes
from langchain_tokopt.telemetry.otel_names import (
    CHAT,
    ERROR_TYPE,
    WHO,
    Conventions,
    call_attributes,
    who_attributes,
)
from langchain_tokopt.telemetry.tally import Tally, clean

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_MAX_REQUESTS: Final = 4096
_ALL: Final = tuple(WHO)


class ActiveSpan:
    """Puts what happened on the span that is active where it happened.

    Only `tokopt.*`: a backend takes a span that has `gen_ai.usage.*` for a model call and adds it up, and the active
    span may be a whole agent, or a model call that its instrumentation counts.
    """

    def __init__(self) -> None:
        self._tallies: weakref.WeakKeyDictionary[Span, Tally] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def tell(self, event: Event) -> None:
        """Add an event to the active span, if one is recorded."""
        from opentelemetry.trace import get_current_span

        span = get_current_span()
        if not span.is_recording():
            return
        with self._lock:
            tally = self._tallies.get(span)
            if tally is None:
                tally = self._tallies[span] = Tally()
            span.set_attributes(tally.add(event))

    def close(self) -> None:
        """Nothing is kept."""


@dataclass(slots=True)
class _Request:
    """A request that is under way: what happened, what a budget holds for it, and its call's span with its end."""

    tally: Tally = field(default_factory=Tally)
    holds: set[str] = field(default_factory=set)
    span: tuple[Span, int] | None = None

    def follows(self, step: Reservation) -> bool:
        """Whether this is a step of a reservation of the call to come, or of that whose span has not ended."""
        if step.action == "reserved" and step.reservation is not None:
            self.holds.add(step.reservation)
        elif step.reservation in self.holds:
            self.holds.discard(step.reservation)
        else:
            return step.action == "refused" or self.span is not None
        return True


class OwnSpans:
    """Makes a span of each model call, and of each answer from the cache, as the conventions describe them.

    It has what all parts did to the request up to then. A call that a budget holds money for ends with its settlement.
    A request that a budget refuses is a span with an error. The parent is the span that is active.
    """

    def __init__(self, tracer: Tracer, conventions: Conventions) -> None:
        self._tracer = tracer
        self._conventions: Conventions = conventions
        self._requests: OrderedDict[str, _Request] = OrderedDict()
        self._lock = threading.Lock()

    def tell(self, event: Event) -> None:
        """Take an event; the last one of a call ends its span."""
        with self._lock:
            ended = self._take(event)
        for span, at in ended:  # without the lock: an exporter may take its time
            span.end(at)

    def _take(self, event: Event) -> list[tuple[Span, int]]:
        """The spans that end with this event, and when; in nanoseconds of Unix time."""
        if isinstance(event, ModelCall) and event.internal:
            own = Tally()
            own.add(event)
            return [self._call(event, own)]
        key = event.request or event.id
        request = self._requests.pop(key, None) or _Request()
        ended: list[tuple[Span, int]] = []
        if not isinstance(event, Reservation) or request.follows(event):
            if request.span is not None and isinstance(event, (ModelCall, CacheLookup)):
                ended.append(request.span)  # this is a retry
                request = _Request()
            changed = request.tally.add(event)
            if request.span is not None:
                request.span[0].set_attributes(changed)
            if isinstance(event, ModelCall):
                request.span = self._call(event, request.tally)
            elif isinstance(event, CacheLookup) and event.outcome in ("exact", "semantic") and event.mode == "optimize":
                return [*ended, self._aside("tokopt cache hit", event, request.tally)]
            elif isinstance(event, Reservation) and event.action == "refused":
                ended.append(self._aside("tokopt refusal", event, request.tally))  # another model may still be asked
            if request.span is not None and not request.holds:
                return [*ended, request.span]
        if event.request is not None and request.tally.attributes:
            self._requests[key] = request
            if len(self._requests) > _MAX_REQUESTS:
                oldest = self._requests.popitem(last=False)[1]
                ended.extend([] if oldest.span is None else [oldest.span])
        return ended

    def _call(self, call: ModelCall, tally: Tally) -> tuple[Span, int]:
        from opentelemetry.trace import SpanKind, Status, StatusCode

        attributes = {**call_attributes(call), **usage_attributes(call, self._conventions)}
        if call.error:
            attributes[ERROR_TYPE] = clean(call.error)
        attributes.update(who_attributes(call.who, _ALL))
        attributes.update(tally.attributes)
        name = f"{CHAT} {clean(call.model)}" if call.model else CHAT
        began = _nanoseconds(call.at - (call.latency_seconds or 0.0))
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes, start_time=began)
        if call.error:
            span.set_status(Status(StatusCode.ERROR, clean(call.error)))
        return span, _nanoseconds(call.at)

    def _aside(self, name: str, event: CacheLookup | Reservation, tally: Tally) -> tuple[Span, int]:
        """The span of a request that came to no call. It has none of the attributes of a model's."""
        from opentelemetry.trace import Status, StatusCode

        began = _nanoseconds(event.at - (event.seconds or 0.0))
        attributes = {**who_attributes(event.who, _ALL), **tally.attributes}
        span = self._tracer.start_span(name, attributes=attributes, start_time=began)
        if isinstance(event, Reservation):
            span.set_status(Status(StatusCode.ERROR, clean(event.reason or "")))
        return span, _nanoseconds(event.at)

    def close(self) -> None:
        """End what still waits for the settlement of its budget."""
        with self._lock:
            for request in self._requests.values():
                if request.span is not None:
                    request.span[0].end(request.span[1])
            self._requests.clear()


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
