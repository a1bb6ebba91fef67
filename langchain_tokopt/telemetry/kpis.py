"""The few figures that tell how things stand, each with what it means, how sure it is, and where it is from."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.telemetry.findings import duration, money
from langchain_tokopt.telemetry.kpis_events import recorded_since
from langchain_tokopt.telemetry.kpis_found import Found, Number, Source
from langchain_tokopt.telemetry.kpis_measures import MEASURES, Better, Group, Measure, Unit
from langchain_tokopt.telemetry.kpis_window import SLICES, Window
from langchain_tokopt.telemetry.readings import Readings

if TYPE_CHECKING:
    from typing import TypeAlias

Trend: TypeAlias = Literal["up", "down", "same"]

# One for each part: "health.errors.cache" is that of the cache.
BY_PART: Final = tuple(measure.name for measure in MEASURES if measure.by_part is not None)
NAMES: Final = tuple(measure.name for measure in MEASURES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kpi:
    """A figure of a window of time.

    Attributes:
        name: Such as "cache.hit_rate"; of a figure that each part has, such as "health.errors.cache".
        group: "cost", "tokens", "cache", "quality" or "health".
        title: What people call it.
        definition: What it is, in a sentence.
        formula: How it is computed, in words.
        unit: "usd" (`Decimal`), "share" (of 1), "times", "seconds" or "count".
        value: `None` where it cannot be known; `reason` says why.
        low: With `high`, its interval at 95 %: Wilson's for a rate of things that were counted; for a ratio of sums
            from how much it varies within the window. `None` where there is none.
        high: See `low`.
        previous: The value of the window before, from the same source; of a total, `None` where that window was not
            recorded from its start on.
        trend: Where it went from there: "up", "down", "same"; `None` where one of both is unknown.
        certain: Whether that is more than chance, at 95 %; `None` where no one can say.
        target: What it should reach, or stay under; `None` for no target.
        better: Whether "higher" or "lower" values are better.
        ok: Whether the target is met; `None` without a value or a target.
        count: How many observations it is from.
        source: "measured": reported by providers, or counted; "estimated": an estimate of ours is in it.
        part: The part that it is of; `None` for all.
        reason: Why the value is not known.
        note: What is left out of the value.
        hours: The length of the window.
        since: Its start (inclusive), Unix time in seconds.
        until: Its end (exclusive).
        trace: How to follow the number back: the reading that it is from, and the events behind that.
    """

    name: str
    group: Group
    title: str
    definition: str
    formula: str
    unit: Unit
    value: Number | None
    low: float | None
    high: float | None
    previous: Number | None
    trend: Trend | None
    certain: bool | None
    target: float | None
    better: Better
    ok: bool | None
    count: int
    source: Source
    part: str | None
    reason: str | None
    note: str | None
    hours: float
    since: float
    until: float
    trace: str

    @property
    def shown(self) -> str:
        """The value in its unit, as people read it; "unknown" where it is."""
        return shown(self.value, self.unit)

    def as_json(self) -> dict[str, Any]:
        """Plain values that JSON can hold; USD as exact decimal text."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)}


def kpis(
    readings: Readings,
    *,
    now: float,
    hours: float = 24,
    targets: Mapping[str, float] | None = None,
    audits: Callable[[], Mapping[str, Any] | None] | None = None,
) -> tuple[Kpi, ...]:
    """All KPIs of the last `hours`, compared with the window of the same length before that.

    Args:
        readings: Where figures come from.
        now: The end of the window, Unix time in seconds.
        hours: Its length.
        targets: By name, instead of the usual ones, such as `{"cache.hit_rate": 0.2}`. "health.errors" is for every
            part, "health.errors.cache" for one.
        audits: Gives what the semantic cache knows of its audits, the mapping `stats()["decision"]` of it.

    Raises:
        ConfigurationError: `hours`, `now` or a target cannot be used.
        StoreError: The events cannot be read.
    """
    goals = read_targets(targets)
    seconds = read_hours(hours) * 3600
    if isinstance(now, bool) or not isinstance(now, (int, float)) or not math.isfinite(now):
        raise ConfigurationError("now", now, "give Unix time in seconds")
    current = Window(readings, since=now - seconds, seconds=seconds, audits=audits)
    before = Window(readings, since=now - 2 * seconds, seconds=seconds)
    with readings.store.reading():  # so that all figures are of one state of the database
        begun = recorded_since(readings.store)
        whole = begun is not None and begun <= before.since + seconds / SLICES
        return tuple(
            _kpi(measure, part, found, earlier, goals, current, hours)
            for measure in MEASURES
            for part, found, earlier in _both(measure, current, before, whole=whole)
        )


def figures(window: Window, names: Collection[str]) -> dict[str, tuple[str | None, Found]]:
    """Part and figure by name, of the measures named only, and without a look at the window before."""
    return {
        full_name(measure.name, part): (part, found)
        for measure in MEASURES
        if measure.name in names
        for part, found in _found(measure, window).items()
    }


def full_name(name: str, part: str | None) -> str:
    """The name of a KPI that belongs to a part."""
    return name if part is None else f"{name}.{part}"


def _found(measure: Measure, window: Window) -> dict[str | None, Found]:
    if measure.by_part is not None:
        return measure.by_part(window)
    return {None: measure.find(window)} if measure.find is not None else {}


