"""What is known of a single word, looked up once: most words have nothing special, and most questions none but such."""

from __future__ import annotations

import sys
from enum import IntFlag
from functools import cache, lru_cache
from typing import NamedTuple

from langchain_tokopt.cache.reading import lexicon, opposites
from langchain_tokopt.cache.reading.amounts import SPOKEN
from langchain_tokopt.cache.reading.roles import LEADING
from langchain_tokopt.cache.reading.stems import stem

ASKING = frozenset(["who", "whom", "whose", "when", "where", "why", "what", "which", "how"])


class Trait(IntFlag):
    """What a word may be; a question in which no word has a trait need not be read for it."""

    CONTENT = 1  # neither a function word nor a negation
    DENIES = 2
    PREFIXED = 4  # "un-", "dis-" ...
    ASKS = 8
    PARTICLE = 16
    LEADS = 32  # "from", "to" ...: what follows may be a place
    CONNECTS = 64
    NUMBER = 128
    UNIT = 256
    MEMBER = 512  # of a closed class, or the first of two words that are


class Word(NamedTuple):
    """A word. `traits`: a sum of `Trait`s, as a plain number; `base`: what it is the opposite of by its prefix."""

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
    listed = text in lexicon.NEGATIONS
    base = None if listed else opposites.without_prefix(text)
    traits = {
        Trait.CONTENT: not listed and text not in lexicon.STOP_WORDS,
        Trait.DENIES: listed or text.endswith("n't"),
        Trait.PREFIXED: bool(base),
        Trait.ASKS: text in ASKING,
        Trait.PARTICLE: text in opposites.PARTICLES,
        Trait.LEADS: text in LEADING,
        Trait.CONNECTS: text in lexicon.CONNECTORS,
        Trait.NUMBER: text in SPOKEN,
        Trait.UNIT: text in lexicon.units(),
        Trait.MEMBER: text in members() or text in lexicon.first_of_two(),
    }
    return Word(text, stem(text), sum(int(trait) for trait, has in traits.items() if has), base)
