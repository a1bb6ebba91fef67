"""The words of the ledger: accounts, caps, balances, and what became of a reservation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from langchain_tokopt.budget.amounts import Amount

NOTHING = Amount()


@dataclass(frozen=True, slots=True, order=True)
class Account:
    """What is counted together. `period` is when the account's period starts, Unix time in seconds."""

    key: str
    period: int


@dataclass(frozen=True, slots=True)
class Cap:
    """The most that may be spent and held on an account: nano-USD and tokens, `None` for no limit."""

    account: Account
    nano: int | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account has spent, and what is held for calls under way."""

    spent: Amount = NOTHING
    held: Amount = NOTHING

    @property
    def taken(self) -> Amount:
        return self.spent + self.held


@dataclass(frozen=True, slots=True)
class Refusal:
    """The cap that a reservation did not fit under, and what was taken of it at that moment."""

    cap: Cap
    balance: Balance


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a settlement did.

    `outcome` is "settled", "late" (nothing was held any more: all of it was booked as overage) or "again" (it had been
    settled before, nothing was changed). `over` is what was booked beyond the reservation.
    """

    outcome: Literal["settled", "late", "again"]
    over: Amount = NOTHING


@dataclass(frozen=True, slots=True)
class Expired:
    """A reservation whose lease ran out, and what it held."""

    reservation: str
    accounts: tuple[Account, ...]
    amount: Amount


@dataclass(frozen=True, slots=True)
class Correction:
    """A counter that did not agree with the journal."""

    account: Account
    before: Balance
    after: Balance
