"""What a vector index consists of: segments, each with its own rows, that are searched one after the other.

Rows are written into an `Open` segment and never move afterwards. A full one is taken over as `Flat`; later, off the
path of any caller, it may be rewritten as `Quantised` (one byte a number) or `Clustered` (an inverted file, which scans
only the clusters next to the query). The rows of these three never change; a row that is removed is only marked. So a
search needs no lock: it takes the segments as they are at one moment, and reads no further than what was written then.
This is the idea of a log-structured merge tree (O'Neil et al. 1996, https://doi.org/10.1007/s002360050048).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from langchain_tokopt.errors import MissingDependencyError
from langchain_tokopt.vector_sketch import SKETCHED_FROM, Sketch, reserved

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Ids: TypeAlias = NDArray[np.int64]
    Rows: TypeAlias = NDArray[np.int64]
    Found: TypeAlias = tuple[Floats, Ids]

Storage = Literal["float32", "int8"]

# An inverted file, measured on 131,072 clustered vectors of 384 dimensions, on one thread: 128 rows a cluster, 32 of
# which are searched, find 99.1 % of the ten nearest in 0.32 ms; it is built in 2.3 s and adds 37 bytes to a row. HNSW
# (16 links) finds 98.7 % in 0.10 ms, but is built in 15 s and adds 140 bytes, a third of a quantised row.
_ROWS_PER_CLUSTER = 128
_CLUSTERS_SEARCHED = 32
_TRAINING_ROUNDS = 6
_TRAINING_ROWS_PER_CLUSTER = 32


def faiss() -> Any:
    """The faiss module.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import faiss as module
    except ImportError as error:
        msg = 'The vector index needs FAISS: pip install "faiss-cpu>=1.8"'
        raise MissingDependencyError(msg) from error
    return module


class one_thread:  # noqa: N801 - used like a function
    """FAISS runs on one thread inside: OpenMP's spinning doubles the time of a scan on a shared machine.

    OpenMP keeps this number per calling thread: it must be set by the one that searches, and is put back.
    """

    __slots__ = ("_before", "_faiss")

    def __enter__(self) -> None:
        self._faiss = faiss()
        self._before = self._faiss.omp_get_max_threads()
        self._faiss.omp_set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        self._faiss.omp_set_num_threads(self._before)


