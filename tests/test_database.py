"""`Database`: what transactions promise, on every kind of database; what is refused, and how."""

from __future__ import annotations

import gc
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError, MissingDependencyError, StoreError
from tests.databases import database_url
from tests.fakes import FakeClock

ROOT = Path(__file__).parent.parent


@pytest.fixture
def database(url: str | None) -> Iterator[Database]:
    database = Database(url)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE counts (name VARCHAR(20) PRIMARY KEY, n INTEGER NOT NULL)"))
        connection.execute(text("INSERT INTO counts VALUES ('a', 0)"))
    yield database
    database.close()


def count(database: Database, name: str = "a") -> int | None:
    with database.read() as connection:
        return connection.execute(text("SELECT n FROM counts WHERE name = :name"), {"name": name}).scalar()


def add(connection: Connection, amount: int = 1) -> None:
    """Read, then write: loses updates unless the transaction has the row to itself."""
    lock = " FOR UPDATE" if connection.dialect.name == "postgresql" else ""
    n = connection.execute(text(f"SELECT n FROM counts WHERE name = 'a'{lock}")).scalar_one()
    connection.execute(text("UPDATE counts SET n = :n WHERE name = 'a'"), {"n": n + amount})


def write_and_fail(database: Database, work: Callable[[Connection], None]) -> None:
    with database.write() as connection:
        work(connection)
        raise KeyError("mine")


# --- transactions ----------------------------------------------------------------------------------------------------


def test_a_write_is_kept_when_the_block_ends(database: Database) -> None:
    with database.write() as connection:
        add(connection, 3)
    assert count(database) == 3


def test_a_write_is_undone_when_an_error_leaves_the_block(database: Database) -> None:
    with pytest.raises(KeyError, match="mine"):
        write_and_fail(database, add)
    assert count(database) == 0


def test_a_broken_constraint_is_the_callers_own_error(database: Database) -> None:
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(text("INSERT INTO counts VALUES ('a', 1)"))
    assert count(database) == 0


def test_tables_made_in_a_failed_write_do_not_stay(database: Database) -> None:
    with pytest.raises(KeyError, match="mine"):
        write_and_fail(database, make_notes)
    with database.write() as connection:
        make_notes(connection)


def test_a_write_inside_a_write_is_undone_alone_or_with_the_outer_one(database: Database) -> None:
    with database.write() as outer:
        add(outer, 1)
        with pytest.raises(KeyError, match="mine"):
            write_and_fail(database, lambda inner: add(inner, 10))
        with database.write() as inner:
            add(inner, 100)
    assert count(database) == 101

    def write_inside(_: Connection) -> None:
        with database.write() as inner:
            add(inner, 1000)

    with pytest.raises(KeyError, match="mine"):
        write_and_fail(database, write_inside)
    assert count(database) == 101


def test_a_read_inside_a_write_sees_what_was_written(database: Database) -> None:
    with database.write() as connection:
        add(connection, 5)
        assert count(database) == 5


def test_a_write_inside_a_read_is_refused(database: Database) -> None:
    with (
        database.read(),
        pytest.raises(StoreError, match=r"write\(\) was called inside a read\(\)"),
        database.write(),
    ):
        pass
    with database.write() as connection:
        add(connection)
    assert count(database) == 1


@pytest.mark.parametrize("rounds", [25])
def test_eight_threads_lose_no_update(database: Database, rounds: int) -> None:
    def work(_: int) -> None:
        for _ in range(rounds):
            with database.write() as connection:
                add(connection)
            count(database)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert count(database) == 8 * rounds


def test_threads_of_two_databases_on_one_file_lose_no_update(tmp_path: Path) -> None:
    databases = [Database(tmp_path / "x.db") for _ in range(2)]
    with databases[0].write() as connection:
        connection.execute(text("CREATE TABLE counts (name TEXT, n INTEGER)"))
        connection.execute(text("INSERT INTO counts VALUES ('a', 0)"))

    def work(n: int) -> None:
        for _ in range(25):
            with databases[n % 2].write() as connection:
                add(connection)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert [count(each) for each in databases] == [100, 100]
    for each in databases:
        each.close()


