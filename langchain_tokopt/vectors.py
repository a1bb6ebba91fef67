"""Vectors with ids, and the nearest of them: an index that can forget, and that nobody waits for."""

from __future__ import annotations

import logging
import math
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.vector_compaction import WORN_SHARE, Plan, draw, give_back, may_sketch
from langchain_tokopt.vector_file import read_index, write_index
from langchain_tokopt.vector_search import nearest
from langchain_tokopt.vector_segments import Flat, Open, Segment, Storage, faiss

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Ids: TypeAlias = NDArray[np.int64]

log = logging.getLogger("langchain_tokopt")

_NORM_TOLERANCE = 1e-3
# Up to here a scan takes 3 ms (384 dimensions, one thread); there is no reason to miss anything.
EXACT_ROWS = 65_536
# Rows are written into segments of this size: 12 MB at 384 dimensions, reserved at once and used as they come.
_SEGMENT_ROWS = 8_192
# The first begins with less, since there may be thousands of small indexes.
_FIRST_ROWS = 256
# The open segment is cleared of the dead by whoever removes: not for fewer than these.
_WORN_ROWS = 256


class VectorIndex:
    """Ids and their unit vectors; finds the nearest by cosine similarity. Thread-safe.

    Up to `exact_rows` rows a search is one scan and misses nothing (384 dimensions: 1,000 rows 0.03 ms, 10,000 rows
    0.1 ms, 65,000 rows 3 ms). Of more, the older ones are moved into inverted files, which find 99 % of the nearest
    ten in well under a millisecond for 100,000 rows; this is done in the background, as is the clearing of removed
    rows. A search takes no lock: it waits for no other search, for nothing in the background, and for an `add` only if
    that gives an id a new vector.

    Args:
        dim: Length of the vectors.
        storage: "float32", or "int8" for a quarter of the memory; similarities are then off by about 0.001. The newest
            rows are kept as float32 until there are enough to know the range of their numbers.
        exact_rows: Up to so many rows every search is exact; `None` for any number.

    Attributes:
        note: What `save` was told to keep with the vectors, after `load`.
    """

    def __init__(self, dim: int, *, storage: Storage = "float32", exact_rows: int | None = EXACT_ROWS) -> None:
        if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
            raise ConfigurationError("dim", dim, "use the length of the vectors, a whole number of at least 1")
        if storage not in ("float32", "int8"):
            raise ConfigurationError("storage", storage, 'use "float32" or "int8"')
        whole = isinstance(exact_rows, int) and not isinstance(exact_rows, bool)
        if exact_rows is not None and (not whole or exact_rows < 1):
            raise ConfigurationError("exact_rows", exact_rows, "use a whole number of at least 1, or None")
        faiss()
        self.dim = dim
        self.storage: Storage = storage
        self.exact_rows = exact_rows
        self.note: Mapping[str, Any] = {}
        self._segment_rows = _SEGMENT_ROWS if exact_rows is None else max(1, min(_SEGMENT_ROWS, exact_rows // 8))
        self._plan = Plan(dim, storage, exact_rows, self._segment_rows)
        # The last one is open. Replaced as a whole, so that a search sees the segments of one moment.
        self._segments: tuple[Segment, ...] = (Open(dim, min(_FIRST_ROWS, self._segment_rows), sketched=True),)
        self._renewed = 0  # counts up before and after ids are given new vectors: odd while it happens
        self._background: threading.Thread | None = None
        self._failed = False
        self._lock = threading.RLock()  # for those who change anything
        self._compacting = threading.Lock()  # for the one who rewrites segments; taken before the other
        _follow_forks(self)

    def __len__(self) -> int:
        return sum(segment.living for segment in self._segments)

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, (int, np.integer)):
            return False
        with self._lock:
            return any(segment.where(np.array([key], dtype=np.int64))[0] >= 0 for segment in self._segments)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that vectors, ids and what finds them take."""
        return sum(segment.nbytes for segment in self._segments)

    def ids(self) -> list[int]:
        """The ids that can be found."""
        with self._lock:
            return [key for segment in self._segments for key in segment.ids[segment.living_rows()].tolist()]

    # --- searching ---------------------------------------------------------------------------------------------------

    def search(self, query: Floats, k: int) -> list[tuple[int, float]]:
        """Nearest entries by cosine similarity. `query`: float32 `[d]`, unit norm.

        Returns at most `k` `(id, similarity)`, similarity in [-1, 1], best first.
        """
        if k < 1:
            return []
        block = self._checked_query(query)
        renewed = self._renewed
        found = nearest(self._segments, block, k)
        if renewed & 1 or renewed != self._renewed:
            # An id was given a new vector meanwhile: both its old and its new row may have been seen, or neither.
            with self._lock:
                return nearest(self._segments, block, k)
        return found

    def vector(self, key: int) -> Floats:
        """The vector of an id: float32 `[d]`, unit norm.

        Raises:
            KeyError: There is no such id.
        """
        row: Floats = self.vectors([key])[0]
        return row

    def vectors(self, ids: Sequence[int]) -> Floats:
        """The vectors of `ids`, in their order: float32 `[n, d]`, unit norm.

        Raises:
            KeyError: One of them is not there; it is the error's argument.
        """
        keys = np.asarray(ids, dtype=np.int64)
        found = np.empty((len(keys), self.dim), dtype=np.float32)
        missing = np.ones(len(keys), dtype=np.bool_)
        if len(keys):
            with self._lock:
                for segment in self._segments:
                    rows = segment.where(keys)
                    here = rows >= 0
                    if here.any():
                        found[here] = segment.vectors(rows[here])
                        missing &= ~here
        if missing.any():
            raise KeyError(int(keys[missing][0]))
        return found

    # --- changing ----------------------------------------------------------------------------------------------------

    def add(self, ids: Sequence[int], vectors: Floats) -> None:
        """Add vectors; an id that is already there gets the new vector, of an id given twice the last counts.

        `vectors`: float32 `[n, d]`, unit norm.
        """
        block = self._checked(vectors, len(ids))
        keys = [int(key) for key in ids]
        if not keys:
            return
        last = {key: row for row, key in enumerate(keys)}
        if len(last) < len(keys):
            keys, block = list(last), np.ascontiguousarray(block[list(last.values())])
        new = np.array(keys, dtype=np.int64)
        with self._lock:
            old = self._rows_of(new)
            self._renewed += 1 if old else 0
            _bury(old)
            start = 0
            while start < len(new):
                segment = self._open(len(new) - start)
                end = start + segment.room
                segment.append(new[start:end], block[start:end])
                start = end
            self._renewed += 1 if old else 0
            self._tidy()

    def remove(self, ids: Sequence[int]) -> int:
        """How many of `ids` were there; they are found no more."""
        keys = np.array(list({int(key) for key in ids}), dtype=np.int64)
        if not len(keys):
            return 0
        with self._lock:
            count = _bury(self._rows_of(keys))
            self._tidy()
            return count

    def rebuild(self) -> None:
        """Write the index anew without the removed rows, now. Done in the background when there are many."""
        with self._lock:
            self._clear_open()
        while self._compact(share=0.0):
            pass

    def compact(self) -> None:
        """Do now, in this thread, whatever is due in the background."""
        while self._compact():
            pass

    def _rows_of(self, keys: Ids) -> list[tuple[Segment, Ids]]:
        """Where the living rows of `keys` are."""
        found = []
        for segment in self._segments:
            rows = segment.where(keys)
            rows = rows[rows >= 0]
            if len(rows):
                found.append((segment, rows))
        return found

    def _open(self, wanted: int) -> Open:
        """The segment to write to, with room for at least one of the `wanted` rows; a new one if the last is full."""
        last = cast("Open", self._segments[-1])
        whole = last.capacity >= self._segment_rows
        if last.room >= (1 if whole else wanted):
            return last
        if not whole:
            return self._moved(last, max(4 * last.capacity, last.living + wanted))
        sealed = (*self._segments[:-1], Flat.sealed(last))
        opened = Open(self.dim, self._segment_rows, sketched=may_sketch(sealed))
        self._segments = (*sealed, opened)
        return opened

    def _moved(self, last: Segment, capacity: int) -> Open:
        """`last` as the open segment without its dead rows, in new memory: who is searching still sees the old."""
        # All before it have been counted when it was opened.
        sketched = last.sketched if isinstance(last, Open) else may_sketch(self._segments)
        kept = Open(self.dim, min(self._segment_rows, capacity), sketched=sketched)
        rows = last.living_rows()
        kept.append(last.ids[rows], last.vectors(rows))
        self._segments = (*self._segments[:-1], kept)
        return kept

    def _clear_open(self) -> None:
        last = cast("Open", self._segments[-1])
        if last.buried:
            self._moved(last, last.capacity)

    def _tidy(self) -> None:
        """Clear the open segment if that is due, and leave the others to the background."""
        last = self._segments[-1]
        if last.buried >= _WORN_ROWS and last.buried >= WORN_SHARE * last.count:
            self._clear_open()
        if self._background is None and not self._failed and self._plan.due(self._segments, WORN_SHARE):
            thread = threading.Thread(target=self._work, name="tokopt-vectors")
            try:
                thread.start()
            except RuntimeError:  # the interpreter is shutting down
                return
            self._background = thread

    # --- in the background -------------------------------------------------------------------------------------------

    def _work(self) -> None:
        # Not a daemon: one that comes back from FAISS when the interpreter has gone would crash it. Once the main
        # thread has ended nothing new is begun.
        try:
            while threading.main_thread().is_alive() and self._compact():
                pass
        except Exception:
            self._failed = True
            log.exception("a vector index goes on without being compacted")
        with self._lock:
            self._background = None
            if threading.main_thread().is_alive():
                self._tidy()  # for what became due after the last look

    def _compact(self, share: float = WORN_SHARE) -> bool:
        """Whether something was due; it is done now."""
        with self._compacting:
            with self._lock:
                job = self._plan.due(self._segments, share)
                if job is None:
                    return False
                dead = [source.dead.copy() for source in job.sources]
            kept = [np.flatnonzero(~each) for each in dead]
            written = self._plan.written(job, kept)
            draw([*(each for each in self._segments if each not in job.sources), *written])
            with self._lock:
                # What was removed meanwhile was marked in the sources only.
                for source, before in zip(job.sources, dead, strict=True):
                    gone = source.ids[source.dead & ~before]
                    if len(gone):
                        for segment in written:
                            rows = segment.where(gone)
                            segment.bury(rows[rows >= 0])
                others = [segment for segment in self._segments if segment not in job.sources]
                self._segments = (*written, *others)
            del job, written
            give_back()
            return True

    # --- forks, files ------------------------------------------------------------------------------------------------

    def after_fork_in_child(self) -> None:
        """Go on alone: whoever was changing the index, or compacting it, is not here."""
        self._lock, self._compacting, self._background = threading.RLock(), threading.Lock(), None
        self._renewed += self._renewed & 1
        for segment in self._segments:
            segment.recount()

    def save(self, path: str | Path, *, note: Mapping[str, Any] | None = None) -> None:
        """Write the index to one file, whole or not at all; others may search and change it meanwhile.

        `note`: Whatever JSON can hold; found again as `note` after `load`.

        Raises:
            StoreError: The file cannot be written; an older one is untouched.
        """
        with self._lock:
            parts = [(segment, segment.living_rows()) for segment in self._segments if segment.living]
        about = {"dim": self.dim, "storage": self.storage, "exact_rows": self.exact_rows, "note": dict(note or {})}
        write_index(Path(path), about, parts)

    @classmethod
    def load(cls, path: str | Path) -> VectorIndex:
        """The index that `save` wrote to `path`.

        Raises:
            StoreError: There is none, or it is damaged or from another version; says which.
        """
        about, segments = read_index(Path(path))
        index = cls(about["dim"], storage=about["storage"], exact_rows=about["exact_rows"])
        index.note = about["note"]
        newest = None
        if segments and isinstance(segments[-1], Flat) and segments[-1].count < index._segment_rows:
            newest = segments.pop()  # was open when it was saved, and is again
        draw(segments)
        with index._lock:
            index._segments = (*segments, *index._segments)
            if newest is not None:
                index._moved(newest, newest.count)
            index._tidy()
        return index

    # --- checks ------------------------------------------------------------------------------------------------------

    def _checked(self, vectors: Any, count: int) -> Floats:
        block = np.ascontiguousarray(vectors, dtype=np.float32)
        if block.shape != (count, self.dim) and not (count == 0 and block.size == 0):
            raise ConfigurationError("vectors", block.shape, f"the shape must be ({count}, {self.dim})")
        norms = np.sqrt(np.einsum("ij,ij->i", block, block)) if count else np.ones(1)
        if not (np.abs(norms - 1.0) <= _NORM_TOLERANCE).all():
            raise _bad_norm(float(norms[np.argmax(np.abs(norms - 1.0))]))
        return block

    def _checked_query(self, query: Any) -> Floats:
        row = np.ascontiguousarray(query, dtype=np.float32)
        if row.shape != (self.dim,):
            raise ConfigurationError("query", row.shape, f"the shape must be ({self.dim},)")
        norm = math.sqrt(float(row.dot(row)))
        if not abs(norm - 1.0) <= _NORM_TOLERANCE:
            raise _bad_norm(norm)
        return row[None, :]


# Not `forks.follow_forks`, which takes a lock that the one who forks holds while a database waits for its transactions
# to end: an index that is made inside one would wait for the fork, and the fork for it.
_indexes: weakref.WeakSet[VectorIndex] = weakref.WeakSet()
_hooked: list[bool] = []


def _follow_forks(index: VectorIndex) -> None:
    _indexes.add(index)
    if not _hooked and hasattr(os, "register_at_fork"):
        _hooked.append(True)  # twice, if two threads come at once, does no harm
        os.register_at_fork(after_in_child=_after_fork_in_child)


def _after_fork_in_child() -> None:
    for index in list(_indexes):
        index.after_fork_in_child()


def _bury(where: Sequence[tuple[Segment, Ids]]) -> int:
    for segment, rows in where:
        segment.bury(rows)
    return sum(len(rows) for _, rows in where)


def _bad_norm(norm: float) -> ConfigurationError:
    return ConfigurationError("vectors", f"norm {norm:.4g}", "every vector must have norm 1; divide by its norm")
