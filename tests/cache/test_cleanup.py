"""The clean-up: what it removes, its thread, forks and errors; and when answers expire."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from langchain_tokopt.cache.cleanup import Cleaned, Cleanup
from langchain_tokopt.cache.entries import Entries, NewEntry
from langchain_tokopt.cache.eviction import POLICIES, Limits, Room
from langchain_tokopt.cache.expiry import check_jitter, expires_at
from langchain_tokopt.cache.removal import Removal
from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError, StoreError
from tests.fakes import FakeClock


def put(database: Database, name: str, now: float, *, kind: str = "agent", **fields: Any) -> None:
    Entries(database, kind=kind).put(
        NewEntry(scope=f"s{kind}", owner="o", exact=name, question="", payload="x", **fields), now
    )


def counts(database: Database) -> tuple[int, int]:
    """Living entries and tombstones."""
    with database.read() as connection:
        rows = connection.execute(text("SELECT alive, COUNT(*) FROM tokopt_cache_entries GROUP BY alive")).all()
    found = {int(alive): int(count) for alive, count in rows}
    return found.get(1, 0), found.get(0, 0)


def open_room(database: Database, keep: int, kind: str = "agent") -> Room:
    limits = Limits(entries=keep)
    return Room(
        Entries(database, kind=kind), Removal(database, kind=kind), policy=POLICIES["lru"](limits), limits=limits
    )


class FakeRemoval:
    """Signals each clean-up, and may fail."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.cleaned = threading.Semaphore(0)
        self.threads: list[str] = []

    def remove_expired(self, now: float) -> int:
        self.threads.append(threading.current_thread().name)
        self.cleaned.release()
        if self.error is not None:
            raise self.error
        return 0

    def purge(self, now: float) -> None:
        pass


def quiet(**settings: Any) -> Cleanup:
    """One that only cleans when it is woken."""
    return Cleanup(**{"every_seconds": 3600.0, **settings})


# --- what is removed -------------------------------------------------------------------------------------------------


def test_the_expired_and_what_is_over_the_limit_goes_and_tombstones_later(database: Database) -> None:
    clock = FakeClock()
    cleanup = quiet(clock=clock)
    for n in range(600):
        put(database, f"short {n}", clock.now, expires_at=clock.now + 10)
    for n in range(5):
        put(database, f"long {n}", clock.now + n)
        put(database, f"other {n}", clock.now + n, kind="llm")
    room = open_room(database, 3)
    charges = [
        cleanup.look_after(Removal(database, kind="agent"), room),
        cleanup.look_after(Removal(database, kind="llm")),
    ]
    clock.advance(10)
    assert cleanup.run_once() == Cleaned(expired=600, evicted=2)
    assert counts(database) == (3 + 5, 602)
    clock.advance(599)
    assert cleanup.run_once() == Cleaned()
    assert counts(database) == (8, 602)
    clock.advance(2)
    assert cleanup.run_once() == Cleaned()
    assert counts(database) == (8, 0)
    assert (cleanup.runs, cleanup.failures) == (3, 0)
    for charge in charges:
        charge.close()
    assert cleanup.run_once() == Cleaned()


def test_closing_saves_what_was_learnt(database: Database) -> None:
    limits = Limits(entries=5)
    room = Room(
        Entries(database, kind="agent"),
        Removal(database, kind="agent"),
        policy=POLICIES["adaptive"](limits),
        limits=limits,
    )
    cleanup = quiet(clock=FakeClock())
    charge = cleanup.look_after(Removal(database, kind="agent"), room)
    put(database, "a", 1.0)
    cleanup.run_once()
    charge.close()
    with database.read() as connection:
        assert connection.execute(text("SELECT kind, policy, version FROM tokopt_cache_eviction")).all() == [
            ("agent", "adaptive", 1)
        ]


# --- the thread ------------------------------------------------------------------------------------------------------


def test_it_cleans_in_the_background_when_it_is_woken() -> None:
    cleanup = quiet()
    removals = [FakeRemoval(), FakeRemoval()]
    charges = [cleanup.look_after(removal) for removal in removals]  # type: ignore[arg-type]
    charges[0].wake()
    assert removals[0].cleaned.acquire(timeout=10)
    assert (removals[0].threads, removals[1].threads) == (["tokopt-cleanup"], [])
    thread = cleanup._thread
    assert thread is not None
    for charge in charges:
        charge.close()
    assert not thread.is_alive()
    charges[0].wake()
    assert cleanup._thread is None


