"""What each child would get if nothing stood in the way: the five strategies, as vessels to fill.

* equal: the same for each.
* proportional: to what each has used, plus a start: weight = use + 0.2 * mean use. A child that has used nothing gets
  a sixth of an equal share, however much the others use.
* priority: to its priority. Twice the priority, twice the share. There are no strict tiers: a child that has to come
  first at any price has a floor.
* performance: to the value of its answers per unit of cost, pulled towards the mean (see `performance`); 10 % of all
  is shared equally, so that nobody is written off for good.
* predictive: what each will need. What is left over is shared in proportion to what each still needs beyond what it
  has used, since that is what the forecast may be wrong about; when there is not enough, that is cut in the same
  proportion for all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from statistics import median

from langchain_tokopt.budget.planning.children import Child, Strategy
from langchain_tokopt.budget.planning.filling import Vessel

START = 0.2
EXPLORED = 0.1


def vessels(
    children: Sequence[Child], total: int, lowers: Sequence[int], uppers: Sequence[int | None], strategy: Strategy
) -> list[Vessel]:
    """The children as vessels between their bounds."""
    bases = [0] * len(children)
    if strategy == "predictive":
        needs = foreseen(children)
        bounded = [_within(need, lower, upper) for need, lower, upper in zip(needs, lowers, uppers, strict=True)]
        weights = [float(need - child.used) for need, child in zip(needs, children, strict=True)]
        bases = needs if sum(bounded) <= total else [child.used for child in children]
    elif strategy == "proportional":
        weights = start_weights([_use(child) for child in children])
    elif strategy == "priority":
        weights = [child.priority for child in children]
    elif strategy == "performance":
        weights = performance_weights(children)
    else:
        weights = [1.0] * len(children)
    if not any(weights):
        weights = [1.0] * len(children)
    return [
        Vessel(child.name, base, Fraction(weight), lower, upper)
        for child, base, weight, lower, upper in zip(children, bases, weights, lowers, uppers, strict=True)
    ]


def _use(child: Child) -> int:
    return child.used if child.recent is None else child.recent


def _within(amount: int, lower: int, upper: int | None) -> int:
    amount = max(amount, lower)
    return amount if upper is None else min(amount, upper)


def start_weights(uses: Sequence[int]) -> list[float]:
    """Weights in proportion to use, with a start for those that have used nothing."""
    start = START * sum(uses) / max(1, len(uses))
    return [use + start for use in uses]


def foreseen(children: Sequence[Child]) -> list[int]:
    """What each will have used by the end of the period. Of whom nothing is known, the median of the others."""
    known = [max(child.forecast, child.used) for child in children if child.forecast is not None]
    usual = int(median(known)) if known else 0
    return [max(usual if child.forecast is None else child.forecast, child.used) for child in children]


def performance(children: Sequence[Child]) -> list[float | None]:
    """Value per unit of cost of each child, after what little feedback says is pulled towards the mean of all.

    Empirical Bayes: the mean value of n answers counts as n / (n + k) of the estimate and the mean of all children as
    the rest, where k is the variance within children divided by the variance between them, both as the feedback
    itself shows them. So one lucky answer moves little, and where children do not differ by more than chance they are
    the same. Cost per answer is pulled in the same way. Not below 0; `None` for all when there is no feedback.
    """
    rated = [child for child in children if child.values]
    if not rated:
        return [None] * len(children)
    counts = [len(child.values) for child in rated]
    answers = sum(counts)
    means = [math.fsum(child.values) / len(child.values) for child in rated]
    mean = math.fsum(value for child in rated for value in child.values) / answers
    pull = _pull(rated, means, counts, mean)
    costs = math.fsum(child.cost for child in rated)
    usual = costs / answers if costs else 1.0
    found: list[float | None] = []
    for child in children:
        count = len(child.values)
        believed = count / (count + pull) if count else 0.0
        worth = believed * (math.fsum(child.values) / count if count else 0.0) + (1 - believed) * mean
        # As if `MATCHED` more answers had cost what is usual.
        cost = (child.cost + MATCHED * usual) / (count + MATCHED) if count and child.cost else usual
        found.append(max(0.0, worth) / cost)
    return found


MATCHED = 5


def _pull(rated: Sequence[Child], means: Sequence[float], counts: Sequence[int], mean: float) -> float:
    """How many answers the mean of all counts for: variance within over variance between (DerSimonian and Laird)."""
    answers, spare = sum(counts), sum(counts) - len(rated)
    if len(rated) < 2:
        return float(MATCHED)
    squares = ((value - own) ** 2 for child, own in zip(rated, means, strict=True) for value in child.values)
    # One more answer of each child's, as far off as all answers are from the mean: few answers that agree prove little.
    overall = math.fsum((value - mean) ** 2 for child in rated for value in child.values) / answers
    within = (math.fsum(squares) + len(rated) * overall) / max(1, spare + len(rated))
    if not within:
        return 0.0
    spread = math.fsum(count * (own - mean) ** 2 for own, count in zip(means, counts, strict=True))
    scale = answers - math.fsum(count**2 for count in counts) / answers
    between = (spread - (len(rated) - 1) * within) / scale
    return within / between if between > 0 else math.inf


def performance_weights(children: Sequence[Child]) -> list[float]:
    """Weights in proportion to performance, a tenth of them equal."""
    worth = [found or 0.0 for found in performance(children)]
    whole = math.fsum(worth)
    if not whole:
        return [1.0] * len(children)
    return [(1 - EXPLORED) * own / whole + EXPLORED / len(children) for own in worth]
