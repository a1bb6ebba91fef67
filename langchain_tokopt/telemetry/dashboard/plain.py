"""Figures as values that JSON can hold: money as exact decimal text, unknown as null, long text cut and marked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

LONGEST: Final = 2000  # characters of one text; what a page shows of more is of no use to anybody


def plain(value: Any) -> Any:
    """The value made of nothing but dicts, lists, text, numbers, booleans and `None`.

    Decimals are written out without an exponent, numbers that are none (NaN, infinite) are unknown.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return short(value)
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.timestamp()
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value) if not each.name.startswith("_")}
    if isinstance(value, Mapping):
        return {short(str(name)): plain(each) for name, each in value.items()}
    if isinstance(value, (Sequence, AbstractSet)) and not isinstance(value, (bytes, bytearray)):
        return [plain(each) for each in value]
    return short(str(value))


def short(text: str) -> str:
    """The text, of a very long one its beginning with a remark; half a surrogate pair becomes a question mark."""
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}\u2026 [{len(text) - LONGEST:,} characters more]"
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def known(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same without what is unknown."""
    return {name: value for name, value in values.items() if value is not None}
