"""Signals for sentences of documents: headings, the lead of each paragraph, and what one document says of another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from langchain_tokopt.context.ranking.index import WordIndex, bm25
from langchain_tokopt.context.ranking.passages import Passage
from langchain_tokopt.context.ranking.turns import standard
from langchain_tokopt.context.ranking.windows import Places
from langchain_tokopt.context.ranking.words import content_words, is_light

_WEIGHTS = {"own": 0.7, "lead": 0.7, "heading": 0.9, "named": 1.3, "named_lead": 0.5, "names": 0.5, "hop": 0.6}
# From so many best sentences others are looked for, so many times over: each finding may lead to the next.
_HOP_SENTENCES, _HOP_FADING, _HOPS = 4, 3.0, 2
# A heading is named where so much of it, by the rarity of its words, is said.
_NAMED = 0.7


class HeadedSignals:
    """What is known of sentences under headings, and which of them a question needs.

    Each sentence is indexed together with its heading.
    """

    # What vectors weigh beside the words: a passage's own, and those around it.
    MEANING = (0.3, 0.0)

    names: frozenset[str] = frozenset()  # headings are part of the subject: no word is left out of a question

    def __init__(self) -> None:
        self.index = WordIndex()
        self.places = Places()
        self._labels: list[str] = []
        self._words: dict[str, list[str]] = {}
        self._said: list[set[str]] = []
        self._sections: dict[str, list[int]] = {}
        self._saying: dict[str, list[int]] = {}
        self._titles: dict[str, dict[str, float]] = {}

    def add(self, passage: Passage) -> str:
        """One sentence more. Returns the text that stands for it."""
        at, label = len(self.index), passage.label
        if label not in self._words:
            self._words[label] = content_words(label)
        text = f"{label}\n{passage.text}"
        self.index.add(text)
        self.places.add(passage.group)
        self._labels.append(label)
        self._said.append(set(self.index.words[at] - Counter(self._words[label])))
        self._sections.setdefault(label, []).append(at)
        for word in self._said[at]:
            self._saying.setdefault(word, []).append(at)
        return text

    def scores(self, question: str, weights: Mapping[str, float]) -> NDArray[np.float64]:
        """One score per sentence: `[n]`. `weights`: the words of the question."""
        lead = (np.arange(len(self.index)) == self.places.starts).astype(np.float64)
        self._titles = {label: self._rarities(words) for label, words in self._words.items()}
        frequencies = self.index.frequencies(weights)
        own = standard(np.sqrt(bm25(frequencies, self.index.lengths, weights)))
        direct = _WEIGHTS["own"] * own + _WEIGHTS["lead"] * lead + _WEIGHTS["heading"] * self._in_heading(weights)
        scores = direct
        for _ in range(_HOPS):
            scores = direct + self._led_to(scores, weights, lead)
        return np.asarray(scores)

    def _rarities(self, words: Iterable[str]) -> dict[str, float]:
        return {word: self.index.idf(word) for word in dict.fromkeys(words)}

    def _in_heading(self, said: Iterable[str]) -> NDArray[np.float64]:
        """Which share of each sentence's heading is said."""
        shares = {label: _share(title, set(said)) for label, title in self._titles.items()}
        return np.array([shares[label] for label in self._labels])

    def _led_to(
        self, scores: NDArray[np.float64], weights: Mapping[str, float], lead: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """What the best sentences lead to: sections that they name, sentences that name theirs, words they share."""
        named, naming = np.zeros(scores.shape), np.zeros(scores.shape)
        leads: dict[str, float] = {}
        for place, at in enumerate(np.argsort(-scores, kind="stable")[:_HOP_SENTENCES].tolist()):
            worth = float(np.exp(-place / _HOP_FADING))
            for label in self._named_by(at):
                section = self._sections[label]
                named[section] = np.maximum(named[section], worth * _share(self._titles[label], self._said[at]))
            for other in self._naming(self._labels[at]):
                naming[other] = max(naming[other], worth)
            for word in self.index.words[at]:
                if word not in weights and not is_light(word) and 1 < self.index.spread(word) <= len(scores) / 2:
                    leads[word] = leads.get(word, 0.0) + worth
        hop = np.sqrt(bm25(self.index.frequencies(leads, families=False), self.index.lengths, leads))
        return np.asarray(
            named * (_WEIGHTS["named"] + _WEIGHTS["named_lead"] * lead)
            + _WEIGHTS["names"] * naming
            + _WEIGHTS["hop"] * standard(hop)
        )

    def _named_by(self, at: int) -> list[str]:
        """The headings of other sections that a sentence names."""
        return [
            label
            for label, title in self._titles.items()
            if label != self._labels[at] and _share(title, self._said[at]) > _NAMED
        ]

    def _naming(self, label: str) -> list[int]:
        """The sentences of other sections that name a heading."""
        title = self._titles[label]
        near = {at for word in title for at in self._saying.get(word, ())}
        return sorted(at for at in near if self._labels[at] != label and _share(title, self._said[at]) > _NAMED)


def _share(title: Mapping[str, float], said: set[str]) -> float:
    """How much of a heading, by the rarity of its words, is among the words that are said: 0 to 1."""
    whole = sum(title.values())
    return sum(rarity for word, rarity in title.items() if word in said) / whole if whole else 0.0
