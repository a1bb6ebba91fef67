"""How the system stands, written down now and then: entries and bytes of a cache, budgets, versions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from langchain_tokopt.events import Event
from langchain_tokopt.telemetry.rows import clean, moment, name_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

SNAPSHOTS: Final = "tokopt_snapshots"
_MOST = 10_000
LONGEST_FIGURES: Final = 65_536  # characters as JSON


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How something stood at a time.

    Attributes:
        name: Of what.
        at: Unix time in seconds.
        figures: What was found, as JSON gives it back.
    """

    name: str
    at: float
    figures: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken(Event):
    """A snapshot on its way to the database, among the events."""

    name: str
    figures: Mapping[str, Any] = field(default_factory=dict)


def make_snapshots(connection: Connection) -> None:
    """Make the table."""
    from sqlalchemy import text

    connection.execute(
        text(
            f"CREATE TABLE {SNAPSHOTS} (id TEXT PRIMARY KEY, name TEXT NOT NULL, at DOUBLE PRECISION NOT NULL, "
            "figures TEXT NOT NULL)"
        )
    )
    connection.execute(text(f"CREATE INDEX {SNAPSHOTS}_name_at ON {SNAPSHOTS} (name, at)"))
    connection.execute(text(f"CREATE INDEX {SNAPSHOTS}_at ON {SNAPSHOTS} (at)"))


def to_snapshot_row(taken: Taken) -> dict[str, Any]:
    """The snapshot as a row; figures that are too long are replaced by their length."""
    figures = clean(json.dumps(dict(taken.figures), default=str, skipkeys=True))
    if len(figures) > LONGEST_FIGURES:
        figures = json.dumps({"too_long": len(figures)})
    return {"id": name_of(taken.id), "name": name_of(taken.name), "at": moment(taken.at), "figures": figures}


def put_snapshots(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep the rows; those that are already there stay as they are."""
    from sqlalchemy import text

    into = f"INSERT INTO {SNAPSHOTS} (id, name, at, figures) VALUES (:id, :name, :at, :figures)"  # noqa: S608
    connection.execute(text(f"{into} ON CONFLICT (id) DO NOTHING"), list(rows))


def read_snapshots(connection: Connection, name: str | None, *, since: float | None) -> tuple[Snapshot, ...]:
    """The newest 10,000 of a name (`None`: of all), oldest first."""
    from sqlalchemy import text

    given = {"name": name, "since": since}
    tests = {"name": "name = :name", "since": "at >= :since"}
    known = {key: value for key, value in given.items() if value is not None}
    where = " AND ".join(tests[key] for key in known) or "1 = 1"
    query = f"SELECT name, at, figures FROM {SNAPSHOTS} WHERE {where} ORDER BY at DESC, id DESC LIMIT {_MOST}"  # noqa: S608
    rows = connection.execute(text(query), known).mappings().all()
    return tuple(Snapshot(row["name"], row["at"], json.loads(row["figures"])) for row in reversed(rows))


def forget_snapshots(connection: Connection, *, before: float) -> None:
    """Delete those that are older."""
    from sqlalchemy import text

    connection.execute(text(f"DELETE FROM {SNAPSHOTS} WHERE at < :before"), {"before": before})  # noqa: S608
