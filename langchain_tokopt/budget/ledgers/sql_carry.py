"""What version 1 of a budget's tables holds, carried over into version 2: nothing of it gets lost."""

# ruff: noqa: S608 - the names in these statements are all our own

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.machine import Kept
from langchain_tokopt.budget.ledgers.sql_rows import account_id, node_rows, reservation_row, route_id, route_row
from langchain_tokopt.budget.ledgers.words import Account

# SQLAlchemy is imported where it is used: importing the package must stay quick.
if TYPE_CHECKING:
    from sqlalchemy import Connection

_ACCOUNT = (
    "INSERT INTO tokopt_ledger_accounts (id, budget, node, per, period, scope, spent_nano, spent_tokens, spent_calls, "
    "held_nano, held_tokens, held_calls, opened_at) SELECT :id, :budget, '', :per, period, :scope, spent_nano, "
    "spent_tokens, 0, held_nano, held_tokens, 0, opened_at FROM tokopt_budget_counters "
    "WHERE key = :key AND period = :period"
)
_JOURNAL = (
    "INSERT INTO tokopt_ledger_journal (budget, at, action, route, reservation, spent_nano, spent_tokens, spent_calls, "
    "held_nano, held_tokens, held_calls, reason) SELECT c.budget, j.at, j.action, c.route, j.reservation, "
    "j.spent_nano, j.spent_tokens, 0, j.held_nano, j.held_tokens, 0, j.reason FROM tokopt_budget_journal j "
    "JOIN tokopt_ledger_carried c ON c.key = j.key AND c.period = j.period ORDER BY j.id"
)


def carry_over(connection: Connection) -> None:
    """Counters become accounts of the root, and their journal its journal; calls were not counted in version 1."""
    from sqlalchemy import text

    keys = "SELECT key, period FROM tokopt_budget_counters UNION SELECT key, period FROM tokopt_budget_journal"
    counted = [(key, *_account(key, period)) for key, period in connection.execute(text(keys))]
    # The old rows are joined to what they become in the database: a journal may be long.
    blob = "BLOB" if connection.dialect.name == "sqlite" else "BYTEA"
    connection.execute(
        text(
            "CREATE TABLE tokopt_ledger_carried (key TEXT NOT NULL, period BIGINT NOT NULL, budget TEXT NOT NULL, "
            f"route {blob} NOT NULL, PRIMARY KEY (key, period))"
        )
    )
    for key, budget, account in counted:
        names = {"key": key, "period": account.period, "budget": budget}
        of_account = {"id": account_id(budget, account), "per": account.per, "scope": account.scope}
        connection.execute(text(_ACCOUNT), names | of_account)
        carried = names | {"route": route_id(budget, "", (account,))}
        connection.execute(text("INSERT INTO tokopt_ledger_carried VALUES (:key, :period, :budget, :route)"), carried)
        _add_route(connection, budget, (account,))
    connection.execute(text(_JOURNAL))
    connection.execute(text("DROP TABLE tokopt_ledger_carried"))
    _carry_reservations(connection)


def _carry_reservations(connection: Connection) -> None:
    from sqlalchemy import text

    names = ("budget", "id", "route", "nano", "tokens", "calls", "state", "expires_at")
    insert = text(f"INSERT INTO tokopt_ledger_reservations ({', '.join(names)}) VALUES (:{', :'.join(names)})")
    query = "SELECT id, accounts, nano, tokens, state, expires_at FROM tokopt_budget_reservations"
    rows: list[dict[str, Any]] = []
    routes: set[tuple[str, tuple[Account, ...]]] = set()
    for name, keys, nano, tokens, state, expires_at in connection.execute(text(query)):
        found = [_account(key, period) for key, period in json.loads(keys)]
        if not found:
            continue  # nothing was booked on any account
        budget, accounts = found[0][0], tuple(account for _, account in found)
        routes.add((budget, accounts))
        kept = Kept("", accounts, Amount(nano, tokens), state, expires_at)
        rows.append(dict(zip(names, reservation_row(budget, name, kept), strict=True)))
    for budget, accounts in routes:
        _add_route(connection, budget, accounts)
    if rows:
        connection.execute(insert, rows)


def _account(key: str, period: int) -> tuple[str, Account]:
    """The budget and the account of a key: "name:per" or "name:per:scope"; no name contains a colon."""
    name, per, scope = (*key.split(":", 2), "", "")[:3]
    return name, Account("", per, period, scope)  # type: ignore[arg-type]  # it was read by `read_per` when written


def _add_route(connection: Connection, budget: str, accounts: tuple[Account, ...]) -> None:
    from sqlalchemy import text

    key, path, written = route_row(budget, "", accounts)
    route = (
        "INSERT INTO tokopt_ledger_routes (id, path, accounts) VALUES (:id, :path, :accounts) ON CONFLICT DO NOTHING"
    )
    connection.execute(text(route), {"id": key, "path": path, "accounts": written})
    for budget_, node, of in node_rows(budget, "", accounts):
        connection.execute(
            text("INSERT INTO tokopt_ledger_nodes (budget, node, route) VALUES (:b, :n, :r) ON CONFLICT DO NOTHING"),
            {"b": budget_, "n": node, "r": of},
        )
