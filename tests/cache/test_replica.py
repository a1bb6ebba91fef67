"""A scope in memory, kept in step with the database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from langchain_tokopt.cache.decision import Threshold
from langchain_tokopt.cache.entries import Entries, NewEntry, ScopeState
from langchain_tokopt.cache.key import text_digest
from langchain_tokopt.cache.removal import Removal
from langchain_tokopt.cache.replica import Replica
from langchain_tokopt.cache.store import AnswerStore
from langchain_tokopt.database import Database
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import StoreError
from tests.fakes import FakeClock, TableEmbeddings

TABLE = {"near": [1.0, 0.1], "far": [0.0, 1.0], "asked": [1.0, 0.0]}
ASKED = np.array([1.0, 0.0], dtype=np.float32)


def vector(*numbers: float) -> bytes:
    row = np.array(numbers, dtype="<f4")
    return bytes((row / np.linalg.norm(row)).tobytes())


def row(key: int, revision: int, *, alive: int = 1, at: bytes | None = None, embedder: str = "e", **fields: Any) -> Any:
    given = {"text": f"q{key}", "expires_at": None, "answer": key, **fields}
    at = at if at is not None else vector(1, key / 10)
    return (key, alive, given["text"], at, embedder, given["expires_at"], revision, given["answer"])


def ids(replica: Replica, now: float = 0.0) -> list[int]:
    return [near.id for near in replica.nearest(ASKED, 10, now)]


def test_portions_make_one_whole() -> None:
    replica = Replica("e", 2)
    replica.follow(ScopeState(1, 4, 0), -1, [[row(1, 1), row(2, 2)], [row(3, 3, expires_at=5.0), row(2, 4, alive=0)]])
    assert ids(replica) == [1, 3]
    assert ids(replica, now=5.0) == [1]
    assert replica.current(ScopeState(1, 4, 0))
    assert not replica.current(ScopeState(1, 5, 0))
    assert not replica.current(ScopeState(2, 4, 0))


def test_what_was_purged_unseen_makes_it_start_anew() -> None:
    replica = Replica("e", 2)
    replica.follow(ScopeState(1, 4, 0), -1, [[row(1, 1)]])
    assert replica.seen(ScopeState(1, 9, 4)) == 4
    assert replica.seen(ScopeState(1, 9, 5)) == -1
    replica.follow(ScopeState(1, 9, 5), -1, [[row(2, 9)]])
    assert ids(replica) == [2]


def test_a_failure_half_way_is_made_up_for_by_the_next_turn() -> None:
    replica = Replica("e", 2)
    replica.follow(ScopeState(1, 1, 0), -1, [[row(1, 1)]])

    def broken() -> Iterator[list[Any]]:
        yield [row(2, 2)]
        raise StoreError("the server went away")

    with pytest.raises(StoreError, match="went away"):
        replica.follow(ScopeState(1, 3, 0), 1, broken())
    assert not replica.current(ScopeState(1, 3, 0))
    replica.follow(ScopeState(1, 3, 0), 1, [[row(2, 2), row(3, 3)]])
    assert ids(replica) == [1, 2, 3]


def test_other_embedders_are_left_out_and_one_that_changed_its_length_is_refused() -> None:
    replica = Replica("e", 2)
    replica.follow(ScopeState(1, 2, 0), -1, [[row(1, 1), row(2, 2, at=vector(1, 2, 3), embedder="other")]])
    assert ids(replica) == [1]
    refused = "vectors of length 3 of the embedder 'e', which gives 2 numbers now: remove them"
    with pytest.raises(StoreError, match=refused):
        replica.follow(ScopeState(1, 3, 0), 2, [[row(3, 3, at=vector(1, 2, 3))]])


def open_store(database: Database) -> AnswerStore:
    embeddings = MemoEmbeddings(TableEmbeddings(TABLE))
    return AnswerStore(
        database,
        embeddings,
        kind="agent",
        decider=Threshold(0.9),
        max_entries=100,
        max_scopes=10,
        clock=FakeClock(),
    )


def test_many_threads_that_meet_an_unknown_scope_read_it_once(database: Database) -> None:
    store = open_store(database)
    store.keep(scope="s", owner="o", exact=text_digest("near"), question="near", payload="x", semantic=True)
    read: list[int] = []
    changes = store.entries.changes

    def counted(connection: Any, scope_id: int, seen: int) -> Any:
        read.append(seen)
        return changes(connection, scope_id, seen)

    store.entries.changes = counted  # type: ignore[method-assign]
    found: list[str] = []
    together = threading.Barrier(6)

    def ask() -> None:
        together.wait()
        found.append(store.find("s", text_digest("asked"), "asked", exact_only=None).how)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["semantic"] * 6
    assert read == [-1]


def test_a_purge_between_two_queries_is_noticed(database: Database) -> None:
    if database.dialect != "postgresql":
        pytest.skip("on SQLite both queries see one state of the database")
    store, entries = open_store(database), Entries(database, kind="agent")
    first = entries.put(
        NewEntry(
            scope="s",
            owner="o",
            exact="1",
            question="near",
            payload="x",
            vector=store._embeddings.vector("near").tobytes(),
            embedder=store._embeddings.name,
        ),
        0.0,
    )
    ask = lambda: store.find("s", text_digest("asked"), "asked", exact_only=None).how  # noqa: E731
    assert ask() == "semantic"
    removal = Removal(database, kind="agent")
    entries.put(NewEntry(scope="s", owner="o", exact="2", question="", payload="y"), 0.0)
    changes = store.entries.changes

    def removed_just_before(connection: Any, scope_id: int, seen: int) -> Any:
        store.entries.changes = changes  # type: ignore[method-assign]

        def work() -> None:
            removal.remove([first], 0.0)
            removal.purge(1000.0)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return changes(connection, scope_id, seen)

    store.entries.changes = removed_just_before  # type: ignore[method-assign]
    assert ask() == "miss"
