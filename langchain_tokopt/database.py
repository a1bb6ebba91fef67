"""One place that persists: a SQLite file that many processes share, PostgreSQL by URL, or memory."""

from __future__ import annotations

import hashlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_tokopt.database_direct import DirectConnections
from langchain_tokopt.database_open import file_of, in_memory, masked, open_engine, parse_url
from langchain_tokopt.errors import ConfigurationError, StoreError
from langchain_tokopt.forks import follow_forks

# SQLAlchemy is imported where it is used: importing the package must stay quick.
if TYPE_CHECKING:
    from sqlalchemy import Connection

_LONGEST_WAIT_SECONDS = 10.0

# "CREATE TABLE IF NOT EXISTS" is not safe on PostgreSQL when two callers race: this lock lets one in at a time.
_MIGRATION_LOCK = int.from_bytes(hashlib.sha256(b"langchain_tokopt migrations").digest()[:8], "big", signed=True)


class Database:
    """A database that threads and processes share, with `write()` and `read()` transactions.

    On SQLite a write transaction takes the write lock when it begins (`BEGIN IMMEDIATE`), so that it never fails
    half-way for want of it. A `write()` inside a `write()` of the same thread is a savepoint of the outer one, a
    `read()` inside a transaction of the same thread joins it, and a `write()` inside a `read()` is refused.

    A forked child may go on using the object: it opens connections of its own, and a database in memory becomes a
    private copy. Only a fork inside a transaction is not supported.

    Args:
        url: A file path or `sqlite:///` URL (write-ahead log, created if missing), a `postgresql://` URL, or `None`
            for a private database in memory, shared by the threads of this process and gone with the object.
        lock_timeout_seconds: How long a transaction waits for others to finish before it fails.
        clock: Unix time in seconds.

    Attributes:
        dialect: "sqlite" or "postgresql".
        persistent: Whether it outlives the object.
        url: As it may be shown, without a password.
        path: The file, if it is one.

    Raises:
        ConfigurationError: `url` is of a kind that cannot be used.
        MissingDependencyError: The driver for PostgreSQL is not installed.
        StoreError: The database cannot be opened.
    """

    def __init__(
        self,
        url: str | Path | None = None,
        *,
        lock_timeout_seconds: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not lock_timeout_seconds > 0:
            raise ConfigurationError("lock_timeout_seconds", lock_timeout_seconds, "use a number of seconds above 0")
        parsed = parse_url(url)
        self.dialect: str = parsed.get_backend_name()
        self.persistent: bool = not in_memory(parsed)
        self.url: str = masked(parsed)
        self.path: Path | None = file_of(parsed)
        self._clock = clock
        self._timeout = lock_timeout_seconds
        self._closed = False
        self._engine = open_engine(parsed, timeout_seconds=lock_timeout_seconds)
        self._new_locks()
        weakref.finalize(self, self._engine.dispose)
        follow_forks(self)
        try:
            with self.read() as connection:
                connection.exec_driver_sql(
                    "SELECT COUNT(*) FROM sqlite_master" if self.dialect == "sqlite" else "SELECT 1"
                )
        except StoreError:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"Database({self.url!r})"

    def close(self) -> None:
        """Close every connection. What is in memory only is gone; a later transaction raises `StoreError`.

        What other threads have under way is waited for, at most 10 seconds: SQLite does not survive it if a connection
        is closed under a query.
        """
        self._closed = True
        self._gate.wait_until_idle(1 if getattr(self._local, "connection", None) is not None else 0)
        self._direct.close()
        self._engine.dispose()

    # --- transactions ------------------------------------------------------------------------------------------------

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection inside a write transaction: committed at the end, rolled back when an error leaves the block.

        Raises:
            StoreError: The database is locked for too long, read-only, full, unreachable or closed.
        """
        outer: Connection | None = getattr(self._local, "connection", None)
        if outer is None:
            with self._transaction("BEGIN IMMEDIATE", self._write_lock) as connection:
                self._local.writing = True
                yield connection
            return
        if not self._local.writing:
            msg = f"{self.url}: write() was called inside a read() of the same thread: end the read first"
            raise StoreError(msg)
        with self._translated(), outer.begin_nested():
            yield outer

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection inside a read transaction. On SQLite all its queries see the same state of the database.

        Raises:
            StoreError: The database is unreadable, unreachable or closed.
        """
        outer: Connection | None = getattr(self._local, "connection", None)
        if outer is not None:
            with self._translated():
                yield outer
            return
        with self._transaction("BEGIN", self._read_lock) as connection:
            self._local.writing = False
            yield connection

    def fetch(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """All rows of one small SELECT, several times as fast as in a `read()`; inside a transaction it joins that.

        `query` has `?` for each of the `values`, and no other `?` or `%`. What others have committed before is seen.

        Raises:
            StoreError: The database is unreadable, unreachable or closed.
        """
        if self.dialect == "postgresql":
            query = query.replace("?", "%s")
        joined: Connection | None = getattr(self._local, "connection", None)
        if joined is None and self.persistent:
            with self._open_gate(), self._translated_driver():
                return self._direct.rows(query, values)
        with self.read() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query, tuple(values))]

    @contextmanager
    def write_directly(self) -> Iterator[Any]:
        """A cursor of the driver inside a write transaction: for a few small statements, less than half of a `write()`.

        The statements are the driver's own: with `?` on SQLite and `%s` on PostgreSQL. Inside a `write()` of the same
        thread it is a savepoint of that; inside of it the thread may begin no other transaction.

        Raises:
            StoreError: As `write()` does. Mistakes in a statement stay the driver's errors.
        """
        if self.inside_transaction or not self.persistent:
            with self.write() as connection, self._translated_driver():
                cursor = connection.connection.cursor()
                try:
                    yield cursor
                finally:
                    cursor.close()
            return
        self._check_open()
        begin = "BEGIN IMMEDIATE" if self.dialect == "sqlite" else "BEGIN"
        local, transaction = self._local, self._direct.transaction(begin)
        with self._turn_of(self._write_lock), self._open_gate(), self._translated_driver(), transaction as cursor:
            local.direct = True
            try:
                yield cursor
            finally:
                local.direct = False

    @property
    def inside_transaction(self) -> bool:
        """Whether the calling thread is inside a `write()` or a `read()`."""
        return getattr(self._local, "connection", None) is not None

    @contextmanager
    def _turn_of(self, lock: threading.Lock | None) -> Iterator[None]:
        if lock is not None and not lock.acquire(timeout=self._timeout):
            raise self._locked()
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    @contextmanager
    def _open_gate(self) -> Iterator[None]:
        with self._gate.transaction():
            self._check_open()
            yield

    def _check_open(self) -> None:
        if self._closed:
            msg = f"{self.url} is closed: make a new Database"
            raise StoreError(msg)
        if getattr(self._local, "direct", False):
            msg = f"{self.url}: a transaction was begun inside write_directly() of the same thread: end that first"
            raise StoreError(msg)

    @contextmanager
    def _transaction(self, begin: str, lock: threading.Lock | None) -> Iterator[Connection]:
        self._check_open()
        local, connect = self._local, self._engine.connect
        with self._turn_of(lock), self._open_gate(), self._translated(), connect() as connection, connection.begin():
            if self.dialect == "sqlite":
                connection.exec_driver_sql(begin)
            local.connection = connection
            try:
                yield connection
            finally:
                local.connection = None

    # --- schema ------------------------------------------------------------------------------------------------------

    def migrate(self, component: str, steps: Sequence[Callable[[Connection], None]]) -> int:
        """The schema version of `component` after the `steps` not yet applied have run; step n makes version n.

        Each step runs in one write transaction together with its version row, so that it happens once and wholly, or
        not at all, whoever else migrates at the same time. Steps may only ever be appended.

        Raises:
            StoreError: The database was written by a newer version of this package, or cannot be used.
        """
        from sqlalchemy import text

        newest = len(steps)
        version = self._version(component)
        while version < newest:
            with self.write() as connection:
                if self.dialect == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
                connection.execute(
                    text(
                        "CREATE TABLE IF NOT EXISTS tokopt_schema (component VARCHAR(64) PRIMARY KEY, "
                        "version INTEGER NOT NULL, migrated_at DOUBLE PRECISION NOT NULL)"
                    )
                )
                version = _stored_version(connection, component)
                if version < newest:
                    steps[version](connection)
                    version += 1
                    connection.execute(
                        text(
                            "INSERT INTO tokopt_schema (component, version, migrated_at) "
                            "VALUES (:component, :version, :at) ON CONFLICT (component) "
                            "DO UPDATE SET version = excluded.version, migrated_at = excluded.migrated_at"
                        ),
                        {"component": component, "version": version, "at": self._clock()},
                    )
        if version > newest:
            msg = (
                f"{self.url}: the tables of {component!r} have version {version}, and this langchain-tokopt knows "
                f"versions up to {newest}: upgrade the package (pip install -U langchain-tokopt), "
                "or use another database"
            )
            raise StoreError(msg)
        return version

    def _version(self, component: str) -> int:
        from sqlalchemy import inspect

        with self.read() as connection:
            return _stored_version(connection, component) if inspect(connection).has_table("tokopt_schema") else 0

    # --- errors ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the errors of a database that cannot be used into `StoreError`; errors of the caller's own stay."""
        from sqlalchemy import exc

        try:
            yield
        except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
            raise self._store_error(error) from error
        except exc.DatabaseError as error:
            # SQLite reports a broken file as the bare base class; its subclasses are mistakes in a statement.
            if type(error) is not exc.DatabaseError:
                raise
            raise self._store_error(error) from error

    @contextmanager
    def _translated_driver(self) -> Iterator[None]:
        """The same for errors that come straight from the driver."""
        dbapi = self._engine.dialect.loaded_dbapi
        try:
            yield
        except (dbapi.OperationalError, dbapi.InterfaceError, TimeoutError) as error:
            raise self._store_error(error) from error
        except dbapi.DatabaseError as error:
            if type(error) is not dbapi.DatabaseError:
                raise
            raise self._store_error(error) from error

    def _store_error(self, error: Exception) -> StoreError:
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        if "locked" in said or "lock timeout" in said:
            return self._locked()
        for sign, remedy in _REMEDIES:
            if sign in said:
                return StoreError(f"{self.url} cannot be used ({said}): {remedy}")
        return StoreError(f"{self.url} cannot be used: {said}")

    def _locked(self) -> StoreError:
        return StoreError(
            f"{self.url} has been locked for {self._timeout:g} s: find the transaction that stays open, "
            "or raise lock_timeout_seconds"
        )

    # --- forks -------------------------------------------------------------------------------------------------------

    def _new_locks(self) -> None:
        """Fresh locks; also in a forked child, where a lock may have been held by a thread that is not there."""
        self._local = threading.local()
        self._gate = _Gate()
        # SQLite lets one writer in at a time; waiting here is a real queue, waiting in SQLite is polling.
        self._write_lock = threading.Lock() if self.dialect == "sqlite" else None
        # In memory there is one connection for all threads, so that readers take turns, too.
        self._read_lock = None if self.persistent else self._write_lock
        self._direct = DirectConnections(self._engine, timeout_seconds=self._timeout)
        weakref.finalize(self, self._direct.close)

    def before_fork(self) -> None:
        """Close the idle connections, so that the child inherits none.

        SQLite's file locks belong to a process, but its record of them is copied by a fork: a child with an inherited
        connection believes in locks that it does not hold, and can lose what it writes.
        """
        own = 1 if getattr(self._local, "connection", None) is not None else 0
        self._inherited: object = None
        if self._gate.shut(own) and not own:
            if self.persistent:
                self._direct.close()
                self._engine.dispose()
        else:
            # Never freed, so that the child does not close what belongs to its parent.
            self._inherited = (self._engine.pool, self._direct)

    def after_fork_in_parent(self) -> None:
        self._gate.open()

    def after_fork_in_child(self) -> None:
        self._new_locks()
        if self.persistent:
            self._engine.dispose(close=False)


