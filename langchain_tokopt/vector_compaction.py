"""When segments of a vector index are rewritten, and as what."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from langchain_tokopt.vector_segments import Clustered, Flat, Quantised, Segment, Storage

if TYPE_CHECKING:
    from langchain_tokopt.vector_segments import Rows

# A segment is written anew once this share of its rows is dead, so that a removal costs O(1) on average.
WORN_SHARE = 0.25
# An inverted file holds up to this many times what is scanned exactly. Each costs a search about the same, so few are
# wanted; but the time to make one grows with the square of its size: 9 seconds for 262,144 rows.
_LARGEST = 4
# So many rows at most have a sketch, a quarter of their size: a search takes a third of the time, but of a big scope
# the memory counts more.
_SKETCHED_ROWS = 16_384
# Copied at a time: NumPy holds the interpreter's lock meanwhile, which a search is waiting for.
_COPIED_ROWS = 2048


@dataclass(frozen=True, slots=True)
class Job:
    """Segments to be rewritten as one inverted file, or as exact ones."""

    sources: Sequence[Segment]
    clustered: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What an index wants its segments to be.

    Attributes:
        dim: Length of the vectors.
        storage: How their numbers are kept.
        exact_rows: Rows beyond which segments become inverted files; `None`: never.
        segment_rows: Rows of any other segment, at most.
    """

    dim: int
    storage: Storage
    exact_rows: int | None
    segment_rows: int

    def due(self, segments: Sequence[Segment], share: float) -> Job | None:
        """What is to be rewritten next; segments of which more than `share` is dead are."""
        *sealed, last = segments
        exact = [segment for segment in sealed if not isinstance(segment, Clustered)]
        clustered = [segment for segment in sealed if isinstance(segment, Clustered)]
        limit = self.exact_rows
        if limit is not None and exact and last.living + sum(segment.living for segment in exact) > limit:
            return Job(_up_to(_LARGEST * limit, [*exact, *clustered]), clustered=True)
        worn = [segment for segment in exact if segment.buried > share * segment.count]
        if worn:
            small = [each for each in exact if each not in worn and each.living < self.segment_rows // 2]
            return Job([*worn, *small], clustered=False)
        for segment in clustered:
            if segment.buried > share * segment.count:
                return Job([segment], clustered=limit is not None and segment.living > limit // 2)
        plain = [segment for segment in exact if isinstance(segment, Flat)]
        return Job(plain, clustered=False) if plain and self.storage == "int8" else None

    def written(self, job: Job, kept: Sequence[Rows]) -> list[Segment]:
        """New segments with the `kept` rows of the job's sources."""
        ids = np.concatenate([source.ids[rows] for source, rows in zip(job.sources, kept, strict=True)])
        block = np.empty((len(ids), self.dim), dtype=np.float32)
        start = 0
        for source, every in zip(job.sources, kept, strict=True):
            for at in range(0, len(every), _COPIED_ROWS):
                rows = every[at : at + _COPIED_ROWS]
                block[start : start + len(rows)] = source.vectors(rows)
                start += len(rows)
        if not len(ids):
            return []
        if job.clustered:
            return [Clustered.made(ids, block, self.storage)]
        size = self.segment_rows
        pieces = [(ids[at : at + size], block[at : at + size]) for at in range(0, len(ids), size)]
        if self.storage == "int8":
            return [Quantised.made(keys, rows) for keys, rows in pieces]
        return [Flat(keys, np.zeros(len(keys), dtype=np.bool_), rows) for keys, rows in pieces]


def _up_to(limit: int, segments: Sequence[Segment]) -> list[Segment]:
    """The first of `segments`, and further ones as long as all have no more than `limit` living rows."""
    taken, total = [segments[0]], segments[0].living
    for segment in segments[1:]:
        if total + segment.living <= limit:
            taken.append(segment)
            total += segment.living
    return taken


def give_back() -> None:
    """Have the C library return what it keeps of the memory that rewriting has used: at 100,000 rows a tenth of theirs.

    Only glibc can, and needs to.
    """
    if sys.platform == "linux":
        import ctypes

        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def may_sketch(segments: Sequence[Segment]) -> bool:
    """Whether one more segment than these may have a sketch."""
    return sum(segment.count for segment in segments if segment.sketch is not None) < _SKETCHED_ROWS


def draw(segments: Sequence[Segment]) -> None:
    """Make the sketches that are missing and may be made."""
    for segment in segments:
        if isinstance(segment, Flat) and may_sketch(segments):
            segment.draw()
