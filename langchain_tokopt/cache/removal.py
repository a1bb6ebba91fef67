"""Removes entries: the expired, the least used, those with a tag, those of an owner, or all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from langchain_tokopt.cache.entries import BURIED, batches, with_ids

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from langchain_tokopt.database import Database

_TOMBSTONE_SECONDS = 600.0

_COUNT = text("SELECT COUNT(*) FROM tokopt_cache_entries WHERE kind = :kind AND alive = 1")
_OLDEST = text(
    """SELECT id FROM tokopt_cache_entries WHERE kind = :kind AND alive = 1 ORDER BY used_at, id LIMIT :count"""
)
_EXPIRED = text("SELECT id FROM tokopt_cache_entries WHERE expires_at <= :now AND alive = 1 AND kind = :kind LIMIT 500")
_BURY = (
    BURIED  # noqa: S608 - both halves are written here
    + """, revision = (SELECT s.revision FROM tokopt_cache_scopes s WHERE s.id = tokopt_cache_entries.scope_id)
    WHERE alive = 1 AND id IN :ids"""
)
_DEAD = "FROM tokopt_cache_entries WHERE kind = :kind AND alive = 0 AND used_at < :before"
_TAGGED = """SELECT e.id FROM tokopt_cache_entries e JOIN tokopt_cache_scopes s ON s.id = e.scope_id
    WHERE e.kind = :kind AND e.alive = 1 AND e.tags LIKE :tag ESCAPE '!'"""
_WITHOUT_ROWS = """DELETE FROM tokopt_cache_scopes WHERE id IN :ids AND NOT EXISTS
    (SELECT 1 FROM tokopt_cache_entries e WHERE e.scope_id = tokopt_cache_scopes.id)"""


class Removal:
    """Removes rows of one `kind` of cache, whose tables exist. Stateless apart from the database.

    Every process learns of a removal by the revision of the scope. Locks are taken as in `Entries`.
    """

    def __init__(self, database: Database, *, kind: str) -> None:
        self.database = database
        self.kind = kind
        self._for_update = " FOR UPDATE" if database.dialect == "postgresql" else ""

    def evict(self, keep: int, now: float) -> int:
        """How many entries were removed: the expired ones, and the least recently used beyond `keep`."""
        # Each step is a transaction of its own: each takes its locks in order, all of them together would not.
        gone = self.remove_expired(now)
        with self.database.write() as connection:
            over = int(connection.execute(_COUNT, {"kind": self.kind}).scalar_one()) - keep
            if over > 0:
                oldest = self._ids(connection, _OLDEST, {"kind": self.kind, "count": over})
                gone += self._bury(connection, oldest, now)
        self.purge(now)
        return gone

    def remove_expired(self, now: float) -> int:
        """How many entries were removed because their time is up; at most 500 at once."""
        with self.database.write() as connection:
            return self._bury(connection, self._ids(connection, _EXPIRED, {"kind": self.kind, "now": now}), now)

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
            for some in self._locked_scopes(connection, self._ids(connection, text(scopes), values)):
                query = with_ids("SELECT COUNT(*) FROM tokopt_cache_entries WHERE alive = 1 AND scope_id IN :ids")
                alive += int(connection.execute(query, {"ids": some}).scalar_one())
                connection.execute(with_ids("DELETE FROM tokopt_cache_entries WHERE scope_id IN :ids"), {"ids": some})
                connection.execute(with_ids("DELETE FROM tokopt_cache_scopes WHERE id IN :ids"), {"ids": some})
        return alive

    def purge(self, now: float) -> None:
        """Delete dead rows that everybody had time to see, and scopes without rows."""
        values = {"kind": self.kind, "before": now - _TOMBSTONE_SECONDS}
        with self.database.write() as connection:
            scopes = self._ids(connection, text(f"SELECT DISTINCT scope_id {_DEAD}"), values)
            for some in self._locked_scopes(connection, scopes):
                connection.execute(
                    with_ids("UPDATE tokopt_cache_scopes SET purged = revision WHERE id IN :ids"), {"ids": some}
                )
                connection.execute(with_ids(f"DELETE {_DEAD} AND scope_id IN :ids"), {"ids": some, **values})
                connection.execute(with_ids(_WITHOUT_ROWS), {"ids": some})

    def _bury(self, connection: Connection, ids: list[int], now: float) -> int:
        """Empty these rows and mark them as dead, under a new revision of their scopes."""
        of = with_ids("SELECT DISTINCT scope_id FROM tokopt_cache_entries WHERE alive = 1 AND id IN :ids")
        scopes = {scope for some in batches(ids) for scope in self._ids(connection, of, {"ids": some})}
        for some in self._locked_scopes(connection, scopes):
            connection.execute(
                with_ids("UPDATE tokopt_cache_scopes SET revision = revision + 1 WHERE id IN :ids"), {"ids": some}
            )
        return sum(
            connection.execute(with_ids(_BURY), {"ids": some, "now": now}).rowcount for some in batches(sorted(ids))
        )

    def _locked_scopes(self, connection: Connection, ids: Iterable[int]) -> list[list[int]]:
        """Those of the scopes that are there, in portions, locked against other writers.

        On SQLite the whole database is. No row of a scope is written without this lock, but for the notes of its use,
        which never wait.
        """
        query = with_ids(f"SELECT id FROM tokopt_cache_scopes WHERE id IN :ids ORDER BY id{self._for_update}")  # noqa: S608
        return [self._ids(connection, query, {"ids": some}) for some in batches(sorted(ids))]

    def _ids(self, connection: Connection, query: Any, values: Mapping[str, Any]) -> list[int]:
        return [int(row[0]) for row in connection.execute(query, dict(values))]
