"""Who does what to what, as far as the order of the words tells: particles, prepositions, connectors.

All take the words of a question and their stems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from langchain_tokopt.cache.reading import lexicon, opposites

LEADING = frozenset(["from", "to", "in", "into", "near", "via"])
_AROUND = 3  # content words that are looked at on each side of a connector
_MOST_ROLES = 8  # a question with more of them is no longer short


@dataclass(frozen=True, slots=True)
class Role:
    """The nearest content words on both sides of a word such as "to", "before" or "than", the nearest first."""

    connector: str
    left: tuple[str, ...]
    right: tuple[str, ...]


def particles(words: Sequence[str], roots: Sequence[str]) -> frozenset[tuple[str, str]]:
    """Verbs with the particle after them: ("log", "in")."""
    found = set()
    for place, word in enumerate(words):
        if place and word in opposites.PARTICLES:
            found.add((roots[place - 1], word))
            for back in range(max(0, place - 4), place - 1):
                if words[back] in opposites.SEPARABLE:
                    found.add((roots[back], word))
    return frozenset(found)


def slots(words: Sequence[str], roots: Sequence[str]) -> frozenset[tuple[str, str]]:
    """Bare words after "from", "to", "in", "near", "via": a place or a unit, known to a list or not."""
    found = set()
    for place, word in enumerate(words[:-1]):
        if word not in LEADING:
            continue
        filler = words[place + 1]
        if filler in lexicon.STOP_WORDS or filler in lexicon.DETERMINERS or not filler.isalpha():
            continue
        if word != "to" or _is_direction(words, roots, place):
            found.add((word, roots[place + 1]))
    return frozenset(found)


def _is_direction(words: Sequence[str], roots: Sequence[str], place: int) -> bool:
    """Whether this "to" says where to, and does not begin "to reset"."""
    moving = lexicon.moving()
    return (
        any(roots[back] in moving for back in range(max(0, place - 4), place)) or "from" in words[place + 2 : place + 3]
    )


def roles(words: Sequence[str], roots: Sequence[str]) -> tuple[Role, ...]:
    """What stands around the connectors of a question, in their order."""
    if lexicon.CONNECTORS.isdisjoint(words):
        return ()
    stop = lexicon.STOP_WORDS
    found = []
    for place, word in enumerate(words):
        if word not in lexicon.CONNECTORS or (word == "to" and not _is_direction(words, roots, place)):
            continue
        left = [roots[i] for i in range(place) if words[i] not in stop][-_AROUND:]
        right: list[str] = []
        for i in range(place + 1, len(words)):
            if words[i] not in stop:
                right.append(roots[i])
                if len(right) == _AROUND:
                    break
        found.append(Role(word, tuple(reversed(left)), tuple(right)))
        if len(found) == _MOST_ROLES:
            break
    return tuple(found)
