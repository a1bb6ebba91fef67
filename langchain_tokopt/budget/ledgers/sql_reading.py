"""Looking into a ledger in a SQL database: balances, the journal, what was spent over time, limits and feedback."""

# ruff: noqa: S608 - the names in these statements are all our own

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.schema import COMPONENT, STEPS
from langchain_tokopt.budget.ledgers.sql_rows import (
    AMOUNTS,
    ENTRIES,
    LIMIT,
    account_id,
    chunks,
    marks,
    read_balance,
    read_entry,
    read_limit,
)
from langchain_tokopt.budget.ledgers.words import Account, Balance, Bucket, Entry, StoredLimit, Valued
from langchain_tokopt.budget.periods import Per
from langchain_tokopt.errors import StoreError

if TYPE_CHECKING:
    from langchain_tokopt.database import Database

# So many of the newest lines are looked through before the index is asked, which finds what is rare.
_NEWEST = 5_000

_BALANCES = f"SELECT id, {AMOUNTS} FROM tokopt_ledger_accounts WHERE id IN "
_LATEST = (
    f"SELECT node, scope, {AMOUNTS} FROM tokopt_ledger_accounts "
    "WHERE budget = ? AND per = ? AND period = ? ORDER BY opened_at DESC, node, scope LIMIT ?"
)
_SUMS = "SUM({0}spent_nano) AS spent_nano, SUM({0}spent_tokens) AS spent_tokens, SUM({0}spent_calls) AS spent_calls"
_SERIES = (
    f"SELECT s.start, t.path, {_SUMS.format('s.')} FROM (SELECT (second / ?) * ? AS start, route, {_SUMS.format('')} "
    "FROM (SELECT {second} AS second, route, spent_nano, spent_tokens, spent_calls FROM tokopt_ledger_journal "
    "WHERE budget = ? AND at >= ? AND at < ? AND (spent_nano <> 0 OR spent_tokens <> 0 OR spent_calls <> 0)) AS l "
    "GROUP BY 1, 2) AS s JOIN tokopt_ledger_routes t ON t.id = s.route GROUP BY s.start, t.path"
)
_LIMITS = f"SELECT {LIMIT} FROM tokopt_ledger_limits WHERE budget = ?"
_VALUES = "SELECT at, path, value FROM tokopt_ledger_values WHERE budget = ? AND at >= ? AND at < ? ORDER BY at, id"


class SqlReading:
    """The part of a ledger that only looks; see `SqlLedger`."""

    def __init__(self, database: Database, budget: str) -> None:
        self._database = database
        self._budget = budget
        with as_store_error(database):
            database.migrate(COMPONENT, STEPS)

    def balances(self, accounts: Sequence[Account]) -> dict[Account, Balance]:
        found: dict[bytes, Balance] = {}
        keys = {account: account_id(self._budget, account) for account in accounts}
        for ids in chunks(keys.values()):
            found.update((row[0], read_balance(row[1:])) for row in self._fetch(_BALANCES + marks(ids), ids))
        return {account: found.get(key, Balance()) for account, key in keys.items()}

    def accounts(self, *, per: Per, period: int, count: int = 1000) -> dict[Account, Balance]:
        rows = self._fetch(_LATEST, (self._budget, per, period, count))
        return {Account(row[0], per, period, row[1]): read_balance(row[2:]) for row in rows}

    def journal(
        self,
        *,
        node: str | None = None,
        reservation: str | None = None,
        since: float | None = None,
        until: float | None = None,
        count: int = 100,
    ) -> list[Entry]:
        budget = self._budget
        conditions: list[str] = []
        values: list[Any] = []
        if node is not None:
            conditions.append("j.route IN (SELECT route FROM tokopt_ledger_nodes WHERE budget = ? AND node = ?)")
            values += [budget, node]
        if reservation is not None:
            # All that is ever booked for a reservation is on its one route.
            conditions.append(
                "j.route = (SELECT route FROM tokopt_ledger_reservations WHERE budget = ? AND id = ?) "
                "AND j.reservation = ?"
            )
            values += [budget, reservation, reservation]
        for edge, comparison in ((since, ">="), (until, "<")):
            if edge is not None:
                conditions.append(f"j.at {comparison} ?")
                values.append(edge)
        ending = "".join(f" AND {condition}" for condition in conditions) + " ORDER BY j.id DESC LIMIT ?"
        everything = ENTRIES.format(lines="tokopt_ledger_journal")
        newest = ENTRIES.format(lines=f"(SELECT * FROM tokopt_ledger_journal ORDER BY id DESC LIMIT {_NEWEST})")
        for query in (newest, everything):
            rows = self._fetch(f"{query} WHERE j.budget = ?{ending}", (budget, *values, count))
            if len(rows) == count:
                break
        return [read_entry(row) for row in rows]

    def series(self, *, since: float, until: float, bucket_seconds: int) -> list[Bucket]:
        second = "CAST(at AS INTEGER)" if self._database.dialect == "sqlite" else "CAST(FLOOR(at) AS BIGINT)"
        values = (bucket_seconds, bucket_seconds, self._budget, since, until)
        rows = self._fetch(_SERIES.format(second=second), values)
        return [Bucket(start, path, Amount(*map(int, spent))) for start, path, *spent in sorted(rows)]

    def limits(self) -> list[StoredLimit]:
        rows = self._fetch(_LIMITS, (self._budget,))
        return [read_limit(row) for row in sorted(rows, key=lambda row: row[:4])]

    def values(self, *, since: float, until: float) -> list[Valued]:
        rows = self._fetch(_VALUES, (self._budget, since, until))
        return [Valued(at, path, Decimal(value)) for at, path, value in rows]

    def _fetch(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with as_store_error(self._database):
            return self._database.fetch(query, values)


def budget_names(database: Database) -> list[str]:
    """The budgets that the database knows of, in alphabetical order.

    Raises:
        StoreError: The database cannot be used.
    """
    with as_store_error(database):
        database.migrate(COMPONENT, STEPS)
        query = "SELECT budget FROM tokopt_ledger_accounts UNION SELECT budget FROM tokopt_ledger_limits"
        return sorted(name for (name,) in database.fetch(query, ()))


@contextmanager
def as_store_error(database: Database) -> Iterator[None]:
    """Whatever the database does not take, such as that a table is missing, is a ledger that cannot be used."""
    from sqlalchemy.exc import SQLAlchemyError

    if database.dialect == "sqlite":
        driver: Any = importlib.import_module("sqlite3")
    else:
        driver = importlib.import_module("psycopg")
    try:
        yield
    except (SQLAlchemyError, driver.Error, UnicodeError, OverflowError) as error:
        said = " ".join(str(getattr(error, "orig", None) or error).split())
        msg = f"{database.url}: the budget's ledger cannot be used: {said}"
        raise StoreError(msg) from error
