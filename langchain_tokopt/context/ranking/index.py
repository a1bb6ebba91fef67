"""Which passage has which word how often; grows at its end."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from langchain_tokopt.context.ranking.columns import Column
from langchain_tokopt.context.ranking.words import content_words, family_key, related

# See langchain_tokopt/lexical.py; passages of prose wander as they get longer, so the usual b.
K1 = 1.2
B = 0.75
# What a word of the same family is worth against the word itself.
_FAMILY = 0.5


class WordIndex:
    """The words of passages."""

    def __init__(self) -> None:
        self.words: list[Counter[str]] = []
        self._lengths = Column()
        self._found: dict[str, tuple[list[int], list[int]]] = {}
        self._families: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return len(self.words)

    def add(self, text: str) -> None:
        """One passage more."""
        counts = Counter(content_words(text))
        position = len(self.words)
        self.words.append(counts)
        self._lengths.append(max(1, counts.total()))
        for word, count in counts.items():
            found = self._found.get(word)
            if found is None:
                found = self._found[word] = ([], [])
                key = family_key(word)
                if key is not None:
                    self._families.setdefault(key, []).append(word)
            found[0].append(position)
            found[1].append(count)

    @property
    def lengths(self) -> NDArray[np.float64]:
        """How many words each passage has, at least 1: `[n]`."""
        return self._lengths.values

    def spread(self, word: str) -> int:
        """In how many passages the word is."""
        return len(self._found[word][0]) if word in self._found else 0

    def idf(self, word: str) -> float:
        """Inverse document frequency of the word, as BM25 has it."""
        return _idf(self.spread(word), len(self.words))

    def frequencies(self, wanted: Iterable[str], *, families: bool = True) -> NDArray[np.float64]:
        """How often each passage has each wanted word, other words of its family counted by half: `[words, n]`."""
        words = list(wanted)
        rows = np.zeros((len(words), len(self.words)))
        for row, word in zip(rows, words, strict=True):
            if word in self._found:
                row[self._found[word][0]] += self._found[word][1]
            for other in self._families.get(family_key(word) or "", ()) if families else ():
                if other != word and other not in words and related(word, other):
                    row[self._found[other][0]] += _FAMILY * np.array(self._found[other][1])
        return rows


def bm25(
    frequencies: NDArray[np.float64], lengths: NDArray[np.float64], weights: Mapping[str, float], *, b: float = B
) -> NDArray[np.float64]:
    """BM25 from word frequencies `[words, n]`, which need not be whole numbers, and lengths `[n]`: scores `[n]`."""
    if not weights or not lengths.size:
        return np.zeros(lengths.shape)
    count = lengths.shape[0]
    idf = [_idf(spread, count) for spread in np.count_nonzero(frequencies > 0.01, axis=1).tolist()]
    damping = K1 * (1 - b + b * lengths / lengths.mean())
    parts = frequencies * (K1 + 1) / (frequencies + damping)
    return np.asarray((np.array(list(weights.values())) * np.array(idf)) @ parts)


def _idf(spread: int, count: int) -> float:
    return math.log(1 + (count - spread + 0.5) / (spread + 0.5))
