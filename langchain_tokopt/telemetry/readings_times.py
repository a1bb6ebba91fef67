"""How long things took: percentiles by nearest rank, of single times and of histograms."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from langchain_tokopt.telemetry.readings_sources import conditions, start_of
from langchain_tokopt.telemetry.readings_words import Place, Span, TimeFigures, Times, column
from langchain_tokopt.telemetry.rollups_tables import ERROR, PLACE, PLACES, TIMES, seconds_of
from langchain_tokopt.telemetry.store import TABLE

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Observations:
    """Seconds by place: single ones, and how many there are in each bucket of a histogram.

    Args:
        keys: How many columns of a row are the key of its place; its last column is the time.
        buckets: Whether the column after the key is the start of a bucket of time.
    """

    def __init__(self, keys: int, buckets: bool) -> None:
        self._keys = keys
        self._buckets = buckets
        self.single: dict[Any, list[float]] = defaultdict(list)
        self.rolled: dict[Any, list[tuple[float, int]]] = defaultdict(list)

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Add single times."""
        single, keys = self.single, self._keys + self._buckets
        for row in rows:
            single[tuple(row[:keys])].append(row[-1])

    def places(self) -> dict[Place, Times]:
        """Percentiles by place."""
        return {self._place(key): self._times(key) for key in dict.fromkeys([*self.single, *self.rolled])}

    def _place(self, key: tuple[Any, ...]) -> Place:
        return Place(key[: self._keys], int(key[self._keys]) if self._buckets else None)

    def _times(self, key: tuple[Any, ...]) -> Times:
        single, rolled = sorted(self.single.get(key, ())), self.rolled.get(key)
        if not rolled:
            p50, p95 = (float(single[math.ceil(share * len(single)) - 1]) for share in (0.5, 0.95))
            return Times(len(single), p50, p95)
        both = sorted([*((seconds, 1) for seconds in single), *rolled])
        count = sum(n for _, n in both)
        return Times(count, _rank(both, math.ceil(0.5 * count)), _rank(both, math.ceil(0.95 * count)), ERROR)


def _rank(ordered: Sequence[tuple[float, int]], rank: int) -> float:
    for seconds, n in ordered:
        rank -= n
        if rank <= 0:
            return float(seconds)
    return math.nan


def times_of(added: Observations, latency: Observations) -> dict[Place, TimeFigures]:
    """Figures by place."""
    first, second = added.places(), latency.places()
    return {place: TimeFigures(first.get(place), second.get(place)) for place in dict.fromkeys([*first, *second])}


def add_single(
    connection: Connection,
    span: Span,
    by: Sequence[str],
    every: int | None,
    *,
    added: Observations,
    latency: Observations,
) -> None:
    """Add the times of single events."""
    from sqlalchemy import text

    keys = [*(column(name) for name in by), *([start_of(every, connection.dialect.name)] if every is not None else [])]
    tests, given = conditions(span)
    groups = ", ".join([*(str(n + 1) for n in range(len(keys))), "COALESCE(request, id)"])
    timed = " AND ".join(["seconds IS NOT NULL", *tests])
    answered = " AND ".join(["kind = 'ModelCall'", "error IS NULL", "latency_seconds IS NOT NULL", *tests])
    for query, into in (
        (f"SELECT {', '.join([*keys, 'SUM(seconds)'])} FROM {TABLE} WHERE {timed} GROUP BY {groups}", added),  # noqa: S608
        (f"SELECT {', '.join([*keys, 'latency_seconds'])} FROM {TABLE} WHERE {answered}", latency),  # noqa: S608
    ):
        into.add(connection.execute(text(query), given))


def add_rolled(
    connection: Connection,
    span: Span,
    by: Sequence[str],
    every: int | None,
    *,
    added: Observations,
    latency: Observations,
) -> None:
    """Add what the histograms hold."""
    from sqlalchemy import text

    by_part = "part" in (*by, *span.where)
    keys = [f"{column(name)} AS key_{n}" for n, name in enumerate(by)]
    start = [start_of(every, connection.dialect.name)] if every is not None else []
    tests, given = conditions(span)
    places = ", ".join(f"p.{name}" for name in PLACE)
    source = (
        f"(SELECT t.start AS at, t.what, t.bucket, t.n, {places} FROM {TIMES} t "  # noqa: S608 - names of ours
        f"JOIN {PLACES} p ON p.id = t.place) e"
    )
    query = (
        f"SELECT {', '.join([*keys, *start, 'what', 'bucket'])}, SUM(n) FROM {source} "  # noqa: S608 - names of ours
        f"WHERE {' AND '.join(['what IN (:added, :latency)', *tests])} "
        f"GROUP BY {', '.join(str(n + 1) for n in range(len(keys) + len(start) + 2))}"
    )
    for row in connection.execute(
        text(query), {**given, "added": "part" if by_part else "added", "latency": "latency"}
    ):
        *key, what, bucket, n = row
        into = latency if what == "latency" else added
        into.rolled[tuple(key)].append((seconds_of(int(bucket)), int(n)))
