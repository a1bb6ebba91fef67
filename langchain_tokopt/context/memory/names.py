"""Identifiers and numbers in a text: what must not get lost when it is shortened."""

from __future__ import annotations

import re
from typing import Final

_PIECE: Final = re.compile(r"[^\s\"'`,;(){}\[\]<>|=*\u2018\u2019\u201c\u201d]+")
_EDGES: Final = ".:!?-/\\_~#$€£%&+"
# A number, a sign of paths and addresses, camelCase, a name with an ending, capitals.
_IDENTIFIER: Final = re.compile(r"\d|[/_@\\]|[a-z][A-Z]|\w\.[A-Za-z]{2}|\b[A-Z]{3,}\b")
_LONGEST: Final = 120


def identifiers(text: str) -> list[str]:
    """Numbers, dates, paths, addresses, names of code, words in capitals: each once, in their order."""
    found: dict[str, None] = {}
    for piece in _PIECE.findall(text):
        name = piece.strip(_EDGES)
        if 0 < len(name) <= _LONGEST and is_identifier(name):
            found[name] = None
    return list(found)


def is_identifier(text: str) -> bool:
    """Whether a number, a date, a path, an address, a name from code, or a word in capitals is in the text."""
    return _IDENTIFIER.search(text) is not None
