"""What this process knows of a scope: its questions in a FAISS index, kept in step with the database by revision."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_tokopt.cache.decision.verdict import Neighbour
from langchain_tokopt.vectors import VectorIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_tokopt.cache.entries import ScopeState


@dataclass(frozen=True, slots=True)
class _Known:
    text: str
    revision: int
    expires_at: float | None
    answer: int


class Replica:
    """One scope's questions in memory. Thread-safe.

    Locks are taken in one order: first a transaction of the database, then the replica.
    """

    def __init__(self, embedder: str, dim: int) -> None:
        self.embedder = embedder
        self._dim = dim
        self._lock = threading.Lock()
        self._scope_id = -1
        self._revision = -1
        self._index = VectorIndex(dim)
        self._known: dict[int, _Known] = {}

    def __len__(self) -> int:
        return len(self._known)

    def current(self, state: ScopeState) -> bool:
        """Whether this is what the database had when `state` was read."""
        return self._scope_id == state.id and self._revision >= state.revision

    def seen(self, state: ScopeState) -> int:
        """The revision after which changes are needed; -1 if all must be read."""
        return self._revision if self._scope_id == state.id and self._revision >= state.purged else -1

    def apply(self, state: ScopeState, seen: int, rows: Sequence[Any]) -> None:
        """Take over the rows that changed after revision `seen`, as `Entries.changes` gives them."""
        with self._lock:
            # Another thread may have been quicker: what it took over later must not be undone by older rows.
            if state.id < self._scope_id or self.current(state) or (seen >= 0 and self._scope_id != state.id):
                return
            if seen < 0:
                self._index, self._known = VectorIndex(self._dim), {}
            mine = [row for row in rows if row[1] and row[3] is not None and row[4] == self.embedder]
            kept = {row[0] for row in mine}
            gone = [row[0] for row in rows if row[0] not in kept]
            self._index.remove(gone)
            for key in gone:
                self._known.pop(key, None)
            if mine:
                vectors = np.stack([np.frombuffer(row[3], dtype="<f4") for row in mine])
                self._index.add([row[0] for row in mine], vectors)
                self._known.update({row[0]: _Known(row[2], row[6], row[5], row[7]) for row in mine})
            self._scope_id = state.id
            self._revision = state.revision

    def nearest(self, vector: NDArray[np.float32], k: int, now: float) -> list[Neighbour]:
        """At most `k` questions that have not expired, nearest first."""
        index, known = self._index, self._known
        found = []
        for key, similarity in index.search(vector, k):
            fact = known.get(key)
            if fact is not None and (fact.expires_at is None or fact.expires_at > now):
                found.append(Neighbour(key, fact.revision, fact.text, similarity, answer=fact.answer))
        return found


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

    def forget(self, scope: str | None = None) -> None:
        """Drop one scope, or all."""
        with self._lock:
            if scope is None:
                self._by_scope.clear()
            else:
                self._by_scope.pop(scope, None)

    def __len__(self) -> int:
        return len(self._by_scope)
