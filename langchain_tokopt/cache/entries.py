"""Reads and writes the cache's entries. An entry never changes its answer: a new one is a new entry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sqlalchemy import text

from langchain_tokopt.cache.schema import STEPS
from langchain_tokopt.cache.scopes import batches, with_ids

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from langchain_tokopt.database import Database

Source: TypeAlias = Literal["model", "import", "audit", "prefetch"]


_FIND = """SELECT s.id, s.revision, s.purged, e.id, e.revision, e.payload, e.spent FROM tokopt_cache_scopes s
    LEFT JOIN tokopt_cache_entries e ON e.scope_id = s.id AND e.exact = ? AND e.alive = 1
    AND (e.expires_at IS NULL OR e.expires_at > ?) WHERE s.scope = ?"""
_SCOPE = text("SELECT id, revision, purged FROM tokopt_cache_scopes WHERE scope = :scope")
_CHANGES = text(
    """SELECT id, alive, question, vector, embedder, expires_at, revision, COALESCE(answer, id)
    FROM tokopt_cache_entries WHERE scope_id = :scope_id AND revision > :seen ORDER BY revision"""
)
_READ = "SELECT payload, spent FROM tokopt_cache_entries WHERE id = ? AND revision = ? AND alive = 1"
_OPEN_SCOPE = text(
    """INSERT INTO tokopt_cache_scopes (kind, scope, owner, revision, purged) VALUES (:kind, :scope, :owner, 0, 0)
    ON CONFLICT (scope) DO NOTHING"""
)
_OF_ANSWERS = with_ids(
    """SELECT COALESCE(e.answer, e.id), e.id, e.revision, e.payload, e.spent FROM tokopt_cache_scopes s
    JOIN tokopt_cache_entries e ON e.scope_id = s.id WHERE s.scope = :scope AND s.kind = :kind AND e.alive = 1
    AND (e.answer IN :ids OR (e.answer IS NULL AND e.id IN :ids)) ORDER BY e.id"""
)
_BY_NAME = with_ids("SELECT id, scope FROM tokopt_cache_scopes WHERE scope IN :ids")
_NEXT_REVISION = text("UPDATE tokopt_cache_scopes SET revision = revision + 1 WHERE id = :id RETURNING revision")
_PUT = text(
    """INSERT INTO tokopt_cache_entries (scope_id, kind, exact, revision, alive, question, vector, embedder, payload,
    spent, tags, created_at, expires_at, used_at, hits, answer, bytes, value, source) VALUES (:scope_id, :kind, :exact,
    :revision, 1, :question, :vector, :embedder, :payload, :spent, :tags, :now, :expires_at, :now, 0, :answer, :bytes,
    :value, :source) RETURNING id"""
)
_TOUCH = text(
    """UPDATE tokopt_cache_entries SET hits = hits + :hits,
    used_at = CASE WHEN used_at < :at THEN :at ELSE used_at END WHERE id = :id AND alive = 1"""
)
_FREE = with_ids("SELECT id FROM tokopt_cache_entries WHERE id IN :ids AND alive = 1 FOR UPDATE SKIP LOCKED")
_COUNT = text("SELECT COUNT(*) FROM tokopt_cache_entries WHERE kind = :kind AND alive = 1")
_SIZE = text("SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM tokopt_cache_entries WHERE kind = :kind AND alive = 1")
_PORTION = 1_000  # rows that are read together
# A dead entry gives the name of its question free.
BURIED = """UPDATE tokopt_cache_entries SET alive = 0, exact = '#' || id, question = '', vector = NULL, payload = '',
    spent = NULL, tags = '', expires_at = NULL, used_at = :now, bytes = 0, value = NULL"""
_REPLACE = text(BURIED + ", revision = :revision WHERE scope_id = :scope_id AND exact = :exact")


@dataclass(frozen=True, slots=True)
class ScopeState:
    """A scope as the database has it now."""

    id: int
    revision: int
    purged: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored answer: its text, and what giving it had used (JSON)."""

    id: int
    revision: int
    payload: str
    spent: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """What is stored.

    Attributes:
        vector: float32 bytes, `None` for an entry that is found by its exact text only.
        answer: The number of the group of entries with the same answer, that is the id of its first entry; `None` for
            an answer of its own.
        value_nano_usd: What one hit saves, `None` if that is not known.
        source: Who gave the answer.
    """

    scope: str
    owner: str
    exact: str
    question: str
    payload: str
    vector: bytes | None = None
    embedder: str | None = None
    spent: str | None = None
    tags: tuple[str, ...] = ()
    expires_at: float | None = None
    answer: int | None = None
    value_nano_usd: int | None = None
    source: Source = "model"

    @property
    def size(self) -> int:
        """Bytes of payload, question and vector together."""
        # Lone surrogates are the store's to deal with; here they only must not raise.
        texts = sum(len(part.encode("utf-8", "surrogatepass")) for part in (self.payload, self.question))
        return texts + (len(self.vector) if self.vector is not None else 0)


