"""What each part is worth: what it saved, how sure that is, what it cost, how often it failed, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from langchain_tokopt.cli.common import plain, utc
from langchain_tokopt.cli.top_rows import net_saved, summed, values
from langchain_tokopt.telemetry.findings import money
from langchain_tokopt.telemetry.kpis import figures
from langchain_tokopt.telemetry.kpis_chance import FEWEST_SLICES, student
from langchain_tokopt.telemetry.kpis_window import Window
from langchain_tokopt.telemetry.readings import CallFigures, PartFigures, Readings, Span, Times
from langchain_tokopt.telemetry.report import Saved, Usage
from langchain_tokopt.telemetry.rollups_tables import HOUR
from langchain_tokopt.telemetry.store import EventStore

if TYPE_CHECKING:
    from langchain_tokopt.telemetry.kpis_found import Found

Verdict: TypeAlias = Literal[
    "saves", "costs more than it saves", "would save", "would cost more than it saves", "not enough data"
]
_Interval: TypeAlias = tuple[Decimal, Decimal]

# Into how many slices the time with events is cut, to see how much savings vary.
_SLICES: Final = 24
_REASONS: Final = 3
_LEFT_ALONE: Final = ("skipped", "bypass", "miss")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one part is worth. All of it is estimated, but for how often it did what.

    Attributes:
        part: Its name.
        figures: What it did and saved.
        interval: Of what it saved in USD (in shadow mode, if it did nothing for real), at 95 %: by how much that varies
            over the time; `None` of too few slices of it.
        own: Calls that were made for it, where events say so.
        net: What it saved less these; `None` if that is not known.
        least: The same if all of the optimiser's own calls that no event has a part for were made for this one.
        errors: How often it failed, of all the times that it had something to do.
        added: The time that it took.
        reasons: Why it left requests alone, and how often; the most frequent ones.
        verdict: In words.
        why: What that follows from.
    """

    part: str
    figures: PartFigures
    interval: _Interval | None
    own: Usage
    net: Decimal | None
    least: Decimal | None
    errors: Found | None
    added: Times | None
    reasons: tuple[tuple[str, int], ...]
    verdict: Verdict
    why: str

    def as_json(self) -> dict[str, Any]:
        errors, added = self.errors, self.added
        return {
            "part": self.part,
            "verdict": self.verdict,
            "why": self.why,
            "saved": values(self.figures.real),
            "saved_in_shadow": values(self.figures.shadow),
            "saved_usd_interval": None if self.interval is None else plain(self.interval),
            "left_alone": self.figures.skipped,
            "own_calls": values(self.own),
            "net_saved_usd": plain(self.net),
            "net_saved_usd_at_least": plain(self.least),
            "errors": None
            if errors is None
            else {"rate": plain(errors.value), "low": errors.low, "high": errors.high, "of": errors.count},
            "added_seconds": None if added is None else {"count": added.count, "p50": added.p50, "p95": added.p95},
            "reasons": [{"reason": reason, "count": count} for reason, count in self.reasons],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What all parts are worth, each and together.

    Attributes:
        span: When.
        parts: Each, what saved most first.
        real: What they did and saved for real.
        shadow: The same in shadow mode.
        own_measured: All of the optimiser's own calls whose usage a provider reported.
        own_estimated: Those whose usage is our estimate.
        unnamed: How many of these calls no event has a part for.
    """

    span: Span
    parts: tuple[Effect, ...]
    real: Saved
    shadow: Saved
    own_measured: Usage
    own_estimated: Usage
    unnamed: int

    @property
    def net(self) -> Decimal | None:
        """What all parts saved for real, less the optimiser's own calls; `None` if that is not known."""
        return net_saved(self.real, self.own_measured, self.own_estimated)

    def as_json(self) -> dict[str, Any]:
        return {
            "since": utc(self.span.since),
            "until": utc(self.span.until),
            "parts": [part.as_json() for part in self.parts],
            "total": {
                "saved": values(self.real),
                "saved_in_shadow": values(self.shadow),
                "own_calls": {"measured": values(self.own_measured), "estimated": values(self.own_estimated)},
                "own_calls_without_a_part": self.unnamed,
                "net_saved_usd": plain(self.net),
            },
        }


def effects(store: EventStore, span: Span) -> Effects:
    """What each part is worth, in the span.

    Raises:
        StoreError: The database cannot be read.
    """
    readings = Readings(store)
    since, until = span.since or 0.0, span.until or 0.0
    window = Window(readings, since=since, seconds=until - since)
    with store.reading():
        found = window.parts
        errors = {part: each for part, each in figures(window, ("health.errors",)).values() if part is not None}
        own = {place.key[0]: each for place, each in readings.calls(span, by=("part",)).items()}
        times = {place.key[0]: each.added for place, each in readings.times(span, by=("part",)).items()}
        slices = _slices(readings, span)
        reasons = {part: _reasons(readings, span, part) for part in found}
    nobodys = _own(own.get(None, CallFigures()))
    parts = [
        _effect(
            part,
            each,
            slices=slices.get(part, ()),
            own=_own(own.get(part, CallFigures())),
            nobodys=nobodys,
            errors=errors.get(part),
            added=times.get(part),
            reasons=reasons[part],
        )
        for part, each in found.items()
    ]
    parts.sort(key=lambda effect: (-(effect.figures.real.usd or effect.figures.shadow.usd or 0), effect.part))
    return Effects(
        span=span,
        parts=tuple(parts),
        real=summed((each.real for each in found.values()), Saved()),
        shadow=summed((each.shadow for each in found.values()), Saved()),
        own_measured=summed((each.own_measured for each in own.values()), Usage()),
        own_estimated=summed((each.own_estimated for each in own.values()), Usage()),
        unnamed=nobodys.calls,
    )


def _effect(
    part: str,
    found: PartFigures,
    *,
    slices: Sequence[PartFigures],
    own: Usage,
    nobodys: Usage,
    errors: Found | None,
    added: Times | None,
    reasons: tuple[tuple[str, int], ...],
) -> Effect:
    shadow = not found.real.applied and found.shadow.applied > 0
    amounts = [(each.shadow if shadow else each.real).usd or Decimal(0) for each in slices]
    interval = interval_of_sum(amounts)
    saved = found.shadow if shadow else found.real
    # In shadow mode nothing is called for a part.
    costs = () if shadow else (own, nobodys)
    least = net_saved(saved, *costs)
    spent = sum((usage.cost_usd or Decimal(0) for usage in costs), Decimal(0))
    verdict, why = judged(saved, interval, spent=spent, unpriced=any(usage.unpriced for usage in costs), shadow=shadow)
    return Effect(
        part=part,
        figures=found,
        interval=interval,
        own=own,
        net=least if not nobodys.calls or shadow else None,
        least=least,
        errors=errors,
        added=added,
        reasons=reasons,
        verdict=verdict,
        why=why,
    )


def judged(
    saved: Saved, interval: _Interval | None, *, spent: Decimal, unpriced: bool, shadow: bool
) -> tuple[Verdict, str]:
    """A verdict, and what it follows from: it is given only where chance alone would hardly make it.

    `spent` is the most that the part may have cost, `unpriced` whether it may have cost more than that.
    """
    does: tuple[Verdict, Verdict] = (
        ("would save", "would cost more than it saves") if shadow else ("saves", "costs more than it saves")
    )
    if not saved.applied:
        return "not enough data", "it changed no request"
    if saved.usd is None:
        return "not enough data", "none of what it saved has a known price"
    if interval is None:
        return "not enough data", "it did too little, or in too short a time, to tell it from chance"
    between = f"95 % sure between {money(interval[0])} and {money(interval[1])}"
    if interval[1] < 0:
        return does[1], between
    if interval[0] <= 0:
        return "not enough data", f"{between}: chance can make that"
    if unpriced:
        return "not enough data", f"{between}, but an own call of the optimiser has no known price"
    if spent and interval[0] <= spent:
        return (
            "not enough data",
            f"{between}, and the optimiser's own calls for {money(spent)} may all be for this part",
        )
    return does[0], between


def interval_of_sum(amounts: Sequence[Decimal]) -> _Interval | None:
    """The sum of what slices of time have, from where to where at 95 %, by how much they vary (Student's t).

    `None` if fewer than six of them have anything.
    """
    count = len(amounts)
    if sum(1 for amount in amounts if amount) < FEWEST_SLICES:
        return None
    whole = sum(amounts, Decimal(0))
    mean = float(whole) / count
    spread = math.sqrt(sum((float(amount) - mean) ** 2 for amount in amounts) * count / (count - 1))
    reach = Decimal(student(count - 1) * spread)
    # To the nano-USD, as all amounts are.
    low, high = ((whole + sign * reach).quantize(Decimal("1e-9")) for sign in (-1, 1))
    return low, high


def _slices(readings: Readings, span: Span) -> Mapping[str, list[PartFigures]]:
    """By part: what it did in each slice of the time in which anything happened, also in those without anything."""
    extent = readings.extent(span)
    if extent.first is None or extent.last is None:
        return {}
    every = max(1, math.ceil((extent.last - extent.first) / _SLICES))
    if extent.rolled is not None:
        every = math.ceil(every / HOUR) * HOUR  # what is kept as the sum of an hour cannot be cut
    starts = range(int(extent.first) // every * every, int(extent.last) + 1, every)
    found: dict[str, dict[int, PartFigures]] = {}
    for place, each in readings.parts(span, by=("part",), every=every).items():
        found.setdefault(str(place.key[0]), {})[place.start or 0] = each
    return {part: [slices.get(start, PartFigures()) for start in starts] for part, slices in found.items()}


def _own(calls: CallFigures) -> Usage:
    """The optimiser's own calls, as a term of an estimate: whoever told of them."""
    return summed((calls.own_measured, calls.own_estimated), Usage())


def _reasons(readings: Readings, span: Span, part: str) -> tuple[tuple[str, int], ...]:
    found = readings.reasons(Span(span.since, span.until, {"part": part}))
    left = [(each.text, each.count) for each in found if each.action in _LEFT_ALONE]
    return tuple(left[:_REASONS])
