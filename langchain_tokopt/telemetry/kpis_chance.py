"""What chance can do to a figure: intervals, and whether two figures differ by more than that.

Everything is at 95 %. A rate of things that were counted has Wilson's interval. A share of tokens and a mean price are
ratios of sums whose single items hang together, so that these are judged by how much they vary between the slices of
their window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_Z: Final = 1.959964

# Fewer slices say too little about how much a figure varies.
FEWEST_SLICES: Final = 6


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of two sums, and its standard error with the slices that it is from; `None` of too few slices."""

    value: float
    error: float | None
    slices: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """From where to where, at 95 %."""
        if self.error is None:
            return None
        reach = student(self.slices - 1) * self.error
        return self.value - reach, self.value + reach


def wilson(hits: float, count: float) -> tuple[float, float]:
    """Wilson's interval (1927) of `hits` out of `count`; (0, 1) if nothing was counted."""
    if count <= 0:
        return 0.0, 1.0
    share, square = min(1.0, hits / count), _Z * _Z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _Z / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    # Exactly 0 and 1: rounding leaves a speck otherwise.
    return max(0.0, middle - half) if hits > 0 else 0.0, min(1.0, middle + half) if hits < count else 1.0


def rates_differ(hits: int, count: int, hits_before: int, count_before: int) -> bool | None:
    """Whether two rates differ by more than chance: Newcombe's interval of the difference (1998) leaves out 0."""
    if not count or not count_before:
        return None
    now, before = hits / count, hits_before / count_before
    low, high = wilson(hits, count)
    low_before, high_before = wilson(hits_before, count_before)
    least = now - before - math.hypot(now - low, high_before - before)
    most = now - before + math.hypot(high - now, before - low_before)
    return least > 0 or most < 0


def ratio(parts: Sequence[tuple[float, float]]) -> Ratio | None:
    """The sum of the first of each pair by the sum of the second; `None` when that is 0.

    The error is that of a ratio estimate from clusters (Cochran, Sampling Techniques, 1977, section 6.4), one slice
    being one cluster.
    """
    pairs = [(top, bottom) for top, bottom in parts if top or bottom]
    whole = sum(bottom for _, bottom in pairs)
    if not whole:
        return None
    value = sum(top for top, _ in pairs) / whole
    count = len(pairs)
    if count < FEWEST_SLICES:
        return Ratio(value, None, count)
    off = sum((top - value * bottom) ** 2 for top, bottom in pairs)
    return Ratio(value, math.sqrt(count / (count - 1) * off) / abs(whole), count)


def ratios_differ(now: Ratio, before: Ratio) -> bool | None:
    """Whether two ratios differ by more than chance; `None` when one of them has too few slices."""
    if now.error is None or before.error is None:
        return None
    error = math.hypot(now.error, before.error)
    return abs(now.value - before.value) > student(min(now.slices, before.slices) - 1) * error


def totals_differ(now: Mapping[int, float], before: Mapping[int, float]) -> bool | None:
    """Whether two totals differ by more than chance: a paired t-test of slices that stand at the same place.

    A day is so compared with the day before hour by hour, and what each day has at its hours does not blur it.
    """
    apart = [now.get(place, 0.0) - before.get(place, 0.0) for place in {**now, **before}]
    count = len(apart)
    if count < FEWEST_SLICES:
        return None
    mean = sum(apart) / count
    spread = math.sqrt(sum((each - mean) ** 2 for each in apart) / (count - 1) / count)
    return abs(mean) > student(count - 1) * spread


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t; from 5 degrees on it is exact to 0.2 % (Abramowitz and Stegun 26.7.5)."""
    z, n = _Z, freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )
