"""Notes of which entries were used, and when: written together, beside the calls that used them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_tokopt.cache.chores import Chores
    from langchain_tokopt.cache.entries import Entries

_TOGETHER = 64  # entries whose uses are noted in one write


class Uses:
    """Counts uses in memory, and writes them down in the background: eviction goes by them. Thread-safe.

    A hit never waits for a writer. What was noted last is lost with a process that is killed.
    """

    def __init__(self, entries: Entries, chores: Chores) -> None:
        self._entries = entries
        self._chores = chores
        self._lock = threading.Lock()
        self._used: dict[int, tuple[float, int]] = {}

    def note(self, entry_id: int, now: float) -> None:
        """An entry was used."""
        with self._lock:
            _, hits = self._used.get(entry_id, (0.0, 0))
            self._used[entry_id] = (now, hits + 1)
            due = len(self._used) >= _TOGETHER
        if due:
            self._chores.ask("notes of use", self.flush)

    def flush(self) -> None:
        """Write down, in this thread, what was used lately."""
        with self._lock:
            used, self._used = self._used, {}
        self._entries.touch(used)
