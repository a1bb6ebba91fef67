"""From a series to what is to come: the best method by its backtest, or the mean rate where there is too little."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from langchain_tokopt.budget.planning.backtest import backtest, predictions
from langchain_tokopt.budget.planning.forecast import FEWEST_STEPS, Method, MethodError
from langchain_tokopt.budget.planning.interval import UNKNOWN, Spread
from langchain_tokopt.budget.planning.past import Past
from langchain_tokopt.budget.planning.series import Series, Step

# What is longer ago than four weeks of hours or half a year of days says little about now.
_MOST: dict[Step, int] = {"hour": 4 * 168, "day": 26 * 7}
# Of a first step this much is taken to be over at least: one call in its first minute is not a rate.
_LEAST_SEEN = 0.05
# More than this many times what was to be expected by now says no more about the rest of the step.
_SURPRISE = 2.5


@dataclass(frozen=True, slots=True)
class Extrapolated:
    """What each stretch ahead will take, the interval of their sum, and how it was found."""

    rest: tuple[float, ...]
    low: float
    high: float
    method: Method
    errors: tuple[MethodError, ...] = ()
    backtests: int = 0


def extrapolate(series: Series, coverage: float) -> Extrapolated:
    """What is to come. A series without any whole step, in which nothing is spent either, has nothing to go by."""
    values = np.array(series.values[-_MOST[series.step] :], dtype=float)
    if len(values) < FEWEST_STEPS or not values.any():
        return _by_mean_rate(series)
    phases = np.array(series.phases[-len(values) :], dtype=np.int64)
    length = 7 if series.step == "day" else 24
    tried = backtest(values, phases, length, max(1, round(series.left)))
    method = tried.best()
    ahead = np.array([stretch.phase for stretch in series.ahead], dtype=np.int64)
    steps = predictions(Past.of(values, phases, length), ahead)[method]
    rest = [float(whole) * stretch.part for whole, stretch in zip(steps, series.ahead, strict=True)]
    rest[0] = _rest_of_step(series, float(steps[0]))
    spread = Spread.of(
        tried.foretold[method], tried.outcomes, horizon=tried.horizon, asked=series.left, coverage=coverage
    )
    low, high = spread.around(sum(rest), series.left)
    return Extrapolated(tuple(rest), low, high, method, tried.errors(), len(tried.outcomes))


def _rest_of_step(series: Series, whole: float) -> float:
    """What is still to come of the step that is on, if `whole` is what it was thought to take in all.

    When it took more by now than it should have, the rest is more as well: the more of the step is seen, the more
    that is believed (as if its own rate and the noise of the part seen were equally uncertain).
    """
    part, over = series.ahead[0].part, series.over
    seen = min(float(series.current), _SURPRISE * over * whole)
    return max(0.0, part * (whole + (seen - over * whole) / (1 + over)))


def _by_mean_rate(series: Series) -> Extrapolated:
    """As much per step as so far, with the widest interval."""
    rate = (sum(series.values) + series.current) / max(_LEAST_SEEN, len(series.values) + series.over)
    rest = tuple(rate * stretch.part for stretch in series.ahead)
    low, high = Spread(UNKNOWN, 0.0).around(sum(rest), series.left)
    return Extrapolated(rest, low, high, "mean_rate")
