"""Reads the answers of a cache from a text file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sqlalchemy import text

from langchain_tokopt.cache.entries import Entries, NewEntry
from langchain_tokopt.cache.scopes import batches
from langchain_tokopt.cache.transfer.rows import UNEMBEDDED, BadRowError, Row, check_header, read_row
from langchain_tokopt.errors import MissingDependencyError, StoreError

if TYPE_CHECKING:
    from langchain_tokopt.database import Database
    from langchain_tokopt.embeddings import MemoEmbeddings

_PORTION = 500
_PRESENT = """SELECT COALESCE(e.answer, e.id), e.payload, e.created_at FROM tokopt_cache_entries e
    JOIN tokopt_cache_scopes s ON s.id = e.scope_id WHERE s.scope = ? AND e.exact = ? AND e.alive = 1"""
_VECTOR = "SELECT vector FROM tokopt_cache_entries WHERE kind = ? AND alive = 1 AND embedder = ? LIMIT 1"
_AS_IT_WAS = text(
    "UPDATE tokopt_cache_entries SET created_at = :created_at, used_at = :used_at, hits = :hits WHERE id = :id"
)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that was not imported, counted from 1, and why."""

    line: int
    reason: str


@dataclass(slots=True)
class Imported:
    """What became of the rows of a file. `older`: the cache had a newer answer to the same question."""

    stored: int = 0
    unchanged: int = 0
    older: int = 0
    expired: int = 0
    failed: list[BadRow] = field(default_factory=list)


def import_(
    database: Database,
    source: str | Path | IO[str] | IO[bytes],
    *,
    embeddings: MemoEmbeddings | None = None,
    clock: Callable[[], float] = time.time,
) -> Imported:
    """What became of the rows of a file that `export` wrote. Importing it twice changes nothing.

    Each bad row is reported by its line, and the others are imported. An answer that has expired is left out, and so is
    one to a question that the cache has answered later. Hits, ages and expiry are kept.

    Args:
        database: Where the answers go.
        source: The file's path, or a stream that is open for reading.
        embeddings: Embeds the questions whose vectors are missing or are another embedder's. Without it, and where its
            model is not found, the cache that uses the database next does so in the background; until then these
            questions are found by their exact text only.
        clock: Unix time in seconds.

    Raises:
        ConfigurationError: The file is none of `export`, or of a newer version.
        StoreError: The file cannot be read, or the database cannot be used.
    """
    into = _Import(database, embeddings, clock())
    if not isinstance(source, (str, Path)):
        into.take(source)
        return into.done
    path = Path(source).expanduser()
    try:
        with path.open("rb") as stream:
            into.take(stream)
    except OSError as error:
        raise StoreError(f"{str(path)!r} cannot be read ({error.strerror})") from error
    return into.done


class _Import:
    """One import under way."""

    def __init__(self, database: Database, embeddings: MemoEmbeddings | None, now: float) -> None:
        self.done = Imported()
        self._database = database
        self._entries = {kind: Entries(database, kind=kind) for kind in ("agent", "llm")}
        self._embeddings = embeddings
        self._now = now
        self._groups: dict[int, int] = {}
        self._lengths: dict[str, int] = {}

    def take(self, stream: Iterable[str] | Iterable[bytes]) -> None:
        lines: Iterator[tuple[int, str | bytes]] = enumerate(stream, start=1)
        check_header(next(lines, (1, ""))[1])
        rows: list[Row] = []
        for number, line in lines:
            if not line.strip():
                continue
            try:
                row = read_row(number, line)
            except BadRowError as error:
                self.done.failed.append(BadRow(number, str(error)))
                continue
            if self._fits(row):
                rows.append(row)
            if len(rows) >= _PORTION:
                self._store(rows)
                rows = []
        self._store(rows)

    def _fits(self, row: Row) -> bool:
        """Whether its vector, if it has one, is as long as the others of its embedder."""
        name, vector = row.new.embedder, row.new.vector
        if name is None or vector is None:
            return True
        if name not in self._lengths:
            known = self._database.fetch(_VECTOR, (row.kind, name))
            self._lengths[name] = len(known[0][0] if known and known[0][0] is not None else vector)
        if len(vector) == self._lengths[name]:
            return True
        reason = f"the vector has {len(vector) // 4} numbers, and those of {name} have {self._lengths[name] // 4}"
        self.done.failed.append(BadRow(row.line, reason))
        return False

    def _store(self, rows: list[Row]) -> None:
        """Store those that are news."""
        news: dict[tuple[str, str, str], Row] = {}
        for row in rows:
            if row.new.expires_at is not None and row.new.expires_at <= self._now:
                self.done.expired += 1
            elif self._is_news(row):
                earlier = news.pop((row.kind, row.new.scope, row.new.exact), None)
                self.done.older += earlier is not None
                news[row.kind, row.new.scope, row.new.exact] = row
        # The first entry of a group is stored before those that share its answer.
        leading: list[Row] = []
        following: list[Row] = []
        groups = set(self._groups)
        for row in news.values():
            (following if row.group in groups else leading).append(row)
            if row.group is not None:
                groups.add(row.group)
        for some in (leading, following):
            for kind, entries in self._entries.items():
                self._put(entries, [row for row in some if row.kind == kind])

    def _is_news(self, row: Row) -> bool:
        found = self._database.fetch(_PRESENT, (row.new.scope, row.new.exact))
        if not found:
            return True
        group, payload, created_at = found[0]
        if payload == row.new.payload:
            self.done.unchanged += 1
            if row.group is not None:
                self._groups[row.group] = int(group)
        elif created_at >= row.created_at:
            self.done.older += 1
        else:
            return True
        return False

    def _put(self, entries: Entries, rows: list[Row]) -> None:
        for some in batches(rows):
            news = [self._new(row) for row in some]
            ids = entries.put_all(news, self._now)
            facts = [
                {"id": key, "created_at": row.created_at, "used_at": row.used_at, "hits": row.hits}
                for key, row in zip(ids, some, strict=True)
            ]
            with self._database.write() as connection:
                connection.execute(_AS_IT_WAS, facts)
            for key, row in zip(ids, some, strict=True):
                if row.group is not None:
                    self._groups.setdefault(row.group, key)
            self.done.stored += len(ids)

    def _new(self, row: Row) -> NewEntry:
        new = replace(row.new, answer=None if row.group is None else self._groups.get(row.group))
        if new.embedder is None or (self._embeddings is None and new.vector is not None):
            return new
        try:
            if self._embeddings is None or new.embedder == self._embeddings.name:
                return new if new.vector is not None else replace(new, embedder=UNEMBEDDED)
            vector = self._embeddings.vector(new.question).astype("<f4").tobytes()
        except MissingDependencyError:
            return new if new.vector is not None else replace(new, embedder=UNEMBEDDED)
        return replace(new, vector=vector, embedder=self._embeddings.name)
