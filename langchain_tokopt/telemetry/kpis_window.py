"""One window of time, read when it is asked for and only once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

from langchain_tokopt.telemetry.kpis_events import Shortened, calls_by_end, fallbacks, shortened
from langchain_tokopt.telemetry.readings import (
    CallFigures,
    LookupFigures,
    PartFigures,
    Place,
    Readings,
    Span,
    TimeFigures,
)
from langchain_tokopt.telemetry.report import CacheReport, Saved

# Into how many slices a window is cut to see how much its figures vary.
SLICES: Final = 24
_LONGEST_SLICE: Final = 2**31

Audits = Callable[[], Mapping[str, Any] | None]


class Window:
    """The readings of a window.

    Args:
        readings: Where figures come from.
        since: Its start, Unix time in seconds.
        seconds: Its length.
        audits: Gives what the semantic cache says of its audits; see `kpis`.
    """

    def __init__(self, readings: Readings, *, since: float, seconds: float, audits: Audits | None = None) -> None:
        self.readings = readings
        self.since, self.until = since, since + seconds
        self.span = Span(self.since, self.until)
        # A slice stands at the same place in all windows of this length only if that is a whole number of slices.
        whole = seconds % SLICES == 0 and SLICES <= seconds <= SLICES * _LONGEST_SLICE
        self._every = int(seconds // SLICES) if whole else None
        self._audits = audits

    @cached_property
    def calls(self) -> CallFigures:
        return self.readings.calls(self.span).get(Place(), CallFigures())

    @cached_property
    def parts(self) -> dict[str, PartFigures]:
        """By part."""
        found: dict[str, list[PartFigures]] = defaultdict(list)
        for (part, _), figures in self._parts.items():
            found[part].append(figures)
        return {part: _parts_together(each) for part, each in found.items()}

    @cached_property
    def _parts(self) -> dict[tuple[str, int], PartFigures]:
        """By part and slice, read once for both."""
        found = self.readings.parts(self.span, by=("part",), every=self._every)
        return {(str(place.key[0]), self._slice(place.start or 0)): figures for place, figures in found.items()}

    @cached_property
    def lookups(self) -> LookupFigures:
        found = list(self._lookups.values())
        return LookupFigures(
            _looks_together(each.real for each in found), _looks_together(each.shadow for each in found)
        )

    @cached_property
    def _lookups(self) -> dict[int, LookupFigures]:
        return self._in_slices(self.readings.lookups(self.span, every=self._every))

    @cached_property
    def failures(self) -> dict[str, int]:
        """By part."""
        found = self.readings.failures(self.span, by=("part",))
        return {str(place.key[0]): count for place, count in found.items()}

    @cached_property
    def reservations(self) -> dict[str, int]:
        return self.readings.reservations(self.span).get(Place(), {})

    @cached_property
    def times(self) -> TimeFigures:
        return self.readings.times(self.span).get(Place(), TimeFigures())

    @cached_property
    def audits(self) -> Mapping[str, Any] | None:
        return self._audits() if self._audits is not None else None

    # --- single events -----------------------------------------------------------------------------------------------

    @cached_property
    def singles(self) -> Span:
        """The part of the window of which events are kept one by one, and not as sums only."""
        return self.readings.singles(self.span)

    @property
    def rolled_up(self) -> bool:
        """Whether that is less than the whole window."""
        return self.singles != self.span

    @cached_property
    def single_requests(self) -> int:
        """Requests that reached a model, in that part of the window."""
        calls = self.readings.calls(self.singles).get(Place(), CallFigures()) if self.rolled_up else self.calls
        return calls.requests

    @cached_property
    def shortened(self) -> dict[str, dict[int, Shortened]]:
        """By part, and by the number of the slice; all in one where the window cannot be cut."""
        found: dict[str, dict[int, Shortened]] = defaultdict(dict)
        for (part, start), each in shortened(self.readings.store, self.span, every=self._every).items():
            found[part][self._slice(start)] = each
        return found

    @cached_property
    def fallbacks(self) -> int:
        return fallbacks(self.readings.store, self.span)

    @cached_property
    def calls_by_end(self) -> tuple[int, int]:
        return calls_by_end(self.readings.store, self.span)

    # --- slices ------------------------------------------------------------------------------------------------------

    @cached_property
    def calls_in_slices(self) -> dict[int, CallFigures]:
        """By the number of the slice; nothing where the window cannot be cut."""
        return {} if self._every is None else self._in_slices(self.readings.calls(self.span, every=self._every))

    @cached_property
    def parts_in_slices(self) -> dict[int, PartFigures]:
        found: dict[int, list[PartFigures]] = defaultdict(list)
        for (_, place), figures in self._parts.items():
            found[place].append(figures)
        return {} if self._every is None else {place: _parts_together(each) for place, each in found.items()}

    @property
    def lookups_in_slices(self) -> dict[int, LookupFigures]:
        return {} if self._every is None else self._lookups

    def _in_slices(self, found: Mapping[Place, Any]) -> dict[int, Any]:
        return {self._slice(place.start or 0): figures for place, figures in found.items()}

    def _slice(self, start: int) -> int:
        every = self._every or 1
        return start // every - int(self.since // every)


def saved_together(found: Iterable[Saved]) -> Saved:
    """What several saved. What one does not know is left out; what none knows is not known."""
    each = list(found)
    tokens = [one.tokens for one in each if one.tokens is not None]
    usd = [one.usd for one in each if one.usd is not None]
    return Saved(
        applied=sum(one.applied for one in each),
        tokens=sum(tokens) if tokens else None,
        usd=sum(usd, Decimal(0)) if usd else None,
        unpriced=sum(one.unpriced for one in each),
    )


def _parts_together(found: Sequence[PartFigures]) -> PartFigures:
    return PartFigures(
        real=saved_together(each.real for each in found),
        shadow=saved_together(each.shadow for each in found),
        skipped=sum(each.skipped for each in found),
    )


def _looks_together(found: Iterable[CacheReport]) -> CacheReport:
    each = list(found)
    return CacheReport(
        exact=sum(one.exact for one in each),
        semantic=sum(one.semantic for one in each),
        misses=sum(one.misses for one in each),
        bypassed=sum(one.bypassed for one in each),
    )
