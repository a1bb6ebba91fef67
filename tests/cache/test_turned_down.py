"""The list of questions whose answer was turned down: shared, bounded, and no write where there is nothing to write."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import inspect

import langchain_tokopt.cache.turned_down as turned_down_module
from langchain_tokopt.cache.turned_down import TurnedDown
from langchain_tokopt.database import Database
from tests.databases import KINDS, database_url
from tests.fakes import FakeClock


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_turned_down_is_held_by_scope_and_question(kind: str, tmp_path: Path) -> None:
    with database_url(kind, tmp_path) as url:
        database = Database(url)
        turned_down = TurnedDown(database, clock=FakeClock())
        assert not turned_down.holds("s", "q")
        turned_down.add("s", "q")
        turned_down.add("s", "q")
        assert turned_down.holds("s", "q")
        assert not turned_down.holds("s", "other")
        assert not turned_down.holds("other", "q")
        database.close()


@pytest.mark.parametrize("kind", KINDS)
def test_another_process_reads_it_after_five_seconds(kind: str, tmp_path: Path) -> None:
    with database_url(kind, tmp_path) as url:
        databases = [Database(url) for _ in "ab"] if url else [Database()] * 2
        clock = FakeClock()
        one, other = (TurnedDown(database, clock=clock) for database in databases)
        assert not other.holds("s", "q")
        one.add("s", "q")
        assert one.holds("s", "q")
        assert not other.holds("s", "q")
        clock.advance(5.0)
        assert other.holds("s", "q")
        for database in databases:
            database.close()


def test_a_clock_that_was_set_back_does_not_keep_it_from_reading() -> None:
    clock, database = FakeClock(), Database()
    one, other = (TurnedDown(database, clock=clock) for _ in "ab")
    assert not other.holds("s", "q")
    one.add("s", "q")
    clock.advance(-3_600.0)
    assert other.holds("s", "q")


def test_nothing_is_written_before_the_first_one() -> None:
    database = Database()
    assert not TurnedDown(database, clock=FakeClock()).holds("s", "q")
    with database.read() as connection:
        assert not inspect(connection).has_table("tokopt_cache_turned_down")


def test_the_oldest_are_forgotten_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turned_down_module, "_KEPT", 3)
    clock, database = FakeClock(), Database()
    one = TurnedDown(database, clock=clock)
    for number in range(5):
        one.add("s", str(number))
        clock.advance(1.0)
    other = TurnedDown(database, clock=clock)
    assert [other.holds("s", str(number)) for number in range(5)] == [False, False, True, True, True]


def test_one_that_is_added_while_the_list_is_read_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database()
    turned_down = TurnedDown(database, clock=FakeClock())
    turned_down.add("s", "first")
    look = inspect

    def late(connection: object) -> object:
        monkeypatch.undo()
        found = look(connection)
        turned_down._held |= {("s", "second")}  # what `add` does in another thread, once it has written
        return found

    monkeypatch.setattr(turned_down_module, "inspect", late)
    assert turned_down.holds("s", "second")
    assert turned_down.holds("s", "first")
