"""Single requests, a line for each of many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import Who
from langchain_tokopt.pricing import from_nano
from langchain_tokopt.telemetry.readings_sources import conditions
from langchain_tokopt.telemetry.readings_words import Order, Outcome, Span
from langchain_tokopt.telemetry.report import Saved, Usage
from langchain_tokopt.telemetry.store import TABLE

if TYPE_CHECKING:
    from sqlalchemy import Connection

# What an event belongs to: its request; a call or a lookup that is in none is one by itself.
_KEY: Final = "COALESCE(request, id)"
_IS_ONE: Final = "(request IS NOT NULL OR kind IN ('ModelCall', 'CacheLookup'))"

# An event that every request with this outcome has; the line says in the end which outcome it is.
_SEEDS: Final[Mapping[str, str]] = {
    "answered": "kind = 'ModelCall' AND error IS NULL AND internal = 0",
    "cached": "kind = 'CacheLookup' AND action IN ('exact', 'semantic') AND mode <> 'shadow'",
    "refused": "kind = 'Reservation' AND action = 'refused' AND mode <> 'shadow'",
    "failed": "kind = 'ModelCall' AND error IS NOT NULL",
    "none": _IS_ONE,
}
_RANKS: Final[Mapping[str, tuple[str, str]]] = {
    "dearest": ("SUM(cost_nano)", "kind = 'ModelCall' AND cost_nano IS NOT NULL"),
    "tokens": (
        "SUM(COALESCE(input_tokens, 0) + COALESCE(output_tokens, 0))",
        "kind = 'ModelCall' AND (input_tokens IS NOT NULL OR output_tokens IS NOT NULL)",
    ),
    "slowest": (
        "SUM(COALESCE(seconds, 0) + COALESCE(latency_seconds, 0))",
        "(seconds IS NOT NULL OR latency_seconds IS NOT NULL)",
    ),
    "saved": ("SUM(saved_nano)", "kind IN ('Decision', 'CacheLookup') AND saved_nano IS NOT NULL AND mode <> 'shadow'"),
}
PAGE = 400
_MOST = 10_000
_DID: Final = ("exact", "semantic", "applied")
_USAGE: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLine:
    """One request, whole, also where only some of its events are in the span that was asked for.

    Attributes:
        id: What `Readings.request` takes.
        at: When its first event happened, Unix time in seconds.
        until: When its last one did.
        who: Whom it belongs to, as far as any of its events says.
        model: What answered last, the optimiser's own calls aside; else what was called last.
        provider: Of that model.
        outcome: "answered" by a model, "cached" (the cache answered), "refused" by the budget, "failed" (no call was
            answered), or "none": nothing was asked of a model.
        calls: Calls of a model, the optimiser's own aside.
        own_calls: The optimiser's own.
        failed_calls: Calls that ended with an error.
        measured: Of all calls, what the provider reported.
        estimated: Of all calls, what we estimated.
        saved: What the parts saved, by our estimate.
        saved_in_shadow: What they would have saved.
        added_seconds: The time that the optimiser added; `None` if it was not taken.
        latency_seconds: The time that the models took; `None` if it was not taken.
        failures: How often a part failed and stepped aside.
        events: How many events it has.
    """

    id: str
    at: float
    until: float
    who: Who = field(default_factory=Who)
    model: str | None = None
    provider: str | None = None
    outcome: Outcome = "none"
    calls: int = 0
    own_calls: int = 0
    failed_calls: int = 0
    measured: Usage = field(default_factory=Usage)
    estimated: Usage = field(default_factory=Usage)
    saved: Saved = field(default_factory=Saved)
    saved_in_shadow: Saved = field(default_factory=Saved)
    added_seconds: float | None = None
    latency_seconds: float | None = None
    failures: int = 0
    events: int = 0


def request_lines(
    connection: Connection, span: Span, *, limit: int, order: Order, where: Mapping[str, str | None]
) -> tuple[RequestLine, ...]:
    """A line for each of the first `limit` requests; see `Readings.requests`."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _MOST:
        raise ConfigurationError("limit", limit, f"give a whole number of requests from 1 to {_MOST:,}")
    rest = {name: value for name, value in where.items() if name != "outcome"}
    outcome = where.get("outcome")
    if "outcome" in where and outcome not in _SEEDS:
        raise ConfigurationError("where", {"outcome": outcome}, f"use one of {', '.join(map(repr, _SEEDS))}")
    tests, given = conditions(Span(span.since, span.until, {**span.where, **rest}))
    if order in ("newest", "oldest"):
        found = _by_time(connection, [*tests, _SEEDS[outcome or "none"]], given, newest=order == "newest")
    elif order in _RANKS:
        found = _by_rank(connection, tests, given, order, page=PAGE if outcome else min(limit, PAGE))
    else:
        names = ("newest", "oldest", *_RANKS)
        raise ConfigurationError("order", order, f"use one of {', '.join(map(repr, names))}")
    lines: list[RequestLine] = []
    for keys in found:
        rows = rows_of(connection, keys)
        lines += [line for key in keys if (line := line_of(key, rows[key])).outcome == (outcome or line.outcome)]
        if len(lines) >= limit:
            break
    return tuple(lines[:limit])


