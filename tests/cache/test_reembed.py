"""A new embedder: questions are embedded anew in the background, or the store does not open; nothing is ever mixed."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
from sqlalchemy import text

from langchain_tokopt.cache.decision import Threshold
from langchain_tokopt.cache.key import text_digest
from langchain_tokopt.cache.reembed import Reembedding
from langchain_tokopt.cache.store import AnswerStore
from langchain_tokopt.database import Database
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import ConfigurationError, StoreError
from tests.fakes import FakeClock, TableEmbeddings

TABLE = {"how do I pay": [1.0, 0.0], "how can I pay": [1.0, 0.1], "paying, how": [1.0, 0.2]}


class OldEmbeddings(TableEmbeddings):
    pass


class NewEmbeddings(TableEmbeddings):
    pass


def open_store(database: Database, embeddings: TableEmbeddings, clock: FakeClock | None = None, **settings: Any) -> Any:
    given = {"kind": "agent", "decider": Threshold(0.97), "max_entries": 1000, "max_scopes": 10, **settings}
    return AnswerStore(database, MemoEmbeddings(embeddings), clock=clock or FakeClock(), **given)


def keep(store: AnswerStore, question: str, scope: str = "s") -> int | None:
    return store.keep(
        scope=scope, owner="o", exact=text_digest(question), question=question, payload=question, semantic=True
    )


def fill(database: Database, embeddings: TableEmbeddings, *questions: str) -> None:
    store = open_store(database, embeddings)
    for n, question in enumerate(questions):
        keep(store, question, scope="s" if n % 2 == 0 else "t")
    assert store._chores.settle()
    store.close()


def find(store: AnswerStore, question: str) -> tuple[str, str | None]:
    found = store.find("s", text_digest(question), question, exact_only=None)
    return found.how, found.reason


def embedders(database: Database) -> list[tuple[str, int]]:
    with database.read() as connection:
        query = "SELECT embedder, COUNT(*) FROM tokopt_cache_entries WHERE alive = 1 GROUP BY embedder ORDER BY 1"
        return [tuple(row) for row in connection.execute(text(query))]


def reembedding(database: Database, embeddings: TableEmbeddings, clock: FakeClock | None = None) -> Reembedding:
    memo = MemoEmbeddings(embeddings)
    return Reembedding(database, kind="agent", embeddings=memo, clock=clock or FakeClock())


def test_questions_of_another_embedder_are_found_again_once_they_are_embedded_anew(database: Database) -> None:
    old = open_store(database, OldEmbeddings(TABLE))
    keep(old, "how do I pay")
    keep(old, "how can I pay")
    assert old._chores.settle()
    new = open_store(database, NewEmbeddings(TABLE))
    due_at, new._reembedding._due_at = new._reembedding._due_at, math.inf
    assert find(new, "paying, how") == ("miss", "nothing stored")
    assert find(new, "how do I pay")[0] == "exact"
    new._reembedding._due_at = due_at
    find(new, "paying, how")
    assert new._chores.settle()
    assert find(new, "paying, how")[0] == "semantic"
    assert embedders(database) == [("NewEmbeddings/8", 2)]
    none = {"too_big": 0, "not_reembedded": 0, "failed_chores": 0}
    assert new.counts().items() >= {**none, "reembedded": 2, "to_reembed": 0}.items()
    assert old.counts().items() >= {**none, "reembedded": 0, "to_reembed": 2}.items()
    later = open_store(database, OldEmbeddings(TABLE)).counts()
    assert later.items() >= {**none, "reembedded": 0, "to_reembed": None}.items()
    # Who still has the old one finds nothing similar any more, and nothing that is mixed.
    assert find(old, "paying, how")[0] == "miss"
    assert find(old, "how do I pay")[0] == "exact"


def test_a_store_that_refuses_names_both_embedders_and_the_remedy(database: Database) -> None:
    open_store(database, NewEmbeddings(TABLE), on_embedder_change="refuse")
    fill(database, OldEmbeddings(TABLE), "how do I pay")
    open_store(database, OldEmbeddings(TABLE), on_embedder_change="refuse")
    refused = (
        r"embeddings='NewEmbeddings/8' .* another embedder \(1 of 'OldEmbeddings/8'\): use that one, set on_embedder"
    )
    with pytest.raises(ConfigurationError, match=refused):
        open_store(database, NewEmbeddings(TABLE), on_embedder_change="refuse")


def test_an_embedder_with_nothing_to_compare_is_not_even_found() -> None:
    database, embeddings = Database(), NewEmbeddings(TABLE)
    open_store(database, embeddings, on_embedder_change="refuse")
    assert embeddings.asked == []
    database.close()


@pytest.mark.parametrize(("name", "value"), [("on_embedder_change", "mix"), ("max_entry_bytes", 0)])
def test_settings_that_cannot_work_are_refused(name: str, value: Any) -> None:
    database = Database()
    with pytest.raises(ConfigurationError, match=f"{name}={value!r}"):
        open_store(database, NewEmbeddings(TABLE), **{name: value})
    database.close()


def test_several_processes_embed_every_question_once(url: str | None, database: Database) -> None:
    fill(database, OldEmbeddings({}), *(f"question {n}" for n in range(100)))
    # A database in memory has one object.
    databases = [Database(url) if url else database for _ in range(4)]
    embeddings = [NewEmbeddings({}) for _ in databases]
    works = [reembedding(*pair) for pair in zip(databases, embeddings, strict=True)]
    wrong: list[BaseException] = []
    together = threading.Barrier(len(works))

    def work(one: Reembedding) -> None:
        try:
            one.begin()
            together.wait()
            while not one.run():
                pass
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(one,)) for one in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in databases:
        if other is not database:
            other.close()
    assert wrong == []
    assert embedders(database) == [("NewEmbeddings/8", 100)]
    assert sum(one.done for one in works) == 100
    asked = sorted(question for one in embeddings for question in one.asked if question != "dimension")
    assert asked == sorted(f"question {n}" for n in range(100))


def test_another_process_takes_over_when_a_lease_runs_out(database: Database) -> None:
    clock = FakeClock()
    fill(database, OldEmbeddings({}), *(f"question {n}" for n in range(20)))
    dying, next_one = (reembedding(database, NewEmbeddings({}), clock) for _ in range(2))
    assert dying.begin()
    assert dying.step(0) == 16  # and then it is killed
    assert next_one.begin()
    assert not next_one.run()
    assert next_one.done == 0
    clock.advance(60)
    assert next_one.run()
    assert (dying.done, next_one.done) == (16, 4)


def test_the_embedder_that_was_opened_last_decides(database: Database) -> None:
    fill(database, OldEmbeddings({}), "question")
    first, last = reembedding(database, NewEmbeddings({})), reembedding(database, TableEmbeddings({}))
    assert first.begin()
    assert last.begin()
    assert not first.run()
    assert last.run()
    assert not first.run()
    assert embedders(database) == [("TableEmbeddings/8", 1)]


def test_a_question_that_cannot_be_embedded_stays_and_the_others_are_done(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    class Picky(NewEmbeddings):
        def embed_query(self, text: str) -> list[float]:
            if text == "bad":
                raise ValueError("not this one")
            return super().embed_query(text)

    fill(database, OldEmbeddings({}), "a", "bad", "b")
    work = reembedding(database, Picky({}))
    assert work.begin()
    assert not work.run()
    assert (work.done, work.failed) == (2, 1)
    assert embedders(database) == [("OldEmbeddings/8", 1), ("Picky/8", 2)]
    assert [record.message for record in caplog.records] == [
        "a cached question could not be embedded anew: ValueError: not this one"
    ]


def test_what_is_left_is_taken_up_again_later(database: Database) -> None:
    class Down(NewEmbeddings):
        down = True

        def embed_query(self, text: str) -> list[float]:
            if self.down and text == "how do I pay":
                raise ConnectionError
            return super().embed_query(text)

    clock, embeddings = FakeClock(), Down(TABLE)
    fill(database, OldEmbeddings(TABLE), "how do I pay")
    store = open_store(database, embeddings, clock)
    for advance, left in ((0.0, "OldEmbeddings/8"), (59.0, "OldEmbeddings/8"), (1.0, "Down/8")):
        clock.advance(advance)
        find(store, "paying, how")
        assert store._chores.settle()
        assert embedders(database) == [(left, 1)]
        embeddings.down = False
    assert find(store, "paying, how")[0] == "semantic"


def test_an_entry_that_changed_meanwhile_is_left_alone(database: Database) -> None:
    old = open_store(database, OldEmbeddings({}))
    first = keep(old, "question")
    assert old._chores.settle()

    class Replacing(NewEmbeddings):
        def embed_query(self, text: str) -> list[float]:
            if text == "question":
                keep(old, "question")
            return super().embed_query(text)

    work = reembedding(database, Replacing({}))
    work.begin()
    assert work.step(0) == first
    assert work.done == 0
    assert embedders(database) == [("OldEmbeddings/8", 1)]


def test_a_wrong_length_under_the_same_name_is_an_error(database: Database) -> None:
    store = open_store(database, NewEmbeddings(TABLE))
    keep(store, "how do I pay")
    with database.write() as connection:
        connection.execute(text("UPDATE tokopt_cache_entries SET vector = :short"), {"short": b"\0" * 8})
    with pytest.raises(
        StoreError, match="vectors of length 2 of the embedder 'NewEmbeddings/8', which gives 8 numbers"
    ):
        find(store, "paying, how")
    assert find(store, "how do I pay")[0] == "exact"


def test_an_entry_that_is_too_big_is_not_stored(database: Database) -> None:
    store = open_store(database, NewEmbeddings({}), max_entry_bytes=40)
    assert keep(store, "four") == 1  # payload, question and 8 numbers
    assert keep(store, "fives") is None
    assert store.entries.count() == 1
    assert store.counts()["too_big"] == 1
