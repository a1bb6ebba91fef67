"""What is known of a single word, looked up once: most words have nothing special, and most questions none but such."""

from __future__ import annotations

import sys
from collections.abc import Collection
from functools import cache, lru_cache
from typing import Final, NamedTuple

from langchain_tokopt.cache.reading import lexicon, opposites
from langchain_tokopt.cache.reading.amounts import SPOKEN
from langchain_tokopt.cache.reading.roles import LEADING
from langchain_tokopt.cache.reading.stems import stem

ASKING = frozenset(["who", "whom", "whose", "when", "where", "why", "what", "which", "how"])


# Traits of a word, to be added up; a question in which no word has a trait need not be read for it. Plain numbers:
# an operation on an `IntFlag` would take a microsecond.
CONTENT: Final = 1  # neither a function word nor a negation
DENIES: Final = 2
PREFIXED: Final = 4  # "un-", "dis-" ...
ASKS: Final = 8
PARTICLE: Final = 16
LEADS: Final = 32  # "from", "to" ...: what follows may be a place
CONNECTS: Final = 64
COUNTS: Final = 128  # a number or a unit
UNIT: Final = 256
MEMBER: Final = 512  # of a closed class, or the first of two words that are


class Word(NamedTuple):
    """A word. `traits`: their sum; `base`: what it is the opposite of by its prefix."""

    text: str
    stem: str
    traits: int
    base: str | None


@cache
def members() -> dict[str, str]:
    """ "class:member" by word, or by two words with a space between."""
    return {**lexicon.entities(), **lexicon.kinds()}


@lru_cache(maxsize=16_384)
def look_up(found: str) -> Word:
    """What is known of a word in lower case, as it was found in a text."""
    text = sys.intern(found.removesuffix("'s"))
    traits = _listed().get(text, 0)
    if not traits & DENIES and text.endswith("n't"):
        traits += DENIES
    if text in lexicon.NEGATIONS:
        return Word(text, stem(text), traits, None)
    if text not in lexicon.STOP_WORDS:
        traits += CONTENT
    base = opposites.without_prefix(text)
    return Word(text, stem(text), traits + PREFIXED if base else traits, base)


@cache
def _listed() -> dict[str, int]:
    """The traits of a word that are a matter of lists."""
    units = frozenset(lexicon.units())
    lists: tuple[tuple[int, Collection[str]], ...] = (
        (DENIES, lexicon.NEGATIONS),
        (ASKS, ASKING),
        (PARTICLE, opposites.PARTICLES),
        (LEADS, LEADING),
        (CONNECTS, lexicon.CONNECTORS),
        (COUNTS, SPOKEN | units),
        (UNIT, units),
        (MEMBER, lexicon.first_of_two().union(members())),
    )
    found: dict[str, int] = {}
    for trait, words in lists:
        for word in words:
            found[word] = found.get(word, 0) | trait
    return found
