"""What others have written, as a terminal may show it; sizes and ages as people read them."""

from __future__ import annotations

import io
import os
import re
import sys
import unicodedata
from typing import TYPE_CHECKING

from langchain_tokopt.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH = 160
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")
_KEPT = "\n\t"


def safe(text: str, *, lines: bool = False) -> str:
    """The text without anything that a terminal obeys, hides or turns round: such characters are spelled out.

    `lines` keeps line breaks and tabs; without it they become spaces, so that the text is one line.
    """
    if not lines:
        text = " ".join(text.split())
    return "".join(sign if _is_plain(sign) else _spelled(sign) for sign in text.replace("\r\n", "\n"))


def _is_plain(sign: str) -> bool:
    # Control, format (direction, zero width), surrogate, private, and line separators.
    return sign in _KEPT or unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def _spelled(sign: str) -> str:
    code = ord(sign)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shortened(text: str, limit: int) -> str:
    """The text on one line, at most `limit` characters long."""
    line = safe(text[: 4 * limit])
    return line if len(line) <= limit else f"{line[: limit - 1]}\u2026"


def console() -> Console:
    """A console that is wide enough in a pipe, where nobody can widen it, and says everything in any encoding."""
    from rich.console import Console

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    wide = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=_PIPE_WIDTH if wide else None, highlight=False)


def size(count: int) -> str:
    """Bytes in a unit that suits them."""
    if count < 1000:
        return f"{count} B"
    value = count / 1000
    for unit in ("kB", "MB"):
        if value < 1000:
            return f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def age(seconds: float) -> str:
    """A time span in whole units, rounded down: "3 d", "5 h", "12 min", "40 s"."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"


def seconds(option: str, text: str) -> float:
    """Seconds for "90", "90s", "15m", "12h", "30d" or "2w".

    Raises:
        ConfigurationError: It is none of these.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    if match is None:
        raise ConfigurationError(option, text, 'use a time such as "90s", "15m", "12h", "30d" or "2w"')
    return float(match.group(1)) * _UNITS[match.group(2) or "s"]
