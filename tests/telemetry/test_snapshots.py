"""How things stood: noted, kept as long as events, read by name and hours."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import ModelCall
from langchain_tokopt.telemetry import Telemetry
from langchain_tokopt.telemetry.rollups_chores import Chores
from langchain_tokopt.telemetry.snapshots import Snapshot
from langchain_tokopt.telemetry.store import EventStore
from tests.databases import KINDS, database_url
from tests.fakes import FakeClock

DAY, HOUR = 86_400, 3_600
NOW = 1_800_000_000.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture(params=KINDS)
def telemetry(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Telemetry]:
    with database_url(request.param, tmp_path) as url:
        database = Database(url)
        telemetry = Telemetry(database=database, keep_days=2, flush_seconds=3600, clock=clock)
        yield telemetry
        telemetry.close()
        database.close()


def test_snapshots_are_read_by_name_and_hours(telemetry: Telemetry, clock: FakeClock) -> None:
    figures = {"entries": 5, "bytes": 1.5, "by": {"a": [1, None]}}
    telemetry.snapshot("cache", figures)
    figures["entries"] = 6  # what was seen, was seen
    clock.now += 2 * HOUR
    telemetry.snapshot("cache", {"entries": 7})
    telemetry.snapshot("budget", {"left": "0.5"})
    first = Snapshot("cache", NOW, {"entries": 5, "bytes": 1.5, "by": {"a": [1, None]}})
    second = Snapshot("cache", NOW + 2 * HOUR, {"entries": 7})
    assert telemetry.snapshots("cache") == (first, second)
    assert telemetry.snapshots("cache", hours=1) == (second,)
    assert {each.name for each in telemetry.snapshots()} == {"cache", "budget"}
    assert telemetry.snapshots("nothing") == ()


def test_snapshots_are_no_events(telemetry: Telemetry) -> None:
    telemetry.snapshot("cache", {"entries": 5})
    telemetry.emit(ModelCall(at=NOW))
    assert [type(event) for event in telemetry.events()] == [ModelCall]
    assert telemetry.report().events == 1
    assert telemetry.status()["written"] == 2


def test_snapshots_go_as_events_do(telemetry: Telemetry, clock: FakeClock) -> None:
    telemetry.snapshot("old", {"n": 1})
    clock.now += 3 * DAY
    telemetry.snapshot("new", {"n": 2})
    telemetry.roll_up()
    assert [each.name for each in telemetry.snapshots()] == ["new"]


@pytest.mark.parametrize(
    "figures", [{"set": {1, 2}}, {"text": "a\0\ud800"}, {(1, 2): "odd key", "n": float("nan")}, {}]
)
def test_whatever_is_seen_can_be_noted(telemetry: Telemetry, figures: dict[Any, Any]) -> None:
    telemetry.snapshot("odd\0\ud800", figures)
    assert telemetry.flush()
    (found,) = telemetry.snapshots("odd\0\ud800")
    assert found.name == "odd\ufffd?"
    assert telemetry.status()["dropped"] == 0


def test_what_is_too_long_is_told_by_its_length(telemetry: Telemetry) -> None:
    telemetry.snapshot("n" * 10_000, {"text": "x" * 70_000})
    (found,) = telemetry.snapshots()
    assert found.figures == {"too_long": 70_012}
    assert len(found.name) == 256
    assert telemetry.snapshots("n" * 10_000) == (found,)


def test_a_snapshot_never_raises(telemetry: Telemetry, caplog: pytest.LogCaptureFixture) -> None:
    wrong: Any = 5
    with caplog.at_level(logging.WARNING, "langchain_tokopt"):
        telemetry.snapshot("cache", wrong)
    assert "could not be taken" in caplog.text
    assert telemetry.snapshots() == ()


def test_what_is_watched_is_noted_now_and_then(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = Database(tmp_path / "x.db")
    store, timer, clock = EventStore(database), FakeClock(0.0), FakeClock(NOW)
    chores = Chores(lambda: store, keep_days=1, hourly_days=10, clock=clock, timer=timer)
    seen = iter(range(100))
    chores.watch("cache", lambda: {"entries": next(seen)}, every_seconds=300)
    chores.watch("broken", lambda: {"share": 1 / 0}, every_seconds=300)
    with caplog.at_level(logging.WARNING, "langchain_tokopt"):
        for moment in (0.0, 299.0, 300.0, 301.0):
            timer.now, clock.now = moment, NOW + moment
            assert not chores()
    assert store.snapshots() == (Snapshot("cache", NOW, {"entries": 0}), Snapshot("cache", NOW + 300, {"entries": 1}))
    assert [record.getMessage() for record in caplog.records] == [
        "telemetry: broken failed and is tried again later: ZeroDivisionError: division by zero"
    ]
    database.close()


def test_a_telemetry_watches_while_events_come(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    telemetry = Telemetry(database=database, flush_seconds=0.01)
    seen = threading.Event()

    def figures() -> dict[str, int]:
        seen.set()
        return {"entries": 1}

    telemetry.watch("cache", figures)
    telemetry.emit(ModelCall())
    assert seen.wait(timeout=30)
    telemetry.close()
    assert [each.figures for each in telemetry.snapshots("cache")] == [{"entries": 1}]
    database.close()


def test_watching_takes_a_time_and_hours_are_checked(telemetry: Telemetry) -> None:
    with pytest.raises(ConfigurationError, match="every_seconds"):
        telemetry.watch("cache", dict, every_seconds=0)
    with pytest.raises(ConfigurationError, match="hours"):
        telemetry.snapshots("cache", hours=0)
