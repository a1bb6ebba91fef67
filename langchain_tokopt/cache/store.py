"""Finds stored answers, first by the exact question, then by a similar one; and stores new ones.

The database is the truth. The vector index of a scope is a replica in this process, brought up to date by revision
before it is asked, so that what another process stored or removed counts at once.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from langchain_tokopt.cache.choosing import Choosing
from langchain_tokopt.cache.chores import Chores
from langchain_tokopt.cache.cleanup import Cleaned
from langchain_tokopt.cache.decision import Decider, Verdict
from langchain_tokopt.cache.entries import Entries, Entry, NewEntry, ScopeState, Source
from langchain_tokopt.cache.eviction import Eviction, Limits
from langchain_tokopt.cache.expiry import check_jitter, expires_at
from langchain_tokopt.cache.following import Follower
from langchain_tokopt.cache.groups import Groups
from langchain_tokopt.cache.neighbourhoods import Neighbourhood, draw
from langchain_tokopt.cache.reembed import Reembedding
from langchain_tokopt.cache.removal import Removal
from langchain_tokopt.cache.snapshots import Snapshots
from langchain_tokopt.cache.upkeep import Upkeep
from langchain_tokopt.cache.uses import Uses
from langchain_tokopt.database import Database
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import ConfigurationError, MissingDependencyError
from langchain_tokopt.forks import follow_forks

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger("langchain_tokopt")

_SHOWN = 2_000  # characters that are kept of a question that is only ever shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a look brought. `entry` is `None` for a miss; `similarity` is then that of the nearest question, if any.

    `verdict`: what was decided about the neighbours, `None` where none were looked at. `vector`: of the question,
    float32 `[d]`, where it was needed.
    """

    entry: Entry | None = None
    how: Literal["exact", "semantic", "miss"] = "miss"
    similarity: float | None = None
    reason: str | None = None
    verdict: Verdict | None = None
    vector: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)


