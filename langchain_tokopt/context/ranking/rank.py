"""Passages in the order in which a question needs them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from langchain_tokopt.context.ranking.passages import Passage
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.lexical import BM25

_NEIGHBOUR = 0.3


def rank(query: str, passages: Sequence[Passage], *, embeddings: MemoEmbeddings | None = None) -> NDArray[np.float32]:
    """One score per passage, float32 `[n]`, higher is better. For several queries use `Ranking`."""
    return Ranking(passages, embeddings=embeddings).scores(query)


class Ranking:
    """Passages that are indexed once and asked often."""

    def __init__(self, passages: Sequence[Passage], *, embeddings: MemoEmbeddings | None = None) -> None:
        self._passages = list(passages)
        self._embeddings = embeddings
        self._texts = BM25([passage.text for passage in self._passages])
        groups = [passage.group for passage in self._passages]
        self._joined = np.array([a == b for a, b in zip(groups, groups[1:], strict=False)], dtype=np.float32)

    def scores(self, query: str) -> NDArray[np.float32]:
        """One score per passage, float32 `[n]`, higher is better."""
        own = np.sqrt(self._texts.scores(query))
        scores = own.copy()
        scores[1:] += _NEIGHBOUR * own[:-1] * self._joined
        scores[:-1] += _NEIGHBOUR * own[1:] * self._joined
        return scores


def best_within(scores: NDArray[np.float32], sizes: Sequence[int], budget: int) -> list[int]:
    """The best passages that fit into `budget` tokens together, in the order in which they stand.

    Filled greedily, best first, the earlier one of equals; what does not fit is passed over.
    """
    kept: list[int] = []
    left = budget
    for at in np.argsort(-scores, kind="stable").tolist():
        if sizes[at] <= left:
            kept.append(at)
            left -= sizes[at]
    return sorted(kept)
