"""`Telemetry` as a sink: it takes events, keeps them, and never gets in the way."""

from __future__ import annotations

import gc
import logging
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError, StoreError
from langchain_tokopt.events import Event, Failure, ModelCall, Sink, Who
from langchain_tokopt.pricing import Pricing
from langchain_tokopt.telemetry import Telemetry
from langchain_tokopt.telemetry.store import EventStore
from langchain_tokopt.tokens import TokenCounter
from tests.fakes import FakeClock, ai

NOW = 1_800_000_000.0


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry(flush_seconds=3600, clock=FakeClock(NOW))


def broken_database(tmp_path: Path) -> Database:
    """A database that opens, and whose tables are of a version that this package does not know."""
    database = Database(tmp_path / "newer.db")
    EventStore(database).write([])
    with database.write() as connection:
        connection.execute(text("UPDATE tokopt_schema SET version = 99"))
    return database


def test_it_is_a_sink_and_gives_back_what_it_took(telemetry: Telemetry) -> None:
    assert isinstance(telemetry, Sink)
    events: list[Event] = [ModelCall(at=NOW - 2, cost_usd=Decimal("0.5")), Failure(at=NOW - 1, part="tools", error="x")]
    for event in events:
        telemetry.emit(event)
    assert list(telemetry.events()) == events


def test_events_are_chosen_by_kind_hours_and_thread(telemetry: Telemetry) -> None:
    old = ModelCall(at=NOW - 7200, who=Who(thread="a"))
    new = ModelCall(at=NOW - 60, who=Who(thread="b"))
    failure = Failure(at=NOW - 30, part="x", error="y", who=Who(thread="b"))
    for event in (old, new, failure):
        telemetry.emit(event)
    assert list(telemetry.events(ModelCall)) == [old, new]
    assert list(telemetry.events(Event)) == [old, new, failure]
    assert list(telemetry.events("Failure")) == [failure]
    assert list(telemetry.events(hours=1)) == [new, failure]
    assert list(telemetry.events(ModelCall, thread="b")) == [new]


