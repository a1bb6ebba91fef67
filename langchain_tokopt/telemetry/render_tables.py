"""The tables of a report, as text in cells: what comes from outside is harmless, but not yet escaped for any markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from langchain_tokopt.telemetry.kpis_chance import wilson
from langchain_tokopt.telemetry.report_figures import (
    amount,
    duration,
    length,
    moment,
    money,
    name,
    number,
    percent,
    said,
    second,
    times,
)

if TYPE_CHECKING:
    from langchain_tokopt.telemetry.report import CacheReport, Percentiles, Report, Saved, Usage

TITLE: Final = "What was spent and saved"
_MOST_ROWS: Final = 20


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first column names what the row is about, the others have figures.

    `words`: in the last column there are words. `detail`: there is a picture of the same, so that it need not be seen
    at first.
    """

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    words: bool = False
    detail: bool = False

    def on_the_right(self, column: int) -> bool:
        """Whether the column stands on the right, as figures do."""
        return column > 0 and not (self.words and column == len(self.head) - 1)


def span(report: Report) -> str:
    """From when to when the events are."""
    if report.first is None or report.last is None:
        return "No events."
    return f"{times(report.events, 'event')}, {second(report.first)} to {second(report.last)} UTC."


def above_recommendations(report: Report) -> str:
    """What holds for all recommendations."""
    since = "" if report.replayed_since is None else f" From the events since {moment(report.replayed_since)}."
    return f"Each stands for itself: savings of several do not add up.{since}"


def tables(report: Report) -> list[Table]:
    """The tables that have rows."""
    every = [
        _usage(report),
        _models(report),
        _agents(report),
        _parts(report),
        _cache(report),
        _budgets(report),
        _slices(report),
        _times(report),
        _trouble(report),
    ]
    return [table for table in every if table.rows]


def _usage(report: Report) -> Table:
    rows = [
        ("Reported by the provider", report.measured),
        ("Estimated", report.estimated),
        ("Of these, the optimiser's own: reported", report.overhead),
        ("Of these, the optimiser's own: estimated", report.overhead_estimated),
    ]
    return Table(
        "Model calls", ("Usage", *_USAGE_HEAD), [(which, *_figures(usage)) for which, usage in rows if usage.calls]
    )


_USAGE_HEAD = ("Calls", "Input", "Cache read", "Cache write", "Output", "Reasoning", "Cost")


def _figures(usage: Usage) -> tuple[str, ...]:
    cost = money(usage.cost_usd)
    if usage.unpriced:
        unknown = f"unknown for {times(usage.unpriced, 'call')}"
        cost = unknown if usage.cost_usd is None else f"{cost}; {unknown}"
    tokens = (
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
    )
    return number(usage.calls), *(number(count) for count in tokens), cost


def _models(report: Report) -> Table:
    rows = [
        (f"{name(model.provider)}: {name(model.model)} ({source})", *_figures(usage))
        for model in report.models
        for usage, source in ((model.measured, "reported"), (model.estimated, "estimated"))
        if usage.calls
    ]
    return Table("By model", ("Model", *_USAGE_HEAD), _short(rows))


def _agents(report: Report) -> Table:
    rows: list[tuple[str, ...]] = [
        (
            name(one.agent, "without a name"),
            number(one.requests),
            number(one.calls),
            _known(money(one.measured_usd), one.measured_usd is not None),
            _known(money(one.estimated_usd), one.estimated_usd is not None),
            number(one.unpriced),
        )
        for one in report.agents
    ]
    if report.agent_count > len(report.agents):
        rows.append(_other_agents(report))
    head = ("Agent", "Requests", "Calls", "Measured", "Estimated", "Calls without a price")
    return Table("By agent", head, rows if any(one.agent is not None for one in report.agents) else ())


def _other_agents(report: Report) -> tuple[str, ...]:
    """What is left of the whole for those that have no row of their own."""
    whole, shown = (report.measured, report.estimated), report.agents
    calls = sum(usage.calls for usage in whole) - sum(one.calls for one in shown)
    unpriced = sum(usage.unpriced for usage in whole) - sum(one.unpriced for one in shown)
    usd = [
        None if usage.cost_usd is None else usage.cost_usd - sum((one or Decimal(0) for one in given), Decimal(0))
        for usage, given in zip(
            whole, ([one.measured_usd for one in shown], [one.estimated_usd for one in shown]), strict=True
        )
    ]
    rest = times(report.agent_count - len(shown), "other agent")
    return rest, "-", number(calls), *(_known(money(one), one is not None) for one in usd), number(unpriced)


