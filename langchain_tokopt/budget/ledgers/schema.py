"""The tables of budgets in a SQL database, and how they came to be what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

# SQLAlchemy is imported where it is used: importing the package must stay quick.
if TYPE_CHECKING:
    from sqlalchemy import Connection

COMPONENT = "budget"

_ONE_LIMIT = """
CREATE TABLE tokopt_budget_counters (
    key VARCHAR(512) NOT NULL, period BIGINT NOT NULL, spent_nano BIGINT NOT NULL, spent_tokens BIGINT NOT NULL,
    held_nano BIGINT NOT NULL, held_tokens BIGINT NOT NULL, opened_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (key, period)
);
CREATE TABLE tokopt_budget_reservations (
    id VARCHAR(64) PRIMARY KEY, accounts TEXT NOT NULL, nano BIGINT NOT NULL, tokens BIGINT NOT NULL,
    state VARCHAR(16) NOT NULL, expires_at DOUBLE PRECISION NOT NULL
);
CREATE INDEX tokopt_budget_leases ON tokopt_budget_reservations (expires_at) WHERE state = 'held';
CREATE TABLE tokopt_budget_journal (
    id {serial} PRIMARY KEY, at DOUBLE PRECISION NOT NULL, key VARCHAR(512) NOT NULL, period BIGINT NOT NULL,
    reservation VARCHAR(64) NOT NULL, action VARCHAR(16) NOT NULL, spent_nano BIGINT NOT NULL,
    spent_tokens BIGINT NOT NULL, held_nano BIGINT NOT NULL, held_tokens BIGINT NOT NULL, reason TEXT
)
"""

# `accounts` of a route: JSON, as in `sql_rows.py`. The index of the journal by time has all that a series is made of.
_HIERARCHY = """
CREATE TABLE tokopt_ledger_accounts (
    id {bytes} PRIMARY KEY, budget {text} NOT NULL, node {text} NOT NULL, per {text} NOT NULL, period BIGINT NOT NULL,
    scope {text} NOT NULL, spent_nano BIGINT NOT NULL, spent_tokens BIGINT NOT NULL, spent_calls BIGINT NOT NULL,
    held_nano BIGINT NOT NULL, held_tokens BIGINT NOT NULL, held_calls BIGINT NOT NULL,
    opened_at DOUBLE PRECISION NOT NULL
){by_key};
CREATE INDEX tokopt_ledger_accounts_opened ON tokopt_ledger_accounts (budget, per, period, opened_at);
CREATE TABLE tokopt_ledger_routes (id {bytes} PRIMARY KEY, path {text} NOT NULL, accounts TEXT NOT NULL){by_key};
CREATE TABLE tokopt_ledger_nodes (
    budget {text} NOT NULL, node {text} NOT NULL, route {bytes} NOT NULL, PRIMARY KEY (budget, node, route)
){by_key};
CREATE TABLE tokopt_ledger_reservations (
    budget {text} NOT NULL, id {text} NOT NULL, route {bytes} NOT NULL, nano BIGINT NOT NULL, tokens BIGINT NOT NULL,
    calls BIGINT NOT NULL, state {text} NOT NULL, expires_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (budget, id)
){by_key};
CREATE INDEX tokopt_ledger_leases ON tokopt_ledger_reservations (budget, expires_at) WHERE state = 'held';
CREATE TABLE tokopt_ledger_journal (
    id {serial} PRIMARY KEY, budget {text} NOT NULL, at DOUBLE PRECISION NOT NULL, action {text} NOT NULL,
    route {bytes} NOT NULL, reservation {text} NOT NULL, spent_nano BIGINT NOT NULL, spent_tokens BIGINT NOT NULL,
    spent_calls BIGINT NOT NULL, held_nano BIGINT NOT NULL, held_tokens BIGINT NOT NULL, held_calls BIGINT NOT NULL,
    reason TEXT
);
CREATE INDEX tokopt_ledger_journal_at
    ON tokopt_ledger_journal (budget, at, route, spent_nano, spent_tokens, spent_calls);
CREATE INDEX tokopt_ledger_journal_route ON tokopt_ledger_journal (route, id);
CREATE TABLE tokopt_ledger_limits (
    budget {text} NOT NULL, node {text} NOT NULL, per {text} NOT NULL, source {text} NOT NULL, scope {text} NOT NULL,
    nano BIGINT, tokens BIGINT, calls BIGINT, timezone {text} NOT NULL, hard INTEGER NOT NULL,
    at DOUBLE PRECISION NOT NULL, until DOUBLE PRECISION, PRIMARY KEY (budget, node, per, source, scope)
){by_key};
CREATE TABLE tokopt_ledger_claims (
    budget {text} NOT NULL, task {text} NOT NULL, until DOUBLE PRECISION NOT NULL, PRIMARY KEY (budget, task)
){by_key};
CREATE TABLE tokopt_ledger_values (
    id {serial} PRIMARY KEY, budget {text} NOT NULL, at DOUBLE PRECISION NOT NULL, path {text} NOT NULL,
    value {text} NOT NULL
);
CREATE INDEX tokopt_ledger_values_at ON tokopt_ledger_values (budget, at)
"""

_SQLITE = {"serial": "INTEGER", "bytes": "BLOB", "text": "TEXT", "by_key": " WITHOUT ROWID"}
_POSTGRESQL = {
    "serial": "BIGINT GENERATED ALWAYS AS IDENTITY",
    "bytes": "BYTEA",
    "text": 'TEXT COLLATE "C"',  # sorted and compared byte by byte on every server
    "by_key": "",
}


def _one_limit(connection: Connection) -> None:
    """Version 1: a counter per key, "name:per" or "name:per:scope". Money is whole nano-USD in all versions."""
    _execute(connection, _ONE_LIMIT)


def _hierarchy(connection: Connection) -> None:
    """Version 2: accounts of nodes in periods, and all that is kept beside them.

    Accounts and routes have ids that are made from what they are (see `sql_rows.py`), so that every process knows them
    without asking. A route is a path with the accounts that its calls are counted on: it stands for both wherever
    something was booked, and together with the journal it says all that the counters of the accounts say. What is set,
    moved or dropped on a node has that node's route without accounts.
    """
    from langchain_tokopt.budget.ledgers.sql_carry import carry_over

    _execute(connection, _HIERARCHY)
    carry_over(connection)
    for table in ("counters", "reservations", "journal"):
        connection.exec_driver_sql(f"DROP TABLE tokopt_budget_{table}")


def _execute(connection: Connection, statements: str) -> None:
    words = _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL
    for statement in statements.format(**words).split(";"):
        connection.exec_driver_sql(statement)


STEPS = (_one_limit, _hierarchy)
