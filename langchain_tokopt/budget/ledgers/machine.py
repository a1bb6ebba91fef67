"""The rules of a ledger, without any store: what a command does to balances, reservations and the journal.

A store loads what a batch of commands is about into a `Machine`, lets every command `decide` in turn, and keeps what
came of it in the transaction that it was loaded in. A machine that goes on for ever is a ledger in memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeVar

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.words import (
    NOTHING,
    Account,
    Action,
    Balance,
    Cap,
    Entry,
    Expired,
    Granted,
    Refusal,
    Settlement,
    Short,
)

R_co = TypeVar("R_co", covariant=True)

State = Literal["held", "settled", "released", "expired"]

LEASE_RAN_OUT = "the lease ran out"
_EMPTY = Balance()


@dataclass(frozen=True, slots=True)
class Kept:
    """A reservation as it is kept. Where it was made never changes; its state and its lease do."""

    path: str
    accounts: tuple[Account, ...]
    amount: Amount
    state: State
    expires_at: float


class Machine:
    """Balances and reservations that commands change one after the other, and what has to be kept because of it.

    Attributes:
        balances: Of every account that the commands are about; one that is missing was never used.
        reservations: By id, every one that the commands are about and that is known.
        opened: The ids of the reservations that were not known before.
        changed: The ids of those that were, and are something else now.
        lines: What goes into the journal, in order; the ids are still to be given.
    """

    def __init__(self) -> None:
        self.balances: dict[Account, Balance] = {}
        self.reservations: dict[str, Kept] = {}
        self._before: dict[Account, tuple[Balance, float]] = {}
        self.opened: set[str] = set()
        self.changed: set[str] = set()
        self.lines: list[Entry] = []

    def needs(self, commands: Iterable[Command[object]]) -> set[Account]:
        """The accounts whose balances decide about the commands, once the reservations are loaded."""
        return {
            account
            for command in commands
            for account in command.accounts_beside(self.reservations.get(command.reservation))
        }

    def of(self, accounts: Iterable[Account]) -> dict[Account, Balance]:
        """The balances of the accounts as they are now."""
        return {account: self.balances.get(account, _EMPTY) for account in accounts}

    def added(self) -> Iterator[tuple[Account, Balance, float]]:
        """The accounts that something was booked on: what was added to them in all, and when the first of it was."""
        for account, (before, at) in self._before.items():
            now = self.balances[account]
            yield account, Balance(now.spent.less(before.spent), now.held.less(before.held)), at

    def routes(self) -> set[tuple[str, tuple[Account, ...]]]:
        """The path and the accounts of each new reservation."""
        return {((kept := self.reservations[name]).path, kept.accounts) for name in self.opened}

    def keep(self, reservation: str, kept: Kept) -> None:
        if reservation not in self.reservations:
            self.opened.add(reservation)
        elif reservation not in self.opened:
            self.changed.add(reservation)
        self.reservations[reservation] = kept

    def book(
        self,
        reservation: str,
        action: Action,
        *,
        now: float,
        spent: Amount = NOTHING,
        held: Amount = NOTHING,
        reason: str | None = None,
    ) -> None:
        """Add to what the accounts of a reservation have spent and hold, and write that down."""
        kept = self.reservations[reservation]
        for account in kept.accounts:
            before = self.balances.get(account, _EMPTY)
            self._before.setdefault(account, (before, now))
            self.balances[account] = Balance(before.spent + spent, before.held + held)
        self.lines.append(Entry("", now, action, kept.path, reservation, kept.accounts, spent, held, reason))


class Command(Protocol[R_co]):
    """One thing that is asked of a ledger; `Ledger` says what each does."""

    @property
    def reservation(self) -> str:
        """The id of the one reservation that it is about."""
        ...

    def accounts_beside(self, kept: Kept | None) -> Collection[Account]:
        """The accounts that it may change, for a reservation that is kept like this before the batch."""
        ...

    def decide(self, machine: Machine) -> R_co:
        """The answer, after the machine was changed accordingly."""
        ...


@dataclass(frozen=True, slots=True)
class Reserve:
    reservation: str
    caps: tuple[Cap, ...]
    amount: Amount
    path: str
    now: float
    expires_at: float

    def accounts_beside(self, kept: Kept | None) -> Collection[Account]:
        return [cap.account for cap in self.caps] if kept is None else kept.accounts

    def decide(self, machine: Machine) -> Granted | Refusal:
        kept = machine.reservations.get(self.reservation)
        if kept is None:
            balances = machine.balances
            short = tuple(
                Short(cap, balance)
                for cap in self.caps
                if not _fits(cap, (balance := balances.get(cap.account, _EMPTY)), self.amount)
            )
            if short:
                return Refusal(short)
            accounts = tuple(cap.account for cap in self.caps)
            kept = Kept(self.path, accounts, self.amount, "held", self.expires_at)
            machine.keep(self.reservation, kept)
            machine.book(self.reservation, "reserved", now=self.now, held=self.amount)
        return Granted(machine.of(kept.accounts))


@dataclass(frozen=True, slots=True)
class Settle:
    reservation: str
    actual: Amount
    accounts: tuple[Account, ...]
    path: str
    now: float
    reason: str | None = None

    def accounts_beside(self, kept: Kept | None) -> Collection[Account]:
        return self.accounts if kept is None else kept.accounts

    def decide(self, machine: Machine) -> Settlement:
        kept = machine.reservations.get(self.reservation)
        if kept is None:
            # Nothing was ever held for it: it is kept so that it is not booked a second time.
            kept = Kept(self.path, tuple(dict.fromkeys(self.accounts)), NOTHING, "released", self.now)
        if kept.state == "settled":
            return Settlement("again")
        machine.keep(self.reservation, replace(kept, state="settled"))
        held = kept.state == "held"
        over = self.actual.beyond(kept.amount) if held else self.actual
        if held:
            within, freed = self.actual.less(over), NOTHING.less(kept.amount)
            machine.book(self.reservation, "settled", now=self.now, spent=within, held=freed, reason=self.reason)
        if over or not held:
            machine.book(self.reservation, "overage", now=self.now, spent=over, reason=self.reason)
        return Settlement("settled" if held else "late", over, machine.of(kept.accounts))


@dataclass(frozen=True, slots=True)
class Release:
    reservation: str
    now: float
    reason: str | None = None

    def accounts_beside(self, kept: Kept | None) -> Collection[Account]:
        return () if kept is None else kept.accounts

    def decide(self, machine: Machine) -> Amount | None:
        kept = machine.reservations.get(self.reservation)
        if kept is None or kept.state != "held":
            return None
        machine.keep(self.reservation, replace(kept, state="released"))
        machine.book(self.reservation, "released", now=self.now, held=NOTHING.less(kept.amount), reason=self.reason)
        return kept.amount


@dataclass(frozen=True, slots=True)
class Renew:
    """Keep what is held until `expires_at`; whether it still was."""

    reservation: str
    expires_at: float

    def accounts_beside(self, kept: Kept | None) -> Collection[Account]:
        return ()

    def decide(self, machine: Machine) -> bool:
        kept = machine.reservations.get(self.reservation)
        if kept is None or kept.state != "held":
            return False
        machine.keep(self.reservation, replace(kept, expires_at=self.expires_at))
        return True


@dataclass(frozen=True, slots=True)
class Expire:
    """Free what is held when its lease ran out by `now`; `None` when that is not so (any more)."""

    reservation: str
    now: float

    def accounts_beside(self, kept: Kept | None) -> Collection[Account]:
        return () if kept is None else kept.accounts

    def decide(self, machine: Machine) -> Expired | None:
        kept = machine.reservations.get(self.reservation)
        if kept is None or kept.state != "held" or kept.expires_at > self.now:
            return None
        machine.keep(self.reservation, replace(kept, state="expired"))
        freed = NOTHING.less(kept.amount)
        machine.book(self.reservation, "expired", now=self.now, held=freed, reason=LEASE_RAN_OUT)
        return Expired(self.reservation, kept.path, kept.amount)


def _fits(cap: Cap, balance: Balance, amount: Amount) -> bool:
    spent, held = balance.spent, balance.held
    return (
        (cap.nano is None or not amount.nano or spent.nano + held.nano + amount.nano <= cap.nano)
        and (cap.tokens is None or not amount.tokens or spent.tokens + held.tokens + amount.tokens <= cap.tokens)
        and (cap.calls is None or not amount.calls or spent.calls + held.calls + amount.calls <= cap.calls)
    )
