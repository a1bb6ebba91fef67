"""The words of a ledger: accounts, caps, balances, and what became of a reservation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.periods import Per

NOTHING = Amount()

Action = Literal["reserved", "settled", "overage", "released", "expired", "set", "dropped", "moved"]
Source = Literal["code", "set", "allocated", "granted"]


@dataclass(frozen=True, slots=True, order=True)
class Account:
    """What is counted together: one node of the hierarchy in one period.

    Attributes:
        node: The node, such as "project=shop/agent=writer"; "" is the root.
        per: The kind of period.
        period: When the period starts, Unix time in seconds; 0 where it never ends.
        scope: The run or the thread, for what is counted per run or per thread; "" otherwise.
    """

    node: str
    per: Per
    period: int = 0
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Cap:
    """The most that may be spent and held on an account, unit by unit; `None` for no limit.

    A cap without any limit has its account counted, and never refuses.
    """

    account: Account
    nano: int | None = None
    tokens: int | None = None
    calls: int | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account has spent, and what is held for calls under way."""

    spent: Amount = NOTHING
    held: Amount = NOTHING

    @property
    def taken(self) -> Amount:
        return self.spent + self.held


@dataclass(frozen=True, slots=True)
class Granted:
    """A reservation that is held now. `balances` are those of its accounts right after it."""

    balances: Mapping[Account, Balance]


@dataclass(frozen=True, slots=True)
class Short:
    """A cap that an amount does not fit under, and what was taken of it at that moment."""

    cap: Cap
    balance: Balance


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reservation that was not made. `short` has every cap that it does not fit under, in the order given."""

    short: tuple[Short, ...]


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a settlement did.

    Attributes:
        outcome: "settled", "late" (nothing was held any more: all of it was booked as overage) or "again" (it had
            been settled before, nothing was changed).
        over: What was booked beyond the reservation, unit by unit.
        balances: Those of its accounts right after it; empty when nothing was changed.
    """

    outcome: Literal["settled", "late", "again"]
    over: Amount = NOTHING
    balances: Mapping[Account, Balance] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Expired:
    """A reservation whose lease ran out, and what it held."""

    reservation: str
    path: str
    amount: Amount


@dataclass(frozen=True, slots=True)
class Correction:
    """A counter that did not agree with the journal."""

    account: Account
    before: Balance
    after: Balance


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal: what was added to `spent` and `held` of each of its accounts.

    Attributes:
        id: Rises from entry to entry; what it is made of is the ledger's own business.
        at: Unix time in seconds.
        action: What happened.
        path: The path of the call ("" for the root alone); for what was set or moved, the node.
        reservation: The reservation's id; "" for what belongs to none.
        accounts: The accounts that were changed.
        spent: What was added to what they have spent.
        held: What was added to what they hold.
        reason: Why, in words.
    """

    id: str
    at: float
    action: Action
    path: str
    reservation: str = ""
    accounts: tuple[Account, ...] = ()
    spent: Amount = NOTHING
    held: Amount = NOTHING
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """What one path has spent between `start` (Unix time in seconds) and the start of the next bucket."""

    start: int
    path: str
    spent: Amount


@dataclass(frozen=True, slots=True)
class StoredLimit:
    """A limit that is kept with the ledger; one for each node, per, source and scope.

    What the code says is kept for whoever looks on, and enforced by nobody who reads it here. What is set by an
    operator holds for all processes, instead of the limit in the code. What was allocated stands beside it: both hold.
    What was granted is added to it, until it ends.

    Attributes:
        node: A node, or a pattern of nodes such as "user=*".
        per: The kind of period.
        nano: The limit in nano-USD, `None` for none.
        tokens: The limit in tokens, `None` for none.
        calls: The limit in calls, `None` for none.
        timezone: IANA name of the time zone whose calendar counts.
        hard: Whether calls are refused; otherwise it only alerts.
        source: Who set it.
        scope: The one run or thread that it is for; "" for all.
        at: When, Unix time in seconds.
        until: When it ends by itself, Unix time in seconds; `None` for never.
    """

    node: str
    per: Per
    nano: int | None = None
    tokens: int | None = None
    calls: int | None = None
    timezone: str = "UTC"
    hard: bool = True
    source: Source = "set"
    scope: str = ""
    at: float = 0.0
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Valued:
    """What the answers on a path were worth, in the caller's own unit, as it was reported by feedback."""

    at: float
    path: str
    value: Decimal
