"""A limit: how much, for what, and from when to when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo
from decimal import Decimal
from hashlib import sha256
from typing import Any

from langchain_tokopt.budget.accounts import Account, Balance, Cap
from langchain_tokopt.budget.amounts import read_tokens, read_usd
from langchain_tokopt.budget.periods import Per, Period, period_at, read_per, read_timezone
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import Who
from langchain_tokopt.pricing import from_nano


@dataclass(frozen=True, slots=True)
class Limit:
    """How much may be spent under one name.

    Attributes:
        name: Limits of one name and kind of period count on the same accounts.
        nano: The limit in nano-USD, `None` for none.
        tokens: The limit in tokens, `None` for none.
        per: What it is for.
        zone: Whose calendar counts.
    """

    name: str
    nano: int | None
    tokens: int | None
    per: Per
    zone: tzinfo

    @classmethod
    def read(cls, *, name: object, usd: object, tokens: object, per: object, timezone: object) -> Limit:
        """The limit that the user asked for.

        Raises:
            ConfigurationError: A setting cannot work.
        """
        if usd is None and tokens is None:
            raise ConfigurationError("usd", None, 'give a limit: usd="5.00", tokens=100_000, or both')
        if not isinstance(name, str) or not 1 <= len(name) <= 128 or ":" in name:
            raise ConfigurationError("name", name, 'use 1 to 128 characters without ":"')
        return cls(name, read_usd(usd), read_tokens("tokens", tokens), read_per(per), read_timezone(timezone))

    @property
    def scoped(self) -> bool:
        """Whether every run or thread has the limit for itself."""
        return self.per in ("run", "thread")

    def period(self, now: float) -> Period:
        return period_at(self.per, now, self.zone)

    def key(self, scope: str = "") -> str:
        """The key of the limit's accounts; for one per run or thread, that of the `scope`."""
        if not self.scoped:
            return f"{self.name}:{self.per}"
        return f"{self.name}:{self.per}:{scope if len(scope) <= 256 else sha256(scope.encode()).hexdigest()}"

    def scope(self, who: Who) -> str | None:
        return {"run": who.run, "thread": who.thread}.get(self.per)

    def cap(self, account: Account, *, priced: bool) -> Cap:
        """The cap on an account. A call without a known price is under the limit in tokens only."""
        return Cap(account, self.nano if priced else None, self.tokens)

    def figures(self, balance: Balance) -> dict[str, dict[str, Any]]:
        """Limit, spent, held and left: USD as `Decimal`, tokens as `int`, `None` without a limit."""
        taken = balance.taken
        usd: dict[str, Decimal | None] = {
            "limit": None if self.nano is None else from_nano(self.nano),
            "spent": balance.spent.usd,
            "held": balance.held.usd,
            "left": None if self.nano is None else from_nano(max(0, self.nano - taken.nano)),
        }
        tokens: dict[str, int | None] = {
            "limit": self.tokens,
            "spent": balance.spent.tokens,
            "held": balance.held.tokens,
            "left": None if self.tokens is None else max(0, self.tokens - taken.tokens),
        }
        return {"usd": usd, "tokens": tokens}
