"""Embeds the stored questions anew when the embedder has changed."""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from langchain_tokopt.cache.scopes import REVISION_OF_THE_SCOPE, advance
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_tokopt.cache.chores import Chores
    from langchain_tokopt.database import Database

log = logging.getLogger("langchain_tokopt")

_BATCH = 16  # questions that are embedded together; a small share of a second, and one short transaction
_LEASE_SECONDS = 60.0  # longer than any batch should take
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 60.0, 3600.0  # until what was left is taken up again

_OTHERS = """SELECT embedder, COUNT(*) FROM tokopt_cache_entries WHERE kind = ? AND alive = 1
    AND embedder IS NOT NULL AND embedder <> ? GROUP BY embedder ORDER BY embedder"""
_ANY = "SELECT 1 FROM tokopt_cache_entries WHERE kind = ? AND alive = 1 AND embedder IS NOT NULL LIMIT 1"
_NEXT = """SELECT id, question, embedder FROM tokopt_cache_entries WHERE kind = ? AND alive = 1
    AND embedder IS NOT NULL AND embedder <> ? AND id > ? ORDER BY id LIMIT ?"""
_TARGET = "SELECT holder FROM tokopt_cache_leases WHERE name = ?"
_AIM = text(
    """INSERT INTO tokopt_cache_leases (name, holder, expires_at) VALUES (:name, :holder, 0)
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder"""
)
_TAKE = text(
    """INSERT INTO tokopt_cache_leases (name, holder, expires_at) VALUES (:name, :holder, :until)
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
    WHERE tokopt_cache_leases.holder = excluded.holder OR tokopt_cache_leases.expires_at <= :now"""
)
_RELEASE = text("DELETE FROM tokopt_cache_leases WHERE name = :name AND holder = :holder")
# Only what is still as it was read: it may have been removed or, by whoever took over a lease, embedded meanwhile.
_UPDATE = text(
    f"""UPDATE tokopt_cache_entries SET vector = :vector, embedder = :embedder,
    bytes = bytes - COALESCE(LENGTH(vector), 0) + :length, {REVISION_OF_THE_SCOPE}
    WHERE id = :id AND alive = 1 AND embedder = :before"""  # noqa: S608
)


