"""The figures behind every view: sums over the events of a span of time, by whatever they are to be told apart.

Report, KPIs, alerts, command line and dashboard all read here, so that they agree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, TypeVar

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.pricing import from_nano
from langchain_tokopt.telemetry.readings_requests import RequestLine, Step, Story, conditions, request_lines, stories_of
from langchain_tokopt.telemetry.readings_times import seconds_by_place, times_of
from langchain_tokopt.telemetry.readings_words import (
    DIMENSIONS,
    CallFigures,
    LookupFigures,
    Order,
    Outcome,
    PartFigures,
    Place,
    Reason,
    Span,
    TimeFigures,
    Times,
    column,
)
from langchain_tokopt.telemetry.report import CacheReport, Saved, Usage
from langchain_tokopt.telemetry.store import TABLE, EventStore

__all__ = [
    "DIMENSIONS",
    "CallFigures",
    "LookupFigures",
    "Order",
    "Outcome",
    "PartFigures",
    "Place",
    "Readings",
    "Reason",
    "RequestLine",
    "Span",
    "Step",
    "Story",
    "TimeFigures",
    "Times",
]

_USAGE: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_DID: Final = "CASE WHEN action IN ('exact', 'semantic', 'applied') THEN 1 ELSE 0 END"

T = TypeVar("T")


class Readings:
    """Figures from the events of one store.

    Every method takes the `span`, the dimensions `by` which figures are told apart, and `every`, the length of the
    buckets in seconds that they are told apart in (`None`: none). It returns figures by `Place`, without those that
    have nothing. All raise `StoreError` when the database cannot be read, and `ConfigurationError` for a dimension that
    there is not.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store

    @property
    def store(self) -> EventStore:
        """Where the events are."""
        return self._store

    def calls(self, span: Span, *, by: Sequence[str] = (), every: int | None = None) -> dict[Place, CallFigures]:
        """Model calls: usage, cost, failures."""
        rows = self._rows(
            "usage_source, internal, CASE WHEN error IS NULL THEN 0 ELSE 1 END AS failed",
            "COUNT(*) AS n, COUNT(cost_nano) AS priced, SUM(cost_nano) AS cost_nano, "
            "COUNT(DISTINCT CASE WHEN internal = 0 THEN COALESCE(request, id) END) AS requests, "
            + ", ".join(f"SUM({name}) AS {name}" for name in _USAGE),
            "kind = 'ModelCall'",
            span,
            by,
            every,
            groups=3,
        )
        return _gathered(rows, by, _calls)

    def parts(self, span: Span, *, by: Sequence[str] = (), every: int | None = None) -> dict[Place, PartFigures]:
        """What parts did and saved. Put "part" first into `by` to tell them apart."""
        rows = self._rows(
            f"mode, {_DID} AS did",
            "COUNT(*) AS n, SUM(saved_tokens) AS saved_tokens, SUM(saved_nano) AS saved_nano, "
            "COUNT(saved_nano) AS priced",
            "kind IN ('Decision', 'CacheLookup') AND part <> 'budget'",
            span,
            by,
            every,
            groups=2,
        )
        return _gathered(rows, by, _part)

    def lookups(self, span: Span, *, by: Sequence[str] = (), every: int | None = None) -> dict[Place, LookupFigures]:
        """Looks into the semantic cache."""
        rows = self._rows("mode, action", "COUNT(*) AS n", "kind = 'CacheLookup'", span, by, every, groups=2)
        return _gathered(rows, by, _lookups)

    def failures(self, span: Span, *, by: Sequence[str] = (), every: int | None = None) -> dict[Place, int]:
        """How often parts failed and stepped aside."""
        rows = self._rows("kind", "COUNT(*) AS n", "kind = 'Failure'", span, by, every, groups=1)
        return _gathered(rows, by, lambda found: sum(int(row["n"]) for row in found))

    def reservations(
        self, span: Span, *, by: Sequence[str] = (), every: int | None = None
    ) -> dict[Place, dict[str, int]]:
        """How often each step of a budget's reservations happened, in shadow mode as "shadow refused" and so on."""
        rows = self._rows("mode, action", "COUNT(*) AS n", "kind = 'Reservation'", span, by, every, groups=2)
        return _gathered(
            rows,
            by,
            lambda found: {
                f"shadow {row['action']}" if row["mode"] == "shadow" else row["action"]: int(row["n"]) for row in found
            },
        )

    def times(self, span: Span, *, by: Sequence[str] = (), every: int | None = None) -> dict[Place, TimeFigures]:
        """How long things took: the time that was added to each request, and the latency of each answered call.

        Told apart by "part", what is added is the time of each part in each request.
        """
        added = self._rows(
            "COALESCE(request, id) AS request_key",
            "SUM(seconds) AS s",
            "seconds IS NOT NULL",
            span,
            by,
            every,
            groups=1,
        )
        latency = self._rows(
            "id",
            "MAX(latency_seconds) AS s",
            "kind = 'ModelCall' AND error IS NULL AND latency_seconds IS NOT NULL",
            span,
            by,
            every,
            groups=1,
        )
        return times_of(seconds_by_place(added, by), seconds_by_place(latency, by))

    def reasons(self, span: Span, *, limit: int = 100) -> tuple[Reason, ...]:
        """Why parts did what they did or left it, what was refused and what failed; the `limit` most frequent."""
        from sqlalchemy import text

        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise ConfigurationError("limit", limit, "give a whole number of reasons, 1 or more")
        tests, given = conditions(span)
        query = (
            "SELECT kind, CASE WHEN kind = 'ModelCall' THEN 'model' ELSE part END AS part, action, mode, "  # noqa: S608 - names of ours
            f"COALESCE(error, reason) AS said, COUNT(*) AS n FROM {TABLE} "
            f"WHERE {' AND '.join([*tests, 'COALESCE(error, reason) IS NOT NULL'])} "
            "GROUP BY 1, 2, 3, 4, 5 ORDER BY 6 DESC, 5, 1, 2, 3, 4 LIMIT :most"
        )
        self._store.prepare()
        with self._store.database.read() as connection:
            rows = connection.execute(text(query), {**given, "most": limit}).mappings().all()
        return tuple(
            Reason(row["kind"], row["part"], row["action"], row["mode"], row["said"], int(row["n"])) for row in rows
        )

    # --- single requests ---------------------------------------------------------------------------------------------

    def requests(
        self,
        span: Span,
        *,
        limit: int = 50,
        order: Order = "newest",
        where: Mapping[str, str | None] | None = None,
    ) -> tuple[RequestLine, ...]:
        """A line for each of the first `limit` requests that have an event in the span.

        Args:
            span: When, and whose.
            limit: From 1 to 10,000.
            order: "newest" (by the last event), "oldest", "dearest" (cost), "slowest" (all that was timed), "saved"
                (USD) or "tokens" (input and output), the most first. By an amount only requests that have one.
            where: Further conditions: any dimension as in `Span.where`, and "outcome", such as
                `{"outcome": "refused"}`; see `RequestLine.outcome`.
        """
        self._store.prepare()
        with self._store.database.read() as connection:
            return request_lines(connection, span, limit=limit, order=order, where=where or {})

    def request(self, request_id: str) -> Story | None:
        """All that happened in one request, in order; `None` if there is none of that id."""
        self._store.prepare()
        with self._store.database.read() as connection:
            return next(iter(stories_of(connection, [request_id])), None)

    def stories(self, request_ids: Sequence[str]) -> tuple[Story, ...]:
        """The same of many requests, in the order of their ids; an id of none is passed by."""
        self._store.prepare()
        with self._store.database.read() as connection:
            return stories_of(connection, request_ids)

    def _rows(
        self,
        groups_sql: str,
        sums: str,
        kinds: str,
        span: Span,
        by: Sequence[str],
        every: int | None,
        *,
        groups: int,
    ) -> list[dict[str, Any]]:
        from sqlalchemy import text

        if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
            raise ConfigurationError("every", every, "give the length of the buckets in whole seconds, such as 3600")
        columns = [f"{column(name)} AS key_{n}" for n, name in enumerate(by)]
        # Both databases round a quotient of whole numbers towards 0, and no event is from before 1970.
        start = f"CAST(at AS BIGINT) / {every} * {every}" if every else "NULL"
        limits, given = conditions(span)
        tests = [kinds, *limits]
        first = ", ".join([*columns, f"{start} AS start", groups_sql])
        numbers = ", ".join(str(n + 1) for n in range(len(columns) + 1 + groups) if every or n != len(columns))
        query = f"SELECT {first}, {sums} FROM {TABLE} WHERE {' AND '.join(tests)} GROUP BY {numbers}"  # noqa: S608 - names of ours
        self._store.prepare()
        with self._store.database.read() as connection:
            return [dict(row) for row in connection.execute(text(query), given).mappings()]


