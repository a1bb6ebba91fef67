"""A quick first look at exact rows, that says which of them deserve a second one.

A *sketch* holds each row in one byte a number beside the row itself. A scan over it reads a quarter of the memory, and
integers: it takes a third of the time. What it finds is only nearly right, but how far it can be off is known for every
query, so it can be proved which rows cannot be among the nearest; of the others the true similarity is computed. So
nothing is missed. This is the filter-and-refine idea of the VA-file (Weber, Schek and Blott 1998,
https://www.vldb.org/conf/1998/p194.pdf).
"""

from __future__ import annotations

import math
import mmap
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Rows: TypeAlias = NDArray[np.int64]

# With fewer rows a plain scan is as quick.
SKETCHED_FROM = 1024
_LARGEST_CODE = 127
_CODED_ROWS = 1024  # at a time: their numbers as floats stay in the processor's cache


def reserved(capacity: int, dim: int, dtype: DTypeLike) -> NDArray[Any]:
    """Memory of its own for `[capacity, dim]`: pages are taken when written to, and given back all at once.

    The allocator of the C library would keep what a rewritten segment leaves behind: two thirds more memory at 100,000
    rows.
    """
    # Shared memory, the default, would go on being shared with a forked child.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if sys.platform != "win32" else {}
    memory = mmap.mmap(-1, capacity * dim * np.dtype(dtype).itemsize, **private)
    return np.frombuffer(memory, dtype=dtype).reshape(capacity, dim)


class Sketch:
    """Rows in one byte a number, and how far these are from the rows themselves.

    A row is coded as its difference to a common centre, which moves all similarities to a query by the same number.

    Args:
        first: Rows that centre and scale are taken from, float32 `[n, d]`; they are coded.
        capacity: Most rows that there will be.
    """

    def __init__(self, first: Floats, capacity: int) -> None:
        self._codes = reserved(capacity, first.shape[1], np.uint8)
        self.centre: Floats = first.mean(axis=0)
        widest = max(
            float(np.abs(first[at : at + _CODED_ROWS] - self.centre).max()) for at in range(0, len(first), _CODED_ROWS)
        )
        self.scale = _LARGEST_CODE / max(widest, 1e-6)
        self._off = 0.0  # the largest distance of a row from what its code stands for
        self._length = 0.0  # the largest norm of what a code stands for
        self.write(0, first)

    @property
    def codes(self) -> NDArray[np.uint8]:
        """The coded rows, `[capacity, d]`."""
        return self._codes

    def write(self, start: int, rows: Floats) -> None:
        """Code `rows`, which begin at row `start`. Nobody may look at them before this returns."""
        for at in range(0, len(rows), _CODED_ROWS):
            wanted = rows[at : at + _CODED_ROWS] - self.centre
            code = wanted * np.float32(self.scale)
            np.clip(np.rint(code, out=code), -_LARGEST_CODE, _LARGEST_CODE, out=code)
            self._codes[start + at : start + at + len(code)] = code + 128.0
            code /= np.float32(self.scale)
            self._length = max(self._length, _largest_norm(code))
            self._off = max(self._off, _largest_norm(wanted - code))

    def leeway(self, query: Query) -> float:
        """How much more similar to `query` than its code says a row can be at most."""
        # q.y - q'.y' = q.(y - y') + (q - q').y', where q' and y' are coded; then Cauchy and Schwarz. The last term is
        # what rounding in float32 can do to a sum of d products, here and where the true similarity is computed.
        return query.norm * self._off + query.off * self._length + 4e-7 * len(self.centre)


class Query:
    """A query, coded for looking at sketches. For one thread.

    Args:
        row: float32 `[d]`.
        module: The faiss module.
    """

    def __init__(self, row: Floats, module: Any) -> None:
        scale = _LARGEST_CODE / max(float(np.abs(row).max()), 1e-6)
        self.row = row
        self.norm = math.sqrt(float(row.dot(row)))
        self._coded: Floats = np.rint(row * np.float32(scale))
        rest = row - self._coded / np.float32(scale)
        self.off = math.sqrt(float(rest.dot(rest)))
        self._scale = scale
        self._faiss = module
        # It scans memory of ours, which an index object would not.
        self._scanner = _codec(module, len(row)).select_InvertedListScanner(
            module.METRIC_INNER_PRODUCT, None, True, None, False
        )
        self._scanner.set_query(module.swig_ptr(self._coded))
        self._scanner.set_list(0, 0.0)

    def likely(self, sketch: Sketch, count: int, reach: int) -> tuple[Rows, float]:
        """`reach` of the first `count` rows of a sketch, in no order, and a bound on the similarity of all others."""
        scores = np.full(reach, -np.inf, dtype=np.float32)
        rows = np.full(reach, -1, dtype=np.int64)
        pointer = self._faiss.swig_ptr
        # A heap with the worst of the best at its root; -inf there says that it was never full.
        self._scanner.scan_codes(count, pointer(sketch.codes), None, pointer(scores), pointer(rows), reach)
        worst = float(scores[0])
        if worst == -math.inf:
            return rows[rows >= 0], -math.inf
        known = worst / (self._scale * sketch.scale) + float(self.row.dot(sketch.centre))
        return rows, known + sketch.leeway(self)


@cache
def _codec(module: Any, dim: int) -> Any:
    return module.ScalarQuantizer(dim, module.ScalarQuantizer.QT_8bit_direct_signed)


def _largest_norm(rows: Floats) -> float:
    return math.sqrt(float(np.einsum("ij,ij->i", rows, rows).max()))
