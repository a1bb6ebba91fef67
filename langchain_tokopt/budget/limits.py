"""A limit: how much, from when to when, and whether it stops a call or only alerts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from decimal import Decimal
from typing import Any

from langchain_tokopt.budget.amounts import Unit, read_calls, read_tokens, read_usd
from langchain_tokopt.budget.ledgers.words import Balance, StoredLimit
from langchain_tokopt.budget.periods import Per, Period, period_at, read_per, read_timezone
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.pricing import from_nano

_MOST_ALERTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How much may be spent in a period, in USD, tokens, calls, or several of them at once.

    Attributes:
        usd: The limit in USD: `Decimal`, `str` or `int`. A float is read as it is written, and refused when it is
            finer than a nano-USD: amounts are kept and counted in whole nano-USD.
        tokens: The limit in tokens, input and output together.
        calls: The limit in model calls.
        per: What the limit is for: "forever", one "run" (invocation) of an agent, one "thread", or a calendar "hour",
            "day", "week" (from Monday) or "month".
        timezone: IANA name of the time zone whose calendar counts.
        hard: Whether a call that does not fit is stopped. A soft limit only alerts.
        alert_at: The shares of the limit at which spending raises an alert.

    Raises:
        ConfigurationError: A setting cannot work.
    """

    usd: Decimal | str | float | None = None
    tokens: int | None = None
    calls: int | None = None
    per: Per = "forever"
    timezone: str = "UTC"
    hard: bool = True
    alert_at: Sequence[float] = (0.8, 1.0)
    nano: int | None = field(init=False, repr=False, compare=False)
    zone: tzinfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.usd is None and self.tokens is None and self.calls is None:
            raise ConfigurationError("usd", None, 'give a limit: usd="5.00", tokens=100_000, calls=50, or several')
        if not isinstance(self.hard, bool):
            raise ConfigurationError("hard", self.hard, "use True to stop calls, False only to alert")
        nano = read_usd(self.usd)
        read_tokens("tokens", self.tokens)
        read_calls(self.calls)
        object.__setattr__(self, "nano", nano)
        object.__setattr__(self, "usd", None if nano is None else from_nano(nano))
        object.__setattr__(self, "per", read_per(self.per))
        object.__setattr__(self, "zone", read_timezone(self.timezone))
        object.__setattr__(self, "alert_at", _shares(self.alert_at))

    @classmethod
    def stored(cls, stored: StoredLimit) -> Limit:
        """The limit that is kept with the ledger. It may be 0, where an allocation has left nothing."""
        limit = cls(usd=1, per=stored.per, timezone=stored.timezone, hard=stored.hard)
        _set(limit, stored.nano, stored.tokens, stored.calls)
        return limit

    def raised(self, nano: int | None, tokens: int | None, calls: int | None) -> Limit:
        """The limit with so much added in the units that it has."""
        limit = copy.copy(self)
        _set(
            limit,
            None if self.nano is None else self.nano + (nano or 0),
            None if self.tokens is None else self.tokens + (tokens or 0),
            None if self.calls is None else self.calls + (calls or 0),
        )
        return limit

    @property
    def scoped(self) -> bool:
        """Whether every run or thread has the limit for itself."""
        return self.per in ("run", "thread")

    def of(self, unit: Unit) -> int | None:
        """The limit in that unit: nano-USD, tokens or calls."""
        return {"usd": self.nano, "tokens": self.tokens, "calls": self.calls}[unit]

    @property
    def units(self) -> tuple[Unit, ...]:
        """The units that it limits."""
        every: tuple[Unit, ...] = ("usd", "tokens", "calls")
        return tuple(unit for unit in every if self.of(unit) is not None)

    @property
    def tightness(self) -> tuple[float, float, float]:
        """What sorts limits of one kind of period, the tightest first."""
        inf = float("inf")
        return (
            inf if self.nano is None else self.nano,
            inf if self.tokens is None else self.tokens,
            inf if self.calls is None else self.calls,
        )

    def period(self, now: float) -> Period:
        """The period that `now` (Unix time) falls into."""
        return period_at(self.per, now, self.zone)

    @property
    def amounts(self) -> str:
        """How much it is, in words."""
        parts = [
            *([f"${self.usd:f}"] if self.usd is not None else []),
            *([f"{self.tokens:,} token{'' if self.tokens == 1 else 's'}"] if self.tokens is not None else []),
            *([f"{self.calls:,} call{'' if self.calls == 1 else 's'}"] if self.calls is not None else []),
        ]
        return " and ".join(parts)

    def __str__(self) -> str:
        return f"{self.amounts} {'in all' if self.per == 'forever' else f'per {self.per}'}"


def _set(limit: Limit, nano: int | None, tokens: int | None, calls: int | None) -> None:
    object.__setattr__(limit, "nano", nano)
    object.__setattr__(limit, "usd", None if nano is None else from_nano(nano))
    object.__setattr__(limit, "tokens", tokens)
    object.__setattr__(limit, "calls", calls)


def figures(balance: Balance, limit: Limit | None = None) -> dict[str, dict[str, Any]]:
    """Limit, spent, held and left by unit: USD as `Decimal`, tokens and calls as `int`; `None` without a limit."""
    taken = balance.taken
    nano, tokens, calls = (limit.nano, limit.tokens, limit.calls) if limit is not None else (None, None, None)
    return {
        "usd": {
            "limit": None if nano is None else from_nano(nano),
            "spent": balance.spent.usd,
            "held": balance.held.usd,
            "left": None if nano is None else from_nano(max(0, nano - taken.nano)),
        },
        "tokens": {
            "limit": tokens,
            "spent": balance.spent.tokens,
            "held": balance.held.tokens,
            "left": None if tokens is None else max(0, tokens - taken.tokens),
        },
        "calls": {
            "limit": calls,
            "spent": balance.spent.calls,
            "held": balance.held.calls,
            "left": None if calls is None else max(0, calls - taken.calls),
        },
    }


def _shares(given: object) -> tuple[float, ...]:
    remedy = "give shares of the limit, such as (0.5, 0.8, 1.0), or () for no alerts"
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence) or len(given) > _MOST_ALERTS:
        raise ConfigurationError("alert_at", given, remedy)
    for share in given:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 100:
            raise ConfigurationError("alert_at", given, remedy)
    return tuple(sorted({float(share) for share in given}))
