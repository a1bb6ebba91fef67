"""Files of big scopes: read instead of the database where they are true, thrown away where they are not."""

from __future__ import annotations

import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from langchain_tokopt.cache import snapshots
from langchain_tokopt.cache.decision import Threshold
from langchain_tokopt.cache.key import text_digest
from langchain_tokopt.cache.store import AnswerStore
from langchain_tokopt.database import Database
from langchain_tokopt.embeddings import MemoEmbeddings
from tests.databases import database_url
from tests.fakes import FakeClock, TableEmbeddings

QUESTIONS = ["red", "green", "blue", "white"]
TABLE = {
    "red": [1.0],
    "reddish": [1.0, 0.1],
    "green": [0.0, 1.0],
    "greenish": [0.1, 1.0],
    "blue": [0.0, 0.0, 1.0],
    "blueish": [0.0, 0.1, 1.0],
    "white": [0.0, 0.0, 0.0, 1.0],
    "whitish": [0.0, 0.0, 0.1, 1.0],
}


@pytest.fixture(autouse=True)
def small_scopes_have_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_LEAST_ROWS", 4)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "cache.db")
    yield database
    database.close()


def open_store(database: Database, clock: FakeClock | None = None, **settings: Any) -> AnswerStore:
    given = {"kind": "agent", "decider": Threshold(0.97), "max_entries": 1000, "max_scopes": 10, **settings}
    return AnswerStore(database, MemoEmbeddings(TableEmbeddings(TABLE)), clock=clock or FakeClock(), **given)


def keep(store: AnswerStore, question: str, scope: str = "s", **fields: Any) -> None:
    given = {"owner": "o", "payload": f"to {question}", **fields}
    store.keep(scope=scope, exact=text_digest(question), question=question, semantic=True, **given)


def ask(store: AnswerStore, question: str, scope: str = "s") -> str | None:
    found = store.find(scope, text_digest(question), question, exact_only=None)
    return found.entry.payload if found.entry is not None else None


def filled(database: Database, **settings: Any) -> AnswerStore:
    """A store whose scope has been written to a file."""
    store = open_store(database, **settings)
    for question in QUESTIONS:
        keep(store, question)
    assert ask(store, "reddish") == "to red"
    assert store._chores.settle()
    return store


def seen_by(store: AnswerStore) -> list[int]:
    """After which revisions the store reads changes, from now on."""
    seen: list[int] = []
    changes = store.entries.changes

    def noted(connection: Any, scope_id: int, after: int) -> Any:
        seen.append(after)
        return changes(connection, scope_id, after)

    store.entries.changes = noted  # type: ignore[method-assign]
    return seen


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*"))


def test_the_next_process_reads_the_file_and_only_what_came_later(database: Database, tmp_path: Path) -> None:
    first = filled(database)
    (file,) = files(tmp_path / "cache.db.index")
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    first.remove_tagged("none")
    first.drop(first.find("s", text_digest("blue"), "blue", exact_only=None).entry)  # type: ignore[arg-type]
    keep(first, "red", payload="something new")
    second = open_store(database)
    seen = seen_by(second)
    assert ask(second, "greenish") == "to green"
    assert ask(second, "blueish") is None
    assert ask(second, "reddish") == "something new"
    assert seen == [4]


def test_expiry_and_groups_are_as_they_were(database: Database) -> None:
    clock = FakeClock()
    store = open_store(database, clock)
    for question in QUESTIONS[:-1]:
        keep(store, question)
    keep(store, "white", ttl_seconds=10, answer=1)
    ask(store, "reddish")
    assert store._chores.settle()
    second = open_store(database, clock)
    seen = seen_by(second)
    found = second.find("s", text_digest("whitish"), "whitish", exact_only=None)
    assert found.verdict is not None
    assert found.verdict.neighbour is not None
    assert (found.verdict.neighbour.id, found.verdict.neighbour.answer) == (4, 1)
    clock.advance(10)
    assert ask(second, "whitish") is None
    assert seen == [4]


def test_small_scopes_and_small_changes_are_not_written(database: Database, tmp_path: Path) -> None:
    store = open_store(database)
    for question in QUESTIONS[:3]:
        keep(store, question)
    ask(store, "reddish")
    assert store._chores.settle()
    assert files(tmp_path / "cache.db.index") == []
    for n in range(30):
        keep(store, f"question {n}")
    ask(store, "reddish")
    assert store._chores.settle()
    (file,) = files(tmp_path / "cache.db.index")
    before = file.stat().st_mtime_ns
    keep(store, "another")
    ask(store, "reddish")
    assert store._chores.settle()
    assert file.stat().st_mtime_ns == before
    for n in range(3):
        keep(store, f"one more {n}")
    ask(store, "reddish")
    assert store._chores.settle()
    assert file.stat().st_mtime_ns > before


