"""What version 1 of a budget's tables holds is carried over, and goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import inspect, text

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.schema import COMPONENT, STEPS
from langchain_tokopt.budget.ledgers.sql_ledger import SqlLedger
from langchain_tokopt.budget.ledgers.sql_reading import budget_names
from langchain_tokopt.budget.ledgers.words import NOTHING, Account, Balance, Bucket, Expired
from langchain_tokopt.database import Database

DAY = Account("", "day", 86_400)
RUN = Account("", "run", 0, "a:b")


@pytest.fixture
def database(database: Database) -> Database:
    """Version 1 with two budgets: a day with a call that is held and one that is settled, a run, and another day."""
    database.migrate(COMPONENT, STEPS[:1])
    with database.write() as connection:

        def insert(table: str, *rows: tuple[Any, ...]) -> None:
            names = {
                "counters": "key, period, spent_nano, spent_tokens, held_nano, held_tokens, opened_at",
                "reservations": "id, accounts, nano, tokens, state, expires_at",
                "journal": "at, key, period, reservation, action, "
                "spent_nano, spent_tokens, held_nano, held_tokens, reason",
            }[table].split(", ")
            statement = f"INSERT INTO tokopt_budget_{table} ({', '.join(names)}) VALUES (:{', :'.join(names)})"
            connection.execute(text(statement), [dict(zip(names, row, strict=True)) for row in rows])

        def on(key: str, period: int) -> str:
            return json.dumps([[key, period]])

        insert(
            "counters",
            ("default:day", 86_400, 150, 15, 40, 4, 1.0),
            ("default:run:a:b", 0, 0, 0, 7, 7, 2.0),
            ("other:day", 86_400, 9, 9, 0, 0, 3.0),
        )
        insert(
            "reservations",
            ("settled", on("default:day", 86_400), 100, 20, "settled", 61.0),
            ("held", on("default:day", 86_400), 40, 4, "held", 62.0),
            ("run", on("default:run:a:b", 0), 7, 7, "held", 63.0),
            ("late", on("other:day", 86_400), 0, 0, "settled", 64.0),
            ("lost", "[]", 0, 0, "settled", 65.0),
        )
        insert(
            "journal",
            (1.0, "default:day", 86_400, "settled", "reserved", 0, 0, 100, 20, None),
            (2.0, "default:day", 86_400, "held", "reserved", 0, 0, 40, 4, None),
            (3.0, "default:day", 86_400, "settled", "settled", 100, 15, -100, -20, "estimated"),
            (3.0, "default:day", 86_400, "settled", "overage", 50, 0, 0, 0, "estimated"),
            (4.0, "default:run:a:b", 0, "run", "reserved", 0, 0, 7, 7, None),
            (5.0, "other:day", 86_400, "late", "overage", 9, 9, 0, 0, None),
        )
    return database


def test_counters_are_accounts_of_the_root(database: Database) -> None:
    ledger, other = SqlLedger(database), SqlLedger(database, budget="other")
    assert ledger.balances([DAY, RUN]) == {
        DAY: Balance(Amount(150, 15), Amount(40, 4)),
        RUN: Balance(NOTHING, Amount(7, 7)),
    }
    assert list(ledger.accounts(per="run", period=0)) == [RUN]
    assert other.balances([DAY]) == {DAY: Balance(Amount(9, 9), NOTHING)}
    assert budget_names(database) == ["default", "other"]


def test_the_journal_goes_on_and_agrees_with_the_counters(database: Database) -> None:
    ledger = SqlLedger(database)
    assert [(entry.at, entry.action, entry.accounts, entry.reason) for entry in ledger.journal(node="")] == [
        (4.0, "reserved", (RUN,), None),
        (3.0, "overage", (DAY,), "estimated"),
        (3.0, "settled", (DAY,), "estimated"),
        (2.0, "reserved", (DAY,), None),
        (1.0, "reserved", (DAY,), None),
    ]
    assert ledger.series(since=0.0, until=9.0, bucket_seconds=60) == [Bucket(0, "", Amount(150, 15))]
    assert ledger.reconcile(now=9.0) == []
    assert SqlLedger(database, budget="other").reconcile(now=9.0) == []


def test_what_was_held_can_be_settled_or_runs_out(database: Database) -> None:
    ledger = SqlLedger(database)
    assert ledger.settle("settled", Amount(1, 1, 1), accounts=[], path="", now=10.0).outcome == "again"
    assert ledger.settle("held", Amount(30, 5, 1), accounts=[], path="", now=10.0).over == Amount(0, 1, 1)
    assert ledger.sweep(now=63.0) == [Expired("run", "", Amount(7, 7))]
    assert ledger.balances([DAY, RUN]) == {DAY: Balance(Amount(180, 20, 1), NOTHING), RUN: Balance()}
    assert ledger.reconcile(now=64.0) == []


def test_the_old_tables_are_gone(database: Database) -> None:
    SqlLedger(database)
    SqlLedger(database)
    with database.read() as connection:
        names = inspect(connection).get_table_names()
    assert [name for name in names if name.startswith("tokopt_budget_") or name == "tokopt_ledger_carried"] == []
