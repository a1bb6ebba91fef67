"""Which pieces of a tool's output matter: those with what was asked for, with what is new, with what went wrong."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import NDArray

from langchain_tokopt.context.trimming.identifiers import identifiers
from langchain_tokopt.lexical import terms

# What a piece is worth, by what is in it. The words of the call weigh more than those of the task: they say what the
# agent was looking for. A piece also speaks for its neighbours.
CALL: Final = 1.0
TASK: Final = 0.5
# In deviations: however many words match, what went wrong matters more.
MOST_MATCH: Final = 2.0
PROBLEM: Final = 2.5
DEFINITION: Final = 1.2
NEW_NAME: Final = 0.5
MOST_NEW_NAMES: Final = 2
BEGINNING, BEGINNING_PIECES = 0.6, 15.0
END, END_PIECES = 0.4, 10.0
NEIGHBOUR: Final = 0.35

_WORD = re.compile(r"[A-Z]?[a-z]{2,}|[A-Z]{2,}(?![a-z])|\d{2,}|[^\W\d_a-zA-Z]+")
_PROBLEM = re.compile(
    # What each begins with stands in front: most characters begin none.
    r"(?=[efatwndrpui])(?:error|exception|traceback|fail|assert|warning|not found|denied|refused|fatal|panic"
    r"|timed? ?out|undefined|invalid)"
)
_DEFINITION = re.compile(
    # A line's number, and its file, as search tools write them. Bounded, so that no line takes long.
    r"^[ \t]*(?:\d{1,7}[\t:|-]?[ \t]*)?(?:[^:\s]{1,200}:\d{1,7}:[ \t]*)?"
    r"(?:(?:export|public|private|protected|static|async|pub|final|abstract) )*"
    r"(?:class|def|function|func|fn|interface|struct|enum|type|impl|module|import|from|package|use|CREATE|#include|@\w)\b",
    re.MULTILINE,
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
        found = dict.fromkeys(_stems(self.task[: self.MOST]), TASK)
        found.update(dict.fromkeys(_stems(self.call[: self.MOST]), CALL))
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
    whole = _Joined(texts)
    for index in whole.having(_PROBLEM, lower=True):
        scores[index] += PROBLEM
    for index in whole.having(_DEFINITION):
        scores[index] += DEFINITION
    news: set[str] = set()
    for index, own in enumerate(inside):
        new = {name for name in own if name not in seen and name not in news} if own else None
        if new:
            news |= new
            scores[index] += NEW_NAME * min(len(new), MOST_NEW_NAMES)
    spread: NDArray[np.float32] = scores.astype(np.float32)
    spread[1:] += NEIGHBOUR * scores[:-1]
    spread[:-1] += NEIGHBOUR * scores[1:]
    return spread


class _Joined:
    """The pieces as one text: it is much faster to look for something once than in each."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._text = "\n".join(texts)
        self._starts = list(accumulate((len(text) + 1 for text in texts), initial=0))

    def having(self, pattern: re.Pattern[str], *, lower: bool = False) -> Iterator[int]:
        """The pieces in which the pattern, which spans no line break, is found: each once, in order."""
        lowered = self._text.lower() if lower else self._text
        # Few letters have another length in lower case; then nothing would be where it was.
        searched = lowered if len(lowered) == len(self._text) else self._text
        last = -1
        for match in pattern.finditer(searched):
            index = bisect_right(self._starts, match.start()) - 1
            if index != last:
                yield index
            last = index


@lru_cache(maxsize=64)
def _stems(text: str) -> tuple[str, ...]:
    return tuple(terms(text))


@lru_cache(maxsize=32_768)
def _stem(word: str) -> str | None:
    """What a word is looked up by; `None` for one that says nothing."""
    return next(iter(terms(word)), None)


def _matches(texts: Sequence[str], wanted: Wanted) -> NDArray[np.float64]:
    """How well each text matches, in deviations from the mean: rare words count more, long texts less."""
    count = len(texts)
    weights = wanted.weights()
    scores = np.zeros(count)
    if not weights or not count:
        return scores
    wanting = weights.keys()
    found = [wanting & set(map(_stem, _WORD.findall(text[: wanted.MOST]))) for text in texts]
    often = Counter(stem for one in found for stem in one)
    rarity = {stem: math.log(1 + (count - n + 0.5) / (n + 0.5)) for stem, n in often.items()}
    mean = sum(map(len, texts)) / max(1, count)
    for index, (text, one) in enumerate(zip(texts, found, strict=True)):
        if one:
            worth = sum(weights[stem] * rarity[stem] for stem in sorted(one))
            scores[index] = worth / (0.6 + 0.4 * len(text) / max(1.0, mean))
    deviation = float(scores.std())
    if deviation <= 1e-9:
        return np.zeros(count)
    matches: NDArray[np.float64] = np.minimum((scores - scores.mean()) / deviation, MOST_MATCH)
    return matches
