"""Bad input and bad databases: figures stay right, and the agent never notices."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import text

from langchain_tokopt.database import Database
from langchain_tokopt.errors import StoreError
from langchain_tokopt.events import CacheLookup, Decision, Event, Failure, LimitAlert, ModelCall, Reservation, Who
from langchain_tokopt.telemetry import Telemetry
from langchain_tokopt.telemetry.readings import DIMENSIONS, Place, Readings, Span
from langchain_tokopt.telemetry.rollups_upkeep import Upkeep
from langchain_tokopt.telemetry.rows import LONGEST_DETAIL, LONGEST_NAME, LONGEST_TEXT, to_row
from langchain_tokopt.telemetry.store import EventStore
from tests.databases import KINDS, database_url
from tests.fakes import FakeClock

ROOT = Path(__file__).parent.parent.parent
DAY, HOUR = 86_400, 3_600
NOW = 1_800_000_000 // DAY * DAY
HOSTILE = [
    "<script>alert(1)</script>",
    "\x1b[31mred\x1b[0m\x07",
    "a\0b",
    "\ud800\udfff half",
    "'; DROP TABLE tokopt_events; --",
    "%s %d {0} :since",
    "\u202e\u0000\u2028",
    "",
    " ",
    "\U0001d56c" * 300,  # four bytes each
    "x" * 1_000_000,
]


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    with database_url(request.param, tmp_path) as url:
        database = Database(url)
        yield EventStore(database)
        database.close()


def everything(name: str, at: float) -> list[Event]:
    """An event of each kind with the text in every field that takes one."""
    word: Any = name
    base: Any = {"who": Who(**{each.name: name for each in fields(Who)}), "request": name, "at": at}
    usage: Any = {"input_tokens": 10, "output_tokens": 1, "total_tokens": 11, name: name}
    return [
        ModelCall(**base, model=name, provider=name, usage=usage, usage_source="provider", error=None),
        ModelCall(**base, model=name, provider=name, error=name),
        CacheLookup(**base, outcome=word, reason=name),
        Decision(**base, part=name, action=word, reason=name, detail={name: name, "nested": {name: [name]}}),
        Reservation(**base, action=word, reservation=name, budget=name, path=name, reason=name),
        LimitAlert(**base, budget=name, path=name, per=name, unit=word, share=0.8, limit=5, spent=4),
        Failure(**base, part=name, error=name, stage=word),
    ]


def test_hostile_text_in_every_field_is_kept_apart_and_bounded(store: EventStore) -> None:
    for n, name in enumerate(HOSTILE):
        store.write(everything(name, NOW + n))
    readings = Readings(store)
    assert readings.extent(Span()).events == 7 * len(HOSTILE)
    assert len(list(store.events())) == 7 * len(HOSTILE)
    for dimension in DIMENSIONS:
        if dimension == "part":
            continue
        figures = readings.calls(Span(), by=(dimension,))
        assert len(figures) == len(HOSTILE)
        assert {each.measured.input_tokens for each in figures.values()} == {10}
        for name in HOSTILE:
            (one,) = readings.calls(Span(where={dimension: name})).values()
            assert one.measured.calls == 1
    for name in HOSTILE:
        story = readings.request(name)
        assert story is not None
        assert [step.kind for step in story.steps][:2] == ["ModelCall", "ModelCall"]
        assert len(list(store.events(thread=name))) == 7
    assert len(readings.requests(Span())) == len(HOSTILE)
    assert sum(reason.count for reason in readings.reasons(Span(), limit=1000)) == 5 * len(HOSTILE)

    before = readings.calls(Span(), by=("agent", "model")), readings.parts(Span(), by=("part", "user"))
    Upkeep(store, keep_days=1, hourly_days=1, clock=FakeClock(NOW + 10 * DAY)).all()
    assert list(store.events()) == []
    assert (readings.calls(Span(), by=("agent", "model")), readings.parts(Span(), by=("part", "user"))) == before


def test_long_texts_are_cut_at_stated_lengths_and_long_names_stay_apart() -> None:
    row = to_row(everything("x" * 100_000, NOW)[3])
    twin = to_row(everything("x" * 99_999 + "y", NOW)[3])
    assert len(row["agent"]) == len(row["request"]) == LONGEST_NAME
    assert row["agent"] != twin["agent"]
    assert row["agent"][:200] == twin["agent"][:200] == "x" * 200
    assert len(row["reason"]) == LONGEST_TEXT
    assert row["reason"].endswith("x…")
    assert len(row["detail"]) <= LONGEST_DETAIL
    short = "y" * LONGEST_NAME
    assert to_row(Failure(part=short, error="e"))["part"] == short


def test_of_a_detail_that_is_too_long_the_small_things_stay() -> None:
    detail = {"kept": 5, "prompt": "x" * 100_000, "dropped": ["a", "b"]}
    row = to_row(Decision(part="tools", action="applied", detail=detail))
    (event,) = [Decision(part="tools", action="applied", detail=detail)]
    from langchain_tokopt.telemetry.rows import to_event

    back = to_event({**to_row(event), "seq": 1})
    assert isinstance(back, Decision)
    assert back.detail == {"kept": 5, "dropped": ["a", "b"], "cut": ["prompt"]}
    assert len(row["detail"]) < 200


def test_figures_that_cannot_be_are_unknown_and_sums_survive_them(store: EventStore) -> None:
    huge: Any = {"input_tokens": 2**62, "output_tokens": 10**30, "total_tokens": 5}
    for n in range(3):
        store.write(
            [
                ModelCall(
                    at=NOW + n, usage=huge, usage_source="provider", cost_usd=Decimal(10**12), latency_seconds=1.0
                ),
                Decision(at=NOW + n, part="tools", action="applied", seconds=float("inf"), saved_usd=Decimal(1)),
                CacheLookup(at=NOW + n, outcome="miss", similarity=float("nan"), seconds=float("nan")),
            ]
        )
    readings = Readings(store)
    for _ in range(2):
        usage = readings.calls(Span())[Place()].measured
        assert (usage.calls, usage.input_tokens, usage.cost_usd, usage.unpriced) == (3, None, None, 3)
        times = readings.times(Span())[Place()]
        assert times.added is None
        assert times.latency is not None
        assert times.latency.count == 3
        Upkeep(store, keep_days=1, hourly_days=1, clock=FakeClock(NOW + 10 * DAY)).all()


def test_events_from_clocks_that_are_wrong_count_once_where_they_say(store: EventStore) -> None:
    moments = [-5.0, 0.0, NOW - 20 * DAY, NOW, NOW + 0.75, NOW + 3 * DAY, 1.8e12, float("inf")]
    store.write([ModelCall(at=at, usage_source="provider", request=f"r{n}") for n, at in enumerate(moments)])
    readings = Readings(store)

    def count(span: Span) -> int:
        return sum(each.measured.calls for each in readings.calls(span).values())

    for _ in range(2):
        assert count(Span()) == 8
        assert (count(Span(NOW, NOW + 1)), count(Span(NOW + 1)), count(Span(until=NOW))) == (2, 3, 3)
        by_hour = readings.calls(Span(NOW - HOUR, NOW + HOUR), every=HOUR)
        assert {place.start: each.measured.calls for place, each in by_hour.items()} == {NOW: 2}
        Upkeep(store, keep_days=2, hourly_days=1000, clock=FakeClock(NOW + DAY)).all()
    # What claims to come from the future stays until its time has come.
    assert [event.at for event in store.events()] == [
        NOW,
        NOW + 0.75,
        NOW + 3 * DAY,
        253_402_300_799.0,
        253_402_300_799.0,
    ]


def test_buckets_of_time_begin_at_the_same_second_on_every_database(store: EventStore) -> None:
    store.write(
        [ModelCall(at=NOW + HOUR - 0.25, usage_source="provider"), ModelCall(at=NOW + 0.5, usage_source="provider")]
    )
    found = Readings(store).calls(Span(), every=HOUR)
    assert {place.start: each.measured.calls for place, each in found.items()} == {NOW: 2}


def test_an_event_without_a_time_costs_no_other(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    telemetry = Telemetry(database=database, flush_seconds=3600)
    for at in (1.0, float("nan"), 2.0):
        telemetry.emit(ModelCall(at=at))
    assert telemetry.flush()
    assert [event.at for event in telemetry.events()] == [1.0, 2.0]
    assert telemetry.status()["dropped"] == 1
    telemetry.close()
    database.close()


# --- databases -------------------------------------------------------------------------------------------------------


def emit_and_recover(telemetry: Telemetry, count: int, says: str) -> None:
    """Events come while the database cannot be used; nothing is raised, and nothing is lost."""
    for n in range(count):
        telemetry.emit(ModelCall(at=NOW + n))
        telemetry.snapshot("cache", {"n": n})
        assert not telemetry.flush()
    assert says in str(telemetry.status()["last_error"])
    assert (telemetry.status()["queued"], telemetry.status()["dropped"]) == (2 * count, 0)


def test_a_full_disk_loses_nothing_that_fits_into_memory(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    room = {"pages": 200}

    def limit(connection: Any) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {room['pages']}")

    sqlalchemy_event.listen(database._engine, "begin", limit)
    telemetry = Telemetry(database=database, flush_seconds=3600)
    detail = {"text": "x" * 20_000}
    emitted = 0
    while True:
        telemetry.emit(Decision(part="tools", action="applied", detail=detail, at=NOW + emitted))
        emitted += 1
        if not telemetry.flush():
            break
    assert "free some space" in str(telemetry.status()["last_error"])
    assert telemetry.report().events == emitted - telemetry.status()["queued"]
    room["pages"] = 1_000_000
    assert telemetry.flush()
    assert [event.at for event in telemetry.events()] == [NOW + n for n in range(emitted)]
    telemetry.close()
    database.close()


def test_a_locked_database_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    database = Database(path, lock_timeout_seconds=0.05)
    telemetry = Telemetry(database=database, flush_seconds=3600)
    telemetry.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    emit_and_recover(telemetry, 2, "locked")
    other.execute("COMMIT")
    other.close()
    assert telemetry.flush()
    assert len(list(telemetry.events())) == 2
    assert len(telemetry.snapshots()) == 2
    telemetry.close()
    database.close()


def test_a_read_only_database_can_be_read_and_takes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    writable = Database(path)
    EventStore(writable).write([ModelCall(at=NOW, usage_source="provider")])
    writable.close()
    database = Database(f"sqlite:///file:{path}?mode=ro&uri=true")
    telemetry = Telemetry(database=database, flush_seconds=3600, keep_days=1)
    emit_and_recover(telemetry, 1, "readonly")
    assert telemetry.report().measured.calls == 1
    with pytest.raises(StoreError, match="readonly"):
        telemetry.roll_up()
    telemetry.close()
    database.close()


def test_a_damaged_file_stops_nobody(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    database = Database(path)
    EventStore(database).write([Failure(at=NOW + n, part="p", error="x" * 3000) for n in range(200)])
    database.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    chance = random.Random(1)
    whole = bytearray(path.read_bytes())
    half = len(whole) // 2
    whole[half:] = chance.randbytes(len(whole) - half)  # the tables are found, what is in them is not
    path.write_bytes(bytes(whole))
    database = Database(path)
    telemetry = Telemetry(database=database, flush_seconds=3600, keep_days=1, clock=FakeClock(NOW + 10 * DAY))
    emit_and_recover(telemetry, 2, "damaged")
    assert telemetry.report().findings[0].startswith("This covers only the ")
    with pytest.raises(StoreError):
        telemetry.roll_up()
    telemetry.close()
    database.close()


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    EventStore(database).write([ModelCall(at=1.0)])
    with database.write() as connection:
        connection.execute(text("UPDATE tokopt_schema SET version = 99 WHERE component = 'telemetry'"))
    telemetry = Telemetry(database=database, flush_seconds=3600, keep_days=1)
    emit_and_recover(telemetry, 2, "upgrade the package")
    with pytest.raises(StoreError, match="upgrade the package"):
        telemetry.roll_up()
    with pytest.raises(StoreError, match="upgrade the package"):
        Readings(EventStore(database)).calls(Span())
    telemetry.close()
    database.close()


def test_a_database_of_the_first_version_is_brought_up_to_date_with_all_events(tmp_path: Path) -> None:
    from langchain_tokopt.telemetry import store as module

    database = Database(tmp_path / "x.db")
    database.migrate("telemetry", module.STEPS[:1])
    row = to_row(ModelCall(at=NOW, usage_source="provider", request="r"))
    names = ", ".join(row)
    with database.write() as connection:
        values = ", ".join(f":{name}" for name in row)
        connection.execute(text(f"INSERT INTO tokopt_events ({names}) VALUES ({values})"), row)
    store = EventStore(database)
    assert Readings(store).calls(Span())[Place()].measured.calls == 1
    assert database.migrate("telemetry", module.STEPS) == len(module.STEPS)
    database.close()


# --- crashes ---------------------------------------------------------------------------------------------------------

EMIT = """
import sys, time
from langchain_tokopt.database import Database
from langchain_tokopt.events import Decision
from langchain_tokopt.telemetry import Telemetry
telemetry = Telemetry(database=Database(sys.argv[1]), flush_seconds=0.05)
for n in range(20):
    telemetry.emit(Decision(part="tools", action="applied", at=float(n + 1)))
give_up = time.monotonic() + 60
while telemetry.status()["written"] < 20 and time.monotonic() < give_up:
    time.sleep(0.01)
print(telemetry.status()["written"], flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_what_was_flushed_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", EMIT, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "20\n"
    process.kill()
    process.communicate()
    database = Database(path)
    assert [event.at for event in EventStore(database).events()] == [float(n + 1) for n in range(20)]
    database.close()
