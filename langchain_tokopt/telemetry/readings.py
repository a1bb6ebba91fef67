"""The figures behind every view: sums over the events of a span of time, by whatever they are to be told apart.

Report, KPIs, alerts, command line and dashboard all read here, so that they agree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.telemetry.readings_figures import (
    USAGE,
    calls_of,
    gathered,
    lookups_of,
    models_of,
    number_of,
    part_of,
    place_of,
    steps_of,
)
from langchain_tokopt.telemetry.readings_requests import RequestLine, request_lines
from langchain_tokopt.telemetry.readings_sources import (
    EVENTS,
    SUMS,
    RolledUpError,
    conditions,
    refuse_what_is_gone,
    rolled_in,
    shared_requests,
    start_of,
)
from langchain_tokopt.telemetry.readings_stories import Step, Story, stories_of
from langchain_tokopt.telemetry.readings_times import Observations, add_rolled, add_single, times_of
from langchain_tokopt.telemetry.readings_words import (
    DIMENSIONS,
    CallFigures,
    Extent,
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
from langchain_tokopt.telemetry.report import ModelUsage
from langchain_tokopt.telemetry.rollups_tables import REQUEST, ROLLUPS
from langchain_tokopt.telemetry.store import TABLE, EventStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = [
    "DIMENSIONS",
    "CallFigures",
    "Extent",
    "LookupFigures",
    "Order",
    "Outcome",
    "PartFigures",
    "Place",
    "Readings",
    "Reason",
    "RequestLine",
    "RolledUpError",
    "Span",
    "Step",
    "Story",
    "TimeFigures",
    "Times",
]

_DID: Final = "CASE WHEN action IN ('exact', 'semantic', 'applied') THEN 1 ELSE 0 END"


class Readings:
    """Figures from the events of one store.

    Every method takes the `span`, the dimensions `by` which figures are told apart, and `every`, the length of the
    buckets in seconds that they are told apart in (`None`: none). It returns figures by `Place`, without those that
    have nothing. All raise `StoreError` when the database cannot be read, and `ConfigurationError` for a dimension that
    there is not.

    Of old events only sums by the hour, later by the day, are left; see `Telemetry`. The figures are the same, but a
    sum cannot be cut: it belongs wholly to the span, and to the bucket, that its hour or day begins in; `precision`
    says whether that matters. Sums do not know of threads and runs: to ask for these raises `RolledUpError`. What is
    about single events (`requests`, `stories`, `reasons`) knows only those that are left; `singles` says of which span.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store

    @property
    def store(self) -> EventStore:
        """Where the events are."""
        return self._store

    def calls(self, span: Span, *, by: Sequence[str] = (), every: int | None = None) -> dict[Place, CallFigures]:
        """Model calls: usage, cost, failures."""
        with self._store.reading() as connection:
            rows = self._rows(
                connection,
                ("usage_source", "internal", "failed"),
                "SUM(n) AS n, SUM(cost_known) AS priced, SUM(cost_nano) AS cost_nano, "
                + ", ".join(f"SUM({name}) AS {name}" for name in USAGE),
                "kind = 'ModelCall'",
                span,
                by,
                every,
            )
            requests = self._requests(connection, span, by, every)
        places: dict[Place, list[Mapping[str, Any]]] = defaultdict(list)
        for row in rows:
            places[place_of(row, by)].append(row)
        return {place: calls_of(found, requests.get(place, 0)) for place, found in places.items()}

    def models(self, span: Span) -> tuple[ModelUsage, ...]:
        """What each model used, the dearest first."""
        return models_of(self.calls(span, by=("provider", "model")))

    def parts(self, span: Span, *, by: Sequence[str] = (), every: int | None = None) -> dict[Place, PartFigures]:
        """What parts did and saved. Put "part" first into `by` to tell them apart."""
        sums = "SUM(saved_tokens) AS saved_tokens, SUM(saved_nano) AS saved_nano, SUM(saved_known) AS priced"
        # What a budget makes of a call that does not fit is no saving.
        kinds = "kind IN ('Decision', 'CacheLookup') AND part <> 'budget'"
        with self._store.reading() as connection:
            rows = self._rows(connection, ("mode", f"{_DID} AS did"), f"SUM(n) AS n, {sums}", kinds, span, by, every)
        return gathered(rows, by, part_of)

    def lookups(self, span: Span, *, by: Sequence[str] = (), every: int | None = None) -> dict[Place, LookupFigures]:
        """Looks into the semantic cache."""
        return gathered(self._steps("CacheLookup", span, by, every), by, lookups_of)

    def failures(self, span: Span, *, by: Sequence[str] = (), every: int | None = None) -> dict[Place, int]:
        """How often parts failed and stepped aside."""
        return gathered(self._steps("Failure", span, by, every), by, number_of)

    def reservations(
        self, span: Span, *, by: Sequence[str] = (), every: int | None = None
    ) -> dict[Place, dict[str, int]]:
        """How often each step of a budget's reservations happened, in shadow mode as "shadow refused" and so on."""
        return gathered(self._steps("Reservation", span, by, every), by, steps_of)

    def times(self, span: Span, *, by: Sequence[str] = (), every: int | None = None) -> dict[Place, TimeFigures]:
        """How long things took: the time that was added to each request, and the latency of each answered call.

        Told apart by "part", what is added is the time of each part in each request. Of what is rolled up, times are
        known to 5 %, and a request counts wholly at its first timed event.
        """
        added, latency = (Observations(len(by), every is not None) for _ in range(2))
        with self._store.reading() as connection:
            rolled = rolled_in(connection, span)
            refuse_what_is_gone(rolled, span, by)
            add_single(connection, span, by, every, added=added, latency=latency)
            if rolled is not None:
                add_rolled(connection, span, by, every, added=added, latency=latency)
        return times_of(added, latency)

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
        with self._store.reading() as connection:
            rows = connection.execute(text(query), {**given, "most": limit}).mappings().all()
        return tuple(
            Reason(row["kind"], row["part"], row["action"], row["mode"], row["said"], int(row["n"])) for row in rows
        )

    # --- what there is -----------------------------------------------------------------------------------------------

    def extent(self, span: Span) -> Extent:
        """How many events the span has, and from when to when."""
        from sqlalchemy import text

        tests, given = conditions(span)
        where = " AND ".join(tests) or "1 = 1"
        # By the index alone, however many there are.
        single = f"SELECT MIN(at), MAX(at), COUNT(*) FROM {TABLE} WHERE {where}"  # noqa: S608 - names of ours
        sums = f"SELECT MIN(at), MAX(at), SUM(n) FROM {SUMS} WHERE {where} AND kind <> '{REQUEST}'"  # noqa: S608
        with self._store.reading() as connection:
            rolled = rolled_in(connection, span)
            refuse_what_is_gone(rolled, span, ())
            queries = [single] if rolled is None else [single, sums]
            rows = [connection.execute(text(query), given).one() for query in queries]
        some = [row for row in rows if row[2]]
        return Extent(
            events=sum(int(row[2]) for row in some),
            first=min((float(row[0]) for row in some), default=None),
            last=max((float(row[1]) for row in some), default=None),
            rolled=None if rolled is None else float(rolled.until),
        )

    def precision(self, span: Span) -> int:
        """By how many seconds an end of the span may be off: 0, unless it cuts an hour or a day that is rolled up."""
        from sqlalchemy import text

        ends = [end for end in (span.since, span.until) if end is not None]
        cuts = "start < :end AND start > :far AND start + seconds > :end"
        query = text(f"SELECT MAX(seconds) FROM {ROLLUPS} WHERE {cuts}")  # noqa: S608 - names of ours
        with self._store.reading() as connection:
            cut = [connection.execute(query, {"end": end, "far": end - 86400}).scalar() for end in ends]
        return max((int(seconds) for seconds in cut if seconds is not None), default=0)

    def singles(self, span: Span) -> Span:
        """The part of the span of which single events are left, but for some that came late."""
        with self._store.reading() as connection:
            rolled = rolled_in(connection, span)
        if rolled is None:
            return span
        since = float(rolled.until) if span.since is None else max(span.since, float(rolled.until))
        return Span(since, span.until, span.where)

    def rolled_calls(self, span: Span) -> int:
        """How many of the calls in the span are rolled up: nothing more is known of each."""
        with self._store.reading() as connection:
            rows = self._rows(
                connection, ("kind",), "SUM(n) AS n", "kind = 'ModelCall'", span, (), None, sources=(SUMS,)
            )
        return number_of(rows)

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
        with self._store.reading() as connection:
            return request_lines(connection, span, limit=limit, order=order, where=where or {})

    def request(self, request_id: str) -> Story | None:
        """All that happened in one request, in order; `None` if there is none of that id."""
        return next(iter(self.stories([request_id])), None)

    def stories(self, request_ids: Sequence[str]) -> tuple[Story, ...]:
        """The same of many requests, in the order of their ids; an id of none is passed by."""
        with self._store.reading() as connection:
            return stories_of(connection, request_ids)

    # --- sums --------------------------------------------------------------------------------------------------------

    def _steps(self, kind: str, span: Span, by: Sequence[str], every: int | None) -> list[dict[str, Any]]:
        with self._store.reading() as connection:
            return self._rows(connection, ("mode", "action"), "SUM(n) AS n", f"kind = '{kind}'", span, by, every)

    def _requests(self, connection: Connection, span: Span, by: Sequence[str], every: int | None) -> dict[Place, int]:
        """How many requests have a call at each place, the optimiser's own calls aside."""
        from sqlalchemy import text

        limits, given = conditions(span)
        keys = [f"{column(name)} AS key_{n}" for n, name in enumerate(by)]
        first = ", ".join([*keys, f"{start_of(every, self._store.database.dialect)} AS start"])
        numbers = ", ".join(str(n + 1) for n in range(len(by) + (1 if every else 0)))
        query = (
            f"SELECT {first}, COUNT(DISTINCT COALESCE(request, id)) AS n FROM {TABLE} "  # noqa: S608 - names of ours
            f"WHERE {' AND '.join([*limits, 'kind = :kind', 'internal = 0'])}"
            f"{' GROUP BY ' + numbers if numbers else ''}"
        )
        found: dict[Place, int] = defaultdict(int)
        for row in connection.execute(text(query), {**given, "kind": "ModelCall"}).mappings():
            found[place_of(dict(row), by)] += int(row["n"])
        if rolled_in(connection, span) is not None:
            for sums in self._rows(connection, ("kind",), "SUM(n) AS n", f"kind = '{REQUEST}'", span, by, every):
                found[place_of(sums, by)] += int(sums["n"])
            for (key, start), n in shared_requests(connection, span, by, every).items():
                found[Place(key, start)] += n
        return found

    def _rows(
        self,
        connection: Connection,
        groups: Sequence[str],
        sums: str,
        kinds: str,
        span: Span,
        by: Sequence[str],
        every: int | None,
        sources: Sequence[str] = (EVENTS, SUMS),
    ) -> list[dict[str, Any]]:
        """The sums by place and `groups`; those of events and those of what is rolled up are rows of their own."""
        from sqlalchemy import text

        keys = [f"{column(name)} AS key_{n}" for n, name in enumerate(by)]
        start = start_of(every, self._store.database.dialect)
        limits, given = conditions(span)
        where = " AND ".join([kinds, *limits])
        first = ", ".join([*keys, f"{start} AS start", *groups])
        numbers = ", ".join(str(n + 1) for n in range(len(by) + 1 + len(groups)) if every or n != len(by))
        rolled = rolled_in(connection, span)
        refuse_what_is_gone(rolled, span, by)
        return [
            dict(row)
            for source in sources
            if source is not SUMS or rolled is not None
            for row in connection.execute(
                text(f"SELECT {first}, {sums} FROM {source} WHERE {where} GROUP BY {numbers}"),  # noqa: S608 - names of ours
                given,
            ).mappings()
        ]
