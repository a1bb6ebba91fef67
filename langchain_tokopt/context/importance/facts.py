"""Facts in what was said: numbers, dates, names, and what was told of oneself or done. Counted in one pass."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_NUMBER: Final = re.compile(r"\d+")
_DATE: Final = re.compile(r"\b(?:19|20)\d\d\b|\b\d{1,2}[:/.\-]\d{1,2}\b")
# A capital within a sentence: "with Ines", not "So".
_PROPER: Final = re.compile(r"(?<=[a-z,;] )[A-Z][\w'\-]*")
_QUOTED: Final = re.compile(r"[\"\u201c\u201d`][^\"\u201c\u201d`\n]{2,80}[\"\u201c\u201d`]")

_DAYS: Final = frozenset(
    """
    january february march april june july august september october november december monday tuesday wednesday thursday
    friday saturday sunday yesterday tomorrow tonight today weekend birthday anniversary ago
    """.split()  # noqa: SIM905
)
_WHICH: Final = frozenset({"last", "next", "this", "past"})
_SPANS: Final = frozenset({"week", "month", "year", "night", "summer", "winter", "spring", "fall", "autumn", "time"})
_OWN: Final = frozenset({"my", "our", "mine", "ours", "i've", "i'm", "we've", "we're"})
_PERSONS: Final = frozenset({"i", "we", "he", "she", "they", "it", "i've", "we've", "he's", "she's", "they've"})
_BETWEEN: Final = frozenset({"have", "had", "has", "just", "also"})
_DONE: Final = frozenset(
    """
    went got made took bought met saw won found began started gave read ran built wrote did was were
    """.split()  # noqa: SIM905
)


def facts(text: str, words: Sequence[str]) -> tuple[int, int, int, int, int]:
    """How many numbers, dates, proper names, quoted words, and things told of oneself or done.

    `words`: those of the text, in order, in lower case.
    """
    dates = own = 0
    before = earlier = ""
    for word in words:
        dates += word in _DAYS or (word in _SPANS and before in _WHICH)
        if word in _OWN:
            own += 1
        elif word in _DONE or (word.endswith("ed") and len(word) > 3):
            own += before in _PERSONS or (before in _BETWEEN and earlier in _PERSONS)
        earlier, before = before, word
    return (
        len(_NUMBER.findall(text)),
        dates + len(_DATE.findall(text)),
        len(_PROPER.findall(text)),
        len(_QUOTED.findall(text)),
        own,
    )
