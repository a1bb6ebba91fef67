"""One recommendation: what to change, what that would save, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

from langchain_tokopt.pricing import from_nano

# Nothing is concluded from fewer calls, decisions or requests.
FEWEST_EVENTS: Final = 30
# A saving per day is not worked out from less time.
SHORTEST_SECONDS: Final = 3600.0

Confidence = Literal["high", "medium", "low"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """One change, and what it would have saved on what is on record.

    Each stands for itself: two of them may save the same tokens, so their savings do not add up.

    Attributes:
        id: Which rule it comes from and what it is about, such as "turn-on:tools"; the same from report to report.
        title: What to do, in a sentence without figures of money.
        change: The setting, as code.
        saves_usd: In the span of the report; `None` where the change is not about money, or its price is unknown.
        low_usd: With what is known, the saving is from here
        high_usd: to here.
        per_day_usd: The same per day; `None` where the events cover less than an hour.
        per_day_low_usd: The lower end of that.
        per_day_high_usd: The upper end of that.
        source: Whether the saving follows from what providers measured, or from estimates of ours.
        events: How many events it is based on.
        basis: Where the figures are from, in words.
        confidence: How far to trust it.
        why: What the confidence rests on, in words.
        caveat: What may be wrong with it.
    """

    id: str
    title: str
    change: str
    saves_usd: Decimal | None = None
    low_usd: Decimal | None = None
    high_usd: Decimal | None = None
    per_day_usd: Decimal | None = None
    per_day_low_usd: Decimal | None = None
    per_day_high_usd: Decimal | None = None
    source: Literal["measured", "estimated"] = "estimated"
    events: int
    basis: str
    confidence: Confidence
    why: str
    caveat: str


def over_time(seconds: float, *, saves: int, low: int, high: int, **words: Any) -> Recommendation:
    """A recommendation from nano-USD that would have been saved in so many seconds; per day only if that is enough."""

    def per_day(nano: int) -> Decimal | None:
        return from_nano(round(nano * 86_400 / seconds)) if seconds >= SHORTEST_SECONDS else None

    return Recommendation(
        saves_usd=from_nano(saves),
        low_usd=from_nano(low),
        high_usd=from_nano(high),
        per_day_usd=per_day(saves),
        per_day_low_usd=per_day(low),
        per_day_high_usd=per_day(high),
        **words,
    )