def test_status_says_how_the_writing_is(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    telemetry = Telemetry(database=database, flush_seconds=3600, max_queue=2)
    for _ in range(3):
        telemetry.emit(ModelCall())
    assert telemetry.status() == {
        "queued": 2,
        "written": 0,
        "dropped": 1,
        "database": f"sqlite:///{tmp_path / 'x.db'}",
        "last_error": None,
    }
    telemetry.close()
    assert (telemetry.status()["queued"], telemetry.status()["written"]) == (0, 2)
    database.close()


def test_after_close_it_can_still_be_read(telemetry: Telemetry) -> None:
    telemetry.emit(ModelCall(at=NOW))
    telemetry.close()
    telemetry.close()
    telemetry.emit(ModelCall(at=NOW))
    assert telemetry.report().measured.calls + len(list(telemetry.events())) == 1
    assert telemetry.status()["dropped"] == 1


def test_what_was_given_wins_over_what_is_attached(tmp_path: Path) -> None:
    given, other = Database(tmp_path / "given.db"), Database(tmp_path / "other.db")
    pricing, counter = Pricing(), TokenCounter()
    telemetry = Telemetry(database=given, pricing=pricing)
    assert telemetry.attach(database=other, pricing=Pricing(), counter=counter) is telemetry
    assert telemetry.attach(counter=TokenCounter()) is telemetry
    assert telemetry.pricing is pricing
    assert telemetry.counter is counter
    assert telemetry.status()["database"] == given.url
    telemetry.close()
    given.close()
    other.close()


def test_a_database_can_be_attached_before_the_first_write(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    telemetry = Telemetry().attach(database=database)
    telemetry.emit(ModelCall(at=1.0))
    telemetry.close()
    assert [event.at for event in EventStore(database).events()] == [1.0]
    database.close()


def test_pricing_and_counter_are_there_without_being_given(telemetry: Telemetry) -> None:
    assert telemetry.pricing is telemetry.pricing
    assert telemetry.counter is telemetry.counter


def test_memory_keeps_the_newest_and_the_report_says_so() -> None:
    telemetry = Telemetry(max_rows_in_memory=50, clock=FakeClock(NOW))
    for n in range(200):
        telemetry.emit(ModelCall(at=NOW - 200 + n))
        telemetry.flush()
    left = [event.at for event in telemetry.events()]
    assert left == [NOW - len(left) + n for n in range(len(left))]
    assert 50 <= len(left) <= 56
    assert "Only the newest events are kept in memory: give a database file to keep all." in telemetry.report().findings
    telemetry.close()


def test_a_file_keeps_all(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    telemetry = Telemetry(database=database, max_rows_in_memory=5)
    for _ in range(50):
        telemetry.emit(ModelCall())
        telemetry.flush()
    assert len(list(telemetry.events())) == 50
    telemetry.close()
    database.close()


def test_with_a_broken_database_it_goes_on_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = broken_database(tmp_path)
    telemetry = Telemetry(database=database, flush_seconds=3600, clock=FakeClock(NOW))
    with caplog.at_level(logging.WARNING, "langchain_tokopt"):
        for _ in range(3):
            telemetry.emit(ModelCall(at=NOW, usage_source="provider", cost_usd=Decimal("0.1")))
            assert not telemetry.flush()
        report = telemetry.report()
    assert len(caplog.records) == 1
    assert report.measured.calls == 3
    assert report.measured.cost_usd == Decimal("0.3")
    assert report.findings[0].startswith("This covers only the 3 events in memory, because of this: ")
    assert "upgrade the package" in str(telemetry.status()["last_error"])
    with pytest.raises(StoreError, match="upgrade the package"):
        list(telemetry.events())
    telemetry.close()
    database.close()


def test_a_closed_database_does_not_reach_the_agent(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    telemetry = Telemetry(database=database, flush_seconds=3600)
    telemetry.emit(ModelCall())
    telemetry.flush()
    database.close()
    telemetry.emit(ModelCall())
    assert not telemetry.flush()
    assert telemetry.report().events == 1
    telemetry.close()
    assert telemetry.status()["queued"] == 1


def test_dropped_events_are_said_in_the_report() -> None:
    telemetry = Telemetry(max_queue=1, flush_seconds=3600)
    telemetry.emit(ModelCall())
    telemetry.emit(ModelCall())
    assert telemetry.report().findings[0] == "1 events were dropped by this process and are not in these figures."
    telemetry.close()


def test_many_threads_may_emit_and_report_at_once(telemetry: Telemetry) -> None:
    def work(n: int) -> None:
        for _ in range(50):
            telemetry.emit(ModelCall(at=NOW, usage_source="provider"))
        if n % 4 == 0:
            telemetry.report()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert telemetry.report().measured.calls == 400
    telemetry.close()


def test_a_telemetry_that_is_dropped_writes_what_it_holds(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    telemetry = Telemetry(database=database, flush_seconds=3600)
    telemetry.emit(ModelCall(at=7.0))
    del telemetry
    gc.collect()
    assert [event.at for event in EventStore(database).events()] == [7.0]
    database.close()


def test_first_sight_is_true_once(telemetry: Telemetry) -> None:
    message = ai("x")
    assert [telemetry.first_sight(message), telemetry.first_sight(message)] == [True, False]


@pytest.mark.parametrize("hours", [0, -1, float("nan"), float("inf"), True, "24"])
def test_hours_that_are_no_span_are_refused(telemetry: Telemetry, hours: Any) -> None:
    with pytest.raises(ConfigurationError, match="hours"):
        telemetry.report(hours)
    with pytest.raises(ConfigurationError, match="hours"):
        telemetry.events(hours=hours)


@pytest.mark.parametrize(
    "settings",
    [{"flush_seconds": 0}, {"flush_seconds": float("inf")}, {"max_queue": 0}, {"max_rows_in_memory": 0}],
)
def test_settings_that_cannot_work_are_refused_at_once(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        Telemetry(**settings)
