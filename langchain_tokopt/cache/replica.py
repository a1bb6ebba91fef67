"""What this process knows of a scope: its questions in a FAISS index, kept in step with the database by revision."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_tokopt.cache.decision.verdict import Neighbour
from langchain_tokopt.cache.facts import Fact, Facts, until
from langchain_tokopt.cache.snapshots import Copied, Snapshot
from langchain_tokopt.errors import StoreError
from langchain_tokopt.vectors import VectorIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_tokopt.cache.entries import ScopeState


class Replica:
    """One scope's questions in memory. Thread-safe: any number may ask, one at a time brings it up to date.

    Attributes:
        following: Held by who brings it up to date; taken before a transaction of the database, never inside of one.
        changed: How many rows were read from the database since it was last taken from a file or written to one.
    """

    def __init__(self, embedder: str, dim: int) -> None:
        self.embedder = embedder
        self.following = threading.Lock()
        self.dim = dim
        self._reached = (-1, -1)  # scope id and revision, replaced together
        self._held = (VectorIndex(dim), Facts())
        self.changed = 0

    def __len__(self) -> int:
        return len(self._held[1])

    def current(self, state: ScopeState) -> bool:
        """Whether this is what the database had when `state` was read, or later."""
        scope_id, revision = self._reached
        return scope_id == state.id and revision >= state.revision

    def seen(self, state: ScopeState) -> int:
        """The revision after which changes are needed; -1 if all must be read."""
        scope_id, revision = self._reached
        return revision if scope_id == state.id and revision >= state.purged else -1

    def follow(self, state: ScopeState, seen: int, portions: Iterable[Sequence[Any]]) -> None:
        """Take over what changed after revision `seen`: rows as `Entries.changes` gives them.

        Raises:
            StoreError: A vector has another length than this embedder's.
        """
        index, facts = self._held if seen >= 0 else (VectorIndex(self.dim), Facts())
        for rows in portions:
            self._take_over(index, facts, rows)
            self.changed += len(rows)
        self._held = index, facts
        self._reached = state.id, state.revision

    @property
    def begun(self) -> bool:
        """Whether anything was ever read."""
        return self._reached[0] >= 0

    def known(self) -> tuple[VectorIndex, Copied]:
        """All that is known, for a file. Only for the holder of `following`; the index goes on changing afterwards."""
        (index, facts), (scope_id, revision) = self._held, self._reached
        newest = max(facts.ids(), default=0)
        return index, Copied(scope_id, revision, newest, facts.columns())

    def take_over(self, state: ScopeState, snapshot: Snapshot) -> None:
        """Begin with what was known at another time. Only for the holder of `following`."""
        self._held = snapshot.index, snapshot.facts
        self._reached = state.id, snapshot.revision
        self.changed = 0

    def forget(self) -> None:
        """Everything must be read at the next turn."""
        self._reached = (-1, -1)

    def _take_over(self, index: VectorIndex, facts: Facts, rows: Sequence[Any]) -> None:
        mine = [row for row in rows if row[1] and row[3] is not None and row[4] == self.embedder]
        kept = {row[0] for row in mine}
        gone = [row[0] for row in rows if row[0] not in kept]
        # What can be found has a fact at every moment.
        index.remove(gone)
        facts.drop(gone)
        if not mine:
            return
        length = 4 * self.dim
        new = []
        for row in mine:
            if len(row[3]) != length:
                msg = (
                    f"the cache holds vectors of length {len(row[3]) // 4} of the embedder {self.embedder!r}, which "
                    f"gives {self.dim} numbers now: remove them (clear), or give the embedder another name"
                )
                raise StoreError(msg)
            key, answer = row[0], row[7]
            known = facts.get(key) is not None and key in index
            # An equal number is not kept twice.
            facts.put(Fact(key, row[2], row[6], until(row[5]), key if answer == key else answer))
            if not known:
                new.append(row)
        # What is there already has moved to another group: its vector is still the same.
        vectors = np.frombuffer(b"".join(row[3] for row in new), dtype="<f4").reshape(len(new), self.dim)
        index.add([row[0] for row in new], vectors)

    def questions(self) -> dict[int, str]:
        """Every question that can be found, by id."""
        index, facts = self._held
        return {key: fact.text for key in index.ids() if (fact := facts.get(key)) is not None}

    def nearest(self, vector: NDArray[np.float32], k: int, now: float) -> list[Neighbour]:
        """At most `k` questions that have not expired, nearest first."""
        index, facts = self._held
        found = []
        for key, similarity in index.search(vector, k):
            fact = facts.get(key)
            if fact is not None and fact.expires_at > now:
                found.append(Neighbour(key, fact.revision, fact.text, similarity, answer=fact.answer))
        return found

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """The vectors of these questions, in their order: float32 `[n, d]`, unit norm.

        Raises:
            KeyError: One of them is not there (any more); it is the error's argument.
        """
        return self._held[0].vectors(ids)

    def ids(self) -> list[int]:
        """The ids of all questions that can be found."""
        return self._held[0].ids()

    def fact(self, key: int) -> Fact | None:
        """What is known of a question, `None` if it is not there (any more)."""
        return self._held[1].get(key)


class Replicas:
    """The scopes that this process serves; at most `limit`, the least recently used goes first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._by_scope: OrderedDict[str, Replica] = OrderedDict()

    def get(self, scope: str) -> Replica | None:
        with self._lock:
            replica = self._by_scope.get(scope)
            if replica is not None:
                self._by_scope.move_to_end(scope)
            return replica

    def open(self, scope: str, embedder: str, dim: int) -> Replica:
        """The scope's replica for this embedder; a new, empty one if there is none."""
        with self._lock:
            replica = self._by_scope.get(scope)
            if replica is None or replica.embedder != embedder:
                replica = self._by_scope[scope] = Replica(embedder, dim)
            self._by_scope.move_to_end(scope)
            while len(self._by_scope) > self._limit:
                self._by_scope.popitem(last=False)
            return replica

    def all(self) -> list[tuple[str, Replica]]:
        """Every scope with its replica, the least recently used first."""
        with self._lock:
            return list(self._by_scope.items())

    def forget(self, scope: str | None = None) -> None:
        """Drop one scope, or all."""
        with self._lock:
            if scope is None:
                self._by_scope.clear()
            else:
                self._by_scope.pop(scope, None)

    def __len__(self) -> int:
        return len(self._by_scope)
