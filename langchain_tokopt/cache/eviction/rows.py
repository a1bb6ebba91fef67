"""The cache's rows as eviction reads them: few at a time, always by an index."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from langchain_tokopt.cache.eviction.policies import Facts
from langchain_tokopt.cache.scopes import batches, with_ids

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from langchain_tokopt.database import Database

_COLUMNS = "id, scope_id, exact, used_at, created_at, expires_at, hits, bytes, value"
_ALIVE = f"SELECT {_COLUMNS} FROM tokopt_cache_entries WHERE kind = :kind AND alive = 1"  # noqa: S608
_LEAST_RECENT = text(f"{_ALIVE} ORDER BY used_at, id LIMIT :count")
_MOST_RECENT = text(f"{_ALIVE} ORDER BY used_at DESC, id DESC LIMIT :count")
# Written so that only the index on `expires_at` fits: the others would have all entries read and sorted.
_SOONEST = text(
    f"""SELECT {_COLUMNS} FROM tokopt_cache_entries WHERE kind || '' = :kind AND alive + 0 = 1 AND expires_at > 0
    ORDER BY expires_at, id LIMIT :count"""  # noqa: S608
)
_OLDEST = text(f"{_ALIVE} AND expires_at IS NULL ORDER BY id LIMIT :count")
# The digests of questions are as good as random numbers: a stretch of them is a fair sample of all entries.
_STRETCH = text(f"{_ALIVE} AND exact > :after ORDER BY exact LIMIT :count")
_THESE = with_ids(f"{_ALIVE} AND id IN :ids")

_STATE = "SELECT version, state FROM tokopt_cache_eviction WHERE kind = ? AND policy = ?"
_VERSION = "SELECT version FROM tokopt_cache_eviction WHERE kind = ? AND policy = ?"
_FIRST_STATE = text(
    """INSERT INTO tokopt_cache_eviction (kind, policy, version, state) VALUES (:kind, :policy, 1, :state)
    ON CONFLICT (kind, policy) DO NOTHING"""
)
_NEXT_STATE = text(
    """UPDATE tokopt_cache_eviction SET version = version + 1, state = :state
    WHERE kind = :kind AND policy = :policy AND version = :version"""
)


def _create_tables(connection: Connection) -> None:
    for statement in (
        """CREATE TABLE tokopt_cache_eviction (kind VARCHAR(16) NOT NULL, policy VARCHAR(16) NOT NULL,
            version BIGINT NOT NULL, state TEXT NOT NULL, PRIMARY KEY (kind, policy))""",
        "CREATE INDEX tokopt_cache_sample ON tokopt_cache_entries (kind, alive, exact)",
    ):
        connection.execute(text(statement))


_STEPS: Sequence[Callable[[Connection], None]] = (_create_tables,)


@dataclass(frozen=True, slots=True)
class Row:
    """An entry as eviction sees it. `value` in nano-USD, `None` if unknown."""

    id: int
    scope_id: int
    exact: str
    used_at: float
    created_at: float
    expires_at: float | None
    hits: int
    bytes: int
    value: int | None

    @property
    def key(self) -> str:
        """The question's name in the miniatures: it stays the same when the question is stored again."""
        return row_key(self.scope_id, self.exact)

    def facts(self, usual_value: float) -> Facts:
        """What a policy is told; `usual_value` stands in for a value that is not known."""
        return Facts(
            used_at=self.used_at,
            created_at=self.created_at,
            expires_at=self.expires_at,
            hits=self.hits,
            bytes=self.bytes,
            value=usual_value if self.value is None else float(self.value),
        )


def row_key(scope_id: int, exact: str) -> str:
    """The name of a question in the miniatures."""
    return f"{scope_id}:{exact[:20]}"


def usual_value(rows: Collection[Row]) -> float:
    """The mean of the values that are known, 1 if none is."""
    known = [row.value for row in rows if row.value is not None]
    return sum(known) / len(known) if known else 1.0


class Rows:
    """Reads candidates of one kind of cache whose tables exist, and keeps what a policy has learnt."""

    def __init__(self, database: Database, *, kind: str) -> None:
        database.migrate("cache_eviction", _STEPS)
        self.database = database
        self.kind = kind
        self._after = ""

    def least_recent(self, count: int) -> list[Row]:
        return self._read(_LEAST_RECENT, count=count)

    def most_recent(self, count: int) -> list[Row]:
        return self._read(_MOST_RECENT, count=count)

    def soonest(self, count: int) -> list[Row]:
        """What expires first, and then, of what never expires, what was stored first."""
        rows = self._read(_SOONEST, count=count)
        return rows if len(rows) == count else rows + self._read(_OLDEST, count=count - len(rows))

    def sample(self, count: int) -> list[Row]:
        """A fair sample; one after the other they go round through all entries."""
        rows = self._read(_STRETCH, count=count, after=self._after)
        if len(rows) < count:
            rows += self._read(_STRETCH, count=count - len(rows), after="")
        self._after = rows[-1].exact if rows else ""
        return list({row.id: row for row in rows}.values())

    def these(self, ids: Collection[int]) -> list[Row]:
        """Those of these entries that are still there."""
        return [row for some in batches(sorted(ids)) for row in self._read(_THESE, ids=some)]

    def _read(self, query: Any, **values: Any) -> list[Row]:
        with self.database.read() as connection:
            return [Row(*row) for row in connection.execute(query, {"kind": self.kind, **values})]

    # --- what was learnt ---------------------------------------------------------------------------------------------

    def version(self, policy: str) -> int:
        """The number of the last state, 0 if there is none."""
        found = self.database.fetch(_VERSION, (self.kind, policy))
        return int(found[0][0]) if found else 0

    def state(self, policy: str) -> tuple[int, str | None]:
        """The number of the last state, and the state; 0 and `None` if there is none."""
        found = self.database.fetch(_STATE, (self.kind, policy))
        return (int(found[0][0]), str(found[0][1])) if found else (0, None)

    def save(self, policy: str, version: int, state: str) -> bool:
        """Whether the state was saved as the one after `version`; not if another process was quicker."""
        values = {"kind": self.kind, "policy": policy, "version": version, "state": state}
        with self.database.write() as connection:
            return bool(connection.execute(_NEXT_STATE if version else _FIRST_STATE, values).rowcount)