def run(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


ADD_FIFTY = """
import sys
from sqlalchemy import text
from langchain_tokopt.database import Database
from tests.test_database import add
database = Database(sys.argv[1])
for _ in range(50):
    with database.write() as connection:
        add(connection)
"""


@pytest.mark.parametrize("kind", ["file", "postgresql"])
def test_processes_lose_no_update(kind: str, tmp_path: Path) -> None:
    with database_url(kind, tmp_path) as url:
        database = Database(url)
        with database.write() as connection:
            connection.execute(text("CREATE TABLE counts (name VARCHAR(20), n INTEGER)"))
            connection.execute(text("INSERT INTO counts VALUES ('a', 0)"))
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda _: run(ADD_FIFTY, str(url)), range(3)))
        assert count(database) == 150
        database.close()


def test_processes_that_make_the_same_file_at_once_all_succeed(tmp_path: Path) -> None:
    make = """
import sys
from sqlalchemy import text
from langchain_tokopt.database import Database
for n in range(20):
    database = Database(f"{sys.argv[1]}/{n}.db")
    database.migrate("x", [lambda c: c.execute(text("CREATE TABLE t (n INTEGER)"))])
    with database.write() as connection:
        connection.execute(text("INSERT INTO t VALUES (1)"))
    database.close()
"""
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: run(make, str(tmp_path)), range(3)))
    for n in range(20):
        database = Database(tmp_path / f"{n}.db")
        with database.read() as connection:
            assert connection.execute(text("SELECT COUNT(*) FROM t")).scalar() == 3
        database.close()


def test_a_file_is_opened_in_wal_with_safe_settings(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    with database.read() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        }
    assert found == {"journal_mode": "wal", "synchronous": 1, "busy_timeout": 30_000, "foreign_keys": 1}
    assert database.persistent
    assert database.dialect == "sqlite"
    database.close()


def test_a_write_takes_the_lock_when_it_begins(tmp_path: Path) -> None:
    holder, other = Database(tmp_path / "x.db"), Database(tmp_path / "x.db", lock_timeout_seconds=0.05)
    with (
        holder.write(),
        pytest.raises(StoreError, match=r"x\.db has been locked for 0\.05 s: .* raise lock_timeout_seconds"),
        other.write(),
    ):
        pass
    with other.write():
        pass
    holder.close()
    other.close()


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_thread_that_waits_too_long_for_another_gets_a_store_error(kind: str, tmp_path: Path) -> None:
    with database_url(kind, tmp_path) as url:
        database = Database(url, lock_timeout_seconds=0.05)
        errors: list[BaseException] = []

        def work() -> None:
            try:
                with database.write():
                    pass
            except StoreError as error:
                errors.append(error)

        with database.write():
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        assert len(errors) == 1
        assert "locked for 0.05 s" in str(errors[0])
        database.close()


def test_a_row_lock_that_lasts_too_long_on_postgresql_is_a_store_error(tmp_path: Path) -> None:
    with database_url("postgresql", tmp_path) as url:
        holder, other = Database(url), Database(url, lock_timeout_seconds=0.05)
        with holder.write() as connection:
            connection.execute(text("CREATE TABLE counts (name VARCHAR(20), n INTEGER)"))
            connection.execute(text("INSERT INTO counts VALUES ('a', 0)"))
        with holder.write() as connection:
            add(connection)
            with pytest.raises(StoreError, match=r"locked for 0\.05 s"), other.write() as late:
                add(late)
        assert count(other) == 1
        holder.close()
        other.close()


def test_readers_of_a_file_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    with database.write() as connection:
        connection.execute(text("CREATE TABLE counts (name TEXT, n INTEGER)"))
        connection.execute(text("INSERT INTO counts VALUES ('a', 0)"))
    with database.write() as connection:
        add(connection)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(count, database).result(timeout=30) == 0
    assert count(database) == 1
    database.close()


