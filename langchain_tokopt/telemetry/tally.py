"""What events say of one request, or of whatever else they are gathered by, as plain attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from langchain_tokopt.events import CacheLookup, Decision, Event, Failure, ModelCall, Reservation
from langchain_tokopt.pricing import usage_parts

if TYPE_CHECKING:
    from typing import TypeAlias

Attributes: TypeAlias = "dict[str, str | bool | int | float]"

_MAX_CHARS: Final = 256


@lru_cache(maxsize=4096)
def clean(text: str) -> str:
    """The text, cut to 256 characters and without what UTF-8 cannot hold: one such value costs a whole export."""
    return text[:_MAX_CHARS].encode("utf-8", "replace").decode("utf-8")


def exactly(usd: Decimal) -> str:
    """An amount in USD with all its digits, such as "0.00216"."""
    return f"{usd.normalize():f}"


@dataclass(frozen=True, slots=True)
class CallTokens:
    """The tokens of a call. The last three are parts of the first two, and `None` where the provider does not say."""

    input: int
    output: int
    cache_read: int | None
    cache_write: int | None
    reasoning: int | None


def call_tokens(call: ModelCall) -> CallTokens | None:
    """The tokens of a call, reported or estimated; `None` if they are not known."""
    usage = call.usage
    if usage is None:
        return None
    read: Mapping[str, Any] = usage.get("input_token_details") or {}
    written: Mapping[str, Any] = usage.get("output_token_details") or {}
    parts = usage_parts(usage)
    reasoning = written.get("reasoning")
    return CallTokens(
        input=usage["input_tokens"],
        output=usage["output_tokens"],
        cache_read=parts.read if any("cache_read" in name for name in read) else None,
        cache_write=parts.write + parts.write_1h
        if any("cache_creation" in name or name.startswith("ephemeral") for name in read)
        else None,
        reasoning=reasoning if isinstance(reasoning, int) else None,
    )


def saved_tokens(event: CacheLookup | Decision) -> int | None:
    """How many tokens a part saved, by our estimate; `None` if that is not known, or not what it did."""
    if isinstance(event, CacheLookup):
        known = [n for n in (event.saved_input_tokens, event.saved_output_tokens) if n is not None]
        return sum(known) if known else None
    if event.tokens_before is None or event.tokens_after is None:
        return None
    return event.tokens_before - event.tokens_after


class Tally:
    """What events say, as attributes. Numbers are sums over its events, texts are those of the last one."""

    def __init__(self) -> None:
        self.attributes: Attributes = {}
        self._usd: dict[str, Decimal] = {}

    def add(self, event: Event) -> Attributes:
        """Count an event; the attributes that it changed."""
        changed: Attributes = {}
        if isinstance(event, ModelCall):
            self._call(event, changed)
        elif isinstance(event, CacheLookup):
            self._lookup(event, changed)
        elif isinstance(event, Decision):
            self._decision(event, changed)
        elif isinstance(event, Reservation):
            self._step(event, changed)
        elif isinstance(event, Failure):
            self._count(changed, f"tokopt.{clean(event.part)}.failures", 1)
            changed[f"tokopt.{clean(event.part)}.error"] = clean(event.error)
        self.attributes.update(changed)
        return changed

    def _call(self, call: ModelCall, changed: Attributes) -> None:
        self._count(changed, "tokopt.calls", 1)
        if call.internal:
            self._count(changed, "tokopt.calls.internal", 1)
        measured = call.usage_source == "provider"
        kind = "" if measured else ".estimated"
        self._money(changed, f"tokopt.cost{kind}", call.cost_usd)
        if call.cost_usd is None:
            self._count(changed, "tokopt.calls.unpriced", 1)
        used = call_tokens(call)
        if used is None:
            return
        self._count(changed, f"tokopt.tokens{kind}.input", used.input)
        self._count(changed, f"tokopt.tokens{kind}.output", used.output)
        for name in ("cache_read", "cache_write", "reasoning"):
            part = getattr(used, name)
            if part is not None:
                self._count(changed, f"tokopt.tokens.{name}", part)

    def _lookup(self, lookup: CacheLookup, changed: Attributes) -> None:
        changed["tokopt.cache.outcome"] = lookup.outcome
        changed["tokopt.cache.mode"] = lookup.mode
        if lookup.similarity is not None:
            changed["tokopt.cache.similarity"] = float(lookup.similarity)
        if lookup.threshold is not None:
            changed["tokopt.cache.threshold"] = float(lookup.threshold)
        if lookup.reason:
            changed["tokopt.cache.reason"] = clean(lookup.reason)
        self._saved(changed, "cache", lookup.mode, saved_tokens(lookup), lookup.saved_usd)

    def _decision(self, decision: Decision, changed: Attributes) -> None:
        name = f"tokopt.{clean(decision.part)}"
        changed[f"{name}.action"] = decision.action
        changed[f"{name}.mode"] = decision.mode
        if decision.reason:
            changed[f"{name}.reason"] = clean(decision.reason)
        for key, tokens in (("before", decision.tokens_before), ("after", decision.tokens_after)):
            if tokens is not None:
                self._count(changed, f"{name}.tokens_{key}", tokens)
        if decision.action == "applied" and decision.part != "budget":  # what a budget does is no saving
            self._saved(changed, clean(decision.part), decision.mode, saved_tokens(decision), decision.saved_usd)

    def _step(self, step: Reservation, changed: Attributes) -> None:
        changed["tokopt.budget.action"] = step.action
        changed["tokopt.budget.name"] = clean(step.budget)
        if step.path is not None:
            changed["tokopt.budget.path"] = clean(step.path)
        if step.reason:
            changed["tokopt.budget.reason"] = clean(step.reason)
        self._money(changed, f"tokopt.budget.{step.action}.cost", step.usd)

    def _saved(self, changed: Attributes, part: str, mode: str, tokens: int | None, usd: Decimal | None) -> None:
        shadow = "shadow." if mode == "shadow" else ""
        if tokens is not None:
            self._count(changed, f"tokopt.{part}.{shadow}saved.tokens", tokens)
        self._money(changed, f"tokopt.{part}.{shadow}saved.cost", usd)
        self._money(changed, f"tokopt.{shadow}saved.cost", usd)

    def _count(self, changed: Attributes, key: str, by: int) -> None:
        before = changed.get(key, self.attributes.get(key, 0))
        changed[key] = int(before) + by

    def _money(self, changed: Attributes, key: str, usd: Decimal | None) -> None:
        if usd is None:
            return
        self._usd[key] = total = self._usd.get(key, Decimal(0)) + usd
        changed[key] = float(total)
        changed[f"{key}.exact"] = exactly(total)
