"""The ledger's statements and rows. The same SQL runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from langchain_tokopt.budget.accounts import NOTHING, Account, Balance
from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.errors import StoreError

# SQLAlchemy is imported where it is used: importing the package must stay quick.
if TYPE_CHECKING:
    from sqlalchemy import Connection, Row, TextClause

ANY = 2**62  # no limit: above any sum of amounts
COUNTERS = "SELECT key, period, spent_nano, spent_tokens, held_nano, held_tokens FROM tokopt_budget_counters"
BALANCE = COUNTERS + " WHERE key = :key AND period = :period"
LATEST = COUNTERS + " WHERE SUBSTR(key, 1, :length) = :prefix ORDER BY opened_at DESC, key LIMIT :count"
OPEN = (
    "INSERT INTO tokopt_budget_counters "
    "(key, period, spent_nano, spent_tokens, held_nano, held_tokens, opened_at) "
    "VALUES (:key, :period, 0, 0, 0, 0, :now) ON CONFLICT DO NOTHING"
)
HOLD = (
    "UPDATE tokopt_budget_counters SET held_nano = held_nano + :nano, held_tokens = held_tokens + :tokens "
    "WHERE key = :key AND period = :period AND spent_nano + held_nano + :nano <= :limit_nano "
    "AND spent_tokens + held_tokens + :tokens <= :limit_tokens"
)
ADD = (
    "UPDATE tokopt_budget_counters SET spent_nano = spent_nano + :spent_nano, "
    "spent_tokens = spent_tokens + :spent_tokens, held_nano = held_nano + :held_nano, "
    "held_tokens = held_tokens + :held_tokens WHERE key = :key AND period = :period"
)
RESERVATION = "SELECT id, accounts, nano, tokens, state FROM tokopt_budget_reservations WHERE id = :id"
EXPIRED = (
    "SELECT id, accounts, nano, tokens FROM tokopt_budget_reservations WHERE state = 'held' AND expires_at <= :now"
)
INSERT_RESERVATION = (
    "INSERT INTO tokopt_budget_reservations (id, accounts, nano, tokens, state, expires_at) "
    "VALUES (:id, :accounts, :nano, :tokens, :state, :expires_at)"
)
CLOSE = (
    "UPDATE tokopt_budget_reservations SET state = :state WHERE id = :id AND state = 'held' "
    "RETURNING id, accounts, nano, tokens"
)
REOPEN = "UPDATE tokopt_budget_reservations SET state = 'settled' WHERE id = :id"
RENEW = "UPDATE tokopt_budget_reservations SET expires_at = :expires_at WHERE id = :id AND state = 'held'"
WRITE = (
    "INSERT INTO tokopt_budget_journal (at, key, period, reservation, action, spent_nano, spent_tokens, held_nano, "
    "held_tokens, reason) VALUES (:at, :key, :period, :reservation, :action, :spent_nano, :spent_tokens, :held_nano, "
    ":held_tokens, :reason)"
)
# PostgreSQL sums a BIGINT into a NUMERIC.
JOURNAL_SUMS = (
    "SELECT key, period, CAST(SUM(spent_nano) AS BIGINT) AS spent_nano, "
    "CAST(SUM(spent_tokens) AS BIGINT) AS spent_tokens, CAST(SUM(held_nano) AS BIGINT) AS held_nano, "
    "CAST(SUM(held_tokens) AS BIGINT) AS held_tokens FROM tokopt_budget_journal GROUP BY key, period"
)


@functools.lru_cache(maxsize=64)
def sql(statement: str) -> TextClause:
    from sqlalchemy import text

    return text(statement)


def reservation_row(
    reservation: str, accounts: Sequence[Account], amount: Amount, state: str, *, expires_at: float
) -> dict[str, Any]:
    return {
        "id": reservation,
        "accounts": json.dumps([[account.key, account.period] for account in accounts]),
        "nano": amount.nano,
        "tokens": amount.tokens,
        "state": state,
        "expires_at": expires_at,
    }


def accounts_of(row: Row[Any]) -> list[Account]:
    return sorted(Account(key, period) for key, period in json.loads(row.accounts))


def balance_of(connection: Connection, account: Account) -> Balance | None:
    row = connection.execute(sql(BALANCE), {"key": account.key, "period": account.period}).fetchone()
    return None if row is None else read_balance(row)


def read_balance(row: Row[Any]) -> Balance:
    return Balance(Amount(row.spent_nano, row.spent_tokens), Amount(row.held_nano, row.held_tokens))


def open_counter(connection: Connection, account: Account, now: float) -> None:
    connection.execute(sql(OPEN), {"key": account.key, "period": account.period, "now": now})


def entry(
    at: float,
    account: Account,
    reservation: str,
    action: str,
    *,
    spent: Amount = NOTHING,
    held: Amount = NOTHING,
    reason: str | None = None,
) -> dict[str, Any]:
    return {
        "at": at,
        "key": account.key,
        "period": account.period,
        "reservation": reservation,
        "action": action,
        "spent_nano": spent.nano,
        "spent_tokens": spent.tokens,
        "held_nano": held.nano,
        "held_tokens": held.tokens,
        "reason": reason,
    }


def write_entries(connection: Connection, entries: list[dict[str, Any]]) -> None:
    if entries:
        connection.execute(sql(WRITE), entries)


@contextmanager
def as_store_error() -> Iterator[None]:
    """Whatever the database says, such as that a table is missing, is a ledger that cannot be used."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        msg = f"the budget's ledger cannot be used: {' '.join(str(getattr(error, 'orig', None) or error).split())}"
        raise StoreError(msg) from error
