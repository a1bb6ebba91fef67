"""Keeps the scopes in memory in step with the database, from files where there are any."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from langchain_tokopt.cache.replica import Replica, Replicas

if TYPE_CHECKING:
    from langchain_tokopt.cache.chores import Chores
    from langchain_tokopt.cache.entries import Entries, ScopeState
    from langchain_tokopt.cache.snapshots import Snapshots


class Follower:
    """The scopes that this process serves, each brought up to date before it is asked. Thread-safe.

    Args:
        entries: The database's side.
        snapshots: Files of big scopes.
        chores: Writes those files.
        max_scopes: How many scopes are in memory; the least recently used goes first.
    """

    def __init__(self, entries: Entries, snapshots: Snapshots, chores: Chores, *, max_scopes: int) -> None:
        self._entries = entries
        self._snapshots = snapshots
        self._chores = chores
        self._replicas = Replicas(max_scopes)

    def __len__(self) -> int:
        return len(self._replicas)

    def holds_nothing(self, scope: str, state: ScopeState) -> bool:
        """Whether it is known that the scope has no question to compare with."""
        replica = self._replicas.get(scope)
        return replica is not None and replica.current(state) and not len(replica)

    def questions(self, scope: str) -> dict[int, str]:
        """The questions that can be found in a scope, by id, as far as they were read."""
        replica = self._replicas.get(scope)
        return replica.questions() if replica is not None else {}

    def replicas(self) -> list[tuple[str, Replica]]:
        """The scopes in memory, as far as they were read."""
        return self._replicas.all()

    def forget(self, scope: str | None = None) -> None:
        """Drop one scope from memory, or all."""
        self._replicas.forget(scope)

    def replica(self, scope: str, state: ScopeState, embedder: str, dim: int) -> Replica:
        """The scope as the database has it now, or had it when `state` was read."""
        replica = self._replicas.open(scope, embedder, dim)
        if replica.current(state):
            return replica
        with replica.following:
            if replica.current(state):
                return replica  # somebody else was quicker
            if not replica.begun:
                snapshot = self._snapshots.load(scope, state, embedder, dim)
                if snapshot is not None:
                    replica.take_over(state, snapshot)
            if self._follow(scope, replica):
                if self._snapshots.due(len(replica), replica.changed):
                    replica.changed = 0
                    self._chores.ask(f"index of {scope}", partial(self._save, scope, replica))
                return replica
        self._replicas.forget(scope)
        return Replica(embedder, dim)

    def _follow(self, scope: str, replica: Replica) -> bool:
        """Read what has changed; whether the scope is still there."""
        with self._entries.database.read() as connection:
            now = self._entries.state(connection, scope)
            while now is not None:
                seen = replica.seen(now)
                replica.follow(now, seen, self._entries.changes(connection, now.id, seen))
                # On PostgreSQL each query sees what is committed by then: dead rows, which tell of removals, may have
                # been purged between the two.
                later = self._entries.state(connection, scope)
                if later is None or seen < 0 or later.purged == now.purged:
                    return True
                replica.forget()
                now = later
        return False

    def _save(self, scope: str, replica: Replica) -> None:
        with replica.following:
            index, copied = replica.known()
        index.compact()  # or whoever reads the file would have to
        self._snapshots.save(scope, replica.embedder, index, copied)
