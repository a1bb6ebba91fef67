"""Files that hold the index of a big scope, so that a process need not read all of it from the database.

The database remains the truth: a file says up to which revision it goes, and what came later is read. A file that is
damaged, or belongs to another database, is thrown away. Like the database it holds the questions, so it is readable
for its owner only, and goes when its scope goes.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_tokopt.cache.facts import Facts
from langchain_tokopt.errors import StoreError
from langchain_tokopt.vectors import VectorIndex

if TYPE_CHECKING:
    from langchain_tokopt.cache.entries import ScopeState
    from langchain_tokopt.database import Database

log = logging.getLogger("langchain_tokopt")

# A scope of this size is read in a tenth of a second; below, a file would not pay.
_LEAST_ROWS = 10_000
# A file is written anew when this part of its scope has changed: until then that is soon read from the database.
_CHANGED_SHARE = 0.1
_SUFFIX = ".index"
_CREATED = "SELECT created_at FROM tokopt_cache_entries WHERE id = ?"
_KNOWN = "SELECT 1 FROM tokopt_cache_scopes WHERE kind = ? AND scope = ?"


@dataclass(frozen=True, slots=True)
class Copied:
    """What is written beside the vectors of a scope: its facts at a revision, and the highest of their ids."""

    scope_id: int
    revision: int
    newest: int
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A scope as it was read from a file."""

    index: VectorIndex
    facts: Facts
    revision: int


class _ForeignError(StoreError):
    """A file is sound and does not belong to this database."""


class Snapshots:
    """The files of one kind of cache in a folder. Thread-safe; processes may share the folder.

    Args:
        database: What they are copies of.
        kind: Which cache.
        folder: Where they are; made with the first of them. By default beside a SQLite file, else nowhere.
    """

    def __init__(self, database: Database, *, kind: str, folder: str | Path | None = None) -> None:
        self._database = database
        self._kind = kind
        beside = database.path.with_name(f"{database.path.name}.index") if database.path is not None else None
        self._folder = Path(folder).expanduser() if folder is not None else beside
        self._warned: set[Path] = set()

    def due(self, rows: int, changed: int) -> bool:
        """Whether a scope of so many rows, of which so many have changed since it was last written, should be."""
        return self._folder is not None and rows >= _LEAST_ROWS and changed >= _CHANGED_SHARE * rows

    def save(self, scope: str, embedder: str, index: VectorIndex, copied: Copied) -> bool:
        """Whether a file was written, whole or not at all. The index may have gone on since the facts were copied.

        Raises:
            StoreError: It could not be.
        """
        path = self._path(scope, embedder)
        created = self._database.fetch(_CREATED, (copied.newest,))
        if path is None or not created:
            return False  # the newest was removed and purged in the meantime: the next file will do
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            msg = f"the folder {str(path.parent)!r} for the cache's index cannot be made ({error.strerror})"
            raise StoreError(msg) from error
        note = {
            "scope": scope,
            "scope_id": copied.scope_id,
            "embedder": embedder,
            "revision": copied.revision,
            "newest": [copied.newest, created[0][0]],
            "facts": copied.facts,
        }
        index.save(path, note=note)
        return True

    def load(self, scope: str, state: ScopeState, embedder: str, dim: int) -> Snapshot | None:
        """The scope as its file has it, `None` if there is none that can be used."""
        path = self._path(scope, embedder)
        if path is None or not path.exists():
            return None
        try:
            index = VectorIndex.load(path)
            return self._checked(index, scope, state, embedder, dim)
        except Exception as error:  # whatever a broken file does
            what = "belongs to another database" if isinstance(error, _ForeignError) else "is damaged"
            if path not in self._warned:
                self._warned.add(path)
                log.warning("the cache's index %s %s and is built anew from the database: %s", path, what, error)
            self._discard(path)
            return None

    def _checked(self, index: VectorIndex, scope: str, state: ScopeState, embedder: str, dim: int) -> Snapshot | None:
        note: Mapping[str, Any] = index.note
        revision, (newest, created) = note["revision"], note["newest"]
        if [note["scope"], note["embedder"], index.dim] != [scope, embedder, dim]:
            raise _ForeignError("it is of another scope or embedder")
        if note["scope_id"] != state.id or revision > state.revision:
            raise _ForeignError("it knows of entries that are not there")
        if revision < state.purged:
            return None  # too old to learn what was removed since
        # A database that was restored from a copy has other entries under the same numbers. This one is still there,
        # be it as a dead row: if that were purged, the file would be too old.
        if self._database.fetch(_CREATED, (newest,)) != [(created,)]:
            raise _ForeignError("it knows of entries that are not there")
        facts = Facts.of(note["facts"])
        index.note = {}
        # The index may have gone on while the file was being written; what is newer than `revision` is read again.
        index.remove([key for key in index.ids() if facts.get(key) is None])
        return Snapshot(index, facts, revision)

    def sweep(self) -> int:
        """How many files were removed because their scopes are gone."""
        gone = 0
        for path in self._files():
            scope = path.name.split(".")[1]
            if not self._database.fetch(_KNOWN, (self._kind, scope)):
                gone += self._discard(path)
        return gone

    def _files(self) -> list[Path]:
        folder = self._folder
        return sorted(folder.glob(f"{self._kind}.*{_SUFFIX}")) if folder is not None and folder.is_dir() else []

    def _path(self, scope: str, embedder: str) -> Path | None:
        if self._folder is None or not scope.isalnum():  # a scope is a digest; anything else is no name for a file
            return None
        by = hashlib.blake2b(embedder.encode(), digest_size=6).hexdigest()
        return self._folder / f"{self._kind}.{scope}.{by}{_SUFFIX}"

    def _discard(self, path: Path) -> bool:
        try:
            path.unlink()
        except OSError:
            return False
        return True
