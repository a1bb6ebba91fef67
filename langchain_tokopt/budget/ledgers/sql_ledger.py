"""A ledger in a SQL database: a SQLite file that processes share, PostgreSQL, or memory."""

# ruff: noqa: S608 - the names in these statements are all our own

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.combining import Combiner
from langchain_tokopt.budget.ledgers.machine import Command, Expire, Release, Renew, Reserve, Settle
from langchain_tokopt.budget.ledgers.sql_postgres import PostgresTables, to_be_retried
from langchain_tokopt.budget.ledgers.sql_reading import SqlReading, as_store_error
from langchain_tokopt.budget.ledgers.sql_rows import AMOUNTS, chunks, limit_row, read_accounts, read_balance
from langchain_tokopt.budget.ledgers.sql_sqlite import SqliteTables
from langchain_tokopt.budget.ledgers.words import (
    Account,
    Balance,
    Cap,
    Correction,
    Entry,
    Expired,
    Granted,
    Refusal,
    Settlement,
    Source,
    StoredLimit,
    Valued,
)
from langchain_tokopt.budget.periods import Per
from langchain_tokopt.errors import StoreError

if TYPE_CHECKING:
    from langchain_tokopt.database import Database

R = TypeVar("R")

_ATTEMPTS = 3

_DEAD = (
    "SELECT id FROM tokopt_ledger_reservations WHERE budget = ? AND state = 'held' AND expires_at <= ? "
    "ORDER BY expires_at"
)
_SUMS = ", ".join(f"SUM({name}) AS {name}" for name in AMOUNTS.split(", "))
_COUNTED = f"SELECT node, per, period, scope, {AMOUNTS} FROM tokopt_ledger_accounts WHERE budget = ?"
_WRITTEN = (
    f"SELECT t.accounts, {AMOUNTS} FROM (SELECT route, {_SUMS} "
    "FROM tokopt_ledger_journal WHERE budget = ? GROUP BY route) AS s JOIN tokopt_ledger_routes t ON t.id = s.route"
)
_PUT = (
    "INSERT INTO tokopt_ledger_limits (budget, node, per, source, scope, nano, tokens, calls, timezone, hard, "
    f"at, until) VALUES ({', '.join('?' * 12)}) ON CONFLICT (budget, node, per, source, scope) DO UPDATE "
    "SET nano = excluded.nano, tokens = excluded.tokens, calls = excluded.calls, timezone = excluded.timezone, "
    "hard = excluded.hard, at = excluded.at, until = excluded.until"
)
_DROP = "DELETE FROM tokopt_ledger_limits WHERE budget = ? AND node = ? AND per = ? AND source = ?"
_CLAIM = (
    "INSERT INTO tokopt_ledger_claims AS c (budget, task, until) VALUES (?, ?, ?) ON CONFLICT (budget, task) "
    "DO UPDATE SET until = excluded.until WHERE c.until <= ?"
)
_VALUE = "INSERT INTO tokopt_ledger_values (budget, at, path, value) VALUES (?, ?, ?, ?)"


