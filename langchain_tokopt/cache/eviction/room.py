"""Keeps the entries of one kind within their limits."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_tokopt.cache.eviction.adaptive import Adaptive
from langchain_tokopt.cache.eviction.observation import Observation
from langchain_tokopt.cache.eviction.policies import Limits, Policy, Priority
from langchain_tokopt.cache.eviction.rows import Row, Rows, usual_value
from langchain_tokopt.forks import follow_forks

if TYPE_CHECKING:
    from langchain_tokopt.cache.entries import Entries
    from langchain_tokopt.cache.removal import Removal

log = logging.getLogger("langchain_tokopt")

_SLACK = 128  # this part of the room is freed at once, so that not every new entry has to make room for itself
_SAMPLE = 8  # candidates looked at for each entry that has to go
_LEAST_SAMPLE = 64
_AT_ONCE = 128  # entries that go in one transaction: writers wait for it
_POOL = 128  # the lowest of earlier samples, looked at again
_ROUNDS = 1_000
_UNSAVED = 256  # uses that a process has learnt from before it saves what it learnt: a miniature is some 60 kB


@dataclass(frozen=True, slots=True)
class Census:
    """How many entries there are, and their bytes together."""

    entries: int
    bytes: int


class Room:
    """Removes entries when there are too many or they are too big together.

    Policies whose order is an index remove exactly what they name. The others look at a sample, at what was not used
    for long, and at the lowest of earlier samples (Psounis and Prabhakar, "Efficient Randomized Web-Cache Replacement
    Schemes Using Samples from Past Eviction Times", 2002): never at the whole table. What a policy has learnt is kept
    in the database, where all processes add to it; if two do so at once, one of them learns it again.

    Args:
        entries: The entries; their tables exist.
        removal: Removes them.
        policy: What goes first.
        limits: How much room there is.
        alike: Cosine similarity from which the adaptive policy takes a new question for one that was evicted.
    """

    def __init__(
        self, entries: Entries, removal: Removal, *, policy: Policy, limits: Limits, alike: float = 0.9
    ) -> None:
        self.policy = policy
        self.limits = limits
        self.evicted = 0
        self._entries = entries
        self._removal = removal
        self._rows = Rows(entries.database, kind=entries.kind)
        self._observation = Observation(self._rows, policy, alike=alike) if isinstance(policy, Adaptive) else None
        self._learns = policy.state() is not None
        self._version = 0
        self._unsaved = 0
        self._pool: set[int] = set()
        self._unreadable_logged = False
        self._making = threading.Lock()
        follow_forks(self, level=1)

    def fits(self, size: int) -> bool:
        """Whether an entry of so many bytes could be kept at all."""
        return not self.limits.exceeded(1, size)

    def until_full(self, *, at_most: int) -> int:
        """After how many more entries it is worth asking for room again; 0 if there is none left."""
        census = self.census()
        left = [at_most]
        if self.limits.entries is not None:
            left.append(self.limits.entries - census.entries)
        if self.limits.bytes is not None:
            left.append((self.limits.bytes - census.bytes) // max(1, census.bytes // max(1, census.entries)))
        return max(0, min(left))

    def census(self) -> Census:
        return Census(*self._entries.size())

    def make(self, now: float, *, learn: bool = True) -> int:
        """How many entries were removed for want of room. If another thread is at it, it is left to that.

        `learn`: Whether an adaptive policy first learns from all that happened since it last did so, which takes the
        longer the more that is.
        """
        if not self._making.acquire(blocking=False):
            return 0
        try:
            return self._make(now, learn=learn)
        finally:
            self._making.release()

    def status(self) -> dict[str, Any]:
        """The policy, the limits, what is there, and what this process removed."""
        census = self.census()
        told: dict[str, Any] = {
            "policy": self.policy.name,
            "entries": census.entries,
            "bytes": census.bytes,
            "max_entries": self.limits.entries,
            "max_bytes": self.limits.bytes,
            "evicted": self.evicted,
        }
        if isinstance(self.policy, Adaptive):
            self._load()
            told |= {"followed": self.policy.followed, "scores": dict(self.policy.scores)}
        return told

    # --- making room -------------------------------------------------------------------------------------------------

    def _make(self, now: float, *, learn: bool) -> int:
        if self._learns:
            self._load()
        learnt = self._observation.catch_up() if self._observation is not None and learn else 0
        gone = 0
        census = self.census()
        if self.limits.exceeded(census.entries, census.bytes):
            for _ in range(_ROUNDS):
                removed = self._round(census, now)
                gone += removed
                census = self.census()
                if not removed or not self._goal().exceeded(census.entries, census.bytes):
                    break
        self._unsaved += learnt if self._observation is not None else _UNSAVED * bool(gone)
        if self._learns and self._unsaved >= _UNSAVED:
            self._save()
        self.evicted += gone
        return gone

    def _goal(self) -> Limits:
        def less(limit: int | None) -> int | None:
            return None if limit is None else limit - limit // _SLACK

        return Limits(entries=less(self.limits.entries), bytes=less(self.limits.bytes))

    def _round(self, census: Census, now: float) -> int:
        """How many entries were removed in one go."""
        goal = self._goal()
        over = [1]
        if goal.entries is not None:
            over.append(census.entries - goal.entries)
        if goal.bytes is not None:
            mean = max(1, census.bytes // max(1, census.entries))
            over.append(-(-(census.bytes - goal.bytes) // mean))
        wanted = min(max(over), _AT_ONCE)
        candidates = self._candidates(wanted)
        usual = usual_value(candidates)
        ranked = sorted(((self.policy.priority(row.facts(usual)), row) for row in candidates), key=_rank)
        victims: list[tuple[Priority, Row]] = []
        entries, size = census.entries, census.bytes
        for priority, row in ranked:
            # No more than were asked for, or the end of a sample would count as the lowest of all.
            if len(victims) >= wanted or not goal.exceeded(entries, size):
                break
            victims.append((priority, row))
            entries, size = entries - 1, size - row.bytes
        if not victims:
            return 0
        self._pool = {row.id for _, row in ranked[len(victims) : len(victims) + _POOL]}
        # The lowest of a sample is nearest to the lowest of all, against which the others age.
        self.policy.evicted(victims[0][0], now)
        return self._removal.remove([row.id for _, row in victims], now)

    def _candidates(self, wanted: int) -> list[Row]:
        name = self.policy.followed if isinstance(self.policy, Adaptive) else self.policy.name
        if name == "lru":
            return self._rows.least_recent(wanted)
        if name == "ttl":
            return self._rows.soonest(wanted)
        if name == "mru":
            return self._rows.most_recent(wanted)
        rows = self._rows.sample(max(_LEAST_SAMPLE, _SAMPLE * wanted))
        rows += self._rows.least_recent(wanted)
        rows += self._rows.these(self._pool)
        return list({row.id: row for row in rows}.values())

    # --- what was learnt ---------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Take up what another process has learnt meanwhile."""
        name = self.policy.name
        if self._rows.version(name) == self._version:
            return
        self._unsaved = 0
        self._version, state = self._rows.state(name)
        if state is None:
            return
        try:
            learnt = json.loads(state)
            self.policy.restore(learnt["policy"])
            if self._observation is not None:
                self._observation.restore(learnt["observation"])
        except Exception as error:  # written by another version, or damaged: it can be learnt again
            if not self._unreadable_logged:
                self._unreadable_logged = True
                log.warning("cache: what eviction=%r had learnt cannot be read and is learnt anew: %s", name, error)

    def save(self) -> None:
        """Save what was learnt since the last time."""
        with self._making:
            if self._unsaved:
                self._save()

    def _save(self) -> None:
        seen = self._observation.state() if self._observation is not None else None
        learnt = {"policy": self.policy.state(), "observation": seen}
        saved = self._rows.save(self.policy.name, self._version, json.dumps(learnt, separators=(",", ":")))
        self._version = self._version + 1 if saved else -1  # -1: read what the quicker one has saved
        self._unsaved = 0

    # --- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        return None

    def after_fork_in_parent(self) -> None:
        return None

    def after_fork_in_child(self) -> None:
        self._making = threading.Lock()
        self._version = -1


def _rank(candidate: tuple[Priority, Row]) -> tuple[Priority, int]:
    return candidate[0], candidate[1].id
