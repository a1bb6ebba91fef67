"""Questions whose answer from the cache a user has turned down: they go to the model until it has answered them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from sqlalchemy import inspect, text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from langchain_tokopt.database import Database

_KEPT: Final = 10_000
_AGAIN_SECONDS: Final = 5.0  # after which what other processes wrote is read


def _create_table(connection: Connection) -> None:
    connection.execute(
        text(
            "CREATE TABLE tokopt_cache_turned_down (scope VARCHAR(64) NOT NULL, exact VARCHAR(64) NOT NULL, "
            "at DOUBLE PRECISION NOT NULL, PRIMARY KEY (scope, exact))"
        )
    )


_STEPS: Final[Sequence[Callable[[Connection], None]]] = (_create_table,)
_ADD: Final = text(
    "INSERT INTO tokopt_cache_turned_down (scope, exact, at) VALUES (:scope, :exact, :at) "
    "ON CONFLICT (scope, exact) DO UPDATE SET at = excluded.at"
)
_TRIM: Final = text(
    """DELETE FROM tokopt_cache_turned_down WHERE at < (SELECT at FROM tokopt_cache_turned_down
    ORDER BY at DESC LIMIT 1 OFFSET :kept)"""
)
_ALL: Final = text("SELECT scope, exact FROM tokopt_cache_turned_down ORDER BY at DESC LIMIT :kept")


class TurnedDown:
    """A set of questions, kept in the database; other processes learn of a new one within seconds. Thread-safe."""

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._held: frozenset[tuple[str, str]] = frozenset()
        self._read_at: float | None = None
        self._lock = threading.Lock()

    def holds(self, scope: str, exact: str) -> bool:
        """Whether the answer to this question was turned down."""
        now = self._clock()
        if self._read_at is None or not 0 <= now - self._read_at < _AGAIN_SECONDS:
            before = self._held
            with self._database.read() as connection:
                # The table is made with the first entry: a database that is only read has none.
                there = inspect(connection).has_table("tokopt_cache_turned_down")
                rows = connection.execute(_ALL, {"kept": _KEPT}).all() if there else []
            with self._lock:
                # What was added while the table was read may be missing in it.
                self._held = frozenset((row[0], row[1]) for row in rows) | (self._held - before)
                self._read_at = now
        return (scope, exact) in self._held

    def add(self, scope: str, exact: str) -> None:
        """Send this question to the model the next time."""
        self._database.migrate("cache_turned_down", _STEPS)
        with self._database.write() as connection:
            connection.execute(_ADD, {"scope": scope, "exact": exact, "at": self._clock()})
            connection.execute(_TRIM, {"kept": _KEPT})
        with self._lock:
            self._held |= {(scope, exact)}
