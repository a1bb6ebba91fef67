"""The cache's rows in the database: scopes, each with a revision that grows with every change, and their entries.

A removed entry stays for a while as an empty row that is no longer alive, so that other processes, which follow a
scope by its revision, learn of it. `purged` is the highest revision of the rows that are gone for good: who has seen
less reads the scope anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, text

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from langchain_tokopt.database import Database

_TOMBSTONE_SECONDS = 600.0
_TYPES = {
    "sqlite": {"key": "INTEGER PRIMARY KEY AUTOINCREMENT", "bytes": "BLOB"},
    "postgresql": {"key": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "bytes": "BYTEA"},
}


def _create_tables(connection: Connection) -> None:
    types = _TYPES[connection.dialect.name]
    for statement in (
        f"""CREATE TABLE tokopt_cache_scopes (
            id {types["key"]}, kind VARCHAR(16) NOT NULL, scope VARCHAR(64) NOT NULL UNIQUE,
            owner VARCHAR(64) NOT NULL, revision BIGINT NOT NULL, purged BIGINT NOT NULL)""",
        "CREATE INDEX tokopt_cache_owner ON tokopt_cache_scopes (kind, owner)",
        f"""CREATE TABLE tokopt_cache_entries (
            id {types["key"]}, scope_id BIGINT NOT NULL REFERENCES tokopt_cache_scopes (id), kind VARCHAR(16) NOT NULL,
            exact VARCHAR(64) NOT NULL, revision BIGINT NOT NULL, alive INTEGER NOT NULL, question TEXT NOT NULL,
            vector {types["bytes"]}, embedder VARCHAR(255), payload TEXT NOT NULL, spent TEXT, tags TEXT NOT NULL,
            created_at DOUBLE PRECISION NOT NULL, expires_at DOUBLE PRECISION, used_at DOUBLE PRECISION NOT NULL,
            hits BIGINT NOT NULL, UNIQUE (scope_id, exact))""",
        "CREATE INDEX tokopt_cache_changes ON tokopt_cache_entries (scope_id, revision)",
        "CREATE INDEX tokopt_cache_lru ON tokopt_cache_entries (kind, alive, used_at)",
        "CREATE INDEX tokopt_cache_expiry ON tokopt_cache_entries (expires_at)",
    ):
        connection.execute(text(statement))


_STEPS: Sequence[Callable[[Connection], None]] = (_create_tables,)

_FIND = text(
    """SELECT s.id, s.revision, s.purged, e.id, e.revision, e.payload, e.spent FROM tokopt_cache_scopes s
    LEFT JOIN tokopt_cache_entries e ON e.scope_id = s.id AND e.exact = :exact AND e.alive = 1
    AND (e.expires_at IS NULL OR e.expires_at > :now) WHERE s.scope = :scope"""
)
_SCOPE = text("SELECT id, revision, purged FROM tokopt_cache_scopes WHERE scope = :scope")
_CHANGES = text(
    """SELECT id, alive, question, vector, embedder, expires_at, revision FROM tokopt_cache_entries
    WHERE scope_id = :scope_id AND revision > :seen ORDER BY revision"""
)
_READ = text("SELECT payload, spent FROM tokopt_cache_entries WHERE id = :id AND revision = :revision AND alive = 1")
_OPEN_SCOPE = text(
    """INSERT INTO tokopt_cache_scopes (kind, scope, owner, revision, purged) VALUES (:kind, :scope, :owner, 1, 0)
    ON CONFLICT (scope) DO UPDATE SET revision = tokopt_cache_scopes.revision + 1"""
)
_PUT = text(
    """INSERT INTO tokopt_cache_entries (scope_id, kind, exact, revision, alive, question, vector, embedder, payload,
    spent, tags, created_at, expires_at, used_at, hits) VALUES (:scope_id, :kind, :exact, :revision, 1, :question,
    :vector, :embedder, :payload, :spent, :tags, :now, :expires_at, :now, 0) ON CONFLICT (scope_id, exact) DO UPDATE SET
    revision = excluded.revision, alive = 1, question = excluded.question, vector = excluded.vector,
    embedder = excluded.embedder, payload = excluded.payload, spent = excluded.spent, tags = excluded.tags,
    created_at = excluded.created_at, expires_at = excluded.expires_at, used_at = excluded.used_at, hits = 0"""
)
_TOUCH = text(
    """UPDATE tokopt_cache_entries SET hits = hits + :hits,
    used_at = CASE WHEN used_at < :at THEN :at ELSE used_at END WHERE id = :id AND alive = 1"""
)
_COUNT = text("SELECT COUNT(*) FROM tokopt_cache_entries WHERE kind = :kind AND alive = 1")
_OLDEST = text(
    """SELECT id FROM tokopt_cache_entries WHERE kind = :kind AND alive = 1 ORDER BY used_at, id LIMIT :count"""
)
_EXPIRED = text("SELECT id FROM tokopt_cache_entries WHERE expires_at <= :now AND alive = 1 AND kind = :kind LIMIT 500")
_BURY = """UPDATE tokopt_cache_entries SET alive = 0, question = '', vector = NULL, payload = '', spent = NULL,
    tags = '', expires_at = NULL, used_at = :now, revision = (SELECT s.revision FROM tokopt_cache_scopes s
    WHERE s.id = tokopt_cache_entries.scope_id) WHERE id IN :ids"""
_DEAD = "FROM tokopt_cache_entries WHERE kind = :kind AND alive = 0 AND used_at < :before"
_TAGGED = """SELECT e.id FROM tokopt_cache_entries e JOIN tokopt_cache_scopes s ON s.id = e.scope_id
    WHERE e.kind = :kind AND e.alive = 1 AND e.tags LIKE :tag ESCAPE '!'"""


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
    """What is stored. `vector`: float32 bytes, `None` for an entry that is found by its exact text only."""

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


class Entries:
    """Reads and writes the rows of one `kind` of cache. Stateless apart from the database.

    On PostgreSQL rows are locked in the order of their ids, scopes before entries, so that writers never deadlock.
    """

    def __init__(self, database: Database, *, kind: str) -> None:
        database.migrate("cache", _STEPS)
        self.database = database
        self.kind = kind
        self._for_update = " FOR UPDATE" if database.dialect == "postgresql" else ""

    def find(self, scope: str, exact: str, now: float) -> tuple[ScopeState | None, Entry | None]:
        """The scope's state and the entry with this exact text, each `None` if there is none."""
        with self.database.read() as connection:
            row = connection.execute(_FIND, {"scope": scope, "exact": exact, "now": now}).first()
        if row is None:
            return None, None
        return ScopeState(*row[:3]), Entry(*row[3:]) if row[3] is not None else None

    def state(self, connection: Connection, scope: str) -> ScopeState | None:
        row = connection.execute(_SCOPE, {"scope": scope}).first()
        return ScopeState(*row) if row is not None else None

    def changes(self, connection: Connection, scope_id: int, seen: int) -> Sequence[Any]:
        """Rows `(id, alive, question, vector, embedder, expires_at, revision)` that are newer than revision `seen`."""
        return connection.execute(_CHANGES, {"scope_id": scope_id, "seen": seen}).all()

    def read(self, entry_id: int, revision: int) -> Entry | None:
        """The entry, if it is still what it was at `revision`."""
        with self.database.read() as connection:
            row = connection.execute(_READ, {"id": entry_id, "revision": revision}).first()
        return Entry(entry_id, revision, row[0], row[1]) if row is not None else None

    def put(self, new: NewEntry, now: float) -> None:
        """Store an answer; one with the same text in the same scope is replaced."""
        with self.database.write() as connection:
            connection.execute(_OPEN_SCOPE, {"kind": self.kind, "scope": new.scope, "owner": new.owner})
            state = self.state(connection, new.scope)
            assert state is not None  # noqa: S101 - written a statement ago, in this transaction
            row = {
                "scope_id": state.id,
                "kind": self.kind,
                "exact": new.exact,
                "revision": state.revision,
                "question": new.question,
                "vector": new.vector,
                "embedder": new.embedder,
                "payload": new.payload,
                "spent": new.spent,
                "tags": "".join(f"|{tag}|" for tag in new.tags),
                "expires_at": new.expires_at,
                "now": now,
            }
            connection.execute(_PUT, row)

    def touch(self, used: Mapping[int, tuple[float, int]]) -> None:
        """Note when entries were last used, and how often since the last note: id -> (time, hits)."""
        rows = [{"id": key, "at": used[key][0], "hits": used[key][1]} for key in sorted(used)]
        if rows:
            with self.database.write() as connection:
                connection.execute(_TOUCH, rows)

    def count(self) -> int:
        with self.database.read() as connection:
            return int(connection.execute(_COUNT, {"kind": self.kind}).scalar_one())

    # --- removal -----------------------------------------------------------------------------------------------------

    def evict(self, keep: int, now: float) -> int:
        """How many entries were removed: the expired ones, and the least recently used beyond `keep`."""
        with self.database.write() as connection:
            gone = self._bury(connection, self._ids(connection, _EXPIRED, {"kind": self.kind, "now": now}), now)
            over = int(connection.execute(_COUNT, {"kind": self.kind}).scalar_one()) - keep
            if over > 0:
                oldest = self._ids(connection, _OLDEST, {"kind": self.kind, "count": over})
                gone += self._bury(connection, oldest, now)
            self._purge(connection, now)
        return gone

    def remove(self, ids: Iterable[int], now: float) -> int:
        """How many of these entries were removed."""
        with self.database.write() as connection:
            return self._bury(connection, list(ids), now)

    def remove_tagged(self, tag: str, owner: str | None, now: float) -> int:
        """How many entries with this tag were removed; of one owner, or of all."""
        plain = tag.replace("!", "!!").replace("%", "!%").replace("_", "!_")
        where = {"kind": self.kind, "tag": f"%|{plain}|%", **({"owner": owner} if owner is not None else {})}
        query = text(_TAGGED + (" AND s.owner = :owner" if owner is not None else ""))
        with self.database.write() as connection:
            return self._bury(connection, self._ids(connection, query, where), now)

    def clear(self, owner: str | None = None) -> int:
        """How many entries were removed: all of this kind, or those of one owner. Their scopes go with them."""
        scopes = "SELECT id FROM tokopt_cache_scopes WHERE kind = :kind"
        values = {"kind": self.kind}
        if owner is not None:
            scopes += " AND owner = :owner"
            values["owner"] = owner
        with self.database.write() as connection:
            alive = 0
            for some in _batches(sorted(self._ids(connection, text(scopes), values))):
                some = self._locked(connection, "tokopt_cache_scopes", "", some)
                query = _in("SELECT COUNT(*) FROM tokopt_cache_entries WHERE alive = 1 AND scope_id IN :ids")
                alive += int(connection.execute(query, {"ids": some}).scalar_one())
                connection.execute(_in("DELETE FROM tokopt_cache_entries WHERE scope_id IN :ids"), {"ids": some})
                connection.execute(_in("DELETE FROM tokopt_cache_scopes WHERE id IN :ids"), {"ids": some})
        return alive

    def _locked(self, connection: Connection, table: str, condition: str, ids: list[int]) -> list[int]:
        """Those of `ids` that are there, locked against other writers (on SQLite the whole database is)."""
        query = f"SELECT id FROM {table} WHERE {condition}id IN :ids ORDER BY id{self._for_update}"  # noqa: S608
        return self._ids(connection, _in(query), {"ids": ids})

    def _ids(self, connection: Connection, query: Any, values: Mapping[str, Any]) -> list[int]:
        return [int(row[0]) for row in connection.execute(query, dict(values))]

    def _bury(self, connection: Connection, ids: list[int], now: float) -> int:
        """Empty these rows and mark them as dead, under a new revision of their scopes."""
        count = 0
        for some in _batches(sorted(ids)):
            of = "SELECT DISTINCT scope_id FROM tokopt_cache_entries WHERE alive = 1 AND id IN :ids"
            scopes = self._ids(connection, _in(of), {"ids": some})
            if not scopes:
                continue
            scopes = self._locked(connection, "tokopt_cache_scopes", "", scopes)
            connection.execute(
                _in("UPDATE tokopt_cache_scopes SET revision = revision + 1 WHERE id IN :ids"), {"ids": scopes}
            )
            living = self._locked(connection, "tokopt_cache_entries", "alive = 1 AND ", some)
            connection.execute(_in(_BURY), {"ids": living, "now": now})
            count += len(living)
        return count

    def _purge(self, connection: Connection, now: float) -> None:
        """Delete dead rows that everybody had time to see, and scopes without rows."""
        before = now - _TOMBSTONE_SECONDS
        dead = "FROM tokopt_cache_entries WHERE kind = :kind AND alive = 0 AND used_at < :before"
        values = {"kind": self.kind, "before": before}
        scopes = self._ids(connection, text(f"SELECT DISTINCT scope_id {dead}"), values)
        for some in _batches(sorted(scopes)):
            some = self._locked(connection, "tokopt_cache_scopes", "", some)
            connection.execute(_in("UPDATE tokopt_cache_scopes SET purged = revision WHERE id IN :ids"), {"ids": some})
            connection.execute(_in(f"DELETE {dead} AND scope_id IN :ids"), {"ids": some, **values})
            connection.execute(
                _in(
                    """DELETE FROM tokopt_cache_scopes WHERE id IN :ids AND NOT EXISTS
                    (SELECT 1 FROM tokopt_cache_entries e WHERE e.scope_id = tokopt_cache_scopes.id)"""
                ),
                {"ids": some},
            )


def _in(statement: str) -> Any:
    return text(statement).bindparams(bindparam("ids", expanding=True))


def _batches(ids: list[int], size: int = 500) -> Iterable[list[int]]:
    """The ids in portions; a statement takes a limited number of parameters."""
    return (ids[start : start + size] for start in range(0, len(ids), size))
