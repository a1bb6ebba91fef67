"""Entries that turn out to hold the same answer: joined, and known to every process."""

from __future__ import annotations

import threading
from typing import Any

from sqlalchemy import text

from langchain_tokopt.cache.decision import Threshold
from langchain_tokopt.cache.entries import Entries, NewEntry
from langchain_tokopt.cache.groups import Groups
from langchain_tokopt.cache.key import text_digest
from langchain_tokopt.cache.store import AnswerStore
from langchain_tokopt.database import Database
from langchain_tokopt.embeddings import MemoEmbeddings
from tests.fakes import FakeClock, TableEmbeddings

QUESTIONS = [f"how do I pay {word}" for word in ("well", "soon", "fast", "now", "much", "cash")]
TABLE = {question: [1.0, n / 10] for n, question in enumerate(QUESTIONS)} | {"asked": [1.0, 0.0]}


def open_store(database: Database) -> AnswerStore:
    return AnswerStore(
        database,
        MemoEmbeddings(TableEmbeddings(TABLE)),
        kind="agent",
        decider=Threshold(0.5),
        max_entries=100,
        max_scopes=10,
        clock=FakeClock(),
    )


def keep(store: AnswerStore, n: int, *, scope: str = "s", **fields: Any) -> int:
    question = QUESTIONS[n]
    entry_id = store.keep(
        scope=scope,
        owner="o",
        exact=text_digest(question),
        question=question,
        payload=f"to {n}",
        semantic=True,
        **fields,
    )
    assert entry_id is not None
    return entry_id


def groups(store: AnswerStore, scope: str = "s") -> dict[int, int]:
    """The group of each entry, as the process of this store knows it."""
    found = store.find(scope, text_digest("asked"), "asked", exact_only=None)
    assert found.verdict is not None
    return {neighbour.id: neighbour.answer for neighbour in found.verdict.near}


def answer_of(database: Database, entry_id: int) -> int:
    with database.read() as connection:
        query = text("SELECT COALESCE(answer, id) FROM tokopt_cache_entries WHERE id = :id")
        return int(connection.execute(query, {"id": entry_id}).scalar_one())


def test_another_process_learns_of_groups_that_became_one(url: str | None, database: Database) -> None:
    other = Database(url) if url else database
    mine, theirs = open_store(database), open_store(other)
    one, two = keep(mine, 0), keep(mine, 1)
    three, four = keep(mine, 2, answer=two), keep(mine, 3)
    assert groups(theirs) == {one: one, two: two, three: two, four: four}
    assert mine.regroup(two, one) == 2
    assert mine.set_answer(four, one)
    for store in (mine, theirs):
        assert groups(store) == {one: one, two: one, three: one, four: one}
        replica = store._follower._replicas.get("s")
        assert replica is not None
        # It is only the group that changed: no row of the index was written anew.
        assert [(segment.living, segment.buried) for segment in replica._held[0]._segments] == [(4, 0)]
    found = theirs.find("s", text_digest("asked"), "asked", exact_only=None)
    assert found.entry is not None
    assert (found.how, found.entry.payload) == ("semantic", "to 0")
    assert theirs.preload("s", [one]) == {one}
    assert theirs.preload("s", [two, four]) == set()
    if other is not database:
        other.close()


def test_what_is_one_already_or_gone_or_elsewhere_is_left_alone(database: Database) -> None:
    store = open_store(database)
    one, two, elsewhere = keep(store, 0), keep(store, 1), keep(store, 2, scope="t")
    gone = keep(store, 3)
    store.remove([gone])
    before = groups(store), groups(store, "t")
    for answer, into in (
        (one, one),
        (one, elsewhere),
        (elsewhere, one),
        (one, gone),
        (gone, one),
        (one, 99),
        (99, one),
    ):
        assert store.regroup(answer, into) == 0
    for entry_id, into in ((one, one), (one, elsewhere), (one, gone), (gone, one), (one, 99), (99, one)):
        assert not store.set_answer(entry_id, into)
    assert (groups(store), groups(store, "t")) == before == ({one: one, two: two}, {elsewhere: elsewhere})
    assert store.set_answer(one, two)
    assert not store.set_answer(one, two)


def test_kinds_never_touch_each_other(database: Database) -> None:
    store, foreign = open_store(database), Groups(database, kind="llm")
    one, two = keep(store, 0), keep(store, 1)
    assert (foreign.merge(one, two), foreign.assign(one, two), foreign.payloads([one])) == (0, False, {})


def test_a_group_that_went_into_another_stands_for_that_one(database: Database) -> None:
    store = open_store(database)
    one, two, three, four = (keep(store, n) for n in range(4))
    assert store.regroup(three, two) == 1
    assert store.regroup(two, one) == 2
    assert store.set_answer(four, three)  # by a process that knows nothing of all that
    assert groups(store) == {one: one, two: one, three: one, four: one}
    assert store.regroup(one, three) == 0
    assert groups(store) == {one: one, two: one, three: one, four: one}


def test_an_entry_that_left_its_group_leaves_the_number_to_the_others(database: Database) -> None:
    store = open_store(database)
    one, two = keep(store, 0), keep(store, 1)
    three = keep(store, 2, answer=two)
    assert store.set_answer(two, one)
    assert groups(store) == {one: one, two: one, three: two}
    assert store.regroup(two, one) == 1
    assert groups(store) == {one: one, two: one, three: one}


def test_a_group_outlives_the_entry_that_it_is_named_after(database: Database) -> None:
    store = open_store(database)
    one, two, three = keep(store, 0), keep(store, 1), keep(store, 4)
    four, five = keep(store, 2, answer=one), keep(store, 3, answer=two)
    store.remove([one, two])
    store.removal.purge(store._clock() + 1_000)
    assert store.set_answer(three, one)
    assert store.regroup(two, one) == 1
    assert groups(store) == {three: one, four: one, five: one}
    assert keep(store, 5) > five  # no number is given twice


def test_two_that_join_the_same_groups_at_once_agree(database: Database) -> None:
    entries, groups = Entries(database, kind="agent"), Groups(database, kind="agent")
    ids = [entries.put(NewEntry(scope="s", owner="o", exact=f"{n}", question="", payload=""), 0.0) for n in range(8)]
    wrong: list[BaseException] = []

    def work(turn: int) -> None:
        try:
            for n in range(len(ids)):
                one, two = ids[n], ids[(n + 1) % len(ids)]
                groups.merge(one, two) if turn % 2 else groups.merge(two, one)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len({answer_of(database, entry_id) for entry_id in ids}) == 1


def test_stored_answers_are_read_together(database: Database) -> None:
    store = open_store(database)
    one, two, three = keep(store, 0), keep(store, 1), keep(store, 2, scope="t")
    store.remove([two])
    assert store.answer_texts([three, one, two, 99, one]) == {one: "to 0", three: "to 2"}
    assert store.answer_texts([]) == {}
