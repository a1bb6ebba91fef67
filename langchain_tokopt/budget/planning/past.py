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
        index: What a step takes relative to the level by its phase, mean about 1; float64 `[7]` or `[168]`.
        level: `tamed` without the season, float64 `[n]`.
    """

    values: Floats
    tamed: Floats
    phases: Ints
    length: int
    index: Floats
    level: Floats

    @classmethod
    def of(cls, values: Floats, phases: Ints, length: int) -> Past:
        tamed = tame(values, length)
        index = season(tamed, phases, length)
        by_phase = index[phases]
        scale = np.where(by_phase > _SMALL, by_phase, np.nan)
        level = _filled(tamed / scale)
        return cls(values, tamed, phases, length, index, level)


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
    out = values > fence
    out &= ~(np.concatenate([[False], out[:-1]]) | np.concatenate([out[1:], [False]]))
    if out.mean() > _CUSTOM:
        return values
    return np.where(out, fence, values)


def season(values: Floats, phases: Ints, length: int) -> Floats:
    """What each phase takes relative to the level around it, pulled towards 1 as far as it may be chance."""
    if length == 7:
        return _cycle(values, phases, 7)
    hours = _cycle(values, phases % 24, 24)
    days = np.ones(7)
    if len(values) >= 2 * 168:
        scale = np.where(hours[phases % 24] > _SMALL, hours[phases % 24], np.nan)
        days = _cycle(_filled(values / scale), phases // 24, 7, window=168)
    return (days[:, None] * hours[None, :]).ravel()


def _cycle(values: Floats, phases: Ints, count: int, window: int | None = None) -> Floats:
    """Index of each of `count` phases, float64 `[count]`; all 1 with less than two rounds or without a difference."""
    window = window or count
    n = len(values)
    flat = np.ones(count)
    if n < 2 * window:
        return flat
    # The mean of one round around each value; at the ends the first and the last whole round.
    sums = np.concatenate([[0.0], np.cumsum(values)])
    begins = np.clip(np.arange(n) - window // 2, 0, n - window)
    level = (sums[begins + window] - sums[begins]) / window
    if not level.any():
        return flat
    ratio = np.divide(values, level, out=np.ones(n), where=level > 0)
    seen = np.bincount(phases, minlength=count).astype(float)
    if (seen == 0).any():
        return flat
    means = np.bincount(phases, weights=ratio, minlength=count) / seen
    within = float(((ratio - means[phases]) ** 2).sum()) / max(1.0, n - count)
    between = float((seen * (means - ratio.mean()) ** 2).sum()) / (count - 1)
    kept = max(0.0, 1.0 - within / between) if between > 0 else 0.0
    index = 1.0 + kept * (means / max(means.mean(), 1e-9) - 1.0)
    return np.asarray(np.maximum(index, 0.0), dtype=np.float64)


def _filled(values: Floats) -> Floats:
    """The values with the one before in the place of each NaN; the first known one at the beginning."""
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return np.zeros(len(values))
    before = np.searchsorted(known, np.arange(len(values)), side="right") - 1
    return values[known[np.maximum(before, 0)]]
