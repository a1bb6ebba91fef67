"""How likely an answer is wrong: a logistic regression over the evidence, learned from what was asked and compared.

It ships without trained weights, since scores that were learned in one domain do not carry over to another one. Before
the first label it only knows that similar questions tend to have the same answer, and that other numbers, names and
negations do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from langchain_tokopt.cache.decision.evidence import FEATURES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Weights before the first label, per unit of a feature. They are rough on purpose, and labels soon outweigh them.
_PRIOR: Final[Mapping[str, float]] = {
    "similarity": 20.0,
    "vote": 2.0,
    "numbers_differ": -3.0,
    "negation_differs": -2.0,
    "opposites": -3.0,
    "entities_differ": -2.0,
    "units_differ": -3.0,
    "swapped": -2.0,
}
_PRIOR_BIAS: Final = -19.0  # even odds at similarity 0.85 when all neighbours agree
_STRENGTH: Final = 3.0  # of the prior: as much as three labels that lie one standard deviation out
_FOLDS: Final = 3
_STEPS: Final = 30
_LARGEST_FLOOR: Final = 0.2
_PIECE: Final = 256  # rows: products of more are given to threads by OpenBLAS


@dataclass(frozen=True, slots=True)
class Scorer:
    """A fitted regression and its calibration.

    Attributes:
        mean: Of the features, float64 `[f]`.
        scale: Their standard deviation, float64 `[f]`.
        weights: Intercept and weights of the standardised features, float64 `[f + 1]`.
        folds: The same, fitted without each third of the labels.
        calibration: Shift, log slope and floor (as a logit) of the calibration curve.
    """

    mean: Floats
    scale: Floats
    weights: Floats
    folds: tuple[Floats, ...]
    calibration: tuple[float, float, float]

    def risk(self, features: Floats) -> Floats:
        """Probability that the answer is wrong. `features`: `[n, f]`; returns `[n]`, in (0, 1)."""
        score = self.weights[0] + _times((features - self.mean) / self.scale, self.weights[1:])
        return _calibrated(self.calibration, score)


def unlearned() -> Scorer:
    """The scorer before the first label."""
    mean, scale = np.zeros(len(FEATURES)), np.ones(len(FEATURES))
    return Scorer(mean, scale, _prior_weights(mean, scale), (), (0.0, 0.0, -4.0))


def fit(features: Floats, same: Floats, *, live: int | None = None, start: Scorer | None = None) -> Scorer:
    """A scorer fitted to labels. `features`: `[n, f]`; `same`: `[n]`, 1 where the answer was right.

    `live`: How many of them, the first ones, were really asked; only those calibrate it. Rehearsed ones are of stored
    questions, of which fewer are easy: they teach what matters, and not how often that goes wrong.

    The labels are not weighted by how likely each was to be asked for: that depends on the features alone, so a
    regression on them is not biased by it. Calibration uses scores of labels that the regression has not seen (cross
    fitting), with a floor: some answers are wrong however much speaks for them.

    `start`: An earlier scorer, from which the search begins; while its scale still fits, that is much quicker.
    """
    mean = features.mean(axis=0)
    scale = features.std(axis=0) + 1e-2
    if start is not None and start.folds and _near(start, mean, scale):
        mean, scale = start.mean, start.scale
    else:
        start = None
    prior = _prior_weights(mean, scale)
    design = np.column_stack((np.ones(len(features)), (features - mean) / scale))
    fold = np.arange(len(features)) % _FOLDS
    nothing = np.zeros(design.shape[1])
    unseen = np.zeros(len(features))
    folds = []
    for number in range(_FOLDS):
        held = fold == number
        weights = _regress(design[~held], same[~held], prior, start.folds[number] if start else nothing)
        unseen[held] = _times(design[held], weights)
        folds.append(weights)
    weights = _regress(design, same, prior, start.weights if start else nothing)
    asked = slice(0, live)
    calibration = _calibrate(unseen[asked], 1.0 - same[asked], start.calibration if start else (0.0, 0.0, -4.0))
    return Scorer(mean, scale, weights, tuple(folds), calibration)


def _near(start: Scorer, mean: Floats, scale: Floats) -> bool:
    """Whether features of this mean and scale may be measured by those of `start`."""
    moved = np.abs((mean - start.mean) / start.scale).max()
    return bool(moved < 0.25 and np.abs(np.log(scale / start.scale)).max() < 0.25)


def _prior_weights(mean: Floats, scale: Floats) -> Floats:
    raw = np.array([_PRIOR.get(name, 0.0) for name in FEATURES])
    return np.concatenate(([_PRIOR_BIAS + raw @ mean], raw * scale))


def _sigmoid(score: Floats) -> Floats:
    result: Floats = 1.0 / (1.0 + np.exp(-np.clip(score, -30.0, 30.0)))
    return result


def _regress(design: Floats, target: Floats, prior: Floats, start: Floats) -> Floats:
    """Maximum a posteriori weights under a normal prior around `prior`, by Newton's method with halved steps."""
    strength = np.full(design.shape[1], _STRENGTH)
    strength[0] = 1e-2
    weights = start
    score = _times(design, weights)
    best = _cost(score, target, weights - prior, strength)
    for _ in range(_STEPS):
        expected = _sigmoid(score)
        gradient = np.einsum("nf,n->f", design, expected - target) + strength * (weights - prior)
        curvature = _gram(design, expected * (1.0 - expected) + 1e-9)
        curvature[np.diag_indices_from(curvature)] += strength
        step = np.linalg.solve(curvature, gradient)
        share = 1.0
        while share > 1e-4:
            tried = weights - share * step
            score = _times(design, tried)
            cost = _cost(score, target, tried - prior, strength)
            if cost < best:
                break
            share /= 2.0
        else:
            break
        done = best - cost < 1e-3
        weights, best = tried, cost
        if done:
            break
    return weights


