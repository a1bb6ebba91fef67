"""A batch of commands on PostgreSQL: its rows are locked as they are read, and all that came of it is sent at once.

Whoever changes something locks the reservations that it is about, by id, and then the accounts, by id. Rows travel as
one JSON text for each statement, so that batches and amounts of any size are the same few prepared statements.
"""

# ruff: noqa: S608 - the names in these statements are all our own

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

from langchain_tokopt.budget.ledgers.machine import Command, Machine
from langchain_tokopt.budget.ledgers.sql_rows import (
    AMOUNTS,
    KEPT,
    Route,
    account_id,
    account_row,
    entry_row,
    node_rows,
    read_balance,
    read_kept,
    reservation_row,
    route_row,
)
from langchain_tokopt.budget.ledgers.words import Account, Balance, Entry
from langchain_tokopt.errors import StoreError

Row = Sequence[Any]

_MOST_SEEN = 1 << 14

# https://www.postgresql.org/docs/current/errcodes-appendix.html: serialization failure, deadlock, unique violation (of
# a reservation that was made by two at once)
_CONFLICTS = frozenset({"40001", "40P01", "23505"})


class _Rows:
    """Rows that are sent as JSON. `columns`: "name TYPE, ..."; the type BYTEA is sent in hexadecimal digits."""

    def __init__(self, columns: str) -> None:
        pairs = [column.split() for column in columns.split(", ")]
        self.names = [name for name, _ in pairs]
        self.values = ", ".join(f"decode(d.{name}, 'hex')" if kind == "BYTEA" else f"d.{name}" for name, kind in pairs)
        self.table = f"json_to_recordset(%s) AS d({columns.replace(' BYTEA', ' TEXT')})"

    def insert(self, table: str) -> str:
        into = f"tokopt_ledger_{table} ({', '.join(self.names)})"
        return f"INSERT INTO {into} SELECT {self.values} FROM {self.table}"

    def text(self, rows: Iterable[Row]) -> str:
        return json.dumps([dict(zip(self.names, row, strict=True)) for row in rows], default=bytes.hex)


_AMOUNTS = AMOUNTS.split(", ")
_COUNTS = ", ".join(f"{name} BIGINT" for name in _AMOUNTS)
_ADDED = _Rows(f"id BYTEA, budget TEXT, node TEXT, per TEXT, period BIGINT, scope TEXT, {_COUNTS}, opened_at FLOAT8")
_ROUTES = _Rows("id BYTEA, path TEXT, accounts TEXT")
_NODES = _Rows("budget TEXT, node TEXT, route BYTEA")
_KEPT = _Rows(
    "budget TEXT, id TEXT, route BYTEA, nano BIGINT, tokens BIGINT, calls BIGINT, state TEXT, expires_at FLOAT8"
)
_LINES = _Rows(f"budget TEXT, at FLOAT8, action TEXT, route BYTEA, reservation TEXT, {_COUNTS}, reason TEXT")

_RESERVATIONS = KEPT + " WHERE r.budget = %s AND r.id = ANY(%s) ORDER BY r.id FOR UPDATE OF r"
_OPENING = "SELECT pg_advisory_xact_lock(%s)"
_BALANCES = f"SELECT id, {AMOUNTS} FROM tokopt_ledger_accounts WHERE id = ANY(%s) ORDER BY id FOR UPDATE"
_ADD = (
    f"{_ADDED.insert('accounts AS a')} ON CONFLICT (id) DO UPDATE SET "
    f"{', '.join(f'{name} = a.{name} + excluded.{name}' for name in _AMOUNTS)}"
)
_ROUTE = _ROUTES.insert("routes") + " ON CONFLICT DO NOTHING"
_NODE = _NODES.insert("nodes") + " ON CONFLICT DO NOTHING"
_RESERVE = _KEPT.insert("reservations")
_CHANGE = (
    "UPDATE tokopt_ledger_reservations r SET state = d.state, expires_at = d.expires_at "
    f"FROM {_KEPT.table} WHERE r.budget = d.budget AND r.id = d.id"
)
_LINE = _LINES.insert("journal")
# Reading stays possible; who has begun to change something ends first.
_LOCK_ACCOUNTS = "LOCK TABLE tokopt_ledger_accounts IN EXCLUSIVE MODE"


