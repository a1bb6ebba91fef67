"""Finds stored answers, first by the exact question, then by a similar one; and stores new ones.

The database is the truth. The FAISS index of a scope is a replica in this process, brought up to date by revision
before it is asked, so that what another process stored or removed counts at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from langchain_tokopt.cache.decision import Decider, Verdict
from langchain_tokopt.cache.entries import Entries, Entry, NewEntry, ScopeState, Source
from langchain_tokopt.cache.removal import Removal
from langchain_tokopt.cache.replica import Replica, Replicas
from langchain_tokopt.database import Database
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import MissingDependencyError
from langchain_tokopt.weighted_memo import WeightedMemo

log = logging.getLogger("langchain_tokopt")

_TOUCHES = 64  # uses that are noted together: one write for many hits
_PAYLOAD_CHARACTERS = 4_000_000  # of hot answers kept in memory
_RECOUNT = 64  # entries stored by this process before it counts again what others stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a look brought. `entry` is `None` for a miss; `similarity` is then that of the nearest question, if any.

    `verdict`: what was decided about the neighbours, `None` where none were looked at.
    """

    entry: Entry | None = None
    how: Literal["exact", "semantic", "miss"] = "miss"
    similarity: float | None = None
    reason: str | None = None
    verdict: Verdict | None = None


