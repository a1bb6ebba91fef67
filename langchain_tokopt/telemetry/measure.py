"""A report from the events in a database: the figures of `Readings`, and what is said of them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Final

from langchain_tokopt.pricing import Rates
from langchain_tokopt.telemetry.findings import findings
from langchain_tokopt.telemetry.readings import (
    CallFigures,
    Extent,
    LookupFigures,
    PartFigures,
    Place,
    Readings,
    Reason,
    Span,
    TimeFigures,
    Times,
)
from langchain_tokopt.telemetry.report import FailureReport, PartReport, Percentiles, Report, Repriced, Saved, Usage
from langchain_tokopt.telemetry.reprice import reprice_calls
from langchain_tokopt.telemetry.rollups_tables import ERROR
from langchain_tokopt.telemetry.store import TABLE, EventStore

_MOST_FREQUENT: Final = 3
_MOST_REASONS: Final = 10_000
_DID: Final = ("exact", "semantic", "applied")


def measure(store: EventStore, *, since: float | None, hours: float | None) -> Report:
    """What happened since `since` (Unix time, `None`: ever). All figures are of one state of the database.

    Raises:
        StoreError: The database cannot be read.
    """
    readings = Readings(store)
    with store.reading():
        extent = readings.extent(Span(since))
        if extent.last is None:
            report = Report(hours=hours)
        else:
            # What comes in later does not belong to this report, also when `cost_at` reads again.
            span = Span(since, math.nextafter(extent.last, math.inf))
            report = _report(readings, span, hours, extent)

    def reprice(rates: Sequence[Rates]) -> list[Repriced]:
        prompts = [] if report.last is None else _prompts(store, span)
        return [reprice_calls(prompts, each) for each in rates]

    return replace(report, findings=findings(report), _reprice=reprice)


def rolled_up_note(store: EventStore, since: float | None) -> str | None:
    """What a report since then cannot tell, if any of it is rolled up.

    Raises:
        StoreError: The database cannot be read.
    """
    known = Readings(store).singles(Span(since)).since
    if known is None or known == since:
        return None
    when = datetime.fromtimestamp(known, timezone.utc)
    return (
        f"What happened before {when:%Y-%m-%d %H:%M} UTC is kept as sums only: reasons, errors and costs at other "
        f"prices do not cover it, and times are within {ERROR:.0%}."
    )


def _report(readings: Readings, span: Span, hours: float | None, extent: Extent) -> Report:
    calls = readings.calls(span).get(Place(), CallFigures())
    reasons = readings.reasons(span, limit=_MOST_REASONS)
    parts = _parts(readings.parts(span, by=("part",)), reasons)
    looks = readings.lookups(span).get(Place(), LookupFigures())
    steps = readings.reservations(span).get(Place(), {})
    times = readings.times(span).get(Place(), TimeFigures())
    real, shadow = (_total(each.real for each in parts), _total(each.shadow for each in parts))
    return Report(
        hours=hours,
        first=extent.first,
        last=extent.last,
        events=extent.events,
        measured=calls.measured,
        estimated=calls.estimated,
        failed_calls=calls.failed,
        models=readings.models(span),
        parts=parts,
        saved=real,
        saved_in_shadow=shadow,
        overhead=calls.own_measured,
        overhead_estimated=calls.own_estimated,
        net_saved_usd=_net(real, calls.own_measured, calls.own_estimated),
        cache=looks.real,
        cache_in_shadow=looks.shadow,
        budget=tuple((step, steps[step]) for step in sorted(steps) if not step.startswith("shadow ")),
        refused_calls=steps.get("refused", 0),
        refused_in_shadow=steps.get("shadow refused", 0),
        added_seconds=_percentiles(times.added),
        latency_seconds=_percentiles(times.latency),
        failures=_failures(readings.failures(span, by=("part",)), reasons),
    )


def _parts(found: Mapping[Place, PartFigures], reasons: Sequence[Reason]) -> tuple[PartReport, ...]:
    left = [
        reason
        for reason in reasons
        if reason.kind in ("Decision", "CacheLookup") and reason.part != "budget" and reason.action not in _DID
    ]
    why = _most_frequent(left)
    figures = {str(place.key[0]): each for place, each in found.items()}
    return tuple(
        PartReport(part=part, real=each.real, shadow=each.shadow, skipped=each.skipped, reasons=why[part])
        for part, each in sorted(figures.items())
    )


def _failures(found: Mapping[Place, int], reasons: Sequence[Reason]) -> tuple[FailureReport, ...]:
    errors = _most_frequent([reason for reason in reasons if reason.kind == "Failure"])
    counts = {str(place.key[0]): count for place, count in found.items()}
    return tuple(FailureReport(part=part, count=count, errors=errors[part]) for part, count in sorted(counts.items()))


def _most_frequent(reasons: Sequence[Reason]) -> dict[str, tuple[tuple[str, int], ...]]:
    """The most frequent texts of each part, whatever the mode."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for reason in reasons:
        counts[str(reason.part)][reason.text] += reason.count
    found: dict[str, tuple[tuple[str, int], ...]] = defaultdict(tuple)
    for part, texts in counts.items():
        found[part] = tuple(sorted(texts.items(), key=lambda item: (-item[1], item[0]))[:_MOST_FREQUENT])
    return found


def _total(parts: Iterable[Saved]) -> Saved:
    parts = list(parts)
    tokens = [part.tokens for part in parts if part.tokens is not None]
    usd = [part.usd for part in parts if part.usd is not None]
    return Saved(
        applied=sum(part.applied for part in parts),
        tokens=sum(tokens) if tokens else None,
        usd=sum(usd, Decimal(0)) if usd else None,
        unpriced=sum(part.unpriced for part in parts),
    )


def _net(saved: Saved, *overheads: Usage) -> Decimal | None:
    if any(overhead.unpriced for overhead in overheads):
        return None
    spent = sum((overhead.cost_usd or Decimal(0) for overhead in overheads), Decimal(0))
    if saved.usd is None and (saved.applied or not spent):
        return None
    return (saved.usd or Decimal(0)) - spent


def _percentiles(times: Times | None) -> Percentiles | None:
    return None if times is None else Percentiles(count=times.count, p50=times.p50, p95=times.p95)


def _prompts(store: EventStore, span: Span) -> list[Mapping[str, Any]]:
    """Calls that are alike, to be priced anew; of what is rolled up only how many they are."""
    from sqlalchemy import text

    bound = "" if span.since is None else "AND at >= :since"
    query = text(
        "SELECT input_tokens, repeated_prefix_tokens AS repeated, SUM(output_tokens) AS output, COUNT(*) AS n "  # noqa: S608 - names of ours
        f"FROM {TABLE} WHERE kind = 'ModelCall' AND at < :until {bound} GROUP BY input_tokens, repeated_prefix_tokens"
    )
    given = {name: value for name, value in (("since", span.since), ("until", span.until)) if value is not None}
    prompts: list[Mapping[str, Any]]
    with store.reading() as connection:
        prompts = [dict(row) for row in connection.execute(query, given).mappings()]
        rolled = Readings(store).rolled_calls(span)
    return [*prompts, {"input_tokens": None, "repeated": None, "output": None, "n": rolled}] if rolled else prompts
