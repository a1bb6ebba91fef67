"""How far off each method would have been: forecasts from earlier moments over the same stretch, against what came."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from langchain_tokopt.budget.planning.forecast import FEWEST_BACKTESTS, Method, MethodError
from langchain_tokopt.budget.planning.interval import SOFTENED
from langchain_tokopt.budget.planning.methods import METHODS
from langchain_tokopt.budget.planning.past import Floats, Ints, Past

_ORIGINS = 24
_COMBINED: tuple[Method, ...] = tuple(name for name in METHODS if name != "seasonal_naive")
# What is used unless another method was off by less than this share of its distance, in enough tries: the best of
# several in a few tries that overlap is often the luckiest, and the mean of all is seldom far from the best.
_USUAL: Method = "combined"
_BETTER = 0.75


def predictions(past: Past, ahead: Ints) -> dict[Method, Floats]:
    """What each method says of each step to come, and the mean of all but seasonal-naive."""
    found = {name: predict(past, ahead) for name, predict in METHODS.items()}
    found["combined"] = np.mean([found[name] for name in _COMBINED], axis=0)
    return found


@dataclass(frozen=True, slots=True)
class Backtest:
    """Forecasts of totals from `[origins]` earlier moments, oldest first.

    Attributes:
        horizon: Over how many steps; fewer than was asked for when the past is short.
        foretold: By method, float64 `[origins]`.
        outcomes: float64 `[origins]`.
    """

    horizon: int
    foretold: dict[Method, Floats]
    outcomes: Floats

    def best(self) -> Method:
        """The method to use. Distances are logarithms here, so that one outcome beyond all reason decides little."""
        soft = SOFTENED * float(self.outcomes.mean())
        if soft <= 0 or len(self.outcomes) < FEWEST_BACKTESTS:
            return _USUAL
        off = {
            name: float(np.abs(np.log((totals + soft) / (self.outcomes + soft))).mean())
            for name, totals in self.foretold.items()
        }
        least = min(off, key=lambda name: off[name])
        return least if off[least] < _BETTER * off[_USUAL] else _USUAL

    def errors(self) -> tuple[MethodError, ...]:
        """The error and bias of every method, the best first."""
        mean = float(self.outcomes.mean())
        found = []
        for name, totals in self.foretold.items():
            off = totals - self.outcomes
            known = mean > 0
            error = float(np.abs(off).mean()) / mean if known else None
            found.append(MethodError(name, error, float(off.mean()) / mean if known else None))
        return tuple(sorted(found, key=lambda one: (one.error is None, one.error or 0.0)))


def backtest(values: Floats, phases: Ints, length: int, horizon: int) -> Backtest:
    """Every method from up to 24 earlier moments; at least 4 values. A method sees only what was before its moment."""
    n = len(values)
    least = min(length, max(3, n // 2))
    horizon = max(1, min(horizon, (n - least) * 2 // 3))
    last = n - horizon
    origins = np.unique(np.linspace(least, last, min(_ORIGINS, last - least + 1)).round().astype(int))
    foretold: dict[Method, list[float]] = {name: [] for name in (*METHODS, "combined")}
    outcomes = []
    for origin in origins:
        past = Past.of(values[:origin], phases[:origin], length)
        for name, steps in predictions(past, phases[origin : origin + horizon]).items():
            foretold[name].append(float(steps.sum()))
        outcomes.append(float(values[origin : origin + horizon].sum()))
    return Backtest(horizon, {name: np.array(totals) for name, totals in foretold.items()}, np.array(outcomes))
