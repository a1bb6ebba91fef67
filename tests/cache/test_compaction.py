"""Compacting: what is removed, what is given back to the disk, and when it is not worth it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from langchain_tokopt.cache.catalog import Catalog
from langchain_tokopt.cache.compaction import Compacted, _rewritten, compact
from langchain_tokopt.cache.decision import Threshold
from langchain_tokopt.cache.entries import Entries, NewEntry
from langchain_tokopt.cache.store import AnswerStore
from langchain_tokopt.database import Database
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import StoreError
from tests.databases import database_url
from tests.fakes import FakeClock, TableEmbeddings


def fill(database: Database, clock: FakeClock, count: int, **fields: float) -> None:
    news = [
        NewEntry(scope="s", owner="o", exact=f"{n} {fields}", question="", payload="x" * 2000, **fields)  # type: ignore[arg-type]
        for n in range(count)
    ]
    Entries(database, kind="agent").put_all(news, clock.now)


def test_the_room_of_what_is_gone_is_given_back(tmp_path: Path) -> None:
    clock = FakeClock()
    database = Database(tmp_path / "cache.db")
    fill(database, clock, 300, expires_at=clock.now + 10)
    fill(database, clock, 30)
    clock.advance(10)
    done = compact(database, clock=clock)
    assert (done.expired, done.tombstones, done.rewritten, done.reason) == (300, 0, True, None)
    assert done.bytes_before is not None
    assert done.bytes_after == (tmp_path / "cache.db").stat().st_size
    assert done.freed == done.bytes_before - done.bytes_after > 300 * 2000
    again = compact(database, clock=clock)
    assert (again.expired, again.tombstones, again.rewritten, again.reason) == (0, 0, False, "only 0% of it is free")
    assert Catalog(database, clock=clock).invalidate(query="") == 30
    last = compact(database, clock=clock)
    assert (last.expired, last.tombstones, last.rewritten) == (0, 30, True)
    assert Entries(database, kind="agent").count() == 0
    database.close()


@pytest.mark.parametrize(("kind", "reason"), [("memory", "it is in memory"), ("postgresql", "the server sees to that")])
def test_what_is_no_file_is_only_cleaned(kind: str, reason: str, tmp_path: Path) -> None:
    clock = FakeClock()
    with database_url(kind, tmp_path) as url:
        database = Database(url)
        fill(database, clock, 3, expires_at=clock.now)
        done = compact(database, clock=clock)
        assert done == Compacted(
            expired=3, tombstones=0, bytes_before=None, bytes_after=None, rewritten=False, reason=reason
        )
        assert done.freed == 0
        assert Catalog(database, clock=clock).find() == []
        database.close()


def test_a_file_that_somebody_writes_to_is_left_alone(tmp_path: Path) -> None:
    clock = FakeClock()
    database = Database(tmp_path / "cache.db", lock_timeout_seconds=0.05)
    fill(database, clock, 300)
    assert Catalog(database, clock=clock).invalidate(query="") == 300
    writer = sqlite3.connect(tmp_path / "cache.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="has been locked"):
        compact(database, clock=clock, lock_timeout_seconds=0.05)
    with pytest.raises(StoreError, match="try again when it is less in use"):
        _rewritten(tmp_path / "cache.db", 0.05, pays_from=0.0)
    writer.execute("ROLLBACK")
    writer.close()
    assert compact(database, clock=clock).rewritten
    database.close()


def test_a_replica_that_has_not_seen_a_removal_learns_of_it(tmp_path: Path) -> None:
    clock = FakeClock()
    database = Database(tmp_path / "cache.db")
    store = AnswerStore(
        database,
        MemoEmbeddings(TableEmbeddings({"how": [1.0], "how?": [1.0]})),
        kind="agent",
        decider=Threshold(0.9),
        max_entries=9,
        max_scopes=9,
        clock=clock,
    )
    for question in ("how", "what"):
        store.keep(scope="s", owner="o", exact=question, question=question, payload="x", semantic=True)
    assert store.find("s", "how?", "how?", exact_only=None).how == "semantic"
    assert Catalog(database, clock=clock).invalidate(query="how") == 1
    compact(database, clock=clock)
    assert store.find("s", "how?", "how?", exact_only=None).how == "miss"
    store.close()
    database.close()
