"""Sums over what stands near each passage, within its group; cost does not depend on how far "near" reaches."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np
from numpy.typing import NDArray

from langchain_tokopt.context.ranking.columns import Column


class Places:
    """Where each passage's group starts and ends.

    Groups are runs of passages that follow each other: one that comes again later is another group.
    """

    def __init__(self, groups: Iterable[Hashable] = ()) -> None:
        self._starts = Column()
        self._last: Hashable = None
        self._known = np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
        for group in groups:
            self.add(group)

    def add(self, group: Hashable) -> None:
        """The group of one passage more."""
        count = len(self._starts)
        self._starts.append(self._starts.values[-1] if count and group == self._last else count)
        self._last = group

    @property
    def starts(self) -> NDArray[np.intp]:
        """Where the group of each passage starts: integers `[n]`."""
        return self._borders()[0]

    @property
    def ends(self) -> NDArray[np.intp]:
        """Where it ends, exclusive: integers `[n]`."""
        return self._borders()[1]

    def _borders(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        if len(self._known[0]) != len(self._starts):
            starts = self._starts.values.astype(np.intp)
            borders = np.append(np.unique(starts), len(starts))
            self._known = starts, borders[np.searchsorted(borders, starts, side="right")]
        return self._known

    def around(self, rows: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
        """Sums over the passages at most `reach` away, the passage itself included: `[..., n]` -> `[..., n]`."""
        return self._sums(_summed(rows), reach)

    def fading(self, rows: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
        """The same, but what stands further away counts less, down to `1 / (reach + 1)` at the border."""
        summed = _summed(rows)
        total = rows.astype(np.float64)
        for near in range(1, reach + 1):
            total += self._sums(summed, near)
        return total / (reach + 1)

    def _sums(self, summed: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
        starts, ends = self._borders()
        here = np.arange(len(starts))
        high, low = np.minimum(here + reach + 1, ends), np.maximum(here - reach, starts)
        return np.asarray(summed.take(high, axis=-1) - summed.take(low, axis=-1))


def _summed(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of all passages before each, and of all: `[..., n]` -> `[..., n + 1]`."""
    return np.concatenate([np.zeros((*rows.shape[:-1], 1)), np.cumsum(rows, axis=-1)], axis=-1)
