"""What the tools part keeps: vectors of tools, what calls taught, which tools were picked, and small state."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

from langchain_tokopt.errors import ConfigurationError, StoreError
from langchain_tokopt.tools.store_rows import (
    STEPS,
    USAGE_COLUMNS,
    names_text,
    to_bytes,
    to_names,
    to_vectors,
    usage_row,
    usage_sums,
)

# SQLAlchemy is imported where it is used: importing the package must stay quick.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import TextClause

    from langchain_tokopt.database import Database
    from langchain_tokopt.tools.usage_sums import UsageSums

Table: TypeAlias = Literal["vectors", "usage", "picks"]
Item = TypeVar("Item")

log = logging.getLogger("langchain_tokopt")

NO_EMBEDDER: Final = ""
# Days without use after which a row goes, and how old its last use may look: not every use is written.
_KEPT_DAYS: Final[Mapping[Table, int]] = {"vectors": 90, "usage": 90, "picks": 7}
_COARSE_DAYS: Final[Mapping[Table, int]] = {"vectors": 7, "usage": 7, "picks": 1}
_KEYS: Final[Mapping[Table, str]] = {"vectors": "embedder_id, digest", "usage": "embedder_id, digest", "picks": "pick"}
_DAY_SECONDS: Final = 86_400
_AT_ONCE: Final = 500  # values in one query
_IN_ONE_WRITE: Final = 1_000  # vectors in one transaction: other writers wait for it

_OPEN: Final = "INSERT INTO tokopt_tool_embedders (name, revision) VALUES (:name, 0) ON CONFLICT (name) DO NOTHING"
_ID: Final = "SELECT id FROM tokopt_tool_embedders WHERE name = :name"
# Locks the embedder, so that revisions are committed in their order: who reads those after one misses none.
_NEXT_REVISION: Final = """INSERT INTO tokopt_tool_embedders (name, revision) VALUES (:name, 1)
    ON CONFLICT (name) DO UPDATE SET revision = tokopt_tool_embedders.revision + 1 RETURNING id, revision"""
_OF_EMBEDDER: Final = "embedder_id = (SELECT id FROM tokopt_tool_embedders WHERE name = ?)"
_KEEP_VECTOR: Final = """INSERT INTO tokopt_tool_vectors (embedder_id, digest, vector, used)
    VALUES (:embedder, :digest, :vector, :today)
    ON CONFLICT (embedder_id, digest) DO UPDATE SET vector = excluded.vector, used = excluded.used"""
_COLUMNS: Final = ", ".join(USAGE_COLUMNS)
_KEEP_USAGE: Final = (
    f"INSERT INTO tokopt_tool_usage (embedder_id, used, {_COLUMNS}) "  # noqa: S608 - the names are this module's own
    f"VALUES (:embedder, :today, {', '.join(f':{name}' for name in USAGE_COLUMNS)}) "
    f"ON CONFLICT (embedder_id, digest) DO UPDATE SET used = excluded.used, "
    f"{', '.join(f'{name} = excluded.{name}' for name in USAGE_COLUMNS[1:])}"
)
# What was kept first is given back; only its last use is written.
_KEEP_PICK: Final = """INSERT INTO tokopt_tool_picks (pick, names, used) VALUES (:pick, :names, :today)
    ON CONFLICT (pick) DO UPDATE SET used = excluded.used RETURNING names"""
_USE_PICK: Final = "UPDATE tokopt_tool_picks SET used = :today WHERE pick = :pick"
_REPLACE_PICK: Final = "UPDATE tokopt_tool_picks SET names = :names WHERE pick = :pick"
_KEEP_BLOB: Final = """INSERT INTO tokopt_tool_blobs (name, data) VALUES (:name, :data)
    ON CONFLICT (name) DO UPDATE SET data = excluded.data"""


class ToolStore:
    """The tables of the tools part in a database. Thread-safe; several processes may share the database.

    Vectors and what was learned are kept for an embedder, by its `MemoEmbeddings.name`, which ends in the dimension:
    "model/384". What was learned without any is kept for `NO_EMBEDDER`. Rows that cannot be read count as missing, and
    that is said once. Every method raises `StoreError` where the database cannot be used.

    Args:
        database: Where the tables are made.
        clock: Unix time in seconds.

    Raises:
        StoreError: The database cannot be used, or was written by a newer version of this package.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        database.migrate("tools", STEPS)
        self._database = database
        self._clock = clock
        # On PostgreSQL several rows are locked in the order of their keys, or not waited for.
        self._lock = " FOR UPDATE" if database.dialect == "postgresql" else ""
        self._skip = " FOR UPDATE SKIP LOCKED" if database.dialect == "postgresql" else ""
        self._said: set[Table] = set()

    @property
    def _today(self) -> int:
        return int(self._clock() // _DAY_SECONDS)

    # --- vectors -----------------------------------------------------------------------------------------------------

    def vectors(self, embedder: str, digests: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """The vectors that are kept for these digests of texts: each float32 `[d]`, read-only."""
        rows = self._rows("vectors", "digest, vector, used", embedder, digests)
        found = to_vectors({digest: vector for digest, vector, _ in rows}, _dim(embedder))
        self._used("vectors", embedder, {digest: day for digest, _, day in rows})
        self._say_broken("vectors", len(rows) - len(found))
        return found

    def keep_vectors(self, embedder: str, vectors: Mapping[bytes, NDArray[np.float32]]) -> None:
        """Keep vectors, each float32 `[d]`, by the digests of their texts. Those of another length are left out."""
        shape, today = (_dim(embedder),), self._today
        rows = [
            {"digest": digest, "vector": to_bytes(vector), "today": today}
            for digest, vector in sorted(vectors.items())
            if vector.shape == shape
        ]
        self._say_broken("vectors", len(vectors) - len(rows))
        for batch in _batches(rows, _IN_ONE_WRITE):
            with self._database.write() as connection:
                connection.execute(_sql(_OPEN), {"name": embedder})
                number = connection.execute(_sql(_ID), {"name": embedder}).scalar_one()
                connection.execute(_sql(_KEEP_VECTOR), [{**row, "embedder": number} for row in batch])

    # --- what was learned --------------------------------------------------------------------------------------------

    def usage(self, embedder: str, digests: Sequence[bytes]) -> dict[bytes, UsageSums]:
        """What was learned of these tools, by their digests, for `LearnedUsage.merge`."""
        rows = self._rows("usage", f"{_COLUMNS}, used", embedder, digests)
        self._used("usage", embedder, {row[0]: row[-1] for row in rows})
        return self._read_usage(embedder, [row[:-1] for row in rows])

    def add_usage(self, embedder: str, new: Mapping[bytes, UsageSums]) -> dict[bytes, UsageSums]:
        """Put what a process observed on top of what is kept, and give back the sums as they now are.

        For `LearnedUsage.flush`. One transaction; writers for the same embedder take turns. Vectors of another length
        than the embedder's name says are left out.
        """
        shape = (_dim(embedder),)
        told = {
            digest: sums if sums.vector is None or sums.vector.shape == shape else replace(sums, vector=None)
            for digest, sums in sorted(new.items())
        }
        with self._database.write() as connection:
            number, revision = connection.execute(_sql(_NEXT_REVISION), {"name": embedder}).one()
            rows = self._rows("usage", _COLUMNS, embedder, list(told), f" ORDER BY digest{self._lock}")
            known = self._read_usage(embedder, rows)
            kept = {
                digest: replace(known[digest].then(sums) if digest in known else sums, revision=revision)
                for digest, sums in told.items()
            }
            if kept:
                own = {"embedder": number, "today": self._today}
                connection.execute(_sql(_KEEP_USAGE), [usage_row(digest, sums) | own for digest, sums in kept.items()])
        return kept

    def revision(self, embedder: str) -> int:
        """The number of the last write of what was learned: where to begin with `changed_since`."""
        rows = self._database.fetch("SELECT revision FROM tokopt_tool_embedders WHERE name = ?", (embedder,))
        return int(rows[0][0]) if rows else 0

    def changed_since(self, embedder: str, revision: int) -> tuple[int, dict[bytes, UsageSums]]:
        """The newest revision, and what was learned since `revision`, of all tools, for `LearnedUsage.merge`."""
        query = f"SELECT {_COLUMNS} FROM tokopt_tool_usage WHERE {_OF_EMBEDDER} AND revision > ?"  # noqa: S608 - names of ours
        rows = self._database.fetch(query, (embedder, revision))
        newest = max([revision, *(int(row[1]) for row in rows)])
        return newest, self._read_usage(embedder, rows)

    def _read_usage(self, embedder: str, rows: Sequence[Sequence[Any]]) -> dict[bytes, UsageSums]:
        dim = _dim(embedder)
        read = {row[0]: usage_sums(row, dim) for row in rows}
        found = {digest: sums for digest, sums in read.items() if sums is not None}
        self._say_broken("usage", len(rows) - len(found))
        return found

    # --- picks -------------------------------------------------------------------------------------------------------

    def picks(self, key: bytes) -> tuple[str, ...] | None:
        """The names of the tools that were picked for a message, `None` where none are kept."""
        rows = self._database.fetch("SELECT names, used FROM tokopt_tool_picks WHERE pick = ?", (key,))
        if not rows:
            return None
        text, used = rows[0]
        if used <= self._today - _COARSE_DAYS["picks"]:
            with suppress(StoreError), self._database.write() as connection:  # or it is kept less long
                connection.execute(_sql(_USE_PICK), {"pick": key, "today": self._today})
        names = to_names(text)
        self._say_broken("picks", int(names is None))
        return names

    def keep_picks(self, key: bytes, names: Sequence[str]) -> tuple[str, ...]:
        """The names that are kept for the message: these, unless others were kept before."""
        values = {"pick": key, "names": names_text(names), "today": self._today}
        with self._database.write() as connection:
            kept = to_names(connection.execute(_sql(_KEEP_PICK), values).scalar_one())
            if kept is None:
                connection.execute(_sql(_REPLACE_PICK), {"pick": key, "names": values["names"]})
                kept = tuple(names)
        return kept

    # --- small state -------------------------------------------------------------------------------------------------

    def blob(self, name: str) -> bytes | None:
        """What was kept under this name, `None` if nothing was."""
        rows = self._database.fetch("SELECT data FROM tokopt_tool_blobs WHERE name = ?", (name,))
        return rows[0][0] if rows and isinstance(rows[0][0], bytes) else None

    def keep_blob(self, name: str, data: bytes) -> None:
        """Keep bytes under a name of at most 255 characters; what was there is replaced."""
        with self._database.write() as connection:
            connection.execute(_sql(_KEEP_BLOB), {"name": name, "data": data})

    # --- age ---------------------------------------------------------------------------------------------------------

    def cleanup(self) -> int:
        """How many rows were deleted: vectors and learned usage not used for 90 days, picks not used for 7."""
        deleted = 0
        for table, days in _KEPT_DAYS.items():
            key, before = _KEYS[table], self._today - days
            # Those that somebody has locked are in use.
            old = f"SELECT {key} FROM tokopt_tool_{table} WHERE used < :before{self._skip}"  # noqa: S608 - names of ours
            with self._database.write() as connection:
                query = _sql(f"DELETE FROM tokopt_tool_{table} WHERE ({key}) IN ({old})")  # noqa: S608 - likewise
                deleted += connection.execute(query, {"before": before}).rowcount
        return deleted

    # --- shared ------------------------------------------------------------------------------------------------------

    def _rows(
        self, table: Table, columns: str, embedder: str, digests: Sequence[bytes], end: str = ""
    ) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        for batch in _batches(digests, _AT_ONCE):
            query = (
                f"SELECT {columns} FROM tokopt_tool_{table} WHERE {_OF_EMBEDDER} "  # noqa: S608 - names of ours
                f"AND digest IN ({', '.join('?' * len(batch))}){end}"
            )
            rows += self._database.fetch(query, (embedder, *batch))
        return rows

    def _used(self, table: Table, embedder: str, last: Mapping[bytes, int]) -> None:
        """Write down the use of rows whose last known use, a day, is some time ago."""
        long_ago = [digest for digest, day in last.items() if day <= self._today - _COARSE_DAYS[table]]
        for batch in _batches(long_ago, _AT_ONCE):
            names = {f"d{n}": digest for n, digest in enumerate(batch)}
            chosen = (
                f"SELECT embedder_id, digest FROM tokopt_tool_{table} WHERE embedder_id = ({_ID}) "  # noqa: S608 - likewise
                f"AND digest IN ({', '.join(f':{name}' for name in names)}){self._skip}"
            )
            query = f"UPDATE tokopt_tool_{table} SET used = :today WHERE (embedder_id, digest) IN ({chosen})"  # noqa: S608 - likewise
            with suppress(StoreError), self._database.write() as connection:  # or they are kept less long
                connection.execute(_sql(query), {"name": embedder, "today": self._today, **names})

    def _say_broken(self, table: Table, count: int) -> None:
        if count and table not in self._said:
            self._said.add(table)
            log.warning("tools: %d rows of tokopt_tool_%s are of no use and count as missing", count, table)


@functools.lru_cache(maxsize=64)
def _sql(statement: str) -> TextClause:
    from sqlalchemy import text

    return text(statement)


def _batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def _dim(embedder: str) -> int:
    if embedder == NO_EMBEDDER:
        return 0
    dim = embedder.rpartition("/")[2]
    if not dim.isdecimal():
        raise ConfigurationError("embedder", embedder, 'use MemoEmbeddings.name, which ends in "/" and the dimension')
    return int(dim)
