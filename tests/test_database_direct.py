"""`Database.fetch` and `write_directly`: past SQLAlchemy, with every promise of a `read()` and a `write()`."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from langchain_tokopt.database import Database
from langchain_tokopt.database_direct import _CONNECTIONS, DirectConnections
from langchain_tokopt.errors import StoreError
from tests.databases import database_url

N = "SELECT n FROM counts WHERE name = ?"


@pytest.fixture
def database(url: str | None) -> Iterator[Database]:
    database = Database(url)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE counts (name VARCHAR(20) PRIMARY KEY, n INTEGER NOT NULL)"))
        connection.execute(text("INSERT INTO counts VALUES ('a', 0), ('b', 5)"))
    yield database
    database.close()


def raise_to(database: Database, n: int) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE counts SET n = :n WHERE name = 'a'"), {"n": n})


def test_rows_are_what_was_committed_last(database: Database) -> None:
    assert database.fetch(N, ("a",)) == [(0,)]
    assert database.fetch(N, ("none",)) == []
    for n in (1, 2):
        raise_to(database, n)
        assert database.fetch(N, ("a",)) == [(n,)]
    assert database.fetch("SELECT name, n FROM counts ORDER BY name", ()) == [("a", 2), ("b", 5)]


def test_inside_a_transaction_it_is_a_part_of_it(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE counts SET n = 7 WHERE name = 'a'"))
        assert database.fetch(N, ("a",)) == [(7,)]
    with database.read():
        assert database.fetch(N, ("a",)) == [(7,)]


def test_another_thread_does_not_see_what_is_not_committed(url: str | None, database: Database) -> None:
    if url is None:
        pytest.skip("in memory there is one connection, and readers wait for the writer")
    seen: list[object] = []
    with database.write() as connection:
        connection.execute(text("UPDATE counts SET n = 7 WHERE name = 'a'"))
        thread = threading.Thread(target=lambda: seen.extend(database.fetch(N, ("a",))))
        thread.start()
        thread.join()
    assert seen == [(0,)]


def test_many_threads_share_a_few_connections(database: Database) -> None:
    wrong: list[object] = []

    def ask() -> None:
        wrong.extend(rows for _ in range(50) if (rows := database.fetch(N, ("b",))) != [(5,)])

    threads = [threading.Thread(target=ask) for _ in range(3 * _CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(database._direct._idle) <= _CONNECTIONS


def test_when_every_connection_is_in_use_too_long_that_is_an_error(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.db", lock_timeout_seconds=0.01)
    for _ in range(_CONNECTIONS):
        database._direct._free.acquire()
    with pytest.raises(StoreError, match=r"8 small transactions have been under way for 0\.01 s"):
        database.fetch("SELECT 1", ())
    database.close()


def test_a_closed_database_says_so_and_leaves_no_connection_open(database: Database) -> None:
    database.fetch(N, ("a",))
    database.close()
    assert len(database._direct._idle) == 0
    with pytest.raises(StoreError, match="is closed: make a new Database"):
        database.fetch(N, ("a",))


def test_closing_waits_for_what_other_threads_have_under_way(database: Database) -> None:
    order: list[str] = []
    inside, may_end = threading.Event(), threading.Event()

    def read() -> None:
        with database.read() as connection:
            inside.set()
            may_end.wait()
            order.append(f"read {connection.execute(text('SELECT n FROM counts')).first()[0]}")

    def close() -> None:
        database.close()
        order.append("closed")

    reader, closer = threading.Thread(target=read), threading.Thread(target=close)
    reader.start()
    inside.wait()
    closer.start()
    while not database._gate._awaited:
        pass
    with pytest.raises(StoreError, match="is closed"):
        database.fetch(N, ("a",))
    may_end.set()
    reader.join()
    closer.join()
    assert order == ["read 0", "closed"]


def test_a_connection_in_use_is_closed_after_it(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.db")
    direct = database._direct
    connection = direct._taken()

    class Closing:
        """Closes everything while the query runs."""

        def execute(self, query: str, values: object) -> sqlite3.Cursor:
            direct.close()
            found: sqlite3.Cursor = connection.execute(query, values)
            return found

        def close(self) -> None:
            connection.close()

    direct._idle.append(Closing())
    assert direct.rows("SELECT 1", ()) == [(1,)]
    assert len(direct._idle) == 0
    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("SELECT 1")
    database.close()


def test_a_damaged_file_is_a_store_error(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = Database(path)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE counts (name TEXT)"))
    database.close()
    database = Database(path)
    path.write_bytes(b"not a database at all " * 500)
    with pytest.raises(StoreError, match="is damaged and was left as it is"):
        database.fetch("SELECT * FROM counts", ())
    database.close()


def test_after_a_mistake_in_a_query_the_next_one_is_answered(database: Database) -> None:
    with pytest.raises(Exception, match="nothing"):
        database.fetch("SELECT nothing FROM counts", ())
    assert database.fetch(N, ("a",)) == [(0,)]


def test_a_connection_that_the_server_has_cut_is_replaced(database: Database) -> None:
    if database.dialect != "postgresql":
        pytest.skip("a file cuts nobody off")
    pid = "SELECT pg_backend_pid()"
    before = database.fetch(pid, ())
    with database.read() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": before[0][0]})
    after = database.fetch(pid, ())
    assert after != before
    assert database.fetch(pid, ()) == after


def test_direct_reads_of_a_closed_engine_open_anew(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.db")
    direct = DirectConnections(database._engine, timeout_seconds=1)
    assert direct.rows("SELECT 1", ()) == [(1,)]
    direct.close()
    assert direct.rows("SELECT 1", ()) == [(1,)]
    direct.close()
    database.close()


# --- write_directly ---


def add(database: Database, n: int) -> None:
    mark = "?" if database.dialect == "sqlite" else "%s"
    with database.write_directly() as cursor:
        cursor.execute(f"UPDATE counts SET n = n + {mark} WHERE name = 'a'", (n,))


def change_and_fail(database: Database) -> None:
    with database.write_directly() as cursor:
        cursor.execute("UPDATE counts SET n = 7")
        raise KeyError


def test_what_is_written_directly_is_there_for_everybody(database: Database) -> None:
    for n in (1, 2):
        add(database, n)
    assert database.fetch(N, ("a",)) == [(3,)]
    with database.read() as connection:
        assert connection.execute(text("SELECT n FROM counts WHERE name = 'a'")).scalar() == 3


def test_an_error_inside_leaves_everything_as_it_was(database: Database) -> None:
    with pytest.raises(KeyError):
        change_and_fail(database)
    assert database.fetch(N, ("a",)) == [(0,)]
    add(database, 1)
    assert database.fetch(N, ("a",)) == [(1,)]


def test_inside_a_write_it_is_a_savepoint_of_it(database: Database) -> None:
    assert database.inside_transaction is False
    with database.write() as connection:
        assert database.inside_transaction is True
        connection.execute(text("UPDATE counts SET n = 1 WHERE name = 'a'"))
        with pytest.raises(KeyError):
            change_and_fail(database)
        add(database, 1)
    assert database.fetch(N, ("a",)) == [(2,)]


def test_inside_a_read_it_is_refused(database: Database) -> None:
    with database.read(), pytest.raises(StoreError, match=r"write\(\) was called inside a read\(\)"):
        add(database, 1)


def test_inside_of_it_no_other_transaction_can_begin(url: str | None, database: Database) -> None:
    if url is None:
        pytest.skip("in memory it is a write(), which others join")
    with database.write_directly():
        for begin in (database.read, database.write, database.write_directly):
            with pytest.raises(StoreError, match=r"was begun inside write_directly\(\)"), begin():
                pass
        with pytest.raises(StoreError, match=r"was begun inside write_directly\(\)"):
            database.fetch(N, ("a",))
    add(database, 1)
    assert database.fetch(N, ("a",)) == [(1,)]


def test_threads_that_write_directly_wait_for_each_other(database: Database) -> None:
    def work() -> None:
        for _ in range(20):
            add(database, 1)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert database.fetch(N, ("a",)) == [(120,)]


def test_what_writes_directly_waits_for_another_database_object(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    holder, waiter, hasty = Database(path), Database(path), Database(path, lock_timeout_seconds=0.02)
    with holder.write() as connection:
        connection.execute(text("CREATE TABLE counts (name TEXT, n INTEGER)"))
        connection.execute(text("INSERT INTO counts VALUES ('a', 0)"))
        thread = threading.Thread(target=add, args=(waiter, 5))
        thread.start()
        while not waiter._gate._open:
            pass
        with pytest.raises(StoreError, match=r"has been locked for 0\.02 s"):
            add(hasty, 1)
    thread.join()
    add(hasty, 1)
    assert holder.fetch(N, ("a",)) == [(6,)]
    for database in (holder, waiter, hasty):
        database.close()


def test_a_mistake_in_a_statement_stays_what_it_is(database: Database) -> None:
    if database.dialect != "postgresql":
        pytest.skip("SQLite has one error for mistakes and for files that cannot be used")
    import psycopg

    with pytest.raises(psycopg.errors.UndefinedTable), database.write_directly() as cursor:
        cursor.execute("DELETE FROM nothing")
    add(database, 1)


def test_a_cut_connection_is_replaced_when_the_next_transaction_begins(database: Database) -> None:
    if database.dialect != "postgresql":
        pytest.skip("a file cuts nobody off")
    add(database, 1)
    with database.read() as connection:
        pid = database._direct._idle[0].info.backend_pid
        connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    add(database, 1)
    assert database.fetch(N, ("a",)) == [(2,)]


FORKING = """
import os, sys
from pathlib import Path
from sqlalchemy import text
from langchain_tokopt.database import Database

