"""A ledger in memory, small enough to be read: what is spent and held, and what was told with it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.words import (
    Account,
    Balance,
    Cap,
    Granted,
    Refusal,
    Settlement,
    Short,
    StoredLimit,
)
from langchain_tokopt.errors import StoreError


@dataclass
class MemoryLedger:
    """`reasons` has what was said of settlements, releases and raised limits; `broken` makes every use fail."""

    kept: dict[Account, Balance] = field(default_factory=dict)
    held: dict[str, tuple[tuple[Account, ...], Amount]] = field(default_factory=dict)
    stored: dict[tuple[Any, ...], StoredLimit] = field(default_factory=dict)
    reasons: list[str | None] = field(default_factory=list)
    broken: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reserve(
        self, reservation: str, caps: Sequence[Cap], amount: Amount, *, path: str, now: float, expires_at: float
    ) -> Granted | Refusal:
        self._check()
        with self.lock:
            short = tuple(Short(cap, self._of(cap.account)) for cap in caps if not self._fits(cap, amount))
            if short:
                return Refusal(short)
            accounts = tuple(cap.account for cap in caps)
            self.held[reservation] = (accounts, amount)
            for account in accounts:
                self._add(account, held=amount)
            return Granted({account: self._of(account) for account in accounts})

    def settle(
        self,
        reservation: str,
        actual: Amount,
        *,
        accounts: Sequence[Account],
        path: str,
        now: float,
        reason: str | None = None,
    ) -> Settlement:
        self._check()
        with self.lock:
            found, amount = self.held.pop(reservation, (tuple(accounts), Amount()))
            for account in found:
                self._add(account, spent=actual, held=Amount().less(amount))
            self.reasons.append(reason)
            return Settlement("settled", actual.beyond(amount), {account: self._of(account) for account in found})

    def release(self, reservation: str, *, now: float, reason: str | None = None) -> Amount | None:
        self._check()
        with self.lock:
            if reservation not in self.held:
                return None
            accounts, amount = self.held.pop(reservation)
            for account in accounts:
                self._add(account, held=Amount().less(amount))
            self.reasons.append(reason)
            return amount

    def renew(self, reservations: Sequence[str], *, expires_at: float) -> int:
        return len(reservations)

    def sweep(self, *, now: float) -> list[Any]:
        self._check()
        return []

    def limits(self) -> list[StoredLimit]:
        self._check()
        return list(self.stored.values())

    def put_limits(
        self, limits: Sequence[StoredLimit], *, reasons: Mapping[str, str] | None = None, now: float
    ) -> None:
        self._check()
        for one in limits:
            self.stored[one.node, one.per, one.source, one.scope] = one
            if one.source == "granted":
                self.reasons.append((reasons or {}).get(one.node))

    def close(self) -> None:
        return None

    # --- for tests ---

    @property
    def spent(self) -> Amount:
        """By all calls together."""
        return self._root("spent")

    @property
    def granted(self) -> list[StoredLimit]:
        """By how much limits were raised."""
        return [one for one in self.stored.values() if one.source == "granted"]

    @property
    def in_use(self) -> Amount:
        """Held by all calls together."""
        return self._root("held")

    def _root(self, what: str) -> Amount:
        return next((getattr(self.kept[account], what) for account in self.kept if account.node == ""), Amount())

    def _check(self) -> None:
        if self.broken:
            raise StoreError("the ledger is gone")

    def _of(self, account: Account) -> Balance:
        return self.kept.get(account, Balance())

    def _add(self, account: Account, *, spent: Amount = Amount(), held: Amount = Amount()) -> None:  # noqa: B008
        before = self._of(account)
        self.kept[account] = Balance(before.spent + spent, before.held + held)

    def _fits(self, cap: Cap, amount: Amount) -> bool:
        taken = self._of(cap.account).taken
        return all(
            limit is None or not wanted or used + wanted <= limit
            for limit, used, wanted in (
                (cap.nano, taken.nano, amount.nano),
                (cap.tokens, taken.tokens, amount.tokens),
                (cap.calls, taken.calls, amount.calls),
            )
        )
