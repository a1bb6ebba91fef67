"""Small transactions straight at the driver, for what is done so often that SQLAlchemy's overhead counts."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Engine

_CONNECTIONS = 8  # at once; each transaction takes about a millisecond, so that more would only wait elsewhere

# Its own, so that the program's random numbers stay what they would be. So that not all look at once.
_JITTER = random.Random()  # noqa: S311

# Between two looks whether SQLite's write lock is free, in seconds.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.003


class DirectConnections:
    """Connections of their own, outside of the engine's pool, on which every query is a transaction by itself.

    A SELECT through SQLAlchemy, with its BEGIN and COMMIT, takes about 150 us on a SQLite file; here it takes 10.
    Not for the one connection of a database in memory.

    Args:
        engine: Opens the connections, set up like any other of its own.
        timeout_seconds: How long a query or a transaction waits for a connection.
    """

    def __init__(self, engine: Engine, *, timeout_seconds: float) -> None:
        self._engine = engine
        self._timeout = timeout_seconds
        self._postgresql = engine.dialect.name == "postgresql"
        self._idle: deque[Any] = deque()
        self._closings = 0
        self._free = threading.BoundedSemaphore(_CONNECTIONS)

    def rows(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Every row of a query. Raises what the driver raises, and `TimeoutError` if no connection gets free."""
        with self._one_of_few():
            # One that lay idle may have been cut off meanwhile; a file is never.
            if self._postgresql and self._idle:
                with suppress(self._engine.dialect.loaded_dbapi.OperationalError):
                    return self._ask(self._taken(), query, values)
                self.close()
            return self._ask(self._taken(), query, values)

    @contextmanager
    def transaction(self, begin: str) -> Iterator[Any]:
        """A cursor inside a transaction: committed at the end; when an error leaves the block, nothing was done.

        Raises what the driver raises, and `TimeoutError` if no connection gets free.
        """
        with self._one_of_few():
            connection = self._begun(begin)
            cursor = connection.cursor()
            closings, kept = self._closings, False
            try:
                yield cursor
                cursor.execute("COMMIT")
                cursor.close()
                self._idle.append(connection)
                kept = closings == self._closings
            finally:
                if not kept:
                    # SQLite keeps a closed connection, and its lock, for as long as a statement is not finished.
                    with suppress(Exception):
                        cursor.close()
                    with suppress(Exception):
                        connection.rollback()
                    self._discard(connection)

    def _begun(self, begin: str) -> Any:
        if self._postgresql and self._idle:
            with suppress(self._engine.dialect.loaded_dbapi.OperationalError):
                return self._begin(self._taken(), begin)
            self.close()
        return self._begin(self._taken(), begin)

    def _begin(self, connection: Any, begin: str) -> Any:
        try:
            if self._postgresql:
                connection.execute(begin)
            else:
                self._begin_in_turn(connection, begin)
        except BaseException:
            self._discard(connection)
            raise
        return connection

    def _begin_in_turn(self, connection: Any, begin: str) -> None:
        """Wait for SQLite's write lock, looking often.

        SQLite itself looks ever less often, up to every 100 ms: beside busy writers one could wait for seconds.
        """
        give_up = time.monotonic() + self._timeout
        pause = _SHORTEST_PAUSE
        connection.execute("PRAGMA busy_timeout = 0")
        while True:
            try:
                connection.execute(begin)
                break
            except self._engine.dialect.loaded_dbapi.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > give_up:
                    raise
            time.sleep(pause * _JITTER.uniform(0.5, 1.5))
            pause = min(1.5 * pause, _LONGEST_PAUSE)
        connection.execute(f"PRAGMA busy_timeout = {int(1000 * self._timeout)}")

    @contextmanager
    def _one_of_few(self) -> Iterator[None]:
        if not self._free.acquire(timeout=self._timeout):
            msg = f"{_CONNECTIONS} small transactions have been under way for {self._timeout:g} s"
            raise TimeoutError(msg)
        try:
            yield
        finally:
            self._free.release()

    def _ask(self, connection: Any, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        closings, kept = self._closings, False
        try:
            found: list[tuple[Any, ...]] = connection.execute(query, values).fetchall()
            self._idle.append(connection)
            kept = closings == self._closings
        finally:
            if not kept:
                self._discard(connection)
        return found

    def _discard(self, connection: Any) -> None:
        with suppress(ValueError):
            self._idle.remove(connection)
        with suppress(Exception):
            connection.close()

    def _taken(self) -> Any:
        with suppress(IndexError):
            return self._idle.pop()
        pooled = self._engine.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()
        if self._postgresql:
            connection.autocommit = True
        return connection

    def close(self) -> None:
        """Close the connections that are idle; one that is in use is closed after it."""
        self._closings += 1
        with suppress(IndexError):
            while True:
                self._discard(self._idle.pop())