class Reembedding:
    """Gives the questions of one kind of cache vectors of the current embedder, a few at a time.

    Vectors of two embedders are never compared: until its turn comes an entry is found by its exact text only. One
    process at a time does it, for as long as it holds a lease; another takes over when that runs out. If processes with
    different embedders share a database, the one that was opened last decides, so that they never undo each other's
    work.

    Attributes:
        done: How many entries this process has embedded anew.
        failed: How many it could not embed; they stay as they are.

    Args:
        database: Holds the entries; their tables exist.
        kind: Which cache.
        embeddings: The current embedder.
        clock: Unix time in seconds.
    """

    def __init__(
        self, database: Database, *, kind: str, embeddings: MemoEmbeddings, clock: Callable[[], float]
    ) -> None:
        self.done = 0
        self.failed = 0
        self._database = database
        self._kind = kind
        self._embeddings = embeddings
        # One that remembers next to nothing: thousands of old questions must not push out those that are asked now.
        self._embed = MemoEmbeddings(embeddings.source, size=1)
        self._clock = clock
        self._me = uuid.uuid4().hex
        self._running = threading.Lock()
        self._failure_logged = False
        self._due_at, self._wait = -math.inf, _FIRST_WAIT_SECONDS

    def others(self) -> dict[str, int]:
        """How many entries have vectors of another embedder, by its name."""
        rows = self._database.fetch(_OTHERS, (self._kind, self._embeddings.name))
        return {name: int(count) for name, count in rows}

    def refuse(self) -> None:
        """Raises `ConfigurationError` if the cache holds vectors of another embedder. Nothing is embedded anew then."""
        self._due_at = math.inf
        # An embedder that has nothing to be compared with need not be found now.
        others = self.others() if self._database.fetch(_ANY, (self._kind,)) else {}
        if others:
            held = ", ".join(f"{count} of {name!r}" for name, count in others.items())
            remedy = (
                f"the cache in {self._database.url} holds vectors of another embedder ({held}): use that one, set "
                'on_embedder_change="reembed" to embed the questions anew, or clear the cache'
            )
            raise ConfigurationError("embeddings", self._embeddings.name, remedy)

    def take_up(self, chores: Chores) -> None:
        """Do it in the background: at the first call once the embedder is in use, and later again if some were left."""
        if self._clock() >= self._due_at and self._embeddings.loaded:
            self._due_at = math.inf
            chores.ask("embedding anew", partial(self._turn, chores))

    def _turn(self, chores: Chores) -> None:
        done = False
        try:
            done = not self.begin() or self.run(wanted=lambda: chores.wanted)
        finally:
            if not done:
                self._due_at = self._clock() + self._wait
                self._wait = min(2 * self._wait, _LONGEST_WAIT_SECONDS)

    def begin(self) -> bool:
        """Whether there is anything to do. If so, this process's embedder is the one that counts from now on."""
        if not self.others():
            return False
        with self._database.write() as connection:
            connection.execute(_AIM, {"name": self._name("embedder"), "holder": self._target()})
        return True

    def run(self, *, wanted: Callable[[], bool] = lambda: True) -> bool:
        """Whether all is done. Ends early if it is not `wanted`, is another process's turn, or nothing works."""
        with self._running:
            after: int | None = 0
            while after is not None and wanted():
                after = self.step(after)
            self._release()
        return not self.others()

    def step(self, after: int) -> int | None:
        """The last id of a few entries above `after` that were embedded; `None` if there were none."""
        if not self._mine():
            return None
        rows = self._database.fetch(_NEXT, (self._kind, self._embeddings.name, after, _BATCH))
        vectors = [self._vector(question) for _, question, _ in rows]
        if not any(vector is not None for vector in vectors):
            return None
        self._store(rows, vectors)
        return int(rows[-1][0])

    def _vector(self, question: str) -> bytes | None:
        try:
            # As a query, like every stored question: a question is compared with questions.
            return self._embed.vector(question).astype("<f4").tobytes()
        except Exception as error:
            self.failed += 1
            if not self._failure_logged:
                self._failure_logged = True
                log.warning("a cached question could not be embedded anew: %s: %s", type(error).__name__, error)
            return None

    def _store(self, rows: Sequence[Any], vectors: Sequence[bytes | None]) -> None:
        name = self._embeddings.name
        with self._database.write() as connection:
            advance(connection, [key for (key, _, _), vector in zip(rows, vectors, strict=True) if vector is not None])
            for (key, _, before), vector in zip(rows, vectors, strict=True):
                if vector is not None:
                    row = {"id": key, "vector": vector, "length": len(vector), "embedder": name, "before": before}
                    self.done += connection.execute(_UPDATE, row).rowcount

    # --- whose turn it is --------------------------------------------------------------------------------------------

    def _mine(self) -> bool:
        """Whether this process is the one to do it, for the next minute."""
        target = self._database.fetch(_TARGET, (self._name("embedder"),))
        if target != [(self._target(),)]:
            return False
        now = self._clock()
        take = {"name": self._name("reembed"), "holder": self._me, "now": now, "until": now + _LEASE_SECONDS}
        with self._database.write() as connection:
            return bool(connection.execute(_TAKE, take).rowcount)

    def _release(self) -> None:
        with self._database.write() as connection:
            connection.execute(_RELEASE, {"name": self._name("reembed"), "holder": self._me})

    def _name(self, what: str) -> str:
        return f"{what}:{self._kind}"

    def _target(self) -> str:
        return hashlib.blake2b(self._embeddings.name.encode(), digest_size=32).hexdigest()
