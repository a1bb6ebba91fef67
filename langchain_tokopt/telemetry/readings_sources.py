"""Where figures are read from: single events, and the sums of those that are rolled up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.telemetry.readings_words import Span, column
from langchain_tokopt.telemetry.rollups_tables import FIGURES, PLACE, PLACES, ROLLUPS, SHARED
from langchain_tokopt.telemetry.rows import name_of
from langchain_tokopt.telemetry.store import TABLE

if TYPE_CHECKING:
    from sqlalchemy import Connection

# Both have the same columns, so that one query fits both. An event is a sum of one.
EVENTS: Final = (
    "(SELECT at, kind, mode, action, usage_source, internal, thread, run, "  # noqa: S608 - names of ours
    f"{', '.join(PLACE)}, CASE WHEN error IS NULL THEN 0 ELSE 1 END AS failed, 1 AS n, "
    "CASE WHEN cost_nano IS NULL THEN 0 ELSE 1 END AS cost_known, "
    f"CASE WHEN saved_nano IS NULL THEN 0 ELSE 1 END AS saved_known, {', '.join(FIGURES)} FROM {TABLE}) e"
)
SUMS: Final = (
    "(SELECT r.start AS at, r.kind, r.mode, r.action, r.usage_source, r.internal, "  # noqa: S608 - names of ours
    "CAST(NULL AS TEXT) AS thread, CAST(NULL AS TEXT) AS run, "
    f"{', '.join(f'p.{name}' for name in PLACE)}, r.failed, r.n, r.cost_known, r.saved_known, "
    f"{', '.join(f'r.{name}' for name in FIGURES)} FROM {ROLLUPS} r JOIN {PLACES} p ON p.id = r.place) e"
)
_GONE: Final = ("thread", "run")


class RolledUpError(ConfigurationError):
    """The span has events that are only kept as sums, which cannot tell what is asked.

    Attributes:
        since: From this time on (Unix, seconds) it can be told.
    """

    def __init__(self, argument: str, value: object, since: float) -> None:
        when = datetime.fromtimestamp(since, timezone.utc)
        remedy = f"what happened before {when:%Y-%m-%d %H:%M} UTC is kept as sums only, without it: ask from then on"
        super().__init__(argument, value, remedy)
        self.since = since


@dataclass(frozen=True, slots=True)
class Rolled:
    """What of a span is rolled up: up to `until` (Unix time), by at most `seconds` (an hour, or a day)."""

    until: int
    seconds: int


def rolled_in(connection: Connection, span: Span) -> Rolled | None:
    """What of the span is rolled up; `None` if nothing is. A sum belongs to the span that its hour or day begins in."""
    from sqlalchemy import text

    tests, given = times_of_sums(span)
    where = " AND ".join(tests) or "1 = 1"
    last = f"SELECT start, seconds FROM {ROLLUPS} WHERE {where} ORDER BY start DESC, seconds DESC LIMIT 1"  # noqa: S608
    newest = connection.execute(text(last), given).mappings().first()
    if newest is None:
        return None
    coarsest = f"SELECT seconds FROM {ROLLUPS} WHERE {where} ORDER BY seconds DESC LIMIT 1"  # noqa: S608
    seconds = connection.execute(text(coarsest), given).scalar()
    return Rolled(int(newest["start"]) + int(newest["seconds"]), int(seconds or newest["seconds"]))


def refuse_what_is_gone(rolled: Rolled | None, span: Span, by: Sequence[str]) -> None:
    """Raise `RolledUpError` where threads or runs are asked for that are not told apart any more."""
    if rolled is None:
        return
    for name in _GONE:
        if name in by:
            raise RolledUpError("by", name, rolled.until)
        if name in span.where:
            raise RolledUpError("where", dict(span.where), rolled.until)


def conditions(span: Span) -> tuple[list[str], dict[str, Any]]:
    """The span as tests in SQL, and the values that they take."""
    tests, given = list[str](), dict[str, Any]()
    for test, name, value in (("at >= :since", "since", span.since), ("at < :until", "until", span.until)):
        if value is not None:
            tests.append(test)
            given[name] = value
    for n, (name, wanted) in enumerate(span.where.items()):
        tests.append(f"{column(name, argument='where')} IS NULL" if wanted is None else f"{column(name)} = :where_{n}")
        if wanted is not None:
            given[f"where_{n}"] = name_of(wanted)
    return tests, given


def times_of_sums(span: Span) -> tuple[list[str], dict[str, Any]]:
    """The bounds of the span alone, for a table with a column `start`."""
    tests, given = conditions(Span(span.since, span.until))
    return [test.replace("at ", "start ") for test in tests], given


def start_of(every: int | None, dialect: str) -> str:
    """The start of the bucket that `at` is in, as SQL.

    Raises:
        ConfigurationError: `every` is no length.
    """
    if every is None:
        return "NULL"
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ConfigurationError("every", every, "give the length of the buckets in whole seconds, such as 3600")
    # PostgreSQL rounds to the nearest where SQLite cuts; both cut the quotient of whole numbers; no `at` is below 0.
    whole = "CAST(FLOOR(at) AS BIGINT)" if dialect == "postgresql" else "CAST(at AS BIGINT)"
    return f"{whole} / {every} * {every}"


def shared_requests(
    connection: Connection, span: Span, by: Sequence[str], every: int | None
) -> dict[tuple[tuple[str | None, ...], int | None], int]:
    """How many rolled-up requests with calls at several places, or in several hours, each key and bucket has."""
    from sqlalchemy import bindparam, text

    tests, given = list[str](), dict[str, Any]()
    if span.since is not None:
        tests, given = ["last >= :since"], {"since": span.since}
    if span.until is not None:
        tests, given = [*tests, "first < :until"], {**given, "until": span.until}
    query = f"SELECT places, n FROM {SHARED} WHERE {' AND '.join(tests) or '1 = 1'}"  # noqa: S608 - names of ours
    rows = [(json.loads(row[0]), int(row[1])) for row in connection.execute(text(query), given)]
    names = sorted({place for spots, _ in rows for _, _, place in spots})
    places: dict[str, Mapping[str, Any]] = {}
    about = text(f"SELECT * FROM {PLACES} WHERE id IN :ids").bindparams(bindparam("ids", expanding=True))  # noqa: S608
    for first in range(0, len(names), 400):
        for row in connection.execute(about, {"ids": names[first : first + 400]}).mappings():
            places[row["id"]] = dict(row)
    wanted = {column(name): None if value is None else name_of(value) for name, value in span.where.items()}
    columns = [column(name) for name in by]
    found: dict[tuple[tuple[str | None, ...], int | None], int] = {}
    for spots, n in rows:
        keys = set()
        for start, _, name in spots:
            place = places[name]
            inside = (span.since is None or start >= span.since) and (span.until is None or start < span.until)
            if inside and all(place.get(key) == value for key, value in wanted.items()):
                keys.add((tuple(place.get(key) for key in columns), None if every is None else start // every * every))
        for key in keys:
            found[key] = found.get(key, 0) + n
    return found
