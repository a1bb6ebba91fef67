"""A report from the events in a database: a few sums that the database makes itself."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from langchain_tokopt.pricing import Rates, from_nano
from langchain_tokopt.telemetry.findings import findings
from langchain_tokopt.telemetry.report import (
    CacheReport,
    FailureReport,
    ModelUsage,
    PartReport,
    Percentiles,
    Report,
    Repriced,
    Saved,
    Usage,
)
from langchain_tokopt.telemetry.reprice import reprice_calls
from langchain_tokopt.telemetry.store import TABLE, EventStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

_USAGE = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_MOST_FREQUENT = 3


def measure(store: EventStore, *, since: float | None, hours: float | None) -> Report:
    """What happened since `since` (Unix time, `None`: ever). All figures are of one state of the database.

    Raises:
        StoreError: The database cannot be read.
    """
    store.prepare()
    with store.database.read() as connection:
        span = _Span(connection, since)
        whole = span.rows("SELECT MIN(at) AS first, MAX(at) AS last, COUNT(*) AS n FROM {events} WHERE {in_span}")[0]
        if not whole["n"]:
            report = Report(hours=hours)
        else:
            # What comes in later does not belong to this report, also when `cost_at` reads again.
            span = _Span(connection, since, until=float(whole["last"]))
            report = _report(span, hours, whole)

    def reprice(rates: Sequence[Rates]) -> list[Repriced]:
        if report.last is None:
            return [reprice_calls((), each) for each in rates]
        with store.database.read() as connection:
            prompts = _Span(connection, since, until=report.last).rows(
                "SELECT input_tokens, repeated_prefix_tokens AS repeated, SUM(output_tokens) AS output, COUNT(*) AS n "
                "FROM {events} WHERE kind = 'ModelCall' AND {in_span} GROUP BY input_tokens, repeated_prefix_tokens"
            )
        return [reprice_calls(prompts, each) for each in rates]

    return replace(report, findings=findings(report), _reprice=reprice)


@dataclass(frozen=True)
class _Span:
    """The events of a span of time, to be asked with SQL.

    In a query, `{events}` is the table, `{in_span}` the condition, `{did}` whether a part did something (to the cache,
    a hit is what a change to the request is to the others), and `{sums}` the sums of all columns of usage.
    """

    connection: Connection
    since: float | None
    until: float | None = None

    def rows(self, query: str, *, inner: str = "", **given: int) -> list[dict[str, Any]]:
        """What the database answers. `inner`: a query that stands for `{inner}`."""
        from sqlalchemy import text

        limits = {"since": self.since, "until": self.until}
        tests = {"since": "at >= :since", "until": "at <= :until"}
        known = {name: value for name, value in limits.items() if value is not None}
        words = {
            "events": TABLE,
            "in_span": " AND ".join(tests[name] for name in known) or "1 = 1",
            # What a budget makes of a call that does not fit is no saving.
            "saving": "kind IN ('Decision', 'CacheLookup') AND part <> 'budget'",
            "did": "CASE WHEN action IN ('exact', 'semantic', 'applied') THEN 1 ELSE 0 END",
            "sums": ", ".join(f"SUM({name}) AS {name}" for name in _USAGE),
        }
        for name, word in {"inner": inner, **words}.items():
            query = query.replace(f"{{{name}}}", word)
        return [dict(row) for row in self.connection.execute(text(query), {**known, **given}).mappings()]


def _report(span: _Span, hours: float | None, whole: Mapping[str, Any]) -> Report:
    calls = _calls(span)
    saved = _saved(span)
    cache, cache_in_shadow = _cache(span)
    reservations = span.rows(
        "SELECT mode, action, COUNT(*) AS n FROM {events} WHERE kind = 'Reservation' AND {in_span} "
        "GROUP BY mode, action ORDER BY action"
    )
    steps = {(row["mode"] == "shadow", row["action"]): int(row["n"]) for row in reservations}
    real, shadow = (_total(each.real for each in saved), _total(each.shadow for each in saved))
    overhead = _usage(row for row in calls if row["internal"] and row["usage_source"] == "provider")
    overhead_estimated = _usage(row for row in calls if row["internal"] and row["usage_source"] == "estimate")
    return Report(
        hours=hours,
        first=float(whole["first"]),
        last=float(whole["last"]),
        events=int(whole["n"]),
        measured=_usage(row for row in calls if row["usage_source"] == "provider"),
        estimated=_usage(row for row in calls if row["usage_source"] == "estimate"),
        failed_calls=sum(int(row["n"]) for row in calls if row["failed"]),
        models=_models(calls),
        parts=saved,
        saved=real,
        saved_in_shadow=shadow,
        overhead=overhead,
        overhead_estimated=overhead_estimated,
        net_saved_usd=_net(real, overhead, overhead_estimated),
        cache=cache,
        cache_in_shadow=cache_in_shadow,
        budget=tuple((action, n) for (in_shadow, action), n in steps.items() if not in_shadow),
        refused_calls=steps.get((False, "refused"), 0),
        refused_in_shadow=steps.get((True, "refused"), 0),
        added_seconds=_percentiles(
            span,
            "SELECT SUM(seconds) AS s FROM {events} WHERE seconds IS NOT NULL AND {in_span} "
            "GROUP BY COALESCE(request, id)",
        ),
        latency_seconds=_percentiles(
            span,
            "SELECT latency_seconds AS s FROM {events} WHERE kind = 'ModelCall' AND error IS NULL "
            "AND latency_seconds IS NOT NULL AND {in_span}",
        ),
        failures=_failures(span),
    )


# --- calls -----------------------------------------------------------------------------------------------------------


def _calls(span: _Span) -> Sequence[Mapping[str, Any]]:
    return span.rows(
        "SELECT provider, model, usage_source, internal, CASE WHEN error IS NULL THEN 0 ELSE 1 END AS failed, "
        "COUNT(*) AS n, COUNT(cost_nano) AS priced, SUM(cost_nano) AS cost_nano, {sums} "
        "FROM {events} WHERE kind = 'ModelCall' AND {in_span} GROUP BY 1, 2, 3, 4, 5"
    )


def _usage(rows: Iterable[Mapping[str, Any]]) -> Usage:
    rows = list(rows)
    calls = sum(int(row["n"]) for row in rows)
    return Usage(
        calls=calls,
        cost_usd=_usd(_sum(rows, "cost_nano")),
        unpriced=calls - sum(int(row["priced"]) for row in rows),
        **{name: _sum(rows, name) for name in _USAGE},
    )


def _models(rows: Sequence[Mapping[str, Any]]) -> tuple[ModelUsage, ...]:
    groups: dict[tuple[str | None, str | None], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["provider"], row["model"]].append(row)
    models = [
        ModelUsage(
            provider=provider,
            model=model,
            measured=_usage(row for row in group if row["usage_source"] == "provider"),
            estimated=_usage(row for row in group if row["usage_source"] == "estimate"),
        )
        for (provider, model), group in groups.items()
    ]

    def rank(one: ModelUsage) -> tuple[Decimal, int, str]:
        cost = max(one.measured.cost_usd or Decimal(0), one.estimated.cost_usd or Decimal(0))
        return -cost, -one.measured.calls - one.estimated.calls, f"{one.provider} {one.model}"

    return tuple(sorted(models, key=rank))


# --- parts -----------------------------------------------------------------------------------------------------------


def _saved(span: _Span) -> tuple[PartReport, ...]:
    rows = span.rows(
        "SELECT part, mode, {did} AS did, COUNT(*) AS n, SUM(saved_tokens) AS saved_tokens, "
        "SUM(saved_nano) AS saved_nano, COUNT(saved_nano) AS priced "
        "FROM {events} WHERE {saving} AND {in_span} GROUP BY 1, 2, 3"
    )
    why = span.rows(
        "SELECT part, reason, COUNT(*) AS n FROM {events} WHERE {saving} "
        "AND {did} = 0 AND reason IS NOT NULL AND {in_span} "
        "GROUP BY part, reason ORDER BY n DESC, reason LIMIT 1000"
    )
    reasons = _most_frequent(why, "reason")
    return tuple(
        PartReport(
            part=part,
            real=_of_part(row for row in rows if row["part"] == part and row["mode"] != "shadow"),
            shadow=_of_part(row for row in rows if row["part"] == part and row["mode"] == "shadow"),
            skipped=sum(int(row["n"]) for row in rows if row["part"] == part and not row["did"]),
            reasons=reasons[part],
        )
        for part in sorted({row["part"] for row in rows})
    )


def _of_part(rows: Iterable[Mapping[str, Any]]) -> Saved:
    rows = [row for row in rows if row["did"]]
    applied = sum(int(row["n"]) for row in rows)
    return Saved(
        applied=applied,
        tokens=_sum(rows, "saved_tokens"),
        usd=_usd(_sum(rows, "saved_nano")),
        unpriced=applied - sum(int(row["priced"]) for row in rows),
    )


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


def _cache(span: _Span) -> tuple[CacheReport, CacheReport]:
    """Lookups for real, and in shadow mode."""
    rows = span.rows(
        "SELECT mode, action, COUNT(*) AS n FROM {events} WHERE kind = 'CacheLookup' AND {in_span} "
        "GROUP BY mode, action"
    )
    n = {(row["mode"] == "shadow", row["action"]): int(row["n"]) for row in rows}

    def lookups(shadow: bool) -> CacheReport:
        exact, semantic, misses, bypassed = (n.get((shadow, a), 0) for a in ("exact", "semantic", "miss", "bypass"))
        return CacheReport(exact=exact, semantic=semantic, misses=misses, bypassed=bypassed)

    return lookups(False), lookups(True)


def _failures(span: _Span) -> tuple[FailureReport, ...]:
    rows = span.rows(
        "SELECT part, error, COUNT(*) AS n FROM {events} WHERE kind = 'Failure' AND {in_span} "
        "GROUP BY part, error ORDER BY n DESC, error"
    )
    errors = _most_frequent(rows, "error")
    return tuple(
        FailureReport(part=part, count=sum(int(row["n"]) for row in rows if row["part"] == part), errors=errors[part])
        for part in sorted({row["part"] for row in rows})
    )


def _most_frequent(rows: Sequence[Mapping[str, Any]], what: str) -> dict[str, tuple[tuple[str, int], ...]]:
    found: dict[str, tuple[tuple[str, int], ...]] = defaultdict(tuple)
    for row in rows:
        if len(found[row["part"]]) < _MOST_FREQUENT:
            found[row["part"]] += ((row[what], int(row["n"])),)
    return found


# --- figures ---------------------------------------------------------------------------------------------------------


def _percentiles(span: _Span, seconds: str) -> Percentiles | None:
    """By nearest rank, which needs nothing that one of the databases lacks."""
    count = int(span.rows("SELECT COUNT(*) AS n FROM ({inner}) t", inner=seconds)[0]["n"])
    if not count:
        return None
    p50, p95 = (
        float(
            span.rows("SELECT s FROM ({inner}) t ORDER BY s LIMIT 1 OFFSET :skip", inner=seconds, skip=rank - 1)[0]["s"]
        )
        for rank in (math.ceil(0.5 * count), math.ceil(0.95 * count))
    )
    return Percentiles(count=count, p50=p50, p95=p95)


def _sum(rows: Iterable[Mapping[str, Any]], name: str) -> int | None:
    known = [int(row[name]) for row in rows if row[name] is not None]
    return sum(known) if known else None


def _usd(nano: int | None) -> Decimal | None:
    return None if nano is None else from_nano(nano)
