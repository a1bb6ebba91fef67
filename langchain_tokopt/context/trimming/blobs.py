"""Data in an output that is no text, such as base64: no model reads it, and nothing has more tokens."""

from __future__ import annotations

import re
from typing import Final

SHORTEST: Final = 512

# One look at each run of such characters: where it does not begin, it is not looked at again.
_RUN: Final = re.compile(rf"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{{{SHORTEST},}}={{0,2}}")
_HEX: Final = re.compile(r"[0-9a-f]+|[0-9A-F]+")
# Of so many first characters the kind is seen.
_LOOKED_AT: Final = 2_000


def has_blob(text: str) -> bool:
    """Whether there is data in the text."""
    return len(text) >= SHORTEST and any(_kind(match.group()) for match in _RUN.finditer(text))


def without_blobs(text: str) -> str:
    """The text with its data replaced by what and how much it is: `[base64, 12,345 characters]`."""
    return _RUN.sub(_named, text) if len(text) >= SHORTEST else text


def _named(match: re.Match[str]) -> str:
    kind = _kind(match.group())
    return f"[{kind}, {len(match.group()):,} characters]" if kind else match.group()


def _kind(run: str) -> str | None:
    """What a run of characters is; `None` for a path, a name or a number that is only long."""
    beginning = run[:_LOOKED_AT]
    digits = sum(character.isdigit() for character in beginning) / len(beginning)
    if _HEX.fullmatch(beginning):
        return "hexadecimal" if 0.3 <= digits <= 0.95 else None
    upper = sum(character.isupper() for character in beginning) / len(beginning)
    lower = sum(character.islower() for character in beginning) / len(beginning)
    # Of 64 characters 26 are upper case, 26 lower case, and 10 digits.
    return "base64" if upper >= 0.15 and lower >= 0.15 and 0.03 <= digits <= 0.5 else None
