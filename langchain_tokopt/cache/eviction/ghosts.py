"""Questions that the cache may have lost: how one is known again when it is asked in other words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from sqlalchemy import text

from langchain_tokopt.cache.eviction.rows import Row, row_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_tokopt.cache.eviction.rows import Rows

_AT_ONCE = 500  # vectors
_Group: TypeAlias = tuple[int, str, int]  # scope, embedder and length: only such vectors are compared
# Written so that only the primary key fits: any other index would have all entries read and sorted.
_FRESH = text(
    """SELECT id, scope_id, exact, embedder, vector FROM tokopt_cache_entries
    WHERE kind || '' = :kind AND alive + 0 = 1 AND id > :after AND vector IS NOT NULL ORDER BY id LIMIT :count"""
)


@dataclass(slots=True)
class _Known:
    """A question of the sample. `entry`: the id of the last entry that stands for it."""

    vector: NDArray[np.float32]
    entry: int


class Ghosts:
    """Knows a lost question by its meaning.

    A cache that finds answers by meaning is hardly ever asked the same words twice. If the entry for "how do I pay" was
    evicted, "how can I pay" is stored as a new one: counted by its words it would be a first use, and a policy that had
    kept the lost entry would not get the credit. So a new entry that is like a question of the sample, whose entry is
    no longer there, is taken for that question.

    Vectors are kept in memory only, for as long as a miniature holds their question.

    Args:
        rows: Reads the entries.
        alike: Cosine similarity from which two questions are taken for the same.
        below: Digests below this one belong to the sample.
    """

    def __init__(self, rows: Rows, *, alike: float, below: str) -> None:
        self._rows = rows
        self._alike = alike
        self._below = below
        self._after = 0
        self._known: dict[_Group, dict[str, _Known]] = {}
        self._same: dict[int, str] = {}

    def key(self, row: Row) -> str:
        """The question that an entry stands for."""
        return self._same.get(row.id, row.key)

    def outside(self) -> list[int]:
        """The entries that stand for a question of the sample without being in it by their own digest."""
        return list(self._same)

    def catch_up(self) -> None:
        """Look at the entries that are new since the last time."""
        while True:
            values = {"kind": self._rows.kind, "after": self._after, "count": _AT_ONCE}
            with self._rows.database.read() as connection:
                fresh = connection.execute(_FRESH, values).all()
            groups: dict[_Group, list[Any]] = {}
            for row in fresh:
                groups.setdefault((int(row[1]), str(row[3]), len(row[4])), []).append(row)
            for group, members in groups.items():
                self._compare(group, members)
            if fresh:
                self._after = int(fresh[-1][0])
            if len(fresh) < _AT_ONCE:
                return

    def _compare(self, group: _Group, fresh: Sequence[Any]) -> None:
        known = self._known.setdefault(group, {})
        vectors = np.stack([np.frombuffer(row[4], dtype="<f4") for row in fresh])
        likes = self._nearest(list(known), known, vectors)
        there = {row.id for row in self._rows.these({known[key].entry for key in likes if key is not None})}
        for row, vector, like in zip(fresh, vectors, likes, strict=True):
            entry = int(row[0])
            # One whose entry is there has been refused by the cache itself: it means something else.
            if like is not None and known[like].entry not in there:
                self._same[entry] = like
                known[like].entry = entry
                there.add(entry)
            elif row[2] < self._below:
                known[row_key(int(row[1]), row[2])] = _Known(vector, entry)

    def _nearest(self, keys: list[str], known: dict[str, _Known], vectors: NDArray[np.float32]) -> list[str | None]:
        """For each vector the question that is nearest to it, `None` if none is near enough."""
        if not keys:
            return [None] * len(vectors)
        similarities = vectors @ np.stack([known[key].vector for key in keys]).T
        best = similarities.argmax(axis=1)
        near = similarities[np.arange(len(vectors)), best] >= self._alike
        return [keys[place] if enough else None for place, enough in zip(best, near, strict=True)]

    def forget(self, held: Callable[[str], bool]) -> None:
        """Forget the questions that no miniature holds, and entries that are gone."""
        for group, known in list(self._known.items()):
            kept = {key: fact for key, fact in known.items() if held(key)}
            if kept:
                self._known[group] = kept
            else:
                del self._known[group]
        there = {row.id for row in self._rows.these(self._same.keys())}
        self._same = {entry: key for entry, key in self._same.items() if entry in there}