class AnswerStore:
    """Stored answers by scope. Thread-safe; several processes may share the database.

    Args:
        database: Where the answers are.
        embeddings: Embeds the questions. If its model is missing, only exact questions are found; this is logged once.
        kind: Which cache this is; kinds never see each other's entries.
        decider: Says which neighbour's answer may be given.
        max_entries: How many answers of this kind the database keeps; the least recently used go first.
        max_scopes: How many scopes this process keeps in memory.
        neighbours: How many near questions the decider is shown.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        database: Database,
        embeddings: MemoEmbeddings,
        *,
        kind: str,
        decider: Decider,
        max_entries: int,
        max_scopes: int,
        clock: Callable[[], float],
        neighbours: int = 10,
    ) -> None:
        self.entries = Entries(database, kind=kind)
        self.removal = Removal(database, kind=kind)
        self._database = database
        self._embeddings = embeddings
        self._decider = decider
        self._max_entries = max_entries
        self._clock = clock
        self._neighbours = neighbours
        self._replicas = Replicas(max_scopes)
        self._hot: WeightedMemo[Entry] = WeightedMemo(weight_limit=_PAYLOAD_CHARACTERS)
        self._lock = threading.Lock()
        self._used: dict[int, tuple[float, int]] = {}
        self._until_count = 0
        self._warned = False

    # --- looking -----------------------------------------------------------------------------------------------------

    def find(self, scope: str, exact: str, question: str, *, exact_only: str | None) -> Found:
        """The stored answer for a question, or a miss with the reason."""
        now = self._clock()
        state, entry = self.entries.find(scope, exact, now)
        if entry is not None:
            self._touch(entry.id, now)
            return Found(entry=entry, how="exact", similarity=1.0)
        if state is None:
            self._replicas.forget(scope)
            return Found(reason="nothing stored")
        if exact_only is not None:
            return Found(reason=exact_only)
        known = self._replicas.get(scope)
        if known is not None and known.current(state) and not len(known):
            return Found(reason="nothing stored")  # and nothing to embed the question for
        vector = self._vector(question)
        if vector is None:
            return Found(reason="no embedder")
        replica = self._brought_up_to_date(scope, state, len(vector))
        return self._nearest(replica, question, vector, now)

    def _brought_up_to_date(self, scope: str, state: ScopeState, dim: int) -> Replica:
        replica = self._replicas.open(scope, self._embeddings.name, dim)
        if replica.current(state):
            return replica
        with replica.following:
            if replica.current(state):
                return replica  # somebody else was quicker
            with self._database.read() as connection:
                now = self.entries.state(connection, scope)
                while now is not None:
                    seen = replica.seen(now)
                    replica.follow(now, seen, self.entries.changes(connection, now.id, seen))
                    # On PostgreSQL each query sees what is committed by then: dead rows, which tell of removals, may
                    # have been purged between the two.
                    later = self.entries.state(connection, scope)
                    if later is None or (seen < 0 or later.purged == now.purged):
                        return replica
                    replica.forget()
                    now = later
        self._replicas.forget(scope)
        return Replica(self._embeddings.name, dim)

    def _nearest(self, replica: Replica, question: str, vector: np.ndarray, now: float) -> Found:
        near = replica.nearest(vector, self._neighbours, now)
        verdict = self._decider.decide(question, vector, near)
        chosen = verdict.neighbour
        if chosen is not None and verdict.serve:
            entry = self._read(chosen.id, chosen.revision)
            if entry is not None:
                self._touch(chosen.id, now)
                return Found(entry=entry, how="semantic", similarity=chosen.similarity, verdict=verdict)
        best = near[0].similarity if near else None
        return Found(similarity=best, reason=verdict.reason or "removed in the meantime", verdict=verdict)

    def _read(self, entry_id: int, revision: int) -> Entry | None:
        """The entry at this revision. One from memory is as good: any change would have made a new revision."""
        hot = self._hot.get((entry_id, revision))
        if hot is None:
            hot = self.entries.read(entry_id, revision)
            if hot is not None:
                self._hot.put((entry_id, revision), hot, weight=len(hot.payload))
        return hot

    def _vector(self, text: str) -> np.ndarray | None:
        try:
            return self._embeddings.vector(text)
        except MissingDependencyError as error:
            if not self._warned:
                self._warned = True
                log.warning("the cache finds exact repetitions only: %s", error)
            return None

    # --- storing -----------------------------------------------------------------------------------------------------

    def keep(
        self,
        *,
        scope: str,
        owner: str,
        exact: str,
        question: str,
        payload: str,
        semantic: bool,
        spent: str | None = None,
        tags: tuple[str, ...] = (),
        ttl_seconds: float | None = None,
        answer: int | None = None,
        value_nano_usd: int | None = None,
        source: Source = "model",
    ) -> int:
        """The id under which an answer was stored. One to the same text is replaced; what has no room is evicted.

        `answer`: the number of the group of entries that hold the same answer (`Neighbour.answer`), `None` for an
        answer of its own.
        """
        vector = self._vector(question) if semantic else None
        now = self._clock()
        new = NewEntry(
            scope=scope,
            owner=owner,
            exact=exact,
            # Never shown, only compared by the guard; PostgreSQL takes neither NUL nor lone surrogates.
            question=question.replace("\x00", " ").encode("utf-8", "replace").decode() if vector is not None else "",
            payload=payload,
            vector=vector.astype("<f4").tobytes() if vector is not None else None,
            embedder=self._embeddings.name if vector is not None else None,
            spent=spent,
            tags=tags,
            expires_at=now + ttl_seconds if ttl_seconds is not None else None,
            answer=answer,
            value_nano_usd=value_nano_usd,
            source=source,
        )
        entry_id = self.entries.put(new, now)
        with self._lock:
            self._until_count -= 1
            due = self._until_count < 0
        if due:
            self._make_room(now)
        return entry_id

    def _make_room(self, now: float) -> None:
        self.flush()
        self.removal.evict(self._max_entries, now)
        with self._lock:
            self._until_count = min(_RECOUNT, self._max_entries - self.entries.count())

    def drop(self, entry: Entry) -> None:
        """Remove an entry that turned out to be unreadable."""
        self.removal.remove([entry.id], self._clock())

    def remove_tagged(self, tag: str, owner: str | None = None) -> int:
        return self.removal.remove_tagged(tag, owner, self._clock())

    def clear(self, owner: str | None = None) -> int:
        self._replicas.forget()
        self._hot.clear()
        return self.removal.clear(owner)

    def _touch(self, entry_id: int, now: float) -> None:
        with self._lock:
            _, hits = self._used.get(entry_id, (0.0, 0))
            self._used[entry_id] = (now, hits + 1)
            due = len(self._used) >= _TOUCHES
        if due:
            self.flush()

    def flush(self) -> None:
        """Write down what was used lately; the order of eviction comes from it."""
        with self._lock:
            used, self._used = self._used, {}
        self.entries.touch(used)
