"""Who hears of alerts, and who takes them up."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import Event
from langchain_tokopt.telemetry.alerts import AlertRule, Alerts, CallbackChannel, LogChannel
from langchain_tokopt.telemetry.alerts.table import TABLE
from langchain_tokopt.telemetry.rows import StoredEvent
from langchain_tokopt.telemetry.store import EventStore
from tests.fakes import FakeClock
from tests.telemetry.alerts.watched import SUBJECT, USE, Budget, Ear, watching


@pytest.fixture
def store(database: Database) -> EventStore:
    return EventStore(database)


@pytest.fixture
def memory() -> Iterator[EventStore]:
    database = Database()
    yield EventStore(database)
    database.close()


START = FakeClock().now


# --- taking up -------------------------------------------------------------------------------------------------------


REPEATED = AlertRule(name="use", metric="budget.use", above=0.8, clear_at=0.7, repeat_seconds=600)


def test_an_alert_is_told_again_until_somebody_takes_it_up(store: EventStore, clock: FakeClock) -> None:
    budget, ear = Budget(0.9), Ear()
    alerts = watching(store, budget, clock, REPEATED, channels=[ear])
    (raised,) = alerts.check()
    for _ in range(20):
        clock.advance(60)
        assert alerts.check() == []
    assert ear.changes == ["raised", "reminded", "reminded"]
    taken = alerts.acknowledge(raised.id, "ann", "on it")
    assert (taken.state, taken.acknowledged_by, taken.acknowledged_at, taken.note) == (
        "acknowledged",
        "ann",
        clock.now,
        "on it",
    )
    assert alerts.active() == [taken]
    for _ in range(60):
        clock.advance(60)
        budget.set(0.99)
        assert alerts.check() == []
    assert ear.changes == ["raised", "reminded", "reminded"]
    budget.set(0.1)
    clock.advance(60)
    (cleared,) = alerts.check()
    assert (cleared.state, cleared.acknowledged_by) == ("cleared", "ann")
    assert ear.changes[3:] == ["cleared"]
    budget.set(0.9)
    clock.advance(60)
    (again,) = alerts.check()
    assert (again.id != raised.id, again.state) == (True, "open"), "what was taken up is over"


def test_the_first_digits_of_an_id_are_enough(memory: EventStore, clock: FakeClock) -> None:
    budget = Budget(0.9)
    alerts = watching(memory, budget, clock)
    (raised,) = alerts.check()
    assert alerts.acknowledge(raised.id[:6].upper(), "ann").id == raised.id
    assert alerts.acknowledge(raised.id, "bob").acknowledged_by == "bob"


@pytest.mark.parametrize(
    ("given", "by", "note", "said"),
    [
        ("abcdef", "ann", None, "there is no alert with this id"),
        ("abc", "ann", None, "its first digits, 6 or more"),
        ("%%%%%%", "ann", None, "its first digits, 6 or more"),
        (None, "ann", None, "its first digits, 6 or more"),
        ("abcdef", " ", None, "say who takes the alert up"),
        ("abcdef", None, None, "say who takes the alert up"),
        ("abcdef", "ann", 3, "give a text, or None"),
    ],
)
def test_what_cannot_be_taken_up(
    memory: EventStore, clock: FakeClock, given: Any, by: Any, note: Any, said: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        watching(memory, Budget(), clock).acknowledge(given, by, note)
    assert said in str(raised.value)


def test_an_alert_that_is_over_or_not_yet_raised_cannot_be_taken_up(memory: EventStore, clock: FakeClock) -> None:
    budget = Budget(0.9)
    alerts = watching(
        memory, budget, clock, USE, AlertRule(name="later", metric="budget.use", above=0.8, for_seconds=9)
    )
    (raised,) = alerts.check()
    with memory.database.read() as connection:
        ids = {row[0] for row in connection.exec_driver_sql(f"SELECT id FROM {TABLE}")}
    (pending,) = ids - {raised.id}
    with pytest.raises(ConfigurationError, match="there is no alert"):
        alerts.acknowledge(pending, "ann")
    budget.set(0.1)
    clock.advance(1)
    alerts.check()
    with pytest.raises(ConfigurationError, match="this alert is over"):
        alerts.acknowledge(raised.id, "ann")


def test_two_ids_that_begin_alike_need_more_digits(memory: EventStore, clock: FakeClock) -> None:
    budget = Budget(0.9)
    budget.set(0.9, "user=ann")
    alerts = watching(memory, budget, clock)
    one, other = (alert.id for alert in alerts.check())
    with memory.database.write() as connection:
        for old, new in ((one, "abcdef01" + one[8:]), (other, "abcdef02" + other[8:])):
            connection.exec_driver_sql(f"UPDATE {TABLE} SET id = '{new}' WHERE id = '{old}'")
    with pytest.raises(ConfigurationError, match="several alerts begin so"):
        alerts.acknowledge("abcdef", "ann")
    assert alerts.acknowledge("abcdef01", "ann").acknowledged_by == "ann"


# --- telling ---------------------------------------------------------------------------------------------------------


def test_what_a_process_without_channels_has_changed_is_told_by_the_next(store: EventStore, clock: FakeClock) -> None:
    budget, ear, other = Budget(0.9), Ear(), Ear()
    silent = watching(store, budget, clock, REPEATED)
    telling = [watching(store, budget, clock, REPEATED, channels=[each]) for each in (ear, other)]
    assert [alert.state for alert in silent.check()] == ["open"]
    assert silent.check() == []
    for alerts in telling:
        clock.advance(1)
        assert alerts.check() == [], "it was not they who raised it"
    assert (ear.changes, other.changes) == (["raised"], [])
    clock.advance(700)
    assert silent.check() == [], "who cannot remind anybody leaves that to others"
    telling[1].check()
    assert other.changes == ["reminded"]
    budget.set(0.1)
    clock.advance(1)
    assert [alert.state for alert in silent.check()] == ["cleared"]
    budget.set(0.9)
    clock.advance(1)
    (again,) = telling[1].check()
    assert other.changes == ["reminded", "cleared", "raised"]
    assert [notice.alert.id == again.id for notice in other.notices] == [False, False, True]
    telling[0].check()
    assert ear.changes == ["raised"]


def test_what_came_and_went_without_anybody_to_tell_is_not_told(memory: EventStore, clock: FakeClock) -> None:
    budget, ear = Budget(0.9), Ear()
    silent = watching(memory, budget, clock)
    silent.check()
    budget.set(0.1)
    clock.advance(1)
    silent.check()
    clock.advance(1)
    assert watching(memory, budget, clock, channels=[ear]).check() == []
    assert ear.changes == []
    assert len(silent.history()) == 1


def test_a_channel_that_fails_keeps_nobody_from_hearing(
    memory: EventStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object) -> None:
        msg = "gone"
        raise OSError(msg)

    budget, ear, heard = Budget(0.9), Ear(), list[Any]()
    alerts = watching(memory, budget, clock, channels=[CallbackChannel(broken), ear, CallbackChannel(heard.append)])
    for share in (0.9, 0.1, 0.9, 0.1):
        budget.set(share)
        alerts.check()
        clock.advance(1)
    assert ear.changes == ["raised", "cleared"] * 2
    assert [notice.change for notice in heard] == ear.changes
    assert [record.getMessage() for record in caplog.records] == [
        "CallbackChannel could not tell an alert: OSError: gone"
    ]


def test_a_change_is_an_event_that_can_be_stored(store: EventStore, clock: FakeClock) -> None:
    class Storing:
        def emit(self, event: Event) -> None:
            store.write([event])

    budget = Budget(0.9)
    alerts = watching(store, budget, clock, sink=Storing())
    (raised,) = alerts.check()
    budget.set(0.1)
    clock.advance(1)
    alerts.check()
    one, other = store.events(kind="AlertChanged")
    assert isinstance(one, StoredEvent)
    assert isinstance(other, StoredEvent)
    assert one.fields == {
        "alert": raised.id,
        "rule": "use",
        "subject": SUBJECT,
        "severity": "warning",
        "change": "raised",
        "title": raised.title,
        "value": 0.9,
        "threshold": 0.8,
    }
    assert (one.at, other.at, other.fields["change"]) == (START, START + 1, "cleared")


def test_the_log_has_the_severity_as_level(
    memory: EventStore, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    budget = Budget(0.9)
    rules = [
        AlertRule(name=severity, metric="budget.use", above=0.8, severity=severity)  # type: ignore[arg-type]
        for severity in ("info", "warning", "critical")
    ]
    alerts = watching(memory, budget, clock, *rules, channels=[LogChannel()])
    with caplog.at_level(logging.INFO, "langchain_tokopt"):
        alerts.check()
        assert sorted(record.levelname for record in caplog.records) == ["ERROR", "INFO", "WARNING"]
        caplog.clear()
        budget.set(0.1)
        clock.advance(1)
        alerts.check()
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert all("cleared: Budget use (global per day)" in record.getMessage() for record in caplog.records)


# --- what is given ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"rules": [USE, USE]}, "rules"),
        ({"rules": USE}, "rules"),
        ({"rules": ["use"]}, "rules"),
        ({"rules": None}, "rules"),
        ({"channels": [3]}, "channels"),
        ({"channels": Ear}, "channels"),
        ({"channels": [Ear]}, "channels"),
        ({"channels": Ear()}, "channels"),
        ({"budgets": {}}, "budgets"),
        ({"forecasts": 3}, "forecasts"),
        ({"audits": {}}, "audits"),
        ({"health": {}}, "health"),
        ({"targets": {"x": 1}}, "targets"),
    ],
)
def test_settings_that_cannot_work(memory: EventStore, settings: Any, argument: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Alerts(memory, **settings)
    assert raised.value.argument == argument


def test_a_callback_has_to_be_one() -> None:
    with pytest.raises(ConfigurationError, match="call="):
        CallbackChannel(3)  # type: ignore[arg-type]
