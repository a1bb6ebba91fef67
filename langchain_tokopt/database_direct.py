"""Small transactions straight at the driver, for what is done so often that SQLAlchemy's overhead counts."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Engine

_CONNECTIONS = 8  # at once; each transaction takes about a millisecond, so that more would only wait elsewhere


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
            closings, kept = self._closings, False
            try:
                cursor = connection.cursor()
                yield cursor
                cursor.execute("COMMIT")
                cursor.close()
                self._idle.append(connection)
                kept = closings == self._closings
            finally:
                if not kept:
                    self._discard(connection)

    def _begun(self, begin: str) -> Any:
        if self._postgresql and self._idle:
            with suppress(self._engine.dialect.loaded_dbapi.OperationalError):
                return self._begin(self._taken(), begin)
            self.close()
        return self._begin(self._taken(), begin)

    def _begin(self, connection: Any, begin: str) -> Any:
        try:
            connection.execute(begin)
        except BaseException:
            self._discard(connection)
            raise
        return connection

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
