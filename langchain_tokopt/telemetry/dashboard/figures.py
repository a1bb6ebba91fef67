"""Figures of one span of time for the page: totals, a series of buckets, tables by dimension."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, Final

from langchain_tokopt.telemetry.dashboard.plain import plain
from langchain_tokopt.telemetry.dashboard.sources import source
from langchain_tokopt.telemetry.readings import CallFigures, LookupFigures, PartFigures, Place, Readings, Span
from langchain_tokopt.telemetry.report import CacheReport, Saved, Usage

DIMENSIONS: Final = ("part", "agent", "model", "project", "user")
_KINDS: Final = ("calls", "parts", "lookups", "failures")
# Parts call no model; and what parts do happens before a model is called, and says nothing of it.
_READ: Final[Mapping[str, tuple[str, ...]]] = {"part": ("parts", "failures"), "model": ("calls",)}
_ROWS: Final = 25  # of a table; the rest is one row, so that the sums are those of all
_BUCKETS: Final = 72
_USAGES: Final = ("measured", "estimated", "own_measured", "own_estimated")
_STEPS: Final = (1, 5, 15, 60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 7 * 86_400, 28 * 86_400)


@dataclass(frozen=True, slots=True)
class Window:
    """A span of time that the page can be switched to.

    Attributes:
        name: Such as "24 h".
        hours: Its length.
        until: Its end, Unix time, exclusive.
    """

    name: str
    hours: float
    until: float

    @property
    def since(self) -> float:
        """Its start, Unix time, inclusive."""
        return self.until - self.hours * 3600

    @property
    def every(self) -> int:
        """The length of a bucket in seconds: the shortest usual one whose bars a chart has room for."""
        length = self.hours * 3600
        return next((step for step in _STEPS if length / step <= _BUCKETS), _STEPS[-1])

    @property
    def span(self) -> Span:
        return Span(self.since, self.until)


def window_figures(readings: Readings, window: Window) -> dict[str, Any]:
    """All figures of a window, each beside its source.

    Raises:
        StoreError: The database cannot be read.
    """
    extent = readings.extent(window.span)
    rolled = extent.rolled is not None
    return {
        "name": window.name,
        "since": window.since,
        "until": window.until,
        "extent": plain(extent),
        "totals": _totals(readings, window, rolled),
        "series": _series(readings, window, rolled),
        "by": {name: _table(readings, window, name, rolled) for name in DIMENSIONS},
    }


def _totals(readings: Readings, window: Window, rolled: bool) -> dict[str, Any]:
    span = window.span
    calls = readings.calls(span).get(Place(), CallFigures())
    parts = readings.parts(span).get(Place(), PartFigures())
    return {
        "calls": _calls(calls),
        "parts": _parts(parts),
        "net_usd": plain(net_saved(parts.real, calls.own_measured, calls.own_estimated)),
        "lookups": _lookups(readings.lookups(span).get(Place(), LookupFigures())),
        "failures": readings.failures(span).get(Place(), 0),
        "reservations": readings.reservations(span).get(Place(), {}),
        "source": {
            name: source(name, span, rolled=rolled)
            for name in ("calls", "parts", "lookups", "failures", "reservations")
        },
    }


def _series(readings: Readings, window: Window, rolled: bool) -> dict[str, Any]:
    """One list for each figure, all as long as `start`; a bucket without events has none of them, not 0."""
    span, every = window.span, window.every
    calls = {place.start: figures for place, figures in readings.calls(span, every=every).items()}
    parts = {place.start: figures for place, figures in readings.parts(span, every=every).items()}
    lookups = {place.start: figures for place, figures in readings.lookups(span, every=every).items()}
    first = int(window.since) // every * every
    starts = range(first, math.ceil(window.until), every)
    rows = []
    for start in starts:
        call, part = calls.get(start, CallFigures()), parts.get(start, PartFigures())
        look = lookups.get(start, LookupFigures()).real
        own = call.own_measured.calls + call.own_estimated.calls
        net = net_saved(part.real, call.own_measured, call.own_estimated) if part.real.applied or own else None
        rows.append(
            {
                "measured_usd": call.measured.cost_usd,
                "estimated_usd": call.estimated.cost_usd,
                "saved_usd": part.real.usd,
                "net_usd": net,
                "saved_tokens": part.real.tokens,
                "input_tokens": call.measured.input_tokens,
                "cache_read_tokens": call.measured.cache_read_tokens,
                "cache_write_tokens": call.measured.cache_write_tokens,
                "output_tokens": call.measured.output_tokens,
                "reasoning_tokens": call.measured.reasoning_tokens,
                "estimated_input_tokens": call.estimated.input_tokens,
                "estimated_output_tokens": call.estimated.output_tokens,
                "calls": call.measured.calls + call.estimated.calls,
                "failed": call.failed,
                "hits": look.hits,
                "eligible": look.eligible,
            }
        )
    columns = {name: [plain(row[name]) for row in rows] for name in rows[0]} if rows else {}
    return {
        "every": every,
        "start": list(starts),
        **columns,
        "source": {name: source(name, span, every=every, rolled=rolled) for name in ("calls", "parts", "lookups")},
    }


def _table(readings: Readings, window: Window, by: str, rolled: bool) -> dict[str, Any]:
    """What each value of a dimension spent and saved, the dearest first."""
    span = window.span
    names = _READ.get(by, ("calls", "parts", "lookups"))
    read = {name: _first_keys(getattr(readings, name)(span, by=(by,))) if name in names else {} for name in _KINDS}
    calls, parts, lookups, failures = (read[name] for name in _KINDS)
    keys = dict.fromkeys([*calls, *parts, *failures])

    def rank(key: str | None) -> tuple[Any, ...]:
        call, part = calls.get(key, CallFigures()), parts.get(key, PartFigures())
        money = (call.measured.cost_usd, call.estimated.cost_usd, part.real.usd)
        return (*(-(usd or Decimal(0)) for usd in money), -call.measured.calls - part.real.applied, str(key))

    ranked = sorted(keys, key=rank)
    shown, rest = ranked[:_ROWS], ranked[_ROWS:]
    groups: list[tuple[dict[str, Any], list[str | None]]] = [({"key": plain(key)}, [key]) for key in shown]
    if rest:
        groups.append(({"more": len(rest)}, rest))
    rows = []
    for head, members in groups:
        call = _added_calls(calls[key] for key in members if key in calls)
        part = _added_parts(parts[key] for key in members if key in parts)
        look = _added_lookups(lookups[key].real for key in members if key in lookups)
        net = net_saved(part.real, call.own_measured, call.own_estimated)
        figures = {"calls": _calls(call), "parts": _parts(part), "net_usd": plain(net)}
        if by == "part":
            figures["failures"] = sum(failures.get(key, 0) for key in members)
        else:
            figures["hits"], figures["eligible"] = look.hits, look.eligible
        rows.append({**head, **figures})
    return {"rows": rows, "source": {name: source(name, span, by=(by,), rolled=rolled) for name in names}}


def net_saved(saved: Saved, *own: Usage) -> Decimal | None:
    """What was saved less the cost of the optimiser's own calls; `None` where one of them is not known."""
    if any(usage.unpriced for usage in own):
        return None
    spent = sum((usage.cost_usd or Decimal(0) for usage in own), Decimal(0))
    if saved.usd is None and (saved.applied or not spent):
        return None
    return (saved.usd or Decimal(0)) - spent


