"""Keeps the entries of a store within its limits: at once where there is no room left, else in the background."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, get_args

from langchain_tokopt.cache.cleanup import Cleaned, Cleanup
from langchain_tokopt.cache.eviction import POLICIES, Census, Eviction, Limits, Room
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.forks import follow_forks

if TYPE_CHECKING:
    from langchain_tokopt.cache.entries import Entries
    from langchain_tokopt.cache.removal import Removal

_RECOUNT: Final = 64  # entries stored by this process before it counts again what others stored
_ALIKE: Final = 0.93  # similarity from which a new question counts as one that was evicted, for what eviction learns
_MARGIN: Final = 128  # this part of the room is for what is stored while room is made in the background


class Upkeep:
    """Counts what is stored, and sees to it that the limits hold and that nothing stays that has expired. Thread-safe.

    Room is made in the background, where eviction may learn for a while, from a little below the limits on. Who stores
    more than there is time for makes room itself, if nobody is at it in that moment.

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
        self._limits = limits
        self._goal = Limits(entries=_less(limits.entries), bytes=_less(limits.bytes))
        policy = POLICIES[eviction](self._goal)
        self._room = Room(entries, removal, policy=policy, limits=self._goal, alike=_ALIKE)
        self._charge = Cleanup.of(entries.database, clock=clock).look_after(removal, self._room)
        self._until = Census(0, 0)
        self._lock = threading.Lock()
        follow_forks(self, level=1)

    def fits(self, size: int) -> bool:
        """Whether an entry of so many bytes could be kept at all."""
        return self._room.fits(size)

    def stored(self, size: int) -> bool:
        """Whether it is time to look for room, now that an entry of so many bytes was stored."""
        with self._lock:
            self._until = Census(self._until.entries - 1, self._until.bytes - size)
            return self._until.entries < 0 or self._until.bytes < 0

    def make_room(self, now: float) -> None:
        """Make room, if there is none left; have it made in the background, if little is left."""
        census = self._room.census()
        if self._limits.exceeded(census.entries, census.bytes):
            # What there is to be learnt of a small cache is little; of a big one it is left to the background.
            self._charge.clean(now, learn=self._goal == self._limits)
            census = self._room.census()
        elif self._goal.exceeded(census.entries, census.bytes):
            self._charge.wake()
        until = _left(self._goal, census)
        if until.entries < 0 or until.bytes < 0:
            until = _left(self._limits, census)
        with self._lock:
            self._until = until

    def clean(self, now: float) -> Cleaned:
        """How many entries were removed: the expired, and those that there is no room for."""
        return self._charge.clean(now)

    def status(self) -> dict[str, Any]:
        """The policy, the limits, what is there, and what was evicted."""
        limits = {"max_entries": self._limits.entries, "max_bytes": self._limits.bytes}
        return {**self._room.status(), **limits}

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


def _less(limit: int | None) -> int | None:
    return None if limit is None else limit - limit // _MARGIN


def _left(limits: Limits, census: Census) -> Census:
    """How many entries and bytes may be stored before it is time to count again."""
    return Census(
        _RECOUNT if limits.entries is None else min(_RECOUNT, limits.entries - census.entries),
        sys.maxsize if limits.bytes is None else limits.bytes - census.bytes,
    )
