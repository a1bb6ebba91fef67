"""Sharing a whole number out, exactly, between bounds: water-filling and largest remainders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Vessel:
    """What one may get: `base + level * weight`, but not less than `lower` nor more than `upper` (`None`: no bound).

    `base`, `lower` and `upper` are whole, `weight` is not negative; `name` breaks ties.
    """

    name: str
    base: int
    weight: Fraction
    lower: int
    upper: int | None

    def at(self, level: Fraction) -> Fraction:
        filled = max(self.base + level * self.weight, Fraction(self.lower))
        return filled if self.upper is None else min(filled, Fraction(self.upper))

    def turns(self) -> list[Fraction]:
        """The levels at which it starts and stops to take more."""
        if not self.weight:
            return []
        ends = [self.lower] if self.upper is None else [self.lower, self.upper]
        return [(end - self.base) / self.weight for end in ends]


def fill(vessels: Sequence[Vessel], total: int) -> list[int]:
    """Whole shares that sum to `total`, in the order of the vessels.

    The same level for all, found exactly; what rounding leaves goes to the largest remainders, one each, by name
    where they are equal. When every vessel is full, or the rest has no weight, the sum is less; when the lower bounds
    do not fit, they are what is returned and the sum is more.
    """
    exact = _poured(vessels, total)
    whole = [int(share) for share in exact]  # None is below 0
    left = min(total, int(sum(exact))) - sum(whole)
    order = sorted(range(len(vessels)), key=lambda at: (whole[at] - exact[at], vessels[at].name))
    for at in order[: max(0, left)]:
        whole[at] += 1
    return whole


def _poured(vessels: Sequence[Vessel], total: int) -> list[Fraction]:
    """The shares before rounding."""
    turns = sorted({turn for vessel in vessels for turn in vessel.turns()})
    if not turns:
        return [vessel.at(Fraction(0)) for vessel in vessels]

    def sum_at(level: Fraction) -> Fraction:
        return sum((vessel.at(level) for vessel in vessels), Fraction(0))

    # The sum rises with the level, in straight lines between the turns.
    first, last = 0, len(turns)
    while first < last:
        middle = (first + last) // 2
        if sum_at(turns[middle]) < total:
            first = middle + 1
        else:
            last = middle
    if first == 0:
        return [vessel.at(turns[0]) for vessel in vessels]
    level = turns[first - 1]
    below = sum_at(level)
    # Beyond the last turn only those without an upper bound take more.
    ahead = turns[first] if first < len(turns) else level + 1
    slope = (sum_at(ahead) - below) / (ahead - level)
    if slope:
        level += (total - below) / slope
    return [vessel.at(level) for vessel in vessels]
