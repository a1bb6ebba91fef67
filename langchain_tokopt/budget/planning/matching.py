"""Who gives to whom: the moves that lead from one sharing to another, few and none too small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Part:
    """What one has, is to have, and must have: `name` is `None` for the parent. `upper`: `None` for no bound."""

    name: str | None
    has: int
    wanted: int
    lower: int
    upper: int | None

    @property
    def gives(self) -> int:
        return self.has - self.wanted

    @property
    def must(self) -> bool:
        """Whether it may not stay as it is."""
        return self.has < self.lower or (self.upper is not None and self.has > self.upper)


def matched(parts: Sequence[Part], *, smallest: int, wake: int) -> list[tuple[str | None, str | None, int]]:
    """Moves `(source, target, amount)`: the largest giver to the largest taker, and so on.

    First whoever may not stay as it is, whatever the size of the move. Then, if there is a move of at least `wake`,
    all of at least `smallest`. What is left is smaller for every pair, so a second run finds nothing to move. The
    parts sum to the same before and after, by what they have and by what is wanted.
    """
    moves: list[tuple[str | None, str | None, int]] = []

    def make(source: Part, target: Part) -> int:
        moved = min(source.gives, -target.gives)
        source.has -= moved
        target.has += moved
        moves.append((source.name, target.name, moved))
        return moved

    # By size, then by name, the parent first: the outcome does not depend on the order in which they are given.
    def most(gives: bool) -> Part:
        return min(parts, key=lambda part: (-part.gives if gives else part.gives, part.name or ""))

    while pressing := [part for part in parts if part.must]:
        part = min(pressing, key=lambda one: (-abs(one.gives), one.name or ""))
        if part.gives > 0:
            make(part, most(gives=False))
        else:
            make(most(gives=True), part)
    bar = wake
    while True:
        source, target = most(gives=True), most(gives=False)
        if min(source.gives, -target.gives) < bar:
            return moves
        make(source, target)
        bar = smallest