def damaged(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def something_else(file: Path) -> None:
    file.write_bytes(b"hello " * 1000)


@pytest.mark.parametrize("harm", [damaged, cut, emptied, something_else])
def test_a_damaged_file_is_built_anew_with_one_warning(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: Any
) -> None:
    filled(database)
    (file,) = files(tmp_path / "cache.db.index")
    whole = file.read_bytes()
    harm(file)
    second = open_store(database)
    seen = seen_by(second)
    for question in ("reddish", "greenish", "whitish"):
        assert ask(second, question) is not None
    assert seen == [-1]
    assert second._chores.settle()
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        f"the cache's index {file} is damaged and is built anew from the database"
    ]
    assert file.read_bytes() == whole
    third = open_store(database)
    seen = seen_by(third)
    assert ask(third, "reddish") == "to red"
    assert seen == [4]


def test_a_file_of_another_database_is_built_anew_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = Database(tmp_path / "one.db"), Database(tmp_path / "other.db")
    filled(one)
    filled(other, clock=FakeClock(5.0))
    (theirs,), (mine,) = files(tmp_path / "other.db.index"), files(tmp_path / "one.db.index")
    shutil.copy(theirs, mine)
    store = open_store(one)
    seen = seen_by(store)
    assert ask(store, "reddish") == "to red"
    assert seen == [-1]
    (record,) = caplog.records
    assert record.getMessage() == (
        f"the cache's index {mine} belongs to another database and is built anew from the database: "
        "it knows of entries that are not there"
    )
    one.close()
    other.close()


def test_a_restored_database_does_not_believe_a_newer_file(tmp_path: Path) -> None:
    path, copy = tmp_path / "cache.db", tmp_path / "copy.db"
    database = Database(path)
    store = open_store(database)
    keep(store, "red")
    store.close()
    database.close()
    shutil.copy(path, copy)
    database = Database(path)
    filled(database)
    database.close()
    shutil.copy(copy, path)
    database = Database(path)
    # The same numbers of entries and revisions as in the file, and other questions.
    store = open_store(database, FakeClock(99.0))
    for n in range(5):
        keep(store, f"question {n}")
    assert ask(store, "greenish") is None
    database.close()


def test_a_file_that_missed_a_purge_is_too_old(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    first = filled(database)
    first.removal.remove([1], 0.0)
    first.removal.purge(1000.0)
    second = open_store(database)
    seen = seen_by(second)
    assert ask(second, "reddish") is None
    assert ask(second, "greenish") == "to green"
    assert seen == [-1]
    assert caplog.records == []


def test_the_file_goes_with_its_scope(database: Database, tmp_path: Path) -> None:
    store = filled(database)
    for question in QUESTIONS:
        keep(store, question, scope="t", owner="p")
    ask(store, "reddish", scope="t")
    assert store._chores.settle()
    assert len(files(tmp_path / "cache.db.index")) == 2
    store.clear(owner="o")
    (left,) = files(tmp_path / "cache.db.index")
    assert left.name.startswith("agent.t.")
    store.clear()
    assert files(tmp_path / "cache.db.index") == []


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache.db.index").write_text("in the way")
    database = Database(tmp_path / "cache.db")
    store = filled(database)
    assert store.counts()["failed_chores"] == 1
    assert "index' for the cache's index cannot be made" in caplog.text
    assert ask(open_store(database), "greenish") == "to green"
    database.close()


def test_without_a_file_there_is_a_folder_only_where_one_is_given(tmp_path: Path) -> None:
    database = Database()
    filled(database)
    filled_store = open_store(database, index_folder=tmp_path / "indexes")
    ask(filled_store, "reddish")
    assert filled_store._chores.settle()
    assert len(files(tmp_path / "indexes")) == 1
    database.close()


def test_many_machines_keep_their_own_files(tmp_path: Path) -> None:
    with database_url("postgresql", tmp_path) as url:
        database = Database(url)
        filled(database, index_folder=tmp_path / "indexes")
        second = open_store(database, index_folder=tmp_path / "indexes")
        seen = seen_by(second)
        assert ask(second, "reddish") == "to red"
        assert seen == [4]
        database.close()


def test_removals_while_a_file_is_written_are_not_undone_by_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(database)
    for question in QUESTIONS:
        keep(store, question)
    save = snapshots.VectorIndex.save

    def slow(self: Any, path: Any, **kwargs: Any) -> None:
        monkeypatch.setattr(snapshots, "_LEAST_ROWS", 1000)  # not once more
        store.removal.remove([1], 0.0)
        keep(store, "greenish")
        assert ask(store, "reddish") is None  # the index goes on before it is written
        save(self, path, **kwargs)

    monkeypatch.setattr(snapshots.VectorIndex, "save", slow)
    ask(store, "reddish")
    assert store._chores.settle()
    second = open_store(database)
    seen = seen_by(second)
    assert ask(second, "reddish") is None
    assert ask(second, "green") == "to green"
    assert ask(second, "blueish") == "to blue"
    assert seen == [4]
    with database.read() as connection:
        alive = connection.execute(text("SELECT COUNT(*) FROM tokopt_cache_entries WHERE alive = 1")).scalar_one()
    assert len(second._follower._replicas.get("s")) == alive  # type: ignore[arg-type]
