"""Writes the answers of a cache to a text file."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sqlalchemy import text

from langchain_tokopt.cache.entries import Entries
from langchain_tokopt.cache.transfer.rows import COLUMNS, header, told
from langchain_tokopt.errors import StoreError

if TYPE_CHECKING:
    from langchain_tokopt.database import Database

_PORTION = 500
_ROWS = text(
    f"""SELECT {COLUMNS} FROM tokopt_cache_entries e JOIN tokopt_cache_scopes s ON s.id = e.scope_id
    WHERE e.alive = 1 AND (e.expires_at IS NULL OR e.expires_at > :now) AND e.id > :after
    ORDER BY e.id LIMIT :count"""  # noqa: S608 - every part is written here
)


def export(
    database: Database,
    target: str | Path | IO[str],
    *,
    vectors: bool = False,
    clock: Callable[[], float] = time.time,
) -> int:
    """How many answers were written to a file, or to a text stream. A file is written whole or not at all.

    Args:
        database: Holds the answers, of every kind of cache.
        target: The file's path, or a stream that is open for writing text.
        vectors: Write the questions' vectors, too, with the name of their embedder: larger, and quick to import where
            the same embedder is used.
        clock: Unix time in seconds.

    Raises:
        StoreError: The database cannot be read, or the file cannot be written.
    """
    Entries(database, kind="agent")  # makes the tables
    now = clock()
    lines = _exported(database, now, vectors=vectors)
    if not isinstance(target, (str, Path)):
        return _write(lines, now, target)
    with _whole_file(Path(target)) as stream:
        return _write(lines, now, stream)


def _write(rows: Iterable[dict[str, Any]], now: float, stream: IO[str]) -> int:
    count = 0
    stream.write(json.dumps(header(now)) + "\n")
    for row in rows:
        # ASCII, so that no terminal, editor or locale changes what was said.
        stream.write(json.dumps(row) + "\n")
        count += 1
    return count


def _exported(database: Database, now: float, *, vectors: bool) -> Iterator[dict[str, Any]]:
    after = 0
    while True:
        with database.read() as connection:
            rows = connection.execute(_ROWS, {"now": now, "after": after, "count": _PORTION}).all()
        for row in rows:
            yield told(row, vectors=vectors)
        if len(rows) < _PORTION:
            return
        after = int(rows[-1][0])


@contextmanager
def _whole_file(target: Path) -> Iterator[IO[str]]:
    """A stream to a file that appears under its name when all is written."""
    target = target.expanduser().absolute()
    name = ""
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            yield stream
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(target)
        name = ""
    except OSError as error:
        raise StoreError(f"{str(target)!r} could not be written ({error.strerror}); nothing was left behind") from error
    finally:
        if name:
            Path(name).unlink(missing_ok=True)
