"""The tables that hold sums of events which are no longer kept one by one.

A row of `tokopt_rollups` is the sum of the events of one hour, or one day, that agree in all that figures are told
apart by: place (who, node, model, provider, part), kind, mode, action, source of the usage, internal, failed. Thread,
run and request are left out: there are as many of them as events. So are reasons, errors and details.

Three things are no sums of events, and are kept so that they add up all the same:

- How many requests there were: a request may have several calls. A row of the kind "(request)" counts those whose calls
  all have one place in one hour; `tokopt_rollup_shared` counts the others, with all of their places.
- How long things took: `tokopt_rollup_times` is a histogram with buckets of a fixed relative width. What was added to
  whole requests ("added") and by each part ("part") are two histograms, since a sum over parts is needed for the first.
- Who: a place is written once, in `tokopt_rollup_places`, and named by a hash of it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sqlalchemy import Connection

HOUR: Final = 3600
DAY: Final = 86400

ROLLUPS: Final = "tokopt_rollups"
PLACES: Final = "tokopt_rollup_places"
TIMES: Final = "tokopt_rollup_times"
SHARED: Final = "tokopt_rollup_shared"
UPKEEP: Final = "tokopt_upkeep"

# What rolled-up events are still told apart by.
PLACE: Final = ("tenant", "project", "task", "agent", "user_id", "node", "model", "provider", "part")
GROUP: Final = ("kind", "mode", "action", "usage_source", "internal", "failed")
KEY: Final = ("start", "seconds", "place", *GROUP)

# The sums of a row, and what each is a sum of; `None` as long as no event has the figure.
COUNTS: Final = ("n", "cost_known", "saved_known")
FIGURES: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost_nano",
    "saved_tokens",
    "saved_nano",
    "amount_tokens",
    "amount_nano",
)

REQUEST: Final = "(request)"  # the kind of the rows that count requests; no class of events can have that name

# Buckets of the histograms: a tenth wider each, so that the middle of one is at most 5 % off.
_WIDTH: Final = 1.1
_SHORTEST: Final = 1e-6
_LONGEST: Final = 1e7
ERROR: Final = 0.05


def make_rollups(connection: Connection) -> None:
    """Make the tables."""
    from sqlalchemy import text

    group = ", ".join(f"{name} {'TEXT' if name not in ('internal', 'failed') else 'BIGINT'} NOT NULL" for name in GROUP)
    counts = ", ".join(f"{name} BIGINT NOT NULL" for name in COUNTS)
    figures = ", ".join(f"{name} BIGINT" for name in FIGURES)
    places = ", ".join(f"{name} TEXT" for name in PLACE)
    span = "start BIGINT NOT NULL, seconds BIGINT NOT NULL"
    times = ("place TEXT NOT NULL", "what TEXT NOT NULL", "bucket BIGINT NOT NULL", "n BIGINT NOT NULL")
    shared = ("first BIGINT NOT NULL", "last BIGINT NOT NULL", "places TEXT NOT NULL", "n BIGINT NOT NULL")
    tables = {
        PLACES: f"id TEXT PRIMARY KEY, {places}",
        ROLLUPS: f"{span}, place TEXT NOT NULL, {group}, {counts}, {figures}, PRIMARY KEY ({', '.join(KEY)})",
        TIMES: f"{span}, {', '.join(times)}, PRIMARY KEY (start, seconds, place, what, bucket)",
        SHARED: f"id TEXT PRIMARY KEY, {', '.join(shared)}",
        UPKEEP: "name TEXT PRIMARY KEY, holder TEXT NOT NULL, until DOUBLE PRECISION NOT NULL, done BIGINT NOT NULL",
    }
    for name, columns in tables.items():
        connection.execute(text(f"CREATE TABLE {name} ({columns})"))
    connection.execute(text(f"CREATE INDEX {ROLLUPS}_seconds_start ON {ROLLUPS} (seconds, start)"))
    connection.execute(text(f"CREATE INDEX {SHARED}_last ON {SHARED} (last)"))


def place_id(place: tuple[str | None, ...]) -> str:
    """The name of a place: 32 hexadecimal digits, the same everywhere."""
    return hashlib.sha256(json.dumps(place).encode()).hexdigest()[:32]


def bucket_of(seconds: float) -> int:
    """The histogram's bucket for a time; anything below a microsecond is in the lowest, 0."""
    if not seconds > _SHORTEST:
        return 0
    return 1 + math.floor(math.log(min(seconds, _LONGEST) / _SHORTEST) / math.log(_WIDTH))


def seconds_of(bucket: int) -> float:
    """The middle of a bucket: at most `ERROR` off from any time in it, as a share."""
    return 0.0 if bucket == 0 else _SHORTEST * math.pow(_WIDTH, bucket - 0.5)


def added(table: str, names: tuple[str, ...], counts: tuple[str, ...], figures: tuple[str, ...] = ()) -> str:
    """`ON CONFLICT` and what follows: the new numbers are added to those of the row that is there."""
    sums = [f"{name} = {table}.{name} + excluded.{name}" for name in counts]
    sums += [
        f"{name} = COALESCE({table}.{name} + excluded.{name}, {table}.{name}, excluded.{name})" for name in figures
    ]
    return f"ON CONFLICT ({', '.join(names)}) DO UPDATE SET {', '.join(sums)}"


def put(connection: Connection, table: str, rows: list[dict[str, Any]], conflict: str) -> None:
    """Insert the rows, in an order that two writers have in common."""
    from sqlalchemy import text

    if rows:
        names = list(rows[0])
        values = ", ".join(f":{name}" for name in names)
        query = text(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values}) {conflict}")  # noqa: S608 - names of ours
        connection.execute(query, sorted(rows, key=_order))


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in (*KEY, "what", "bucket", "id") if name in row)
