"""Past spending made ready to be extrapolated: single outliers tamed, and the season told from the level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# What is this many times what is usual, and alone, is an outlier; when more than this share is, it is the custom.
_OUTLYING = 2.5
_CUSTOM = 0.08
_SMALL = 0.05


@dataclass(frozen=True, slots=True)
class Past:
    """Values of equal steps, float64 `[n]`, and what is known of them.

    Attributes:
        values: As they were.
        tamed: Without single outliers.
        phases: int64 `[n]`, where each stands in the week.
        length: Steps in a season: 7 days, or 24 hours.
        days: What a weekday takes relative to others, mean about 1; float64 `[7]`. For days that is `index`.
        index: What a step takes relative to the level by its phase, mean about 1; float64 `[7]` or `[168]`.
        level: `tamed` without the season, float64 `[n]`.
    """

    values: Floats
    tamed: Floats
    phases: Ints
    length: int
    days: Floats
    index: Floats
    level: Floats

    @classmethod
    def of(cls, values: Floats, phases: Ints, length: int) -> Past:
        tamed = tame(values, length)
        days, index = season(tamed, phases, length)
        by_phase = index[phases]
        scale = np.where(by_phase > _SMALL, by_phase, np.nan)
        level = _filled(tamed / scale)
        return cls(values, tamed, phases, length, days, index, level)


def tame(values: Floats, length: int) -> Floats:
    """The values with single outliers cut to `_OUTLYING` times what is usual around them and a season away.

    A value beside another such value is none: that is a new level. Where many stick out, that is how it is.
    """
    n = len(values)
    if n < 5:
        return values
    around = np.array([np.median(values[max(0, t - 3) : t + 4]) for t in range(n)])
    away = np.zeros(n)
    lags = [lag for lag in (-2 * length, -length, length, 2 * length) if abs(lag) < n]
    if lags:
        shifted: list[Floats] = []
        for lag in lags:
            moved = np.full(n, np.nan)
            if lag > 0:
                moved[lag:] = values[:-lag]
            else:
                moved[:lag] = values[-lag:]
            shifted.append(moved)
        stacked = np.vstack(shifted)
        known = ~np.isnan(stacked).all(axis=0)
        away[known] = np.nanmedian(stacked[:, known], axis=0)
    fence = _OUTLYING * np.maximum(around, away)
    beside = np.maximum(np.concatenate([[0.0], values[:-1]]), np.concatenate([values[1:], [0.0]]))
    out = (values > fence) & (beside <= fence)
    if out.mean() > _CUSTOM:
        return values
    return np.where(out, fence, values)


def season(values: Floats, phases: Ints, length: int) -> tuple[Floats, Floats]:
    """What each weekday, and each phase, takes relative to the level around it; 1 as far as it may be chance."""
    even = np.ones(len(values))
    if length == 7:
        days = _cycle(values, phases, 7, 7, even)
        return days, days
    hours = _cycle(values, phases % 24, 24, 24, even)
    days = _cycle(values, phases // 24, 7, 168, hours[phases % 24])
    return days, (days[:, None] * hours[None, :]).ravel()


def _cycle(values: Floats, phases: Ints, count: int, window: int, shape: Floats) -> Floats:
    """Index of each of `count` phases, float64 `[count]`; all 1 with less than two windows, or without a difference.

    `shape`: float64 `[n]`, what each step takes relative to others for a reason that is known already.
    """
    n = len(values)
    flat = np.ones(count)
    if n < 2 * window:
        return flat
    # The mean of one window around each value; at the ends of the first and the last whole one.
    sums = np.concatenate([[0.0], np.cumsum(values)])
    begins = np.clip(np.arange(n) - window // 2, 0, n - window)
    level = (sums[begins + window] - sums[begins]) / window * shape
    known = (level > 0) & (shape > _SMALL)
    phases, weight = phases[known], shape[known]
    ratio = values[known] / level[known]
    seen = np.bincount(phases, weights=weight, minlength=count)
    if (seen == 0).any():
        return flat
    means = np.bincount(phases, weights=weight * ratio, minlength=count) / seen
    mean = float((weight * ratio).sum() / weight.sum())
    within = float((weight * (ratio - means[phases]) ** 2).sum()) / max(1, len(ratio) - count)
    between = float((seen * (means - mean) ** 2).sum()) / (count - 1)
    kept = max(0.0, 1.0 - within / between) if between > 0 else 0.0
    index = 1.0 + kept * (means / max(float(means.mean()), 1e-9) - 1.0)
    return np.asarray(np.maximum(index, 0.0), dtype=np.float64)


def _filled(values: Floats) -> Floats:
    """The values with the one before in the place of each NaN; the first known one at the beginning."""
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return np.zeros(len(values))
    before = np.searchsorted(known, np.arange(len(values)), side="right") - 1
    return values[known[np.maximum(before, 0)]]
