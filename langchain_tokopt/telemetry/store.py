"""The table of events: made, written, read page by page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from langchain_tokopt.database import Database
from langchain_tokopt.events import Event
from langchain_tokopt.telemetry.rollups_tables import make_rollups
from langchain_tokopt.telemetry.rows import COLUMNS, name_of, to_event, to_row
from langchain_tokopt.telemetry.snapshots import (
    Snapshot,
    Taken,
    make_snapshots,
    put_snapshots,
    read_snapshots,
    to_snapshot_row,
)

# SQLAlchemy is imported where it is used: importing the package must stay quick.
if TYPE_CHECKING:
    from sqlalchemy import Connection

TABLE: Final = "tokopt_events"
_PAGE = 1000


def _make_table(connection: Connection) -> None:
    from sqlalchemy import text

    # `seq` is the order of arrival; `id` makes writing a batch again, after a broken connection, harmless.
    sqlite = connection.dialect.name == "sqlite"
    seq = "INTEGER PRIMARY KEY AUTOINCREMENT" if sqlite else "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
    must = {"id": " NOT NULL UNIQUE", "at": " NOT NULL", "kind": " NOT NULL", "mode": " NOT NULL"}
    columns = ", ".join(f"{name} {kind}{must.get(name, '')}" for name, kind in COLUMNS.items())
    connection.execute(text(f"CREATE TABLE {TABLE} (seq {seq}, {columns})"))
    for key in ("at", "kind, at", "thread, at"):
        name = key.replace(", ", "_")
        connection.execute(text(f"CREATE INDEX {TABLE}_{name} ON {TABLE} ({key})"))


def _index_requests(connection: Connection) -> None:
    from sqlalchemy import text

    connection.execute(text(f"CREATE INDEX {TABLE}_request ON {TABLE} (request)"))


STEPS: Final = (_make_table, _index_requests, make_rollups, make_snapshots)


class EventStore:
    """Events in a database.

    Args:
        database: Where they are kept; the table is made or brought up to date at the first use.
        max_rows: Older events than the newest so many are deleted now and then; `None` keeps all.
    """

    def __init__(self, database: Database, *, max_rows: int | None = None) -> None:
        self.database = database
        self._max_rows = max_rows
        self._since_pruned = 0
        self._cut = False
        self._ready = False

    def write(self, events: Sequence[Event]) -> None:
        """Keep the events and snapshots; those that are already there stay as they are.

        Raises:
            StoreError: The database cannot be used now; nothing was written.
        """
        from sqlalchemy import text

        rows = [to_row(event) for event in events if not isinstance(event, Taken)]
        snapshots = [to_snapshot_row(event) for event in events if isinstance(event, Taken)]
        self.prepare()
        names = ", ".join(COLUMNS)
        values = ", ".join(f":{name}" for name in COLUMNS)
        insert = text(f"INSERT INTO {TABLE} ({names}) VALUES ({values}) ON CONFLICT (id) DO NOTHING")  # noqa: S608 - names of ours
        with self.database.write() as connection:
            if rows:
                connection.execute(insert, rows)
            if snapshots:
                put_snapshots(connection, snapshots)
            self._prune(connection, len(rows))

    def _prune(self, connection: Connection, added: int) -> None:
        from sqlalchemy import text

        if self._max_rows is None:
            return
        self._since_pruned += added
        if self._since_pruned > self._max_rows // 10:
            self._since_pruned = 0
            old = f"SELECT MAX(seq) - :keep FROM {TABLE}"  # noqa: S608 - a name of ours
            delete = text(f"DELETE FROM {TABLE} WHERE seq <= ({old})")  # noqa: S608 - a name of ours
            self._cut = bool(connection.execute(delete, {"keep": self._max_rows}).rowcount) or self._cut

    @property
    def cut(self) -> bool:
        """Whether older events may have been deleted."""
        return self._cut

    def events(
        self, *, kind: str | None = None, since: float | None = None, thread: str | None = None
    ) -> Iterator[Event]:
        """The events, oldest first. No transaction stays open between two of them.

        Raises:
            StoreError: The database cannot be read.
        """
        from sqlalchemy import text

        thread = None if thread is None else name_of(thread)
        wanted: dict[str, Any] = {"kind": kind, "since": since, "thread": thread}
        tests = {"kind": "kind = :kind", "since": "at >= :since", "thread": "thread = :thread"}
        conditions = [tests[name] for name, value in wanted.items() if value is not None]
        after: dict[str, Any] = {}
        self.prepare()
        while True:
            # Said twice, so that the index is entered where the last page ended.
            past = ["at >= :at", "(at > :at OR seq > :seq)"] if after else []
            where = " AND ".join([*conditions, *past])
            query = (
                f"SELECT * FROM {TABLE} {'WHERE ' + where if where else ''} "  # noqa: S608 - names of ours
                "ORDER BY at, seq LIMIT :page"
            )
            given = {name: value for name, value in wanted.items() if value is not None}
            with self.database.read() as connection:
                rows = connection.execute(text(query), {**given, **after, "page": _PAGE}).mappings().all()
            for row in rows:
                yield to_event(dict(row))
            if len(rows) < _PAGE:
                return
            after = {"at": rows[-1]["at"], "seq": rows[-1]["seq"]}

    def snapshots(self, name: str | None = None, *, since: float | None = None) -> tuple[Snapshot, ...]:
        """The newest 10,000 snapshots of a name (`None`: of all), oldest first.

        Raises:
            StoreError: The database cannot be read.
        """
        with self.reading() as connection:
            return read_snapshots(connection, None if name is None else name_of(name), since=since)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection on which all queries see one state of the database, also beside roll-ups on PostgreSQL.

        Raises:
            StoreError: The database cannot be read.
        """
        self.prepare()
        inside = self.database.inside_transaction
        with self.database.read() as connection:
            if not inside and self.database.dialect == "postgresql":
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield connection

    def prepare(self) -> None:
        """Make the table, or bring it up to date, unless that was done.

        Raises:
            StoreError: The database cannot be used, or was written by a newer version of this package.
        """
        if not self._ready:
            self.database.migrate("telemetry", STEPS)
            self._ready = True