def _by_time(
    connection: Connection, tests: Sequence[str], given: Mapping[str, Any], *, newest: bool
) -> Iterator[list[str]]:
    """The ids of requests by their last event (or, the oldest first, by their first one), page by page."""
    from sqlalchemy import text

    seen: set[str] = set()
    after: dict[str, Any] = {}
    sign, way = ("<", "DESC") if newest else (">", "ASC")
    while True:
        # Said twice, so that the index is entered where the last page ended.
        past = [f"at {sign}= :at", f"(at {sign} :at OR seq {sign} :seq)"] if after else []
        query = (
            f"SELECT {_KEY} AS request_key, at, seq FROM {TABLE} WHERE {' AND '.join([*tests, *past])} "  # noqa: S608 - names of ours
            f"ORDER BY at {way}, seq {way} LIMIT :page"
        )
        rows = connection.execute(text(query), {**given, **after, "page": PAGE}).mappings().all()
        fresh = list(dict.fromkeys(row["request_key"] for row in rows if row["request_key"] not in seen))
        seen.update(fresh)
        if fresh:
            yield fresh
        if len(rows) < PAGE:
            return
        after = {"at": rows[-1]["at"], "seq": rows[-1]["seq"]}


def _by_rank(
    connection: Connection, tests: Sequence[str], given: Mapping[str, Any], order: Order, *, page: int
) -> Iterator[list[str]]:
    from sqlalchemy import text

    amount, which = _RANKS[order]
    query = (
        f"SELECT {_KEY} AS request_key, {amount} AS amount FROM {TABLE} "  # noqa: S608 - names of ours
        f"WHERE {' AND '.join([*tests, which, _IS_ONE])} GROUP BY {_KEY} ORDER BY 2 DESC, 1"
    )
    with connection.execute(text(query), dict(given)) as result:
        for rows in result.partitions(page):
            yield [row[0] for row in rows]


def rows_of(connection: Connection, keys: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
    """All events of the requests, each in the order in which they happened."""
    from sqlalchemy import bindparam, text

    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    query = text(
        f"SELECT * FROM {TABLE} WHERE request IN :keys "  # noqa: S608 - names of ours
        f"UNION ALL SELECT * FROM {TABLE} WHERE id IN :keys AND request IS NULL"
    ).bindparams(bindparam("keys", expanding=True))
    for row in connection.execute(query, {"keys": list(keys)}).mappings():
        found[row["id"] if row["request"] is None else row["request"]].append(dict(row))
    for rows in found.values():
        rows.sort(key=lambda row: (row["at"], row["seq"]))
    return found


def line_of(key: str, rows: Sequence[Mapping[str, Any]]) -> RequestLine:
    """The line of a request with these events, in order."""
    calls = [row for row in rows if row["kind"] == "ModelCall"]
    theirs = [row for row in calls if not row["internal"]]
    answered = [row for row in theirs if row["error"] is None]
    last = next(reversed(answered or theirs or calls), None)
    return RequestLine(
        id=key,
        at=rows[0]["at"],
        until=rows[-1]["at"],
        who=_who(rows),
        model=last["model"] if last else None,
        provider=last["provider"] if last else None,
        outcome=_outcome(rows, theirs, answered),
        calls=len(theirs),
        own_calls=len(calls) - len(theirs),
        failed_calls=sum(row["error"] is not None for row in calls),
        measured=_usage([row for row in calls if row["usage_source"] == "provider"]),
        estimated=_usage([row for row in calls if row["usage_source"] == "estimate"]),
        saved=_saved([row for row in rows if row["mode"] != "shadow"]),
        saved_in_shadow=_saved([row for row in rows if row["mode"] == "shadow"]),
        added_seconds=_sum(rows, "seconds"),
        latency_seconds=_sum(calls, "latency_seconds"),
        failures=sum(row["kind"] == "Failure" for row in rows),
        events=len(rows),
    )


def _outcome(
    rows: Sequence[Mapping[str, Any]], calls: Sequence[Mapping[str, Any]], answered: Sequence[Mapping[str, Any]]
) -> Outcome:
    real = [row for row in rows if row["mode"] != "shadow"]
    if answered:
        return "answered"
    if any(row["kind"] == "CacheLookup" and row["action"] in _DID for row in real):
        return "cached"
    if any(row["kind"] == "Reservation" and row["action"] == "refused" for row in real):
        return "refused"
    return "failed" if calls else "none"


def _who(rows: Sequence[Mapping[str, Any]]) -> Who:
    said = {}
    for each in fields(Who):
        name = "user_id" if each.name == "user" else each.name
        said[each.name] = next((row[name] for row in rows if row[name] is not None), None)
    return Who(**said)


def _usage(rows: Sequence[Mapping[str, Any]]) -> Usage:
    return Usage(
        calls=len(rows),
        cost_usd=_usd(_sum(rows, "cost_nano")),
        unpriced=sum(row["cost_nano"] is None for row in rows),
        **{name: _sum(rows, name) for name in _USAGE},
    )


def _saved(rows: Sequence[Mapping[str, Any]]) -> Saved:
    did = [
        row
        for row in rows
        if row["kind"] in ("Decision", "CacheLookup") and row["part"] != "budget" and row["action"] in _DID
    ]
    return Saved(
        applied=len(did),
        tokens=_sum(did, "saved_tokens"),
        usd=_usd(_sum(did, "saved_nano")),
        unpriced=sum(row["saved_nano"] is None for row in did),
    )


def _sum(rows: Iterable[Mapping[str, Any]], name: str) -> Any:
    known = [row[name] for row in rows if row[name] is not None]
    return sum(known) if known else None


def _usd(nano: int | None) -> Decimal | None:
    return None if nano is None else from_nano(nano)
