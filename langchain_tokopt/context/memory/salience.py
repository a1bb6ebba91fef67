"""How much a sentence says, without knowing what will be asked."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from langchain_tokopt.context.memory.names import is_identifier
from langchain_tokopt.lexical import terms

QUESTION_MARKS: Final = ("?", "\uff1f", "\u061f")
# A sentence's weight grows by so much for each kind of thing that it holds.
_FACT: Final = 0.5
_CUE: Final = 0.25
_NAME: Final = 0.5
_ASKS: Final = 0.5

_WORD: Final = re.compile(r"[^\W\d_]+")
_TIME: Final = frozenset(
    """
    monday tuesday wednesday thursday friday saturday sunday january february march april june july august september
    october november december yesterday today tomorrow tonight week weekend month year ago since until deadline birthday
    anniversary
    """.split()  # noqa: SIM905
)
_CUES: Final = frozenset(
    """
    decide decided decision choose chose chosen agreed agree agreement must never always should need needs require
    required requires prefer prefers preferred preference favorite favourite love loves hate hates want wants wanted
    plan plans planned planning promise promised will going remember forget important instead because use using only
    deadline allergic started bought called named moved joined signed got won works lives
    """.split()  # noqa: SIM905
)


class Frequencies:
    """In how many of the sentences so far each term came."""

    def __init__(self) -> None:
        self._documents: Counter[str] = Counter()
        self._count = 0

    def add(self, sentences: Iterable[frozenset[str]]) -> None:
        """Count sentences, each given as its terms."""
        for words in sentences:
            self._documents.update(words)
            self._count += 1

    def idf(self, term: str) -> float:
        """How rare a term is: above 0, higher is rarer."""
        seen = self._documents[term]
        return math.log(1 + (self._count - seen + 0.5) / (seen + 0.5))


def distinct_terms(text: str) -> frozenset[str]:
    """The terms of a text, each once."""
    return frozenset(terms(text))


def salience(sentence: str, words: frozenset[str], frequencies: Frequencies) -> float:
    """How much a sentence says: the rarity of its terms, more with numbers, names, decisions; 0 for small talk."""
    if not words:
        return 0.0
    # fsum: the order of a set must not decide the last bit.
    rarity = math.fsum(frequencies.idf(word) for word in words) / math.sqrt(len(words) + 1)
    if sentence.rstrip().endswith(QUESTION_MARKS):
        return rarity * _ASKS
    pieces = _WORD.findall(sentence)
    lowered = {piece.lower() for piece in pieces}
    more = _FACT * (is_identifier(sentence) or not _TIME.isdisjoint(lowered))
    more += _CUE * (not _CUES.isdisjoint(lowered))
    more += _NAME * any(piece[0].isupper() and len(piece) > 1 for piece in pieces[1:])
    return rarity * (1 + more)