class Segment(ABC):
    """Rows with ids; all but the last segment of an index never get new ones.

    Attributes:
        count: How many rows there are, dead ones included.
        dead: By row, whether it was removed.
        buried: How many rows are dead.
        sketch: The rows in one byte a number, for a quicker scan; `None` if there is none.
    """

    count: int
    ids: Ids
    dead: NDArray[np.bool_]
    buried: int
    sketch: Sketch | None = None

    @property
    def living(self) -> int:
        return self.count - self.buried

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of memory that this takes."""

    @abstractmethod
    def vectors(self, rows: Rows) -> Floats:
        """The vectors in `rows`: float32 `[n, d]`."""

    @abstractmethod
    def where(self, keys: Ids) -> Rows:
        """The living row of each of `keys`, or -1."""

    @abstractmethod
    def _nearest_rows(self, query: Floats, reach: int, count: int) -> tuple[Floats, Rows]:
        """`reach` of the first `count` rows, best first, dead ones included; padded with row -1."""

    def nearest(self, query: Floats, k: int) -> Found:
        """Similarities and ids of at most `k` living rows, best first. `query`: float32 `[1, d]`."""
        count = self.count  # rows that are added from now on are not looked at
        if not self.buried:
            similarities, rows = self._nearest_rows(query, min(k, count), count)
            if not self.buried:
                return _unpadded(similarities, self.ids[rows], rows)
        buried = int(np.count_nonzero(self.dead[:count]))
        # Every dead row could be among the nearest: ask for so many more, in steps, as dead rows are few.
        wanted = min(k, count - buried)
        reach = min(count, wanted + min(buried, wanted + 8))
        while True:
            similarities, rows = self._nearest_rows(query, reach, count)
            living = np.flatnonzero((rows >= 0) & ~self.dead[rows])
            if len(living) >= wanted or reach >= count:
                best = rows[living[:wanted]]
                return similarities[living[:wanted]], self.ids[best]
            reach = min(count, reach * 4)

    def living_rows(self) -> Rows:
        return np.flatnonzero(~self.dead[: self.count])

    def bury(self, rows: Rows) -> None:
        """Mark living rows as dead."""
        self.dead[rows] = True
        self.buried += len(rows)

    def recount(self) -> None:
        """Set right what a thread that is gone may have left half done."""
        self.buried = int(np.count_nonzero(self.dead[: self.count]))


def _unpadded(similarities: Floats, ids: Ids, rows: Rows) -> Found:
    if len(rows) and rows[-1] < 0:
        kept = rows >= 0
        return similarities[kept], ids[kept]
    return similarities, ids


class Open(Segment):
    """The segment that is written to, an exact scan; its memory is reserved and used as rows come.

    `sketched`: Whether it gets a sketch once there are rows enough.
    """

    def __init__(self, dim: int, capacity: int, *, sketched: bool) -> None:
        self._faiss = faiss()
        self._rows = reserved(capacity, dim, np.float32)
        self.sketched = sketched
        self._pointer = self._faiss.swig_ptr(self._rows)
        self._by_id: dict[int, int] = {}
        self.ids = np.empty(capacity, dtype=np.int64)
        self.dead = np.zeros(capacity, dtype=np.bool_)
        self.count = 0
        self.buried = 0

    @property
    def capacity(self) -> int:
        return len(self.ids)

    @property
    def room(self) -> int:
        return len(self.ids) - self.count

    @property
    def nbytes(self) -> int:
        # What was not written to is reserved and takes no memory yet.
        return self.count * (self._rows.strides[0] + 9 + 100 + (self._rows.shape[1] if self.sketch else 0))

    def append(self, keys: Ids, block: Floats) -> None:
        """Add rows; there must be room. Those who search see all of them or none."""
        start, end = self.count, self.count + len(keys)
        self._rows[start:end] = block
        self.ids[start:end] = keys
        self._by_id.update(zip(keys.tolist(), range(start, end), strict=True))
        if self.sketch is not None:
            self.sketch.write(start, block)
        elif self.sketched and end >= SKETCHED_FROM:
            self.sketch = Sketch(self._rows[:end], self.capacity)
        self.count = end

    def recount(self) -> None:
        self.dead[self.count :] = False
        super().recount()
        rows = self.living_rows()
        self._by_id = dict(zip(self.ids[rows].tolist(), rows.tolist(), strict=True))

    def where(self, keys: Ids) -> Rows:
        found = np.fromiter((self._by_id.get(key, -1) for key in keys.tolist()), dtype=np.int64, count=len(keys))
        found[self.dead[found] & (found >= 0)] = -1
        return found

    def vectors(self, rows: Rows) -> Floats:
        taken: Floats = self._rows[rows]
        return taken

    def _nearest_rows(self, query: Floats, reach: int, count: int) -> tuple[Floats, Rows]:
        return _scan(self._faiss, query, self._rows, self._pointer, count, reach)


def _scan(module: Any, query: Floats, rows: Floats, pointer: Any, count: int, reach: int) -> tuple[Floats, Rows]:
    similarities = np.empty(reach, dtype=np.float32)
    found = np.empty(reach, dtype=np.int64)
    if reach:
        # FAISS's own scan over our memory: an index object would keep, and move, a copy of the rows.
        module.knn_inner_product(
            module.swig_ptr(query),
            pointer,
            rows.shape[1],
            1,
            count,
            reach,
            module.swig_ptr(similarities),
            module.swig_ptr(found),
        )
    return similarities, found


class _Sealed(Segment):
    """A segment whose rows never change: finds ids by binary search, eight to twelve bytes a row."""

    def __init__(self, ids: Ids, dead: NDArray[np.bool_]) -> None:
        self.count = len(ids)
        self.ids = ids
        self.dead = dead
        self.buried = int(np.count_nonzero(dead))
        ascending = bool((ids[1:] > ids[:-1]).all())
        # Stable, and the last of equal ids is the one that may be alive.
        self._order = None if ascending else np.argsort(ids, kind="stable").astype(np.int32)
        self._sorted = ids if self._order is None else ids[self._order]

    @property
    def _overhead(self) -> int:
        order = 0 if self._order is None else self._order.nbytes + self._sorted.nbytes
        return self.ids.nbytes + self.dead.nbytes + order

    def where(self, keys: Ids) -> Rows:
        if not self.count or keys.max() < self._sorted[0] or keys.min() > self._sorted[-1]:
            return np.full(len(keys), -1, dtype=np.int64)
        places = np.searchsorted(self._sorted, keys, side="right") - 1
        found = places >= 0
        found &= self._sorted[places] == keys
        rows = (places if self._order is None else self._order[places]).astype(np.int64)
        rows[~found | self.dead[rows]] = -1
        return rows


class Flat(_Sealed):
    """An exact scan over float32 rows."""

    def __init__(self, ids: Ids, dead: NDArray[np.bool_], rows: Floats) -> None:
        super().__init__(ids, dead)
        self._faiss = faiss()
        self._rows = rows
        self._pointer = self._faiss.swig_ptr(rows)

    @classmethod
    def sealed(cls, full: Open) -> Flat:
        """The same rows, in the same memory; `full` must not be written to any more."""
        segment = cls(full.ids[: full.count], full.dead[: full.count], full._rows[: full.count])  # noqa: SLF001
        segment.sketch = full.sketch
        return segment

    def draw(self) -> None:
        """Make the sketch. It takes a fifth of the time that reading the rows from a file does."""
        if self.sketch is None and self.count >= SKETCHED_FROM:
            self.sketch = Sketch(self._rows, self.count)

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes + self._overhead + (self._rows.size if self.sketch is not None else 0)

    def vectors(self, rows: Rows) -> Floats:
        taken: Floats = self._rows[rows]
        return taken

    def _nearest_rows(self, query: Floats, reach: int, count: int) -> tuple[Floats, Rows]:
        return _scan(self._faiss, query, self._rows, self._pointer, count, reach)


class Quantised(_Sealed):
    """An exact scan over rows of one byte a number, in the range that each dimension has in these rows."""

    def __init__(self, ids: Ids, dead: NDArray[np.bool_], index: Any) -> None:
        super().__init__(ids, dead)
        self.index = index

    @classmethod
    def made(cls, ids: Ids, rows: Floats) -> Quantised:
        module = faiss()
        index = module.IndexScalarQuantizer(rows.shape[1], module.ScalarQuantizer.QT_8bit, module.METRIC_INNER_PRODUCT)
        with one_thread():
            index.train(rows)
            index.add(rows)
        return cls(ids, np.zeros(len(ids), dtype=np.bool_), index)

    @property
    def nbytes(self) -> int:
        return int(self.index.code_size) * self.count + self._overhead

    def vectors(self, rows: Rows) -> Floats:
        return _normalised(self.index.reconstruct_batch(rows))

    def _nearest_rows(self, query: Floats, reach: int, count: int) -> tuple[Floats, Rows]:
        with one_thread():
            similarities, rows = self.index.search(query, reach)
        return similarities[0], rows[0]


class Clustered(_Sealed):
    """An inverted file: rows by cluster, of which only those next to the query are scanned. Approximate."""

    def __init__(self, ids: Ids, dead: NDArray[np.bool_], index: Any) -> None:
        super().__init__(ids, dead)
        self._faiss = faiss()
        self.index = index
        self._clusters = int(index.nlist)

    @classmethod
    def made(cls, ids: Ids, rows: Floats, storage: Storage) -> Clustered:
        module = faiss()
        dim, clusters = rows.shape[1], max(1, len(rows) // _ROWS_PER_CLUSTER)
        centres = module.IndexFlatIP(dim)
        if storage == "float32":
            index = module.IndexIVFFlat(centres, dim, clusters, module.METRIC_INNER_PRODUCT)
        else:
            kind = module.ScalarQuantizer.QT_8bit
            index = module.IndexIVFScalarQuantizer(centres, dim, clusters, kind, module.METRIC_INNER_PRODUCT, False)
        index.cp.spherical = True
        index.cp.niter = _TRAINING_ROUNDS
        index.cp.max_points_per_centroid = _TRAINING_ROWS_PER_CLUSTER
        index.cp.min_points_per_centroid = 1  # fewer is no reason for a line on stderr
        with one_thread():
            index.train(rows)
            _, nearest = index.quantizer.search(rows, 1)
            # Lists grow by doubling: room for exactly what each will hold saves a third of their memory.
            lists = index.invlists
            for number, size in enumerate(np.bincount(nearest[:, 0], minlength=clusters).tolist()):
                lists.resize(number, size)
                lists.resize(number, 0)
            assigned = np.ascontiguousarray(nearest[:, 0])
            index.add_core(len(rows), module.swig_ptr(rows), None, module.swig_ptr(assigned))
            index.make_direct_map()
        return cls(ids, np.zeros(len(ids), dtype=np.bool_), index)

    @property
    def nbytes(self) -> int:
        row = int(self.index.code_size) + 16  # its number in the list, its place in the direct map
        return row * self.count + 4 * self._clusters * int(self.index.d) + self._overhead

    def vectors(self, rows: Rows) -> Floats:
        found = self.index.reconstruct_batch(rows)
        return found if isinstance(self.index, self._faiss.IndexIVFFlat) else _normalised(found)

    def _nearest_rows(self, query: Floats, reach: int, count: int) -> tuple[Floats, Rows]:
        # Who asks for much has to look in more places.
        searched = max(_CLUSTERS_SEARCHED, 4 * reach // _ROWS_PER_CLUSTER)
        how = self._faiss.SearchParametersIVF(nprobe=min(self._clusters, searched))
        with one_thread():
            similarities, rows = self.index.search(query, reach, params=how)
        return similarities[0], rows[0]


def _normalised(rows: Floats) -> Floats:
    unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
