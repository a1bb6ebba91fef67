"""What every ledger must do: one suite, to be run over each store.

A test module inherits `LedgerContract` as a class named `Test...` and has two fixtures: `connect`, which opens a ledger
of the given budget ("default" unless said otherwise) on one and the same store, and `ledger`, which is `connect()`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from decimal import Decimal

import pytest

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.contract import Ledger
from langchain_tokopt.budget.ledgers.words import (
    NOTHING,
    Account,
    Balance,
    Bucket,
    Cap,
    Entry,
    Expired,
    Granted,
    Refusal,
    Settlement,
    Short,
    StoredLimit,
    Valued,
)

Connect = Callable[..., Ledger]

DAY = 86_400
PATH = "project=shop/user=alice"
ROOT = Account("", "day", DAY)
SHOP = Account("project=shop", "day", DAY)
ALICE = Account(PATH, "day", DAY)
RUN = Account("", "run", 0, "run: 1")
ALL = (ROOT, SHOP, ALICE, RUN)


def reserve(
    ledger: Ledger,
    reservation: str,
    amount: Amount,
    *caps: Cap,
    path: str = PATH,
    now: float = 100_000.0,
    seconds: float = 60.0,
) -> Granted | Refusal:
    """Reserve for a minute; on `ROOT` with a limit of 100 in every unit unless said otherwise."""
    caps = caps or (Cap(ROOT, 100, 100, 100),)
    return ledger.reserve(reservation, caps, amount, path=path, now=now, expires_at=now + seconds)


def settle(
    ledger: Ledger,
    reservation: str,
    actual: Amount,
    *,
    accounts: Sequence[Account] = (ROOT,),
    path: str = PATH,
    now: float = 100_001.0,
    reason: str | None = None,
) -> Settlement:
    return ledger.settle(reservation, actual, accounts=accounts, path=path, now=now, reason=reason)


def balance(ledger: Ledger, account: Account = ROOT) -> Balance:
    return ledger.balances([account])[account]


def lines(ledger: Ledger, **which: object) -> list[tuple[str, str, Amount, Amount]]:
    """The journal from its beginning: reservation, action, what was spent and what was held."""
    entries = ledger.journal(**which)  # type: ignore[arg-type]
    return [(entry.reservation, entry.action, entry.spent, entry.held) for entry in reversed(entries)]


def told(entry: Entry) -> Entry:
    """The entry without its id, and its accounts in their own order."""
    return Entry(
        "",
        entry.at,
        entry.action,
        entry.path,
        entry.reservation,
        tuple(sorted(entry.accounts)),
        entry.spent,
        entry.held,
        entry.reason,
    )


def all_at_once(*work: Callable[[], None]) -> None:
    """Run each in a thread of its own, as simultaneously as can be; what one raises is raised here."""
    start, failed = threading.Barrier(len(work)), list[BaseException]()

    def run(one: Callable[[], None]) -> None:
        try:
            start.wait()
            one()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


class Reserving:
    def test_what_is_reserved_is_held(self, ledger: Ledger) -> None:
        granted = reserve(ledger, "a", Amount(60, 10, 1))
        assert granted == Granted({ROOT: Balance(NOTHING, Amount(60, 10, 1))})
        assert ledger.balances([ROOT, SHOP]) == {ROOT: Balance(NOTHING, Amount(60, 10, 1)), SHOP: Balance()}

    def test_a_grant_tells_the_balances_of_all_accounts_right_after_it(self, ledger: Ledger) -> None:
        reserve(ledger, "a", Amount(5, 5, 1), Cap(ROOT), Cap(SHOP))
        settle(ledger, "a", Amount(4, 4, 1))
        granted = reserve(ledger, "b", Amount(60, 10, 1), Cap(ROOT, 100), Cap(ALICE, 60))
        assert granted == Granted(
            {ROOT: Balance(Amount(4, 4, 1), Amount(60, 10, 1)), ALICE: Balance(NOTHING, Amount(60, 10, 1))}
        )

    def test_a_limit_can_be_used_up_to_the_last_unit(self, ledger: Ledger) -> None:
        assert isinstance(reserve(ledger, "a", Amount(60, 10, 99)), Granted)
        assert isinstance(reserve(ledger, "b", Amount(40, 90, 1)), Granted)
        assert balance(ledger).held == Amount(100, 100, 100)

    @pytest.mark.parametrize("amount", [Amount(41, 1, 1), Amount(1, 91, 1), Amount(1, 1, 100)])
    def test_what_does_not_fit_is_refused_with_the_figures(self, ledger: Ledger, amount: Amount) -> None:
        reserve(ledger, "a", Amount(60, 10, 1))
        refused = reserve(ledger, "b", amount)
        held = Balance(NOTHING, Amount(60, 10, 1))
        assert refused == Refusal((Short(Cap(ROOT, 100, 100, 100), held),))
        assert balance(ledger) == held

    def test_every_cap_that_is_too_small_is_named_in_the_order_given(self, ledger: Ledger) -> None:
        caps = (Cap(SHOP, 50), Cap(ROOT, 100), Cap(RUN, tokens=9), Cap(ALICE))
        reserve(ledger, "a", Amount(10, 1, 1), Cap(SHOP))
        assert reserve(ledger, "b", Amount(60, 10, 1), *caps) == Refusal(
            (Short(caps[0], Balance(NOTHING, Amount(10, 1, 1))), Short(caps[2], Balance()))
        )

    def test_a_refusal_changes_nothing(self, ledger: Ledger) -> None:
        assert isinstance(reserve(ledger, "a", Amount(60, 0, 1), Cap(ROOT, 100), Cap(SHOP, 50)), Refusal)
        assert ledger.balances([ROOT, SHOP]) == {ROOT: Balance(), SHOP: Balance()}
        assert ledger.accounts(per="day", period=DAY) == {}
        assert ledger.journal() == []
        assert ledger.release("a", now=100_000.0) is None
        assert isinstance(reserve(ledger, "a", Amount(50, 0, 1), Cap(ROOT, 100), Cap(SHOP, 50)), Granted)

    def test_a_unit_without_a_limit_is_counted_all_the_same(self, ledger: Ledger) -> None:
        assert isinstance(reserve(ledger, "a", Amount(10**15, 10, 7), Cap(ROOT, tokens=100)), Granted)
        assert balance(ledger).held == Amount(10**15, 10, 7)

    def test_a_unit_of_which_nothing_is_asked_fits_even_beyond_its_limit(self, ledger: Ledger) -> None:
        settle(ledger, "a", Amount(150, 0, 0))
        assert isinstance(reserve(ledger, "b", Amount(0, 10, 1)), Granted)
        assert isinstance(reserve(ledger, "c", Amount(1, 10, 1)), Refusal)

    def test_a_reservation_that_is_known_is_granted_again_and_held_once(self, ledger: Ledger) -> None:
        first = reserve(ledger, "a", Amount(60, 10, 1))
        assert reserve(ledger, "a", Amount(60, 10, 1)) == first
        assert balance(ledger) == Balance(NOTHING, Amount(60, 10, 1))
        settle(ledger, "a", Amount(60, 10, 1))
        assert isinstance(reserve(ledger, "a", Amount(60, 10, 1)), Granted)
        assert balance(ledger) == Balance(Amount(60, 10, 1), NOTHING)
        assert len(ledger.journal()) == 2

    def test_large_amounts_are_exact(self, ledger: Ledger) -> None:
        most = 10**18
        assert isinstance(reserve(ledger, "a", Amount(most, most, 1), Cap(ROOT, most + 1, most + 1)), Granted)
        assert isinstance(reserve(ledger, "b", Amount(2, 0, 1), Cap(ROOT, most + 1, most + 1)), Refusal)
        assert isinstance(reserve(ledger, "c", Amount(0, 2, 1), Cap(ROOT, most + 1, most + 1)), Refusal)
        assert isinstance(reserve(ledger, "d", Amount(1, 1, 1), Cap(ROOT, most + 1, most + 1)), Granted)
        settle(ledger, "a", Amount(most - 1, most - 3, 1))
        assert balance(ledger) == Balance(Amount(most - 1, most - 3, 1), Amount(1, 1, 1))
        assert ledger.reconcile(now=100_002.0) == []

    def test_periods_and_scopes_are_accounts_of_their_own(self, ledger: Ledger) -> None:
        others = (Account("", "day", 2 * DAY), Account("", "hour", DAY), Account("", "run", 0, "run: 2"))
        reserve(ledger, "a", Amount(60, 10, 1), Cap(ROOT, 100), Cap(RUN, 100))
        assert isinstance(reserve(ledger, "b", Amount(60, 10, 1), *(Cap(other, 100) for other in others)), Granted)
        assert isinstance(reserve(ledger, "c", Amount(60, 10, 1), Cap(RUN, 100)), Refusal)

    def test_budgets_do_not_see_each_other(self, ledger: Ledger, connect: Connect) -> None:
        other = connect("other")
        reserve(ledger, "a", Amount(60, 10, 1))
        assert isinstance(reserve(other, "a", Amount(70, 0, 1)), Granted)
        assert settle(other, "a", Amount(5, 0, 1)).outcome == "settled"
        assert balance(ledger) == Balance(NOTHING, Amount(60, 10, 1))
        assert balance(other) == Balance(Amount(5, 0, 1), NOTHING)
        assert [entry.held for entry in ledger.journal()] == [Amount(60, 10, 1)]
        assert other.sweep(now=1e9) == []
        assert len(ledger.sweep(now=1e9)) == 1

    def test_a_second_ledger_on_the_same_store_goes_on_where_the_first_stopped(
        self, ledger: Ledger, connect: Connect
    ) -> None:
        reserve(ledger, "a", Amount(60, 10, 1))
        second = connect()
        assert isinstance(reserve(second, "b", Amount(41, 0, 1)), Refusal)
        assert settle(second, "a", Amount(50, 10, 1)).outcome == "settled"
        assert balance(ledger) == Balance(Amount(50, 10, 1), NOTHING)


class Settling:
    def test_a_settlement_books_what_was_used_and_frees_the_rest(self, ledger: Ledger) -> None:
        reserve(ledger, "a", Amount(60, 10, 1), *map(Cap, ALL))
        after = Balance(Amount(25, 4, 1), NOTHING)
        assert settle(ledger, "a", Amount(25, 4, 1)) == Settlement("settled", NOTHING, dict.fromkeys(ALL, after))
        assert ledger.balances(ALL) == dict.fromkeys(ALL, after)
        assert lines(ledger) == [
            ("a", "reserved", NOTHING, Amount(60, 10, 1)),
            ("a", "settled", Amount(25, 4, 1), Amount(-60, -10, -1)),
        ]

    def test_settling_twice_changes_nothing(self, ledger: Ledger) -> None:
        reserve(ledger, "a", Amount(60, 10, 1))
        settle(ledger, "a", Amount(25, 4, 1))
        assert settle(ledger, "a", Amount(99, 99, 1)) == Settlement("again")
        assert ledger.release("a", now=100_003.0) is None
        assert ledger.renew(["a"], expires_at=200_000.0) == 0
        assert balance(ledger) == Balance(Amount(25, 4, 1), NOTHING)
        assert len(ledger.journal()) == 2

    def test_what_is_used_beyond_the_reservation_is_overage(self, ledger: Ledger) -> None:
        reserve(ledger, "a", Amount(60, 10, 1))
        done = settle(ledger, "a", Amount(150, 4, 2), reason="more came")
        assert done == Settlement("settled", Amount(90, 0, 1), {ROOT: Balance(Amount(150, 4, 2), NOTHING)})
        assert lines(ledger)[1:] == [
            ("a", "settled", Amount(60, 4, 1), Amount(-60, -10, -1)),
            ("a", "overage", Amount(90, 0, 1), NOTHING),
        ]
        assert [entry.reason for entry in ledger.journal()] == ["more came", "more came", None]
        assert isinstance(reserve(ledger, "b", Amount(1, 0, 1)), Refusal)

    def test_it_is_booked_where_it_was_reserved(self, ledger: Ledger) -> None:
        reserve(ledger, "a", Amount(60, 10, 1))
        later = Account("", "day", 2 * DAY)
        settle(ledger, "a", Amount(25, 4, 1), accounts=[later], path="elsewhere", now=2 * DAY + 1.0)
        assert ledger.balances([ROOT, later]) == {ROOT: Balance(Amount(25, 4, 1), NOTHING), later: Balance()}
        assert {entry.path for entry in ledger.journal()} == {PATH}

    def test_a_lease_that_ran_out_but_was_not_swept_settles_as_any_other(self, ledger: Ledger) -> None:
        reserve(ledger, "a", Amount(60, 10, 1))
        assert settle(ledger, "a", Amount(25, 4, 1), now=200_000.0).outcome == "settled"
        assert balance(ledger) == Balance(Amount(25, 4, 1), NOTHING)

    @pytest.mark.parametrize("end", ["sweep", "release"])
    def test_a_late_settlement_is_overage_and_not_lost(self, ledger: Ledger, end: str) -> None:
        reserve(ledger, "a", Amount(60, 10, 1), Cap(ROOT), Cap(ALICE))
        if end == "sweep":
            ledger.sweep(now=100_060.0)
        else:
            ledger.release("a", now=100_060.0)
        after = Balance(Amount(25, 4, 1), NOTHING)
        late = settle(ledger, "a", Amount(25, 4, 1), accounts=[SHOP], path="elsewhere", now=100_061.0)
        assert late == Settlement("late", Amount(25, 4, 1), {ROOT: after, ALICE: after})
        assert ledger.balances([ROOT, SHOP, ALICE]) == {ROOT: after, SHOP: Balance(), ALICE: after}
        newest = ledger.journal()[0]
        assert told(newest) == Entry(
            "", 100_061.0, "overage", PATH, "a", (ROOT, ALICE), Amount(25, 4, 1), NOTHING, None
        )
        assert settle(ledger, "a", Amount(25, 4, 1)) == Settlement("again")

    def test_a_settlement_of_what_never_reached_the_ledger_is_booked_once(self, ledger: Ledger) -> None:
        after = Balance(Amount(25, 4, 1), NOTHING)
        late = settle(ledger, "a", Amount(25, 4, 1), accounts=ALL)
        assert late == Settlement("late", Amount(25, 4, 1), dict.fromkeys(ALL, after))
        assert settle(ledger, "a", Amount(25, 4, 1), accounts=ALL) == Settlement("again")
        assert ledger.balances(ALL) == dict.fromkeys(ALL, after)
        assert told(ledger.journal()[0]) == Entry(
            "", 100_001.0, "overage", PATH, "a", tuple(sorted(ALL)), Amount(25, 4, 1), NOTHING, None
        )
        assert isinstance(reserve(ledger, "a", Amount(1, 1, 1)), Granted)
        assert balance(ledger) == after

    def test_a_release_frees_everything_once(self, ledger: Ledger) -> None:
        reserve(ledger, "a", Amount(60, 10, 1), *map(Cap, ALL))
        assert ledger.release("a", now=100_001.0, reason="TimeoutError") == Amount(60, 10, 1)
        assert ledger.release("a", now=100_002.0) is None
        assert ledger.release("never made", now=100_002.0) is None
        assert ledger.balances(ALL) == dict.fromkeys(ALL, Balance())
        assert lines(ledger)[1:] == [("a", "released", NOTHING, Amount(-60, -10, -1))]
        assert ledger.journal()[0].reason == "TimeoutError"


class Leasing:
    def test_a_reservation_whose_lease_ran_out_is_freed(self, ledger: Ledger) -> None:
        reserve(ledger, "a", Amount(60, 10, 1), Cap(ROOT), Cap(ALICE))
        assert ledger.sweep(now=100_059.9) == []
        assert ledger.sweep(now=100_060.0) == [Expired("a", PATH, Amount(60, 10, 1))]
        assert ledger.sweep(now=100_060.0) == []
        assert ledger.balances([ROOT, ALICE]) == {ROOT: Balance(), ALICE: Balance()}
        assert lines(ledger)[1:] == [("a", "expired", NOTHING, Amount(-60, -10, -1))]

    def test_a_sweep_frees_many_at_once_and_only_what_is_held(self, ledger: Ledger) -> None:
        for n in range(300):
            reserve(ledger, f"{n:03}", Amount(1, n, 1), Cap(ROOT))
        settle(ledger, "000", Amount(1, 0, 1))
        ledger.release("001", now=100_001.0)
        ledger.renew(["002"], expires_at=200_000.0)
        expired = ledger.sweep(now=100_060.0)
        assert sorted(expired, key=lambda one: one.reservation) == [
            Expired(f"{n:03}", PATH, Amount(1, n, 1)) for n in range(3, 300)
        ]
        assert balance(ledger) == Balance(Amount(1, 0, 1), Amount(1, 2, 1))
        assert ledger.reconcile(now=100_061.0) == []

    def test_a_renewed_lease_does_not_run_out(self, ledger: Ledger) -> None:
        reserve(ledger, "a", Amount(60, 10, 1))
        reserve(ledger, "b", Amount(1, 1, 1))
        settle(ledger, "b", Amount(1, 1, 1))
        assert ledger.renew(["b", "a", "never made"], expires_at=200_000.0) == 1
        assert ledger.sweep(now=199_999.0) == []
        assert len(ledger.sweep(now=200_000.0)) == 1
        assert ledger.renew(["a"], expires_at=300_000.0) == 0
        assert ledger.renew([], expires_at=300_000.0) == 0


class Looking:
    def test_no_account_has_no_balance(self, ledger: Ledger) -> None:
        assert ledger.balances([]) == {}

    def test_the_accounts_of_a_period_are_those_in_which_something_happened(self, ledger: Ledger) -> None:
        hour = Account("", "hour", DAY)
        reserve(ledger, "a", Amount(1, 1, 1), Cap(ROOT), Cap(hour), Cap(RUN), now=1.0)
        reserve(ledger, "b", Amount(2, 2, 1), Cap(SHOP), Cap(Account("", "day", 2 * DAY)), now=2.0)
        settle(ledger, "c", Amount(3, 3, 1), accounts=[ALICE], now=3.0)
        reserve(ledger, "d", Amount(4, 4, 1), Cap(ROOT), now=4.0)
        found = ledger.accounts(per="day", period=DAY)
        assert list(found.items()) == [
            (ALICE, Balance(Amount(3, 3, 1), NOTHING)),
            (SHOP, Balance(NOTHING, Amount(2, 2, 1))),
            (ROOT, Balance(NOTHING, Amount(5, 5, 2))),
        ]
        assert list(ledger.accounts(per="day", period=DAY, count=2)) == [ALICE, SHOP]
        assert ledger.accounts(per="run", period=0) == {RUN: Balance(NOTHING, Amount(1, 1, 1))}
        assert ledger.accounts(per="month", period=DAY) == {}

    def test_the_journal_tells_everything_newest_first(self, ledger: Ledger) -> None:
        reserve(ledger, "a", Amount(60, 10, 1), *map(Cap, ALL))
        settle(ledger, "a", Amount(25, 4, 1), reason="estimated")
        accounts = tuple(sorted(ALL))
        entries = ledger.journal()
        assert list(map(told, entries)) == [
            Entry("", 100_001.0, "settled", PATH, "a", accounts, Amount(25, 4, 1), Amount(-60, -10, -1), "estimated"),
            Entry("", 100_000.0, "reserved", PATH, "a", accounts, NOTHING, Amount(60, 10, 1), None),
        ]
        assert len({entry.id for entry in entries}) == 2

    def test_the_journal_is_asked_by_node_reservation_and_time(self, ledger: Ledger) -> None:
        reserve(ledger, "a", Amount(1, 1, 1), Cap(ROOT), Cap(SHOP), now=1.0)
        reserve(ledger, "b", Amount(1, 1, 1), Cap(ROOT), path="", now=2.0)
        reserve(ledger, "c", Amount(1, 1, 1), Cap(ALICE), now=3.0)
        ledger.release("b", now=4.0)
        ledger.put_limits([StoredLimit("project=shop", "day", 100)], now=5.0)
        ledger.put_limits([StoredLimit("", "day", 100)], now=6.0)

        def found(**which: object) -> list[tuple[str, float]]:
            return [(entry.reservation, entry.at) for entry in ledger.journal(**which)]  # type: ignore[arg-type]

        assert found(node="project=shop") == [("", 5.0), ("a", 1.0)]
        assert found(node="") == [("", 6.0), ("b", 4.0), ("b", 2.0), ("a", 1.0)]
        assert found(node="", count=2) == [("", 6.0), ("b", 4.0)]
        assert found(node="nobody") == []
        assert found(reservation="b") == [("b", 4.0), ("b", 2.0)]
        assert found(reservation="b", node="project=shop") == []
        assert found(reservation="nobody") == []
        assert found(since=2.0, until=4.0) == [("c", 3.0), ("b", 2.0)]
        assert found(since=2.0, node="", until=6.0) == [("b", 4.0), ("b", 2.0)]
        assert found(count=1) == [("", 6.0)]
        assert found(count=0) == []

    def test_a_series_tells_what_was_spent_by_path_and_time(self, ledger: Ledger) -> None:
        def spend(name: str, spent: int, path: str, now: float) -> None:
            reserve(ledger, name, Amount(50, 50, 1), Cap(ROOT), Cap(RUN), path=path, now=now - 5)
            settle(ledger, name, Amount(spent, 2 * spent, 1), now=now)

        spend("a", 10, "shop/b", 3600.0)
        spend("b", 20, "shop/a", 3601.0)
        spend("c", 70, "shop/a", 7199.5)  # 20 of it are overage
        spend("d", 5, "shop/a", 7200.0)
        reserve(ledger, "e", Amount(5, 5, 1), path="shop/c", now=7201.0)
        settle(ledger, "f", Amount(3, 0, 1), path="", now=14_000.0)
        settle(ledger, "g", Amount(4, 0, 1), path="", now=18_000.0)
        assert ledger.series(since=3600.0, until=18_000.0, bucket_seconds=3600) == [
            Bucket(3600, "shop/a", Amount(90, 180, 2)),
            Bucket(3600, "shop/b", Amount(10, 20, 1)),
            Bucket(7200, "shop/a", Amount(5, 10, 1)),
            Bucket(10_800, "", Amount(3, 0, 1)),
        ]
        assert ledger.series(since=3601.0, until=7200.0, bucket_seconds=DAY) == [
            Bucket(0, "shop/a", Amount(90, 180, 2)),
        ]
        assert ledger.series(since=0.0, until=3600.0, bucket_seconds=60) == []


class Keeping:
    def test_limits_are_kept_for_everybody(self, ledger: Ledger, connect: Connect) -> None:
        shop = StoredLimit("project=shop", "month", 5, 6, 7, "Europe/Berlin", hard=False, at=4.5, until=9.5)
        users = StoredLimit("user=*", "day", calls=3, at=4.5)
        root = StoredLimit("", "day", 10**18, source="allocated", at=4.5)
        hour = StoredLimit("project=shop", "hour", tokens=5, at=4.5)
        code = StoredLimit("project=shop", "hour", tokens=9, source="code")
        run_b = StoredLimit("", "run", 7, source="granted", scope="run: b", until=9.5)
        run_a = StoredLimit("", "run", 8, source="granted", scope="run: a")
        assert ledger.limits() == []
        ledger.put_limits([users, shop, run_b, root, hour, run_a, code], now=5.0)
        assert connect().limits() == ledger.limits() == [root, run_a, run_b, code, hour, shop, users]
        assert connect("other").limits() == []

    def test_a_limit_takes_the_place_of_the_one_for_its_node_per_source_and_scope(self, ledger: Ledger) -> None:
        others = [
            StoredLimit("a", "day", 1, source="allocated"),
            StoredLimit("a", "day", 1, scope="run: 1"),
            StoredLimit("a", "week", 2),
        ]
        ledger.put_limits([StoredLimit("a", "day", 1), *others], now=5.0)
        ledger.put_limits([StoredLimit("a", "day", tokens=3)], now=6.0)
        assert ledger.limits() == [others[0], StoredLimit("a", "day", tokens=3), *others[1:]]

    def test_a_limit_is_dropped_in_every_scope_and_of_one_source_only(self, ledger: Ledger) -> None:
        allocated = StoredLimit("a", "run", 1, source="allocated")
        ledger.put_limits([StoredLimit("a", "run", 1), StoredLimit("a", "run", 1, scope="1"), allocated], now=5.0)
        assert ledger.drop_limit("a", "run", source="set", now=6.0) is True
        assert ledger.limits() == [allocated]
        assert [entry.action for entry in ledger.journal(since=6.0)] == ["dropped"]
        assert ledger.drop_limit("a", "run", source="set", now=7.0) is False

    def test_what_is_set_moved_and_dropped_is_in_the_journal(self, ledger: Ledger) -> None:
        ledger.put_limits([StoredLimit("a", "day", 1)], reasons={"a": "asked for"}, now=5.0)
        ledger.put_limits([StoredLimit("a", "day", 2, source="allocated")], reasons={"b": "not this"}, now=6.0)
        assert ledger.drop_limit("a", "day", source="allocated", now=7.0, reason="no longer") is True
        assert ledger.drop_limit("a", "day", source="allocated", now=8.0) is False
        assert ledger.drop_limit("a", "week", source="set", now=8.0) is False
        assert ledger.limits() == [StoredLimit("a", "day", 1)]
        assert list(map(told, ledger.journal(node="a"))) == [
            Entry("", 7.0, "dropped", "a", reason="no longer"),
            Entry("", 6.0, "moved", "a"),
            Entry("", 5.0, "set", "a", reason="asked for"),
        ]
        assert ledger.reconcile(now=9.0) == []

    def test_no_limits_are_no_change(self, ledger: Ledger) -> None:
        ledger.put_limits([], now=5.0)
        assert ledger.journal() == []

    def test_one_of_many_gets_a_task_until_its_claim_runs_out(self, ledger: Ledger, connect: Connect) -> None:
        other = connect()
        assert ledger.claim("rebalance", now=10.0, until=20.0) is True
        assert other.claim("rebalance", now=10.0, until=30.0) is False
        assert ledger.claim("rebalance", now=19.9, until=30.0) is False
        assert ledger.claim("forecast", now=10.0, until=20.0) is True
        assert connect("other").claim("rebalance", now=10.0, until=20.0) is True
        assert other.claim("rebalance", now=20.0, until=30.0) is True
        assert ledger.claim("rebalance", now=29.0, until=40.0) is False

    def test_what_answers_were_worth_is_kept(self, ledger: Ledger, connect: Connect) -> None:
        worth = [
            Valued(3.0, "shop", Decimal("0.1")),
            Valued(1.0, PATH, Decimal("-12345678901234567890.000000001")),
            Valued(2.0, "", Decimal("1E+3")),
            Valued(4.0, "shop", Decimal(0)),
        ]
        for one in worth:
            ledger.value(one)
        assert connect().values(since=1.0, until=4.0) == [worth[1], worth[2], worth[0]]
        assert ledger.values(since=1.5, until=3.0) == [worth[2]]
        assert connect("other").values(since=0.0, until=9.0) == []

    @pytest.mark.parametrize(
        "name", ["Zoë/日本/😀", 'it\'s "so"; DROP TABLE x --', "a:b|c,d*e?[f]{g}\\h\n\t%i_j", "a b"]
    )
    def test_any_name_is_kept_as_it_is(self, ledger: Ledger, name: str) -> None:
        account = Account(name, "run", 0, name)
        reserve(ledger, name, Amount(5, 5, 1), Cap(account, 5), path=name)
        assert isinstance(reserve(ledger, "other", Amount(5, 5, 1), Cap(account, 5), path=name), Refusal)
        settle(ledger, name, Amount(6, 5, 1), reason=name, now=7200.0)
        after = Balance(Amount(6, 5, 1), NOTHING)
        assert ledger.accounts(per="run", period=0) == {account: after}
        newest = ledger.journal(node=name, reservation=name)[0]
        assert told(newest) == Entry("", 7200.0, "overage", name, name, (account,), Amount(1), NOTHING, name)
        assert ledger.series(since=7200.0, until=7201.0, bucket_seconds=3600) == [Bucket(7200, name, after.spent)]
        ledger.put_limits([StoredLimit(name, "day", 1)], now=5.0)
        assert [limit.node for limit in ledger.limits()] == [name]
        assert ledger.claim(name, now=1.0, until=2.0) is True
        assert ledger.claim(name, now=1.0, until=2.0) is False


class AtOnce:
    def test_threads_that_reserve_and_settle_never_pass_a_limit(self, ledger: Ledger, connect: Connect) -> None:
        ledgers = [ledger, connect()]
        made: list[bool] = []

        def spend(thread: int) -> None:
            own = ledgers[thread % 2]
            caps = (Cap(ROOT, 300), Cap(SHOP, 500, 500), Cap(Account(f"thread={thread}", "day", DAY)))
            for n in range(6):
                fits = isinstance(reserve(own, f"{thread}.{n}", Amount(20, 1, 1), *caps), Granted)
                made.append(fits)
                if fits:
                    done = settle(own, f"{thread}.{n}", Amount(15, 1, 1))
                    assert done.outcome == "settled"
                    assert done.balances[ROOT].taken.nano <= 300
                own.sweep(now=100_002.0)

        all_at_once(*(lambda thread=thread: spend(thread) for thread in range(8)))
        assert len(made) == 48
        assert balance(ledger) == Balance(Amount(15 * sum(made), sum(made), sum(made)), NOTHING)
        assert balance(ledger) == balance(ledger, SHOP)
        # Held at 20, 15 fit at once; settled at 15 each, a 20th finds 285 of 300 spent.
        assert 15 <= sum(made) <= 19
        assert ledger.reconcile(now=100_003.0) == []

    def test_reservations_on_the_same_accounts_in_any_order_do_not_block_each_other(
        self, ledger: Ledger, connect: Connect
    ) -> None:
        ledgers = [ledger, connect(), connect()]

        def spend(thread: int) -> None:
            own = ledgers[thread % 3]
            order = ALL if thread % 2 else ALL[::-1]
            for n in range(10):
                reserve(own, f"{thread}.{n}", Amount(2, 2, 1), *map(Cap, order))
                settle(own, f"{thread}.{n}", Amount(1, 1, 1))

        all_at_once(*(lambda thread=thread: spend(thread) for thread in range(6)))
        assert ledger.balances(ALL) == dict.fromkeys(ALL, Balance(Amount(60, 60, 60), NOTHING))

    def test_one_reservation_is_made_settled_and_freed_once_whoever_does_it_at_once(
        self, ledger: Ledger, connect: Connect
    ) -> None:
        ledgers = [ledger, connect(), connect(), connect()]
        for n in range(5):
            granted: list[object] = []
            ends: list[object] = []
            name = str(n)

            def make(own: Ledger, name: str, granted: list[object] = granted) -> None:
                granted.append(reserve(own, name, Amount(10, 10, 1), Cap(ROOT)))

            def end(own: Ledger, name: str, ends: list[object] = ends) -> None:
                ends.append(settle(own, name, Amount(7, 7, 1)).outcome)

            all_at_once(*(lambda own=own: make(own, name) for own in ledgers))  # noqa: B023
            assert [type(one) for one in granted] == [Granted] * 4
            all_at_once(*(lambda own=own: end(own, name) for own in ledgers))  # noqa: B023
            assert sorted(map(str, ends)) == ["again", "again", "again", "settled"]
        assert balance(ledger) == Balance(Amount(35, 35, 5), NOTHING)
        assert ledger.reconcile(now=100_003.0) == []

    def test_what_never_reached_the_ledger_is_booked_once_whoever_settles_it_at_once(
        self, ledger: Ledger, connect: Connect
    ) -> None:
        outcomes: list[str] = []
        ledgers = [ledger, connect(), connect()]
        all_at_once(
            *(
                lambda own=own: outcomes.append(settle(own, "a", Amount(7, 7, 1), accounts=ALL).outcome)
                for own in ledgers
            )
        )
        assert sorted(outcomes) == ["again", "again", "late"]
        assert ledger.balances(ALL) == dict.fromkeys(ALL, Balance(Amount(7, 7, 1), NOTHING))

    def test_one_of_many_threads_gets_a_task(self, ledger: Ledger, connect: Connect) -> None:
        got: list[bool] = []
        ledgers = [ledger, connect(), connect(), connect()]
        all_at_once(*(lambda own=own: got.append(own.claim("rebalance", now=1.0, until=2.0)) for own in ledgers))
        assert sorted(got) == [False, False, False, True]


class LedgerContract(Reserving, Settling, Leasing, Looking, Keeping, AtOnce):
    """Everything that the contract promises and that needs no look behind it."""
