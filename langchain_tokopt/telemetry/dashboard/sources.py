"""Where a figure comes from: the reading that gave it, and the query for the events that it sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from langchain_tokopt.telemetry.readings import DIMENSIONS, Span
from langchain_tokopt.telemetry.rollups_tables import PLACES, ROLLUPS
from langchain_tokopt.telemetry.store import TABLE

# The events that each reading sums.
_EVENTS: Final = {
    "calls": "kind = 'ModelCall'",
    "parts": "kind IN ('Decision', 'CacheLookup') AND part <> 'budget'",
    "lookups": "kind = 'CacheLookup'",
    "failures": "kind = 'Failure'",
    "reservations": "kind = 'Reservation'",
}


def source(
    reading: str, span: Span, *, by: Sequence[str] = (), every: int | None = None, rolled: bool = False
) -> dict[str, Any]:
    """How to get at what is behind the figures of one reading.

    `reading` is the call that gives them again, `events` the SQL that lists what they sum, and `columns` the columns
    that tell the events of one row from those of the others. Where old events are `rolled` up, `sums` is the SQL that
    lists what is left of them.
    """
    bounds, tests = [], []
    for name, test, value in (("since", ">=", span.since), ("until", "<", span.until)):
        if value is not None:
            bounds.append(f"{name}={value!r}")
            tests.append((test, value))
    more = (f", by={tuple(by)!r}" if by else "") + (f", every={every}" if every else "")
    return {
        "reading": f"Readings(store).{reading}(Span({', '.join(bounds)}){more})",
        "events": _query(TABLE, reading, "at", tests),
        "sums": _query(f"{ROLLUPS} r JOIN {PLACES} p ON p.id = r.place", reading, "start", tests) if rolled else None,
        "columns": [DIMENSIONS[name] for name in by],
    }


def _query(table: str, reading: str, at: str, tests: Sequence[tuple[str, float]]) -> str:
    conditions = [_EVENTS[reading], *(f"{at} {test} {value!r}" for test, value in tests)]
    return f"SELECT * FROM {table} WHERE {' AND '.join(conditions)} ORDER BY {at}"  # noqa: S608 - names and numbers of ours
