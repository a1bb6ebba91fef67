"""Vectors with ids, and the nearest of them: an exact FAISS index that can forget."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from langchain_tokopt.errors import ConfigurationError, MissingDependencyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]

_NORM_TOLERANCE = 1e-3
# A flat index cannot take a row out without moving all that follow. Rows are marked dead instead, and the index is
# written anew once this many rows and this share of all rows are dead, so that a removal costs O(1) on average.
_COMPACT_ROWS = 256
_COMPACT_SHARE = 0.25
# Below this many rows a search runs on one thread: with two, OpenMP's spinning doubled both its time and its CPU on a
# shared machine (100,000 rows: 15 ms and 30 ms of CPU, against 7 ms), and it fights with torch's threads.
_ONE_THREAD_ROWS = 250_000


class VectorIndex:
    """Ids and their unit vectors; finds the nearest by cosine similarity, exactly. Thread-safe.

    Search is one scan over the rows (384-d: 10,000 rows 0.2 ms, 100,000 rows 5 ms). Ids are any 64-bit integers.

    Args:
        dim: Length of the vectors.
    """

    def __init__(self, dim: int) -> None:
        if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
            raise ConfigurationError("dim", dim, "use the length of the vectors, a whole number of at least 1")
        self.dim = dim
        self._lock = threading.RLock()
        self._index: Any = _flat_index(dim)
        self._ids: list[int | None] = []  # by row; None: dead
        self._rows: dict[int, int] = {}  # id -> row, the living only

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def ids(self) -> list[int]:
        """The ids that can be found."""
        with self._lock:
            return list(self._rows)

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
        with self._lock:
            self._bury([key for key in keys if key in self._rows])
            start = len(self._ids)
            self._index.add(block)
            self._ids.extend(keys)
            self._rows.update({key: start + n for n, key in enumerate(keys)})
            self._compact_if_due()

    def search(self, query: Floats, k: int) -> list[tuple[int, float]]:
        """Nearest entries by cosine similarity. `query`: float32 `[d]`, unit norm.

        Returns at most `k` `(id, similarity)`, similarity in [-1, 1], best first.
        """
        if k < 1:
            return []
        block = self._checked(np.asarray(query)[None, :], 1)
        with self._lock:
            living = len(self._rows)
            if not living:
                return []
            # Every dead row could be among the nearest: ask for so many more, in steps, as dead rows are few.
            dead, wanted = len(self._ids) - living, min(k, living)
            reach = wanted + min(dead, wanted + 8)
            while True:
                similarities, rows = self._scan(block, reach)
                found = self._named(rows[0], similarities[0])
                if len(found) >= wanted or reach >= len(self._ids):
                    return found[:wanted]
                reach = min(len(self._ids), reach * 4)

    def _scan(self, block: Floats, reach: int) -> Any:
        if self._index.ntotal >= _ONE_THREAD_ROWS:
            return self._index.search(block, reach)
        import faiss

        # OpenMP keeps this number per calling thread: it must be set by the one that searches, and is put back.
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            return self._index.search(block, reach)
        finally:
            faiss.omp_set_num_threads(before)

    def remove(self, ids: Sequence[int]) -> int:
        """How many of `ids` were there; they are found no more."""
        with self._lock:
            count = self._bury({int(key) for key in ids})
            self._compact_if_due()
            return count

    def rebuild(self) -> None:
        """Write the index anew without the dead rows. Done by itself when there are many."""
        with self._lock:
            living = list(self._rows.items())
            kept = _flat_index(self.dim)
            if living:
                every = self._index.reconstruct_n(0, self._index.ntotal)
                kept.add(np.ascontiguousarray(every[[row for _, row in living]]))
            self._index = kept
            self._ids = [key for key, _ in living]
            self._rows = {key: row for row, (key, _) in enumerate(living)}

    def _named(self, rows: Any, similarities: Any) -> list[tuple[int, float]]:
        named = []
        for row, similarity in zip(rows.tolist(), similarities.tolist(), strict=True):
            key = self._ids[row] if row >= 0 else None  # FAISS pads with row -1
            if key is not None:
                named.append((key, min(1.0, max(-1.0, similarity))))
        return named

    def _bury(self, ids: Any) -> int:
        count = 0
        for key in ids:
            row = self._rows.pop(key, None)
            if row is not None:
                self._ids[row] = None
                count += 1
        return count

    def _compact_if_due(self) -> None:
        dead = len(self._ids) - len(self._rows)
        if dead >= _COMPACT_ROWS and dead >= _COMPACT_SHARE * len(self._ids):
            self.rebuild()

    def _checked(self, vectors: Any, count: int) -> Floats:
        block = np.ascontiguousarray(vectors, dtype=np.float32)
        if block.shape != (count, self.dim) and not (count == 0 and block.size == 0):
            raise ConfigurationError("vectors", block.shape, f"the shape must be ({count}, {self.dim})")
        norms = np.sqrt(np.einsum("ij,ij->i", block, block)) if count else np.ones(1)
        if not (np.abs(norms - 1.0) <= _NORM_TOLERANCE).all():
            worst = float(norms[np.argmax(np.abs(norms - 1.0))])
            raise ConfigurationError(
                "vectors", f"norm {worst:.4g}", "every vector must have norm 1; divide by its norm"
            )
        return block


def _flat_index(dim: int) -> Any:
    try:
        import faiss
    except ImportError as error:
        msg = 'The vector index needs FAISS: pip install "faiss-cpu>=1.8"'
        raise MissingDependencyError(msg) from error
    return faiss.IndexFlatIP(dim)
