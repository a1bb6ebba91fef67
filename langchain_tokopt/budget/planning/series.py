"""What was spent, hour by hour or day by day, by the user's calendar, and which hours or days are to come."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone, tzinfo
from typing import Literal

from langchain_tokopt.budget.periods import Period, period_at
from langchain_tokopt.errors import ConfigurationError

Step = Literal["hour", "day"]

# Up to this far ahead a forecast counts hours, beyond it days.
HOURS_UP_TO_SECONDS = 2 * 86_400
# How many days tell when in a day the money goes, and how many days of an even flow are believed beside them.
_PROFILE_DAYS = 28
_EVEN_DAYS = 2.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """An hour or day to come, or what is left of the one that is on.

    Attributes:
        ends_at: Unix time in seconds.
        phase: Where it stands in the week: the weekday of a day (Monday is 0), the hour of the week of an hour.
        part: How much of a whole hour or day it is, as far as spending goes, 0 to 1.
    """

    ends_at: float
    phase: int
    part: float = 1.0


@dataclass(frozen=True, slots=True)
class Series:
    """Spending at equal steps. Amounts are whole: nano-USD, tokens or calls.

    Attributes:
        step: "hour" or "day", by the user's calendar: a day may have 23 or 25 hours.
        values: What was spent in each step that is over, oldest first.
        phases: Where each of them stands in the week, as in `Stretch`.
        current: What was spent so far in the step that is on.
        over: Which share of that step is over, as far as spending goes, 0 to 1.
        now: Unix time in seconds.
        ahead: What is left of the step that is on, then the steps to come, up to the time that is asked for.
        zone: Whose calendar it is.
    """

    step: Step
    values: tuple[int, ...]
    phases: tuple[int, ...]
    current: int
    over: float
    now: float
    ahead: tuple[Stretch, ...]
    zone: tzinfo = timezone.utc

    def __post_init__(self) -> None:
        if len(self.values) != len(self.phases):
            raise ConfigurationError("phases", self.phases, f"give one for each of the {len(self.values)} values")
        if any(value < 0 for value in (*self.values, self.current)):
            raise ConfigurationError("values", min(*self.values, self.current), "give amounts from 0 up")
        if not self.ahead:
            raise ConfigurationError("ahead", self.ahead, "give at least what is left of the step that is on")

    @classmethod
    def read(
        cls,
        spent: Iterable[tuple[float, int]],
        *,
        piece_seconds: int,
        now: float,
        until: float,
        zone: tzinfo = timezone.utc,
        step: Step | None = None,
    ) -> Series:
        """The series of what was spent, given in short pieces `(start, amount)`.

        What is before the first spending is not counted, as nothing was there yet that could have spent; the step in
        which it came is left out as well when there are others, because it may be cut. How much of a day is over is
        judged by when the money went on other days; where there were few, by the clock.

        Args:
            spent: When each piece began (Unix time in seconds) and what was spent in it, in any order. Pieces that
                begin after `now` are left out.
            piece_seconds: How long each piece is; 900 fits the hours of every time zone.
            now: Unix time in seconds.
            until: The end of the period, Unix time in seconds.
            zone: Whose days and hours.
            step: Hours or days; `None` for hours when `until` is at most two days off, days otherwise.

        Raises:
            ConfigurationError: `until` is before `now`.
        """
        if until < now:
            raise ConfigurationError("until", until, f"give the end of a period that is not over at {now}")
        if step is None:
            step = "hour" if until - now <= HOURS_UP_TO_SECONDS else "day"
        pieces = sorted((start, amount) for start, amount in spent if amount and start <= now)
        steps = _steps(step, min(pieces[0][0], now) if pieces else now, now, zone)
        starts = [period.start for period in steps]
        sums = [0] * len(steps)
        for start, amount in pieces:
            sums[bisect_right(starts, start) - 1] += amount
        cut = 1 if len(steps) > 2 else 0
        flow = _Flow(pieces, piece_seconds, steps, zone)
        return cls(
            step=step,
            values=tuple(sums[cut:-1]),
            phases=tuple(_phase(step, start, zone) for start in starts[cut:-1]),
            current=sums[-1],
            over=flow.over(steps[-1], now),
            now=now,
            ahead=_ahead(step, flow, steps[-1], now, until, zone),
            zone=zone,
        )

    @property
    def left(self) -> float:
        """How many steps are to come, what is left of the one that is on included."""
        return sum(stretch.part for stretch in self.ahead)


def _steps(step: Step, first: float, now: float, zone: tzinfo) -> list[Period]:
    """The steps from that of `first` to that of `now`."""
    steps = [period_at(step, first, zone)]
    while _end(steps[-1]) <= now:
        steps.append(period_at(step, _end(steps[-1]), zone))
    return steps


def _end(step: Period) -> int:
    """The end of an hour or a day, which has one."""
    return step.start if step.end is None else step.end


def _phase(step: Step, start: float, zone: tzinfo) -> int:
    local = datetime.fromtimestamp(start, zone)
    return local.weekday() if step == "day" else 24 * local.weekday() + local.hour


def _ahead(step: Step, flow: _Flow, on: Period, now: float, until: float, zone: tzinfo) -> tuple[Stretch, ...]:
    """What is left of the step that is on, and the steps after it."""
    ahead: list[Stretch] = []
    period = on
    while True:
        ends_at = min(until, float(_end(period)))
        begun = flow.over(period, max(now, period.start))
        part = max(0.0, flow.over(period, ends_at) - begun)
        ahead.append(Stretch(ends_at, _phase(step, period.start, zone), part))
        if _end(period) >= until:
            return tuple(ahead)
        period = period_at(step, _end(period), zone)


class _Flow:
    """When within a step the money goes."""

    def __init__(
        self, pieces: Sequence[tuple[float, int]], piece_seconds: int, steps: Sequence[Period], zone: tzinfo
    ) -> None:
        self._pieces = pieces
        self._piece_seconds = piece_seconds
        self._days = [step for step in steps[1:-1][-_PROFILE_DAYS:] if _end(step) - step.start > 3_600]
        self._zone = zone

    def over(self, step: Period, at: float) -> float:
        """Which share of what the step takes is spent by the time `at`, 0 to 1."""
        even = min(1.0, max(0.0, (at - step.start) / (_end(step) - step.start)))
        if even in (0.0, 1.0) or not self._days:
            return even
        clock = self._clock(at)
        shares = []
        for day in self._days:
            low, high = (bisect_right(self._pieces, (edge, -1)) for edge in (day.start, _end(day)))
            taken = self._pieces[low:high]
            if whole := sum(amount for _, amount in taken):
                early = sum(amount * self._before(start, clock) for start, amount in taken)
                shares.append(early / whole)
        # Each day counts once, so that one dear hour does not decide; the even flow counts as two days.
        return (sum(shares) + _EVEN_DAYS * even) / (len(shares) + _EVEN_DAYS)

    def _before(self, start: float, clock: float) -> float:
        """Which part of a piece is before that time of its day."""
        return min(1.0, max(0.0, (clock - self._clock(start)) / self._piece_seconds))

    def _clock(self, at: float) -> float:
        """The time of the day in seconds since midnight, as a clock on the wall shows it."""
        local = datetime.fromtimestamp(at, self._zone)
        return local.hour * 3600.0 + local.minute * 60.0 + local.second + local.microsecond / 1e6
