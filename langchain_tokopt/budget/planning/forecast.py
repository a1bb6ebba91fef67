"""Spending until the end of a period, with an interval, and when a limit runs out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timezone, tzinfo
from itertools import accumulate
from typing import Literal

from langchain_tokopt.budget.amounts import Unit
from langchain_tokopt.budget.planning.saying import amount, moment, share
from langchain_tokopt.budget.planning.series import Series, Step
from langchain_tokopt.errors import ConfigurationError

Method = Literal[
    "seasonal_naive",
    "seasonal_median",
    "smoothing",
    "damped_trend",
    "linear",
    "moving_average",
    "combined",
    "mean_rate",
]

# With fewer steps than this no method can be tried on what came, and with fewer tries none is chosen by them.
FEWEST_STEPS = 4
FEWEST_BACKTESTS = 8

_IN_WORDS: dict[Method, str] = {
    "seasonal_naive": "the same as a season ago (seasonal-naive)",
    "seasonal_median": "seasonal medians and trend",
    "smoothing": "exponential smoothing",
    "damped_trend": "exponential smoothing with a damped trend",
    "linear": "a straight line",
    "moving_average": "a moving average",
    "combined": "the mean of all methods",
    "mean_rate": "the mean rate",
}


@dataclass(frozen=True, slots=True)
class MethodError:
    """How far off a method was in the backtest.

    Attributes:
        method: Its name.
        error: The mean distance between forecast and outcome over the same stretch as is asked for now, as a share of
            the mean outcome: 0.1 is off by 10 %. `None` where nothing was spent in all of them.
        bias: The same with its sign: above 0 it foretold too much.
    """

    method: Method
    error: float | None
    bias: float | None


@dataclass(frozen=True, slots=True)
class Point:
    """What will have been spent in the period by a time (Unix time in seconds), and between which amounts."""

    at: float
    expected: int
    low: int
    high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What will have been spent by the end of a period. Amounts are whole: nano-USD, tokens or calls.

    Attributes:
        expected: In all by the end of the period, what is spent already included.
        low: With the chance `coverage` the outcome is from here
        high: to here.
        coverage: Such as 0.8.
        spent: So far in the period.
        limit: What it is held against, `None` for no limit.
        runs_out_at: When `spent` will reach the limit, Unix time; `None` when it will not within the period. A limit
            that is reached already ran out now.
        runs_out_earliest: The earliest that is plausible: the same on the way to `high`.
        ends_at: The end of the period, Unix time.
        path: The way there, one point for the end of each hour or day; the last is the end of the period.
        method: What the forecast was made with: "combined", the mean of all, unless another was clearly better in
            the backtest; "mean_rate" where there is too little to try a method on, or nothing but zeros.
        errors: Every method that was tried, best first; "seasonal_naive" is the one to beat.
        backtests: How many earlier moments it was tried at. They overlap.
        steps: How many whole hours or days were seen.
        step: What was counted.
        unit: What amounts are counted in.
        zone: The time zone for `explain`.
    """

    expected: int
    low: int
    high: int
    coverage: float
    spent: int
    limit: int | None
    runs_out_at: float | None
    runs_out_earliest: float | None
    ends_at: float
    path: tuple[Point, ...]
    method: Method
    errors: tuple[MethodError, ...]
    backtests: int
    steps: int
    step: Step
    unit: Unit = "usd"
    zone: tzinfo = timezone.utc

    @property
    def beats_naive(self) -> bool | None:
        """Whether the method was closer in the backtest than seasonal-naive; `None` when there was none."""
        errors = {error.method: error.error for error in self.errors}
        mine, naive = errors.get(self.method), errors.get("seasonal_naive")
        return None if mine is None or naive is None else mine < naive

    def __str__(self) -> str:
        return self.explain()

    def explain(self) -> str:
        """The forecast in plain words: how much, whether the limit holds, how it was made, how far off it was."""
        expected, low, high, spent = (
            amount(whole, self.unit) for whole in (self.expected, self.low, self.high, self.spent)
        )
        ends = moment(self.ends_at, self.zone)
        chance = f"between {low} and {high} with a chance of {share(self.coverage)}"
        said = [f"About {expected} by {ends}, {chance}; {spent} spent so far."]
        if self.limit is not None:
            said.append(self._limit(amount(self.limit, self.unit)))
        seen = f"{self.steps} {self.step}{'' if self.steps == 1 else 's'}"
        if self.steps < FEWEST_STEPS:
            return " ".join([*said, f"This is a rough guess: {seen} and what is spent since are too little to go by."])
        if self.method == "mean_rate":
            return " ".join([*said, f"Nothing was spent in the {seen} before."])
        errors = {error.method: error.error for error in self.errors}
        mine, naive = errors[self.method], errors["seasonal_naive"]
        how = f"By {_IN_WORDS[self.method]} over {seen}"
        if mine is not None and naive is not None:
            tries = f"{self.backtests} backtest{'' if self.backtests == 1 else 's'}"
            how += f", off by {share(mine)} on average in {tries}"
            if self.method != "seasonal_naive":
                how += f" (seasonal-naive: {share(naive)})"
            if self.backtests < FEWEST_BACKTESTS:
                how += "; so few tell little"
        return " ".join([*said, f"{how}."])

    def _limit(self, limit: str) -> str:
        if self.limit is not None and self.spent >= self.limit:
            return f"The limit of {limit} is used up."
        early = None if self.runs_out_earliest is None else moment(self.runs_out_earliest, self.zone)
        if self.runs_out_at is not None:
            when = moment(self.runs_out_at, self.zone)
            sooner = "" if early in (None, when) else f", perhaps on {early} already"
            return f"The limit of {limit} runs out about {when}{sooner}."
        if early is not None:
            return f"The limit of {limit} should last, but may run out from {early} on."
        return f"The limit of {limit} lasts."


