"""A bounded memo: remembers what was used lately, and needs no lock."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Memo(Generic[Value]):
    """A mapping that forgets what was not used lately.

    Two dictionaries, a young and an old one. What is found in the old one moves to the young one, and when the young
    one is full it becomes the old one: so the last `limit / 2` entries that were used are always there. Neither reading
    nor writing takes a lock; threads that write at once may at worst forget something.

    Args:
        limit: The most entries that are kept.
    """

    def __init__(self, *, limit: int) -> None:
        self._half = max(1, limit // 2)
        self._young: dict[Hashable, Value] = {}
        self._old: dict[Hashable, Value] = {}

    def get(self, key: Hashable) -> Value | None:
        """The remembered value, or `None`."""
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: Hashable, value: Value) -> None:
        """Remember `value`."""
        if len(self._young) >= self._half and key not in self._young:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())
