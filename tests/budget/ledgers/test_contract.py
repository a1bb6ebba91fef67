"""The contract over SQL databases: memory, a file, and PostgreSQL."""

from __future__ import annotations

import pytest

from langchain_tokopt.budget.ledgers.contract import Ledger
from langchain_tokopt.budget.ledgers.sql_ledger import SqlLedger
from langchain_tokopt.database import Database
from tests.budget.ledgers.contract import Connect, LedgerContract


@pytest.fixture
def connect(database: Database) -> Connect:
    def open_ledger(budget: str = "default") -> Ledger:
        return SqlLedger(database, budget=budget)

    return open_ledger


@pytest.fixture
def ledger(connect: Connect) -> Ledger:
    return connect()


class TestSqlLedger(LedgerContract):
    pass
