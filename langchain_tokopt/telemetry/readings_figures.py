"""Rows of sums become figures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, TypeVar

from langchain_tokopt.pricing import from_nano
from langchain_tokopt.telemetry.readings_words import CallFigures, LookupFigures, PartFigures, Place
from langchain_tokopt.telemetry.report import CacheReport, ModelUsage, Saved, Usage

USAGE: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")

T = TypeVar("T")
Row = Mapping[str, Any]


def place_of(row: Row, by: Sequence[str]) -> Place:
    """Where a row belongs."""
    start = None if row["start"] is None else int(row["start"])
    return Place(tuple(row[f"key_{n}"] for n in range(len(by))), start)


def gathered(rows: Iterable[Row], by: Sequence[str], made: Callable[[list[Row]], T]) -> dict[Place, T]:
    """What is made of the rows of each place."""
    places: dict[Place, list[Row]] = defaultdict(list)
    for row in rows:
        places[place_of(row, by)].append(row)
    return {place: made(found) for place, found in places.items()}


def calls_of(rows: Sequence[Row], requests: int) -> CallFigures:
    """Figures of calls; how many requests these are is counted elsewhere."""

    def some(source: str, *, own: bool) -> Usage:
        return _usage([row for row in rows if row["usage_source"] == source and (row["internal"] or not own)])

    return CallFigures(
        measured=some("provider", own=False),
        estimated=some("estimate", own=False),
        own_measured=some("provider", own=True),
        own_estimated=some("estimate", own=True),
        failed=sum(int(row["n"]) for row in rows if row["failed"]),
        requests=requests,
    )


def _usage(rows: Sequence[Row]) -> Usage:
    calls = sum(int(row["n"]) for row in rows)
    return Usage(
        calls=calls,
        cost_usd=_usd(_sum(rows, "cost_nano")),
        unpriced=calls - sum(int(row["priced"]) for row in rows),
        **{name: _sum(rows, name) for name in USAGE},
    )


def models_of(calls: Mapping[Place, CallFigures]) -> tuple[ModelUsage, ...]:
    """What each model used, the dearest first, of calls told apart by provider and model."""
    models = [
        ModelUsage(provider=place.key[0], model=place.key[1], measured=figures.measured, estimated=figures.estimated)
        for place, figures in calls.items()
    ]

    def rank(one: ModelUsage) -> tuple[Decimal, int, str]:
        cost = max(one.measured.cost_usd or Decimal(0), one.estimated.cost_usd or Decimal(0))
        return -cost, -one.measured.calls - one.estimated.calls, f"{one.provider} {one.model}"

    return tuple(sorted(models, key=rank))


def part_of(rows: Sequence[Row]) -> PartFigures:
    """Figures of one part, or of all together."""
    return PartFigures(
        real=_saved([row for row in rows if row["did"] and row["mode"] != "shadow"]),
        shadow=_saved([row for row in rows if row["did"] and row["mode"] == "shadow"]),
        skipped=sum(int(row["n"]) for row in rows if not row["did"]),
    )


def _saved(rows: Sequence[Row]) -> Saved:
    applied = sum(int(row["n"]) for row in rows)
    return Saved(
        applied=applied,
        tokens=_sum(rows, "saved_tokens"),
        usd=_usd(_sum(rows, "saved_nano")),
        unpriced=applied - sum(int(row["priced"]) for row in rows),
    )


def lookups_of(rows: Sequence[Row]) -> LookupFigures:
    """Figures of lookups."""

    def some(*, shadow: bool) -> CacheReport:
        n = Counter[str]()
        for row in rows:
            if (row["mode"] == "shadow") == shadow:
                n[row["action"]] += int(row["n"])
        return CacheReport(exact=n["exact"], semantic=n["semantic"], misses=n["miss"], bypassed=n["bypass"])

    return LookupFigures(some(shadow=False), some(shadow=True))


def steps_of(rows: Sequence[Row]) -> dict[str, int]:
    """How often each step of a reservation happened, by its name."""
    n: dict[str, int] = defaultdict(int)
    for row in rows:
        n[f"shadow {row['action']}" if row["mode"] == "shadow" else row["action"]] += int(row["n"])
    return dict(n)


def number_of(rows: Sequence[Row]) -> int:
    """How many events the rows stand for."""
    return sum(int(row["n"]) for row in rows)


def _sum(rows: Iterable[Row], name: str) -> int | None:
    known = [int(row[name]) for row in rows if row[name] is not None]
    return sum(known) if known else None


def _usd(nano: int | None) -> Decimal | None:
    return None if nano is None else from_nano(nano)
