"""Numbers of passages, one each, that grow at their end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FIRST = 64


class Column:
    """One number per passage."""

    def __init__(self) -> None:
        self._room = np.zeros(_FIRST)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, value: float) -> None:
        """The number of the next passage."""
        if self._count == len(self._room):
            self._room = np.concatenate([self._room, np.zeros(self._count)])
        self._room[self._count] = value
        self._count += 1

    @property
    def values(self) -> NDArray[np.float64]:
        """All numbers: `[n]`. They must not be written to."""
        return self._room[: self._count]
