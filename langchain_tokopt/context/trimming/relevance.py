"""Which pieces of a tool's output matter: those with what was asked for, with what is new, with what went wrong."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from langchain_tokopt.context.trimming.identifiers import identifiers
from langchain_tokopt.lexical import terms

# What a piece is worth, by what is in it. The words of the call weigh more than those of the task: they say what the
# agent was looking for. A piece also speaks for its neighbours.
CALL: Final = 1.0
TASK: Final = 0.5
PROBLEM: Final = 2.0
DEFINITION: Final = 1.2
NEW_NAME: Final = 1.0
MOST_NEW_NAMES: Final = 2
BEGINNING, BEGINNING_PIECES = 0.6, 15.0
END, END_PIECES = 0.4, 10.0
NEIGHBOUR: Final = 0.35

_WORD = re.compile(r"[A-Z]?[a-z]{2,}|[A-Z]{2,}(?![a-z])|\d{2,}|[^\W\d_a-zA-Z]+")
_PROBLEM = re.compile(
    r"error|exception|traceback|fail|assert|warning|not found|denied|refused|fatal|panic|timed? ?out|undefined|invalid",
    re.IGNORECASE,
)
_DEFINITION = re.compile(
    r"[ \t]*(?:\d+[\t:|-]?[ \t]*)?(?:[^:\s]{1,200}:\d+:)?[ \t]*"
    r"(?:(?:export|public|private|protected|static|async|pub|final|abstract) )*"
    r"(?:class|def|function|func|fn|interface|struct|enum|type|impl|module|import|from|package|use|CREATE|#include|@\w)\b"
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an output is read for: the words of the call that made it, and of the task.

    Texts are cut to their first `MOST` characters.
    """

    call: str = ""
    task: str = ""
    MOST: Final = 2_000

    def weights(self) -> dict[str, float]:
        """Each word, stemmed, with what a match of it is worth."""
        found = dict.fromkeys(terms(self.task[: self.MOST]), TASK)
        found.update(dict.fromkeys(terms(self.call[: self.MOST]), CALL))
        return found


def relevance(
    texts: Sequence[str],
    wanted: Wanted,
    seen: Collection[str] = frozenset(),
    *,
    names: Sequence[Sequence[str]] | None = None,
) -> NDArray[np.float32]:
    """How much each piece matters among these, float32 `[n]`.

    `seen` holds the identifiers that are shown elsewhere: the others are news. `names` are those of each piece, where
    they are known.
    """
    inside = [tuple(identifiers(text)) for text in texts] if names is None else names
    count = len(texts)
    place = np.arange(count)
    scores = _matches(texts, wanted)
    scores += BEGINNING * np.exp(-place / BEGINNING_PIECES) + END * np.exp(-(count - 1 - place) / END_PIECES)
    news: set[str] = set()
    for index, text in enumerate(texts):
        if _PROBLEM.search(text):
            scores[index] += PROBLEM
        if _DEFINITION.match(text):
            scores[index] += DEFINITION
        new = {name for name in inside[index] if name not in seen and name not in news}
        if new:
            news |= new
            scores[index] += NEW_NAME * min(len(new), MOST_NEW_NAMES)
    spread: NDArray[np.float32] = scores.astype(np.float32)
    spread[1:] += NEIGHBOUR * scores[:-1]
    spread[:-1] += NEIGHBOUR * scores[1:]
    return spread


@dataclass(slots=True)
class _Stems:
    """Which of the wanted words a word of a text is, looked up once for each."""

    wanted: dict[str, float]
    known: dict[str, str | None] = field(default_factory=dict)

    def of(self, text: str) -> set[str]:
        found = set()
        for word in _WORD.findall(text):
            if word not in self.known:
                stems = terms(word)
                self.known[word] = stems[0] if stems and stems[0] in self.wanted else None
            stem = self.known[word]
            if stem is not None:
                found.add(stem)
        return found


def _matches(texts: Sequence[str], wanted: Wanted) -> NDArray[np.float64]:
    """How well each text matches, with mean 0 and deviation 1: rare words count more, long texts less."""
    count = len(texts)
    weights = wanted.weights()
    scores = np.zeros(count)
    if not weights:
        return scores
    stems = _Stems(weights)
    found = [stems.of(text) for text in texts]
    often = Counter(stem for one in found for stem in one)
    rarity = {stem: math.log(1 + (count - n + 0.5) / (n + 0.5)) for stem, n in often.items()}
    mean = sum(map(len, texts)) / max(1, count)
    for index, (text, one) in enumerate(zip(texts, found, strict=True)):
        if one:
            worth = sum(weights[stem] * rarity[stem] for stem in sorted(one))
            scores[index] = worth / (0.6 + 0.4 * len(text) / max(1.0, mean))
    deviation = float(scores.std())
    return (scores - scores.mean()) / deviation if deviation > 1e-9 else np.zeros(count)
