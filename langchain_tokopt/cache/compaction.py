"""Gives the room of removed answers back to the disk."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_tokopt.cache.catalog import Catalog
from langchain_tokopt.cache.cleanup import clean
from langchain_tokopt.cache.removal import Removal
from langchain_tokopt.database_open import parse_url
from langchain_tokopt.errors import StoreError

if TYPE_CHECKING:
    from langchain_tokopt.database import Database

_OF_ANY_AGE = 1e9  # seconds
_PAYS_FROM = 0.05  # of the file: rewriting it for less is not worth the time that writers wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """What was done.

    Attributes:
        expired: How many answers were removed because their time was up.
        tombstones: How many rows of answers that had been removed earlier went for good.
        bytes_before: Size of the file with its log; `None` for a database that is no file of its own.
        bytes_after: The same afterwards.
        rewritten: Whether the file was written anew.
        reason: Why it was not, `None` if it was.
    """

    expired: int
    tombstones: int
    bytes_before: int | None
    bytes_after: int | None
    rewritten: bool
    reason: str | None

    @property
    def freed(self) -> int:
        """Bytes that were given back to the disk; 0 if the file has grown meanwhile."""
        return max(0, (self.bytes_before or 0) - (self.bytes_after or 0))


def compact(
    database: Database, *, clock: Callable[[], float] = time.time, lock_timeout_seconds: float = 30.0
) -> Compacted:
    """Remove what has expired and what is dead for good, and write a SQLite file anew where enough of it is free.

    While a file is rewritten, writers wait. PostgreSQL gives room back by itself (autovacuum).

    Args:
        database: The database; its other tables are compacted with it.
        clock: Unix time in seconds.
        lock_timeout_seconds: How long to wait for writers before the rewriting.

    Raises:
        StoreError: The database cannot be used. What was removed before stays removed.
    """
    file = _file(database)
    before = _size(file)
    expired = tombstones = 0
    for total in Catalog(database, clock=clock).totals():
        removal = Removal(database, kind=total.kind)
        expired += clean(removal, None, clock()).expired
        # The young ones, too: whoever has not seen such a removal reads the scope anew, which is only slower.
        removal.purge(clock() + _OF_ANY_AGE)
        tombstones += total.tombstones
    if file is None:
        reason: str | None = "the server sees to that" if database.dialect == "postgresql" else "it is in memory"
    else:
        reason = _rewritten(file, lock_timeout_seconds)
    return Compacted(
        expired=expired,
        tombstones=tombstones,
        bytes_before=before,
        bytes_after=_size(file),
        rewritten=reason is None,
        reason=reason,
    )


def _file(database: Database) -> Path | None:
    """The file of a SQLite database, `None` if it is none."""
    if database.dialect != "sqlite" or not database.persistent:
        return None
    name = parse_url(database.url).database
    path = Path(name) if name else None
    return path if path is not None and path.is_file() else None


def _size(file: Path | None) -> int | None:
    if file is None:
        return None
    log = file.with_name(f"{file.name}-wal")
    return file.stat().st_size + (log.stat().st_size if log.exists() else 0)


def _rewritten(file: Path, timeout_seconds: float, *, pays_from: float = _PAYS_FROM) -> str | None:
    """Write the file anew if that pays. Why it was not done, `None` if it was."""
    try:
        # VACUUM must be outside of any transaction, and on no connection that others use.
        with closing(sqlite3.connect(file, timeout=timeout_seconds, isolation_level=None)) as connection:
            pages = int(connection.execute("PRAGMA page_count").fetchone()[0])
            free = int(connection.execute("PRAGMA freelist_count").fetchone()[0])
            pays = free >= pays_from * pages
            if pays:
                connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        msg = f"{str(file)!r} was cleaned up and could not be written anew ({error}); try again when it is less in use"
        raise StoreError(msg) from error
    return None if pays else f"only {free / max(1, pages):.0%} of it is free"
