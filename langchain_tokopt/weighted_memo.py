"""A bounded memo for values of very different size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class WeightedMemo(Generic[Value]):
    """A mapping that forgets what was used longest ago when the sum of its values' weights is too big. Thread-safe.

    A value that alone is heavier than the limit is not kept. See `memo.Memo` for a lighter one, without weights.

    Args:
        weight_limit: The most that all values together may weigh, in whatever unit `put` is given.
    """

    def __init__(self, *, weight_limit: int) -> None:
        self._limit = weight_limit
        self._entries: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._weight = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        """The remembered value, or `None`."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return None
            self._entries.move_to_end(key)
            return found[0]

    def take(self, key: Hashable) -> Value | None:
        """The value, which is forgotten here: it is the caller's own to change."""
        with self._lock:
            found = self._entries.pop(key, None)
            if found is None:
                return None
            self._weight -= found[1]
            return found[0]

    def put(self, key: Hashable, value: Value, weight: int = 1) -> None:
        """Remember `value`, which weighs `weight`."""
        with self._lock:
            before = self._entries.pop(key, None)
            if before is not None:
                self._weight -= before[1]
            if weight > self._limit:
                return
            self._entries[key] = (value, weight)
            self._weight += weight
            while self._weight > self._limit:
                _, (_, gone) = self._entries.popitem(last=False)
                self._weight -= gone

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._weight = 0

    @property
    def weight(self) -> int:
        """What all values weigh together."""
        return self._weight

    def __len__(self) -> int:
        return len(self._entries)
