"""Making room in the database: whom it costs, how little is read for it, and what several processes learn together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, text

from langchain_tokopt.cache.entries import Entries, NewEntry
from langchain_tokopt.cache.eviction import POLICIES, Adaptive, Census, Limits, Room
from langchain_tokopt.cache.key import text_digest
from langchain_tokopt.cache.removal import Removal
from langchain_tokopt.database import Database
from tests.databases import KINDS

START = 1_800_000_000.0


def open_room(database: Database, policy: str, kind: str = "agent", *, alike: float = 0.9, **limits: int) -> Room:
    room = Limits(**limits)
    removal = Removal(database, kind=kind)
    return Room(Entries(database, kind=kind), removal, policy=POLICIES[policy](room), limits=room, alike=alike)


def new_entry(question: str, *, kind: str = "agent", size: int = 10, **fields: Any) -> NewEntry:
    given = {"scope": f"scope of {kind}", "owner": "o", "question": "", "payload": "x" * size, **fields}
    return NewEntry(exact=text_digest(question), **given)


def put(database: Database, question: str, at: float, *, kind: str = "agent", size: int = 10, **fields: Any) -> int:
    return Entries(database, kind=kind).put(new_entry(question, kind=kind, size=size, **fields), START + at)


def put_many(database: Database, count: int, *, kind: str = "agent", **fields: Any) -> list[int]:
    return [put(database, f"{kind} {n}", float(n), kind=kind, **fields) for n in range(count)]


def alive(database: Database) -> list[int]:
    with database.read() as connection:
        query = text("SELECT id FROM tokopt_cache_entries WHERE alive = 1 ORDER BY id")
        return [int(key) for key in connection.execute(query).scalars()]


def use(database: Database, used: dict[int, tuple[float, int]]) -> None:
    Entries(database, kind="agent").touch({key: (START + at, hits) for key, (at, hits) in used.items()})


# --- every policy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_the_limits_hold_and_no_more_goes_than_must(database: Database, policy: str) -> None:
    room = open_room(database, policy, entries=20)
    put_many(database, 20)
    assert room.make(START + 100) == 0
    assert room.until_full(at_most=64) == 0
    put_many(database, 30, kind="llm")
    more = [put(database, f"more {n}", 30.0 + n) for n in range(5)]
    assert room.make(START + 100) == 5
    assert room.census() == Census(20, 200)
    assert room.evicted == 5
    assert len(more) == 5
    assert len(alive(database)) == 50  # the other kind is left alone
    assert open_room(database, policy, entries=40).until_full(at_most=64) == 20
    assert open_room(database, policy, entries=400).until_full(at_most=64) == 64


@pytest.mark.parametrize("policy", POLICIES)
def test_bytes_are_a_limit_of_their_own(database: Database, policy: str) -> None:
    room = open_room(database, policy, bytes=100)
    for n in range(12):
        put(database, str(n), float(n), size=5 + n, value_nano_usd=100)
    assert room.make(START + 100) > 0
    census = room.census()
    assert census.bytes <= 100
    assert census.bytes > 100 - 16  # one more would have been too many
    assert room.until_full(at_most=64) == (100 - census.bytes) // (census.bytes // census.entries)
    assert (room.fits(100), room.fits(101)) == (True, False)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_limit_that_was_lowered_is_reached_at_once(database: Database, policy: str) -> None:
    entries = Entries(database, kind="agent")
    entries.put_all([new_entry(str(n)) for n in range(300)], START)
    assert open_room(database, policy, entries=7).make(START + 1000) == 293
    assert len(alive(database)) == 7


@pytest.mark.parametrize("policy", POLICIES)
def test_an_empty_cache_has_room(database: Database, policy: str) -> None:
    room = open_room(database, policy, entries=1)
    assert room.make(START) == 0
    assert room.until_full(at_most=64) == 1
    told = room.status()
    assert {k: told[k] for k in ("policy", "entries", "bytes", "max_entries", "max_bytes", "evicted")} == {
        "policy": policy,
        "entries": 0,
        "bytes": 0,
        "max_entries": 1,
        "max_bytes": None,
        "evicted": 0,
    }


# --- whom it costs ---------------------------------------------------------------------------------------------------


def test_lru_removes_what_was_not_used_for_longest(database: Database) -> None:
    ids = put_many(database, 6)
    use(database, {ids[0]: (50.0, 1), ids[2]: (40.0, 1)})
    assert open_room(database, "lru", entries=3).make(START + 100) == 3
    assert alive(database) == [ids[0], ids[2], ids[5]]


def test_lfu_removes_what_was_used_least(database: Database) -> None:
    ids = put_many(database, 6)
    use(database, {ids[0]: (10.0, 5), ids[1]: (11.0, 1), ids[4]: (12.0, 3)})
    assert open_room(database, "lfu", entries=3).make(START + 100) == 3
    assert alive(database) == [ids[0], ids[1], ids[4]]


def test_ttl_removes_what_expires_first_then_what_is_oldest(database: Database) -> None:
    ids = [
        put(database, "never, old", 0.0),
        put(database, "late", 1.0, expires_at=START + 900),
        put(database, "soon", 2.0, expires_at=START + 500),
        put(database, "never, new", 3.0),
    ]
    assert open_room(database, "ttl", entries=3).make(START + 100) == 1
    assert alive(database) == [ids[0], ids[1], ids[3]]
    assert open_room(database, "ttl", entries=1).make(START + 100) == 2
    assert alive(database) == [ids[3]]


def test_cost_removes_what_saves_least_for_its_bytes(database: Database) -> None:
    ids = [
        put(database, "dear", 0.0, size=10, value_nano_usd=100),
        put(database, "unknown", 1.0, size=10),  # counts as the mean of the others
        put(database, "cheap", 2.0, size=10, value_nano_usd=1),
        put(database, "long", 3.0, size=60, value_nano_usd=100),
    ]
    assert open_room(database, "cost", bytes=80).make(START + 100) == 1
    assert alive(database) == [ids[0], ids[1], ids[3]]
    assert open_room(database, "cost", bytes=79).make(START + 100) == 1
    assert alive(database) == [ids[0], ids[1]]


# --- how little is read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_no_table_is_read_as_a_whole(tmp_path: Path, policy: str) -> None:
    database = Database(tmp_path / "cache.db")
    put_many(database, 40)
    room = open_room(database, policy, entries=30)
    asked: list[tuple[str, Any]] = []

    def listen(_c: Any, _u: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.lstrip().startswith("SELECT"):
            asked.append((statement, parameters))

    event.listen(database._engine, "before_cursor_execute", listen)
    assert room.make(START + 100) == 10
    event.remove(database._engine, "before_cursor_execute", listen)
    plans = []
    with database.read() as connection:
        for statement, parameters in asked:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans += [str(row[3]) for row in plan]
    assert any("tokopt_cache_entries" in plan for plan in plans)
    assert [plan for plan in plans if "SCAN tokopt_cache_entries" in plan and "INDEX" not in plan] == []
    assert [plan for plan in plans if "TEMP B-TREE FOR ORDER BY" in plan] == []
    database.close()


def test_a_sample_goes_round_through_all_entries(database: Database) -> None:
    ids = put_many(database, 10)
    rows = open_room(database, "lfu", entries=3)._rows
    seen = [row.id for _ in range(5) for row in rows.sample(4)]
    assert set(seen) == set(ids)
    assert [seen.count(key) for key in ids] == [2] * 10
    assert sorted(row.id for row in rows.sample(99)) == ids


# --- what is learnt --------------------------------------------------------------------------------------------------


def ask(database: Database, room: Room, questions: Sequence[str], at: float, **fields: Any) -> int:
    """How many of the questions were hits, in a cache that makes room after each."""
    hits = 0
    entries = Entries(database, kind="agent")
    for n, question in enumerate(questions):
        now = START + at + n
        _, entry = entries.find("scope of agent", text_digest(question), now)
        if entry is not None:
            entries.touch({entry.id: (now, 1)})
            hits += 1
        else:
            put(database, question, at + n, **fields)
        room.make(now)
    return hits


def test_adaptive_learns_from_the_rows_and_passes_it_on(tmp_path: Path) -> None:
    database = Database(tmp_path / "cache.db")
    circle = [str(n % 12) for n in range(300)]
    room = open_room(database, "adaptive", entries=10)
    assert ask(database, room, circle, 0.0) > 120  # LRU and LFU have none at all
    assert room.status()["followed"] == "mru"
    room.save()
    database.close()
    again = Database(tmp_path / "cache.db")
    later = open_room(again, "adaptive", entries=10)
    assert later.status()["followed"] == "mru"
    assert later.status()["scores"] == room.policy.scores if isinstance(room.policy, Adaptive) else None
    again.close()


def test_each_use_is_learnt_once_whoever_looks(database: Database) -> None:
    first, second = (open_room(database, "adaptive", entries=10) for _ in "ab")
    ids = put_many(database, 4)
    use(database, {ids[0]: (20.0, 3), ids[1]: (21.0, 1)})
    first.make(START + 30)
    first.save()
    assert first.policy.state()["scores"]["lru"] == pytest.approx(4.0, rel=0.02)
    second.make(START + 31)
    assert second.policy.state()["scores"] == first.policy.state()["scores"]
    use(database, {ids[0]: (40.0, 2)})
    second.make(START + 41)
    second.save()
    second.make(START + 42)
    assert second.policy.state()["scores"]["lru"] == pytest.approx(6.0, rel=0.03)
    first.make(START + 43)
    assert first.policy.state()["scores"] == second.policy.state()["scores"]


def test_lfu_passes_on_how_old_entries_are(database: Database) -> None:
    room = open_room(database, "lfu", entries=2)
    ids = put_many(database, 3)
    use(database, dict.fromkeys(ids, (10.0, 4)))
    assert room.make(START + 100) == 1
    assert open_room(database, "lfu", entries=2).policy.state() == [[], []]
    later = open_room(database, "lfu", entries=2)
    later.make(START + 101)
    assert later.policy.state() == room.policy.state() == [[START + 100], [5.0]]


@pytest.mark.parametrize("state", ["no JSON", '{"policy": 3}', '{"policy": [[1.0], []]}'])
def test_what_cannot_be_read_is_learnt_anew(database: Database, caplog: pytest.LogCaptureFixture, state: str) -> None:
    room = open_room(database, "lfu", entries=2)
    put_many(database, 3)
    assert room.make(START + 100) == 1
    with database.write() as connection:
        connection.execute(text("UPDATE tokopt_cache_eviction SET state = :state, version = 7"), {"state": state})
    put(database, "more", 50.0)
    later = open_room(database, "lfu", entries=2)
    assert later.make(START + 101) == 1
    told = "cache: what eviction='lfu' had learnt cannot be read and is learnt anew: "
    assert [record.message.startswith(told) for record in caplog.records] == [True]
    assert open_room(database, "lfu", entries=2).make(START + 102) == 0
    assert len(caplog.records) == 1


def paraphrase(meaning: int, n: int, *, scope: str = "s") -> NewEntry:
    """A question in words that nobody has used before; `meaning` turns its vector by a right angle."""
    vector = np.zeros(16, dtype="<f4")
    vector[meaning], vector[15] = 1.0, 0.1 * (n % 3)
    return NewEntry(
        scope=scope,
        owner="o",
        exact=text_digest(f"{scope} {meaning} {n}"),
        question="?",
        payload="x",
        vector=(vector / np.linalg.norm(vector)).tobytes(),
        embedder="e",
    )


def ask_in_other_words(database: Database, room: Room, meanings: Sequence[int]) -> int:
    """How many were hits, in a cache that knows the meaning, not the words, and makes room after each."""
    entries = Entries(database, kind="agent")
    known: dict[int, int] = {}
    hits = 0
    for n, meaning in enumerate(meanings):
        now = START + n
        if meaning in known:
            entries.touch({known[meaning]: (now, 1)})
            hits += 1
        else:
            known[meaning] = entries.put(paraphrase(meaning, n), now)
        if room.make(now):
            there = set(alive(database))
            known = {meaning: key for meaning, key in known.items() if key in there}
    return hits


@pytest.mark.parametrize(
    ("url", "alike", "followed"),
    [*((kind, 0.9, "mru") for kind in KINDS), ("memory", 1.1, "cost")],
    indirect=["url"],
)
def test_a_lost_question_is_known_again_in_other_words(database: Database, alike: float, followed: str) -> None:
    room = open_room(database, "adaptive", alike=alike, entries=10)
    hits = ask_in_other_words(database, room, [n % 12 for n in range(240)])
    assert room.status()["followed"] == followed
    assert (hits > 90) == (followed == "mru")


def test_only_what_is_lost_and_of_the_same_scope_and_embedder_is_known_again(database: Database) -> None:
    room = open_room(database, "adaptive", entries=10)
    entries = Entries(database, kind="agent")
    first, other = entries.put(paraphrase(1, 0), START), entries.put(paraphrase(1, 1, scope="other"), START)
    there = entries.put(paraphrase(2, 0), START)
    room.make(START)
    Removal(database, kind="agent").remove([first], START)
    again = entries.put(paraphrase(1, 2), START + 1)
    refused = entries.put(paraphrase(2, 1), START + 1)  # like one that is there: the cache has told them apart
    foreign = entries.put(replace(paraphrase(1, 4), embedder="f"), START + 1)
    short = entries.put(replace(paraphrase(1, 5), vector=np.ones(1, dtype="<f4").tobytes()), START + 1)
    room.make(START + 2)
    later = entries.put(paraphrase(1, 6), START + 3)  # like `again`, which is there
    room.make(START + 4)
    assert room._observation is not None
    ghosts = room._observation._ghosts
    keys = {row.id: ghosts.key(row) for row in room._rows.these([other, there, again, refused, foreign, short, later])}
    assert len(set(keys.values())) == len(keys) == 7
    assert keys[again] == f"{room._rows.these([again])[0].scope_id}:{text_digest('s 1 0')[:20]}"
    assert ghosts.outside() == [again]
    Removal(database, kind="agent").remove([again], START + 5)
    ghosts.forget(lambda key: key == keys[there])
    assert ghosts.outside() == []
    assert [list(known) for known in ghosts._known.values()] == [[keys[there]]]


def test_room_can_be_made_without_learning(database: Database) -> None:
    room = open_room(database, "adaptive", entries=5)
    put_many(database, 6)
    assert room.make(START + 10, learn=False) == 1
    assert set(room.status()["scores"].values()) == {0.0}
    assert room._observation is not None
    assert room._observation._newest == 0
    assert room.make(START + 20) == 0
    assert room._observation._newest == 6


def test_threads_that_store_and_make_room_at_once(database: Database) -> None:
    rooms = [open_room(database, "adaptive", entries=25) for _ in "ab"]
    wrong: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for n in range(20):
                put(database, f"{seed} {n}", float(n))
                rooms[seed % 2].make(START + n)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    rooms[0].make(START + 100)
    assert 0 < len(alive(database)) <= 25
