"""Between which amounts the outcome will be: the distances of the backtest's own forecasts from what came."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from langchain_tokopt.budget.planning.past import Floats

# A part of the mean outcome that is added to forecast and outcome before they are divided: both may be 0.
SOFTENED = 0.1
# The upper end is at most so many times the forecast. Beyond that it would say no more than that nobody knows.
_MOST = math.log(6.0)
# For when nothing is known but a rate: from a third to three times as much.
UNKNOWN = math.log(3.0)


@dataclass(frozen=True, slots=True)
class Spread:
    """How far an outcome may be off. `width` is a natural logarithm, 0.7 is from half to twice as much; `soft` is what
    is added per step before it applies."""

    width: float
    soft: float

    @classmethod
    def of(cls, foretold: Floats, outcomes: Floats, *, horizon: int, asked: float, coverage: float) -> Spread:
        """The conformal quantile of the distances in the backtest, widened for what they cannot tell.

        That is how few stretches there are that do not overlap (as a t-distribution is wider than a normal one), and
        asking further ahead than they reach. Of the outcomes in `benchmarks/budget_forecast` 89 % are in an interval
        that is to hold 80 %: 82 to 86 % with four weeks of history or more, 77 % where most days have no spending.

        Args:
            foretold: float64 `[k]`, totals that the method foretold.
            outcomes: float64 `[k]`, what came.
            horizon: Over how many steps.
            asked: Over how many steps is asked for now.
            coverage: Such as 0.8.
        """
        k = len(outcomes)
        soft = SOFTENED * float(outcomes.mean()) if k else 0.0
        if soft <= 0:
            return cls(UNKNOWN, 0.0)
        off = np.abs(np.log((outcomes + soft) / (foretold + soft)))
        quantile = float(np.quantile(off, min(1.0, coverage * (k + 1) / k)))
        apart = max(1.0, (k - 1) / horizon + 1)
        few = 1 + 0.4 / apart + 0.5 / apart**2
        return cls(quantile * few * max(1.0, asked / horizon) ** 0.25, soft / horizon)

    def around(self, total: float, steps: float) -> tuple[float, float]:
        """The lowest and the highest outcome around the total of so many steps; not below 0.

        Less than a step is as uncertain as a part of a sum is: by the root of the part.
        """
        if steps <= 0:
            return total, total
        whole = max(1.0, steps)
        middle = total * whole / steps
        soft = self.soft * whole
        part = min(1.0, steps) ** 0.5
        low = total - part * (middle + soft) * (1 - math.exp(-self.width))
        high = total + part * (middle + soft) * (math.exp(min(self.width, _MOST)) - 1)
        return max(0.0, low), high
