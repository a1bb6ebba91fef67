"""Events become sums by the hour, and sums by the hour become sums by the day."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from langchain_tokopt.telemetry.rollups_tables import (
    COUNTS,
    DAY,
    FIGURES,
    GROUP,
    HOUR,
    KEY,
    PLACE,
    PLACES,
    REQUEST,
    ROLLUPS,
    SHARED,
    TIMES,
    added,
    bucket_of,
    place_id,
    put,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection

Row = Mapping[str, Any]
Spot = tuple[int, int, str]  # start, length in seconds, place

_ADD_SUMS: Final = added(ROLLUPS, KEY, COUNTS, FIGURES)
_ADD_TIMES: Final = added(TIMES, ("start", "seconds", "place", "what", "bucket"), ("n",))
_ADD_SHARED: Final = added(SHARED, ("id",), ("n",))


@dataclass
class Sums:
    """What some requests come to, by the hour."""

    places: dict[str, tuple[str | None, ...]] = field(default_factory=dict)
    rows: dict[tuple[Any, ...], dict[str, int | None]] = field(default_factory=dict)
    times: Counter[tuple[int, str, str, int]] = field(default_factory=Counter)
    shared: Counter[tuple[Spot, ...]] = field(default_factory=Counter)

    def add(self, request: Sequence[Row]) -> None:
        """Add the events of one request, in the order in which they happened."""
        spots: set[Spot] = set()
        parts: dict[tuple[int, str], float] = defaultdict(float)
        timed = [row for row in request if row["seconds"] is not None]
        for row in request:
            hour, place = _hour(row), self._place(row)
            self._count(hour, place, row)
            if row["kind"] == "ModelCall":
                if not row["internal"]:
                    spots.add((hour, HOUR, place))
                if row["error"] is None and row["latency_seconds"] is not None:
                    self.times[hour, place, "latency", bucket_of(row["latency_seconds"])] += 1
            if row["seconds"] is not None:
                parts[hour, place] += row["seconds"]
        for (hour, place), seconds in parts.items():
            self.times[hour, place, "part", bucket_of(seconds)] += 1
        if timed:
            whole = sum(row["seconds"] for row in timed)
            place = self._place({**timed[0], "part": None})
            self.times[_hour(timed[0]), place, "added", bucket_of(whole)] += 1
        if len(spots) == 1:
            start, seconds, place = next(iter(spots))
            sums = self._row((start, seconds, place, *_ONE_REQUEST))
            sums["n"] = (sums["n"] or 0) + 1
        elif spots:
            self.shared[tuple(sorted(spots))] += 1

    def _place(self, row: Row) -> str:
        place = tuple(row[name] for name in PLACE)
        name = place_id(place)
        self.places[name] = place
        return name

    def _row(self, key: tuple[Any, ...]) -> dict[str, int | None]:
        return self.rows.setdefault(key, {**dict.fromkeys(COUNTS, 0), **dict.fromkeys(FIGURES)})

    def _count(self, hour: int, place: str, row: Row) -> None:
        group = (row["kind"], row["mode"], row["action"] or "", row["usage_source"] or "")
        sums = self._row((hour, HOUR, place, *group, int(row["internal"] or 0), int(row["error"] is not None)))
        for name, one in (
            ("n", 1),
            ("cost_known", int(row["cost_nano"] is not None)),
            ("saved_known", int(row["saved_nano"] is not None)),
            *((name, row[name]) for name in FIGURES),
        ):
            if one is not None:
                sums[name] = (sums[name] or 0) + int(one)

    def write(self, connection: Connection) -> None:
        """Add all of it to what the tables hold."""
        put(
            connection,
            PLACES,
            [{"id": name, **dict(zip(PLACE, place, strict=True))} for name, place in self.places.items()],
            "ON CONFLICT (id) DO NOTHING",
        )
        put(
            connection,
            ROLLUPS,
            [{**dict(zip(KEY, key, strict=True)), **sums} for key, sums in self.rows.items()],
            _ADD_SUMS,
        )
        put(
            connection,
            TIMES,
            [
                {"start": hour, "seconds": HOUR, "place": place, "what": what, "bucket": bucket, "n": n}
                for (hour, place, what, bucket), n in self.times.items()
            ],
            _ADD_TIMES,
        )
        _put_shared(connection, self.shared)


_ONE_REQUEST: Final = (REQUEST, "", "", "", 0, 0)


def _hour(row: Row) -> int:
    return int(row["at"] // HOUR) * HOUR


def _put_shared(connection: Connection, shared: Mapping[tuple[Spot, ...], int]) -> None:
    rows = []
    for spots, n in shared.items():
        places = json.dumps(spots)
        first, last = min(spots)[0], max(spots)[0]
        rows.append({"id": place_id((places,)), "first": first, "last": last, "places": places, "n": n})
    put(connection, SHARED, rows, _ADD_SHARED)


# --- days ------------------------------------------------------------------------------------------------------------


def hour_into_day(connection: Connection, hour: int) -> int:
    """Add the sums of one hour to those of its day; how many rows there were."""
    from sqlalchemy import text

    day = hour // DAY * DAY
    given = {"hour": hour, "day": day}
    names, figures = ", ".join(("place", *GROUP)), ", ".join((*COUNTS, *FIGURES))
    this = f"start = :hour AND seconds = {HOUR}"
    connection.execute(
        text(
            f"INSERT INTO {ROLLUPS} (start, seconds, {names}, {figures}) "  # noqa: S608 - names of ours
            f"SELECT :day, {DAY}, {names}, {figures} FROM {ROLLUPS} WHERE {this} {_ADD_SUMS}"
        ),
        given,
    )
    connection.execute(
        text(
            f"INSERT INTO {TIMES} (start, seconds, place, what, bucket, n) "  # noqa: S608 - names of ours
            f"SELECT :day, {DAY}, place, what, bucket, n FROM {TIMES} WHERE {this} {_ADD_TIMES}"
        ),
        given,
    )
    moved = connection.execute(text(f"DELETE FROM {ROLLUPS} WHERE {this}"), {"hour": hour}).rowcount  # noqa: S608
    connection.execute(text(f"DELETE FROM {TIMES} WHERE {this}"), {"hour": hour})  # noqa: S608
    _shared_into_day(connection, hour, day)
    return int(moved)


def _shared_into_day(connection: Connection, hour: int, day: int) -> None:
    from sqlalchemy import text

    query = text(f"SELECT id, places, n FROM {SHARED} WHERE last >= :hour AND first <= :hour")  # noqa: S608
    left: Counter[tuple[Spot, ...]] = Counter()
    alone: Counter[Spot] = Counter()
    gone = []
    for row in connection.execute(query, {"hour": hour}).mappings().all():
        spots = [tuple(spot) for spot in json.loads(row["places"])]
        moved = sorted(
            {
                (day, DAY, place) if (start, seconds) == (hour, HOUR) else (start, seconds, place)
                for start, seconds, place in spots
            }
        )
        if moved == sorted(spots):
            continue
        gone.append({"id": row["id"]})
        if len(moved) == 1:
            alone[moved[0]] += int(row["n"])
        else:
            left[tuple(moved)] += int(row["n"])
    if gone:
        connection.execute(text(f"DELETE FROM {SHARED} WHERE id = :id"), gone)  # noqa: S608
    _put_shared(connection, left)
    none = {**dict.fromkeys(COUNTS, 0), **dict.fromkeys(FIGURES)}
    rows = [{**dict(zip(KEY, (*spot, *_ONE_REQUEST), strict=True)), **none, "n": n} for spot, n in alone.items()]
    put(connection, ROLLUPS, rows, _ADD_SUMS)
