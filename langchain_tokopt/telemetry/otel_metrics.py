"""Events as OpenTelemetry metrics."""

from __future__ import annotations

import threading
from collections import OrderedDict
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from langchain_tokopt.events import CacheLookup, Decision, Event, Failure, LimitAlert, ModelCall, Reservation
from langchain_tokopt.telemetry.otel_genai import GenAIMetrics
from langchain_tokopt.telemetry.otel_names import (
    ERROR_TYPE,
    MODE,
    PART,
    Conventions,
    call_attributes,
    who_attributes,
)
from langchain_tokopt.telemetry.tally import Attributes, call_tokens, clean, saved_tokens

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

_PART_BUCKETS: Final = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5]

_KIND: Final = "tokopt.token.kind"
_MAX_HELD: Final = 65_536


class EventMetrics:
    """Records what an event says on the instruments of one meter.

    What was measured and what we estimated are on instruments of their own, since a backend adds up whatever one
    instrument has. So are savings that shadow mode only computed. What is unknown is recorded nowhere, but
    `tokopt.calls.unpriced` counts the calls that a sum of `tokopt.cost` lacks.

    Args:
        meter: Whose instruments they are.
        conventions: By which version of the GenAI conventions calls are recorded, too; `None`: by none.
        who: Fields of `Who` that become attributes.
    """

    def __init__(self, meter: Meter, *, conventions: Conventions | None, who: tuple[str, ...]) -> None:
        self._who = who
        self._held: OrderedDict[str, tuple[float, Attributes]] = OrderedDict()
        self._lock = threading.Lock()
        counter, up_down, histogram = meter.create_counter, meter.create_up_down_counter, meter.create_histogram
        self._genai = GenAIMetrics(meter, conventions) if conventions is not None else None
        self._calls = counter("tokopt.calls", "{call}", "Calls that reached a model.")
        self._unpriced = counter("tokopt.calls.unpriced", "{call}", "Calls whose cost is not known.")
        self._cost = counter("tokopt.cost", "{USD}", "Cost of calls by the tokens that the provider reports.")
        self._cost_estimated = counter("tokopt.cost.estimated", "{USD}", "Cost of calls by our estimate of tokens.")
        self._tokens = counter("tokopt.tokens", "{token}", "Tokens that the provider reports, if not by conventions.")
        self._tokens_estimated = counter(
            "tokopt.tokens.estimated", "{token}", "Our estimate of tokens that the provider does not report."
        )
        self._subset = counter(
            "tokopt.tokens.subset", "{token}", "Which of the tokens were read from or written to a cache, or reasoning."
        )
        self._saved_cost = up_down("tokopt.saved.cost", "{USD}", "Estimate of what was saved; below 0 if lost.")
        self._saved_tokens = up_down("tokopt.saved.tokens", "{token}", "Estimate of the tokens that were saved.")
        self._shadow_cost = up_down("tokopt.shadow.saved.cost", "{USD}", "What shadow mode would have saved.")
        self._shadow_tokens = up_down("tokopt.shadow.saved.tokens", "{token}", "What shadow mode would have saved.")
        self._lookups = counter("tokopt.cache.lookups", "{lookup}", "Looks into the semantic cache.")
        self._decisions = counter("tokopt.decisions", "{decision}", "What parts did, or why they left it.")
        self._failures = counter("tokopt.failures", "{failure}", "Parts that failed and stepped aside.")
        self._part_duration = histogram(
            "tokopt.part.duration",
            "s",
            "Time that a part added to a request.",
            explicit_bucket_boundaries_advisory=_PART_BUCKETS,
        )
        self._reservations = counter("tokopt.budget.reservations", "{reservation}", "Steps in the life of these.")
        self._reserved = up_down("tokopt.budget.reserved", "{USD}", "What calls of this process hold at the moment.")
        self._spent = counter("tokopt.budget.spent", "{USD}", "What was booked on a budget.")
        self._alerts = counter("tokopt.budget.alerts", "{alert}", "Shares of limits that were reached.")

    def record(self, event: Event) -> None:
        """Record one event; thread-safe."""
        about = who_attributes(event.who, self._who)
        if isinstance(event, ModelCall):
            self._record_call(event, about)
        elif isinstance(event, CacheLookup):
            self._record_lookup(event, about)
        elif isinstance(event, Decision):
            self._record_decision(event, about)
        elif isinstance(event, Reservation):
            self._record_reservation(event, about)
        elif isinstance(event, Failure):
            name = clean(event.error.partition(":")[0])
            self._failures.add(1, {**about, PART: event.part, "tokopt.stage": event.stage, ERROR_TYPE: name})
        elif isinstance(event, LimitAlert):
            named = {"tokopt.budget.name": clean(event.budget), "tokopt.budget.per": event.per}
            self._alerts.add(
                1, {**about, **named, "tokopt.budget.unit": event.unit, "tokopt.budget.share": event.share}
            )

    def _record_call(self, call: ModelCall, about: Attributes) -> None:
        about = {**about, **call_attributes(call)}
        if self._genai is not None:
            self._genai.record(call, about)
        self._calls.add(1, {**about, ERROR_TYPE: clean(call.error)} if call.error else about)
        measured = call.usage_source == "provider"
        if call.cost_usd is None:
            self._unpriced.add(1, about)
        else:
            (self._cost if measured else self._cost_estimated).add(float(call.cost_usd), about)
        used = call_tokens(call)
        if used is None:
            return
        if not measured or self._genai is None:  # what is measured is among the conventions' metrics already
            tokens = self._tokens if measured else self._tokens_estimated
            tokens.add(used.input, {**about, _KIND: "input"})
            tokens.add(used.output, {**about, _KIND: "output"})
        subsets = {"cache_read": used.cache_read, "cache_write": used.cache_write, "reasoning": used.reasoning}
        for kind, part in subsets.items():
            if part:
                self._subset.add(part, {**about, _KIND: kind})

    def _record_lookup(self, lookup: CacheLookup, about: Attributes) -> None:
        self._lookups.add(1, {**about, "tokopt.cache.outcome": lookup.outcome, MODE: lookup.mode})
        self._took("cache", lookup.seconds)
        self._saved(lookup, "cache", lookup.saved_usd, saved_tokens(lookup), about)

    def _record_decision(self, decision: Decision, about: Attributes) -> None:
        self._decisions.add(1, {**about, PART: decision.part, "tokopt.action": decision.action, MODE: decision.mode})
        self._took(decision.part, decision.seconds)
        if decision.action == "applied" and decision.part != "budget":  # what a budget does is no saving
            self._saved(decision, decision.part, decision.saved_usd, saved_tokens(decision), about)

    def _record_reservation(self, step: Reservation, about: Attributes) -> None:
        named: Attributes = {**about, "tokopt.budget.name": clean(step.budget)}
        self._reservations.add(1, {**named, "tokopt.action": step.action, MODE: step.mode})
        self._took("budget", step.seconds)
        if step.mode != "optimize":
            return
        if step.action in ("settled", "overage") and step.usd is not None:
            self._spent.add(float(step.usd), named)
        if step.reservation is None:
            return
        if step.action == "reserved" and step.usd is not None:
            with self._lock:
                self._held[step.reservation] = float(step.usd), named
                dropped = self._held.popitem(last=False)[1] if len(self._held) > _MAX_HELD else None
            self._reserved.add(float(step.usd), named)
            if dropped is not None:
                self._reserved.add(-dropped[0], dropped[1])
        elif step.action in ("settled", "released", "expired", "overage"):
            with self._lock:
                held = self._held.pop(step.reservation, None)
            if held is not None:
                self._reserved.add(-held[0], held[1])

    def _saved(self, event: Event, part: str, usd: Decimal | None, tokens: int | None, about: Attributes) -> None:
        by = {**about, PART: part}
        shadow = event.mode == "shadow"
        if usd is not None:
            (self._shadow_cost if shadow else self._saved_cost).add(float(usd), by)
        if tokens is not None:
            (self._shadow_tokens if shadow else self._saved_tokens).add(tokens, by)

    def _took(self, part: str, seconds: float | None) -> None:
        if seconds is not None:
            self._part_duration.record(seconds, {PART: part})
