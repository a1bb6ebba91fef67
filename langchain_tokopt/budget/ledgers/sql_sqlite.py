"""A batch of commands on SQLite: what it is about is read, and what came of it written, under the write lock."""

# ruff: noqa: S608 - the names in these statements are all our own

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from langchain_tokopt.budget.ledgers.machine import Command, Machine
from langchain_tokopt.budget.ledgers.sql_rows import (
    AMOUNTS,
    KEPT,
    Route,
    account_id,
    account_row,
    chunks,
    entry_row,
    marks,
    node_rows,
    read_balance,
    read_kept,
    reservation_row,
    route_id,
    route_row,
)
from langchain_tokopt.budget.ledgers.words import Account, Balance, Entry

_RESERVATIONS = KEPT + " WHERE r.budget = ? AND r.id IN "
_BALANCES = f"SELECT id, {AMOUNTS} FROM tokopt_ledger_accounts WHERE id IN "
_ADD = (
    f"INSERT INTO tokopt_ledger_accounts (id, budget, node, per, period, scope, {AMOUNTS}, opened_at) "
    f"VALUES ({', '.join('?' * 13)}) ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in AMOUNTS.split(", "))
)
_KNOWN = "SELECT id FROM tokopt_ledger_routes WHERE id IN "
_ROUTE = "INSERT INTO tokopt_ledger_routes (id, path, accounts) VALUES (?, ?, ?)"
_NODE = "INSERT INTO tokopt_ledger_nodes (budget, node, route) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_RESERVATION = (
    "INSERT INTO tokopt_ledger_reservations (budget, id, route, nano, tokens, calls, state, expires_at) "
    f"VALUES ({', '.join('?' * 8)}) "
    "ON CONFLICT (budget, id) DO UPDATE SET state = excluded.state, expires_at = excluded.expires_at"
)
_LINE = (
    f"INSERT INTO tokopt_ledger_journal (budget, at, action, route, reservation, {AMOUNTS}, reason) "
    f"VALUES ({', '.join('?' * 12)})"
)


class SqliteTables:
    """One budget's rows in a SQLite database. Every `cursor` is that of a write transaction."""

    def __init__(self, budget: str) -> None:
        self._budget = budget

    def load(self, cursor: Any, commands: Sequence[Command[object]], *, skip_locked: bool) -> Machine:
        """A machine that knows all that the commands are about. Nothing is locked by others here, nor skipped."""
        machine, budget = Machine(), self._budget
        for names in chunks({command.reservation for command in commands}):
            rows = cursor.execute(_RESERVATIONS + marks(names), (budget, *names))
            machine.reservations.update(map(read_kept, rows))
        wanted = {account_id(budget, account): account for account in machine.needs(commands)}
        for ids in chunks(wanted):
            for row in cursor.execute(_BALANCES + marks(ids), ids):
                machine.balances[wanted[row[0]]] = read_balance(row[1:])
        return machine

    def save(self, cursor: Any, machine: Machine) -> None:
        """Keep what came of the commands."""
        self.add(cursor, machine.added())
        self.write(cursor, machine.lines, routes=machine.routes())
        cursor.executemany(
            _RESERVATION,
            [
                reservation_row(self._budget, name, machine.reservations[name])
                for names in (machine.opened, machine.changed)
                for name in names
            ],
        )

    def add(self, cursor: Any, added: Iterable[tuple[Account, Balance, float]]) -> None:
        """Add to the balances of accounts, which are opened at that time when they are not there yet."""
        cursor.executemany(_ADD, [account_row(self._budget, *one) for one in added])

    def write(self, cursor: Any, lines: Sequence[Entry], *, routes: Collection[Route]) -> None:
        """Write lines into the journal, after those of the routes that are new."""
        wanted = {route_id(self._budget, *route): route for route in routes}
        for ids in chunks(list(wanted)):
            for (known,) in cursor.execute(_KNOWN + marks(ids), ids):
                del wanted[known]
        for route in wanted.values():
            cursor.execute(_ROUTE, route_row(self._budget, *route))
            cursor.executemany(_NODE, node_rows(self._budget, *route))
        cursor.executemany(_LINE, [entry_row(self._budget, line) for line in lines])

    def lock_accounts(self, cursor: Any) -> None:
        """Let nobody else change an account until the transaction ends: here nobody can anyway."""
