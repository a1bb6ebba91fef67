"""The names in a text that a later message may need letter by letter: paths, symbols, ids, addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

_TOKEN = re.compile(r"/?[\w#]+(?:[./:@\\-]{1,3}\w+)*", re.ASCII)
_CAMEL = re.compile(r"[a-z][A-Z]")
_MARK = re.compile(r"[_./:@\\]")
_LETTER = re.compile(r"[A-Za-z]")
_DIGIT = re.compile(r"\d")
_DIGITS = re.compile(r"\d{5}")
_NUMERIC = re.compile(r"#?[\d.:/\\-]+")

SHORTEST: Final = 4
SHORTEST_NAME: Final = 6
LONGEST: Final = 160


def identifiers(text: str) -> Iterator[str]:
    """Each identifier of the text, in order and as often as it comes.

    That is a word with an inner `_`, `.`, `/`, `:`, `@` or `\\`, one in camelCase or of letters and digits, or a number
    of five digits or more. Common words, short numbers, dates and times are none.
    """
    # Before anything is remembered of it: one token may be all of a huge text.
    tokens = [token for token in _TOKEN.findall(text) if SHORTEST <= len(token) <= LONGEST]
    return filter(is_identifier, tokens)


@lru_cache(maxsize=16_384)
def is_identifier(token: str) -> bool:
    """Whether a word is a name that cannot be guessed from its meaning."""
    if not SHORTEST <= len(token) <= LONGEST:
        return False
    if not _LETTER.search(token):
        return _DIGITS.search(token) is not None and _NUMERIC.fullmatch(token) is not None
    digits = len(_DIGIT.findall(token))
    if digits >= 3 or (digits and "-" not in token):
        return True
    return len(token) >= SHORTEST_NAME and (_MARK.search(token) is not None or _CAMEL.search(token) is not None)
