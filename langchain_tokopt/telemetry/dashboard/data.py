"""What the dashboard shows, as plain values: sums for spans of time, the newest requests, and where each is from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.telemetry.dashboard.figures import Window, window_figures
from langchain_tokopt.telemetry.dashboard.plain import plain
from langchain_tokopt.telemetry.dashboard.requests import changes, newest, story
from langchain_tokopt.telemetry.readings import Readings, Span
from langchain_tokopt.telemetry.store import EventStore

_WINDOWS: Final = ((1.0, "1 h"), (24.0, "24 h"), (168.0, "7 d"))
VERSION: Final = 1  # of the shape of the data


def dashboard_data(
    store: EventStore,
    *,
    now: float,
    hours: float | None = 24,
    budgets: object = None,
    forecasts: Mapping[str, Any] | None = None,
    alerts: Iterable[Any] | None = None,
    report: Any = None,
    requests: int = 2000,
) -> dict[str, Any]:
    """Everything that the page shows of the last `hours` before `now`: nothing but what JSON can hold.

    Money is exact decimal text in USD, times are Unix time, `None` is unknown. Beside each group of figures stands its
    `source`: the reading that gave them, and the query for the events that they are sums of.

    Args:
        store: Where the events are.
        now: Unix time; the end of every span.
        hours: How far back; `None` for everything. The page can be switched to an hour, a day and a week within it.
        budgets: What `Budget.status()` gives, or several of these.
        forecasts: By node, what is expected by the end of its period.
        alerts: Alerts, the newest first.
        report: A report, for its findings and recommendations.
        requests: How many requests, the newest, come in full.

    Raises:
        ConfigurationError: `hours` is not above 0.
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
    return {
        "version": VERSION,
        "now": now,
        "hours": hours,
        "windows": [window_figures(readings, window) for window in windows],
        "requests": {"rows": [story(one) for one in stories], "most": requests, "changes": changes(stories)},
        "budgets": plain(_several(budgets)),
        "forecasts": plain(forecasts or {}),
        "alerts": plain(list(alerts or ())),
        "findings": plain(list(getattr(report, "findings", ()))),
        "recommendations": plain(list(getattr(report, "recommendations", ()))),
    }


def _windows(readings: Readings, now: float, hours: float | None) -> list[Window]:
    """Those of the usual spans that are shorter than `hours`, then `hours`."""
    longest = hours if hours is not None else _age(readings, now)
    found = [Window(name, now - length * 3600, now) for length, name in _WINDOWS if length < longest]
    name = next((name for length, name in _WINDOWS if length == hours), None)
    name = name or ("All" if hours is None else f"{hours:g} h" if hours < 72 else f"{hours / 24:g} d")
    return [*found, Window(name, now - longest * 3600, now)]


def _age(readings: Readings, now: float) -> float:
    """For how many hours there are events, an hour at least."""
    oldest = readings.requests(Span(until=now), limit=1, order="oldest")
    return max(1.0, (now - oldest[0].at) / 3600) if oldest else 1.0


def _several(budgets: object) -> list[Any]:
    if budgets is None:
        return []
    return [budgets] if isinstance(budgets, Mapping) else list(budgets)  # type: ignore[call-overload]