def _parts(report: Report) -> Table:
    rows = []
    for part in report.parts:
        why = "; ".join(f"{said(reason)} ({number(count)})" for reason, count in part.reasons) or "-"
        rows.append((name(part.part), *_saving(part.real), number(part.skipped), why))
        if part.shadow.applied:
            rows.append((f"{name(part.part)}, shadow (would have)", *_saving(part.shadow), "-", "-"))
    if rows:
        rows.append(("All", *_saving(report.saved), "-", "-"))
        rows.append(("All, net of the optimiser's own calls", "-", "-", money(report.net_saved_usd), "-", "-"))
    head = ("Part", "Applied", "Tokens saved", "USD saved", "Left alone", "Most often because")
    return Table("Savings (estimates)", head, rows, words=True)


def _saving(saved: Saved) -> tuple[str, str, str]:
    if not saved.applied:
        return "0", "-", "-"
    usd = money(saved.usd)
    if saved.unpriced and saved.usd is not None:
        usd = f"{usd}; unknown for {saved.unpriced}"
    return number(saved.applied), number(saved.tokens), usd


def _cache(report: Report) -> Table:
    rows = [
        (
            which,
            number(cache.exact),
            number(cache.semantic),
            number(cache.misses),
            number(cache.bypassed),
            *_rates(cache),
        )
        for which, cache in (("Served", report.cache), ("Shadow (would have)", report.cache_in_shadow))
        if cache.eligible or cache.bypassed
    ]
    head = ("Lookups", "Exact", "Semantic", "Misses", "Passed by", "Hit rate", "95% interval")
    return Table("Semantic cache", head, rows)


def _rates(cache: CacheReport) -> tuple[str, str]:
    if cache.hit_rate is None:
        return "-", "-"
    low, high = wilson(cache.hits, cache.eligible)
    return percent(cache.hit_rate), f"{percent(low)} to {percent(high)}"


def _budgets(report: Report) -> Table:
    rows = [
        (
            f"{name(line.budget)}: {name(line.node)} per {name(line.per)}{'' if line.hard else ' (only alerts)'}",
            amount(line.limit, line.unit),
            amount(line.spent, line.unit),
            amount(line.held, line.unit),
            percent(line.share),
            "-" if line.resets_at is None else moment(line.resets_at),
            "-" if line.expected is None else amount(line.expected, line.unit),
        )
        for line in report.budgets
    ]
    head = ("Budget", "Limit", "Spent", "Held", "Taken", "Until", "Expected by then")
    return Table("Budgets", head, _short(rows))


def _slices(report: Report) -> Table:
    rows = [
        (
            moment(one.start),
            number(one.calls),
            _known(money(one.measured_usd), one.measured_usd is not None),
            _known(money(one.estimated_usd), one.estimated_usd is not None),
            _known(money(one.saved_usd), one.saved_usd is not None),
            f"{number(one.hits)} of {number(one.eligible)}" if one.eligible else "-",
        )
        for one in report.slices
        if one.calls or one.saved_usd is not None or one.eligible
    ]
    head = ("From", "Calls", "Measured", "Estimated", "Saved (estimate)", "Cache hits")
    title = f"By {length(report.slice_seconds)}".replace("By 1 ", "By ") if report.slice_seconds else ""
    return Table(title, head, rows if len(rows) > 1 else (), detail=True)


def _times(report: Report) -> Table:
    def row(what: str, found: Percentiles | None) -> list[tuple[str, ...]]:
        return [(what, number(found.count), duration(found.p50), duration(found.p95))] if found else []

    rows = [
        *row("Added per request", report.added_seconds),
        *row("Model's own time per call", report.latency_seconds),
    ]
    return Table("Time", ("Time", "Count", "Median", "95th percentile"), rows)


def _trouble(report: Report) -> Table:
    rows = []
    if report.failed_calls:
        rows.append(("Model calls that failed", number(report.failed_calls), "-"))
    if report.refused_calls:
        rows.append(("Calls that the budget refused", number(report.refused_calls), "-"))
    if report.refused_in_shadow:
        rows.append(("Calls that the budget would have refused (shadow)", number(report.refused_in_shadow), "-"))
    for failure in report.failures:
        errors = "; ".join(f"{said(error or 'unknown')} ({number(count)})" for error, count in failure.errors) or "-"
        rows.append((f"{name(failure.part)} stepped aside", number(failure.count), errors))
    return Table("Trouble", ("What", "Count", "Most often"), _short(rows), words=True)


def _known(shown: str, known: bool) -> str:
    return shown if known else "-"


def _short(rows: Sequence[tuple[str, ...]]) -> Sequence[tuple[str, ...]]:
    """The first rows, and how many more there are."""
    if len(rows) <= _MOST_ROWS:
        return rows
    return [*rows[:_MOST_ROWS], (f"{number(len(rows) - _MOST_ROWS)} more", *["-"] * (len(rows[0]) - 1))]
