"""Identifiers and numbers in a text: what must not get lost when it is shortened."""

from __future__ import annotations

import re
from typing import Final

_PIECE: Final = re.compile(r"[^\s\"'`,;(){}\[\]<>|=*\u2018\u2019\u201c\u201d]+")
_EDGES: Final = ".:!?-/\\_~#$€£%&+"
_SIGNS: Final = frozenset("/_@\\")
_CAMEL: Final = re.compile(r"[a-z][A-Z]")
_DOTTED: Final = re.compile(r"\w\.[A-Za-z]{2}")
_LONGEST: Final = 120


def identifiers(text: str) -> list[str]:
    """Numbers, dates, paths, addresses, names of code, words in capitals: each once, in their order."""
    found: dict[str, None] = {}
    for piece in _PIECE.findall(text):
        name = piece.strip(_EDGES)
        if 0 < len(name) <= _LONGEST and is_identifier(name):
            found[name] = None
    return list(found)


def is_identifier(word: str) -> bool:
    """Whether a word is a number, a date, a path, an address, a name from code, or in capitals."""
    return (
        any(character.isdigit() for character in word)
        or not _SIGNS.isdisjoint(word)
        or bool(_CAMEL.search(word) or _DOTTED.search(word))
        or (len(word) > 2 and word.isupper())
    )
