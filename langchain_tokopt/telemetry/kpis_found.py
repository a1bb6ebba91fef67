"""What a measure finds in one window, with what is needed to compare it with another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeAlias

from langchain_tokopt.telemetry.kpis_chance import Ratio, rates_differ, ratio, ratios_differ, totals_differ, wilson

Number: TypeAlias = "Decimal | float"
Source: TypeAlias = Literal["measured", "estimated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A figure of one window.

    Attributes:
        value: `None` where it cannot be known.
        low: With `high`, its interval at 95 %; `None` where it has none.
        high: See `low`.
        count: How many observations it is from.
        source: Whether it was measured (reported by the provider, or counted) or has an estimate of ours in it.
        reason: Why the value is `None`.
        note: What is left out of the value.
        hits: Of a rate: how many of `count`.
        ratio: Of a ratio of sums: how it varies.
        slices: Of a total: gives its parts by the slices of the window. Only who compares it has them read.
        target: What the source of the figure itself is bound to, if it is.
    """

    value: Number | None = None
    low: float | None = None
    high: float | None = None
    count: int = 0
    source: Source = "measured"
    reason: str | None = None
    note: str | None = None
    hits: int | None = None
    ratio: Ratio | None = None
    slices: Callable[[], Mapping[int, float]] | None = None
    target: float | None = None

    def differs(self, before: Found) -> bool | None:
        """Whether this and the figure of the window before differ by more than chance; `None` where no one can say."""
        if self.value is None or before.value is None or self.source != before.source:
            return None
        if self.hits is not None and before.hits is not None:
            return rates_differ(self.hits, self.count, before.hits, before.count)
        if self.ratio is not None and before.ratio is not None:
            return ratios_differ(self.ratio, before.ratio)
        if self.slices is not None and before.slices is not None:
            return totals_differ(self.slices(), before.slices())
        return None


def unknown(reason: str, *, count: int = 0, source: Source = "measured") -> Found:
    """A figure that cannot be known, and why."""
    return Found(reason=reason, count=count, source=source)


def rate(hits: int, count: int, *, nothing: str, source: Source = "measured") -> Found:
    """`hits` out of `count` with Wilson's interval; unknown, because of `nothing`, when nothing was counted."""
    if not count:
        return unknown(nothing, source=source)
    low, high = wilson(hits, count)
    return Found(value=hits / count, low=low, high=high, count=count, hits=hits, source=source)


def share(
    value: Number,
    slices: Sequence[tuple[float, float]],
    *,
    count: int,
    source: Source,
    least: float | None = 0.0,
    most: float | None = None,
    note: str | None = None,
) -> Found:
    """A ratio of sums with the interval that its slices give, cut off at `least` and `most`."""
    varies = ratio(slices)
    interval = varies.interval if varies is not None else None
    low, high = interval if interval is not None else (None, None)
    if low is not None and least is not None:
        low = max(least, low)
    if high is not None and most is not None:
        high = min(most, high)
    return Found(value=value, low=low, high=high, count=count, source=source, ratio=varies, note=note)