class SqlLedger(SqlReading):
    """A ledger (see `Ledger`) whose counters, reservations, limits and journal are rows of a `Database`.

    What threads of one process ask for at the same time is done in one transaction. A method that is called inside a
    transaction of the same thread on that database becomes part of it.

    Args:
        database: Where everything is kept. It stays open when the ledger is closed.
        budget: The name of the budget; each has accounts, reservations, limits and a journal of its own.

    Raises:
        StoreError: The database cannot be used, at construction as in every method.
    """

    def __init__(self, database: Database, *, budget: str = "default") -> None:
        super().__init__(database, budget)
        self._tables = SqliteTables(budget) if database.dialect == "sqlite" else PostgresTables(budget)
        self._combined: Combiner[Command[Any]] = Combiner(self._serve)

    def __repr__(self) -> str:
        return f"SqlLedger({self._database!r}, budget={self._budget!r})"

    # --- the life of a reservation ---

    def reserve(
        self, reservation: str, caps: Sequence[Cap], amount: Amount, *, path: str, now: float, expires_at: float
    ) -> Granted | Refusal:
        return self._ask(Reserve(reservation, tuple(caps), amount, path, now, expires_at))

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
        return self._ask(Settle(reservation, actual, tuple(accounts), path, now, reason))

    def release(self, reservation: str, *, now: float, reason: str | None = None) -> Amount | None:
        return self._ask(Release(reservation, now, reason))

    def renew(self, reservations: Sequence[str], *, expires_at: float) -> int:
        renewed = 0
        with as_store_error(self._database):
            for names in chunks(sorted(set(reservations)), padded=False):
                renewed += sum(self._serve([Renew(name, expires_at) for name in names]))
        return renewed

    def sweep(self, *, now: float) -> list[Expired]:
        dead = [name for (name,) in self._fetch(_DEAD, (self._budget, now))]
        expired: list[Expired] = []
        try:
            with as_store_error(self._database):
                for names in chunks(dead, padded=False):
                    # Who is being settled just now is not dead.
                    done = self._serve([Expire(name, now) for name in names], skip_locked=True)
                    expired += [one for one in done if one is not None]
        except StoreError:
            if not expired:
                raise
            # These are free already. The next sweep will say what is wrong.
        return expired

    # --- repairing ---

    def reconcile(self, *, now: float) -> list[Correction]:
        with as_store_error(self._database), self._database.write_directly() as cursor:
            # Who changes an account writes its line before he lets go of it: none is missing from what is read here.
            self._tables.lock_accounts(cursor)
            cursor.execute(self._sql(_COUNTED), (self._budget,))
            counted = {Account(*row[:4]): read_balance(row[4:]) for row in cursor.fetchall()}
            cursor.execute(self._sql(_WRITTEN), (self._budget,))
            written: dict[Account, Balance] = {}
            for accounts, *sums in cursor.fetchall():
                added = read_balance(sums)
                for account in read_accounts(accounts):
                    before = written.get(account, Balance())
                    written[account] = Balance(before.spent + added.spent, before.held + added.held)
            wrong = [
                Correction(account, before, after)
                for account in sorted(counted.keys() | written.keys())
                if (before := counted.get(account, Balance())) != (after := written.get(account, Balance()))
            ]
            self._tables.add(cursor, [(one.account, _difference(one.after, one.before), now) for one in wrong])
            return wrong

    # --- limits and feedback ---

    def put_limits(
        self, limits: Sequence[StoredLimit], *, reasons: Mapping[str, str] | None = None, now: float
    ) -> None:
        if not limits:
            return
        reasons = reasons or {}
        lines = [_set(one, now, reasons.get(one.node)) for one in limits]
        with as_store_error(self._database), self._database.write_directly() as cursor:
            cursor.executemany(self._sql(_PUT), [limit_row(self._budget, one) for one in limits])
            self._tables.write(cursor, lines, routes={(line.path, line.accounts) for line in lines})

    def drop_limit(self, node: str, per: Per, *, source: Source, now: float, reason: str | None = None) -> bool:
        with as_store_error(self._database), self._database.write_directly() as cursor:
            cursor.execute(self._sql(_DROP), (self._budget, node, per, source))
            dropped: bool = cursor.rowcount > 0
            if dropped:
                line = Entry("", now, "dropped", node, reason=reason)
                self._tables.write(cursor, [line], routes=[(node, ())])
            return dropped

    def claim(self, task: str, *, now: float, until: float) -> bool:
        with as_store_error(self._database), self._database.write_directly() as cursor:
            cursor.execute(self._sql(_CLAIM), (self._budget, task, until, now))
            claimed: bool = cursor.rowcount > 0
            return claimed

    def value(self, valued: Valued) -> None:
        with as_store_error(self._database), self._database.write_directly() as cursor:
            row = (self._budget, valued.at, valued.path, str(valued.value))
            cursor.execute(self._sql(_VALUE), row)

    def close(self) -> None:
        """Nothing: the database belongs to whoever opened it."""

    # --- transactions ---

    def _ask(self, command: Command[R]) -> R:
        with as_store_error(self._database):
            if self._database.inside_transaction:
                # Another thread that served it would wait for this one.
                answer: R = self._serve([command])[0]
            else:
                answer = self._combined(command)
            return answer

    def _serve(self, commands: Sequence[Command[Any]], *, skip_locked: bool = False) -> list[Any]:
        attempts = 0
        while True:
            attempts += 1
            try:
                with self._database.write_directly() as cursor:
                    machine = self._tables.load(cursor, commands, skip_locked=skip_locked)
                    answers = [command.decide(machine) for command in commands]
                    if machine.opened or machine.changed:
                        self._tables.save(cursor, machine)
                return answers
            except Exception as error:
                if attempts == _ATTEMPTS or not to_be_retried(error):
                    raise

    def _sql(self, statement: str) -> str:
        return statement if self._database.dialect == "sqlite" else statement.replace("?", "%s")


def _set(limit: StoredLimit, now: float, reason: str | None) -> Entry:
    return Entry("", now, "moved" if limit.source == "allocated" else "set", limit.node, reason=reason)


def _difference(after: Balance, before: Balance) -> Balance:
    return Balance(after.spent.less(before.spent), after.held.less(before.held))
