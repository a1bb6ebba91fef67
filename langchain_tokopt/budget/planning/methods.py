"""The methods of forecasting: from the past to what each step to come will take. None foretells less than 0."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from langchain_tokopt.budget.planning.forecast import Method
from langchain_tokopt.budget.planning.past import Floats, Ints, Past

Predict = Callable[[Past, Ints], Floats]

_ALPHAS = np.array([0.05, 0.1, 0.2, 0.3, 0.5, 0.8])
_HOLT = np.array(list(product((0.1, 0.2, 0.4, 0.7), (0.02, 0.05, 0.15), (0.9, 0.97))))
# What was before has next to no weight in a smoothed level.
_SMOOTHED_STEPS = {7: 84, 24: 240}
_LINE_STEPS = {7: 42, 24: 24 * 14}
_MEDIAN_STEPS = {7: 42, 24: 24 * 14}
# A slope counts from so many standard errors on.
_SURE = 2.0


def seasonal_naive(past: Past, ahead: Ints) -> Floats:
    """What was spent one season ago, again and again; with less than a season, the last value."""
    n, length = len(past.values), past.length
    if n < length:
        return np.full(len(ahead), past.values[-1])
    return past.values[n - length + np.arange(len(ahead)) % length]


def seasonal_median(past: Past, ahead: Ints) -> Floats:
    """The median of each phase around the trend, times the trend. For hours: of each hour of the day, times weekday."""
    daily = past.length == 7
    line, on = _trend(past, len(ahead), damped=0.95 if daily else 0.995)
    phases = past.phases
    if not daily:
        line, on = line * past.days[phases // 24], on * past.days[ahead // 24]
        phases, ahead = phases % 24, ahead % 24
    keep = slice(-_MEDIAN_STEPS[past.length], None)
    line, values, phases = line[keep], past.tamed[keep], phases[keep]
    ratio = np.divide(values, line, out=np.ones(len(line)), where=line > 0)
    by_phase = np.full(past.length, float(np.median(ratio)))
    for phase in np.unique(phases):
        by_phase[phase] = np.median(ratio[phases == phase])
    fitted = float((by_phase[phases] * line).sum())
    if fitted <= 0:  # most are 0: no median says anything
        return np.asarray(on * float(ratio.mean()))
    # A median is below the mean where amounts are skewed, and sums are made of means.
    return np.asarray(by_phase[ahead] * on * (float(values.sum()) / fitted))


def smoothing(past: Past, ahead: Ints) -> Floats:
    """Simple exponential smoothing of the level, times the season; the weight is the best for one step ahead."""
    level = past.level[-_SMOOTHED_STEPS[past.length] :]
    state = np.full(len(_ALPHAS), level[: past.length].mean())
    errors = np.zeros(len(_ALPHAS))
    for value in level:
        off = value - state
        errors += np.abs(off)
        state = state + _ALPHAS * off
    return _seasoned(past, ahead, np.full(len(ahead), state[int(errors.argmin())]))


def damped_trend(past: Past, ahead: Ints) -> Floats:
    """Holt's linear smoothing with a trend that fades, times the season; weights as in `smoothing`."""
    level = past.level[-_SMOOTHED_STEPS[past.length] :]
    alpha, beta, phi = _HOLT.T
    state = np.full(len(_HOLT), level[: past.length].mean())
    slope = np.zeros(len(_HOLT))
    errors = np.zeros(len(_HOLT))
    for value in level:
        guess = state + phi * slope
        off = value - guess
        errors += np.abs(off)
        state = guess + alpha * off
        slope = phi * slope + alpha * beta * off
    best = int(errors.argmin())
    faded = np.cumsum(phi[best] ** np.arange(1, len(ahead) + 1))
    return _seasoned(past, ahead, state[best] + slope[best] * faded)


def linear(past: Past, ahead: Ints) -> Floats:
    """A straight line through the level, times the season."""
    return _seasoned(past, ahead, _trend(past, len(ahead), damped=1.0)[1])


def moving_average(past: Past, ahead: Ints) -> Floats:
    """The mean level of the last so many steps, times the season; how many is the best for one season ahead."""
    level, length = past.level, past.length
    n = len(level)
    sums = np.concatenate([[0.0], np.cumsum(level)])
    spans = [span for span in (length // 2, length, 2 * length, 4 * length) if span <= n - length] or [min(n, length)]
    best, least = spans[0], np.inf
    for span in spans:
        origins = np.arange(max(spans), n - length + 1)
        before = (sums[origins] - sums[origins - span]) / span
        after = (sums[origins + length] - sums[origins]) / length
        error = float(np.abs(before - after).mean()) if len(origins) else 0.0
        if error < least:
            best, least = span, error
    return _seasoned(past, ahead, np.full(len(ahead), level[-best:].mean()))


METHODS: dict[Method, Predict] = {
    "seasonal_naive": seasonal_naive,
    "seasonal_median": seasonal_median,
    "smoothing": smoothing,
    "damped_trend": damped_trend,
    "linear": linear,
    "moving_average": moving_average,
}


def _seasoned(past: Past, ahead: Ints, level: Floats) -> Floats:
    return np.maximum(0.0, level * past.index[ahead])


def _trend(past: Past, count: int, *, damped: float) -> tuple[Floats, Floats]:
    """A line through the level of the past `[n]` and on `[count]`, after Theil and Sen."""
    level = past.level
    n = len(level)
    start = max(0, n - _LINE_STEPS[past.length])
    thin = level[start:]
    at = np.arange(start, n, dtype=float)
    stride = max(1, len(thin) // 60)
    if stride > 1:
        whole = len(thin) // stride * stride
        thin = thin[-whole:].reshape(-1, stride).mean(axis=1)
        at = at[-whole:].reshape(-1, stride).mean(axis=1)
    slope = _slope(at, thin, past.length)
    middle = float(np.mean(thin - slope * at))
    line = np.maximum(0.0, middle + slope * np.arange(n))
    on = np.arange(1, count + 1) if damped == 1 else np.cumsum(damped ** np.arange(1, count + 1))
    return line, np.maximum(0.0, middle + slope * (n - 1 + on))


def _slope(at: Floats, level: Floats, length: int) -> float:
    """The median of the slopes between values at least a season apart, and as much of it as is not chance.

    What is within two standard errors of 0 counts as no slope at all, and more is pulled towards 0 as smoothly: a
    slope that is none does the more harm the further ahead it is followed. Residuals that follow each other, as after
    a new level, make the error larger.
    """
    n = len(at)
    if n < 4:
        return 0.0
    i, j = np.triu_indices(n, 1)
    far = at[j] - at[i] >= min(length, (at[-1] - at[0]) / 2)
    slope = float(np.median((level[j] - level[i])[far] / (at[j] - at[i])[far]))
    if not slope:
        return 0.0
    residuals = level - slope * at
    residuals -= residuals.mean()
    power = float((residuals**2).sum())
    alike = min(0.9, max(0.0, float((residuals[1:] * residuals[:-1]).sum()) / power)) if power > 0 else 0.0
    variance = power / (n - 2) * (1 + alike) / (1 - alike) / float(((at - at.mean()) ** 2).sum())
    return slope * max(0.0, 1 - _SURE**2 * variance / slope**2)