class PostgresTables:
    """One budget's rows in a PostgreSQL database. Every `cursor` is that of a write transaction."""

    def __init__(self, budget: str) -> None:
        self._budget = budget
        lock = hashlib.sha256(f"langchain_tokopt accounts of {budget}".encode()).digest()
        self._opening = int.from_bytes(lock[:8], "big", signed=True)
        self._seen: frozenset[bytes] = frozenset()

    def load(self, cursor: Any, commands: Sequence[Command[object]], *, skip_locked: bool) -> Machine:
        """A machine that knows all that the commands are about, which is locked until the transaction ends.

        Args:
            cursor: Where to ask.
            commands: What is asked.
            skip_locked: Take a reservation that somebody else is changing just now for an unknown one.

        Raises:
            MovedError: Accounts are gone that were there before.
        """
        machine, budget = Machine(), self._budget
        names = sorted({command.reservation for command in commands})
        query = _RESERVATIONS + " SKIP LOCKED" if skip_locked else _RESERVATIONS
        machine.reservations.update(map(read_kept, cursor.execute(query, (budget, names)).fetchall()))
        wanted = {account_id(budget, account): account for account in machine.needs(commands)}
        if not wanted:
            return machine
        # A row that is not there yet cannot be locked: one transaction at a time may open accounts. It has to wait for
        # that before it locks others, so that nobody waits in a circle.
        may_be_new = not self._seen.issuperset(wanted)
        if may_be_new:
            cursor.execute(_OPENING, (self._opening,))
        rows = cursor.execute(_BALANCES, (list(wanted),)).fetchall()
        machine.balances.update((wanted[row[0]], read_balance(row[1:])) for row in rows)
        if may_be_new:
            seen = {row[0] for row in rows}
            self._seen = self._seen | seen if len(self._seen) < _MOST_SEEN else frozenset(seen)
        elif len(rows) < len(wanted):
            self._seen = frozenset()
            msg = "accounts of the budget's ledger have vanished: was the database restored? Try again"
            raise MovedError(msg)
        return machine

    def save(self, cursor: Any, machine: Machine) -> None:
        """Keep what came of the commands."""
        kept = {name: reservation_row(self._budget, name, one) for name, one in machine.reservations.items()}
        with _at_once(cursor):
            self.add(cursor, machine.added())
            self.write(cursor, machine.lines, routes=machine.routes())
            _send(cursor, _RESERVE, _KEPT, [kept[name] for name in sorted(machine.opened)])
            _send(cursor, _CHANGE, _KEPT, [kept[name] for name in machine.changed])

    def add(self, cursor: Any, added: Iterable[tuple[Account, Balance, float]]) -> None:
        """Add to the balances of accounts, which are opened at that time when they are not there yet."""
        _send(cursor, _ADD, _ADDED, [account_row(self._budget, *one) for one in added])

    def write(self, cursor: Any, lines: Sequence[Entry], *, routes: Collection[Route]) -> None:
        """Write lines into the journal, after those of the routes that are new."""
        _send(cursor, _ROUTE, _ROUTES, sorted(route_row(self._budget, *route) for route in routes))
        _send(cursor, _NODE, _NODES, sorted(row for route in routes for row in node_rows(self._budget, *route)))
        _send(cursor, _LINE, _LINES, [entry_row(self._budget, line) for line in lines])

    def lock_accounts(self, cursor: Any) -> None:
        """Let nobody else change an account until the transaction ends."""
        cursor.execute(_LOCK_ACCOUNTS)


class MovedError(StoreError):
    """Rows are gone that this process has seen: the transaction has to be made anew."""


def to_be_retried(error: BaseException) -> bool:
    """Whether the same transaction can succeed when it is made again: it came into conflict with another."""
    states = {getattr(one, "sqlstate", None) for one in (error, error.__cause__)}
    return isinstance(error, MovedError) or not _CONFLICTS.isdisjoint(states)


def _send(cursor: Any, statement: str, rows: _Rows, values: Sequence[Row]) -> None:
    if values:
        cursor.execute(statement, (rows.text(values),))


def _at_once(cursor: Any) -> Any:
    """Statements that are sent without waiting for the answer to each, where the driver can do that."""
    from psycopg import Pipeline

    return cursor.connection.pipeline() if Pipeline.is_supported() else nullcontext()
