"""A request for several things, in parts."""

from __future__ import annotations

import re

# Shorter parts say too little to be ranked by.
LEAST_WORDS = 3
# A text of more parts is a story and not a list of wishes.
MOST_CLAUSES = 6

_CONNECTIVES = (
    "and then|then|after that|afterwards|and also|also|as well as|in addition|additionally|finally|next|and|but|plus"
)
_BETWEEN = re.compile(rf"(?<=[.!?;])\s+|[\u3002\uff01\uff1f\uff1b\n]\s*|,?\s+(?:{_CONNECTIVES})\s+|,\s+", re.IGNORECASE)
_EAST_ASIAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def clauses(text: str) -> list[str]:
    """The parts of a text that may ask for different things; empty when it is one part, or too many.

    It is split at the ends of sentences, at commas and at words like "and then". A part of less than three words goes
    with the one before it.
    """
    parts: list[str] = []
    for piece in _BETWEEN.split(text):
        part = piece.strip(" ,")
        if not part:
            continue
        if parts and not _says_enough(part):
            parts[-1] = f"{parts[-1]} {part}"
        else:
            parts.append(part)
        if len(parts) > MOST_CLAUSES:
            return []
    if len(parts) > 1 and not _says_enough(parts[0]):
        parts[:2] = [f"{parts[0]} {parts[1]}"]
    return parts if len(parts) > 1 else []


def _says_enough(part: str) -> bool:
    return len(part.split()) >= LEAST_WORDS or len(_EAST_ASIAN.findall(part)) > LEAST_WORDS
