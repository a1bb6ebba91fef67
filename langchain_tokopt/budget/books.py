"""The ledger as a budget uses it: opened when needed, its leases kept, its failures borne, every step told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from langchain_tokopt.budget.alerts import alerts, say
from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.hold import Hold
from langchain_tokopt.budget.leases import Leases
from langchain_tokopt.budget.ledgers.opening import open_ledger
from langchain_tokopt.budget.limits import Limit
from langchain_tokopt.budget.nodes import shown
from langchain_tokopt.budget.outage import Outage, Owed
from langchain_tokopt.budget.rules import Rules
from langchain_tokopt.errors import StoreError
from langchain_tokopt.events import Reservation, Sink

if TYPE_CHECKING:
    from langchain_tokopt.budget.ledgers.contract import Ledger
    from langchain_tokopt.budget.ledgers.words import StoredLimit
    from langchain_tokopt.database import Database

Action = Literal["reserved", "settled", "released", "refused", "expired", "overage"]

# How old what is known of the limits in the ledger may get.
_LIMITS_SECONDS = 5.0
_SWEEP_SECONDS = 1.0


class Books:
    """One budget's way to the ledger.

    `settle` and `release` never raise for a ledger that cannot be used; what reads or reserves raises `StoreError`.

    Attributes:
        store: Where the ledger is; `None` for memory.
    """

    def __init__(
        self, name: str, *, rules: Rules, store: Any, lease_seconds: float, clock: Callable[[], float]
    ) -> None:
        self.store = store
        self.name = name
        self.clock = clock
        self.outage = Outage(name)
        self.leases = Leases(self._renew, every_seconds=lease_seconds / 3)
        self._rules = rules
        self._lease_seconds = lease_seconds
        self._own_database: Database | None = None
        self._ledger: Ledger | None = None
        self._opening = threading.Lock()
        self._attempts = 0
        self._failure: StoreError | None = None
        self._swept_at = float("-inf")
        self._read_at = float("-inf")
        self._published = self._looking = False

    def ledger(self) -> Ledger:
        """The ledger, with the limits that are kept in it laid over those of the code."""
        ledger = self._ledger or self._open()
        now = self.clock()
        if abs(now - self._read_at) >= _LIMITS_SECONDS:
            stored = ledger.limits()
            self._rules.lay_over(one for one in stored if one.source != "code")
            self._read_at = now
            if self._looking:
                self._rules.follow(one for one in stored if one.source == "code")
            elif not self._published:
                self._published = True
                self._publish(ledger, stored, now)
        return ledger

    def _publish(self, ledger: Ledger, stored: Sequence[StoredLimit], now: float) -> None:
        """Keep what the code says with the ledger, so that whoever looks on knows it."""
        said = self._rules.published(now)
        known = {(one.node, one.per): replace(one, at=now) for one in stored if one.source == "code"}
        fresh = [one for one in said if known.get((one.node, one.per)) != one]
        gone = known.keys() - {(one.node, one.per) for one in said}
        with suppress(StoreError):  # a ledger that can only be read can still be looked at
            if fresh:
                reasons = {one.node: f"{Limit.stored(one)}, as the code says" for one in fresh}
                ledger.put_limits(fresh, reasons=reasons, now=now)
            for node, per in sorted(gone):
                ledger.drop_limit(node, per, source="code", now=now, reason="no longer in the code")

    def _open(self) -> Ledger:
        """The ledger, opened by one thread: those that waited for it share what came of it, a failure too.

        If each opened it for itself, a server would have to take a connection from every thread at once; if each tried
        after the other, the last would wait for all of their attempts.
        """
        attempts = self._attempts
        with self._opening:
            if self._ledger is not None:
                return self._ledger
            if self._attempts != attempts and self._failure is not None:
                raise StoreError(*self._failure.args) from self._failure
            if self.store is None:
                from langchain_tokopt.database import Database

                self.store = self._own_database = Database()
            self._failure = None
            try:
                self._ledger, own = open_ledger(self.store, budget=self.name)
            except StoreError as error:
                self._failure = error
                raise
            finally:
                self._attempts += 1
            self._own_database = self._own_database or own
            return self._ledger

    def only_look(self) -> None:
        """From now on the limits of the code are those that others have published, and none is published."""
        self._looking = True

    def refresh(self) -> None:
        """The next use reads the limits that are kept in the ledger anew."""
        self._read_at = float("-inf")

    def settle(self, owed: Owed) -> None:
        """Book what a call took; what cannot be booked now is kept for later."""
        began = time.perf_counter()
        hold, actual, reason, sink = owed
        now = self.clock()
        try:
            done = self.ledger().settle(
                hold.id, actual, accounts=hold.terms.accounts, path=str(hold.path), now=now, reason=reason
            )
        except StoreError as error:
            self.outage.keep(owed)
            self.outage.failed(error, sink, "response")
            return
        self.leases.discard(hold.id)
        self.outage.over()
        if done.outcome == "settled":
            self.tell(sink, "settled", hold, actual.less(done.over), reason=reason, began=began)
        if done.over:
            late = "late: nothing was held for it" if done.outcome == "late" else "more than was reserved"
            self.tell(sink, "overage", hold, done.over, reason=f"{late}; {reason}" if reason else late, began=began)
        for alert in alerts(self.name, hold, actual, done, at=now):
            say(alert)
            sink.emit(alert)

    def settle_owed(self) -> None:
        """Book what could not be booked before."""
        for owed in self.outage.take():
            self.settle(owed)

    def release(self, hold: Hold, *, reason: str | None, sink: Sink) -> None:
        """Free what a call held."""
        began = time.perf_counter()
        self.leases.discard(hold.id)
        try:
            freed = self.ledger().release(hold.id, now=self.clock(), reason=reason)
        except StoreError as error:
            self.outage.failed(error, sink, "response")  # the lease runs out by itself
            return
        self.outage.over()
        if freed is not None:
            self.tell(sink, "released", hold, freed, reason=reason, began=began)

    def sweep(self, sink: Sink, *, only_when_due: bool = False) -> int:
        """How many reservations of dead processes were freed; nobody looks more than once a second."""
        began, now = time.perf_counter(), self.clock()
        if 0 <= now - self._swept_at < (self._lease_seconds if only_when_due else _SWEEP_SECONDS):
            return 0
        # A clock that was put forward must not make the calls of this process look dead.
        self.leases.renew()
        expired = self.ledger().sweep(now=now)
        self._swept_at = now
        for one in expired:
            event = Reservation(
                at=now,
                action="expired",
                reservation=one.reservation,
                budget=self.name,
                path=shown(one.path),
                tokens=one.amount.tokens,
                usd=one.amount.usd if one.amount.nano else None,
                reason="the lease ran out",
                seconds=time.perf_counter() - began,
            )
            sink.emit(event)
        return len(expired)

    def tell(self, sink: Sink, action: Action, hold: Hold, amount: Amount, *, reason: str | None, began: float) -> None:
        """Emit one step of a reservation's life. `began`: of `time.perf_counter()`."""
        event = Reservation(
            at=self.clock(),
            who=hold.who,
            action=action,
            reservation=hold.id,
            budget=self.name,
            path=shown(str(hold.path)),
            tokens=amount.tokens,
            usd=None if hold.rates is None and not amount.nano else amount.usd,
            reason=reason,
            seconds=time.perf_counter() - began,
        )
        sink.emit(event)

    def close(self) -> None:
        """Book what is owed and stop renewing leases. A database that was handed in stays open."""
        self.settle_owed()
        self.leases.close()
        if self._ledger is not None:
            self._ledger.close()
        if self._own_database is not None:
            self._own_database.close()

    def _renew(self, reservations: Sequence[str]) -> None:
        self.ledger().renew(reservations, expires_at=self.clock() + self._lease_seconds)
        self.settle_owed()
