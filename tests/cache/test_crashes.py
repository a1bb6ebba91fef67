"""What survives a kill, and what goes on when the database does not."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from sqlalchemy import event, text

from langchain_tokopt.cache import SemanticCache, SemanticCacheMiddleware
from langchain_tokopt.cache.decision import Threshold
from langchain_tokopt.cache.key import text_digest
from langchain_tokopt.cache.store import AnswerStore
from langchain_tokopt.database import Database
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import StoreError
from tests.databases import database_url
from tests.fakes import FakeClock, ScriptedModel, TableEmbeddings, ai

ROOT = Path(__file__).parent.parent.parent
TABLE = {"how do I pay": [1.0, 0.0], "how can I pay": [1.0, 0.1]}


def open_store(database: Database) -> AnswerStore:
    return AnswerStore(
        database,
        MemoEmbeddings(TableEmbeddings(TABLE)),
        kind="agent",
        decider=Threshold(0.97),
        max_entries=100_000,
        max_scopes=10,
        clock=FakeClock(),
    )


def keep(store: AnswerStore, question: str, payload: str = "this is how") -> int | None:
    return store.keep(
        scope="s", owner="o", exact=text_digest(question), question=question, payload=payload, semantic=True
    )


def how(store: AnswerStore, question: str) -> str:
    return store.find("s", text_digest(question), question, exact_only=None).how


# --- kill -9 ---------------------------------------------------------------------------------------------------------

STORING = """
import sys
from tests.cache.test_crashes import keep, open_store
from langchain_tokopt.database import Database

store = open_store(Database(sys.argv[1]))
for n in range(100_000):
    question = f"question number {n % 700}"
    entry = keep(store, question, f"answer {n} " + "x" * (n * 37 % 5000))
    print(entry, question, n, sep="|", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("kind", ["file", "postgresql"])
def test_what_was_acknowledged_before_a_kill_is_there_after_it(kind: str, tmp_path: Path) -> None:
    with database_url(kind, tmp_path) as url:
        assert url is not None
        acknowledged: list[str] = []
        # Killed in the middle of a write: at another moment each time.
        for lines in (1, 60, 137):
            command = [sys.executable, "-c", STORING, url]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
                assert child.stdout is not None
                acknowledged.extend(child.stdout.readline() for _ in range(lines))
                os.kill(child.pid, signal.SIGKILL)
                rest = child.stdout.read()
            acknowledged.extend(line for line in rest.splitlines(keepends=True) if line.endswith("\n"))
        database = Database(url)
        store = open_store(database)
        last = {question: (entry, n) for entry, question, n in (line.strip().split("|") for line in acknowledged)}
        for question, (entry_id, n) in last.items():
            found = store.find("s", text_digest(question), question, exact_only="exact").entry
            assert found is not None
            assert found.id >= int(entry_id)
            # One more may have been stored than the child had time to tell.
            assert found.id > int(entry_id) or found.payload.startswith(f"answer {n} ")
        # What is in memory after all that is what is in the database.
        how(store, "something else")
        rows = database.fetch("SELECT id, question FROM tokopt_cache_entries WHERE alive = 1", ())
        assert store.questions("s") == dict(rows)
        assert len(rows) >= len(last) >= 137
        database.close()


# --- a database that cannot be used ----------------------------------------------------------------------------------


@contextmanager
def locked(path: Path) -> Iterator[Database]:
    """Another process is in the middle of a long write."""
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    database = Database(path, lock_timeout_seconds=0.05)
    yield database
    database.close()
    writer.close()


@contextmanager
def read_only(path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///file:{path}?mode=ro&uri=true")
    yield database
    database.close()


@contextmanager
def full(path: Path) -> Iterator[Database]:
    database = Database(path)

    def no_more_pages(connection: Any, _: object = None) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # SQLite makes it what there is

    event.listen(database._engine, "connect", no_more_pages)
    database._engine.dispose()
    yield database
    database.close()


LIMITED: list[tuple[Callable[[Path], Any], str]] = [
    (locked, "has been locked for 0.05 s"),
    (read_only, "readonly database"),
    (full, "disk is full"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store that was in use."""
    path = tmp_path / "cache.db"
    database = Database(path)
    keep(open_store(database), "how do I pay")
    database.close()
    return path


@pytest.mark.parametrize(("limited", "problem"), LIMITED)
def test_what_cannot_be_written_can_still_be_found(path: Path, limited: Any, problem: str) -> None:
    with limited(path) as database:
        store = open_store(database)
        assert how(store, "how do I pay") == "exact"
        assert how(store, "how can I pay") == "semantic"
        with pytest.raises(StoreError, match=problem):
            keep(store, "a new question", "x" * 20_000)
        assert how(store, "how do I pay") == "exact"


def agent_on(database: Database) -> tuple[Any, ScriptedModel, SemanticCache]:
    model = ScriptedModel(responses=[ai("this " + "and that " * 3000)])
    cache = SemanticCache(threshold=0.97, embeddings=TableEmbeddings(TABLE), database=database)
    return create_agent(model=model, middleware=[SemanticCacheMiddleware(cache)]), model, cache


def asked(agent: Any, question: str) -> str:
    answer = agent.invoke({"messages": [HumanMessage(question)]})["messages"][-1].content
    return str(answer[:9])


@pytest.mark.parametrize(("limited", "problem"), LIMITED)
def test_an_agent_whose_answers_cannot_be_stored_goes_on(path: Path, limited: Any, problem: str) -> None:
    with limited(path) as database:
        agent, model, cache = agent_on(database)
        assert [asked(agent, "how do I pay") for _ in range(2)] == ["this and "] * 2
        assert len(model.calls) == 2
        assert cache.stats()["errors"] == 2


def test_an_agent_whose_database_is_destroyed_under_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    database = Database(path)
    agent, model, _ = agent_on(database)
    assert [asked(agent, "how do I pay") for _ in range(2)] == ["this and "] * 2
    assert len(model.calls) == 1
    for file in (path, path.with_name("cache.db-wal")):
        file.write_bytes(b"nothing of use " * 5000)
    # As long as a connection has what it needs in memory it does not even notice.
    database._direct.close()
    database._engine.dispose()
    assert [asked(agent, "how do I pay") for _ in range(2)] == ["this and "] * 2
    assert len(model.calls) == 3
    database.close()


def test_a_damaged_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    path.write_bytes(b"nothing of use " * 5000)
    with pytest.raises(StoreError, match="another kind of file and was left as it is"):
        Database(path)
    assert path.read_bytes() == b"nothing of use " * 5000


def test_a_row_that_is_damaged_is_no_answer(tmp_path: Path) -> None:
    database = Database(tmp_path / "cache.db")
    agent, model, _ = agent_on(database)
    asked(agent, "how do I pay")
    with database.write() as connection:
        connection.execute(text("UPDATE tokopt_cache_entries SET payload = substr(payload, 1, 40)"))
    assert asked(agent, "how do I pay") == "this and "
    assert len(model.calls) == 2
    assert asked(agent, "how do I pay") == "this and "
    assert len(model.calls) == 2
    database.close()