def _gathered(
    rows: Iterable[Mapping[str, Any]], by: Sequence[str], made: Callable[[list[Mapping[str, Any]]], T]
) -> dict[Place, T]:
    places: dict[Place, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        start = None if row["start"] is None else int(row["start"])
        places[Place(tuple(row[f"key_{n}"] for n in range(len(by))), start)].append(row)
    return {place: made(found) for place, found in places.items()}


def _calls(rows: Sequence[Mapping[str, Any]]) -> CallFigures:
    def some(source: str, *, own: bool) -> Usage:
        return _usage([row for row in rows if row["usage_source"] == source and (row["internal"] or not own)])

    return CallFigures(
        measured=some("provider", own=False),
        estimated=some("estimate", own=False),
        own_measured=some("provider", own=True),
        own_estimated=some("estimate", own=True),
        failed=sum(int(row["n"]) for row in rows if row["failed"]),
        requests=sum(int(row["requests"]) for row in rows if not row["internal"]),
    )


def _usage(rows: Sequence[Mapping[str, Any]]) -> Usage:
    calls = sum(int(row["n"]) for row in rows)
    return Usage(
        calls=calls,
        cost_usd=_usd(_sum(rows, "cost_nano")),
        unpriced=calls - sum(int(row["priced"]) for row in rows),
        **{name: _sum(rows, name) for name in _USAGE},
    )


def _part(rows: Sequence[Mapping[str, Any]]) -> PartFigures:
    return PartFigures(
        real=_saved([row for row in rows if row["did"] and row["mode"] != "shadow"]),
        shadow=_saved([row for row in rows if row["did"] and row["mode"] == "shadow"]),
        skipped=sum(int(row["n"]) for row in rows if not row["did"]),
    )


def _saved(rows: Sequence[Mapping[str, Any]]) -> Saved:
    applied = sum(int(row["n"]) for row in rows)
    return Saved(
        applied=applied,
        tokens=_sum(rows, "saved_tokens"),
        usd=_usd(_sum(rows, "saved_nano")),
        unpriced=applied - sum(int(row["priced"]) for row in rows),
    )


def _lookups(rows: Sequence[Mapping[str, Any]]) -> LookupFigures:
    def some(*, shadow: bool) -> CacheReport:
        n = {row["action"]: int(row["n"]) for row in rows if (row["mode"] == "shadow") == shadow}
        exact, semantic, misses, bypassed = (n.get(action, 0) for action in ("exact", "semantic", "miss", "bypass"))
        return CacheReport(exact=exact, semantic=semantic, misses=misses, bypassed=bypassed)

    return LookupFigures(some(shadow=False), some(shadow=True))


def _sum(rows: Iterable[Mapping[str, Any]], name: str) -> int | None:
    known = [int(row[name]) for row in rows if row[name] is not None]
    return sum(known) if known else None


def _usd(nano: int | None) -> Decimal | None:
    return None if nano is None else from_nano(nano)