def test_databases_in_memory_are_private() -> None:
    one, two = Database(), Database(":memory:")
    with one.write() as connection:
        connection.execute(text("CREATE TABLE t (n INTEGER)"))
    with two.write() as connection:
        connection.execute(text("CREATE TABLE t (n INTEGER)"))
    assert not one.persistent
    assert not two.persistent
    one.close()
    two.close()


def test_a_closed_database_says_so(database: Database) -> None:
    database.close()
    with pytest.raises(StoreError, match="is closed: make a new Database"), database.read():
        pass


def test_a_database_that_is_dropped_leaves_no_connection_open(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    with database.write() as connection:
        connection.execute(text("CREATE TABLE t (n INTEGER)"))
    del database
    gc.collect()
    # The last connection to a file in WAL removes the log when it is closed.
    assert [path.name for path in tmp_path.iterdir()] == ["x.db"]


# --- forks -----------------------------------------------------------------------------------------------------------

FORK = """
import os, sys
from sqlalchemy import text
from langchain_tokopt.database import Database

def put(n):
    with database.write() as connection:
        connection.execute(text("INSERT INTO t VALUES (:n)"), {"n": n})

database = Database(sys.argv[1] or None)
with database.write() as connection:
    connection.execute(text("CREATE TABLE t (n INTEGER)"))
put(1)
to_child, to_parent = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    put(2)
    os.write(to_parent[1], b".")
    os.read(to_child[0], 1)
    put(3)
    with database.read() as connection:
        seen = sorted(connection.execute(text("SELECT n FROM t")).scalars())
    os.write(to_parent[1], repr(seen).encode())
    os._exit(0)
os.read(to_parent[0], 1)
put(4)
with database.read() as connection:
    print(sorted(connection.execute(text("SELECT n FROM t")).scalars()))
database.close()  # the parent's last connection: in WAL this would remove the log that the child writes to
os.write(to_child[1], b".")
os.waitpid(child, 0)
print(os.read(to_parent[0], 100).decode())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
@pytest.mark.parametrize("kind", ["file", "postgresql"])
def test_a_forked_child_writes_to_the_same_database(kind: str, tmp_path: Path) -> None:
    with database_url(kind, tmp_path) as url:
        assert run(FORK, str(url)).stdout.splitlines() == ["[1, 2, 4]", "[1, 2, 3, 4]"]
        database = Database(url)
        with database.read() as connection:
            assert sorted(connection.execute(text("SELECT n FROM t")).scalars()) == [1, 2, 3, 4]
        database.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
def test_a_forked_child_has_a_private_copy_of_a_database_in_memory() -> None:
    assert run(FORK, "").stdout.splitlines() == ["[1, 4]", "[1, 2, 3]"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
def test_a_fork_while_threads_write_leaves_the_child_able_to_write(tmp_path: Path) -> None:
    code = """
import os, sys, threading
from sqlalchemy import text
from langchain_tokopt.database import Database

database = Database(sys.argv[1], lock_timeout_seconds=20)
with database.write() as connection:
    connection.execute(text("CREATE TABLE t (n INTEGER)"))

def put():
    with database.write() as connection:
        connection.execute(text("INSERT INTO t VALUES (1)"))

stop = threading.Event()
written = [0, 0, 0]

def work(n):
    while not stop.is_set():
        put()
        written[n] += 1

threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
for thread in threads:
    thread.start()
children = []
for _ in range(5):
    child = os.fork()
    if child == 0:
        for _ in range(10):
            put()
        os._exit(0)
    children.append(child)
codes = [os.waitpid(child, 0)[1] for child in children]
stop.set()
for thread in threads:
    thread.join()
with database.read() as connection:
    assert connection.execute(text("SELECT COUNT(*) FROM t")).scalar() == sum(written) + 50
print(codes)
"""
    assert run(code, str(tmp_path / "x.db")).stdout == "[0, 0, 0, 0, 0]\n"


# --- migrations ------------------------------------------------------------------------------------------------------


def make_notes(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE notes (id INTEGER PRIMARY KEY, body VARCHAR(100))"))


def add_stars(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE notes ADD COLUMN stars INTEGER"))


def test_an_old_database_is_migrated_and_loses_nothing(url: str | None) -> None:
    old = Database(url, clock=FakeClock(1000.0))
    assert old.migrate("notes", [make_notes]) == 1
    rows = [(n, f"note {n}") for n in range(500)]
    with old.write() as connection:
        for n, body in rows:
            connection.execute(text("INSERT INTO notes VALUES (:n, :body)"), {"n": n, "body": body})
    new = old
    if old.persistent:
        old.close()
        new = Database(url, clock=FakeClock(2000.0))
    assert new.migrate("notes", [make_notes, add_stars]) == 2
    assert new.migrate("notes", [make_notes, add_stars]) == 2
    with new.read() as connection:
        found = connection.execute(text("SELECT id, body, stars FROM notes ORDER BY id")).all()
        schema = connection.execute(text("SELECT component, version, migrated_at FROM tokopt_schema")).all()
    assert [tuple(row) for row in found] == [(n, body, None) for n, body in rows]
    assert [tuple(row) for row in schema] == [("notes", 2, 2000.0 if new.persistent else 1000.0)]
    new.close()


def test_components_are_migrated_apart(database: Database) -> None:
    assert database.migrate("one", [make_notes]) == 1
    assert database.migrate("two", []) == 0
    assert database.migrate("two", [lambda _: None, lambda _: None]) == 2
    assert database.migrate("one", [make_notes, add_stars]) == 2


def test_a_step_that_fails_leaves_the_version_before_it(database: Database) -> None:
    def fails(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE notes ADD COLUMN half INTEGER"))
        raise KeyError("step")

    with pytest.raises(KeyError, match="step"):
        database.migrate("notes", [make_notes, fails])
    assert database.migrate("notes", [make_notes]) == 1
    assert database.migrate("notes", [make_notes, add_stars]) == 2
    with database.read() as connection:
        assert set(connection.execute(text("SELECT * FROM notes")).keys()) == {"id", "body", "stars"}


def test_a_database_of_a_newer_version_is_refused(database: Database) -> None:
    database.migrate("notes", [make_notes, add_stars])
    with pytest.raises(StoreError, match=r"'notes' have version 2, .* up to 1: upgrade the package"):
        database.migrate("notes", [make_notes])
    assert database.migrate("notes", [make_notes, add_stars]) == 2


def test_threads_that_migrate_at_once_run_each_step_once(database: Database) -> None:
    ran: list[str] = []
    barrier = threading.Barrier(6)

    def step(name: str, change: Callable[[Connection], None]) -> Callable[[Connection], None]:
        def run_step(connection: Connection) -> None:
            ran.append(name)
            change(connection)

        return run_step

    steps = [step("make", make_notes), step("stars", add_stars)]

    def work(_: int) -> int:
        barrier.wait()
        return database.migrate("notes", steps)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(6))) == [2] * 6
    assert ran == ["make", "stars"]


@pytest.mark.parametrize("kind", ["file", "postgresql"])
def test_processes_that_migrate_at_once_run_each_step_once(kind: str, tmp_path: Path) -> None:
    code = """
import sys
from sqlalchemy import text
from langchain_tokopt.database import Database
from tests.test_database import add_stars, make_notes
print(Database(sys.argv[1]).migrate("notes", [make_notes, add_stars]))
"""
    with database_url(kind, tmp_path) as url, ThreadPoolExecutor(3) as pool:
        assert [done.stdout for done in pool.map(lambda _: run(code, str(url)), range(3))] == ["2\n"] * 3


# --- what is refused -------------------------------------------------------------------------------------------------


def test_another_kind_of_file_is_left_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"these are my notes, and not a database at all\n" * 300)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"notes\.txt cannot be used .* give the path of a new file"):
        Database(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


def test_a_damaged_database_is_a_store_error_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    database = Database(path)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE t (n TEXT)"))
        for _ in range(200):
            connection.execute(text("INSERT INTO t VALUES (:n)"), {"n": "x" * 500})
    database.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    database = Database(path)
    with pytest.raises(StoreError, match=r"malformed.*restore a copy"), database.read() as connection:
        connection.execute(text("SELECT COUNT(*) FROM t")).scalar()
    database.close()
    assert path.read_bytes() == bytes(content)


def test_a_folder_instead_of_a_file_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"is a folder: give the path of a file in it, such as .*tokopt\.db"):
        Database(tmp_path)
    with pytest.raises(StoreError, match="is a folder"):
        Database(f"sqlite:///{tmp_path}")


def test_a_missing_folder_is_a_store_error_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"the folder .*absent does not exist; create it"):
        Database(tmp_path / "absent" / "x.db")
    assert list(tmp_path.iterdir()) == []


def test_a_path_under_a_file_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is not a folder; use another path"):
        Database(tmp_path / "file" / "x.db")


def test_a_read_only_database_can_be_read_and_refuses_to_be_written(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    plain = sqlite3.connect(path)
    plain.execute("CREATE TABLE counts (name TEXT, n INTEGER)")
    plain.execute("INSERT INTO counts VALUES ('a', 7)")
    plain.commit()
    plain.close()
    before = path.read_bytes()
    database = Database(f"sqlite:///file:{path}?mode=ro&uri=true")
    assert count(database) == 7
    with pytest.raises(StoreError, match="give this user the right to write the file"), database.write() as connection:
        add(connection)
    with pytest.raises(StoreError, match="give this user the right to write the file"):
        database.migrate("notes", [make_notes])
    database.close()
    assert path.read_bytes() == before


def test_a_read_only_path_that_does_not_exist_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="check that the file and its folder can be read and written"):
        Database(f"sqlite:///file:{tmp_path}/x.db?mode=ro&uri=true")


def test_a_server_that_cannot_be_reached_is_a_store_error_without_the_password() -> None:
    with pytest.raises(StoreError, match="check that the server runs and can be reached") as caught:
        Database("postgresql://me:s3cret@127.0.0.1:1/nowhere?connect_timeout=2")
    assert "postgresql+psycopg://me:***@127.0.0.1:1/nowhere" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_password_in_the_query_is_masked_too() -> None:
    with pytest.raises(StoreError) as caught:
        Database("postgresql://127.0.0.1:1/nowhere?user=me&password=s3cret")
    assert "s3cret" not in str(caught.value)
    assert "password=hidden" in str(caught.value)


def test_postgresql_without_its_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "langchain-tokopt\[postgres\]"') as caught:
        Database("postgresql://me:s3cret@127.0.0.1/x")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://me:s3cret@host/x", "sqlite+aiosqlite:///x.db", "postgresql+asyncpg://h/x"])
def test_other_databases_are_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is not supported; give a file path") as caught:
        Database(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["", 7, b"x.db"])
def test_what_is_no_url_is_refused_at_once(url: object) -> None:
    with pytest.raises(ConfigurationError, match="give a file path"):
        Database(url)  # type: ignore[arg-type]


def test_a_url_that_cannot_be_read_is_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="it is not a URL") as caught:
        Database("postgresql://me:s3cret@host:port/x")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_lock_timeout_that_is_not_positive_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="lock_timeout_seconds"):
        Database(lock_timeout_seconds=seconds)


def test_a_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    database = Database("~/x.db")
    database.close()
    assert (tmp_path / "x.db").exists()


def test_importing_the_module_does_not_import_sqlalchemy() -> None:
    code = "import sys, langchain_tokopt.database; print('sqlalchemy' in sys.modules)"
    assert run(code).stdout == "False\n"
