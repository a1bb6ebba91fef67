"""How much risk may be taken: the sums that the decision keeps, and the limit that follows from them.

The share of wrong answers cannot be seen, only estimated. Every given answer adds its estimated risk. Audits, drawn by
lot, tell how true these estimates are, and correct them by a factor. From what was spent so, and what is allowed by
now, follows how much risk the next requests may take on average; and from the risks of recent requests, up to which
risk each may be served. Serving by a limit on the single risk gives the most hits for a given sum of risks.

A bound on a share that shall hold at any time must leave room for chance: of n answers, each wrong with probability p,
about p n +- sqrt(p n) are wrong. So what is allowed after n requests is `max_error * n` less one such deviation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

HORIZON: Final = 1_000.0  # requests over which what was spent too much or too little is made up for
_DEVIATIONS: Final = 1.15  # of chance that are left as room
_UPPER_Z: Final = 1.2816  # 90 % of a normal distribution: the factor is taken at this upper bound
_SURELY_Z: Final = 1.2816  # the same for its lower bound without assumptions
_PRIOR_WRONG: Final = 3.0  # strength of "the estimates are right", in wrong answers seen
_LEAST_FACTOR: Final = 0.5  # a lucky run of audits must not open the gate, which would make the next run unlucky
_STEEPEST: Final = 1.5  # times max_error: the most that requests may take on average, whatever was saved before
_RISKIEST: Final = 8.0  # times max_error: no single answer is given that is more likely wrong than that


@dataclass(frozen=True, slots=True)
class Sums:
    """What was counted; sums of two processes add up.

    Attributes:
        requests: Looks into the cache.
        proposals: Requests that had a neighbour near enough to be considered.
        served: Answers given to similar questions.
        pending_risk: Sum of the risks of those that were not audited.
        known_wrong: Given answers that turned out to be wrong.
        audits: Audits with a result.
        weight: Sum of the audits' weights (1 / probability of being drawn).
        weight_squared: Sum of their squares.
        weight_wrong: Sum of the weights of audits that found a wrong answer.
        twins: Pairs of answers to one and the same question that were judged.
        twins_apart: Those that were judged to differ: errors of the judge.
        strangers: Pairs of answers to unrelated questions that were judged.
        strangers_alike: Those that were judged to be the same.
    """

    requests: float = 0.0
    proposals: float = 0.0
    served: float = 0.0
    pending_risk: float = 0.0
    known_wrong: float = 0.0
    audits: float = 0.0
    weight: float = 0.0
    weight_squared: float = 0.0
    weight_wrong: float = 0.0
    twins: float = 0.0
    twins_apart: float = 0.0
    strangers: float = 0.0
    strangers_alike: float = 0.0

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def halved(self) -> Sums:
        """Half of everything."""
        return Sums(*(getattr(self, field.name) / 2 for field in fields(self)))

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True)
class Noise:
    """How often the judge errs. `apart`: calls the same answer different; `alike`: calls different ones the same."""

    apart: float = 0.0
    alike: float = 0.0

    def true_share(self, seen: Floats) -> Floats:
        """Shares of different answers, corrected for the judge's errors (Rogan and Gladen 1978)."""
        result: Floats = np.clip((seen - self.apart) / (1.0 - self.apart - self.alike), 0.0, 1.0)
        return result


def noise(sums: Sums) -> Noise:
    """The judge's errors, taken at the bound that trusts the cache less.

    `apart` is how much of the seen error is put down to the judge, so it is taken low; `alike` hides errors, so it is
    taken as it was seen.
    """
    low, _ = wilson(sums.twins_apart, sums.twins) if sums.twins else (0.0, 1.0)
    alike = sums.strangers_alike / sums.strangers if sums.strangers else 0.0
    return Noise(min(low, 0.3), min(alike, 0.3))


@dataclass(frozen=True, slots=True)
class Correction:
    """The factor between estimated and true risk, as audits tell it: its mean and its upper bound."""

    mean: float
    upper: float


def correction(expected: float, wrong: float) -> Correction:
    """From audits that were expected to find `expected` wrong answers and found `wrong`.

    A Gamma posterior of a Poisson rate, around 1 before the first audit; its quantile by Wilson and Hilferty (1931).
    """
    shape, rate = wrong + _PRIOR_WRONG, expected + _PRIOR_WRONG
    cube = 1.0 - 1.0 / (9.0 * shape) + _UPPER_Z / (3.0 * math.sqrt(shape))
    return Correction(shape / rate, max(_LEAST_FACTOR, shape * cube**3 / rate))


