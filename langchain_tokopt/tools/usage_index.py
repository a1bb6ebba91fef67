"""What was learned of the tools of one registry, laid out for quick reading. Not thread-safe: see `ToolUsage`.

A tool that something was learned of has a row, numbered in the order in which that came about.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from langchain_tokopt.tools.usage_sums import MAX_TERMS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_tokopt.tools.usage_sums import UsageSums

_BLOCK: Final = 128  # rows that are copied when one of them changes
_EPSILON: Final = 1e-12
_NO_TERMS: Final = np.zeros(0, dtype=np.uint64)
_NO_PLACES: Final = np.zeros(0, dtype=np.intc)


class WordIndex:
    """Which words led to which tools.

    Fading changes every count of a tool, but not which words it has: so the lists of a word's tools say where the
    counts are, and the counts are in one matrix.
    """

    def __init__(self) -> None:
        self._counts = np.zeros((16, MAX_TERMS), dtype=np.float32)
        self._places: dict[int, array[int]] = {}

    def put(self, changes: Iterable[tuple[int, UsageSums, UsageSums | None]]) -> None:
        """Replace what is known of tools: each a row, what it is now, and what it was; `None` for the next new row."""
        terms, places = [_NO_TERMS], [_NO_PLACES]
        for row, sums, before in changes:
            if row == len(self._counts):
                self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
            self._counts[row, : len(sums.counts)] = sums.counts
            known = _NO_TERMS if before is None else before.terms
            shared = min(len(known), len(sums.terms))
            changed = np.flatnonzero(known[:shared] != sums.terms[:shared])
            first = row * MAX_TERMS
            for slot in [*changed.tolist(), *range(shared, len(known))]:
                term = int(known[slot])
                self._places[term].remove(first + slot)
                if not self._places[term]:
                    del self._places[term]
            slots = np.concatenate([changed, np.arange(shared, len(sums.terms))])
            terms.append(sums.terms[slots])
            places.append((first + slots).astype(np.intc))
        self._add(np.concatenate(terms), np.concatenate(places))

    def _add(self, terms: NDArray[np.uint64], places: NDArray[np.intc]) -> None:
        order = np.argsort(terms, kind="stable")
        words, begins = np.unique(terms[order], return_index=True)
        for word, of_word in zip(words.tolist(), np.split(places[order], begins[1:]), strict=False):
            self._places.setdefault(word, array("i")).frombytes(of_word.tobytes())

    def evidence(self, terms: Iterable[int], weights: NDArray[np.float32]) -> NDArray[np.float32]:
        """How much the words speak for each tool, in nats, float32 `[rows]`, at least 0.

        `weights`: how many examples each tool has, float32 `[rows]`. For a word that was in `k` of a tool's `c`
        examples and in a share `p` of all, it is `ln(((k + p / 2) / (c + 1 / 2)) / p)`, where that is above 0: how
        much more often the word leads to this tool than to any.
        """
        found = [self._places[term] for term in terms if term in self._places]
        if not found:
            return np.zeros(len(weights), dtype=np.float32)
        lengths = [len(of_word) for of_word in found]
        places = np.frombuffer(b"".join(found), dtype=np.intc)
        counts, rows = self._counts.ravel().take(places), places // MAX_TERMS
        of_all = np.add.reduceat(counts, np.cumsum([0, *lengths[:-1]]))
        shares = (of_all + np.float32(0.5)) / np.float32(weights.sum() + 1)
        times = counts / np.repeat(shares, lengths) + np.float32(0.5)
        times /= (weights + np.float32(0.5)).take(rows)
        nats = np.log(np.maximum(times, 1))
        return np.bincount(rows, weights=nats, minlength=len(weights)).astype(np.float32)


class Centroids:
    """Where tools are in the space of meaning: between what their text says and the questions that led to them."""

    def __init__(self) -> None:
        self._blocks: list[NDArray[np.float32]] = []
        self._stale: set[int] = set()
        self._base: NDArray[np.float32] | None = None

    def changed(self, row: int) -> None:
        """Take note that there is something new about the tool in `row`."""
        self._stale.add(row)

    def blocks(
        self, base: NDArray[np.float32], positions: NDArray[np.intp], sums: Sequence[UsageSums]
    ) -> tuple[NDArray[np.float32], ...]:
        """The centroids of all rows, float32 `[rows, d]` in blocks that are never changed again.

        `base`: the vectors of the tools' texts, float32 `[n, d]`; `positions`: which of them belongs to each row.
        """
        if base is not self._base:
            self._base, self._blocks, self._stale = base, [], set(range(len(sums)))
        for number, group in itertools.groupby(sorted(self._stale), key=lambda row: row // _BLOCK):
            first, rows = number * _BLOCK, list(group)
            block = np.empty((min(_BLOCK, len(sums) - first), base.shape[1]), dtype=np.float32)
            if number < len(self._blocks):
                block[: len(self._blocks[number])] = self._blocks[number]
            block[[row - first for row in rows]] = _moved(base[positions[rows]], [sums[row] for row in rows])
            self._blocks[number : number + 1] = [block]
        self._stale = set()
        return tuple(self._blocks)


def _moved(base: NDArray[np.float32], sums: Sequence[UsageSums]) -> NDArray[np.float32]:
    """`norm((1 - w) * base + w * norm(sum))`, where `w = c / (c + 2)` for `c` examples; float32 `[len(sums), d]`."""
    learned = np.zeros_like(base)
    share = np.zeros((len(sums), 1), dtype=np.float32)
    for at, one in enumerate(sums):
        if one.vector is not None and one.vector.shape == base.shape[1:]:
            learned[at] = one.vector
            share[at] = one.weight / (one.weight + 2)
    return _unit((1 - share) * base + share * _unit(learned))


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(_EPSILON))
    return np.asarray(rows / norms, dtype=np.float32)
