"""The table of alerts. Of all processes that look, one makes each change; the database decides which."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from langchain_tokopt.database import Database
from langchain_tokopt.telemetry.alerts.words import Alert

# SQLAlchemy is imported where it is used: importing the package must stay quick.
if TYPE_CHECKING:
    from sqlalchemy import Connection

TABLE: Final = "tokopt_alerts"
_KEPT_SECONDS: Final = 90 * 86400.0
_LONGEST_TEXT: Final = 2000

# What was seen later than this, by up to so much, is another process's, and newer. What is from further ahead is of a
# clock that goes wrong, which must not keep everybody else from looking.
NEWER_SECONDS: Final = 600.0

_COLUMNS: Final[Mapping[str, str]] = {
    "id": "VARCHAR(32) PRIMARY KEY",
    "place": "VARCHAR(64) NOT NULL",
    "rule": "TEXT NOT NULL",
    "metric": "TEXT NOT NULL",
    "subject": "TEXT NOT NULL",
    "severity": "TEXT NOT NULL",
    "title": "TEXT NOT NULL",
    "detail": "TEXT NOT NULL",
    "value": "DOUBLE PRECISION",
    "threshold": "DOUBLE PRECISION NOT NULL",
    "peak": "DOUBLE PRECISION NOT NULL",
    "since": "DOUBLE PRECISION NOT NULL",
    "raised_at": "DOUBLE PRECISION",
    "seen_at": "DOUBLE PRECISION NOT NULL",
    "told_at": "DOUBLE PRECISION",
    "tell": "TEXT",
    "lapses_after": "DOUBLE PRECISION NOT NULL",
    "cleared_at": "DOUBLE PRECISION",
    "acknowledged_by": "TEXT",
    "acknowledged_at": "DOUBLE PRECISION",
    "note": "TEXT",
}


def _make_table(connection: Connection) -> None:
    from sqlalchemy import text

    columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
    connection.execute(text(f"CREATE TABLE {TABLE} ({columns})"))
    # At most one that is not over for each rule and subject, whoever writes. `place` stands for both: a name may be
    # longer than what an index of PostgreSQL takes.
    connection.execute(text(f"CREATE UNIQUE INDEX {TABLE}_standing ON {TABLE} (place) WHERE cleared_at IS NULL"))
    connection.execute(text(f"CREATE INDEX {TABLE}_cleared_at ON {TABLE} (cleared_at)"))
    connection.execute(text(f"CREATE INDEX {TABLE}_tell ON {TABLE} (tell) WHERE tell IS NOT NULL"))
    connection.execute(text(f"CREATE INDEX {TABLE}_place ON {TABLE} (place, seen_at)"))


STEPS: Final = (_make_table,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A condition that holds: it is raised, or has not held for long enough (`raised_at` is `None`).

    `tell` is what a process without anybody to tell it to has made of it ("raised", "cleared"): the next one that has
    channels tells it.
    """

    id: str
    place: str
    rule: str
    metric: str
    subject: str
    severity: str
    title: str
    detail: str
    value: float | None
    threshold: float
    peak: float
    since: float
    raised_at: float | None
    seen_at: float
    told_at: float | None
    tell: str | None
    lapses_after: float
    cleared_at: float | None
    acknowledged_by: str | None
    acknowledged_at: float | None
    note: str | None

    @property
    def alert(self) -> Alert:
        """As it is shown; only of one that was raised."""
        shown = {name: getattr(self, name) for name in Alert.__dataclass_fields__}
        return Alert(**{**shown, "raised_at": self.since if self.raised_at is None else self.raised_at})


def place_of(rule: str, subject: str) -> str:
    """What stands for a rule and a subject of any length."""
    return hashlib.sha256(f"{len(rule)}:{rule}{subject}".encode("utf-8", "surrogatepass")).hexdigest()


def clean(value: str) -> str:
    """Text that every database takes, and not more than people read."""
    return value[:_LONGEST_TEXT].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


