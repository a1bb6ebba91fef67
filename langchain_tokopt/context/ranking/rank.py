"""Passages in the order in which a question needs them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from langchain_tokopt.context.ranking.headed import HeadedSignals
from langchain_tokopt.context.ranking.passages import Passage
from langchain_tokopt.context.ranking.similarity import Similarity
from langchain_tokopt.context.ranking.turns import TurnSignals, standard
from langchain_tokopt.context.ranking.words import question_words
from langchain_tokopt.embeddings import MemoEmbeddings

# Of a question that is itself a long text the words that tell most: more cost time and tell nothing new.
_MOST_WORDS = 48
# Vectors of so many passages around a passage say something of it, too.
_AROUND = 2
# Some documents have the same title; speakers come back again and again.
_STRETCHES = 1.5

Labels = Literal["speakers", "headings"]


def rank(query: str, passages: Sequence[Passage], *, embeddings: MemoEmbeddings | None = None) -> NDArray[np.float32]:
    """One score per passage, float32 `[n]`, higher is better. For several queries use `Ranking`."""
    return Ranking(passages, embeddings=embeddings).scores(query)


class Ranking:
    """Passages that are indexed once and asked often, from any thread.

    Args:
        passages: What is ranked, in the order in which it stands; more can be added with `extend`.
        embeddings: Vectors are a signal beside the words. Without them no model is needed.
        labels: Whether labels say who speaks or what a passage is headed with; by default it is seen from where they
            stand: speakers take turns, a heading stands above one section.
    """

    def __init__(
        self,
        passages: Sequence[Passage],
        *,
        embeddings: MemoEmbeddings | None = None,
        labels: Labels | None = None,
    ) -> None:
        self._passages: list[Passage] = []
        self._embeddings = embeddings
        self._labels = labels
        self._kind = _Kind()
        self._lock = threading.Lock()
        self._start(headed=labels == "headings")
        self.extend(passages)

    def _start(self, *, headed: bool) -> None:
        self._headed = headed
        self._signals: TurnSignals | HeadedSignals = HeadedSignals() if headed else TurnSignals()
        self._texts: list[str] = []
        self._similarity = None if self._embeddings is None else Similarity(self._embeddings)

    def extend(self, passages: Sequence[Passage]) -> None:
        """Passages that come after those which are known. Only the new ones are read."""
        with self._lock:
            self._passages += passages
            if self._labels is None:
                for passage in passages:
                    self._kind.add(passage)
                if self._kind.headed != self._headed:
                    self._start(headed=self._kind.headed)
            for passage in self._passages[len(self._texts) :]:
                self._texts.append(self._signals.add(passage))

    def scores(self, query: str) -> NDArray[np.float32]:
        """One score per passage, float32 `[n]`, higher is better."""
        with self._lock:  # what a question needs to know of the passages is looked up once, and kept
            if not self._passages:
                return np.zeros(0, dtype=np.float32)
            weights = self._telling(question_words(query, names=self._signals.names))
            return np.asarray(self._signals.scores(query, weights) + self._meaning(query), dtype=np.float32)

    def _meaning(self, query: str) -> NDArray[np.float64] | float:
        """What vectors say, of the passages and of what stands near them; 0 without vectors."""
        near = None if self._similarity is None else self._similarity.cosine(query, self._texts)
        if near is None:
            return 0.0
        own, around = self._signals.MEANING
        return own * standard(near) + around * standard(self._signals.places.fading(near, _AROUND))

    def _telling(self, weights: Mapping[str, float]) -> dict[str, float]:
        if len(weights) <= _MOST_WORDS:
            return dict(weights)
        index = self._signals.index
        best = sorted(weights, key=lambda word: -weights[word] * index.idf(word) * (index.spread(word) > 0))
        chosen = set(best[:_MOST_WORDS])
        return {word: weight for word, weight in weights.items() if word in chosen}


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


class _Kind:
    """Whether labels stand above one stretch of passages each, or little more, and each group has one label."""

    def __init__(self) -> None:
        self._last: Passage | None = None
        self._labels: set[str] = set()
        self._stretches = 0
        self._possible = True

    def add(self, passage: Passage) -> None:
        last, self._last = self._last, passage
        if last is None or last.label != passage.label:
            self._stretches += 1
            if not passage.label or (last is not None and last.group == passage.group):
                self._possible = False
        self._labels.add(passage.label)

    @property
    def headed(self) -> bool:
        return bool(self._labels) and self._possible and self._stretches <= _STRETCHES * len(self._labels)
