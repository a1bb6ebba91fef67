"""Sums over what stands near each passage, within its group; cost does not depend on how far "near" reaches."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where each passage's group starts and ends: integers `[n]`, the end is exclusive."""

    starts: NDArray[np.intp]
    ends: NDArray[np.intp]

    @classmethod
    def of(cls, groups: Sequence[Hashable]) -> Places:
        """Groups are runs of passages that follow each other: one that comes again later is another group."""
        count = len(groups)
        inner = [at for at in range(1, count) if groups[at] != groups[at - 1]]
        borders = np.array([0, *inner, count], dtype=np.intp)
        starts, ends = borders[:-1], borders[1:]
        return cls(np.repeat(starts, ends - starts), np.repeat(ends, ends - starts))

    def around(self, rows: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
        """Sums over the passages at most `reach` away, the passage itself included: `[..., n]` -> `[..., n]`."""
        sums = np.concatenate([np.zeros((*rows.shape[:-1], 1)), np.cumsum(rows, axis=-1)], axis=-1)
        here = np.arange(rows.shape[-1])
        high, low = np.minimum(here + reach + 1, self.ends), np.maximum(here - reach, self.starts)
        return np.asarray(np.maximum(sums[..., high] - sums[..., low], 0.0))

    def fading(self, rows: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
        """The same, but what stands further away counts less, down to `1 / (reach + 1)` at the border."""
        return np.asarray(sum(self.around(rows, near) for near in range(reach + 1)) / (reach + 1))