database = Database(sys.argv[1])
with database.write() as connection:
    connection.execute(text("CREATE TABLE counts (n INTEGER)"))
    connection.execute(text("INSERT INTO counts VALUES (1)"))
assert database.fetch("SELECT n FROM counts", ()) == [(1,)]
assert len(database._direct._idle) == 1
child = os.fork()
if child == 0:
    assert len(database._direct._idle) == 0
    assert database.fetch("SELECT n FROM counts", ()) == [(1,)]
    with database.write() as connection:
        connection.execute(text("UPDATE counts SET n = 2"))
    database.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert database.fetch("SELECT n FROM counts", ()) == [(2,)]
database.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
@pytest.mark.parametrize("kind", ["file", "postgresql"])
def test_a_forked_child_inherits_no_connection(kind: str, tmp_path: Path) -> None:
    with database_url(kind, tmp_path) as url:
        assert url is not None
        command = [sys.executable, "-W", "error", "-c", FORKING, url]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_error_that_is_kept_keeps_no_lock(database: Database) -> None:
    kept: list[BaseException] = []
    try:
        with database.write_directly() as cursor:
            cursor.execute("SELECT n FROM counts")
            cursor.execute("UPDATE nothing SET n = 1")
    except Exception as error:
        kept.append(error)
    assert len(kept) == 1
    raise_to(database, 7)
    assert database.fetch(N, ("a",)) == [(7,)]
