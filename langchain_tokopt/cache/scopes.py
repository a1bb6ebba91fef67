"""Locks and revisions of scopes: how a change to entries is ordered, and made known to every process.

Every writer of entries locks their scopes first, in the order of their ids, and writes the entries under a new revision
of the scope. So revisions are committed in their order, and on PostgreSQL writers never wait in a circle. On SQLite a
writer has the whole database.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, text

if TYPE_CHECKING:
    from sqlalchemy import Connection

# In an UPDATE of entries: the revision that their scope has by now.
REVISION_OF_THE_SCOPE = (
    "revision = (SELECT s.revision FROM tokopt_cache_scopes s WHERE s.id = tokopt_cache_entries.scope_id)"
)


def with_ids(statement: str) -> Any:
    """The statement, with a list for its parameter `ids`."""
    return text(statement).bindparams(bindparam("ids", expanding=True))


def batches(values: list[Any], size: int = 500) -> Iterator[list[Any]]:
    """The values in portions; a statement takes a limited number of parameters."""
    return (values[start : start + size] for start in range(0, len(values), size))


def ids_of(connection: Connection, query: Any, values: Mapping[str, Any]) -> list[int]:
    """The first column of a query's rows."""
    return [int(row[0]) for row in connection.execute(query, dict(values))]


_OF_ENTRIES = with_ids("SELECT DISTINCT scope_id FROM tokopt_cache_entries WHERE alive = 1 AND id IN :ids")
_ADVANCE = with_ids("UPDATE tokopt_cache_scopes SET revision = revision + 1 WHERE id IN :ids")
_LOCK = {
    "sqlite": with_ids("SELECT id FROM tokopt_cache_scopes WHERE id IN :ids ORDER BY id"),
    "postgresql": with_ids("SELECT id FROM tokopt_cache_scopes WHERE id IN :ids ORDER BY id FOR UPDATE"),
}


def locked(connection: Connection, ids: Iterable[int]) -> list[list[int]]:
    """Those of the scopes that are there, in portions, locked against other writers until the transaction ends."""
    query = _LOCK[connection.dialect.name]
    return [ids_of(connection, query, {"ids": some}) for some in batches(sorted(ids))]


def advance(connection: Connection, entries: list[int]) -> None:
    """Give the scopes of these entries a new revision, and lock them."""
    scopes = {scope for some in batches(entries) for scope in ids_of(connection, _OF_ENTRIES, {"ids": some})}
    for some in locked(connection, scopes):
        connection.execute(_ADVANCE, {"ids": some})
