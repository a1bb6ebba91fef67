"""Which policy would have kept more: each is played out in a miniature of the cache, and the best one is followed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_tokopt.cache.eviction.policies import FIXED, Facts, Limits, MostRecentlyUsed, Policy, Priority
from langchain_tokopt.cache.eviction.simulation import Access, SimulatedCache

_MINIATURE = 512  # entries in a miniature: enough for the policies to come out in their true order
_USUAL_BYTES = 4_000  # of an answer with its question and vector, where only bytes are limited
_HALF_LIFE = 8  # in fillings of a miniature: how long what was seen counts
_SHORTEST_HALF_LIFE = 256  # in uses
_LEAD = 1.005  # how much better another policy must have done before it is followed


class Adaptive:
    """The policy that would have saved most of late, found by playing them all.

    Each policy runs on a miniature: a sample of the keys, in a cache that is smaller by the same factor. Such a sample
    shows how well the whole would do at a small part of the cost (Waldspurger, Saemundsson, Ahmad and Park, "Cache
    Modeling and Optimization using Miniature Simulations", 2017). A policy's score is the value of the hits that it
    had there, discounted with time. What LeCaR learns from the regret over its own evictions (Vietri et al., "Driving
    Cache Replacement with ML-based LeCaR", 2018) and ARC from its ghost lists (Megiddo and Modha, 2003) is seen here
    directly: every policy is judged as if it had been followed all along, and none must be followed to be judged.

    An entry's priority is that of the followed policy, with the age that the policy has in its miniature: a change
    of mind counts for all entries at once.

    Args:
        limits: The limits of the whole cache.
        miniature: How many entries a miniature holds.
    """

    name = "adaptive"

    def __init__(self, limits: Limits, *, miniature: int = _MINIATURE) -> None:
        room = _room(limits) or miniature
        self.share = min(1.0, miniature / room)
        # Until something is known: where all answers are alike this is LFU, and where they are not it matters most.
        self.followed = "cost"
        self.scores = dict.fromkeys((*FIXED, "mru"), 0.0)
        self._limits = limits
        self.policies: Mapping[str, Policy] = {
            **{name: make(limits) for name, make in FIXED.items()},
            "mru": MostRecentlyUsed(),
        }
        scaled = limits.scaled(self.share)
        self._caches = {name: SimulatedCache(policy, scaled) for name, policy in self.policies.items()}

    def observe(self, use: Access) -> None:
        """Learn from the use of a key. Of all keys only a `share` is to be shown, but all uses of those."""
        held = max(len(cache) for cache in self._caches.values())
        discount = 0.5 ** (use.times / max(_SHORTEST_HALF_LIFE, _HALF_LIFE * held))
        for name, cache in self._caches.items():
            self.scores[name] = self.scores[name] * discount + cache.access(use) * use.value
        best = max(self.scores, key=self.scores.__getitem__)
        if self.scores[best] > _LEAD * self.scores[self.followed]:
            self.followed = best

    def holds(self, key: str) -> bool:
        """Whether any policy would have kept this key."""
        return any(key in cache for cache in self._caches.values())

    def priority(self, facts: Facts) -> Priority:
        return self.policies[self.followed].priority(facts)

    def evicted(self, priority: Priority, at: float) -> None:
        """Nothing: the policies learn from what their miniatures evict."""

    def state(self) -> Any:
        return {
            "limits": [self._limits.entries, self._limits.bytes, self.share],
            "followed": self.followed,
            "scores": self.scores,
            "policies": {name: policy.state() for name, policy in self.policies.items()},
            "held": {name: cache.state() for name, cache in self._caches.items()},
        }

    def restore(self, state: Any) -> None:
        """Take up what `state` gave; what was learnt under other limits is left aside."""
        if state["limits"] != [self._limits.entries, self._limits.bytes, self.share]:
            return
        for name, policy in self.policies.items():
            policy.restore(state["policies"][name])
            self._caches[name].restore(state["held"][name])
        self.scores = {name: float(state["scores"][name]) for name in self.scores}
        self.followed = str(state["followed"])


def _room(limits: Limits) -> int | None:
    """About how many entries there is room for."""
    by_bytes = None if limits.bytes is None else limits.bytes // _USUAL_BYTES + 1
    known = [room for room in (limits.entries, by_bytes) if room is not None]
    return min(known, default=None)
