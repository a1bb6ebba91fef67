"""The table of events, on every kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import text

from langchain_tokopt.database import Database
from langchain_tokopt.errors import StoreError
from langchain_tokopt.events import CacheLookup, Decision, Event, Failure, ModelCall, Who
from langchain_tokopt.telemetry.store import EventStore
from tests.databases import KINDS, database_url


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    with database_url(request.param, tmp_path) as url:
        database = Database(url)
        yield EventStore(database)
        database.close()


def test_events_come_back_oldest_first(store: EventStore) -> None:
    events: list[Event] = [
        ModelCall(at=3.0, model="m", cost_usd=Decimal("0.5"), usage=None, error="naïve ☃ \U0001f600"),
        CacheLookup(at=1.0, outcome="exact", similarity=1.0),
        Decision(at=2.0, part="tools", action="skipped", detail={"why": ["x"]}),
    ]
    store.write(events)
    assert list(store.events()) == [events[1], events[2], events[0]]


def test_nothing_is_read_from_an_empty_store(store: EventStore) -> None:
    assert list(store.events()) == []
    store.write([])
    assert list(store.events()) == []


def test_events_are_chosen_by_kind_time_and_thread(store: EventStore) -> None:
    events: list[Event] = [
        ModelCall(at=10.0, who=Who(thread="a")),
        ModelCall(at=20.0, who=Who(thread="b")),
        Failure(at=20.0, part="x", error="y", who=Who(thread="a")),
    ]
    store.write(events)
    assert list(store.events(kind="ModelCall")) == events[:2]
    assert list(store.events(since=20.0)) == events[1:]
    assert list(store.events(thread="a")) == [events[0], events[2]]
    assert list(store.events(kind="ModelCall", since=15.0, thread="b")) == [events[1]]


def test_many_pages_of_one_thread_are_read_once_each_in_order(store: EventStore) -> None:
    store.write([Failure(at=float(n // 3), part=str(n), error="x", who=Who(thread="ab"[n % 2])) for n in range(5000)])
    found = [event.part for event in store.events(thread="b", since=10.0) if isinstance(event, Failure)]
    assert found == [str(n) for n in range(31, 5000, 2)]


def test_a_batch_that_is_written_again_is_there_once(store: EventStore) -> None:
    events: list[Event] = [ModelCall(at=1.0), ModelCall(at=2.0)]
    store.write(events)
    store.write([*events, ModelCall(at=3.0)])
    assert [event.at for event in store.events()] == [1.0, 2.0, 3.0]


def test_many_events_of_one_moment_are_read_once_each_in_order(store: EventStore) -> None:
    events: list[Event] = [Failure(at=5.0, part="p", error=str(n)) for n in range(2500)]
    store.write(events)
    assert [event.error for event in store.events() if isinstance(event, Failure)] == [str(n) for n in range(2500)]


def test_events_can_be_written_while_others_are_read(store: EventStore) -> None:
    store.write([ModelCall(at=1.0), ModelCall(at=2.0)])
    for event in store.events():
        store.write([Failure(at=0.5, part="p", error=event.id)])
    assert len(list(store.events(kind="Failure"))) == 2


def test_only_the_newest_are_kept_where_that_is_asked_for(store: EventStore) -> None:
    kept = EventStore(store.database, max_rows=20)
    for n in range(100):
        kept.write([ModelCall(at=float(n))])
    left = [event.at for event in kept.events()]
    assert left == [float(n) for n in range(100 - len(left), 100)]
    assert 20 <= len(left) <= 23
    assert kept.cut


def test_without_a_limit_all_are_kept(store: EventStore) -> None:
    for n in range(100):
        store.write([ModelCall(at=float(n))])
    assert len(list(store.events())) == 100
    assert not store.cut


def test_a_table_of_a_newer_version_is_refused_and_untouched(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    EventStore(database).write([ModelCall()])
    with database.write() as connection:
        connection.execute(text("UPDATE tokopt_schema SET version = 99 WHERE component = 'telemetry'"))
    with pytest.raises(StoreError, match="upgrade the package"):
        EventStore(database).write([ModelCall()])
    with database.read() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM tokopt_events")).scalar() == 1
    database.close()


def test_time_windows_use_an_index(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    EventStore(database).write([ModelCall()])
    with database.read() as connection:
        plans = [
            str(connection.execute(text(f"EXPLAIN QUERY PLAN SELECT id FROM tokopt_events WHERE {where}")).all())
            for where in ("at >= 5", "kind = 'ModelCall' AND at >= 5", "thread = 'a' AND at >= 5", "request = 'r'")
        ]
    assert all("USING INDEX tokopt_events_" in plan for plan in plans)
    database.close()
