"""Upkeep of the tables: by one process at a time, in small steps, and nothing is lost by it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError, StoreError
from langchain_tokopt.events import Decision, Event, ModelCall
from langchain_tokopt.pricing import Pricing
from langchain_tokopt.telemetry import Telemetry
from langchain_tokopt.telemetry.readings import Place, Readings, Span
from langchain_tokopt.telemetry.rollups_chores import Chores
from langchain_tokopt.telemetry.rollups_upkeep import Upkeep
from langchain_tokopt.telemetry.store import EventStore
from tests.databases import KINDS, database_url
from tests.fakes import FakeClock

DAY, HOUR = 86_400, 3_600
START = 1_800_000_000 // DAY * DAY
NOW = START + 3 * DAY


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    with database_url(request.param, tmp_path) as url:
        database = Database(url)
        yield EventStore(database)
        database.close()


def call(at: float, request: str | None, tokens: int = 1, **fields: Any) -> ModelCall:
    usage: Any = {"input_tokens": tokens, "output_tokens": 1, "total_tokens": tokens + 1}
    settings: Any = {"model": "gpt-4o", "provider": "openai", "usage_source": "provider", "usage": usage, **fields}
    return ModelCall(at=at, request=request, cost_usd=Decimal("0.01"), **settings)


def upkeep(store: EventStore, clock: FakeClock, *, keep_days: float = 1) -> Upkeep:
    return Upkeep(store, keep_days=keep_days, hourly_days=1000, clock=clock)


def steps(keeping: Upkeep) -> int:
    """How many steps it takes until nothing is left to be done."""
    count = 1
    while keeping.step():
        count += 1
    return count


def totals(store: EventStore) -> tuple[int, int | None, int]:
    figures = Readings(store).calls(Span())[Place()]
    return figures.measured.calls, figures.measured.input_tokens, figures.requests


def left(store: EventStore) -> list[float]:
    return [event.at for event in store.events()]


def test_only_whole_hours_that_are_old_enough_are_rolled_up(store: EventStore) -> None:
    store.write([call(START + n * HOUR + 5, f"r{n}") for n in range(72)])
    assert upkeep(store, FakeClock(NOW + 100)).all() == 48
    assert left(store) == [START + n * HOUR + 5 for n in range(48, 72)]
    assert totals(store) == (72, 72, 72)


def test_a_step_takes_a_bounded_number_of_events(store: EventStore) -> None:
    store.write([call(START + n, f"r{n // 2}") for n in range(2500)])
    clock = FakeClock(NOW)
    keeping = upkeep(store, clock)
    assert keeping.step()
    assert len(left(store)) == 1500
    assert steps(keeping) <= 4
    assert left(store) == []
    assert totals(store) == (2500, 2500, 1250)
    assert not keeping.step()


def test_events_wait_for_the_rest_of_their_request_for_a_day(store: EventStore) -> None:
    end = NOW - DAY
    store.write([call(end - 10, "both"), call(end + 10, "both"), call(end - 20, "done")])
    clock = FakeClock(NOW)
    keeping = upkeep(store, clock)
    assert keeping.all() == 1
    assert left(store) == [end - 10, end + 10]
    clock.now += HOUR
    assert keeping.all() == 2
    assert totals(store) == (3, 3, 2)

    store.write([call(end + HOUR, "endless"), call(NOW + 10 * DAY, "endless")])
    clock.now = NOW + 2 * DAY + HOUR
    assert keeping.all() == 1
    assert totals(store) == (5, 5, 4)  # the one request that counts twice, as is said


def test_a_request_without_end_is_rolled_up_in_pieces(store: EventStore) -> None:
    store.write([call(START + n / 100, "huge") for n in range(5500)])
    assert upkeep(store, FakeClock(NOW)).all() == 5500
    calls, tokens, requests = totals(store)
    assert (calls, tokens) == (5500, 5500)
    assert requests == 2  # a piece of a thousand, then the rest is small enough


def test_what_comes_late_is_added(store: EventStore) -> None:
    store.write([call(START, "a", 5)])
    clock = FakeClock(NOW)
    keeping = upkeep(store, clock)
    steps(keeping)
    store.write([call(START + 1, "b", 7)])
    assert totals(store) == (2, 12, 2)
    assert not keeping.step()  # until the next hour
    clock.now += HOUR
    steps(keeping)
    assert left(store) == []
    assert totals(store) == (2, 12, 2)


def test_one_at_a_time_has_the_claim_until_it_is_done_or_silent(store: EventStore) -> None:
    store.write([call(START + n, f"r{n}") for n in range(1500)])
    clock = FakeClock(NOW)
    first, second = upkeep(store, clock), upkeep(store, clock)
    assert first.step()
    assert not second.step()
    assert second.all() == 0
    assert len(left(store)) == 500
    clock.now += 61
    assert second.all() == 500
    assert not first.step()
    assert totals(store) == (1500, 1500, 1500)


def test_who_finds_nothing_to_do_takes_no_claim(store: EventStore) -> None:
    clock = FakeClock(NOW)
    store.write([call(START, "a")])
    first, second = upkeep(store, clock), upkeep(store, clock)
    steps(first)
    store.write([call(START + 1, "late")])
    assert not second.step()
    assert first.all() == 1


def test_a_claim_from_a_clock_that_is_wrong_holds_nobody_up(store: EventStore) -> None:
    store.write([call(START, "a")])
    with store.database.write() as connection:
        query = "INSERT INTO tokopt_upkeep (name, holder, until, done) VALUES ('events', 'gone', :far, 0)"
        connection.execute(text(query), {"far": NOW + 10 * DAY})
    assert upkeep(store, FakeClock(NOW)).all() == 1


def test_two_that_both_believe_to_have_the_claim_count_nothing_twice(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    store = EventStore(database)
    store.write([call(START + n, f"r{n // 3}") for n in range(3000)])

    class Believing(Upkeep):
        def _claimed(self) -> bool:
            return True

        def _still_mine(self, connection: Any) -> bool:
            return True

    def work(_: int) -> int:
        return Believing(EventStore(database), keep_days=1, hourly_days=1000, clock=FakeClock(NOW)).all()

    with ThreadPoolExecutor(4) as pool:
        rolled = list(pool.map(work, range(4)))
    assert sum(rolled) + len(left(store)) == 3000
    upkeep(store, FakeClock(NOW)).all()
    assert totals(store) == (3000, 3000, 1000)
    database.close()


def test_others_write_and_read_meanwhile(store: EventStore) -> None:
    store.write([call(START + n, f"old{n}") for n in range(2000)])
    done = threading.Event()
    seen = []

    def write() -> None:
        for n in range(40):
            store.write([call(START + DAY + n, f"new{n}.{m}") for m in range(5)])

    def read() -> None:
        while not done.is_set():
            seen.append(totals(store))

    with ThreadPoolExecutor(3) as pool:
        writing, reading = pool.submit(write), pool.submit(read)
        keeping = upkeep(store, FakeClock(NOW + HOUR))
        steps(keeping)
        writing.result()
        done.set()
        reading.result()
    assert totals(store) == (2200, 2200, 2200)
    assert all(calls == tokens == requests and 2000 <= calls <= 2200 for calls, tokens, requests in seen)
    assert seen == sorted(seen)


def test_when_the_database_fails_in_a_step_nothing_of_it_is_done(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    store = EventStore(database)
    store.write([call(START + n, f"r{n}") for n in range(10)])
    with database.write() as connection:
        connection.execute(
            text("CREATE TRIGGER full BEFORE INSERT ON tokopt_rollup_times BEGIN SELECT RAISE(ABORT, 'no room'); END")
        )
    store.write([call(START, "timed", latency_seconds=1.0)])
    with pytest.raises(Exception, match="no room"):
        upkeep(store, FakeClock(NOW)).all()
    assert len(left(store)) == 11
    assert totals(store) == (11, 11, 11)
    database.close()


# --- within telemetry ------------------------------------------------------------------------------------------------


def test_telemetry_rolls_up_and_its_report_stays_the_same(store: EventStore) -> None:
    clock = FakeClock(NOW)
    telemetry = Telemetry(database=store.database, keep_days=1, clock=clock, flush_seconds=3600)
    events: list[Event] = [call(START + n * 60, f"r{n}", 100 + n, latency_seconds=1.0) for n in range(50)]
    events += [
        Decision(at=START + 5, part="tools", action="skipped", reason="nothing to do"),
        Decision(at=START + 5, part="tools", action="applied", tokens_before=9, tokens_after=4, seconds=0.5),
    ]
    for event in events:
        telemetry.emit(event)
    before = telemetry.report()
    assert telemetry.roll_up() == 52
    assert list(telemetry.events()) == []
    after = telemetry.report()
    for name in ("events", "measured", "estimated", "models", "saved", "overhead", "net_saved_usd", "cache", "budget"):
        assert getattr(after, name) == getattr(before, name), name
    assert [(part.real, part.skipped) for part in after.parts] == [(part.real, part.skipped) for part in before.parts]
    assert after.parts[0].reasons == ()
    assert after.latency_seconds is not None
    assert after.latency_seconds.p95 == pytest.approx(1.0, rel=0.05)
    assert after.findings[0].startswith("What happened before 2027-01-15 01:00 UTC is kept as sums only: ")
    rates = Pricing().rates("gpt-4o", "openai")
    assert rates is not None
    assert (before.cost_at([rates])[0].calls, before.cost_at([rates])[0].unknown) == (0, 50)
    telemetry.close()


def test_upkeep_is_done_between_batches_when_it_is_due(store: EventStore) -> None:
    store.write([call(START + n, f"r{n}") for n in range(10)])
    timer = FakeClock(0.0)
    settings: Any = {"keep_days": 1, "hourly_days": 10, "clock": FakeClock(NOW), "timer": timer}
    chores = Chores(lambda: store, **settings)
    assert not chores()
    assert len(left(store)) == 10
    timer.now = 61.0
    while chores():
        pass
    assert left(store) == []
    off = Chores(lambda: store, **{**settings, "keep_days": None})
    store.write([call(START, "a")])
    timer.now = 200.0
    assert (off(), off.all(), len(left(store))) == (False, 0, 1)


def test_upkeep_that_fails_is_logged_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    timer = FakeClock(0.0)
    tries = []

    def store() -> EventStore:
        tries.append(timer.now)
        raise StoreError("the disk is gone")

    chores = Chores(store, keep_days=1, hourly_days=10, clock=FakeClock(NOW), timer=timer)
    with caplog.at_level(logging.WARNING, "langchain_tokopt"):
        for moment in (61.0, 62.0, 122.0):
            timer.now = moment
            assert not chores()
    assert tries == [61.0, 122.0]
    assert [record.getMessage() for record in caplog.records] == [
        "telemetry: upkeep failed and is tried again later: StoreError: the disk is gone"
    ]


@pytest.mark.parametrize("settings", [{"keep_days": 0}, {"keep_days": float("nan")}, {"hourly_days": float("inf")}])
def test_days_that_are_none_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        Telemetry(**settings)