# --- as plain values -------------------------------------------------------------------------------------------------


def _calls(figures: CallFigures) -> dict[str, Any]:
    """Usage that has no calls is null: there is nothing to be known of it."""
    shown = {
        name: _usage(getattr(figures, name)) for name in ("measured", "estimated", "own_measured", "own_estimated")
    }
    return {**shown, "failed": figures.failed, "requests": figures.requests}


def _usage(usage: Usage) -> dict[str, Any] | None:
    shown: dict[str, Any] | None = plain(usage) if usage.calls else None
    return shown


def _parts(figures: PartFigures) -> dict[str, Any]:
    shown: dict[str, Any] = plain(figures)
    return shown


def _lookups(figures: LookupFigures) -> dict[str, Any]:
    def shown(cache: CacheReport) -> dict[str, Any]:
        return {**plain(cache), "hits": cache.hits, "eligible": cache.eligible}

    return {"real": shown(figures.real), "shadow": shown(figures.shadow)}


# --- sums of rows ----------------------------------------------------------------------------------------------------


def _first_keys(found: Mapping[Place, Any]) -> dict[str | None, Any]:
    return {place.key[0]: figures for place, figures in found.items()}


def _added_calls(each: Iterable[CallFigures]) -> CallFigures:
    figures = list(each)
    return CallFigures(
        **{name: _added(Usage, [getattr(one, name) for one in figures]) for name in _USAGES},
        failed=sum(one.failed for one in figures),
        requests=sum(one.requests for one in figures),
    )


def _added_parts(each: Iterable[PartFigures]) -> PartFigures:
    figures = list(each)
    return PartFigures(
        real=_added(Saved, [one.real for one in figures]),
        shadow=_added(Saved, [one.shadow for one in figures]),
        skipped=sum(one.skipped for one in figures),
    )


def _added_lookups(each: Iterable[CacheReport]) -> CacheReport:
    added: CacheReport = _added(CacheReport, list(each))
    return added


def _added(kind: Any, figures: list[Any]) -> Any:
    """Field by field; what none of them knows is not known of the sum."""
    sums: dict[str, Any] = {}
    for each in fields(kind):
        values = [getattr(one, each.name) for one in figures if getattr(one, each.name) is not None]
        if values:
            sums[each.name] = sum(values[1:], values[0])
    return kind(**sums)