class _Gate:
    """Counts the open transactions, and lets none begin while the process forks."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._open = 0
        self._forking = False
        self._awaited = 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._changed:
            while self._forking:
                self._changed.wait()
            self._open += 1
        try:
            yield
        finally:
            with self._changed:
                self._open -= 1
                if self._forking or self._awaited:
                    self._changed.notify_all()

    def shut(self, own: int) -> bool:
        """Let no transaction begin; whether all but the `own` ones of the calling thread ended in time."""
        with self._changed:
            self._forking = True
            return self._changed.wait_for(lambda: self._open <= own, timeout=_LONGEST_WAIT_SECONDS)

    def wait_until_idle(self, own: int) -> None:
        """Wait for all transactions but the `own` ones of the calling thread; not for ever."""
        with self._changed:
            self._awaited += 1
            self._changed.wait_for(lambda: self._open <= own, timeout=_LONGEST_WAIT_SECONDS)
            self._awaited -= 1

    def open(self) -> None:
        with self._changed:
            self._forking = False
            self._changed.notify_all()


_REMEDIES: tuple[tuple[str, str], ...] = (
    ("file is not a database", "it is another kind of file and was left as it is; give the path of a new file"),
    ("malformed", "the file is damaged and was left as it is; restore a copy, or give the path of a new file"),
    ("unable to open database file", "check that the file and its folder can be read and written by this user"),
    ("readonly database", "give this user the right to write the file and its folder, or use another path"),
    ("read-only transaction", "connect to the primary server, with a role that may write"),
    ("disk is full", "free some space"),
    ("disk I/O error", "check the disk; a SQLite file also needs a local disk, not a network share"),
    ("password authentication failed", "check the user and the password"),
    ("does not exist", "create it on the server, or correct the URL"),
    ("connection", "check that the server runs and can be reached, and that host, port and name are right"),
    ("QueuePool limit", "too many transactions are open at once: end them sooner"),
)


def _stored_version(connection: Connection, component: str) -> int:
    from sqlalchemy import text

    query = text("SELECT version FROM tokopt_schema WHERE component = :component")
    return int(connection.execute(query, {"component": component}).scalar() or 0)
