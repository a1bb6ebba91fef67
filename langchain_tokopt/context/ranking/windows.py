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
        return self._starts.values.astype(np.intp)

    @property
    def ends(self) -> NDArray[np.intp]:
        """Where it ends, exclusive: integers `[n]`."""
        starts = self.starts
        borders = np.append(np.unique(starts), len(starts))
        return borders[np.searchsorted(borders, starts, side="right")]

    def around(self, rows: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
        """Sums over the passages at most `reach` away, the passage itself included: `[..., n]` -> `[..., n]`."""
        sums = np.concatenate([np.zeros((*rows.shape[:-1], 1)), np.cumsum(rows, axis=-1)], axis=-1)
        here = np.arange(rows.shape[-1])
        high, low = np.minimum(here + reach + 1, self.ends), np.maximum(here - reach, self.starts)
        return np.asarray(sums[..., high] - sums[..., low])

    def fading(self, rows: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
        """The same, but what stands further away counts less, down to `1 / (reach + 1)` at the border."""
        return np.asarray(sum(self.around(rows, near) for near in range(reach + 1)) / (reach + 1))
