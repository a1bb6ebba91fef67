"""A tool's output in pieces that are shown whole or not at all: its lines, and parts of lines that are very long."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

LONG_LINE: Final = 600
PART: Final = 240

# Where a long line may be cut: behind what ends a value or a clause.
_CUT: Final = re.compile(r"[,;}\]>.!?\s]")


@dataclass(frozen=True, slots=True)
class Piece:
    """A line, or a part of a long one. `ends_line`: a line break, or the end of the text, comes after it."""

    text: str
    ends_line: bool


def pieces(text: str) -> list[Piece]:
    """The text in pieces: their texts, with `\\n` after those that end a line, are the text again."""
    found: list[Piece] = []
    for line in text.split("\n"):
        if len(line) <= LONG_LINE:
            found.append(Piece(line, ends_line=True))
            continue
        parts = _parts(line)
        found += [Piece(part, ends_line=False) for part in parts[:-1]]
        found.append(Piece(parts[-1], ends_line=True))
    return found


def joined(kept: list[Piece]) -> str:
    """The text that the pieces make."""
    text = "".join(f"{piece.text}\n" if piece.ends_line else piece.text for piece in kept)
    return text[:-1] if kept and kept[-1].ends_line else text


def _parts(line: str) -> list[str]:
    parts, start = [], 0
    while len(line) - start > LONG_LINE:
        cut = _CUT.search(line, start + PART, start + 2 * PART)
        end = cut.end() if cut else start + 2 * PART
        parts.append(line[start:end])
        start = end
    return [*parts, line[start:]]