class AlertTable:
    """Alerts in a database. Everything raises `StoreError` when that cannot be used.

    Every change names the state that it starts from and says whether it was made: when two processes see the same, the
    second finds the state gone.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._ready = False

    def prepare(self) -> None:
        """Make the table, or bring it up to date, unless that was done."""
        if not self._ready:
            self.database.migrate("alerts", STEPS)
            self._ready = True

    # --- reading -----------------------------------------------------------------------------------------------------

    def standing(self) -> list[Row]:
        """All conditions that hold, those that are not raised yet with them."""
        return self._rows("cleared_at IS NULL ORDER BY since, id", {})

    def untold(self) -> list[Row]:
        """Those of which something is left to be told, over or not, in the order in which it happened."""
        return self._rows("tell IS NOT NULL ORDER BY COALESCE(cleared_at, raised_at), id", {})

    def history(self, *, limit: int, since: float | None = None) -> list[Row]:
        """The last `limit` that were raised, the newest first, over or not."""
        test = "" if since is None else "AND COALESCE(cleared_at, seen_at) >= :since "
        given = {"limit": limit, **({} if since is None else {"since": since})}
        return self._rows(f"raised_at IS NOT NULL {test}ORDER BY raised_at DESC, id LIMIT :limit", given)

    def named(self, start: str) -> list[Row]:
        """Those that were raised and whose id begins so; 2 are enough to know that it is not one."""
        test = "raised_at IS NOT NULL AND id >= :start AND id < :after ORDER BY id LIMIT 2"
        return self._rows(test, {"start": start, "after": f"{start}g"})

    def _rows(self, test: str, given: Mapping[str, Any]) -> list[Row]:
        from sqlalchemy import text

        self.prepare()
        query = text(f"SELECT {', '.join(_COLUMNS)} FROM {TABLE} WHERE {test}")  # noqa: S608 - names of ours
        with self.database.read() as connection:
            return [Row(**row) for row in connection.execute(query, dict(given)).mappings()]

    # --- changing, inside a write() of the database ------------------------------------------------------------------

    def begin(self, row: Row, *, heard_at: float | None = None) -> bool:
        """Keep a condition that has begun to hold, unless it is there, or was seen to have ended later than this.

        `heard_at`: unless it has ended since then.
        """
        names = ", ".join(_COLUMNS)
        kinds = {name: kind.split(" NOT")[0].split(" PRIMARY")[0] for name, kind in _COLUMNS.items()}
        # PostgreSQL does not know the type of a value that is selected.
        values = ", ".join(f"CAST(:{name} AS {kinds[name]})" for name in _COLUMNS)
        given: dict[str, Any] = {name: getattr(row, name) for name in _COLUMNS}
        given["far"] = row.seen_at + NEWER_SECONDS
        ended = "(seen_at > :seen_at AND seen_at < :far)"
        if heard_at is not None:
            ended, given["heard_at"] = f"({ended} OR cleared_at >= :heard_at)", heard_at
        return self._done(
            f"INSERT INTO {TABLE} ({names}) SELECT {values} WHERE NOT EXISTS "  # noqa: S608 - names of ours
            f"(SELECT 1 FROM {TABLE} WHERE place = :place AND {ended}) ON CONFLICT DO NOTHING",
            given,
        )

    def move(self, row: Row, **changes: Any) -> bool:
        """Change a standing condition, unless another process was quicker."""
        given = {f"new_{name}": value for name, value in changes.items()}
        sets = ", ".join(f"{name} = :new_{name}" for name in changes)
        same = "raised_at IS NULL" if row.raised_at is None else "raised_at IS NOT NULL"
        told = "told_at IS NULL" if row.told_at is None else "told_at = :told_at"
        return self._done(
            f"UPDATE {TABLE} SET {sets} WHERE id = :id AND cleared_at IS NULL AND {same} AND {told}",  # noqa: S608
            {"id": row.id, **given, **({} if row.told_at is None else {"told_at": row.told_at})},
        )

    def told(self, row: Row, *, at: float) -> bool:
        """Put down that what was left to be told is told now, unless another process was quicker."""
        query = f"UPDATE {TABLE} SET tell = NULL, told_at = :at WHERE id = :id AND tell = :tell"  # noqa: S608
        return self._done(query, {"id": row.id, "tell": row.tell, "at": at})

    def drop(self, row: Row) -> bool:
        """Forget a condition that did not hold for long enough."""
        query = f"DELETE FROM {TABLE} WHERE id = :id AND raised_at IS NULL AND seen_at <= :seen_at"  # noqa: S608
        return self._done(query, {"id": row.id, "seen_at": row.seen_at})

    def forget(self, now: float) -> None:
        """Delete what was over long ago."""
        self._done(f"DELETE FROM {TABLE} WHERE cleared_at < :before", {"before": now - _KEPT_SECONDS})  # noqa: S608

    def acknowledge(self, id: str, *, by: str, note: str | None, at: float) -> bool:  # noqa: A002
        """Put down who has taken up an alert that is not over."""
        return self._done(
            f"UPDATE {TABLE} SET acknowledged_by = :by, acknowledged_at = :at, note = :note "  # noqa: S608
            "WHERE id = :id AND cleared_at IS NULL AND raised_at IS NOT NULL",
            {"id": id, "by": by, "at": at, "note": note},
        )

    def _done(self, query: str, given: Mapping[str, Any]) -> bool:
        from sqlalchemy import text

        self.prepare()
        with self.database.write() as connection:
            return bool(connection.execute(text(query), dict(given)).rowcount)


def new_id() -> str:
    """An id for an alert: 32 hexadecimal digits."""
    return uuid.uuid4().hex


def alerts(rows: Sequence[Row]) -> list[Alert]:
    """As they are shown."""
    return [row.alert for row in rows]
