"""A cache without answers: which keys a policy would hold, for the price of a few numbers per key."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any

from langchain_tokopt.cache.eviction.policies import Facts, Limits, Policy, Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One use of a key, or several at once.

    Attributes:
        key: Which question.
        at: When, in seconds since the epoch.
        bytes: How much room the answer takes.
        value: What a hit saves.
        ttl_seconds: How long an answer that is stored now would live, `None` for ever.
        times: How often it was asked for.
    """

    key: str
    at: float
    bytes: int = 1
    value: float = 1.0
    ttl_seconds: float | None = None
    times: int = 1


class SimulatedCache:
    """What a cache under `policy` would hold. One heap, in which entries that were used since are passed over."""

    def __init__(self, policy: Policy, limits: Limits) -> None:
        self.policy = policy
        self.limits = limits
        self.bytes = 0
        self._held: dict[str, tuple[Facts, int]] = {}
        self._heap: list[tuple[Priority, int, str]] = []
        self._turn = 0

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: str) -> bool:
        return key in self._held

    def access(self, use: Access) -> int:
        """How many of the `times` were hits. The key is held afterwards, at others' cost, unless it is too big."""
        known = self._held.get(use.key)
        if known is not None:
            facts = known[0]
            if facts.expires_at is None or facts.expires_at > use.at:
                self._note(use.key, _used(facts, use))
                return use.times
            self._drop(use.key)
        if self.limits.exceeded(1, use.bytes):
            return 0
        while self._held and self.limits.exceeded(len(self._held) + 1, self.bytes + use.bytes):
            self._evict(use.at)
        self.bytes += use.bytes
        expires_at = None if use.ttl_seconds is None else use.at + use.ttl_seconds
        new = Facts(
            used_at=use.at,
            created_at=use.at,
            expires_at=expires_at,
            hits=use.times - 1,
            bytes=use.bytes,
            value=use.value,
        )
        self._note(use.key, new)
        return use.times - 1

    def reorder(self) -> None:
        """Ask the policy for every priority anew, after its order has changed."""
        self._heap = [(self.policy.priority(facts), turn, key) for key, (facts, turn) in self._held.items()]
        heapify(self._heap)

    def state(self) -> list[list[Any]]:
        """What is held, in a form that JSON takes, in the order of its use."""
        order = sorted(self._held.items(), key=lambda item: item[1][1])
        return [
            [key, held.used_at, held.created_at, held.expires_at, held.hits, held.bytes, held.value]
            for key, (held, _) in order
        ]

    def restore(self, state: list[list[Any]]) -> None:
        """Hold what `state` gave."""
        self._held, self.bytes = {}, 0
        for key, used_at, created_at, expires_at, hits, size, value in state:
            self._turn += 1
            facts = Facts(
                used_at=float(used_at),
                created_at=float(created_at),
                expires_at=None if expires_at is None else float(expires_at),
                hits=int(hits),
                bytes=int(size),
                value=float(value),
            )
            self._held[str(key)] = facts, self._turn
            self.bytes += facts.bytes
        self.reorder()

    def _note(self, key: str, facts: Facts) -> None:
        self._turn += 1
        self._held[key] = facts, self._turn
        heappush(self._heap, (self.policy.priority(facts), self._turn, key))
        if len(self._heap) > 4 * len(self._held) + 64:
            self._heap = [entry for entry in self._heap if self._current(entry)]
            heapify(self._heap)

    def _current(self, entry: tuple[Priority, int, str]) -> bool:
        known = self._held.get(entry[2])
        return known is not None and known[1] == entry[1]

    def _drop(self, key: str) -> None:
        self.bytes -= self._held.pop(key)[0].bytes

    def _evict(self, at: float) -> None:
        while True:
            entry = heappop(self._heap)
            if self._current(entry):
                self._drop(entry[2])
                self.policy.evicted(entry[0], at)
                return


def _used(facts: Facts, use: Access) -> Facts:
    # `dataclasses.replace` would take most of the time of a simulation.
    return Facts(
        used_at=use.at,
        created_at=facts.created_at,
        expires_at=facts.expires_at,
        hits=facts.hits + use.times,
        bytes=facts.bytes,
        value=facts.value,
    )
