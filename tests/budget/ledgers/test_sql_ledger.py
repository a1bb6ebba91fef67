"""What is special about a ledger in a SQL database: damage, transactions around it, and what others do to its rows."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.machine import Expire
from langchain_tokopt.budget.ledgers.schema import COMPONENT, STEPS
from langchain_tokopt.budget.ledgers.sql_ledger import SqlLedger
from langchain_tokopt.budget.ledgers.sql_reading import budget_names
from langchain_tokopt.budget.ledgers.sql_rows import account_id
from langchain_tokopt.budget.ledgers.words import (
    NOTHING,
    Account,
    Balance,
    Cap,
    Correction,
    Granted,
    Refusal,
    StoredLimit,
)
from langchain_tokopt.database import Database
from langchain_tokopt.errors import StoreError
from tests.budget.ledgers.contract import ALICE, ROOT, SHOP, all_at_once, balance, reserve, settle


@pytest.fixture
def ledger(database: Database) -> SqlLedger:
    return SqlLedger(database)


def execute(database: Database, statement: str, **values: Any) -> None:
    with database.write() as connection:
        connection.execute(text(statement), values)


def only(database: Database, dialect: str) -> None:
    if database.dialect != dialect:
        pytest.skip(f"only {dialect} does that")


# --- repairing ---


def test_reconcile_rebuilds_counters_that_were_tampered_with(ledger: SqlLedger, database: Database) -> None:
    reserve(ledger, "a", Amount(60, 10, 1), Cap(ROOT), Cap(SHOP), Cap(ALICE))
    reserve(ledger, "b", Amount(10, 10, 1), Cap(ROOT), Cap(SHOP))
    settle(ledger, "a", Amount(65, 4, 1))
    right = ledger.balances([ROOT, SHOP, ALICE])
    assert ledger.reconcile(now=100_002.0) == []
    execute(database, "UPDATE tokopt_ledger_accounts SET spent_nano = 1, held_calls = 7 WHERE node = ''")
    execute(database, "DELETE FROM tokopt_ledger_accounts WHERE node = :node", node=ALICE.node)
    execute(
        database,
        "INSERT INTO tokopt_ledger_accounts SELECT :id, budget, 'nobody', per, period, scope, 5, 0, 0, 0, 0, 0, 1.0 "
        "FROM tokopt_ledger_accounts WHERE node = ''",
        id=account_id("default", Account("nobody", "day", ROOT.period)),
    )
    nobody = Account("nobody", "day", ROOT.period)
    assert ledger.reconcile(now=100_003.0) == [
        Correction(ROOT, Balance(Amount(1, 4, 1), Amount(10, 10, 7)), right[ROOT]),
        Correction(nobody, Balance(Amount(5, 0, 0), NOTHING), Balance()),
        Correction(ALICE, Balance(), right[ALICE]),
    ]
    assert ledger.balances([ROOT, SHOP, ALICE]) == right
    assert ledger.reconcile(now=100_004.0) == []


def test_reconcile_while_others_spend_finds_nothing_wrong(ledger: SqlLedger, database: Database) -> None:
    others = [SqlLedger(database), SqlLedger(database)]
    found: list[object] = []

    def spend(number: int) -> None:
        for n in range(15):
            name = f"{number}.{n}"
            caps = (Cap(ROOT), Cap(Account(f"{number}.{n}", "day")))  # always one that was not there before
            reserve(others[number], name, Amount(3, 3, 1), *caps)
            settle(others[number], name, Amount(4, 2, 1))

    def repair() -> None:
        for _ in range(10):
            found.extend(ledger.reconcile(now=1.0))

    all_at_once(lambda: spend(0), lambda: spend(1), repair)
    assert found == []
    assert balance(ledger) == Balance(Amount(120, 60, 30), NOTHING)


# --- who sweeps and who settles ---


def test_a_sweep_leaves_alone_what_is_being_settled_just_now(ledger: SqlLedger, database: Database) -> None:
    only(database, "postgresql")
    reserve(ledger, "settling", Amount(5, 5, 1))
    reserve(ledger, "dead", Amount(5, 5, 1))
    with database.write() as connection:
        lock = "SELECT id FROM tokopt_ledger_reservations WHERE id = 'settling' FOR UPDATE"
        connection.execute(text(lock))
        expired: list[str] = []
        thread = threading.Thread(target=lambda: expired.extend(one.reservation for one in ledger.sweep(now=1e9)))
        thread.start()
        thread.join()
    assert expired == ["dead"]
    assert settle(ledger, "settling", Amount(5, 5, 1)).outcome == "settled"


def test_what_was_renewed_after_the_sweep_looked_is_not_swept(ledger: SqlLedger) -> None:
    reserve(ledger, "a", Amount(5, 5, 1))
    ledger.renew(["a"], expires_at=200_000.0)
    assert ledger._serve([Expire("a", 199_999.0)], skip_locked=True) == [None]
    assert balance(ledger).held == Amount(5, 5, 1)


# --- transactions around it ---


def test_inside_a_transaction_it_is_a_part_of_that(ledger: SqlLedger, database: Database) -> None:
    def change_their_mind() -> None:
        with database.write():
            reserve(ledger, "a", Amount(60, 10, 1))
            assert balance(ledger).held == Amount(60, 10, 1)
            raise KeyError

    with pytest.raises(KeyError):
        change_their_mind()
    assert balance(ledger) == Balance()
    with database.write():
        reserve(ledger, "a", Amount(60, 10, 1))
        assert settle(ledger, "a", Amount(50, 10, 1)).outcome == "settled"
        ledger.put_limits([StoredLimit("a", "day", 1)], now=1.0)
        assert ledger.reconcile(now=2.0) == []
    assert balance(ledger) == Balance(Amount(50, 10, 1), NOTHING)


def test_inside_a_read_nothing_can_be_reserved(ledger: SqlLedger, database: Database) -> None:
    with database.read():
        with pytest.raises(StoreError, match="inside a read"):
            reserve(ledger, "a", Amount(1, 1, 1))
        assert balance(ledger) == Balance()
    assert isinstance(reserve(ledger, "a", Amount(1, 1, 1)), Granted)


# --- what no store can keep ---


@pytest.mark.parametrize("name", ["\ud800", "a\0b"])
def test_a_name_that_cannot_be_kept_is_told_to_who_gave_it(ledger: SqlLedger, database: Database, name: str) -> None:
    if "\0" in name:
        only(database, "postgresql")
    errors: list[BaseException] = []
    start = threading.Barrier(4)

    def spend(reservation: str, node: str) -> None:
        start.wait()
        try:
            reserve(ledger, reservation, Amount(1, 1, 1), Cap(ROOT), path=node)
        except StoreError as error:
            errors.append(error)

    all_at_once(*(lambda n=n: spend(str(n), name if n == 2 else "fine") for n in range(4)))
    assert len(errors) == 1
    assert "the budget's ledger cannot be used" in str(errors[0])
    assert balance(ledger).held == Amount(3, 3, 3)
    assert ledger.reconcile(now=1.0) == []


# --- databases that cannot be used ---


def test_a_table_that_is_missing_is_a_store_error_and_nothing_is_changed(ledger: SqlLedger, database: Database) -> None:
    reserve(ledger, "a", Amount(60, 10, 1))
    execute(database, "ALTER TABLE tokopt_ledger_journal RENAME TO gone")
    with pytest.raises(StoreError, match="tokopt_ledger_journal"):
        settle(ledger, "a", Amount(60, 10, 1))
    with pytest.raises(StoreError, match="tokopt_ledger_journal"):
        ledger.journal()
    execute(database, "ALTER TABLE gone RENAME TO tokopt_ledger_journal")
    assert balance(ledger) == Balance(NOTHING, Amount(60, 10, 1))
    assert settle(ledger, "a", Amount(60, 10, 1)).outcome == "settled"


def test_a_newer_schema_is_refused(database: Database) -> None:
    database.migrate(COMPONENT, [*STEPS, lambda connection: None])
    with pytest.raises(StoreError, match="'budget' have version 3, and this langchain-tokopt knows versions up to 2"):
        SqlLedger(database)


def test_a_closed_database_is_a_store_error(ledger: SqlLedger, database: Database) -> None:
    database.close()
    with pytest.raises(StoreError, match="is closed"):
        reserve(ledger, "a", Amount(1, 1, 1))
    with pytest.raises(StoreError, match="is closed"):
        ledger.balances([ROOT])


def test_closing_the_ledger_leaves_the_database_open(ledger: SqlLedger) -> None:
    ledger.close()
    assert isinstance(reserve(ledger, "a", Amount(1, 1, 1)), Granted)


def test_a_damaged_file_is_a_store_error_and_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = Database(path)
    SqlLedger(database)
    database.close()
    database = Database(path)
    ledger = SqlLedger(database)
    damage = b"not a database at all " * 5000
    path.write_bytes(damage)
    with pytest.raises(StoreError, match="is damaged and was left as it is"):
        reserve(ledger, "a", Amount(1, 1, 1))
    database.close()
    assert path.read_bytes() == damage


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else False, reason="root may write everything")
def test_a_read_only_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = Database(path)
    SqlLedger(database)
    database.close()
    path.chmod(0o400)
    database = Database(path)
    with pytest.raises(StoreError, match=r"readonly database.*give this user the right"):
        reserve(SqlLedger(database), "a", Amount(1, 1, 1))
    database.close()


def test_a_database_that_may_only_be_read_says_so_and_can_be_looked_into(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = Database(path)
    reserve(SqlLedger(database), "a", Amount(1, 1, 1))
    database.close()
    database = Database(f"sqlite:///file:{path}?mode=ro&uri=true")
    ledger = SqlLedger(database)
    assert balance(ledger).held == Amount(1, 1, 1)
    with pytest.raises(StoreError, match=r"readonly database.*give this user the right"):
        settle(ledger, "a", Amount(1, 1, 1))
    database.close()


def test_a_database_that_stays_locked_is_a_store_error(tmp_path: Path) -> None:
    holder, database = Database(tmp_path / "a.db"), Database(tmp_path / "a.db", lock_timeout_seconds=0.05)
    ledger = SqlLedger(database)
    with holder.write(), pytest.raises(StoreError, match=r"has been locked for 0\.05 s"):
        reserve(ledger, "a", Amount(1, 1, 1))
    assert isinstance(reserve(ledger, "a", Amount(1, 1, 1)), Granted)
    database.close()
    holder.close()


def test_rows_that_vanish_are_opened_anew(ledger: SqlLedger, database: Database) -> None:
    reserve(ledger, "a", Amount(60, 10, 1))
    settle(ledger, "a", Amount(60, 10, 1))
    for table in ("accounts", "routes", "nodes", "reservations", "journal"):
        execute(database, f"DELETE FROM tokopt_ledger_{table}")
    assert reserve(ledger, "a", Amount(100, 10, 1)) == Granted({ROOT: Balance(NOTHING, Amount(100, 10, 1))})
    assert isinstance(reserve(ledger, "b", Amount(1, 1, 1)), Refusal)
    assert settle(ledger, "a", Amount(5, 5, 1)).outcome == "settled"
    assert [entry.action for entry in ledger.journal(node="")] == ["settled", "reserved"]
    assert ledger.reconcile(now=1.0) == []


def test_a_connection_that_is_lost_between_reserve_and_settle_is_replaced(
    ledger: SqlLedger, database: Database
) -> None:
    only(database, "postgresql")
    reserve(ledger, "a", Amount(60, 10, 1))
    with database.read() as connection:
        mine = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND pid = ANY(:pids)"
        )
        pids = [one.info.backend_pid for one in database._direct._idle]
        connection.execute(text(mine), {"pids": pids})
    assert len(pids) == 1
    assert settle(ledger, "a", Amount(50, 10, 1)).outcome == "settled"


def test_a_connection_that_is_lost_in_a_transaction_changes_nothing(ledger: SqlLedger, database: Database) -> None:
    only(database, "postgresql")
    reserve(ledger, "a", Amount(60, 10, 1))
    save = ledger._tables.save

    def cut(cursor: Any, machine: Any) -> None:
        with database.read() as connection:
            connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": cursor.connection.info.backend_pid})
        save(cursor, machine)

    ledger._tables.save = cut  # type: ignore[method-assign]
    with pytest.raises(StoreError):
        settle(ledger, "a", Amount(50, 10, 1))
    ledger._tables.save = save  # type: ignore[method-assign]
    assert balance(ledger) == Balance(NOTHING, Amount(60, 10, 1))
    assert settle(ledger, "a", Amount(50, 10, 1)).outcome == "settled"


# --- conflicts on PostgreSQL ---


def test_a_transaction_that_lost_a_conflict_is_made_again(ledger: SqlLedger, database: Database) -> None:
    only(database, "postgresql")
    other, save = SqlLedger(database), ledger._tables.save
    for n, either in enumerate((ledger, other, ledger, other)):  # who has seen an account need not open it
        reserve(either, f"before {n}", Amount(0, 0, 1), Cap(ROOT), Cap(SHOP))
    saved: list[object] = []

    def late(cursor: Any, machine: Any) -> None:
        saved.append(machine)
        if len(saved) == 1:
            # On other accounts, so that it does not wait: both believe that the reservation is theirs.
            all_at_once(lambda: reserve(other, "a", Amount(7, 7, 1), Cap(SHOP)))
        save(cursor, machine)

    ledger._tables.save = late  # type: ignore[method-assign]
    granted = reserve(ledger, "a", Amount(60, 10, 1), Cap(ROOT))
    assert granted == Granted({SHOP: Balance(NOTHING, Amount(7, 7, 5))})
    assert len(saved) == 1
    assert balance(ledger) == Balance(NOTHING, Amount(0, 0, 4))
    assert ledger.reconcile(now=1.0) == []


# --- which budgets there are ---


def test_the_budgets_of_a_database_are_known(database: Database) -> None:
    assert budget_names(database) == []
    reserve(SqlLedger(database, budget="b"), "a", Amount(1, 1, 1))
    SqlLedger(database, budget="never used")
    SqlLedger(database, budget="a").put_limits([StoredLimit("", "day", 1)], now=1.0)
    assert budget_names(database) == ["a", "b"]
