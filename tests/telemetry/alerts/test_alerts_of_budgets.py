"""Alerts over a real budget: what it tells of itself, what it stands at, and its forecast, each once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from langchain_tokopt.budget import Budget, Limit
from langchain_tokopt.database import Database
from langchain_tokopt.events import LimitAlert
from langchain_tokopt.telemetry.alerts import DEFAULT_RULES, Alerts
from langchain_tokopt.telemetry.store import EventStore
from tests.budget.figures import PRICING, case, usage
from tests.fakes import FakeClock, ListSink
from tests.telemetry.alerts.watched import Ear

RULES = [rule for rule in DEFAULT_RULES if rule.metric.startswith("budget.")]


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


@pytest.fixture
def budget(database: Database, sink: ListSink, clock: FakeClock) -> Iterator[Budget]:
    limits = {"user=*": Limit(usd="0.011", per="day", hard=False), "global": Limit(usd="0.1", per="month")}
    made = Budget(pricing=PRICING, sink=sink, clock=clock, limits=limits, store=database)
    yield made
    made.close()


def spend(budget: Budget, times: int, path: str) -> None:
    for _ in range(times):
        budget.settle(budget.reserve(case(), path=path), usage(100, 100))


def test_a_limit_that_is_nearly_spent_is_one_alert(
    database: Database, budget: Budget, sink: ListSink, clock: FakeClock
) -> None:
    store, ear = EventStore(database), Ear()
    known = Alerts(store, rules=RULES, channels=[ear], budgets=budget.status, clock=clock)
    unknown = Alerts(store, rules=RULES, channels=[ear], clock=clock)
    spend(budget, 8, "user=ann")
    spend(budget, 3, "user=bob")
    assert known.check() == []
    spend(budget, 1, "user=ann")
    store.write(sink.events)
    clock.advance(1)
    assert [alert.path for alert in sink.of(LimitAlert)] == ["user=ann"]
    assert len(unknown.check() + known.check() + unknown.check()) == 1
    (alert,) = known.active()
    assert alert.title == "Budget use (user=ann per day): 90.0%, over 80.0%"
    assert alert.value == pytest.approx(0.9)
    clock.advance(86400)
    assert [alert.state for alert in known.check()] == ["cleared"], "another day has begun"
    assert ear.changes == ["raised", "cleared"]


def test_a_forecast_over_the_limit_is_said_before_it_is_spent(
    database: Database, budget: Budget, clock: FakeClock
) -> None:
    ear = Ear()
    alerts = Alerts(
        EventStore(database),
        rules=RULES,
        channels=[ear],
        budgets=budget.status,
        forecasts=budget.forecast,
        clock=clock,
    )
    for _ in range(6):
        spend(budget, 6, "user=cy")
        clock.advance(86400)
    spend(budget, 1, "user=cy")
    alerts.check()
    clock.advance(660)
    alerts.check()
    (notice,) = ear.notices
    assert (notice.alert.rule, notice.alert.subject) == ("budget-forecast", "global")
    assert notice.alert.value is not None
    assert notice.alert.value > 1
