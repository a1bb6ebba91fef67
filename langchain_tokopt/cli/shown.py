"""What others have written, as a terminal may show it; sizes and ages as people read them."""

from __future__ import annotations

import io
import math
import os
import re
import sys
import unicodedata
from datetime import datetime, timezone, tzinfo
from typing import TYPE_CHECKING

from langchain_tokopt.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH = 160
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")
_KEPT = "\n\t"
# The end of the year 9999 in every time zone: datetime knows no later time.
_LAST_MOMENT = 253_402_214_400.0


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


def moment(option: str, text: str, *, now: float, ahead: bool, zone: tzinfo = timezone.utc) -> float:
    """Unix time for a date, a time, or a time span from now: "2027-01-31", "2027-01-31T12:00", "3d".

    A span lies ahead of now, or behind it; it needs a unit, so that "20270131" is not one. A time without an offset, as
    a date, is one of that time zone.

    Raises:
        ConfigurationError: It is none of these, or lies beyond what a calendar has.
    """
    stripped = text.strip()
    if stripped[-1:].isalpha() and _DURATION.fullmatch(stripped.lower()) is not None:
        span = seconds(option, stripped)
        at = now + span if ahead else now - span
    else:
        iso = f"{stripped[:-1]}+00:00" if stripped[-1:] in ("Z", "z") else stripped
        try:
            read = datetime.fromisoformat("" if iso.isdecimal() else iso)  # newer Pythons read "20270131", older do not
            at = (read if read.tzinfo is not None else read.replace(tzinfo=zone)).timestamp()
        except (ValueError, OverflowError):
            at = math.inf
    if not 0 <= at < _LAST_MOMENT:
        remedy = 'use a date, a time or a time span, such as "2027-01-31", "2027-01-31T18:00+01:00" or "3d"'
        raise ConfigurationError(option, text, remedy)
    return at