class Entries:
    """Reads and writes the rows of one `kind` of cache. Stateless apart from the database."""

    def __init__(self, database: Database, *, kind: str) -> None:
        database.migrate("cache", STEPS)
        self.database = database
        self.kind = kind

    def find(self, scope: str, exact: str, now: float) -> tuple[ScopeState | None, Entry | None]:
        """The scope's state and the entry with this exact text, each `None` if there is none."""
        rows = self.database.fetch(_FIND, (exact, now, scope))
        if not rows:
            return None, None
        row = rows[0]
        return ScopeState(*row[:3]), Entry(*row[3:]) if row[3] is not None else None

    def state(self, connection: Connection, scope: str) -> ScopeState | None:
        row = connection.execute(_SCOPE, {"scope": scope}).first()
        return ScopeState(*row) if row is not None else None

    def changes(self, connection: Connection, scope_id: int, seen: int) -> Iterator[Sequence[Any]]:
        """Rows `(id, alive, question, vector, embedder, expires_at, revision, answer)` newer than revision `seen`.

        In portions: a scope can be bigger than what should be in memory twice.
        """
        where = {"scope_id": scope_id, "seen": seen}
        return connection.execute(_CHANGES, where, execution_options={"yield_per": _PORTION}).partitions(_PORTION)

    def read(self, entry_id: int, revision: int) -> Entry | None:
        """The entry, if it is still what it was at `revision`."""
        rows = self.database.fetch(_READ, (entry_id, revision))
        return Entry(entry_id, revision, *rows[0]) if rows else None

    def of_answers(self, scope: str, answers: Iterable[int]) -> list[tuple[int, Entry]]:
        """The entries of these groups in one scope, each with the number of its group."""
        found: list[tuple[int, Entry]] = []
        with self.database.read() as connection:
            for some in batches(sorted(set(answers))):
                rows = connection.execute(_OF_ANSWERS, {"scope": scope, "kind": self.kind, "ids": some})
                found.extend((int(row[0]), Entry(*row[1:])) for row in rows)
        return found

    def put(self, new: NewEntry, now: float) -> int:
        """The id of the new entry. One with the same text in the same scope is removed."""
        return self.put_all([new], now)[0]

    def put_all(self, news: Sequence[NewEntry], now: float) -> list[int]:
        """The ids of the new entries, in their order; stored in one transaction, all or none."""
        owners = {new.scope: new.owner for new in news}
        while owners:
            with self.database.write() as connection:
                scopes = self._opened(connection, owners)
                if len(scopes) == len(owners):
                    return [self._put(connection, new, *scopes[new.scope], now) for new in news]
            # A scope was removed between its opening and its lock: once more from the start, with no lock in hand.
        return []

    def _opened(self, connection: Connection, owners: Mapping[str, str]) -> dict[str, tuple[int, int]]:
        """Id and new revision of the scopes that are there, by name; locked until the end of the transaction."""
        known = self._scope_ids(connection, owners)
        if len(known) < len(owners):
            # New ones in the order of their names, before any lock is taken: so that nobody waits in a circle.
            for scope in sorted(owners.keys() - known.keys()):
                connection.execute(_OPEN_SCOPE, {"kind": self.kind, "scope": scope, "owner": owners[scope]})
            known = self._scope_ids(connection, owners)
        opened = {}
        for scope, key in sorted(known.items(), key=lambda item: item[1]):
            revision = connection.execute(_NEXT_REVISION, {"id": key}).scalar()
            if revision is not None:
                opened[scope] = (key, int(revision))
        return opened

    def _scope_ids(self, connection: Connection, names: Iterable[str]) -> dict[str, int]:
        some = (connection.execute(_BY_NAME, {"ids": part}) for part in batches(list(names)))
        return {scope: int(key) for rows in some for key, scope in rows}

    def _put(self, connection: Connection, new: NewEntry, scope_id: int, revision: int, now: float) -> int:
        where = {"scope_id": scope_id, "exact": new.exact, "revision": revision, "now": now}
        connection.execute(_REPLACE, where)
        row = {
            **where,
            "kind": self.kind,
            "question": new.question,
            "vector": new.vector,
            "embedder": new.embedder,
            "payload": new.payload,
            "spent": new.spent,
            "tags": "".join(f"|{tag}|" for tag in new.tags),
            "expires_at": new.expires_at,
            "answer": new.answer,
            "bytes": new.size,
            "value": new.value_nano_usd,
            "source": new.source,
        }
        return int(connection.execute(_PUT, row).scalar_one())

    def touch(self, used: Mapping[int, tuple[float, int]]) -> None:
        """Note when entries were last used, and how often since the last note: id -> (time, hits).

        A note never waits: on PostgreSQL entries that others write at this moment are passed over.
        """
        rows = [{"id": key, "at": used[key][0], "hits": used[key][1]} for key in sorted(used)]
        for some in batches(rows):
            with self.database.write() as connection:
                if self.database.dialect == "postgresql":
                    free = connection.execute(_FREE, {"ids": [row["id"] for row in some]}).scalars().all()
                    some = [row for row in some if row["id"] in free]
                if some:
                    connection.execute(_TOUCH, some)

    def count(self) -> int:
        """How many entries there are, whoever stored them."""
        with self.database.read() as connection:
            return int(connection.execute(_COUNT, {"kind": self.kind}).scalar_one())

    def size(self) -> tuple[int, int]:
        """How many entries there are, and how many bytes they hold together."""
        with self.database.read() as connection:
            count, total = connection.execute(_SIZE, {"kind": self.kind}).one()
        return int(count), int(total)