def _cost(score: Floats, target: Floats, off: Floats, strength: Floats) -> float:
    return float((np.logaddexp(0.0, score) - target * score).sum() + 0.5 * (strength * off * off).sum())


# Matrix products for machines whose cores are all busy. The threads of a BLAS wait for each other at every product, and
# a fit makes many: when another process has the core that one of them needs, a fit of 10 ms can take over a second.


def _times(rows: Floats, weights: Floats) -> Floats:
    """`rows @ weights` in this thread."""
    result: Floats = np.einsum("nf,f->n", rows, weights)
    return result


def _gram(rows: Floats, weights: Floats) -> Floats:
    """`rows.T @ diag(weights) @ rows` in this thread: in pieces, which is as quick as at once."""
    total = np.zeros((rows.shape[1], rows.shape[1]))
    for at in range(0, len(rows), _PIECE):
        piece = rows[at : at + _PIECE]
        total += (piece * weights[at : at + _PIECE, None]).T @ piece
    return total


# --- calibration -----------------------------------------------------------------------------------------------------


def _calibrated(curve: tuple[float, float, float], score: Floats) -> Floats:
    shift, slope, floor = curve
    least = _LARGEST_FLOOR * float(_sigmoid(np.array(floor)))
    result: Floats = least + (1.0 - least) * _sigmoid(shift - math.exp(slope) * score)
    return result


def _calibrate(score: Floats, wrong: Floats, start: tuple[float, float, float]) -> tuple[float, float, float]:
    """Platt's calibration (1999) with a floor, as the most probable curve under a prior that changes nothing."""
    centre, spread = np.array([0.0, 0.0, -4.0]), np.array([1.0, 0.5, 1.5])
    curve = np.array(start)
    best = _misfit(curve, score, wrong, centre, spread)
    damping = 1.0
    for _ in range(40):
        gradient, curvature = _slopes(curve, score, wrong, centre, spread)
        step = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), gradient)
        tried = curve - step
        misfit = _misfit(tried, score, wrong, centre, spread)
        if misfit < best:
            done = best - misfit < 1e-4
            curve, best, damping = tried, misfit, damping / 4.0
            if done:
                break
        else:
            damping *= 4.0
            if damping > 1e6:
                break
    return float(curve[0]), float(curve[1]), float(curve[2])


def _misfit(curve: Floats, score: Floats, wrong: Floats, centre: Floats, spread: Floats) -> float:
    if abs(curve[1]) > 5.0 or abs(curve[2]) > 30.0:
        return math.inf
    risk = np.clip(_calibrated((curve[0], curve[1], curve[2]), score), 1e-9, 1.0 - 1e-9)
    likelihood = float((wrong * np.log(risk) + (1.0 - wrong) * np.log1p(-risk)).sum())
    return 0.5 * float((((curve - centre) / spread) ** 2).sum()) - likelihood


def _slopes(curve: Floats, score: Floats, wrong: Floats, centre: Floats, spread: Floats) -> tuple[Floats, Floats]:
    """Gradient, and the curvature in expectation (Fisher's information, which is never negative)."""
    shift, slope, floor = curve
    rising = float(_sigmoid(np.array(floor)))
    least, steep = _LARGEST_FLOOR * rising, math.exp(slope)
    tail = _sigmoid(shift - steep * score)
    risk = np.clip(least + (1.0 - least) * tail, 1e-9, 1.0 - 1e-9)
    bend = (1.0 - least) * tail * (1.0 - tail)
    change = np.column_stack((bend, -bend * steep * score, (1.0 - tail) * least * (1.0 - rising)))
    variance = risk * (1.0 - risk)
    gradient = (curve - centre) / spread**2 - np.einsum("nc,n->c", change, (wrong - risk) / variance)
    curvature = _gram(change, 1.0 / variance) + np.diag(1.0 / spread**2)
    return gradient, curvature