def _both(
    measure: Measure, current: Window, before: Window, *, whole: bool
) -> Iterator[tuple[str | None, Found, Found]]:
    """Part, figure, and that of the window before. `whole`: whether all of that was recorded."""
    now, then = _found(measure, current), _found(measure, before)
    for part, found in now.items():
        earlier = then.get(part, Found())
        recorded = whole or earlier.slices is None
        alike = found.value is None or found.source == earlier.source
        yield part, found, earlier if recorded and alike else Found()


def _kpi(
    measure: Measure,
    part: str | None,
    found: Found,
    before: Found,
    goals: Mapping[str, float],
    window: Window,
    hours: float,
) -> Kpi:
    name = full_name(measure.name, part)
    usual = measure.target if found.target is None else found.target
    target = goals.get(name, goals.get(measure.name, usual))
    return Kpi(
        name=name,
        group=measure.group,
        title=measure.title if part is None else f"{measure.title}: {part}",
        definition=measure.definition,
        formula=measure.formula,
        unit=measure.unit,
        value=found.value,
        low=found.low,
        high=found.high,
        previous=before.value,
        trend=_trend(found.value, before.value),
        certain=found.differs(before),
        target=target,
        better=measure.better,
        ok=_meets(found.value, target, measure.better),
        count=found.count,
        source=found.source,
        part=part,
        reason=found.reason,
        note=found.note,
        hours=hours,
        since=window.since,
        until=window.until,
        trace=measure.trace,
    )


def _trend(value: Number | None, before: Number | None) -> Trend | None:
    if value is None or before is None:
        return None
    return "same" if value == before else "up" if value > before else "down"


def _meets(value: Number | None, target: float | None, better: Better) -> bool | None:
    if value is None or target is None:
        return None
    return float(value) >= target if better == "higher" else float(value) <= target


# --- what is given ---------------------------------------------------------------------------------------------------


def read_hours(hours: object) -> float:
    """The length of a window in hours.

    Raises:
        ConfigurationError: It is not a number above 0.
    """
    if isinstance(hours, bool) or not isinstance(hours, (int, float)) or not 0 < hours < math.inf:
        raise ConfigurationError("hours", hours, "give a number of hours above 0")
    return float(hours)


def measure_of(name: str) -> Measure | None:
    """What a name stands for; that of one part may stand for any part."""
    for measure in MEASURES:
        if name == measure.name or (measure.by_part is not None and name.startswith(f"{measure.name}.")):
            return measure
    return None


def read_targets(targets: Mapping[str, float] | None) -> dict[str, float]:
    """The targets by name.

    Raises:
        ConfigurationError: One is for a KPI that there is not, or cannot be reached by any value.
    """
    if targets is None:
        return {}
    if not isinstance(targets, Mapping):
        raise ConfigurationError("targets", targets, 'map names to numbers, such as {"cache.hit_rate": 0.2}')
    for name, target in targets.items():
        measure = measure_of(name) if isinstance(name, str) else None
        if measure is None:
            raise ConfigurationError("targets", name, f"use one of {', '.join(map(repr, NAMES))}")
        number = isinstance(target, (int, float, Decimal)) and not isinstance(target, bool) and math.isfinite(target)
        if not number:
            raise ConfigurationError(f"targets[{name!r}]", target, "give a finite number")
        if measure.unit == "share" and not (-1 if measure.name == "tokens.reduction" else 0) <= target <= 1:
            raise ConfigurationError(f"targets[{name!r}]", target, "give a share of 1, such as 0.2 for 20 %")
        if measure.unit != "share" and target < 0 and measure.name != "cost.saved_net":
            raise ConfigurationError(f"targets[{name!r}]", target, "give 0 or more")
    return {name: float(target) for name, target in targets.items()}


# --- for people ------------------------------------------------------------------------------------------------------


def shown(value: Number | None, unit: Unit) -> str:
    """A value in its unit, as people read it; "unknown" for `None`."""
    if value is None:
        return "unknown"
    if unit == "usd":
        return money(Decimal(str(value)))
    if unit == "seconds":
        return duration(float(value))
    if unit == "times":
        return f"{value:.2f} x"
    if unit == "count":
        return f"{int(value):,}"
    return f"{value:.1%}"


def as_rows(found: Sequence[Kpi]) -> list[tuple[str, ...]]:
    """A line of text for each KPI: title, value, interval, change, target, observations, source. Names are as given."""
    return [_row(kpi) for kpi in found]


HEADINGS: Final = ("KPI", "value", "95 %", "before", "target", "from", "source")


def _row(kpi: Kpi) -> tuple[str, ...]:
    interval = "" if kpi.low is None else f"{shown(kpi.low, kpi.unit)} to {shown(kpi.high, kpi.unit)}"
    change = {None: "", True: f" ({kpi.trend})", False: " (may be chance)"}[kpi.certain]
    before = "" if kpi.previous is None else f"{shown(kpi.previous, kpi.unit)}{change}"
    bound = "at least" if kpi.better == "higher" else "at most"
    verdict = {None: "", True: ", met", False: ", missed"}[kpi.ok]
    target = "" if kpi.target is None else f"{bound} {shown(kpi.target, kpi.unit)}{verdict}"
    value = f"unknown: {kpi.reason}" if kpi.value is None else kpi.shown
    return kpi.title, value, interval, before, target, f"{kpi.count:,}", kpi.source


def _plain(value: Any) -> Any:
    return f"{value:f}" if isinstance(value, Decimal) else value
