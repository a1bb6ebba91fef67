"""Signals for turns of a conversation: what is said near them, who says them, and what kind of thing they tell."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from langchain_tokopt.context.ranking.columns import Column
from langchain_tokopt.context.ranking.cues import Holds, answers_to, asks_about_oneself, told_share
from langchain_tokopt.context.ranking.index import WordIndex, bm25
from langchain_tokopt.context.ranking.passages import Passage
from langchain_tokopt.context.ranking.windows import Places
from langchain_tokopt.context.ranking.words import base_form, is_light
from langchain_tokopt.lexical import tokens

# Words of an answer stand in the question before it, so the words near a turn say more than its own.
_NEAR, _WIDE = 3, 8
_WEIGHTS = {"own": 0.2, "near": 1.0, "wide": 0.5, "hop": 0.25, "speaker": 2.0, "cue": 1.2, "told": 1.5}
_ONESELF = 0.5
# Two-hop: so many words of so many best turns, each turn worth less than the one before.
_HOP_TURNS, _HOP_WORDS, _HOP_FADING = 8, 15, 4.0
# A long window evens lengths out by itself.
_WINDOW_B = 0.3
_ROLES = frozenset("user human assistant ai system tool function developer bot chatbot model agent".split())  # noqa: SIM905
_USERS = frozenset(("user", "human"))


class TurnSignals:
    """What is known of turns, and which of them a question needs."""

    # What vectors weigh beside the words: a passage's own, and those around it.
    MEANING = (0.6, 0.6)

    def __init__(self) -> None:
        self.index = WordIndex()
        self.places = Places()
        self._texts: list[str] = []
        self._told = Column()
        self._speaks = Column()
        self._labels: dict[str, int] = {}
        self._cues: dict[Holds, Column] = {}
        self.names: set[str] = set()

    def add(self, passage: Passage) -> str:
        """One turn more. Returns the text that stands for it; names of speakers are added to `names`.

        `names`, in their base forms, say who speaks and not what about.
        """
        self.index.add(passage.text)
        self.places.add(passage.group)
        self._texts.append(passage.text)
        self._told.append(told_share(passage.text))
        if passage.label not in self._labels:
            self._labels[passage.label] = len(self._labels)
            self.names.update(map(base_form, _names(passage.label)))
        self._speaks.append(self._labels[passage.label])
        return passage.text

    def scores(self, question: str, weights: Mapping[str, float]) -> NDArray[np.float64]:
        """One score per turn: `[n]`. `weights`: the words of the question, without the names of speakers."""
        frequencies = self.index.frequencies(weights)
        own = self._matches(frequencies, weights)
        near = self._window(frequencies, weights, _NEAR, fading=True)
        wide = self._window(frequencies, weights, _WIDE)
        first = (
            _WEIGHTS["own"] * standard(own)
            + _WEIGHTS["near"] * standard(near)
            + _WEIGHTS["wide"] * standard(wide)
            + _WEIGHTS["speaker"] * self._speakers(question)
            + _WEIGHTS["told"] * self._told.values
        )
        for holds in answers_to(question):
            first += _WEIGHTS["cue"] * self._held(holds)
        return np.asarray(first + _WEIGHTS["hop"] * standard(self._hop(first, weights)))

    def _matches(self, frequencies: NDArray[np.float64], weights: Mapping[str, float]) -> NDArray[np.float64]:
        return np.asarray(np.sqrt(bm25(frequencies, self.index.lengths, weights)))

    def _window(
        self, frequencies: NDArray[np.float64], weights: Mapping[str, float], reach: int, *, fading: bool = False
    ) -> NDArray[np.float64]:
        sums = self.places.fading if fading else self.places.around
        return np.asarray(
            np.sqrt(bm25(sums(frequencies, reach), sums(self.index.lengths, reach), weights, b=_WINDOW_B))
        )

    def _held(self, holds: Holds) -> NDArray[np.float64]:
        """Which turns hold what is asked for: 0 or 1. Each is looked at once."""
        column = self._cues.setdefault(holds, Column())
        for text in self._texts[len(column) :]:
            column.append(holds(text))
        return column.values

    def _speakers(self, question: str) -> NDArray[np.float64]:
        asked = set(tokens(question))
        oneself = asks_about_oneself(question)
        worth = [
            1.0 if _names(label) & asked else _ONESELF if oneself and label.lower() in _USERS else 0.0
            for label in self._labels
        ]
        return np.array(worth)[self._speaks.values.astype(np.intp)]

    def _hop(self, first: NDArray[np.float64], weights: Mapping[str, float]) -> NDArray[np.float64]:
        """How well the turns match words of the best ones that the question has not."""
        found: dict[str, float] = {}
        for place, at in enumerate(np.argsort(-first, kind="stable")[:_HOP_TURNS].tolist()):
            for word in self.index.words[at]:
                if word not in weights and not is_light(word) and self.index.spread(word) > 1:
                    found[word] = found.get(word, 0.0) + float(np.exp(-place / _HOP_FADING))
        best = sorted(found, key=lambda word: (-found[word] * self.index.idf(word), word))[:_HOP_WORDS]
        leads = {word: found[word] for word in best}
        return self._matches(self.index.frequencies(leads, families=False), leads)


def standard(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The scores with mean 0 and deviation 1; zeros where all are equal."""
    deviation = float(scores.std()) if scores.size else 0.0
    return np.asarray((scores - scores.mean()) / deviation if deviation > 1e-9 else np.zeros(scores.shape))


def _names(label: str) -> set[str]:
    found = {name for name in tokens(label) if len(name) > 1}
    return set() if found & _ROLES else found
