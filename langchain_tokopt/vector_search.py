"""The nearest rows of several segments: a scan of each, which sketches make shorter where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from langchain_tokopt.vector_segments import faiss
from langchain_tokopt.vector_sketch import Query

if TYPE_CHECKING:
    from langchain_tokopt.vector_segments import Floats, Found, Segment
    from langchain_tokopt.vector_sketch import Sketch

# Rows of each segment that are looked at twice, beyond double those that are wanted: among 10,000 questions of real
# users it had to be 15 for the nearest 10, and never more than 36.
_BEYOND = 20
_QUICK_SHARE = 1 / 16  # of all rows; with more to be looked at twice a plain scan is as quick
_TRIES = (1, 4)  # times so many


def nearest(segments: Sequence[Segment], query: Floats, k: int) -> list[tuple[int, float]]:
    """At most `k` `(id, similarity)` of living rows, best first. `query`: float32 `[1, d]`, unit norm."""
    sketched: list[tuple[Segment, Sketch]] = []
    others: list[Segment] = []
    for segment in segments:
        sketch = segment.sketch
        if sketch is None:
            others.append(segment)
        else:
            sketched.append((segment, sketch))
    found = _looked_at_twice(sketched, query[0], k) if sketched else None
    if found is None:
        others = list(segments)
    parts = [segment.nearest(query, k) for segment in others if segment.count]
    if found is not None:
        parts.append(found)
    if not parts:
        return []
    similarities, ids = _best(parts, k) if len(parts) > 1 else parts[0]
    pairs = zip(ids.tolist(), similarities.tolist(), strict=True)
    return [(key, min(1.0, max(-1.0, similarity))) for key, similarity in pairs]


def _looked_at_twice(segments: Sequence[tuple[Segment, Sketch]], query: Floats, k: int) -> Found | None:
    """The nearest of segments with sketches; `None` if too many rows would have to be looked at twice."""
    counts = [segment.count for segment, _ in segments]  # rows that are added from now on are not looked at
    coded: Query | None = None
    for times in _TRIES:
        reach = times * (2 * k + _BEYOND)
        if reach > _QUICK_SHARE * sum(counts):
            return None
        coded = coded or Query(query, faiss())
        parts, others = [], -np.inf
        for (segment, sketch), count in zip(segments, counts, strict=True):
            rows, bound = coded.likely(sketch, count, reach)
            others = max(others, bound)
            similarities = segment.vectors(rows) @ query
            if segment.buried:
                living = ~segment.dead[rows]
                rows, similarities = rows[living], similarities[living]
            parts.append((similarities, segment.ids[rows]))
        found = _best(parts, k)
        # Nothing that was left out is nearer than the last of these.
        if len(found[0]) == k and found[0][-1] >= others:
            return found
    return None


def _best(parts: Sequence[Found], k: int) -> Found:
    similarities = np.concatenate([each for each, _ in parts])
    best = np.argsort(-similarities, kind="stable")[:k]
    return similarities[best], np.concatenate([each for _, each in parts])[best]
