"""What rules look at: KPIs, budgets and what they have said of themselves, forecasts, and lost events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from langchain_tokopt.database import Database
from langchain_tokopt.errors import StoreError
from langchain_tokopt.events import CacheLookup, Decision, Failure, LimitAlert, ModelCall, Reservation
from langchain_tokopt.telemetry.alerts import DEFAULT_RULES, Alert, AlertRule, Alerts
from langchain_tokopt.telemetry.store import EventStore
from tests.fakes import FakeClock
from tests.telemetry.alerts.watched import SUBJECT, Budget, Ear, watching

RULES = {rule.name: rule for rule in DEFAULT_RULES}


@pytest.fixture
def store(database: Database) -> EventStore:
    return EventStore(database)


@pytest.fixture
def memory() -> Iterator[EventStore]:
    database = Database()
    yield EventStore(database)
    database.close()


def looking(store: EventStore, clock: FakeClock, *names: str, **settings: Any) -> Alerts:
    return Alerts(store, rules=[RULES[name] for name in names], clock=clock, **settings)


def over(alerts: Alerts, clock: FakeClock, seconds: float, every: float = 60) -> list[Alert]:
    """What changes within so many seconds, with a look now and then."""
    changed = alerts.check()
    for _ in range(int(seconds // every)):
        clock.advance(every)
        changed += alerts.check()
    return changed


# --- KPIs ------------------------------------------------------------------------------------------------------------


def calls(clock: FakeClock, count: int, error: str | None = None) -> list[ModelCall]:
    return [ModelCall(at=clock.now - 1 - n, model="m", error=error, usage_source="estimate") for n in range(count)]


def test_model_errors_are_an_alert_after_a_minute(store: EventStore, clock: FakeClock) -> None:
    alerts = looking(store, clock, "model-errors")
    store.write(calls(clock, 18) + calls(clock, 1, "Timeout"))
    assert over(alerts, clock, 120) == [], "of so few calls nobody can say"
    store.write(calls(clock, 1, "Timeout"))
    (raised,) = over(alerts, clock, 120)
    assert (raised.severity, raised.value, raised.subject) == ("critical", 0.1, "")
    assert raised.title == "Failed model calls: 10.0%, over 5.0%"
    store.write(calls(clock, 47))
    (cleared,) = over(alerts, clock, 0)
    assert (cleared.state, cleared.value) == ("cleared", 2 / 67)


def test_calls_that_were_broken_off_are_no_errors(memory: EventStore, clock: FakeClock) -> None:
    memory.write(calls(clock, 30) + calls(clock, 30, "StreamClosed"))
    assert over(looking(memory, clock, "model-errors"), clock, 300) == []


def test_a_part_that_fails_for_five_minutes_is_an_alert(store: EventStore, clock: FakeClock) -> None:
    alerts = looking(store, clock, "part-failing")
    changed = []
    for _ in range(8):
        store.write([Failure(at=clock.now, part="cache", error="StoreError: gone") for _ in range(3)])
        store.write([Decision(at=clock.now, part="history", action="applied") for _ in range(3)])
        clock.advance(60)
        changed += alerts.check()
    (raised,) = changed
    assert (raised.subject, raised.value, raised.raised_at - raised.since) == ("cache", 1.0, 300)
    assert raised.title == "Errors of a part (cache): 100.0%, over 50.0%"
    clock.advance(301)
    (cleared,) = alerts.check()
    assert (cleared.subject, cleared.value, cleared.state) == ("cache", None, "cleared"), "nothing is seen of it"


def test_a_rule_may_name_a_part(memory: EventStore, clock: FakeClock) -> None:
    memory.write([Failure(at=clock.now - 1, part=part, error="x") for part in ("cache", "tools")])
    rule = AlertRule(name="tools", metric="health.errors.tools", above=0.1)
    (raised,) = Alerts(memory, rules=[rule], clock=clock).check()
    assert (raised.subject, raised.title) == ("", "Errors of a part (tools): 100.0%, over 10.0%")


def looks(clock: FakeClock, hits: int, misses: int) -> list[CacheLookup]:
    return [CacheLookup(at=clock.now - 1, outcome="exact" if n < hits else "miss") for n in range(hits + misses)]


def test_the_hit_rate_is_an_alert_only_with_a_target(memory: EventStore, clock: FakeClock) -> None:
    memory.write(looks(clock, 10, 90))
    assert over(looking(memory, clock, "hit-rate"), clock, 1200) == []
    targets = {"cache.hit_rate": 0.12}
    assert over(looking(memory, clock, "hit-rate", targets=targets), clock, 1200) == [], "10 of 100 may be 12 %"
    targets = {"cache.hit_rate": 0.3}
    alerts = looking(memory, clock, "hit-rate", targets=targets)
    (raised,) = over(alerts, clock, 1200)
    assert (raised.value, raised.threshold) == (0.1, 0.3)
    memory.write(looks(clock, 31, 0))
    assert alerts.check() == [], "it is met by less than a tenth"
    memory.write(looks(clock, 10, 0))
    assert [alert.state for alert in alerts.check()] == ["cleared"]


def test_savings_that_are_negative_are_an_alert(memory: EventStore, clock: FakeClock) -> None:
    from decimal import Decimal

    memory.write(
        [Decision(at=clock.now - 1, part="tools", action="applied", saved_usd=Decimal("-0.01")) for _ in range(20)]
    )
    (raised,) = over(looking(memory, clock, "savings-negative"), clock, 600)
    assert (raised.value, raised.title) == (-0.2, "Saved, net: -$0.20, under $0.00")


AUDITS = {"audited_error": 0.05, "audited_error_low": 0.02, "audited_error_high": 0.1, "audits": 40, "max_error": 0.01}


def test_an_audited_error_above_its_bound_is_an_alert(memory: EventStore, clock: FakeClock) -> None:
    told: dict[str, Any] = {**AUDITS, "audited_error_low": 0.005}
    alerts = looking(memory, clock, "audited-error", audits=lambda: told)
    assert over(alerts, clock, 600) == [], "its interval has the bound in it"
    told.update(AUDITS)
    (raised,) = over(alerts, clock, 300)
    assert (raised.value, raised.threshold, raised.severity) == (0.05, 0.01, "critical")
    assert looking(memory, clock, "audited-error").check() == [], "who has no cache cannot say that it is over"
    told.update(audited_error=0.0095, audited_error_low=0.001)
    assert alerts.check() == []
    told["audited_error"] = 0.0089
    assert [alert.state for alert in alerts.check()] == ["cleared"]


def test_refused_calls_are_an_alert(memory: EventStore, clock: FakeClock) -> None:
    memory.write([Reservation(at=clock.now - 1, action="refused", mode="shadow")])
    alerts = looking(memory, clock, "calls-refused")
    assert alerts.check() == []
    memory.write([Reservation(at=clock.now - 1, action="refused")])
    assert [alert.state for alert in alerts.check()] == ["open"]
    clock.advance(3601)
    assert [alert.state for alert in alerts.check()] == ["cleared"]


def test_a_window_with_too_little_keeps_an_alert_that_is_open(memory: EventStore, clock: FakeClock) -> None:
    rule = AlertRule(name="errors", metric="health.model_errors", above=0.5, window_hours=1, min_count=5)
    ear = Ear()
    alerts = Alerts(memory, rules=[rule], channels=[ear], clock=clock)
    for count in (5, 1, 4, 1):
        memory.write(calls(clock, count, "Timeout"))
        alerts.check()
        clock.advance(1790)
    assert ear.changes == ["raised"]


# --- budgets ---------------------------------------------------------------------------------------------------------


def told(clock: FakeClock, share: float, **more: Any) -> LimitAlert:
    fields: dict[str, Any] = {"budget": "default", "path": "global", "per": "day", "unit": "usd", "limit": 1000}
    fields |= {"share": share, "spent": int(share * 1000), "resets_at": clock.now + 7200, **more}
    return LimitAlert(at=clock.now - 1, **fields)


def test_what_a_budget_said_of_itself_is_an_alert_until_its_period_ends(store: EventStore, clock: FakeClock) -> None:
    store.write([told(clock, 0.5), told(clock, 0.6, path="user=ann", mode="shadow"), told(clock, 0.7, limit=0)])
    alerts = looking(store, clock, "budget-use")
    (raised,) = alerts.check()
    assert (raised.subject, raised.value) == (SUBJECT, 0.5), "its owner wanted to hear of that share"
    store.write([told(clock, 0.9)])
    clock.advance(60)
    assert alerts.check() == []
    clock.advance(7200)
    assert alerts.check() == [], "nobody was asked how it is now"
    assert looking(store, clock, "budget-use", budgets=Budget(0.0)).check()[0].state == "cleared"


def test_a_limit_without_end_is_spoken_of_for_a_day(memory: EventStore, clock: FakeClock) -> None:
    memory.write([told(clock, 0.9, per="forever", resets_at=None)])
    alerts = looking(memory, clock, "budget-use")
    assert [alert.subject for alert in alerts.check()] == ["default: global per forever"]
    clock.advance(2 * 86400)
    assert [alert.state for alert in alerts.check()] == ["cleared"]


def test_what_a_budget_said_and_what_it_is_are_one_alert(memory: EventStore, clock: FakeClock) -> None:
    budget, ear = Budget(0.85), Ear()
    memory.write([told(clock, 0.8)])
    alerts = watching(memory, budget, clock, channels=[ear])
    alerts.check()
    memory.write([told(clock, 0.9)])
    budget.set(0.93)
    clock.advance(60)
    alerts.check()
    assert ear.changes == ["raised"]
    assert alerts.active()[0].value == 0.93


def test_who_only_hears_of_a_limit_leaves_it_to_who_can_ask(store: EventStore, clock: FakeClock) -> None:
    budget, ear = Budget(0.9), Ear()
    store.write([told(clock, 0.85)])
    asking = watching(store, budget, clock, channels=[ear])
    hearing = Alerts(store, rules=asking.rules, channels=[ear], clock=clock)
    for share in (0.9, 0.91, 0.92):
        budget.set(share)
        asking.check()
        hearing.check()
        assert asking.active()[0].value == share
        clock.advance(61)
    budget.set(0.3)
    assert [alert.state for alert in asking.check()] == ["cleared"]
    for _ in range(3):
        clock.advance(61)
        assert hearing.check() == asking.check() == []
    assert ear.changes == ["raised", "cleared"]
    store.write([told(clock, 0.95)])
    assert [alert.value for alert in hearing.check()] == [0.95], "that is news"


def test_what_was_heard_stands_as_long_as_its_period(memory: EventStore, clock: FakeClock) -> None:
    memory.write([told(clock, 0.9, per="month", resets_at=clock.now + 10 * 86400)])
    alerts = looking(memory, clock, "budget-use")
    changed = over(alerts, clock, 10 * 86400 - 1800, every=1800)
    assert [alert.state for alert in changed] == ["open"]
    assert [alert.state for alert in over(alerts, clock, 2 * 86400, every=1800)] == ["cleared"]


def test_a_share_below_the_rule_is_an_alert_where_the_budget_tells_it(memory: EventStore, clock: FakeClock) -> None:
    budget = Budget(0.55)
    alerts = watching(memory, budget, clock)
    assert alerts.check() == []
    memory.write([told(clock, 0.5)])
    clock.advance(1)
    assert [alert.value for alert in alerts.check()] == [0.55]
    budget.set(0.4)
    clock.advance(1)
    assert [alert.state for alert in alerts.check()] == ["cleared"], "what was held was given back"


def test_the_runs_of_one_limit_are_one_alert(memory: EventStore, clock: FakeClock) -> None:
    nodes = [{"node": "agent=a", "per": "run", "scope": f"r{n}", "share": n / 10} for n in range(10)]
    alerts = watching(memory, lambda: {"nodes": nodes}, clock)  # type: ignore[arg-type]
    assert [(alert.subject, alert.value) for alert in alerts.check()] == [("default: agent=a per run", 0.9)]


def test_several_budgets_are_told_apart(memory: EventStore, clock: FakeClock) -> None:
    both = [Budget(0.9)(), Budget(0.95, name="second")()]
    alerts = watching(memory, lambda: both, clock)  # type: ignore[arg-type]
    assert {alert.title for alert in alerts.check()} == {
        "Budget use (global per day): 90.0%, over 80.0%",
        "Budget use (global per day (budget second)): 95.0%, over 80.0%",
    }


@pytest.mark.parametrize("broken", [lambda: 1 / 0, lambda: 3, lambda: {"nodes": [3]}, lambda: [None]])
def test_a_budget_that_cannot_be_asked_changes_nothing(
    memory: EventStore, clock: FakeClock, broken: Any, caplog: pytest.LogCaptureFixture
) -> None:
    watching(memory, Budget(0.9), clock).check()
    alerts = watching(memory, broken, clock)
    for _ in range(3):
        clock.advance(60)
        assert alerts.check() == []
    assert len(alerts.active()) == 1
    assert len(caplog.records) == 1
    assert "alerts go on without budgets" in caplog.text


# --- forecasts -------------------------------------------------------------------------------------------------------


@dataclass
class Forecast:
    expected: int
    limit: int | None


def test_a_forecast_over_the_limit_is_an_alert(memory: EventStore, clock: FakeClock) -> None:
    asked = []

    def forecast(node: str) -> Forecast:
        asked.append(node)
        return Forecast(1200, 1000)

    alerts = looking(memory, clock, "budget-forecast", budgets=Budget(0.3), forecasts=forecast)
    (raised,) = over(alerts, clock, 660)
    assert (raised.subject, raised.value) == ("global", 1.2)
    assert raised.title == "Forecast of a budget (global): 120.0%, over 100.0%"
    assert asked == ["global", "global"], "it is made anew every ten minutes"


@pytest.mark.parametrize(
    "forecast",
    [
        None,
        Forecast(5, None),
        Forecast(5, 0),
        {"expected": "x", "limit": 1},
        {"limit": float("nan")},
        {"expected": 1200, "limit": 1000, "method": "mean_rate"},  # a guess
    ],
)
def test_a_forecast_that_says_nothing(memory: EventStore, clock: FakeClock, forecast: Any) -> None:
    alerts = looking(memory, clock, "budget-forecast", budgets=Budget(0.3), forecasts=lambda _: forecast)
    assert over(alerts, clock, 660) == []


def test_forecasts_that_fail_are_said_once(
    memory: EventStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    def forecast(_: str) -> Any:
        msg = "locked"
        raise StoreError(msg)

    alerts = looking(memory, clock, "budget-forecast", budgets=Budget(0.3), forecasts=forecast)
    assert over(alerts, clock, 3600) == []
    assert [record.getMessage() for record in caplog.records] == [
        "alerts go on without forecasts: cannot be read: locked"
    ]


# --- lost events -----------------------------------------------------------------------------------------------------


def test_lost_events_are_an_alert_for_an_hour(memory: EventStore, clock: FakeClock) -> None:
    status: dict[str, Any] = {"dropped": 0, "last_error": None}
    alerts = looking(memory, clock, "events-dropped", health=lambda: status)
    assert alerts.check() == []
    status.update(dropped=7, last_error="disk is full")
    clock.advance(60)
    (raised,) = alerts.check()
    assert raised.value == 7
    assert raised.subject.startswith("process ")
    assert "disk is full" in raised.detail
    status.update(dropped=9)
    clock.advance(1800)
    assert alerts.check() == []
    assert alerts.active()[0].value == 9
    clock.advance(1900)
    alerts.check()
    assert alerts.active()[0].value == 2, "seven were lost more than an hour ago"
    clock.advance(1800)
    assert [alert.state for alert in alerts.check()] == ["cleared"]


def test_a_count_that_begins_anew_is_not_negative(memory: EventStore, clock: FakeClock) -> None:
    status: dict[str, Any] = {"dropped": 7}
    alerts = looking(memory, clock, "events-dropped", health=lambda: status)
    assert [alert.value for alert in alerts.check()] == [7]
    status["dropped"] = 2
    clock.advance(1)
    alerts.check()
    assert alerts.active()[0].value == 2
