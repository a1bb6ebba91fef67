"""What is kept between calls so that it need not be computed again: within a bound, the longest unused goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """A mapping from digests to values that holds at most `limit` of weight. Safe to share between threads.

    Args:
        limit: How much all values may weigh together, in the unit of `put`'s `weight`; 0 keeps nothing.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[bytes, tuple[Value, int]] = OrderedDict()
        self._weight = 0
        self._lock = threading.Lock()

    def get(self, key: bytes) -> Value | None:
        """The value, `None` when it is not kept."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def take(self, key: bytes) -> Value | None:
        """The value, which is not kept any longer: it is the caller's own to change."""
        with self._lock:
            found = self._kept.pop(key, None)
            if found is None:
                return None
            self._weight -= found[1]
            return found[0]

    def put(self, key: bytes, value: Value, weight: int) -> None:
        """Keep the value, as long as there is room for it."""
        with self._lock:
            replaced = self._kept.pop(key, None)
            self._kept[key] = (value, weight)
            self._weight += weight - (replaced[1] if replaced else 0)
            while self._weight > self._limit and self._kept:
                self._weight -= self._kept.popitem(last=False)[1][1]

    @property
    def weight(self) -> int:
        """What all kept values weigh together."""
        return self._weight

    def __len__(self) -> int:
        return len(self._kept)
