"""The table of the summaries that were made, so that every process shows the same ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

# SQLAlchemy is imported where it is used: importing the package must stay quick.
if TYPE_CHECKING:
    from sqlalchemy import Connection

    from langchain_tokopt.database import Database

_BYTES: Final = {"sqlite": "BLOB", "postgresql": "BYTEA"}
_DAY_SECONDS: Final = 86_400
_KEPT_DAYS: Final = 90
_COARSE_DAYS: Final = 7  # not every use is written

_KEEP: Final = """INSERT INTO tokopt_context_summaries (block, summary, used) VALUES (:key, :summary, :today)
    ON CONFLICT (block) DO NOTHING"""
_USE: Final = "UPDATE tokopt_context_summaries SET used = :today WHERE block = :key"
_DELETE: Final = "DELETE FROM tokopt_context_summaries WHERE used < :before"


def _create_tables(connection: Connection) -> None:
    """Version 1. `used` is a day: whole days since the epoch."""
    from sqlalchemy import text

    data = _BYTES[connection.dialect.name]
    for statement in (
        f"""CREATE TABLE tokopt_context_summaries (
            block {data} PRIMARY KEY, summary TEXT NOT NULL, used BIGINT NOT NULL)""",
        "CREATE INDEX tokopt_context_summaries_used ON tokopt_context_summaries (used)",
    ):
        connection.execute(text(statement))


STEPS: Final[Sequence[Callable[[Connection], None]]] = (_create_tables,)


class SummaryRows:
    """Summaries in a database, by a key of their block. The first one that is kept stays.

    Args:
        database: Where the table is made.
        clock: Unix time in seconds.

    Raises:
        StoreError: The database cannot be used, or is from a newer version of this package; so from every method.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        database.migrate("context_summaries", STEPS)
        self._database = database
        self._clock = clock

    @property
    def _today(self) -> int:
        return int(self._clock() // _DAY_SECONDS)

    def get(self, key: bytes) -> str | None:
        """The summary that is kept, `None` if there is none."""
        rows = self._database.fetch("SELECT summary, used FROM tokopt_context_summaries WHERE block = ?", (key,))
        if not rows or not isinstance(rows[0][0], str):
            return None
        if rows[0][1] <= self._today - _COARSE_DAYS:
            self._write(_USE, {"key": key, "today": self._today})
        return str(rows[0][0])

    def keep(self, key: bytes, summary: str) -> str:
        """Keep a summary, and give back the one that is kept: this one, unless another was before it."""
        self._write(_KEEP, {"key": key, "summary": summary, "today": self._today})
        return self.get(key) or summary

    def cleanup(self) -> int:
        """How many summaries were deleted: those not used for 90 days."""
        return self._write(_DELETE, {"before": self._today - _KEPT_DAYS})

    def _write(self, statement: str, values: Mapping[str, Any]) -> int:
        from sqlalchemy import text

        with self._database.write() as connection:
            return connection.execute(text(statement), values).rowcount
