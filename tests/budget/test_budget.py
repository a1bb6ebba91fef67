"""A budget by itself: reserve, settle, release, and what it says meanwhile."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from langchain_tokopt.budget import Budget, BudgetStoreError, UnknownPriceError, WorstCase
from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.sql_ledger import SqlLedger
from langchain_tokopt.database import Database
from langchain_tokopt.errors import BudgetExceededError, ConfigurationError, StoreError
from langchain_tokopt.events import Failure, Reservation, Who
from langchain_tokopt.pricing import Pricing, Rates
from tests.budget.figures import PRICING, case, root, scopes, usage
from tests.fakes import FakeClock, ListSink

SETTINGS = ("max_completion_tokens",)


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


@pytest.fixture
def make(sink: ListSink, clock: FakeClock) -> Iterator[Callable[..., Budget]]:
    made: list[Budget] = []

    def budget(**settings: Any) -> Budget:
        made.append(Budget(**{"pricing": PRICING, "sink": sink, "clock": clock, **settings}))
        return made[-1]

    yield budget
    for one in made:
        one.close()


def steps(sink: ListSink) -> list[tuple[str, int | None, Decimal | None]]:
    return [(event.action, event.tokens, event.usd) for event in sink.of(Reservation)]


def break_ledger(database: Database) -> Callable[[], None]:
    """Takes a table away; what is returned puts it back."""

    def rename(old: str, new: str) -> None:
        with database.write() as connection:
            connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    rename("tokopt_ledger_reservations", "hidden")
    return lambda: rename("hidden", "tokopt_ledger_reservations")


# --- reserve, settle, release ---


def test_the_life_of_a_call(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(usd="0.01", tokens=1000)
    hold = budget.reserve(case(), who=Who(user="ann"))
    assert hold.reserved == Amount(1_100_000, 200, 1)
    assert budget.status() == {
        "name": "default",
        "nodes": [
            {
                "node": "global",
                "per": "forever",
                "scope": None,
                "resets_at": None,
                "hard": True,
                "origin": "code",
                "share": 0.2,
                "usd": {"limit": Decimal("0.01"), "spent": 0, "held": Decimal("0.0011"), "left": Decimal("0.0089")},
                "tokens": {"limit": 1000, "spent": 0, "held": 200, "left": 800},
                "calls": {"limit": None, "spent": 0, "held": 1, "left": None},
            },
            {
                "node": "user=ann",
                "per": "forever",
                "scope": None,
                "resets_at": None,
                "hard": None,
                "origin": None,
                "share": None,
                "usd": {"limit": None, "spent": 0, "held": Decimal("0.0011"), "left": None},
                "tokens": {"limit": None, "spent": 0, "held": 200, "left": None},
                "calls": {"limit": None, "spent": 0, "held": 1, "left": None},
            },
        ],
        "complete": True,
    }
    budget.settle(hold, usage(90, 20))
    status = root(budget)
    assert status["usd"] == {"limit": Decimal("0.01"), "spent": Decimal("0.00029"), "held": 0, "left": Decimal("0.00971")}  # fmt: skip # noqa: E501
    assert status["tokens"] == {"limit": 1000, "spent": 110, "held": 0, "left": 890}
    assert steps(sink) == [("reserved", 200, Decimal("0.0011")), ("settled", 110, Decimal("0.00029"))]
    first = sink.of(Reservation)[0]
    assert (first.who.user, first.reservation, first.path) == ("ann", hold.id, "user=ann")
    assert first.seconds is not None
    assert first.seconds > 0


def test_a_second_settlement_or_release_does_nothing(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(usd="0.01")
    hold = budget.reserve(case())
    budget.settle(hold, usage(90, 20))
    budget.settle(hold, usage(90, 20))
    budget.release(hold)
    assert [step[0] for step in steps(sink)] == ["reserved", "settled"]
    assert root(budget)["usd"]["spent"] == Decimal("0.00029")


def test_more_than_was_reserved_is_overage(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(usd="0.0011")
    budget.settle(budget.reserve(case()), usage(100, 250))
    assert steps(sink)[1:] == [("settled", 200, Decimal("0.0011")), ("overage", 150, Decimal("0.0015"))]
    assert root(budget)["usd"] == {"limit": Decimal("0.0011"), "spent": Decimal("0.0026"), "held": 0, "left": 0}
    with pytest.raises(BudgetExceededError):
        budget.reserve(case(1, 0))


def test_cached_and_reasoning_tokens_are_not_counted_twice(make: Callable[..., Budget]) -> None:
    budget = make(usd="0.01")
    reported = usage(100, 50)
    reported["input_token_details"] = {"cache_read": 80}
    reported["output_token_details"] = {"reasoning": 40}
    budget.settle(budget.reserve(case()), reported)
    assert root(budget)["tokens"]["spent"] == 150
    assert root(budget)["usd"]["spent"] == Decimal("0.0006")


def test_a_release_gives_everything_back(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(usd="0.0011")
    budget.release(budget.reserve(case()), reason="TimeoutError")
    assert root(budget)["usd"]["left"] == Decimal("0.0011")
    assert steps(sink)[1:] == [("released", 200, Decimal("0.0011"))]
    assert sink.of(Reservation)[1].reason == "TimeoutError"


def test_a_settlement_without_usage_books_what_was_reserved(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(usd="0.01")
    budget.settle(budget.reserve(case()))
    assert root(budget)["usd"]["spent"] == Decimal("0.0011")
    assert sink.of(Reservation)[1].reason == "no usage was given: booked as reserved"


# --- refusals ---


def test_a_refusal_in_usd_carries_its_figures(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(usd="0.002", tokens=10_000)
    budget.reserve(case())
    with pytest.raises(BudgetExceededError) as refused:
        budget.reserve(case())
    error = refused.value
    assert (error.limit, error.spent, error.needed) == (Decimal("0.002"), Decimal("0.0011"), Decimal("0.0011"))
    assert (error.unit, error.resets_at) == ("usd", None)
    assert "$0.0011 of $0.002 is spent or held" in str(error)
    assert steps(sink)[-1] == ("refused", 200, Decimal("0.0011"))
    assert root(budget)["usd"]["held"] == Decimal("0.0011")


def test_a_refusal_in_tokens_carries_its_figures(make: Callable[..., Budget]) -> None:
    budget = make(usd="1", tokens=300, per="day", timezone="Europe/Berlin")
    budget.reserve(case())
    with pytest.raises(BudgetExceededError, match="200 of 300 tokens") as refused:
        budget.reserve(case())
    error = refused.value
    assert (error.limit, error.spent, error.needed, error.unit) == (300, 200, 200, "tokens")
    assert error.resets_at == datetime(2027, 1, 15, 23, tzinfo=timezone.utc)


def test_fifty_threads_spend_no_more_than_the_limit(make: Callable[..., Budget]) -> None:
    budget = make(usd="1")
    dear = case(0, 20_000)
    made: list[Decimal] = []

    def call() -> None:
        try:
            hold = budget.reserve(dear)
        except BudgetExceededError:
            return
        made.append(hold.reserved.usd)
        budget.settle(hold, usage(0, 20_000))

    threads = [threading.Thread(target=call) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [Decimal("0.2")] * 5
    assert root(budget)["usd"] == {"limit": 1, "spent": 1, "held": 0, "left": 0}


# --- bounding the answer ---


def test_an_answer_is_bounded_to_what_is_left(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(usd="0.01")
    hold = budget.reserve(case(100, 64_000, settings=SETTINGS))
    assert hold.case.output_tokens == 990
    assert hold.case.bounded
    assert hold.reserved == Amount(10_000_000, 1090, 1)
    assert sink.of(Reservation)[0].reason == "the answer is bounded to 990 tokens"
    with pytest.raises(BudgetExceededError):
        budget.reserve(case(100, 64_000, settings=SETTINGS))


def test_an_answer_is_bounded_by_the_limit_in_tokens_too(make: Callable[..., Budget]) -> None:
    assert make(tokens=500).reserve(case(100, 64_000, settings=SETTINGS)).case.output_tokens == 400


@pytest.mark.parametrize(
    ("least", "expected"), [(990, True), (991, False)], ids=["just long enough", "one token too short"]
)
def test_an_answer_is_not_bounded_to_less_than_the_least(
    make: Callable[..., Budget], least: int, expected: bool
) -> None:
    budget = make(usd="0.01", min_output_tokens=least)
    wanted = case(100, 64_000, settings=SETTINGS)
    if expected:
        assert budget.reserve(wanted).case.output_tokens == 990
    else:
        with pytest.raises(BudgetExceededError):
            budget.reserve(wanted)


def test_an_answer_is_not_bounded_below_a_thinking_budget(make: Callable[..., Budget]) -> None:
    with pytest.raises(BudgetExceededError):
        make(usd="0.01").reserve(case(100, 64_000, settings=SETTINGS, thinking_tokens=800))


def test_an_answer_that_cannot_be_bounded_is_refused(make: Callable[..., Budget]) -> None:
    with pytest.raises(BudgetExceededError):
        make(usd="0.01").reserve(case(100, 64_000))


# --- periods ---


def test_a_new_day_has_the_whole_limit_and_late_settlements_go_to_their_own(
    make: Callable[..., Budget], clock: FakeClock
) -> None:
    clock.now = datetime(2027, 10, 30, 21, 59, 59, tzinfo=timezone.utc).timestamp()
    budget = make(usd="0.0011", per="day", timezone="Europe/Berlin")
    hold = budget.reserve(case())
    clock.advance(1)
    budget.release(budget.reserve(case()))
    budget.settle(hold, usage(100, 100))
    assert root(budget)["usd"]["spent"] == 0
    # This day has 25 hours.
    assert root(budget)["resets_at"] == datetime(2027, 10, 31, 23, tzinfo=timezone.utc)
    clock.advance(-1)
    assert root(budget)["usd"]["spent"] == Decimal("0.0011")


def test_every_run_has_the_limit_for_itself(make: Callable[..., Budget]) -> None:
    budget = make(usd="0.0011", per="run")
    budget.reserve(case(), who=Who(run="one"))
    with pytest.raises(BudgetExceededError):
        budget.reserve(case(), who=Who(run="one"))
    budget.reserve(case(), who=Who(run="two"))
    assert set(scopes(budget)) == {"one", "two"}
    assert scopes(budget)["one"]["usd"]["left"] == 0


def test_a_thread_is_counted_over_its_runs_and_a_stranger_alone(make: Callable[..., Budget]) -> None:
    budget = make(usd="0.0011", per="thread")
    budget.reserve(case(), who=Who(run="one", thread="t"))
    with pytest.raises(BudgetExceededError):
        budget.reserve(case(), who=Who(run="two", thread="t"))
    budget.reserve(case())
    budget.reserve(case())
    assert len(scopes(budget)) == 3


def test_a_very_long_id_is_a_scope_like_any_other(make: Callable[..., Budget]) -> None:
    budget = make(usd="0.0011", per="thread")
    budget.reserve(case(), thread="t" * 10_000)
    with pytest.raises(BudgetExceededError):
        budget.reserve(case(), thread="t" * 10_000)
    budget.reserve(case(), thread="t" * 10_001)


def test_budgets_of_one_name_share_an_account_and_others_do_not(make: Callable[..., Budget]) -> None:
    database = Database()
    make(usd="0.0022", store=database).reserve(case())
    assert root(make(usd="0.0022", store=database))["usd"]["held"] == Decimal("0.0011")
    with pytest.raises(BudgetExceededError):
        make(usd="0.0011", store=database).reserve(case())
    assert root(make(usd="1", store=database, name="other"))["usd"]["held"] == 0
    assert root(make(usd="1", store=database, per="day"))["usd"]["held"] == 0
    database.close()


# --- leases ---


def test_the_reservation_of_the_dead_is_freed_and_a_late_settlement_booked(
    make: Callable[..., Budget], sink: ListSink, clock: FakeClock
) -> None:
    budget = make(usd="0.0011", lease_seconds=60)
    hold = budget.reserve(case())
    budget._books.leases.discard(hold.id)  # as if this process had been asleep
    clock.advance(60)
    assert budget.sweep() == 1
    assert root(budget)["usd"]["held"] == 0
    budget.settle(hold, usage(100, 50))
    assert root(budget)["usd"]["spent"] == Decimal("0.0006")
    assert steps(sink) == [
        ("reserved", 200, Decimal("0.0011")),
        ("expired", 200, Decimal("0.0011")),
        ("overage", 150, Decimal("0.0006")),
    ]
    assert sink.of(Reservation)[2].reason == "late: nothing was held for it"


def test_a_call_that_does_not_fit_frees_what_the_dead_hold(make: Callable[..., Budget], clock: FakeClock) -> None:
    database = Database()
    dead = make(usd="0.0011", store=database, lease_seconds=60)
    living = make(usd="0.0011", store=database, lease_seconds=3600)
    living.release(living.reserve(case()))
    dead.reserve(case())
    clock.advance(61)
    living.reserve(case())
    assert root(living)["usd"]["held"] == Decimal("0.0011")
    database.close()


def test_a_long_call_keeps_its_reservation(make: Callable[..., Budget], clock: FakeClock) -> None:
    budget = make(usd="1", lease_seconds=60)
    hold = budget.reserve(case())
    for _ in range(5):
        clock.advance(50)
        assert budget._books.leases.renew_all()
        assert budget.sweep() == 0
    budget.settle(hold, usage(1, 1))
    assert not budget._books.leases.renew_all()


# --- prices that are not known ---

NAMELESS = WorstCase("mystery-9", None, 100, 100, 100)


def test_without_a_price_a_call_is_under_the_limit_in_tokens_only(
    make: Callable[..., Budget], sink: ListSink, caplog: pytest.LogCaptureFixture
) -> None:
    budget = make(usd="0.000001", tokens=500)
    with caplog.at_level(logging.WARNING):
        budget.settle(budget.reserve(NAMELESS), usage(100, 100))
        budget.reserve(NAMELESS)
    [record] = caplog.records
    assert record.message == (
        "budget 'default': the price of model 'mystery-9' is not known, so its calls are outside the limit in USD; "
        "give its rates with Pricing(overrides=...), or set unknown_price"
    )
    assert steps(sink) == [("reserved", 200, None), ("settled", 200, None), ("reserved", 200, None)]
    assert sink.of(Reservation)[0].reason == "the price of mystery-9 is not known: outside the limit in USD"
    with pytest.raises(BudgetExceededError, match="tokens"):
        budget.reserve(NAMELESS)


def test_a_call_without_a_price_can_be_refused(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(usd="1", unknown_price="refuse")
    with pytest.raises(UnknownPriceError, match="mystery-9") as refused:
        budget.reserve(NAMELESS)
    assert isinstance(refused.value, BudgetExceededError)
    assert refused.value.limit == 1
    assert steps(sink) == [("refused", 200, None)]


def test_a_call_without_a_price_can_have_a_ceiling(make: Callable[..., Budget]) -> None:
    budget = make(usd="0.011", unknown_price=Rates(input=Decimal(10), output=Decimal(100)))
    hold = budget.reserve(NAMELESS)
    assert hold.reserved.usd == Decimal("0.011")
    budget.settle(hold, usage(100, 50))
    assert root(budget)["usd"]["spent"] == Decimal("0.006")
    with pytest.raises(BudgetExceededError):
        budget.reserve(NAMELESS)


def test_a_limit_in_tokens_needs_no_price(make: Callable[..., Budget]) -> None:
    budget = make(tokens=200, unknown_price="refuse")
    budget.settle(budget.reserve(NAMELESS), usage(50, 50))
    assert root(budget)["tokens"]["left"] == 100


# --- a ledger that cannot be used ---


def test_open_lets_calls_go_on_says_so_and_books_them_later(
    make: Callable[..., Budget], sink: ListSink, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database()
    budget = make(usd="0.01", store=database)
    earlier = budget.reserve(case())
    repair = break_ledger(database)
    with caplog.at_level(logging.WARNING):
        hold = budget.reserve(case())
        budget.settle(hold, usage(100, 50))
        budget.settle(earlier, usage(100, 100))
        budget.release(budget.reserve(case()))
    assert [event.stage for event in sink.of(Failure)] == ["request", "response", "response", "request", "response"]
    assert "tokopt_ledger_reservations" in sink.of(Failure)[0].error
    assert len(caplog.records) == 1
    assert "cannot be used" in caplog.records[0].message
    repair()
    budget.release(budget.reserve(case()))
    assert root(budget)["usd"] == {"limit": Decimal("0.01"), "spent": Decimal("0.0017"), "held": 0, "left": Decimal("0.0083")}  # fmt: skip # noqa: E501
    assert budget.reconcile() == []
    database.close()


def test_closed_stops_calls(make: Callable[..., Budget], sink: ListSink) -> None:
    database = Database()
    budget = make(usd="0.01", store=database, on_store_failure="closed")
    budget.status()
    break_ledger(database)
    with pytest.raises(BudgetStoreError, match="could not be checked") as refused:
        budget.reserve(case())
    assert isinstance(refused.value, BudgetExceededError)
    assert isinstance(refused.value, StoreError)
    assert refused.value.limit == Decimal("0.01")
    assert isinstance(refused.value.spent, Decimal)
    assert refused.value.spent.is_nan()
    assert [event.stage for event in sink.of(Failure)] == ["request"]
    database.close()


def test_closing_books_what_is_owed(sink: ListSink, tmp_path: Path) -> None:
    database = Database(tmp_path / "tokopt.db")
    budget = Budget(usd=1, store=database, pricing=PRICING, sink=sink)
    hold = budget.reserve(case())
    repair = break_ledger(database)
    budget.settle(hold, usage(100, 100))
    repair()
    budget.close()
    assert root(Budget(usd=1, store=database))["usd"]["spent"] == Decimal("0.0011")
    database.close()


def test_a_budget_is_closed_with_its_own_database_but_not_with_another_s(sink: ListSink) -> None:
    own = Budget(usd=1)
    own.status()
    own.close()
    with pytest.raises(StoreError, match="closed"):
        own.status()
    database = Database()
    given = Budget(usd=1, store=database)
    given.close()
    assert root(given)["usd"]["spent"] == 0
    database.close()


# --- attach ---


def test_attach_fills_in_what_was_not_given() -> None:
    first, second = Database(), Database()
    pricing = Pricing()
    budget = Budget(usd=1, store=first)
    assert budget.attach(database=second, pricing=pricing).attach(pricing=Pricing()) is budget
    budget.reserve(case(0, 0))
    assert root(Budget(usd=1, store=first))["usd"]["held"] == 0
    with first.read() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM tokopt_ledger_reservations")).scalar() == 1
    assert budget._prices.pricing is pricing
    budget.close()
    first.close()
    second.close()


# --- spend ---


def test_spend_settles_what_was_used(make: Callable[..., Budget]) -> None:
    budget = make(usd="0.01")
    with budget.spend(input_tokens=100, output_tokens=100, model="gpt-4o-mini") as call:
        assert root(budget)["usd"]["held"] == Decimal("0.0011")
        assert not call.settled
        call.settle(usage(100, 50))
        assert call.settled
    assert root(budget)["usd"] == {"limit": Decimal("0.01"), "spent": Decimal("0.0006"), "held": 0, "left": Decimal("0.0094")}  # fmt: skip # noqa: E501


def test_spend_without_a_settlement_books_what_was_reserved(make: Callable[..., Budget]) -> None:
    budget = make(usd="0.01")
    with budget.spend(input_tokens=100, output_tokens=100, model="gpt-4o-mini"):
        pass
    assert root(budget)["usd"]["spent"] == Decimal("0.0011")


def test_spend_releases_on_an_error(make: Callable[..., Budget]) -> None:
    budget = make(usd="0.01")
    with pytest.raises(OSError, match="gone"), budget.spend(input_tokens=100, model="gpt-4o-mini"):
        raise OSError("gone")
    assert (root(budget)["usd"]["spent"], root(budget)["usd"]["held"]) == (0, 0)


def test_spend_keeps_a_settlement_when_an_error_follows(make: Callable[..., Budget]) -> None:
    budget = make(usd="0.01")

    def fail_after_settling() -> None:
        with budget.spend(input_tokens=100, model="gpt-4o-mini") as call:
            call.settle(usage(100, 0))
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        fail_after_settling()
    assert root(budget)["usd"]["spent"] == Decimal("0.0001")


def test_spend_books_the_input_of_a_cancelled_call(make: Callable[..., Budget]) -> None:
    budget = make(usd="0.01")
    with (
        pytest.raises(asyncio.CancelledError),
        budget.spend(input_tokens=100, output_tokens=100, model="gpt-4o-mini"),
    ):
        raise asyncio.CancelledError
    assert root(budget)["usd"]["spent"] == Decimal("0.0001")
    assert root(budget)["usd"]["held"] == 0


def test_spend_does_not_enter_the_block_when_refused(make: Callable[..., Budget]) -> None:
    entered = False
    with (
        pytest.raises(BudgetExceededError),
        make(usd="0.0001").spend(input_tokens=101, model="gpt-4o-mini"),
    ):
        entered = True
    assert not entered


@pytest.mark.parametrize("tokens", [-1, True, 1.5, None])
def test_spend_wants_whole_numbers(make: Callable[..., Budget], tokens: Any) -> None:
    with pytest.raises(ConfigurationError):
        make(usd="1").spend(input_tokens=tokens)


# --- shadow ---


def test_nothing_is_refused_or_bounded_when_it_is_only_watched(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make(usd="0.01")
    watched = budget.reserve(case(100, 64_000, settings=SETTINGS), enforce=False)
    assert not watched.case.bounded
    assert sink.of(Reservation)[-1].reason == "the answer would be bounded to 990 tokens"
    budget.settle(budget.reserve(case(), enforce=False), usage(100, 100))
    assert [step[0] for step in steps(sink)] == ["reserved", "refused", "reserved", "settled"]
    budget.settle(watched, usage(100, 1000))
    assert root(budget)["usd"]["spent"] == Decimal("0.0112")


# --- a ledger that cannot be opened ---


class Unreachable:
    """A store that cannot be used, until it can."""

    def __init__(self, ledger: SqlLedger) -> None:
        self._ledger = ledger
        self.down = True

    def __getattr__(self, name: str) -> Any:
        if self.down:
            raise StoreError("nobody answers")
        return getattr(self._ledger, name)

    def reserve(self, *args: Any, **kwargs: Any) -> Any:
        return self.__getattr__("reserve")(*args, **kwargs)

    def settle(self, *args: Any, **kwargs: Any) -> Any:
        return self.__getattr__("settle")(*args, **kwargs)


def test_a_call_while_nobody_answers_is_booked_on_its_own_run(make: Callable[..., Budget]) -> None:
    database = Database()
    store = Unreachable(SqlLedger(database))
    budget = make(usd="1", per="run", store=store)
    hold = budget.reserve(case(), who=Who(user="ann"), run="the run")
    budget.settle(hold, usage(100, 100))
    store.down = False
    budget.release(budget.reserve(case(), run="another"))
    assert scopes(budget)["the run"]["usd"]["spent"] == Decimal("0.0011")
    database.close()


def test_what_needs_no_ledger_is_checked_while_nobody_answers(make: Callable[..., Budget]) -> None:
    database = Database()
    store = Unreachable(SqlLedger(database))
    budget = make(usd="1", unknown_price="refuse", store=store)
    with pytest.raises(UnknownPriceError):
        budget.reserve(NAMELESS)
    store.down = False
    database.close()
