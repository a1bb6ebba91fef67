"""Removes entries: the expired, those with a tag, those of an owner, or all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sqlalchemy import text

from langchain_tokopt.cache.entries import BURIED
from langchain_tokopt.cache.scopes import REVISION_OF_THE_SCOPE, advance, batches, ids_of, locked, with_ids

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from langchain_tokopt.database import Database

_TOMBSTONE_SECONDS = 600.0

# Written so that only the index on `expires_at` fits: by another one SQLite would look at all entries that are alive.
_EXPIRED = text(
    """SELECT id FROM tokopt_cache_entries WHERE expires_at <= :now AND alive + 0 = 1 AND kind || '' = :kind
    LIMIT 500"""
)
_BURY = with_ids(f"{BURIED}, {REVISION_OF_THE_SCOPE} WHERE alive = 1 AND id IN :ids")
_DEAD = "FROM tokopt_cache_entries WHERE kind = :kind AND alive = 0 AND used_at < :before"
_TAGGED = """SELECT e.id FROM tokopt_cache_entries e JOIN tokopt_cache_scopes s ON s.id = e.scope_id
    WHERE e.kind = :kind AND e.alive = 1 AND e.tags LIKE :tag ESCAPE '!'"""
_WITHOUT_ROWS = """DELETE FROM tokopt_cache_scopes WHERE id IN :ids AND NOT EXISTS
    (SELECT 1 FROM tokopt_cache_entries e WHERE e.scope_id = tokopt_cache_scopes.id)"""


class Removal:
    """Removes rows of one `kind` of cache, whose tables exist. Stateless apart from the database.

    Every process learns of a removal by the revision of the scope.
    """

    def __init__(self, database: Database, *, kind: str) -> None:
        self.database = database
        self.kind = kind

    def remove_expired(self, now: float) -> int:
        """How many entries were removed because their time is up; at most 500 at once."""
        with self.database.write() as connection:
            return _bury(connection, ids_of(connection, _EXPIRED, {"kind": self.kind, "now": now}), now)

    def remove(self, ids: Iterable[int], now: float) -> int:
        """How many of these entries were removed."""
        with self.database.write() as connection:
            return _bury(connection, list(ids), now)

    def remove_tagged(self, tag: str, owner: str | None, now: float) -> int:
        """How many entries with this tag were removed; of one owner, or of all."""
        plain = tag.replace("!", "!!").replace("%", "!%").replace("_", "!_")
        where = {"kind": self.kind, "tag": f"%|{plain}|%", **({"owner": owner} if owner is not None else {})}
        query = text(_TAGGED + (" AND s.owner = :owner" if owner is not None else ""))
        with self.database.write() as connection:
            return _bury(connection, ids_of(connection, query, where), now)

    def clear(self, owner: str | None = None) -> int:
        """How many entries were removed: all of this kind, or those of one owner. Their scopes go with them."""
        scopes = "SELECT id FROM tokopt_cache_scopes WHERE kind = :kind"
        values = {"kind": self.kind}
        if owner is not None:
            scopes += " AND owner = :owner"
            values["owner"] = owner
        with self.database.write() as connection:
            alive = 0
            for some in locked(connection, ids_of(connection, text(scopes), values)):
                query = with_ids("SELECT COUNT(*) FROM tokopt_cache_entries WHERE alive = 1 AND scope_id IN :ids")
                alive += int(connection.execute(query, {"ids": some}).scalar_one())
                connection.execute(with_ids("DELETE FROM tokopt_cache_entries WHERE scope_id IN :ids"), {"ids": some})
                connection.execute(with_ids("DELETE FROM tokopt_cache_scopes WHERE id IN :ids"), {"ids": some})
        return alive

    def purge(self, now: float) -> None:
        """Delete dead rows that everybody had time to see, and scopes without rows."""
        values = {"kind": self.kind, "before": now - _TOMBSTONE_SECONDS}
        with self.database.write() as connection:
            scopes = ids_of(connection, text(f"SELECT DISTINCT scope_id {_DEAD}"), values)
            for some in locked(connection, scopes):
                connection.execute(
                    with_ids("UPDATE tokopt_cache_scopes SET purged = revision WHERE id IN :ids"), {"ids": some}
                )
                connection.execute(with_ids(f"DELETE {_DEAD} AND scope_id IN :ids"), {"ids": some, **values})
                connection.execute(with_ids(_WITHOUT_ROWS), {"ids": some})


def _bury(connection: Connection, ids: list[int], now: float) -> int:
    """Empty these rows and mark them as dead; how many were alive."""
    advance(connection, ids)
    return sum(connection.execute(_BURY, {"ids": some, "now": now}).rowcount for some in batches(sorted(ids)))
