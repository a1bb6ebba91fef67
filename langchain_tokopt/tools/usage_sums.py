"""What successful calls taught about one tool, as sums in which older examples fade."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from langchain_tokopt.lexical import terms

if TYPE_CHECKING:
    from numpy.typing import NDArray

# So many examples of a tool count about as much as all that came before them.
MEMORY: Final = 200
MAX_TERMS: Final = 512
MAX_PAIRS: Final = 32
_BEFORE: Final = 2
_KEPT_OF_ONE: Final = 1 - 1 / MEMORY


def _no_terms() -> NDArray[np.uint64]:
    return np.zeros(0, dtype=np.uint64)


def _no_counts() -> NDArray[np.float32]:
    return np.zeros(0, dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UsageSums:
    """Sums over the examples of one tool, each faded by 1 - 1 / `MEMORY` with every later example of that tool.

    A single example, all examples since some moment, and all there ever were are the same kind of value: what is new
    is put on top of what was known with `then`. That is associative. In another order the number of examples and
    their weight come out the same, and the other sums differ only by how far either side fades the other.

    What is kept is bounded: the heaviest `MAX_TERMS` words and `MAX_PAIRS` tools of either kind. Nothing is changed in
    place, so that values may be handed to other threads.

    Attributes:
        examples: How many there were.
        weight: The sum of 1 over the examples, faded: at most `MEMORY`.
        vector: The sum of the questions' vectors, float32 `[d]`; `None` where no question had one.
        terms: Hashes of the words of the questions, uint64 `[w]`, without a repetition, in no order.
        counts: In how many examples each of these words was, faded: float32 `[w]`.
        together: By another tool's digest, how often it was called for the same question, faded.
        following: By a tool's digest, how often it was called after this one, faded.
        revision: Of the row in the database that this builds on; 0 for none.
    """

    examples: int = 0
    weight: float = 0.0
    vector: NDArray[np.float32] | None = None
    terms: NDArray[np.uint64] = field(default_factory=_no_terms)
    counts: NDArray[np.float32] = field(default_factory=_no_counts)
    together: Mapping[bytes, float] = field(default_factory=dict)
    following: Mapping[bytes, float] = field(default_factory=dict)
    revision: int = 0

    def then(self, later: UsageSums) -> UsageSums:
        """These sums with `later` ones on top.

        A vector of another length than the later one's, which only another embedder can have made, is forgotten.
        """
        kept = _KEPT_OF_ONE**later.examples
        terms, counts = self._terms_then(later, kept)
        return UsageSums(
            examples=self.examples + later.examples,
            weight=self.weight * kept + later.weight,
            vector=self._vector_then(later, kept),
            terms=terms,
            counts=counts,
            together=_pairs(self.together, later.together, kept),
            following=_pairs(self.following, later.following, kept),
            revision=self.revision,
        )

    def _vector_then(self, later: UsageSums, kept: float) -> NDArray[np.float32] | None:
        if self.vector is None:
            return later.vector
        if later.vector is None:
            return np.multiply(self.vector, kept, dtype=np.float32)
        if self.vector.shape != later.vector.shape:
            return later.vector
        return np.asarray(self.vector * np.float32(kept) + later.vector, dtype=np.float32)

    def _terms_then(self, later: UsageSums, kept: float) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
        """The words and their counts. A word keeps its place in the array for as long as it is kept."""
        if not len(later.terms):
            return self.terms, self.counts * np.float32(kept)
        known, places = np.nonzero(later.terms[:, None] == self.terms)
        new = np.ones(len(later.terms), dtype=np.bool_)
        new[known] = False
        terms = np.concatenate([self.terms, later.terms[new]])
        counts = np.concatenate([self.counts * np.float32(kept), later.counts[new]])
        counts[places] += later.counts[known]
        over = len(terms) - MAX_TERMS
        if over <= 0:
            return terms, counts
        gone = np.zeros(len(terms), dtype=np.bool_)
        gone[np.argsort(counts, kind="stable")[:over]] = True  # of equally light ones the older
        free, moved = np.flatnonzero(gone[:MAX_TERMS]), MAX_TERMS + np.flatnonzero(~gone[MAX_TERMS:])
        terms[free], counts[free] = terms[moved], counts[moved]
        return terms[:MAX_TERMS].copy(), counts[:MAX_TERMS].copy()


def term_hashes(text: str) -> list[int]:
    """A hash of 8 bytes for each word of a text that says something, once each, of at most `MAX_TERMS` words."""
    found = list(dict.fromkeys(terms(text)))[:MAX_TERMS]
    return [
        int.from_bytes(hashlib.blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
        for term in found
    ]


def lessons_of(
    text: str, vector: NDArray[np.float32] | None, called: Sequence[bytes], before: Sequence[bytes]
) -> dict[bytes, UsageSums]:
    """What one question teaches about each tool, by its digest: those `called` for it, and the last two `before`.

    For one that was only called before, it is no example, but tells what followed it. A vector that is not finite
    is left out.
    """
    tools = list(dict.fromkeys(called))
    if vector is not None and not np.isfinite(vector).all():
        vector = None
    hashes = np.array(term_hashes(text), dtype=np.uint64)
    ones = np.ones(len(hashes), dtype=np.float32)
    following = dict.fromkeys(tools[:MAX_PAIRS], 1.0)
    earlier = dict.fromkeys(before[-_BEFORE:])
    taught = {tool: UsageSums(following=following) for tool in earlier if tools}
    for tool in tools:
        taught[tool] = UsageSums(
            examples=1,
            weight=1.0,
            vector=None if vector is None else np.array(vector, dtype=np.float32),
            terms=hashes,
            counts=ones,
            together={other: 1.0 for other in tools[: MAX_PAIRS + 1] if other != tool},
            following=following if tool in earlier else {},
        )
    return taught


def _pairs(before: Mapping[bytes, float], later: Mapping[bytes, float], kept: float) -> Mapping[bytes, float]:
    if not before:
        return later
    if kept == 1.0 and not later:
        return before
    merged = dict(later)  # first, so that of equally heavy ones the later is kept
    for tool, count in before.items():
        merged[tool] = merged.get(tool, 0.0) + count * kept
    if len(merged) > MAX_PAIRS:
        merged = dict(sorted(merged.items(), key=lambda pair: -pair[1])[:MAX_PAIRS])
    return merged
