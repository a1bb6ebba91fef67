"""The table of the threads of agents: what was expected of each when it began, and how it went."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from langchain_tokopt.context.policy import Expected

# SQLAlchemy is imported where it is used: importing the package must stay quick.
if TYPE_CHECKING:
    from sqlalchemy import Connection

    from langchain_tokopt.database import Database

_BYTES: Final = {"sqlite": "BLOB", "postgresql": "BYTEA"}
_DAY_SECONDS: Final = 86_400
_KEPT_DAYS: Final = 90
_NAMES: Final = "thread, agent, began, expected, trims, asks, calls, trimmable, parts, asked"
_GROWING: Final = ("calls", "trimmable", "parts", "asked")

# What was expected first stays: what the thread is shown depends on it.
_INSERT: Final = (
    f"INSERT INTO tokopt_context_threads ({_NAMES}, seen) "  # noqa: S608 - names of ours
    "VALUES (:thread, :agent, :began, :expected, :trims, :asks, :calls, :trimmable, :parts, :asked, :today) "
    "ON CONFLICT (thread)"
)
_BEGIN: Final = f"{_INSERT} DO NOTHING"
_LARGER: Final = ", ".join(
    f"{name} = CASE WHEN excluded.{name} > tokopt_context_threads.{name} "
    f"THEN excluded.{name} ELSE tokopt_context_threads.{name} END"
    for name in _GROWING
)
_KEEP: Final = f"{_INSERT} DO UPDATE SET seen = excluded.seen, {_LARGER}"
_GET: Final = f"SELECT {_NAMES} FROM tokopt_context_threads WHERE thread = ?"  # noqa: S608 - names of ours
_NEWEST: Final = (
    f"SELECT {_NAMES} FROM tokopt_context_threads WHERE agent = ? "  # noqa: S608 - likewise
    "ORDER BY began DESC, thread LIMIT ?"
)
_DELETE: Final = "DELETE FROM tokopt_context_threads WHERE seen < :before"


@dataclass(slots=True)
class ThreadRecord:
    """One thread: whose it is, what was expected of it when it began, and how it went so far.

    Attributes:
        agent: A digest of the agent's name.
        expected: What was expected of the thread.
        began: When it began: Unix time in seconds.
        calls: How many model calls it has made.
        trimmable: The tokens that its new results lose by being shown in part.
        parts: How many results were shown in part.
        asked: How often the model asked for one of them.
    """

    agent: bytes
    expected: Expected
    began: float = 0.0
    calls: int = 0
    trimmable: int = 0
    parts: int = 0
    asked: int = 0

    def grow(self, other: ThreadRecord) -> bool:
        """Take over what is further there. Whether anything was."""
        before = (self.calls, self.trimmable, self.parts, self.asked)
        for name in _GROWING:
            setattr(self, name, max(getattr(self, name), getattr(other, name)))
        return before != (self.calls, self.trimmable, self.parts, self.asked)


def _create_tables(connection: Connection) -> None:
    """Version 1. `seen` is a day: whole days since the epoch; `expected` the calls of earlier threads, as JSON."""
    from sqlalchemy import text

    data = _BYTES[connection.dialect.name]
    for statement in (
        f"""CREATE TABLE tokopt_context_threads (
            thread {data} PRIMARY KEY, agent {data} NOT NULL, began DOUBLE PRECISION NOT NULL,
            expected TEXT NOT NULL, trims INTEGER NOT NULL, asks INTEGER NOT NULL, calls BIGINT NOT NULL,
            trimmable BIGINT NOT NULL, parts BIGINT NOT NULL, asked BIGINT NOT NULL, seen BIGINT NOT NULL)""",
        "CREATE INDEX tokopt_context_threads_agent ON tokopt_context_threads (agent, began)",
        "CREATE INDEX tokopt_context_threads_seen ON tokopt_context_threads (seen)",
    ):
        connection.execute(text(statement))


STEPS: Final[Sequence[Callable[[Connection], None]]] = (_create_tables,)


class HabitRows:
    """Threads in a database, by digests of their keys. Safe for many processes.

    Args:
        database: Where the table is made.
        clock: Unix time in seconds.

    Raises:
        StoreError: The database cannot be used, or is from a newer version of this package; so from every method.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        database.migrate("context_threads", STEPS)
        self._database = database
        self._clock = clock

    @property
    def _today(self) -> int:
        return int(self._clock() // _DAY_SECONDS)

    def get(self, thread: bytes) -> ThreadRecord | None:
        """What is kept of the thread, `None` if nothing is, or nothing that can be read."""
        rows = self._database.fetch(_GET, (thread,))
        return _record(rows[0]) if rows else None

    def newest(self, agent: bytes, k: int) -> dict[bytes, ThreadRecord]:
        """The newest `k` threads of the agent, newest first."""
        read = {bytes(row[0]): _record(row) for row in self._database.fetch(_NEWEST, (agent, k))}
        return {thread: record for thread, record in read.items() if record is not None}

    def begin(self, thread: bytes, record: ThreadRecord) -> ThreadRecord:
        """Keep a thread that begins, and give back what is kept: this, unless another process was before."""
        self._write(_BEGIN, [self._values(thread, record)])
        return self.get(thread) or record

    def keep(self, records: Mapping[bytes, ThreadRecord]) -> None:
        """Write how far threads are by now. Counts never shrink, and what was expected stays."""
        if records:
            # In the order of their keys, so that two writers do not wait for each other.
            self._write(_KEEP, [self._values(thread, record) for thread, record in sorted(records.items())])

    def cleanup(self) -> int:
        """How many threads were deleted: those that nobody has gone on with for 90 days."""
        return self._write(_DELETE, [{"before": self._today - _KEPT_DAYS}])

    def _values(self, thread: bytes, record: ThreadRecord) -> dict[str, Any]:
        return {
            "thread": thread,
            "agent": record.agent,
            "began": record.began,
            "expected": json.dumps(list(record.expected.calls)),
            "trims": int(record.expected.trims),
            "asks": int(record.expected.asks),
            "calls": record.calls,
            "trimmable": record.trimmable,
            "parts": record.parts,
            "asked": record.asked,
            "today": self._today,
        }

    def _write(self, statement: str, values: Sequence[Mapping[str, Any]]) -> int:
        from sqlalchemy import text

        with self._database.write() as connection:
            return connection.execute(text(statement), list(values)).rowcount


def _record(row: Sequence[Any]) -> ThreadRecord | None:
    """The record of a row; `None` where it was not written by this class."""
    _, agent, began, expected, trims, asks, *went = row
    try:
        made = tuple(int(count) for count in json.loads(expected))
        return ThreadRecord(bytes(agent), Expected(made, bool(trims), bool(asks)), float(began), *map(int, went))
    except (TypeError, ValueError):
        return None
