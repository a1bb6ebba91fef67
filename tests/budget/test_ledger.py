"""The ledger, on every database: one atomic step to reserve, and nothing that is spent gets lost."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from langchain_tokopt.budget.accounts import Account, Balance, Cap, Correction, Expired, Settlement
from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledger import Ledger
from langchain_tokopt.database import Database
from langchain_tokopt.errors import StoreError

DAY = Account("default:day", 86_400)
TEAM = Account("team:day", 86_400)


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return Ledger(database)


def reserve(ledger: Ledger, reservation: str, amount: Amount, *caps: Cap, now: float = 0.0) -> Any:
    return ledger.reserve(reservation, caps or [Cap(DAY, 100, 100)], amount, now=now, expires_at=now + 60)


def journal(database: Database) -> list[tuple[Any, ...]]:
    with database.read() as connection:
        rows = connection.execute(
            text(
                "SELECT reservation, action, spent_nano, spent_tokens, held_nano, held_tokens "
                "FROM tokopt_budget_journal ORDER BY id"
            )
        )
        return [tuple(row) for row in rows]


# --- reserving ---


def test_what_is_reserved_is_held(ledger: Ledger) -> None:
    assert reserve(ledger, "a", Amount(60, 10)) is None
    assert ledger.balance(DAY) == Balance(Amount(), Amount(60, 10))


def test_the_limit_can_be_used_up_to_the_last_unit(ledger: Ledger) -> None:
    assert reserve(ledger, "a", Amount(60, 10)) is None
    assert reserve(ledger, "b", Amount(40, 90)) is None
    assert ledger.balance(DAY).held == Amount(100, 100)


@pytest.mark.parametrize("amount", [Amount(41, 1), Amount(1, 91)])
def test_what_does_not_fit_is_refused_with_the_figures(ledger: Ledger, amount: Amount) -> None:
    reserve(ledger, "a", Amount(60, 10))
    refusal = reserve(ledger, "b", amount)
    assert refusal.cap == Cap(DAY, 100, 100)
    assert refusal.balance == Balance(Amount(), Amount(60, 10))
    assert ledger.balance(DAY).held == Amount(60, 10)


def test_a_unit_without_a_limit_is_counted_all_the_same(ledger: Ledger) -> None:
    assert reserve(ledger, "a", Amount(10**15, 10), Cap(DAY, tokens=100)) is None
    assert ledger.balance(DAY).held == Amount(10**15, 10)


def test_one_account_that_refuses_leaves_the_others_untouched(ledger: Ledger, database: Database) -> None:
    refusal = reserve(ledger, "a", Amount(60, 0), Cap(DAY, 100), Cap(TEAM, 50))
    assert refusal.cap == Cap(TEAM, 50)
    assert ledger.balance(DAY) == ledger.balance(TEAM) == Balance()
    assert journal(database) == []


def test_a_reservation_on_several_accounts_is_settled_on_all(ledger: Ledger) -> None:
    assert reserve(ledger, "a", Amount(60, 6), Cap(TEAM, 100), Cap(DAY, 100)) is None
    ledger.settle("a", [], Amount(50, 5), now=1.0)
    assert ledger.balance(DAY) == ledger.balance(TEAM) == Balance(Amount(50, 5), Amount())


# --- settling and releasing ---


def test_a_settlement_books_what_was_used_and_frees_the_rest(ledger: Ledger, database: Database) -> None:
    reserve(ledger, "a", Amount(60, 10))
    assert ledger.settle("a", [DAY], Amount(25, 4), now=1.0) == Settlement("settled")
    assert ledger.balance(DAY) == Balance(Amount(25, 4), Amount())
    assert journal(database) == [("a", "reserved", 0, 0, 60, 10), ("a", "settled", 25, 4, -60, -10)]


def test_settling_twice_changes_nothing(ledger: Ledger, database: Database) -> None:
    reserve(ledger, "a", Amount(60, 10))
    ledger.settle("a", [DAY], Amount(25, 4), now=1.0)
    assert ledger.settle("a", [DAY], Amount(99, 99), now=2.0) == Settlement("again")
    assert ledger.release("a", now=3.0) is None
    assert ledger.balance(DAY) == Balance(Amount(25, 4), Amount())
    assert len(journal(database)) == 2


def test_what_is_used_beyond_the_reservation_is_overage(ledger: Ledger, database: Database) -> None:
    reserve(ledger, "a", Amount(60, 10))
    assert ledger.settle("a", [DAY], Amount(150, 4), now=1.0) == Settlement("settled", Amount(90, 0))
    assert ledger.balance(DAY) == Balance(Amount(150, 4), Amount())
    assert journal(database)[1:] == [("a", "settled", 60, 4, -60, -10), ("a", "overage", 90, 0, 0, 0)]
    assert reserve(ledger, "b", Amount(1, 0)) is not None


def test_a_release_frees_everything_once(ledger: Ledger, database: Database) -> None:
    reserve(ledger, "a", Amount(60, 10))
    assert ledger.release("a", now=1.0, reason="TimeoutError") == Amount(60, 10)
    assert ledger.release("a", now=2.0) is None
    assert ledger.balance(DAY) == Balance()
    assert journal(database)[1:] == [("a", "released", 0, 0, -60, -10)]


# --- leases ---


def test_a_reservation_whose_lease_ran_out_is_freed(ledger: Ledger) -> None:
    reserve(ledger, "a", Amount(60, 10))
    assert ledger.sweep(now=59.9) == []
    assert ledger.sweep(now=60.0) == [Expired("a", (DAY,), Amount(60, 10))]
    assert ledger.sweep(now=60.0) == []
    assert ledger.balance(DAY) == Balance()


def test_a_renewed_lease_does_not_run_out(ledger: Ledger) -> None:
    reserve(ledger, "a", Amount(60, 10))
    reserve(ledger, "b", Amount(1, 1))
    ledger.settle("b", [DAY], Amount(1, 1), now=1.0)
    assert ledger.renew(["b", "a", "never made"], expires_at=200.0) == 1
    assert ledger.sweep(now=199.0) == []
    assert len(ledger.sweep(now=200.0)) == 1
    assert ledger.renew([], expires_at=300.0) == 0


@pytest.mark.parametrize("end", ["sweep", "release"])
def test_a_late_settlement_is_overage_and_not_lost(ledger: Ledger, database: Database, end: str) -> None:
    reserve(ledger, "a", Amount(60, 10))
    if end == "sweep":
        ledger.sweep(now=60.0)
    else:
        ledger.release("a", now=60.0)
    assert ledger.settle("a", [TEAM], Amount(25, 4), now=61.0) == Settlement("late", Amount(25, 4))
    assert ledger.balance(DAY) == Balance(Amount(25, 4), Amount())
    assert ledger.balance(TEAM) == Balance()
    assert journal(database)[-1] == ("a", "overage", 25, 4, 0, 0)
    assert ledger.settle("a", [DAY], Amount(25, 4), now=62.0) == Settlement("again")


def test_a_settlement_of_what_never_reached_the_ledger_is_booked_once(ledger: Ledger) -> None:
    assert ledger.settle("a", [DAY], Amount(25, 4), now=1.0) == Settlement("late", Amount(25, 4))
    assert ledger.settle("a", [DAY], Amount(25, 4), now=2.0) == Settlement("again")
    assert ledger.balance(DAY) == Balance(Amount(25, 4), Amount())


# --- repairing ---


def test_reconcile_rebuilds_counters_that_were_tampered_with(ledger: Ledger, database: Database) -> None:
    reserve(ledger, "a", Amount(60, 10))
    reserve(ledger, "b", Amount(10, 10), Cap(TEAM))
    ledger.settle("a", [DAY], Amount(25, 4), now=1.0)
    assert ledger.reconcile(now=2.0) == []
    with database.write() as connection:
        connection.execute(text("UPDATE tokopt_budget_counters SET spent_nano = 1, held_tokens = 7 WHERE key = :key"), {"key": DAY.key})  # fmt: skip # noqa: E501
        connection.execute(text("DELETE FROM tokopt_budget_counters WHERE key = :key"), {"key": TEAM.key})
    assert ledger.reconcile(now=3.0) == [
        Correction(DAY, Balance(Amount(1, 4), Amount(0, 7)), Balance(Amount(25, 4), Amount())),
        Correction(TEAM, Balance(), Balance(Amount(), Amount(10, 10))),
    ]
    assert ledger.balance(DAY) == Balance(Amount(25, 4), Amount())
    assert ledger.balance(TEAM) == Balance(Amount(), Amount(10, 10))
    assert ledger.reconcile(now=4.0) == []


def test_the_latest_accounts_are_found_by_prefix(ledger: Ledger) -> None:
    for n, key in enumerate(["x:run:1", "x:run:2", "x:run_:3", "y:run:4", "x:run:5"]):
        reserve(ledger, key, Amount(n, n), Cap(Account(key, 0)), now=float(n))
    assert list(ledger.latest("x:run:", count=2)) == ["x:run:5", "x:run:2"]
    assert ledger.latest("x:run:", count=9)["x:run:5"] == Balance(Amount(), Amount(4, 4))


def test_a_database_without_its_tables_is_a_store_error(ledger: Ledger, database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("DROP TABLE tokopt_budget_journal"))
    with pytest.raises(StoreError, match="tokopt_budget_journal"):
        reserve(ledger, "a", Amount(1, 1))
    assert ledger.balance(DAY) == Balance()


def test_a_second_ledger_goes_on_where_the_first_stopped(database: Database) -> None:
    reserve(Ledger(database), "a", Amount(60, 10))
    assert Ledger(database).balance(DAY).held == Amount(60, 10)


# --- all at once ---


def test_threads_that_reserve_and_settle_at_once_never_pass_the_limit(ledger: Ledger) -> None:
    made: list[bool] = []
    start = threading.Barrier(8)

    def spend(thread: int) -> None:
        start.wait()
        for n in range(6):
            name = f"{thread}.{n}"
            fits = reserve(ledger, name, Amount(20, 1), Cap(DAY, 300), Cap(TEAM, 500)) is None
            made.append(fits)
            if fits:
                ledger.settle(name, [], Amount(15, 1), now=1.0)
            ledger.sweep(now=2.0)

    threads = [threading.Thread(target=spend, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    balance = ledger.balance(DAY)
    assert len(made) == 48
    assert balance == Balance(Amount(15 * sum(made), sum(made)), Amount())
    assert balance == ledger.balance(TEAM)
    # Held at 20, 15 fit at once; settled at 15 each, a 20th finds 285 of 300 spent.
    assert 15 <= sum(made) <= 19
    assert ledger.reconcile(now=3.0) == []


Step = tuple[str, int, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "reserve", "settle", "settle", "release", "sweep", "renew"]),
        st.integers(0, 7),
        st.integers(0, 70),
        st.integers(0, 70),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_counters_agree_with_the_journal_after_any_sequence_of_steps(steps: list[Step]) -> None:
    database = Database()
    ledger = Ledger(database)
    held: dict[str, tuple[Amount, float]] = {}
    ended: set[str] = set()
    settled: set[str] = set()
    spent, now, made = Amount(), 0.0, 0
    try:
        for action, which, nano, tokens in steps:
            now += which * 5
            amount, name = Amount(nano, tokens), str(which)
            taken = sum((a for a, _ in held.values()), spent)
            if action == "reserve":
                name = str(made)
                fits = taken.nano + nano <= 100 and taken.tokens + tokens <= 100
                assert (reserve(ledger, name, amount, now=now) is None) is fits
                if fits:
                    held[name] = (amount, now + 60)
                    made += 1
            elif action == "settle" and which < made:
                expected = "again" if name in settled else "settled" if name in held else "late"
                assert ledger.settle(name, [DAY], amount, now=now).outcome == expected
                if expected != "again":
                    spent += amount
                settled.add(name)
                held.pop(name, None)
            elif action == "release" and which < made:
                was = held.pop(name, None)
                assert ledger.release(name, now=now) == (None if was is None else was[0])
                ended.add(name)
            elif action == "sweep":
                dead = {name: amount for name, (amount, until) in held.items() if until <= now}
                assert {one.reservation: one.amount for one in ledger.sweep(now=now)} == dead
                held = {name: one for name, one in held.items() if name not in dead}
            elif action == "renew":
                assert ledger.renew([name], expires_at=now + 60) == (name in held)
                if name in held:
                    held[name] = (held[name][0], now + 60)
            balance = ledger.balance(DAY)
            assert balance == Balance(spent, sum((a for a, _ in held.values()), Amount()))
            assert ledger.reconcile(now=now) == []
    finally:
        database.close()
