"""What a report and a page show, read with the budgets and alerts of the same database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from langchain_tokopt.cli.telemetry_options import now

if TYPE_CHECKING:
    from langchain_tokopt.cli.telemetry_budgets import KeptBudgets
    from langchain_tokopt.pricing import Rates
    from langchain_tokopt.telemetry.alerts import Alert
    from langchain_tokopt.telemetry.report import Report
    from langchain_tokopt.telemetry.store import EventStore

_MOST_ALERTS: Final = 50
# What a cache said of itself longer ago than this says nothing of today.
_AUDIT_SECONDS: Final = 7 * 86400.0


def report_of(
    store: EventStore, budgets: KeptBudgets, *, hours: float | None, candidates: Sequence[Rates | str] = ()
) -> Report:
    """The report of the last `hours` (`None`: ever).

    Raises:
        ConfigurationError: A candidate cannot be used.
        StoreError: The database cannot be read.
    """
    from langchain_tokopt.pricing import Pricing
    from langchain_tokopt.telemetry.report_reading import read_report

    return read_report(
        store,
        now=now(),
        hours=hours,
        pricing=Pricing(),
        candidates=candidates,
        budgets=budgets.status,
        forecasts=budgets.forecast,
    )


def page_data(store: EventStore, budgets: KeptBudgets, *, hours: float | None) -> dict[str, Any]:
    """What the page shows of the last `hours` (`None`: ever).

    Raises:
        StoreError: The database cannot be read.
    """
    from langchain_tokopt.telemetry.dashboard import dashboard_data

    return dashboard_data(
        store,
        now=now(),
        hours=hours,
        budgets=budgets.status,
        forecasts=budgets.forecast,
        alerts=_alerts(store),
        audits=lambda: audits_of(store),
        report=report_of(store, budgets, hours=hours),
    )


def _alerts(store: EventStore) -> list[Alert]:
    """The last alerts, those that are not over first; none where nobody ever looked for any."""
    from langchain_tokopt.cli.schemas import schemas
    from langchain_tokopt.telemetry.alerts import Alerts

    if "alerts" not in schemas(store.database):
        return []
    found = Alerts(store, clock=now).history(limit=_MOST_ALERTS)
    return sorted(found, key=lambda alert: alert.state == "cleared")


def audits_of(store: EventStore) -> Mapping[str, Any] | None:
    """What the semantic cache said last of its audits, in a snapshot of itself; `None` if it did not.

    Raises:
        StoreError: The database cannot be read.
    """
    for snapshot in reversed(store.snapshots("cache", since=now() - _AUDIT_SECONDS)):
        audits = snapshot.figures.get("decision")
        if isinstance(audits, Mapping):
            return audits
    return None
