"""Short names for texts that are shown in part: what a marker says and what the model asks for the original with."""

from __future__ import annotations

import hashlib
from typing import Final

_DIGITS: Final = 8


def handle(text: str) -> str:
    """The text's name: 8 hex digits that depend on nothing but the text.

    So a marker stays good when other messages of the thread are removed, and in any process. Among a thousand texts two
    share a name once in ten thousand threads.
    """
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGITS // 2).hexdigest()
