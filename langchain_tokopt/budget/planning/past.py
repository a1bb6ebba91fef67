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
# How much of a difference is believed that was seen but once: weekends differ, and so does chance.
_ONE_ROUND = 0.6


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
    around = _around(values)
    lags = [lag for lag in (-2 * length, -length, length, 2 * length) if abs(lag) < n]
    away = np.zeros(n)
    if lags:
        beside_by_season = np.full((len(lags), n), np.nan)
        for row, lag in zip(beside_by_season, lags, strict=True):
            row[max(0, lag) : n + min(0, lag)] = values[max(0, -lag) : n - max(0, lag)]
        known = ~np.isnan(beside_by_season).all(axis=0)
        away[known] = _median_of_known(beside_by_season[:, known])
    fence = _OUTLYING * np.maximum(around, away)
    beside = np.maximum(np.concatenate([[0.0], values[:-1]]), np.concatenate([values[1:], [0.0]]))
    out = (values > fence) & (beside <= fence)
    if out.mean() > _CUSTOM:
        return values
    return np.where(out, fence, values)


def _median_of_known(rows: Floats) -> Floats:
    """The median of each column without its NaN, where `np.nanmedian` takes ten times as long."""
    ordered = np.sort(rows, axis=0)  # NaN last
    count = (~np.isnan(rows)).sum(axis=0)
    columns = np.arange(rows.shape[1])
    return np.asarray((ordered[(count - 1) // 2, columns] + ordered[count // 2, columns]) / 2)


def _around(values: Floats) -> Floats:
    """The median of each value and the three on either side, as far as there are."""
    n = len(values)
    found = np.empty(n)
    if n >= 7:
        found[3:-3] = np.median(np.lib.stride_tricks.sliding_window_view(values, 7), axis=1)
    for at in {*range(min(3, n)), *range(max(0, n - 3), n)}:
        found[at] = np.median(values[max(0, at - 3) : at + 4])
    return found


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
    """Index of each of `count` phases, float64 `[count]`; all 1 with less than one window, or without a difference.

    With two windows or more a difference counts as far as it is more than chance, as the spread within the phases
    shows; with one, nothing shows that, and `_ONE_ROUND` of it counts.

    `shape`: float64 `[n]`, what each step takes relative to others for a reason that is known already.
    """
    n = len(values)
    flat = np.ones(count)
    if n < window:
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
    if n < 2 * window:
        kept = _ONE_ROUND
    index = 1.0 + kept * (means / max(float(means.mean()), 1e-9) - 1.0)
    return np.asarray(np.maximum(index, 0.0), dtype=np.float64)


def _filled(values: Floats) -> Floats:
    """The values with the one before in the place of each NaN; the first known one at the beginning."""
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return np.zeros(len(values))
    before = np.searchsorted(known, np.arange(len(values)), side="right") - 1
    return values[known[np.maximum(before, 0)]]