def forecast(
    series: Series,
    *,
    spent: int,
    limit: int | None = None,
    unit: Unit = "usd",
    coverage: float = 0.8,
) -> Forecast | None:
    """What will have been spent by the end of `series.ahead`; `None` when nothing was spent yet and none is over.

    Args:
        series: What was spent so far; see `Series.read`.
        spent: What is spent in the period so far, in whole nano-USD, tokens or calls.
        limit: What it is held against, `None` for no limit.
        unit: What amounts are counted in.
        coverage: With which chance the outcome is to be in the interval, from 0.5 to 0.99.

    Raises:
        ConfigurationError: `coverage` or an amount is out of its range.
    """
    from langchain_tokopt.budget.planning.extrapolation import extrapolate  # numpy, which an import should not wait for

    if not 0.5 <= coverage <= 0.99:
        raise ConfigurationError("coverage", coverage, "give a share from 0.5 to 0.99, such as 0.8")
    for argument, given in (("spent", spent), ("limit", limit)):
        if given is not None and given < 0:
            raise ConfigurationError(argument, given, "give a whole amount from 0 up")
    if not series.values and not series.current:
        return None
    found = extrapolate(series, coverage)
    expected = list(accumulate(found.rest))
    low, high = (_towards(series, expected, end) for end in (found.low, found.high))
    path = tuple(
        Point(stretch.ends_at, spent + round(middle), spent + math.floor(least), spent + math.ceil(most))
        for stretch, middle, least, most in zip(series.ahead, expected, low, high, strict=True)
    )
    return Forecast(
        expected=path[-1].expected,
        low=path[-1].low,
        high=path[-1].high,
        coverage=coverage,
        spent=spent,
        limit=limit,
        runs_out_at=_reached(series, expected, spent, limit),
        runs_out_earliest=_reached(series, high, spent, limit),
        ends_at=path[-1].at,
        path=path,
        method=found.method,
        errors=found.errors,
        backtests=found.backtests,
        steps=len(series.values),
        step=series.step,
        unit=unit,
        zone=series.zone,
    )


def _towards(series: Series, path: list[float], end: float) -> list[float]:
    """The path to an end of the interval, from 0 and never falling.

    What a sum is off by grows as a root: early on it is more than its share of the whole.
    """
    whole = path[-1]
    parts = path if whole > 0 else list(accumulate(stretch.part for stretch in series.ahead))
    if parts[-1] <= 0:
        return path
    way = (at + (end - whole) * math.sqrt(part / parts[-1]) for at, part in zip(path, parts, strict=True))
    return [min(at, end) for at in accumulate(way, max, initial=0.0)][1:]


def _reached(series: Series, path: list[float], spent: int, limit: int | None) -> float | None:
    """When the path reaches what is left of the limit."""
    if limit is None:
        return None
    left = limit - spent
    if left <= 0:
        return series.now
    begun, before = series.now, 0.0
    for stretch, at in zip(series.ahead, path, strict=True):
        if at >= left:
            return begun + (stretch.ends_at - begun) * (left - before) / (at - before)
        begun, before = stretch.ends_at, at
    return None
