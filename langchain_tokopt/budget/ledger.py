"""The ledger: what is spent and held per account, changed in single transactions and written down in a journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_tokopt.budget.accounts import NOTHING, Account, Balance, Cap, Correction, Expired, Refusal, Settlement
from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.rows import (
    ADD,
    ANY,
    CLOSE,
    COUNTERS,
    EXPIRED,
    HOLD,
    INSERT_RESERVATION,
    JOURNAL_SUMS,
    LATEST,
    RENEW,
    REOPEN,
    RESERVATION,
    accounts_of,
    as_store_error,
    balance_of,
    entry,
    open_counter,
    read_balance,
    reservation_row,
    sql,
    write_entries,
)
from langchain_tokopt.budget.schema import COMPONENT, STEPS

# SQLAlchemy is imported where it is used: importing the package must stay quick.
if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

    from langchain_tokopt.database import Database


class Ledger:
    """Counters, reservations and the journal in a `Database`. Every change is one write transaction.

    A reservation holds its amount on every one of its accounts, or on none. Rows are locked in one order everywhere:
    a reservation, then its counters by key, so that no two transactions wait for each other.

    Raises:
        StoreError: The database cannot be used, at construction as in every method.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        with as_store_error():
            database.migrate(COMPONENT, STEPS)
        self._lock = " FOR UPDATE" if database.dialect == "postgresql" else ""

    # --- the life of a reservation -----------------------------------------------------------------------------------

    def reserve(
        self, reservation: str, caps: Sequence[Cap], amount: Amount, *, now: float, expires_at: float
    ) -> Refusal | None:
        """`None` when the amount is now held under every cap; the first cap that it does not fit under otherwise."""
        caps = sorted(caps, key=lambda cap: cap.account)
        accounts = [cap.account for cap in caps]
        try:
            with as_store_error(), self._database.write() as connection:
                for cap in caps:
                    if not self._hold(connection, cap, amount, now):
                        raise _DoesNotFit(cap, balance_of(connection, cap.account) or Balance())
                connection.execute(
                    sql(INSERT_RESERVATION),
                    reservation_row(reservation, accounts, amount, "held", expires_at=expires_at),
                )
                write_entries(
                    connection, [entry(now, account, reservation, "reserved", held=amount) for account in accounts]
                )
        except _DoesNotFit as refused:
            return Refusal(refused.cap, refused.balance)
        return None

    def settle(
        self, reservation: str, accounts: Sequence[Account], actual: Amount, *, now: float, reason: str | None = None
    ) -> Settlement:
        """Book what the call really took, whatever the limit. Settling twice changes nothing.

        When the lease ran out, or the reservation never reached this ledger, the whole amount is booked as overage on
        the accounts (those it was made on, else `accounts`): money that was spent is never lost.
        """
        with as_store_error(), self._database.write() as connection:
            held = connection.execute(sql(CLOSE), {"id": reservation, "state": "settled"}).fetchone()
            if held is None:
                return self._settle_late(connection, reservation, accounts, actual, now, reason)
            reserved = Amount(held.nano, held.tokens)
            over = actual.beyond(reserved)
            within, freed = actual.less(over), NOTHING.less(reserved)
            entries = []
            for account in accounts_of(held):
                self._add(connection, account, now, spent=actual, held=freed)
                entries.append(entry(now, account, reservation, "settled", spent=within, held=freed, reason=reason))
                if over:
                    entries.append(entry(now, account, reservation, "overage", spent=over, reason=reason))
            write_entries(connection, entries)
            return Settlement("settled", over)

    def _settle_late(
        self,
        connection: Connection,
        reservation: str,
        accounts: Sequence[Account],
        actual: Amount,
        now: float,
        reason: str | None,
    ) -> Settlement:
        known = connection.execute(sql(RESERVATION + self._lock), {"id": reservation}).fetchone()
        if known is None:
            row = reservation_row(reservation, accounts, NOTHING, "settled", expires_at=now)
            if connection.execute(sql(INSERT_RESERVATION + " ON CONFLICT DO NOTHING"), row).rowcount == 0:
                return Settlement("again")
        elif known.state == "settled":
            return Settlement("again")
        else:
            connection.execute(sql(REOPEN), {"id": reservation})
        entries = []
        for account in sorted(accounts if known is None else accounts_of(known)):
            self._add(connection, account, now, spent=actual)
            entries.append(entry(now, account, reservation, "overage", spent=actual, reason=reason))
        write_entries(connection, entries)
        return Settlement("late", actual)

    def release(self, reservation: str, *, now: float, reason: str | None = None) -> Amount | None:
        """What was held and is free again; `None` when nothing was held under that id any more."""
        with as_store_error(), self._database.write() as connection:
            held = connection.execute(sql(CLOSE), {"id": reservation, "state": "released"}).fetchone()
            if held is None:
                return None
            self._free(connection, [held], "released", now, reason)
            return Amount(held.nano, held.tokens)

    def renew(self, reservations: Sequence[str], *, expires_at: float) -> int:
        """How many of the reservations are still held; their leases now run until `expires_at`."""
        if not reservations:
            return 0
        with as_store_error(), self._database.write() as connection:
            renewed = 0
            for reservation in sorted(reservations):
                renewed += connection.execute(sql(RENEW), {"id": reservation, "expires_at": expires_at}).rowcount
            return renewed

    def sweep(self, *, now: float) -> list[Expired]:
        """The reservations whose lease ran out; what they held is free again."""
        with as_store_error(), self._database.read() as connection:
            if connection.execute(sql(EXPIRED), {"now": now}).fetchone() is None:
                return []
        # A reservation that somebody is settling just now is not dead: it is left alone.
        skip = " FOR UPDATE SKIP LOCKED" if self._lock else ""
        with as_store_error(), self._database.write() as connection:
            dead = connection.execute(sql(EXPIRED + " ORDER BY id" + skip), {"now": now}).fetchall()
            for row in dead:
                connection.execute(sql(CLOSE), {"id": row.id, "state": "expired"})
            self._free(connection, dead, "expired", now, "the lease ran out")
            return [Expired(row.id, tuple(accounts_of(row)), Amount(row.nano, row.tokens)) for row in dead]

    # --- reading and repairing ---------------------------------------------------------------------------------------

    def balance(self, account: Account) -> Balance:
        """What the account has spent and holds; nothing for one that was never used."""
        with as_store_error(), self._database.read() as connection:
            return balance_of(connection, account) or Balance()

    def latest(self, prefix: str, *, count: int) -> dict[str, Balance]:
        """The accounts whose keys begin with `prefix`, those opened last first."""
        with as_store_error(), self._database.read() as connection:
            rows = connection.execute(sql(LATEST), {"prefix": prefix, "length": len(prefix), "count": count})
            return {row.key: read_balance(row) for row in rows}

    def reconcile(self, *, now: float) -> list[Correction]:
        """Rebuild every counter from the journal; the counters that were wrong."""
        with as_store_error(), self._database.write() as connection:
            # The counters are locked before the journal is read: whoever changes one writes its entry under its lock.
            rows = connection.execute(sql(COUNTERS + " ORDER BY key, period" + self._lock)).fetchall()
            counted = {Account(row.key, row.period): read_balance(row) for row in rows}
            entries = connection.execute(sql(JOURNAL_SUMS)).fetchall()
            written = {Account(row.key, row.period): read_balance(row) for row in entries}
            wrong = []
            for account in sorted(counted.keys() | written.keys()):
                before, after = counted.get(account, Balance()), written.get(account, Balance())
                if before == after:
                    continue
                wrong.append(Correction(account, before, after))
                spent, held = after.spent.less(before.spent), after.held.less(before.held)
                self._add(connection, account, now, spent=spent, held=held)
            return wrong

    # --- counters ----------------------------------------------------------------------------------------------------

    def _hold(self, connection: Connection, cap: Cap, amount: Amount, now: float) -> bool:
        """One conditional update decides; a counter that is not there yet is opened first."""
        values = {
            "key": cap.account.key,
            "period": cap.account.period,
            "nano": amount.nano,
            "tokens": amount.tokens,
            "limit_nano": ANY if cap.nano is None else cap.nano,
            "limit_tokens": ANY if cap.tokens is None else cap.tokens,
        }
        if connection.execute(sql(HOLD), values).rowcount:
            return True
        if balance_of(connection, cap.account) is not None:
            return False
        open_counter(connection, cap.account, now)
        return bool(connection.execute(sql(HOLD), values).rowcount)

    def _add(
        self, connection: Connection, account: Account, now: float, *, spent: Amount = NOTHING, held: Amount = NOTHING
    ) -> None:
        values = {
            "key": account.key,
            "period": account.period,
            "spent_nano": spent.nano,
            "spent_tokens": spent.tokens,
            "held_nano": held.nano,
            "held_tokens": held.tokens,
        }
        if not connection.execute(sql(ADD), values).rowcount:
            open_counter(connection, account, now)
            connection.execute(sql(ADD), values)

    def _free(
        self, connection: Connection, held: Sequence[Row[Any]], action: str, now: float, reason: str | None
    ) -> None:
        freed = [(account, row.id, Amount(-row.nano, -row.tokens)) for row in held for account in accounts_of(row)]
        freed.sort(key=lambda one: one[0])
        for account, _, amount in freed:
            self._add(connection, account, now, held=amount)
        write_entries(
            connection, [entry(now, account, id_, action, held=a, reason=reason) for account, id_, a in freed]
        )


class _DoesNotFit(Exception):  # noqa: N818 - it never leaves this module; raising it rolls the transaction back
    def __init__(self, cap: Cap, balance: Balance) -> None:
        super().__init__(cap)
        self.cap = cap
        self.balance = balance
