"""Keeps the entries of a store within its limits: at once where there is no room left, else in the background."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, get_args

from langchain_tokopt.cache.cleanup import Cleaned, Cleanup
from langchain_tokopt.cache.eviction import POLICIES, Eviction, Limits, Room
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.forks import follow_forks

if TYPE_CHECKING:
    from langchain_tokopt.cache.entries import Entries
    from langchain_tokopt.cache.removal import Removal

_RECOUNT: Final = 64  # entries stored by this process before it counts again what others stored
_ALIKE: Final = 0.93  # similarity from which a new question counts as one that was evicted, for what eviction learns


class Upkeep:
    """Counts what is stored, and sees to it that the limits hold and that nothing stays that has expired. Thread-safe.

    Args:
        entries: The entries; their tables exist.
        removal: Removes them.
        eviction: What goes first when there is no room.
        limits: How much room there is.
        clock: Unix time in seconds.
    """

    def __init__(
        self, entries: Entries, removal: Removal, *, eviction: Eviction, limits: Limits, clock: Callable[[], float]
    ) -> None:
        if eviction not in POLICIES:
            names = ", ".join(f'"{name}"' for name in get_args(Eviction))
            raise ConfigurationError("eviction", eviction, f"use one of {names}")
        policy = POLICIES[eviction](limits)
        self._room = Room(entries, removal, policy=policy, limits=limits, alike=_ALIKE)
        self._charge = Cleanup.of(entries.database, clock=clock).look_after(removal, self._room)
        self._until_count = 0
        self._until_bytes = math.inf
        self._lock = threading.Lock()
        follow_forks(self, level=1)

    def fits(self, size: int) -> bool:
        """Whether an entry of so many bytes could be kept at all."""
        return self._room.fits(size)

    def stored(self, size: int) -> bool:
        """Whether it is time to look for room, now that an entry of so many bytes was stored."""
        with self._lock:
            self._until_count -= 1
            self._until_bytes -= size
            return self._until_count < 0 or self._until_bytes < 0

    def make_room(self, now: float) -> None:
        """Make room if there is too little. If there will be soon, have what has expired removed in the background."""
        census = self._room.census()
        if self._room.limits.exceeded(census.entries, census.bytes):
            self._charge.clean(now)  # the expired go first, or others would for them
            census = self._room.census()
        elif 0 < self._room.until_full(at_most=_RECOUNT) < _RECOUNT:
            self._charge.wake()
        limits = self._room.limits
        with self._lock:
            self._until_count = _RECOUNT if limits.entries is None else min(_RECOUNT, limits.entries - census.entries)
            self._until_bytes = math.inf if limits.bytes is None else limits.bytes - census.bytes

    def clean(self, now: float) -> Cleaned:
        """How many entries were removed: the expired, and those that there is no room for."""
        return self._charge.clean(now)

    def status(self) -> dict[str, Any]:
        """The policy, the limits, what is there, and what was evicted."""
        return self._room.status()

    def close(self) -> None:
        """End what is done in the background; what eviction has learnt is saved."""
        self._charge.close()

    # --- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        return None

    def after_fork_in_parent(self) -> None:
        return None

    def after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
