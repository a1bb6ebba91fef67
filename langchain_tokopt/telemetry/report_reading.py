"""The whole report: the sums, how they went over time, whose they are, what changed, and what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.telemetry.findings import findings
from langchain_tokopt.telemetry.measure import measure
from langchain_tokopt.telemetry.readings import CallFigures, LookupFigures, Place, Readings, Span
from langchain_tokopt.telemetry.readings_sources import rolled_in
from langchain_tokopt.telemetry.recommend import recommendations, too_little
from langchain_tokopt.telemetry.recommend_evidence import Evidence
from langchain_tokopt.telemetry.recommend_reading import read_evidence
from langchain_tokopt.telemetry.report import MOST_AGENTS, Report
from langchain_tokopt.telemetry.report_budgets import Budgets, Forecasts, budget_lines
from langchain_tokopt.telemetry.report_details import AgentSpend, Slice, SpanBefore, TokenShares
from langchain_tokopt.telemetry.store import TABLE, EventStore

if TYPE_CHECKING:
    from langchain_tokopt.pricing import Pricing, Rates

# The length of a slice, for spans of at most so many hours.
_SLICES: Final = ((4, 300), (48, 3600), (16 * 24, 6 * 3600), (120 * 24, 86_400))
_LONGEST_SLICE: Final = 7 * 86_400
# Slices of a span without a beginning are not filled up without end: one event with a wrong clock would make millions.
_MOST_SLICES: Final = 400


def read_report(
    store: EventStore,
    *,
    now: float,
    hours: float | None = None,
    pricing: Pricing | None = None,
    candidates: Sequence[Rates | str] = (),
    budgets: Budgets | None = None,
    forecasts: Forecasts | None = None,
) -> Report:
    """What happened in the last `hours` (`None`: ever), in one state of the database.

    Args:
        store: The events.
        now: Unix time in seconds.
        hours: How far back.
        pricing: What models cost, for recommendations about models; without it there are none.
        candidates: Models that may answer instead of those in use: rates, or names for `pricing`.
        budgets: What `Budget.status()` gives, or a callable that gives it; see `budget_lines`.
        forecasts: What `Budget.forecast(node)` gives by node, or a callable that gives it.

    Raises:
        ConfigurationError: `hours` is not above 0.
        StoreError: The database cannot be read.
    """
    if hours is not None and (
        isinstance(hours, bool) or not isinstance(hours, (int, float)) or not 0 < hours < math.inf
    ):
        raise ConfigurationError("hours", hours, "give a number of hours above 0, or None for all")
    since = None if hours is None else now - hours * 3600
    lines, errors = budget_lines(budgets, forecasts)
    # What is read inside of it joins this transaction.
    with store.reading():
        report = replace(measure(store, since=since, hours=hours), budgets=lines, budget_errors=errors)
        evidence = Evidence()
        if report.first is not None and report.last is not None:
            span = Span(since, math.nextafter(report.last, math.inf))
            report = _with_details(report, store, span)
            evidence = read_evidence(store, span, now=now)
    report = replace(
        report,
        recommendations=recommendations(evidence, pricing=pricing, candidates=candidates, budgets=lines),
        replayed_since=evidence.since,
        too_little=too_little(evidence) if report.events else None,
    )
    return replace(report, findings=findings(report))


def _with_details(report: Report, store: EventStore, span: Span) -> Report:
    readings = Readings(store)
    length, slices = _slices(report, store, readings, span)
    agents = _agents(readings, span)
    return replace(
        report,
        slice_seconds=length,
        slices=slices,
        agents=agents[:MOST_AGENTS],
        agent_count=len(agents),
        tokens=_tokens(store, span),
        before=None if span.since is None or report.hours is None else _before(readings, span.since, report.hours),
    )


def _slices(report: Report, store: EventStore, readings: Readings, span: Span) -> tuple[int, tuple[Slice, ...]]:
    first, last = report.first or 0.0, report.last or 0.0
    begin = first if span.since is None else span.since
    hours = (last - begin) / 3600 if report.hours is None else report.hours
    every = next((length for most, length in _SLICES if hours <= most), _LONGEST_SLICE)
    with store.reading() as connection:
        rolled = rolled_in(connection, span)
    # What is only kept by the hour, or by the day, cannot be shown by less.
    every = max(every, rolled.seconds) if rolled is not None else every
    calls = readings.calls(span, every=every)
    parts = readings.parts(span, every=every)
    lookups = readings.lookups(span, every=every)
    starts = sorted({place.start for place in [*calls, *parts, *lookups] if place.start is not None})
    if not starts:
        return 0, ()
    begins, ends = (min(starts[0], int(begin // every) * every), starts[-1])
    if (ends - begins) // every < _MOST_SLICES:
        starts = list(range(begins, ends + 1, every))
    found = []
    for start in starts:
        place = Place((), start)
        called, looked = calls.get(place, CallFigures()), lookups.get(place, LookupFigures()).real
        found.append(
            Slice(
                start=start,
                calls=called.measured.calls + called.estimated.calls,
                measured_usd=called.measured.cost_usd,
                estimated_usd=called.estimated.cost_usd,
                saved_usd=parts[place].real.usd if place in parts else None,
                hits=looked.hits,
                eligible=looked.eligible,
            )
        )
    return every, tuple(found)


def _agents(readings: Readings, span: Span) -> tuple[AgentSpend, ...]:
    found = [
        AgentSpend(
            agent=place.key[0],
            calls=figures.measured.calls + figures.estimated.calls,
            requests=figures.requests,
            measured_usd=figures.measured.cost_usd,
            estimated_usd=figures.estimated.cost_usd,
            unpriced=figures.measured.unpriced + figures.estimated.unpriced,
        )
        for place, figures in readings.calls(span, by=("agent",)).items()
    ]

    def rank(one: AgentSpend) -> tuple[Decimal, int, str]:
        # Only the order goes by both; nowhere are they shown as a sum.
        return -(one.measured_usd or Decimal(0)) - (one.estimated_usd or Decimal(0)), -one.calls, one.agent or ""

    return tuple(sorted((one for one in found if one.calls), key=rank))


def _before(readings: Readings, since: float, hours: float) -> SpanBefore | None:
    span = Span(since - hours * 3600, since)
    calls = readings.calls(span).get(Place(), CallFigures())
    lookups = readings.lookups(span).get(Place(), LookupFigures()).real
    parts = readings.parts(span).get(Place())
    refused = readings.reservations(span).get(Place(), {}).get("refused", 0)
    failures = readings.failures(span).get(Place(), 0)
    if calls == CallFigures() and parts is None and not refused and not failures:
        return None
    saved = parts.real if parts is not None else None
    own = (calls.own_measured, calls.own_estimated)
    spent = sum((usage.cost_usd or Decimal(0) for usage in own), Decimal(0))
    known = not any(usage.unpriced for usage in own) and (
        (saved is not None and saved.usd is not None) or (bool(spent) and (saved is None or not saved.applied))
    )
    return SpanBefore(
        calls=calls.measured.calls + calls.estimated.calls,
        measured_usd=calls.measured.cost_usd,
        estimated_usd=calls.estimated.cost_usd,
        unpriced=calls.measured.unpriced + calls.estimated.unpriced,
        net_saved_usd=((saved.usd if saved is not None else None) or Decimal(0)) - spent if known else None,
        hits=lookups.hits,
        eligible=lookups.eligible,
        failed_calls=calls.failed,
        refused_calls=refused,
        failures=failures,
    )


# --- where the tokens go ---------------------------------------------------------------------------------------------


_TOKENS: Final = (
    "SELECT SUM(input_tokens) AS input, SUM(output_tokens) AS output, SUM(reasoning_tokens) AS reasoning, "
    "SUM(cache_read_tokens) AS cache_read FROM {events} WHERE {call} AND {within}"
)
# What a part in shadow mode would have left out, and what it let pass, was sent.
_TOOLS: Final = (
    "SELECT SUM(t.sent * c.n) AS tools FROM (SELECT request, MAX(CASE WHEN mode = 'shadow' OR action = 'skipped' "
    "THEN tokens_before ELSE tokens_after END) AS sent FROM {events} WHERE kind = 'Decision' AND part = 'tools' "
    "AND {within} GROUP BY request) t JOIN (SELECT request, COUNT(*) AS n FROM {events} WHERE {call} AND {within} "
    "GROUP BY request) c ON c.request = t.request"
)
_GROWN: Final = (
    "SELECT SUM(g.total - g.n * g.least) AS grown FROM (SELECT COUNT(*) AS n, SUM(input_tokens) AS total, "
    "MIN(input_tokens) AS least FROM {events} WHERE {call} AND thread IS NOT NULL AND {within} "
    "GROUP BY thread, agent, node, model) g"
)


def _tokens(store: EventStore, span: Span) -> TokenShares | None:
    from sqlalchemy import text

    given = {"until": span.until} | ({} if span.since is None else {"since": span.since})
    words = {
        "events": TABLE,
        "within": f"{'at >= :since AND ' if span.since is not None else ''}at < :until",
        "call": "kind = 'ModelCall' AND internal = 0 AND usage_source = 'provider' AND input_tokens IS NOT NULL",
    }
    with store.reading() as connection:
        rolled = rolled_in(connection, span)
        whole, sent, more = (
            connection.execute(text(_worded(query, words)), given).mappings().one()
            for query in (_TOKENS, _TOOLS, _GROWN)
        )
    if whole["input"] is None:
        return None

    def count(value: object) -> int | None:
        return None if value is None else int(str(value))

    return TokenShares(
        input=int(whole["input"]),
        output=int(whole["output"] or 0),
        reasoning=count(whole["reasoning"]),
        cache_read=count(whole["cache_read"]),
        tools=count(sent["tools"]),
        grown=count(more["grown"]),
        since=None if rolled is None else float(rolled.until),
    )


def _worded(query: str, words: Mapping[str, str]) -> str:
    for name, word in words.items():
        query = query.replace(f"{{{name}}}", word)
    return query
