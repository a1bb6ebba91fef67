"""How sure a share, a sum or a comparison is."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from langchain_tokopt.telemetry.recommend_evidence import Arm, Sample

_Z: Final = 1.96
# A group of runs that is compared has at least so many.
FEWEST_RUNS: Final = 30


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson's interval (1927) of a share, 95 %; (0, 1) if nothing was counted."""
    if count <= 0:
        return 0.0, 1.0
    share, z2 = hits / count, _Z * _Z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    # Exactly at the ends: rounding leaves a speck otherwise.
    return max(0.0, middle - half) if hits else 0.0, min(1.0, middle + half) if hits < count else 1.0


def sum_interval(sample: Sample) -> tuple[int, int]:
    """Where the sum of so many amounts would be, 95 %, if as many more of the same kind were drawn. Nano-USD."""
    half = _Z * math.sqrt(sample.count * _variance(sample))
    return round(sample.total - half), round(sample.total + half)


def difference(arms: Sequence[Arm], one: str, other: str) -> tuple[float, float, int] | None:
    """The interval (95 %) of how much dearer a run of variant `one` is than one of `other`, in nano-USD, and its runs.

    Runs are compared within an agent only, and agents weighted by their runs (Welch's variances). `None` when no agent
    has at least `FEWEST_RUNS` of both.
    """
    by_agent: dict[str | None, dict[str, Sample]] = defaultdict(dict)
    for arm in arms:
        by_agent[arm.agent][arm.variant] = arm.cost
    pairs = [
        (found[one], found[other])
        for found in by_agent.values()
        if one in found and other in found and min(found[one].count, found[other].count) >= FEWEST_RUNS
    ]
    if not pairs:
        return None
    runs = sum(a.count + b.count for a, b in pairs)
    middle = spread = 0.0
    for a, b in pairs:
        weight = (a.count + b.count) / runs
        middle += weight * (a.total / a.count - b.total / b.count)
        spread += weight * weight * (_variance(a) / a.count + _variance(b) / b.count)
    half = _Z * math.sqrt(spread)
    return middle - half, middle + half, runs


def quantile(counts: Sequence[tuple[int, int]], share: float) -> int:
    """By nearest rank. `counts`: sizes, smallest first, with how often each was seen; at least one."""
    rank = math.ceil(share * sum(n for _, n in counts))
    seen = 0
    for size, n in counts:
        seen += n
        if seen >= rank:
            return size
    return counts[-1][0]


def _variance(sample: Sample) -> float:
    if sample.count < 2:
        return 0.0
    mean = sample.total / sample.count
    return max(0.0, (sample.squares - sample.count * mean * mean) / (sample.count - 1))