def test_it_cleans_everything_by_itself_from_time_to_time() -> None:
    cleanup = Cleanup(every_seconds=0.001)
    removals = [FakeRemoval(), FakeRemoval()]
    charges = [cleanup.look_after(removal) for removal in removals]  # type: ignore[arg-type]
    for removal in removals:
        for _ in range(3):
            assert removal.cleaned.acquire(timeout=10)
    for charge in charges:
        charge.close()


def test_a_new_charge_starts_the_thread_again() -> None:
    cleanup = quiet()
    cleanup.look_after(FakeRemoval()).close()  # type: ignore[arg-type]
    removal = FakeRemoval()
    charge = cleanup.look_after(removal)  # type: ignore[arg-type]
    charge.wake()
    assert removal.cleaned.acquire(timeout=10)
    charge.close()


def test_a_failure_is_logged_once_and_the_others_are_cleaned(caplog: pytest.LogCaptureFixture) -> None:
    cleanup = quiet()
    broken, whole = FakeRemoval(StoreError("the disk is full")), FakeRemoval()
    charges = [cleanup.look_after(removal) for removal in (broken, whole)]  # type: ignore[arg-type]
    for _ in range(3):
        assert cleanup.run_once() == Cleaned()
    assert [record.message for record in caplog.records] == [
        "cache: the clean-up failed (StoreError): the disk is full"
    ]
    assert (len(broken.threads), len(whole.threads), cleanup.failures, cleanup.runs) == (3, 3, 3, 3)
    for charge in charges:
        charge.close()


def test_a_database_has_one_and_neither_keeps_the_other_alive(tmp_path: Path) -> None:
    database, other = Database(tmp_path / "a.db"), Database(tmp_path / "b.db")
    cleanup = Cleanup.of(database)
    assert Cleanup.of(database) is cleanup
    assert Cleanup.of(other) is not cleanup
    Entries(database, kind="agent")
    charge = cleanup.look_after(Removal(database, kind="agent"))
    dead = [weakref.ref(thing) for thing in (database, cleanup, charge)]
    database.close()
    other.close()
    del database, cleanup, charge
    gc.collect()
    assert [reference() for reference in dead] == [None] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_cleans_with_a_thread_of_its_own() -> None:
    cleanup = quiet()
    removal = FakeRemoval()
    charge = cleanup.look_after(removal)  # type: ignore[arg-type]
    charge.wake()
    assert removal.cleaned.acquire(timeout=10)
    child = os.fork()
    if child == 0:
        charge.wake()
        works = removal.cleaned.acquire(timeout=10)
        os._exit(0 if works and len(removal.threads) == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    charge.wake()
    assert removal.cleaned.acquire(timeout=10)
    charge.close()


@pytest.mark.parametrize("every_seconds", [0, -1.0, float("nan")])
def test_an_interval_that_cannot_work_is_refused(every_seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="above 0"):
        Cleanup(every_seconds=every_seconds)


# --- expiry ----------------------------------------------------------------------------------------------------------


@given(st.text(), st.floats(0.001, 1e9), st.floats(0, 0.99))
def test_an_answer_never_outlives_its_ttl_and_always_by_the_same_moment(key: str, ttl: float, jitter: float) -> None:
    at = expires_at(1_000.0, ttl, key=key, jitter=jitter)
    assert at is not None
    assert 1_000.0 + ttl * (1 - jitter) <= at + 1e-6
    assert at <= 1_000.0 + ttl
    assert at == expires_at(1_000.0, ttl, key=key, jitter=jitter)


def test_expiry_is_spread_evenly() -> None:
    moments = [expires_at(0.0, 100.0, key=str(n)) or 0.0 for n in range(2_000)]
    by_tenth = [sum(90 + tenth <= moment < 91 + tenth for moment in moments) for tenth in range(10)]
    assert sum(by_tenth) == 2_000
    assert min(by_tenth) > 150
    assert max(by_tenth) < 250


def test_without_a_ttl_nothing_expires_and_without_jitter_all_at_once() -> None:
    assert expires_at(5.0, None, key="a") is None
    assert expires_at(5.0, 10.0, key="a", jitter=0) == 15.0


@pytest.mark.parametrize("jitter", [-0.1, 1, 1.5, True, "0.1", float("nan")])
def test_a_jitter_that_cannot_work_is_refused(jitter: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"a share of the TTL in \[0, 1\)"):
        check_jitter(jitter)