def surely(risks: Floats, weights: Floats, wrong: Floats, judge: Noise) -> float:
    """The factor that audits prove: its lower bound, at 90 %, if nothing but the lot is believed.

    `correction` takes every audit for as good as another one. That is so while the estimates are wrong by one factor;
    when the meaning of questions changes, it is the surest answers that go wrong, and these are audited least. Weighted
    by how rarely they are drawn, audits tell of the whole whatever the estimates are worth, only less exactly.

    `risks`: as estimated, `[n]`; `weights`: 1 / the probability of being drawn, `[n]`; `wrong`: 1 where the answer was
    judged to be wrong, `[n]`.
    """
    found = weights * wrong
    if not found.any():
        return 0.0
    effective = float(found.sum() ** 2 / (found**2).sum())  # wrong answers of equal weight that would tell as much
    cube = max(0.0, 1.0 - 1.0 / (9.0 * effective) - _SURELY_Z / (3.0 * math.sqrt(effective)))
    share = float(judge.true_share(np.array([found.sum() / weights.sum()]))[0]) * cube**3
    return share * float(weights.sum()) / max(float((weights * risks).sum()), 1e-9)


def wrong_so_far(sums: Sums, factor: float, judge: Noise) -> float:
    """How many wrong answers were given, as far as is known: those found, and the risk of the others.

    A judge that calls right answers wrong finds some in every audit, however good the answers are; these are left out.
    """
    found = (sums.known_wrong - judge.apart * sums.audits) / (1.0 - judge.apart - judge.alike)
    return max(0.0, found) + factor * sums.pending_risk


def affordable(sums: Sums, max_error: float, factor: float, judge: Noise) -> float:
    """The risk that a request may take on average over the next `HORIZON` requests, in [0, 1.5 max_error]."""
    allowed = max_error * (sums.requests + HORIZON)
    allowed -= _DEVIATIONS * math.sqrt(allowed)
    spare = (allowed - wrong_so_far(sums, factor, judge)) / HORIZON
    return min(max(spare, 0.0), _STEEPEST * max_error)


def limit(risks: Floats, weights: Floats, *, share: float, factor: float, afford: float, max_error: float) -> float:
    """The largest risk up to which requests may be served, at most 8 `max_error`; 0 for none.

    `risks`: of recent proposals, `[n]`; `weights`: how many proposals each stands for, `[n]`. `share`: of the requests
    that have a proposal at all.
    """
    if not len(risks):
        return 0.0
    order = np.argsort(risks)
    rising = risks[order]
    taken = np.cumsum(rising * weights[order]) * (factor * share / float(weights.sum()))
    place = int(np.searchsorted(taken, afford, side="right"))
    if place < len(rising):  # those of equal risk are served all or none
        place = int(np.searchsorted(rising, rising[place], side="left"))
    return min(float(rising[place - 1]), _RISKIEST * max_error / factor) if place else 0.0


# --- intervals -------------------------------------------------------------------------------------------------------


def wilson(hits: float, count: float, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval (1927) of a share, 95 % by default; (0, 1) if nothing was counted."""
    if count <= 0:
        return 0.0, 1.0
    share = min(1.0, hits / count)
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    low = max(0.0, middle - half) if hits > 0 else 0.0  # exactly: rounding leaves a speck otherwise
    return low, min(1.0, middle + half)


@dataclass(frozen=True, slots=True)
class Share:
    """An estimated share with its 95 % interval; all `None` where nothing is known."""

    value: float | None
    low: float | None
    high: float | None


def audited_error(sums: Sums) -> Share:
    """Wrong answers as a share of all requests, from the audits alone: nothing that was learned goes into it.

    Audits are weighted by how rarely they were drawn. The interval is Wilson's for the effective number of audits
    (Kish 1965), corrected for the judge's errors.
    """
    if not sums.audits or not sums.requests:
        return Share(None, None, None) if sums.served else Share(0.0, 0.0, 0.0) if sums.requests else _UNKNOWN
    effective = sums.weight**2 / sums.weight_squared
    seen = sums.weight_wrong / sums.weight
    low, high = wilson(seen * effective, effective)
    judged = noise(sums).true_share(np.array([seen, low, high])) * (sums.served / sums.requests)
    return Share(*(float(value) for value in judged))


_UNKNOWN: Final = Share(None, None, None)
