"""The cache's rows on every database: what a new entry is, groups of the same answer, sizes, and older tables."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from langchain_tokopt.cache.cleanup import clean
from langchain_tokopt.cache.decision import Neighbour
from langchain_tokopt.cache.entries import Entries, NewEntry
from langchain_tokopt.cache.eviction import POLICIES, Limits, Room
from langchain_tokopt.cache.removal import Removal
from langchain_tokopt.cache.replica import Replica
from langchain_tokopt.cache.schema import STEPS
from langchain_tokopt.database import Database

EAST, NORTH = (np.array(row, dtype="<f4").tobytes() for row in ([1, 0], [0, 1]))


@pytest.fixture
def entries(database: Database) -> Entries:
    return Entries(database, kind="agent")


def new(question: str, scope: str = "s", **fields: Any) -> NewEntry:
    given = {"owner": "o", "payload": f"to {question}", "exact": f"digest of {question}", **fields}
    return NewEntry(scope=scope, question=question, **given)


def rows(database: Database, columns: str) -> list[tuple[Any, ...]]:
    with database.read() as connection:
        found = connection.execute(text(f"SELECT {columns} FROM tokopt_cache_entries ORDER BY id"))
        return [tuple(row) for row in found]


def neighbours(entries: Entries, scope: str = "s") -> list[Neighbour]:
    replica = Replica("e", 2)
    with entries.database.read() as connection:
        state = entries.state(connection, scope)
        assert state is not None
        replica.follow(state, -1, entries.changes(connection, state.id, -1))
    return replica.nearest(np.array([0.8, 0.6], dtype=np.float32), 10, now=0.0)


def test_what_an_entry_is_worth_and_where_it_is_from(database: Database, entries: Entries) -> None:
    first = entries.put(new("caf\u00e9", vector=EAST, embedder="e", value_nano_usd=120_000), 0.0)
    second = entries.put(new("b", source="import"), 0.0)
    assert rows(database, "id, bytes, value, source, answer") == [
        (first, 8 + 5 + 8, 120_000, "model", None),
        (second, 4 + 1, None, "import", None),
    ]
    assert entries.size() == (2, 26)


def test_entries_with_the_same_answer_have_the_number_of_the_first(entries: Entries) -> None:
    first = entries.put(new("a", vector=EAST, embedder="e"), 0.0)
    second = entries.put(new("b", vector=NORTH, embedder="e", answer=first), 0.0)
    assert [(near.id, near.text, near.answer) for near in neighbours(entries)] == [
        (first, "a", first),
        (second, "b", first),
    ]


def test_a_new_answer_leaves_the_group_of_the_old_one(database: Database, entries: Entries) -> None:
    first = entries.put(new("a", vector=EAST, embedder="e"), 0.0)
    second = entries.put(new("b", vector=NORTH, embedder="e", answer=first), 0.0)
    third = entries.put(new("a", vector=EAST, embedder="e", payload="something else"), 1.0)
    assert len({first, second, third}) == 3
    assert [(near.id, near.answer) for near in neighbours(entries)] == [(third, third), (second, first)]
    assert rows(database, "id, alive, payload") == [(first, 0, ""), (second, 1, "to b"), (third, 1, "something else")]
    assert entries.size()[0] == 2


def test_a_question_is_stored_again_after_its_removal(database: Database, entries: Entries) -> None:
    first = entries.put(new("a"), 0.0)
    assert Removal(database, kind="agent").remove([first, first, 999], 0.0) == 1
    assert entries.find("s", "digest of a", 0.0)[1] is None
    again = entries.put(new("a"), 0.0)
    assert again != first
    found = entries.find("s", "digest of a", 0.0)[1]
    assert found is not None
    assert (found.id, found.payload) == (again, "to a")


def test_many_are_stored_at_once_and_the_last_to_a_question_counts(entries: Entries) -> None:
    ids = entries.put_all([new("a", "s"), new("b", "t"), new("a", "s", payload="later")], 0.0)
    assert len(set(ids)) == 3
    found = entries.find("s", "digest of a", 0.0)[1]
    assert found is not None
    assert (found.id, found.payload) == (ids[2], "later")
    assert entries.count() == 2
    assert entries.put_all([], 0.0) == []


def test_writers_that_open_and_remove_the_same_scopes_never_wait_in_a_circle(entries: Entries) -> None:
    wrong: list[BaseException] = []

    def store(scopes: str) -> None:
        mine = Entries(entries.database, kind="agent")
        try:
            for n in range(15):
                ids = mine.put_all([new(f"q{n}", scope) for scope in scopes], 0.0)
                mine.touch(dict.fromkeys(ids, (1.0, 1)))
        except BaseException as error:
            wrong.append(error)

    def remove() -> None:
        removal = Removal(entries.database, kind="agent")
        limits = Limits(entries=5)
        room = Room(Entries(entries.database, kind="agent"), removal, policy=POLICIES["lru"](limits), limits=limits)
        try:
            for n in range(15):
                removal.clear() if n % 3 else clean(removal, room, 0.0)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=store, args=(scopes,)) for scopes in ("abcde", "edcba", "caebd")]
    threads.extend(threading.Thread(target=remove) for _ in "ab")
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_tables_of_the_first_version_are_taken_over(database: Database) -> None:
    database.migrate("cache", STEPS[:1])
    insert = text(
        """INSERT INTO tokopt_cache_entries (scope_id, kind, exact, revision, alive, question, vector, embedder,
        payload, tags, created_at, used_at, hits) VALUES
        (1, 'agent', :exact, 1, :alive, 'caf\u00e9', :vector, 'e', 'to it', '',
        0, 0, 0)"""
    )
    with database.write() as connection:
        connection.execute(
            text(
                """INSERT INTO tokopt_cache_scopes (kind, scope, owner, revision, purged)
                VALUES ('agent', 's', 'o', 1, 0)"""
            )
        )
        for exact, alive, vector in (("x", 1, EAST), ("y", 1, None), ("z", 0, None)):
            connection.execute(insert, {"exact": exact, "alive": alive, "vector": vector})
    entries = Entries(database, kind="agent")
    assert rows(database, "exact, bytes, answer, value, source") == [
        ("x", 18, None, None, "model"),
        ("y", 10, None, None, "model"),
        ("#3", 0, None, None, "model"),
    ]
    assert [(near.id, near.text, near.answer) for near in neighbours(entries)] == [(1, "caf\u00e9", 1)]
    assert entries.put(new("z", exact="z"), 0.0) == 4
