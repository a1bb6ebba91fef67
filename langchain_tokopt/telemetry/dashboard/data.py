"""What the dashboard shows, as plain values: sums for spans of time, the newest requests, and where each is from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.telemetry.dashboard.figures import Window, window_figures
from langchain_tokopt.telemetry.dashboard.plain import plain
from langchain_tokopt.telemetry.dashboard.requests import changes, newest, story
from langchain_tokopt.telemetry.kpis import kpis
from langchain_tokopt.telemetry.readings import Readings, Span
from langchain_tokopt.telemetry.report_budgets import Budgets, Forecasts, budget_lines
from langchain_tokopt.telemetry.report_details import BudgetLine
from langchain_tokopt.telemetry.store import TABLE, EventStore

if TYPE_CHECKING:
    from langchain_tokopt.telemetry.alerts import Alert
    from langchain_tokopt.telemetry.report import Report

_WINDOWS: Final = ((1.0, "1 h"), (24.0, "24 h"), (168.0, "7 d"))
VERSION: Final = 1  # of the shape of the data


def dashboard_data(
    store: EventStore,
    *,
    now: float,
    hours: float | None = 24,
    budgets: Budgets | None = None,
    forecasts: Forecasts | None = None,
    alerts: Iterable[Alert] | None = None,
    report: Report | None = None,
    audits: Callable[[], Mapping[str, Any] | None] | None = None,
    targets: Mapping[str, float] | None = None,
    requests: int = 2000,
) -> dict[str, Any]:
    """Everything that the page shows of the last `hours` before `now`: nothing but what JSON can hold.

    Money is exact decimal text in USD, times are Unix time, `None` is unknown. Beside each group of figures stands its
    `source`: the reading that gave them, and the query for the events that they are sums of.

    Args:
        store: Where the events are.
        now: Unix time; the end of every span.
        hours: How far back; `None` for everything. The page can be switched to an hour, a day and a week within it.
        budgets: What `Budget.status()` gives, of one budget or of several; or a callable that gives that.
        forecasts: What `Budget.forecast(node)` gives, by node; or a callable that gives it for a node.
        alerts: Alerts, in the order in which they are to be shown.
        report: A report, for its findings and recommendations.
        audits: What the semantic cache knows of its audits; see `kpis`.
        targets: Of KPIs, by name; see `kpis`.
        requests: How many requests, the newest, come in full.

    Raises:
        ConfigurationError: `hours` is not above 0, or a target cannot be used.
        StoreError: The database cannot be read.
    """
    if hours is not None and (
        isinstance(hours, bool) or not isinstance(hours, (int, float)) or not 0 < hours < math.inf
    ):
        raise ConfigurationError("hours", hours, "give a number of hours above 0, or None for all")
    readings = Readings(store)
    windows = _windows(readings, now, hours)
    since = windows[-1].since
    stories = newest(readings, Span(since, now), requests)
    lines, unread = budget_lines(budgets, forecasts)
    return {
        "version": VERSION,
        "now": now,
        "hours": hours,
        "windows": [
            {**window_figures(readings, window), "kpis": _kpis(readings, window, targets, audits)} for window in windows
        ],
        "requests": {"rows": [story(one) for one in stories], "most": requests, "changes": changes(stories)},
        "budgets": [_budget(line) for line in lines],
        "budget_errors": plain(unread),
        "alerts": [plain(alert.as_json()) for alert in alerts or ()],
        "findings": plain(report.findings) if report is not None else [],
        "recommendations": plain(report.recommendations) if report is not None else [],
    }


def arrivals(store: EventStore) -> int:
    """The number of the event that arrived last, 0 for none: it changes with every event that is written.

    Raises:
        StoreError: The database cannot be read.
    """
    from sqlalchemy import text

    store.prepare()
    with store.database.read() as connection:
        return int(connection.execute(text(f"SELECT COALESCE(MAX(seq), 0) FROM {TABLE}")).scalar_one())  # noqa: S608 - a name of ours


def _windows(readings: Readings, now: float, hours: float | None) -> list[Window]:
    """Those of the usual spans that are shorter than `hours`, then `hours`."""
    longest = hours if hours is not None else _age(readings, now)
    found = [Window(name, length, now) for length, name in _WINDOWS if length < longest]
    name = next((name for length, name in _WINDOWS if length == hours), None)
    name = name or ("All" if hours is None else f"{hours:g} h" if hours < 72 else f"{hours / 24:g} d")
    return [*found, Window(name, longest, now)]


def _age(readings: Readings, now: float) -> float:
    """For how many hours there are events, an hour at least."""
    first = readings.extent(Span(until=now)).first
    return 1.0 if first is None else max(1.0, (now - first) / 3600)


def _kpis(
    readings: Readings,
    window: Window,
    targets: Mapping[str, float] | None,
    audits: Callable[[], Mapping[str, Any] | None] | None,
) -> list[dict[str, Any]]:
    found = kpis(readings, now=window.until, hours=window.hours, targets=targets, audits=audits)
    return [plain(kpi.as_json()) for kpi in found]


def _budget(line: BudgetLine) -> dict[str, Any]:
    left = max(line.limit - line.limit, line.limit - line.spent - line.held)
    shown: dict[str, Any] = plain(line)
    return {**shown, "left": plain(left), "share": plain(line.share)}
