"""Figures and names as all views of a report show them, so that they agree to the digit."""

from __future__ import annotations

import unicodedata
from datetime import datetime, timezone
from decimal import Decimal
from typing import Final

_LONGEST_NAME: Final = 60
_LONGEST_TEXT: Final = 300


def number(value: int | None) -> str:
    """A count with separators; "unknown" for `None`."""
    return "unknown" if value is None else f"{value:,}"


def times(count: int, what: str = "time") -> str:
    """A count of things, in the singular or the plural."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def money(usd: Decimal | None) -> str:
    """USD: cents from a dollar on, below it up to three significant digits; "unknown" for `None`."""
    if usd is None:
        return "unknown"
    sign, size = ("-" if usd < 0 else ""), abs(usd)
    if size >= 1 or size == 0:
        return f"{sign}${size:,.2f}"
    whole, _, part = f"{size:.{2 - size.adjusted()}f}".partition(".")
    return f"{sign}${whole}.{part.rstrip('0'):0<2}"


def between(low: Decimal, high: Decimal) -> str:
    """From USD to USD; one figure where both look the same."""
    ends = [money(low), money(high)]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def amount(value: Decimal | int | None, unit: str) -> str:
    """USD, tokens or calls; "unknown" for `None`."""
    if value is None:
        return "unknown"
    return money(Decimal(value)) if unit == "usd" else times(int(value), unit.removesuffix("s"))


def percent(share: float | Decimal) -> str:
    """A share in percent: in whole ones, with a decimal where it is small or nearly all, so that the rest adds up."""
    value = float(share) * 100
    near_an_end = 0 < abs(value) < 9.95 or 90.05 < value < 100
    return f"{value:.1f}%" if near_an_end else f"{value:.0f}%"


def duration(seconds: float) -> str:
    """Seconds in a unit that suits them."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def length(seconds: float) -> str:
    """A length of time in the largest unit that it is a whole number of, such as "24 hours" or "7 days"."""
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= (2 * size if unit == "day" else size) and seconds % size == 0:
            return times(int(seconds // size), unit)
    return f"{seconds:g} seconds"


def moment(at: float) -> str:
    """A moment in UTC, to the minute."""
    return _utc(at, "%Y-%m-%d %H:%M UTC")


def second(at: float) -> str:
    """A moment in UTC, to the second, without the name of the zone."""
    return _utc(at, "%Y-%m-%d %H:%M:%S")


def _utc(at: float, pattern: str) -> str:
    try:
        return datetime.fromtimestamp(at, timezone.utc).strftime(pattern)
    except (ValueError, OverflowError, OSError):
        return f"{at:.0f} s after 1970"


# --- what comes from outside -----------------------------------------------------------------------------------------


def name(text: str | None, otherwise: str = "unknown") -> str:
    """A name that somebody else gave: on one line, not endless, without anything that a terminal or a page obeys."""
    return otherwise if text is None or not text.strip() else _cut(plain(text[: 4 * _LONGEST_NAME]), _LONGEST_NAME)


def said(text: str) -> str:
    """What somebody else said, such as an error: as a name, but longer."""
    return _cut(plain(text[: 4 * _LONGEST_TEXT]), _LONGEST_TEXT)


def plain(text: str) -> str:
    """The text on one line, with whatever controls, hides or turns round what is shown spelled out.

    XML, for one, has no place for control characters, escaped or not.
    """
    return "".join(sign if _shows(sign) else _spelled(ord(sign)) for sign in " ".join(text.split()))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _shows(sign: str) -> bool:
    # Control, format (direction, zero width), surrogate, private, unassigned (no XML holds U+FFFF), line separators.
    return unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _spelled(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
