"""What a pair of runs cost and saved. Every figure is read from the event log or from the answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from langchain_tokopt.demo.run import Answer, Run
from langchain_tokopt.events import CacheLookup, Decision, Event, Failure, ModelCall, Reservation
from langchain_tokopt.pricing import usage_parts

PARTS = ("cache", "tools", "history")


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What the event log of one run adds up to. Money in USD; `None` where a call's price is unknown."""

    calls: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    cost_usd: Decimal | None
    estimated_calls: int
    failed_calls: int

    @classmethod
    def of(cls, events: Iterable[Event]) -> Totals:
        """The sums over all calls that reached a model, the optimiser's own calls included."""
        calls = [event for event in events if isinstance(event, ModelCall)]
        answered = [call for call in calls if call.error is None]
        parts = [usage_parts(call.usage) for call in answered if call.usage]
        costs = [call.cost_usd for call in answered]
        return cls(
            calls=len(calls),
            input_tokens=sum(p.input for p in parts),
            cache_read_tokens=sum(p.read for p in parts),
            cache_write_tokens=sum(p.write + p.write_1h for p in parts),
            output_tokens=sum(p.output for p in parts),
            cost_usd=None if any(cost is None for cost in costs) else sum((c for c in costs if c), Decimal(0)),
            estimated_calls=sum(call.usage_source != "provider" for call in answered),
            failed_calls=len(calls) - len(answered),
        )


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What one part says that it saved. An estimate of the part's own, made before the bill is known."""

    part: str
    usd: Decimal | None
    times: int


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A bare run and an optimised run of the same questions under the same prices."""

    bare_run: Run
    optimised_run: Run
    bare: Totals
    optimised: Totals
    saved: tuple[Saved, ...]
    added_p50_seconds: float | None
    added_p95_seconds: float | None
    cache_hits: int
    aside: tuple[str, ...]

    @property
    def key(self) -> str:
        return self.bare_run.table.key

    @property
    def difference(self) -> Decimal | None:
        """The difference of the two bills as a share of the bare one; negative is cheaper. Measured."""
        if self.bare.cost_usd is None or self.optimised.cost_usd is None or not self.bare.cost_usd:
            return None
        return (self.optimised.cost_usd - self.bare.cost_usd) / self.bare.cost_usd

    @property
    def equal(self) -> int:
        """How many answers are the same but for white space and case."""
        return sum(same(one, two) for one, two in self.both)

    @property
    def both(self) -> list[tuple[Answer, Answer]]:
        """The answers to each question, bare and optimised."""
        return list(zip(self.bare_run.answers, self.optimised_run.answers, strict=True))


def pair(bare: Run, optimised: Run) -> Pair:
    """The figures of two runs."""
    added = sorted(_added_seconds(optimised.events))
    lookups = [event for event in optimised.events if isinstance(event, CacheLookup)]
    return Pair(
        bare_run=bare,
        optimised_run=optimised,
        bare=Totals.of(bare.events),
        optimised=Totals.of(optimised.events),
        saved=tuple(_saved(part, optimised.events) for part in PARTS),
        added_p50_seconds=percentile(added, 0.50),
        added_p95_seconds=percentile(added, 0.95),
        cache_hits=sum(_is_hit(lookup) for lookup in lookups),
        aside=tuple(sorted({f"{e.part}: {e.error}" for e in optimised.events if isinstance(e, Failure)})),
    )


def same(one: Answer, two: Answer) -> bool:
    """Whether two answers are the same but for white space and case."""
    return one.text.casefold().split() == two.text.casefold().split()


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that `share` of all values do not exceed; `None` without values."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else None


def _saved(part: str, events: Sequence[Event]) -> Saved:
    amounts: list[Decimal | None] = []
    for event in events:
        is_hit = part == "cache" and isinstance(event, CacheLookup) and _is_hit(event)
        is_applied = isinstance(event, Decision) and event.part == part and event.action == "applied"
        if (is_hit or is_applied) and event.mode == "optimize":
            amounts.append(event.saved_usd)  # type: ignore[attr-defined]
    known = [amount for amount in amounts if amount is not None]
    usd = None if len(known) < len(amounts) else sum(known, Decimal(0))
    return Saved(part=part, usd=usd, times=len(amounts))


def _is_hit(lookup: CacheLookup) -> bool:
    return lookup.outcome in ("exact", "semantic")


def _added_seconds(events: Sequence[Event]) -> list[float]:
    """For each model request the time that the parts took."""
    spent: dict[str, float] = {}
    for event in events:
        if isinstance(event, (CacheLookup, Decision, Reservation)) and event.request and event.seconds is not None:
            spent[event.request] = spent.get(event.request, 0.0) + event.seconds
    return list(spent.values())


def rows(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Every figure as one row: `prices`, `run`, `figure`, `value`, `unit`, `source`. Money as text, in USD."""
    found: list[dict[str, Any]] = []

    def add(prices: str, which: str, figure: str, value: Any, unit: str, source: str) -> None:
        shown = str(value) if isinstance(value, Decimal) else value
        row = {"prices": prices, "run": which, "figure": figure, "value": shown, "unit": unit, "source": source}
        found.append(row)

    for each in pairs:
        for which, totals in (("bare", each.bare), ("optimised", each.optimised)):
            source = "provider" if not totals.estimated_calls else "provider and estimates"
            add(each.key, which, "calls", totals.calls, "calls", "measured")
            for figure in ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens"):
                add(each.key, which, figure, getattr(totals, figure), "tokens", source)
            add(each.key, which, "cost", totals.cost_usd, "USD", source)
        share = None if each.difference is None else round(each.difference * 100, 2)
        add(each.key, "difference", "cost", share, "percent", "measured")
        for saved in each.saved:
            add(each.key, "optimised", f"saved_by_{saved.part}", saved.usd, "USD", "estimate")
            add(each.key, "optimised", f"applied_by_{saved.part}", saved.times, "times", "measured")
        add(each.key, "optimised", "cache_hits", each.cache_hits, "times", "measured")
        add(each.key, "optimised", "added_latency_p50", each.added_p50_seconds, "seconds", "measured")
        add(each.key, "optimised", "added_latency_p95", each.added_p95_seconds, "seconds", "measured")
        add(each.key, "difference", "answers_equal", each.equal, "answers", "measured")
        add(each.key, "difference", "answers", len(each.both), "answers", "measured")
        add(each.key, "bare", "duration", each.bare_run.seconds, "seconds", "measured")
        add(each.key, "optimised", "duration", each.optimised_run.seconds, "seconds", "measured")
    return found