class AnswerStore:
    """Stored answers by scope. Thread-safe; several processes may share the database.

    Attributes:
        database: Where the answers are.

    Args:
        database: Where the answers are.
        embeddings: Embeds the questions. If its model is missing, only exact questions are found; this is logged once.
        kind: Which cache this is; kinds never see each other's entries.
        decider: Says which neighbour's answer may be given.
        max_entries: How many answers of this kind the database keeps; `None` for any number.
        max_scopes: How many scopes this process keeps in memory.
        neighbours: How many near questions the decider is shown.
        clock: Unix time in seconds.
        on_embedder_change: What happens if the database holds questions that another embedder has embedded: "reembed"
            embeds them anew in the background, "refuse" raises.
        max_entry_bytes: A bigger entry (payload, question and vector together) is not stored.
        index_folder: Where the indexes of big scopes are kept as files; by default beside a SQLite file, else nowhere.
        eviction: What goes first when there is no room.
        max_bytes: How many bytes all entries of this kind may have together; `None` for any number.
        ttl_jitter: Share of its TTL, in [0, 1), by which an answer may expire earlier, so that not all do at once.

    Raises:
        ConfigurationError: The database holds vectors of another embedder, and that is refused.
        StoreError: The database cannot be used.
    """

    def __init__(
        self,
        database: Database,
        embeddings: MemoEmbeddings,
        *,
        kind: str,
        decider: Decider,
        max_entries: int | None,
        max_scopes: int,
        clock: Callable[[], float],
        neighbours: int = 20,
        on_embedder_change: Literal["reembed", "refuse"] = "reembed",
        max_entry_bytes: int | None = None,
        index_folder: str | Path | None = None,
        eviction: Eviction = "adaptive",
        max_bytes: int | None = None,
        ttl_jitter: float = 0.1,
    ) -> None:
        if on_embedder_change not in ("reembed", "refuse"):
            raise ConfigurationError("on_embedder_change", on_embedder_change, 'use "reembed" or "refuse"')
        if max_entry_bytes is not None and (isinstance(max_entry_bytes, bool) or not max_entry_bytes > 0):
            raise ConfigurationError("max_entry_bytes", max_entry_bytes, "use a number of bytes, or None for any size")
        check_jitter(ttl_jitter)
        limits = Limits(entries=max_entries, bytes=max_bytes)
        self.entries = Entries(database, kind=kind)
        self.removal = Removal(database, kind=kind)
        self.database = database
        self._embeddings = embeddings
        self._decider = decider
        self._clock = clock
        self._neighbours = neighbours
        self._max_scopes = max_scopes
        self._max_entry_bytes = max_entry_bytes
        self._ttl_jitter = ttl_jitter
        self._groups = Groups(database, kind=kind)
        self._upkeep = Upkeep(self.entries, self.removal, eviction=eviction, limits=limits, clock=clock)
        self._chores = Chores()
        self._snapshots = Snapshots(database, kind=kind, folder=index_folder)
        self._reembedding = Reembedding(database, kind=kind, embeddings=embeddings, clock=clock)
        self._counts: Counter[str] = Counter()
        self._warned = False
        self._start_anew()
        follow_forks(self, level=1)
        if on_embedder_change == "refuse":
            with suppress(MissingDependencyError):  # then nothing is compared at all
                self._reembedding.refuse()

    def _start_anew(self) -> None:
        self._follower = Follower(self.entries, self._snapshots, self._chores, max_scopes=self._max_scopes)
        self._choosing = Choosing(self.entries, self._decider, neighbours=self._neighbours)
        self._lock = threading.Lock()
        self._uses = Uses(self.entries, self._chores)

    def counts(self) -> dict[str, Any]:
        """What became of entries, what room there is, and what is done in the background.

        "too_big": not stored by this process for their size. "reembedded" and "not_reembedded": embedded anew by this
        process, or not because the embedder failed. "to_reembed": left in the database with vectors of another
        embedder, `None` as long as the embedder was not needed. "failed_chores": work in the background that failed.
        "policy", "entries", "bytes", "max_entries", "max_bytes", "evicted" (by this process), and where the policy is
        adaptive "followed" and "scores": as in `Room.status`.
        """
        reembedding, known = self._reembedding, self._embeddings.loaded
        return {
            "too_big": self._counts["too_big"],
            "reembedded": reembedding.done,
            "not_reembedded": reembedding.failed,
            "to_reembed": sum(reembedding.others().values()) if known else None,
            "failed_chores": self._chores.failures,
            **self._upkeep.status(),
        }

    def close(self) -> None:
        """Write down what is pending and end what is done in the background. The database stays open."""
        try:
            self._upkeep.close()
        finally:
            self._chores.close()
            self.flush()

    # --- looking -----------------------------------------------------------------------------------------------------

    def find(self, scope: str, exact: str, question: str, *, exact_only: str | None, decide: bool = True) -> Found:
        """The stored answer for a question, or a miss with the reason.

        Args:
            scope: Where to look.
            exact: Digest of the question.
            question: Its text.
            exact_only: Why similar questions do not count, `None` if they do.
            decide: Whether to look for similar questions, if they count: a decision is counted by who decides, and one
                question should be decided once.
        """
        now = self._clock()
        state, entry = self.entries.find(scope, exact, now)
        if entry is not None:
            self._uses.note(entry.id, now)
            return Found(entry=entry, how="exact", similarity=1.0)
        if state is None:
            self._follower.forget(scope)
            return Found(reason="nothing stored")
        if exact_only is not None:
            return Found(reason=exact_only)
        if not decide:
            return Found(reason="not stored")
        return self._find_similar(scope, state, question, now)

    def _find_similar(self, scope: str, state: ScopeState, question: str, now: float) -> Found:
        if self._follower.holds_nothing(scope, state):
            self._reembedding.take_up(self._chores)
            return Found(reason="nothing stored")  # and nothing to embed the question for
        vector = self._vector(question)
        if vector is None:
            return Found(reason="no embedder")
        replica = self._follower.replica(scope, state, self._embeddings.name, len(vector))
        verdict, entry = self._choosing.choose(replica, question, vector, now)
        if entry is not None and verdict.neighbour is not None:
            self._uses.note(entry.id, now)
            similarity = verdict.neighbour.similarity
            return Found(entry=entry, how="semantic", similarity=similarity, verdict=verdict, vector=vector)
        best = verdict.near[0].similarity if verdict.near else None
        return Found(similarity=best, reason=verdict.reason, verdict=verdict, vector=vector)

    def preload(self, scope: str, answers: Iterable[int]) -> set[int]:
        """Which of these answers, by the numbers of their groups, are in memory from now on; their scope's index is.

        For what is likely to be asked soon. Not for the caller's own time: it reads the database.
        """
        loaded = set()
        for answer, entry in self.entries.of_answers(scope, answers):
            self._choosing.remember(entry)
            loaded.add(answer)
        if loaded and self._embeddings.loaded:
            with self.database.read() as connection:
                state = self.entries.state(connection, scope)
            if state is not None:
                self._follower.replica(scope, state, self._embeddings.name, self._embeddings.dim)
        return loaded

    def _vector(self, text: str) -> NDArray[np.float32] | None:
        try:
            vector = self._embeddings.vector(text)
        except MissingDependencyError as error:
            if not self._warned:
                self._warned = True
                log.warning("the cache finds exact repetitions only: %s", error)
            return None
        self._reembedding.take_up(self._chores)
        return vector

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
    ) -> int | None:
        """The id under which an answer was stored, `None` if it is too big. One to the same text is replaced.

        The question is compared by meaning if it is `semantic`; of any other the text is only shown, as it begins.

        `answer`: the number of the group of entries that hold the same answer (`Neighbour.answer`), `None` for an
        answer of its own.
        """
        vector = self._vector(question) if semantic else None
        now = self._clock()
        new = NewEntry(
            scope=scope,
            owner=owner,
            exact=exact,
            question=_storable(question if semantic else question[:_SHOWN]),
            payload=payload,
            vector=vector.astype("<f4").tobytes() if vector is not None else None,
            embedder=self._embeddings.name if vector is not None else None,
            spent=spent,
            tags=tags,
            expires_at=expires_at(now, ttl_seconds, key=exact, jitter=self._ttl_jitter),
            answer=answer,
            value_nano_usd=value_nano_usd,
            source=source,
        )
        size = new.size
        if not self._upkeep.fits(size) or (self._max_entry_bytes is not None and size > self._max_entry_bytes):
            with self._lock:
                self._counts["too_big"] += 1
            return None
        entry_id = self.entries.put(new, now)
        if self._upkeep.stored(size):
            self.flush()
            self._upkeep.make_room(now)
        return entry_id

    def set_answer(self, entry_id: int, answer: int) -> bool:
        """Whether the entry, which turned out to hold the same answer, came into the group of this number."""
        return self._groups.assign(entry_id, answer)

    def regroup(self, answer: int, into: int) -> int:
        """How many entries of one group came into another one, whose answer turned out to be the same."""
        return self._groups.merge(answer, into)

    # --- what is there -----------------------------------------------------------------------------------------------

    def answer_texts(self, ids: Iterable[int]) -> dict[int, str]:
        """The payloads of these entries, by id; of those that are there."""
        return self._groups.payloads(ids)

    def neighbourhoods(self, count: int, rng: np.random.Generator) -> list[Neighbourhood]:
        """At most `count` stored questions drawn from what is in memory, each with those that are near it."""
        return draw(self._follower.replicas(), count, rng, k=self._neighbours, now=self._clock())

    def questions(self, scope: str) -> dict[int, str]:
        """What this process has in memory of a scope: id -> question. For those who want to check."""
        return self._follower.questions(scope)

    # --- removing ----------------------------------------------------------------------------------------------------

    def clean(self) -> Cleaned:
        """How many entries were removed: the expired, and those that there is no room for. Done in this thread."""
        self.flush()
        return self._upkeep.clean(self._clock())

    def drop(self, entry: Entry) -> None:
        """Remove an entry that turned out to be unreadable."""
        self.remove([entry.id])

    def remove(self, ids: Iterable[int]) -> int:
        """How many of these entries were removed."""
        return self.removal.remove(ids, self._clock())

    def remove_tagged(self, tag: str, owner: str | None = None) -> int:
        return self.removal.remove_tagged(tag, owner, self._clock())

    def clear(self, owner: str | None = None) -> int:
        self._follower.forget()
        self._choosing.forget()
        removed = self.removal.clear(owner)
        self._snapshots.sweep()
        return removed

    def flush(self) -> None:
        """Write down what was used lately; the order of eviction comes from it."""
        self._uses.flush()

    # --- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        return None

    def after_fork_in_parent(self) -> None:
        return None

    def after_fork_in_child(self) -> None:
        """Any lock may be held by a thread that is not there; what is in memory is read again when it is needed."""
        self._start_anew()


def _storable(text: str) -> str:
    """The text without what PostgreSQL does not take: NUL and lone surrogates."""
    return text.replace("\x00", " ").encode("utf-8", "replace").decode()
