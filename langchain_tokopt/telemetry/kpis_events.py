"""What KPIs need of single events, and no sum tells: what was asked for again, and why calls ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from langchain_tokopt.telemetry.readings import Span
from langchain_tokopt.telemetry.rollups_tables import ROLLUPS
from langchain_tokopt.telemetry.store import TABLE, EventStore

# How a part ends the reason of a decision about a call in which the model did nothing but ask for what was left out.
_ASKED_AGAIN: Final = ("%; this call only asked for what is shown in part", "%; this call only searched for tools")

# How calls end that nobody waited for any more: no failure of the model's.
_BROKEN_OFF: Final = ("StreamClosed", "CancelledError", "GeneratorExit", "KeyboardInterrupt")


@dataclass(frozen=True, slots=True)
class Shortened:
    """What one part sent in fewer tokens, for real.

    Attributes:
        calls: How often it changed what a model is sent.
        asked: In how many of these the model only asked for what was left out.
        counted: Of how many of these both sizes are known.
        before: Their tokens as they came in, by our estimate.
        after: Their tokens as they were sent. A call that only asked for more counts in full.
    """

    calls: int = 0
    asked: int = 0
    counted: int = 0
    before: int = 0
    after: int = 0

    def __add__(self, other: Shortened) -> Shortened:
        return Shortened(
            self.calls + other.calls,
            self.asked + other.asked,
            self.counted + other.counted,
            self.before + other.before,
            self.after + other.after,
        )


def shortened(store: EventStore, span: Span, *, every: int | None) -> dict[tuple[str, int], Shortened]:
    """By part, and the start of the slice, a multiple of `every` seconds; all at 0 where that is `None`.

    Raises:
        StoreError: The database cannot be read.
    """
    # SQLite cuts where PostgreSQL rounds to the nearest; no event is from before 1970.
    whole = "CAST(FLOOR(at) AS BIGINT)" if store.database.dialect == "postgresql" else "CAST(at AS BIGINT)"
    start = f"{whole} / {every} * {every}" if every else "0"
    both = "tokens_before IS NOT NULL AND tokens_after IS NOT NULL"
    rows = _rows(
        store,
        f"SELECT part, {start} AS start, COUNT(*) AS calls, "  # noqa: S608 - names of ours
        "SUM(CASE WHEN reason LIKE :retrieved OR reason LIKE :searched THEN 1 ELSE 0 END) AS asked, "
        f"SUM(CASE WHEN {both} THEN 1 ELSE 0 END) AS counted, "
        f"SUM(CASE WHEN {both} THEN tokens_before ELSE 0 END) AS before, "
        f"SUM(CASE WHEN {both} THEN tokens_after ELSE 0 END) AS after "
        f"FROM {TABLE} WHERE kind = 'Decision' AND part IN ('history', 'tools') AND action = 'applied' "
        "AND mode <> 'shadow' AND at >= :since AND at < :until GROUP BY 1, 2",
        span,
        retrieved=_ASKED_AGAIN[0],
        searched=_ASKED_AGAIN[1],
    )
    names = ("calls", "asked", "counted", "before", "after")
    return {(row["part"], int(row["start"])): Shortened(*(int(row[name]) for name in names)) for row in rows}


def fallbacks(store: EventStore, span: Span) -> int:
    """How many requests a budget sent to a cheaper model.

    Raises:
        StoreError: The database cannot be read.
    """
    query = (
        f"SELECT COUNT(DISTINCT COALESCE(request, id)) AS n FROM {TABLE} WHERE kind = 'Decision' "  # noqa: S608
        "AND part = 'budget' AND action = 'applied' AND mode <> 'shadow' AND reason LIKE 'fallback: %' "
        "AND at >= :since AND at < :until"
    )
    return int(_rows(store, query, span)[0]["n"])


def calls_by_end(store: EventStore, span: Span) -> tuple[int, int]:
    """How many model calls failed, and how many ended in any way but by being broken off by who asked.

    Raises:
        StoreError: The database cannot be read.
    """
    query = (
        "SELECT COUNT(*) AS tried, COUNT(error) AS failed "  # noqa: S608 - names of ours
        f"FROM {TABLE} WHERE kind = 'ModelCall' AND at >= :since AND at < :until "
        f"AND (error IS NULL OR error NOT IN ({', '.join(f':end_{n}' for n in range(len(_BROKEN_OFF)))}))"
    )
    row = _rows(store, query, span, **{f"end_{n}": name for n, name in enumerate(_BROKEN_OFF)})[0]
    return int(row["failed"]), int(row["tried"])


def recorded_since(store: EventStore) -> float | None:
    """When the first event was, also of those that are kept as sums only; `None` without any.

    Raises:
        StoreError: The database cannot be read.
    """
    from sqlalchemy import text

    with store.reading() as connection:
        firsts = [
            connection.execute(text(f"SELECT MIN({name}) FROM {table}")).scalar()  # noqa: S608 - names of ours
            for name, table in (("at", TABLE), ("start", ROLLUPS))
        ]
    return min((float(first) for first in firsts if first is not None), default=None)


def _rows(store: EventStore, query: str, span: Span, **given: Any) -> list[Mapping[str, Any]]:
    from sqlalchemy import text

    with store.reading() as connection:
        found = connection.execute(text(query), {"since": span.since, "until": span.until, **given})
        return [dict(row) for row in found.mappings()]
