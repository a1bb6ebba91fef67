"""What goes first when there is no room: one policy, one order. Pure logic, without a database.

A policy turns what is known of an entry into a priority; the lowest goes. A priority stays true until its entry is
used again, so that a heap, an index or a sample may choose the victims.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from langchain_tokopt.errors import ConfigurationError

_STEPS_KEPT = 512
_GRAIN = 32  # a level that is so much above another one may stand for it, relative to how far both are below the last
_NEVER = float("inf")

Priority = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of an entry.

    Attributes:
        used_at: When it was last used or stored, Unix time in seconds, like the other times.
        created_at: When it was stored.
        expires_at: When it expires, `None` for never.
        hits: How often it was served.
        bytes: How much room it takes.
        value: What a hit saves, in nano-USD or in any other unit that all entries share.
    """

    used_at: float
    created_at: float
    expires_at: float | None = None
    hits: int = 0
    bytes: int = 1
    value: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much room there is; `None` for no limit."""

    entries: int | None = None
    bytes: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("max_entries", self.entries), ("max_bytes", self.bytes)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigurationError(name, value, "use a whole number of at least 1, or None for no limit")

    def scaled(self, share: float) -> Limits:
        """The limits of a cache that holds this share of the keys."""
        return Limits(
            entries=None if self.entries is None else max(1, round(self.entries * share)),
            bytes=None if self.bytes is None else max(1, round(self.bytes * share)),
        )

    def exceeded(self, entries: int, size: int) -> bool:
        """Whether so many entries of so many bytes together are too much."""
        too_many = self.entries is not None and entries > self.entries
        return too_many or (self.bytes is not None and size > self.bytes)

    def share(self, size: int) -> float:
        """The share of the room that one entry takes: of the places and of the bytes, whichever are limited."""
        taken = (1.0 / self.entries if self.entries else 0.0) + (size / self.bytes if self.bytes else 0.0)
        return taken or 1.0


class Policy(Protocol):
    """An order of eviction."""

    name: str

    def priority(self, facts: Facts) -> Priority:
        """How much an entry is worth keeping; the lowest goes first."""

    def evicted(self, priority: Priority, at: float) -> None:
        """Learn that an entry of this priority had to go."""

    def state(self) -> Any:
        """What the policy has learnt, in a form that JSON takes."""

    def restore(self, state: Any) -> None:
        """Take up what `state` gave."""


class Age:
    """A level that only rises, and what it was at any time before: what an unused entry ages against.

    Entries need not carry the level of their last use; it is looked up by the time of that use. At most 512 steps are
    kept, the older the coarser.
    """

    def __init__(self) -> None:
        self._times: list[float] = []
        self._levels: list[float] = []

    def at(self, time: float) -> float:
        """The level at a time, 0 before the first eviction."""
        place = bisect_right(self._times, time)
        return self._levels[place - 1] if place else 0.0

    def rise(self, level: float, time: float) -> None:
        """Raise the level to `level`, if it is below, from `time` on."""
        if self._levels and level <= self._levels[-1]:
            return
        if self._times and time <= self._times[-1]:
            self._levels[-1] = level
            return
        self._times.append(time)
        self._levels.append(level)
        grain = _GRAIN
        while len(self._times) > _STEPS_KEPT:
            self._thin(grain)
            grain //= 2

    def _thin(self, grain: int) -> None:
        """Leave out steps, the more the longer ago: what counts is how far below the last level an entry was used."""
        last = self._levels[-1]
        kept = [len(self._levels) - 1]
        for place in range(len(self._levels) - 2, -1, -1):
            if (self._levels[kept[-1]] - self._levels[place]) * grain >= last - self._levels[place]:
                kept.append(place)
        kept.reverse()
        self._times = [self._times[place] for place in kept]
        self._levels = [self._levels[place] for place in kept]

    def state(self) -> list[list[float]]:
        return [self._times, self._levels]

    def restore(self, state: Any) -> None:
        times, levels = state
        if len(times) != len(levels):
            msg = f"{len(times)} times and {len(levels)} levels"
            raise ValueError(msg)
        self._times, self._levels = [float(x) for x in times], [float(x) for x in levels]


class _Unlearning:
    """What policies have in common whose order depends on the entries alone."""

    def evicted(self, priority: Priority, at: float) -> None:
        return None

    def state(self) -> Any:
        return None

    def restore(self, state: Any) -> None:
        return None


class LeastRecentlyUsed(_Unlearning):
    """What was not used for the longest time goes first."""

    name = "lru"

    def priority(self, facts: Facts) -> Priority:
        return facts.used_at, facts.created_at


class MostRecentlyUsed(_Unlearning):
    """What was used last goes first: only right where questions go round in a circle that is longer than the cache.

    Not for users to choose; `Adaptive` finds out when such a time has come.
    """

    name = "mru"

    def priority(self, facts: Facts) -> Priority:
        return -facts.used_at, -facts.created_at


class SoonestExpired(_Unlearning):
    """What expires first goes first, then what is oldest; what never expires comes last."""

    name = "ttl"

    def priority(self, facts: Facts) -> Priority:
        return _NEVER if facts.expires_at is None else facts.expires_at, facts.created_at


class _Ageing:
    """A worth that counts from the level of the last eviction at the time of use: GreedyDual's inflation."""

    def __init__(self) -> None:
        self._age = Age()

    def evicted(self, priority: Priority, at: float) -> None:
        self._age.rise(priority[0], at)

    def state(self) -> Any:
        return self._age.state()

    def restore(self, state: Any) -> None:
        self._age.restore(state)


class LeastFrequentlyUsed(_Ageing):
    """What was used least often goes first, by LFU with dynamic ageing.

    An entry's uses count from the level at which entries were evicted when it was last used, so that what was popular
    long ago does not stay for ever (LFU-DA; Arlitt, Cherkasova, Dilley, Friedrich and Jin, "Evaluating Content
    Management Techniques for Web Proxy Caches", 1999).
    """

    name = "lfu"

    def priority(self, facts: Facts) -> Priority:
        return self._age.at(facts.used_at) + facts.hits + 1, facts.used_at


class CostAware(_Ageing):
    """What saves least for the room that it takes goes first: dollars a hit times uses, by share of the limits.

    GreedyDual-Size-Frequency (Cao and Irani, "Cost-Aware WWW Proxy Caching Algorithms", 1997; Cherkasova, "Improving
    WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy", HP Labs, 1998). The size is an entry's
    share of what is limited: without a limit in bytes a long answer takes one place like any other.
    """

    name = "cost"

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits

    def priority(self, facts: Facts) -> Priority:
        worth = (facts.hits + 1) * facts.value / self._limits.share(facts.bytes)
        return self._age.at(facts.used_at) + worth, facts.used_at


FIXED: Mapping[str, Callable[[Limits], Policy]] = {
    "lru": lambda limits: LeastRecentlyUsed(),
    "lfu": lambda limits: LeastFrequentlyUsed(),
    "ttl": lambda limits: SoonestExpired(),
    "cost": CostAware,
}
