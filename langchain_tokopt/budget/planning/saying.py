"""Amounts, shares and moments in words, for people who read what was planned and why."""

from __future__ import annotations

from datetime import datetime, timezone, tzinfo
from decimal import ROUND_HALF_EVEN, Decimal

from langchain_tokopt.budget.amounts import Unit
from langchain_tokopt.pricing import from_nano

_CENT = Decimal("0.01")


def amount(whole: int, unit: Unit) -> str:
    """The amount with its unit: "$1.20", "1,200 tokens", "1 call". `whole` is in nano-USD, tokens or calls.

    Less than ten cents has two significant digits, so that "$0.0042" does not become "$0.00".
    """
    if unit != "usd":
        return f"{whole:,} {unit if abs(whole) != 1 else unit[:-1]}"
    usd = abs(from_nano(whole))
    sign = "-" if whole < 0 else ""
    if 0 < usd < Decimal("0.1"):
        usd = round(usd, 1 - usd.adjusted()).normalize()
    exact = usd < Decimal("0.1") and usd != usd.quantize(_CENT)
    return f"{sign}${usd:f}" if exact else f"{sign}${usd.quantize(_CENT, ROUND_HALF_EVEN):,}"


def share(part: float) -> str:
    """A fraction as a percentage: "80 %"; under ten percent with a digit after the point if it has one."""
    percent = 100 * part
    return f"{percent:.0f} %" if abs(percent) >= 9.95 or percent == round(percent) else f"{percent:.1f} %"


def moment(at: float, zone: tzinfo = timezone.utc) -> str:
    """A time for people: "Mon 3 May 2027, 14:30", in that time zone."""
    local = datetime.fromtimestamp(at, zone)
    return f"{local:%a} {local.day} {local:%b %Y, %H:%M}"


def listing(names: list[str], most: int = 5) -> str:
    """The names, "a, b and c"; of a long list the first ones and how many more there are."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""
