"""Who gives to whom: the moves that lead from one sharing to another, few and none too small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush


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
    givers, takers = _Largest(parts, 1), _Largest(parts, -1)

    def make(source: Part, target: Part) -> None:
        moved = min(source.gives, -target.gives)
        source.has -= moved
        target.has += moved
        moves.append((source.name, target.name, moved))
        givers.put(source)
        takers.put(target)

    for part in sorted(parts, key=lambda one: (-abs(one.gives), one.name or "")):
        while part.must:
            if part.gives > 0:
                make(part, takers.first())
            else:
                make(givers.first(), part)
    bar = wake
    while True:
        source, target = givers.first(), takers.first()
        if min(source.gives, -target.gives) < bar:
            return moves
        make(source, target)
        bar = smallest


class _Largest:
    """The part that gives most (`sign` 1) or takes most (-1); by name where they are equal, the parent first.

    So the outcome does not depend on the order in which the parts are given.
    """

    def __init__(self, parts: Sequence[Part], sign: int) -> None:
        self._sign = sign
        self._heap = [(-sign * part.gives, part.name or "", at, part) for at, part in enumerate(parts)]
        self._count = len(parts)
        heapify(self._heap)

    def put(self, part: Part) -> None:
        """Tell that what the part gives has changed."""
        self._count += 1
        heappush(self._heap, (-self._sign * part.gives, part.name or "", self._count, part))

    def first(self) -> Part:
        while self._heap[0][0] != -self._sign * self._heap[0][3].gives:
            heappop(self._heap)  # from before a move
        return self._heap[0][3]
