"""Alerts that are raised once and cleared once, kept, and seen by clocks that differ."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError, StoreError
from langchain_tokopt.telemetry.alerts import AlertChanged, AlertRule, LogChannel
from langchain_tokopt.telemetry.alerts.conditions import MOST_AT_ONCE
from langchain_tokopt.telemetry.store import EventStore
from tests.fakes import FakeClock, ListSink
from tests.telemetry.alerts.watched import SUBJECT, Budget, Ear, watching


@pytest.fixture
def store(database: Database) -> EventStore:
    return EventStore(database)


@pytest.fixture
def memory() -> Iterator[EventStore]:
    database = Database()
    yield EventStore(database)
    database.close()


START = FakeClock().now


def test_an_alert_is_raised_once_and_cleared_once(store: EventStore, clock: FakeClock) -> None:
    budget, ear, sink = Budget(0.5), Ear(), ListSink()
    alerts = watching(store, budget, clock, channels=[ear], sink=sink)
    assert alerts.check() == []
    budget.set(0.9)
    clock.advance(10)
    (raised,) = alerts.check()
    assert (raised.rule, raised.metric, raised.subject, raised.severity) == ("use", "budget.use", SUBJECT, "warning")
    assert (raised.value, raised.threshold, raised.peak, raised.state) == (0.9, 0.8, 0.9, "open")
    assert (raised.since, raised.raised_at, raised.seen_at) == (START + 10, START + 10, START + 10)
    assert raised.title == "Budget use (global per day): 90.0%, over 80.0%"
    budget.set(0.95)
    clock.advance(10)
    assert alerts.check() == []
    budget.set(0.85)
    clock.advance(10)
    assert alerts.check() == []
    (standing,) = alerts.active()
    assert (standing.id, standing.value, standing.peak, standing.seen_at) == (raised.id, 0.85, 0.95, START + 30)
    budget.set(0.6)
    clock.advance(10)
    (cleared,) = alerts.check()
    assert (cleared.id, cleared.state, cleared.cleared_at, cleared.value, cleared.peak) == (
        raised.id,
        "cleared",
        START + 40,
        0.6,
        0.95,
    )
    assert cleared.title == "Budget use (global per day): 60.0%, no longer over 80.0%"
    assert alerts.active() == []
    assert alerts.history() == [cleared]
    assert ear.heard == [("raised", SUBJECT), ("cleared", SUBJECT)]
    assert [(each.change, each.alert, each.at) for each in sink.of(AlertChanged)] == [
        ("raised", raised.id, START + 10),
        ("cleared", raised.id, START + 40),
    ]


def test_a_condition_has_to_hold_for_long_enough(store: EventStore, clock: FakeClock) -> None:
    budget = Budget(0.9)
    alerts = watching(store, budget, clock, AlertRule(name="use", metric="budget.use", above=0.8, for_seconds=300))
    for _ in range(5):
        assert alerts.check() == []
        clock.advance(60)
    assert alerts.active() == alerts.history() == []
    (raised,) = alerts.check()
    assert (raised.since, raised.raised_at) == (START, START + 300)


def test_a_condition_that_is_over_too_soon_is_forgotten(store: EventStore, clock: FakeClock) -> None:
    budget = Budget(0.9)
    alerts = watching(store, budget, clock, AlertRule(name="use", metric="budget.use", above=0.8, for_seconds=300))
    for share in (0.9, 0.9, 0.7, 0.9, 0.9, 0.9, 0.9, 0.9):
        budget.set(share)
        assert alerts.check() == []
        clock.advance(60)
    assert len(alerts.check()) == 1
    assert alerts.active()[0].since == START + 180


def test_a_value_that_jitters_about_the_threshold_raises_one_alert(store: EventStore, clock: FakeClock) -> None:
    budget, ear = Budget(), Ear()
    alerts = watching(store, budget, clock, channels=[ear])
    for step in range(100):
        budget.set(0.8 + (0.01 if step % 2 else -0.01))
        alerts.check()
        clock.advance(30)
    assert ear.changes == ["raised"]
    budget.set(0.7)
    alerts.check()
    assert ear.changes == ["raised", "cleared"]


def test_a_value_that_jitters_about_both_levels_waits_each_time(memory: EventStore, clock: FakeClock) -> None:
    budget, ear = Budget(), Ear()
    rule = AlertRule(name="use", metric="budget.use", above=0.8, clear_at=0.7, for_seconds=120)
    alerts = watching(memory, budget, clock, rule, channels=[ear])
    for step in range(100):
        budget.set(0.9 if step % 2 else 0.6)
        alerts.check()
        clock.advance(60)
    assert ear.changes == []


def test_a_rule_for_values_below(memory: EventStore, clock: FakeClock) -> None:
    budget = Budget(0.1)
    rule = AlertRule(name="idle", metric="budget.use", below=0.2, clear_at=0.3, severity="info")
    alerts = watching(memory, budget, clock, rule)
    (raised,) = alerts.check()
    assert raised.title == "Budget use (global per day): 10.0%, under 20.0%"
    for share, peak in ((0.05, 0.05), (0.25, 0.05)):
        budget.set(share)
        clock.advance(1)
        assert alerts.check() == []
        assert alerts.active()[0].peak == peak
    budget.set(0.3)
    clock.advance(1)
    assert len(alerts.check()) == 1


def test_subjects_have_alerts_of_their_own(memory: EventStore, clock: FakeClock) -> None:
    budget, ear = Budget(0.9), Ear()
    budget.set(0.95, "user=ann")
    budget.set(0.1, "user=bob")
    alerts = watching(memory, budget, clock, channels=[ear])
    assert {alert.subject for alert in alerts.check()} == {SUBJECT, "default: user=ann per day"}
    budget.set(0.2, "user=ann")
    clock.advance(1)
    assert [alert.subject for alert in alerts.check()] == ["default: user=ann per day"]


def test_a_limit_that_was_dropped_clears_its_alert(memory: EventStore, clock: FakeClock) -> None:
    budget = Budget(0.9)
    alerts = watching(memory, budget, clock)
    alerts.check()
    budget.shares.clear()
    budget.complete = False
    clock.advance(60)
    assert alerts.check() == [], "the budget does not show all of its limits"
    budget.complete = True
    (cleared,) = alerts.check()
    assert (cleared.value, cleared.state) == (None, "cleared")


def test_a_budget_that_another_process_has_is_left_to_it(memory: EventStore, clock: FakeClock) -> None:
    ours, theirs = Budget(0.9), Budget(0.95, name="theirs")
    watching(memory, ours, clock).check()
    other = watching(memory, theirs, clock)
    clock.advance(3600)
    assert [alert.subject for alert in other.check()] == ["theirs: global per day"]
    assert len(other.active()) == 2
    clock.advance(24 * 3600 + 1)
    assert [(alert.subject, alert.state) for alert in other.check()] == [(SUBJECT, "cleared")], "nobody looks any more"


def test_of_very_many_subjects_the_worst_are_alerts(memory: EventStore, clock: FakeClock) -> None:
    budget = Budget(None)
    for n in range(MOST_AT_ONCE + 50):
        budget.set(0.81 + n / 10_000, f"user={n}")
    alerts = watching(memory, budget, clock)
    raised = alerts.check()
    assert len(raised) == MOST_AT_ONCE
    assert min(alert.value or 0 for alert in raised) == pytest.approx(0.815)
    clock.advance(60)
    assert alerts.check() == [], "none comes and goes because others are worse"


# --- keeping ---------------------------------------------------------------------------------------------------------


def test_history_has_the_newest_first_and_forgets_after_90_days(store: EventStore, clock: FakeClock) -> None:
    budget = Budget()
    alerts = watching(store, budget, clock)
    for share in (0.9, 0.1) * 3:
        budget.set(share)
        alerts.check()
        clock.advance(3600)
    found = alerts.history()
    assert [alert.raised_at for alert in found] == [START + 4 * 3600, START + 2 * 3600, START]
    assert alerts.history(limit=1) == found[:1]
    assert alerts.history(since=START + 3 * 3600) == found[:2], "the second was over just then"
    clock.advance(89 * 86400)
    budget.set(0.9)
    alerts.check()
    clock.advance(86400)
    budget.set(0.1)
    alerts.check()
    assert len(alerts.history()) == 1


@pytest.mark.parametrize(
    "settings", [{"limit": 0}, {"limit": True}, {"limit": 1.5}, {"since": "x"}, {"since": float("inf")}]
)
def test_history_that_cannot_be_given(memory: EventStore, clock: FakeClock, settings: Any) -> None:
    with pytest.raises(ConfigurationError):
        watching(memory, Budget(), clock).history(**settings)


def test_a_look_that_changes_nothing_writes_nothing(tmp_path: Path, clock: FakeClock) -> None:
    database = Database(tmp_path / "tokopt.db")
    budget = Budget(0.9)
    alerts = watching(EventStore(database), budget, clock)
    alerts.check()
    with database.read() as connection:
        before = connection.exec_driver_sql("PRAGMA data_version").scalar()
    other = Database(tmp_path / "tokopt.db")
    with other.read() as connection:
        seen = connection.exec_driver_sql("PRAGMA data_version").scalar()
    clock.advance(30)
    alerts.check()
    with other.read() as connection:
        assert connection.exec_driver_sql("PRAGMA data_version").scalar() == seen
    assert before is not None
    clock.advance(31)
    alerts.check()
    assert alerts.active()[0].seen_at == START + 61, "that it was looked at is noted once a minute"
    other.close()
    database.close()


def test_hostile_names_are_kept_as_data(store: EventStore, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    name = "a\0b\ud800\u202e<script>alert(1)</script>\x1b[31m" + "y" * 5000
    budget = Budget(0.9, node=name)
    alerts = watching(store, budget, clock, channels=[LogChannel()])
    with caplog.at_level(logging.INFO, "langchain_tokopt"):
        (raised,) = alerts.check()
    (record,) = caplog.records
    assert record.getMessage().isprintable()
    assert len(record.getMessage()) < 600
    json.dumps(raised.as_json()).encode()
    clock.advance(1)
    assert alerts.check() == [], "the same subject, however it is stored"
    budget.set(0.1, name)
    clock.advance(1)
    assert [alert.state for alert in alerts.check()] == ["cleared"]
    taken = Budget(0.9)
    again = watching(store, taken, clock)
    (raised,) = again.check()
    assert again.acknowledge(raised.id, "a\0nn\ud800", "\0" * 5000).note == "\ufffd" * 2000


def test_a_database_that_fails_is_said_and_nothing_is_changed(memory: EventStore, clock: FakeClock) -> None:
    ear = Ear()
    alerts = watching(memory, Budget(0.9), clock, channels=[ear])
    memory.database.close()
    with pytest.raises(StoreError):
        alerts.check()
    assert ear.changes == []


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path, clock: FakeClock) -> None:
    database = Database(tmp_path / "tokopt.db")
    alerts = watching(EventStore(database), Budget(0.9), clock)
    alerts.check()
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE tokopt_schema SET version = 99 WHERE component = 'alerts'")
    with pytest.raises(StoreError, match="upgrade the package"):
        watching(EventStore(database), Budget(0.9), clock).check()
    database.close()


# --- clocks ----------------------------------------------------------------------------------------------------------


def test_what_was_seen_later_is_not_undone(memory: EventStore, clock: FakeClock) -> None:
    late = FakeClock(clock.now - 5)
    ours, theirs = Budget(0.1), Budget(0.9)
    watching(memory, theirs, FakeClock(clock.now - 10)).check()
    (cleared,) = watching(memory, ours, clock).check()
    assert cleared.state == "cleared"
    assert watching(memory, theirs, late).check() == [], "this was seen before it was over"
    late.advance(10)
    assert len(watching(memory, theirs, late).check()) == 1


def test_what_was_seen_earlier_does_not_end_what_was_raised_since(memory: EventStore, clock: FakeClock) -> None:
    behind = FakeClock(clock.now - 5)
    watching(memory, Budget(0.9), clock).check()
    other = watching(memory, Budget(0.1), behind)
    assert other.check() == []
    behind.advance(5)
    assert [alert.state for alert in other.check()] == ["cleared"]


def test_a_clock_that_is_far_ahead_does_not_stop_the_others(memory: EventStore, clock: FakeClock) -> None:
    ahead = FakeClock(clock.now + 30 * 86400)
    (raised,) = watching(memory, Budget(0.9), ahead).check()
    (cleared,) = watching(memory, Budget(0.1), clock).check()
    assert cleared.id == raised.id


def test_what_a_clock_far_ahead_began_begins_anew(memory: EventStore, clock: FakeClock) -> None:
    rule = AlertRule(name="use", metric="budget.use", above=0.8, for_seconds=60)
    ahead, budget = FakeClock(clock.now + 30 * 86400), Budget(0.9)
    watching(memory, budget, ahead, rule).check()
    alerts = watching(memory, budget, clock, rule)
    changed = []
    for _ in range(4):
        changed += alerts.check()
        clock.advance(30)
    assert [alert.since for alert in changed] == [START + 30]
    budget.set(0.1)
    ahead.advance(60)
    watching(memory, budget, ahead, rule).check()
    budget.set(0.9)
    for _ in range(3):
        changed += alerts.check()
        clock.advance(30)
    assert len(changed) == 2
