"""Periods and leases under clocks that behave as clocks do: they jump, differ, and are changed twice a year."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from langchain_tokopt.budget import Budget, Limit, Shortage
from langchain_tokopt.budget.hold import Hold
from langchain_tokopt.database import Database
from langchain_tokopt.errors import BudgetExceededError
from tests.budget.figures import PRICING, case, root, usage
from tests.fakes import FakeClock


def utc(*parts: int) -> float:
    return datetime(*parts, tzinfo=timezone.utc).timestamp()  # type: ignore[arg-type]


@pytest.fixture
def make(clock: FakeClock) -> Iterator[Callable[..., Budget]]:
    made: list[Budget] = []

    def budget(**settings: Any) -> Budget:
        made.append(Budget(**{"pricing": PRICING, "clock": clock, **settings}))
        return made[-1]

    yield budget
    for one in made:
        one.close()


def fits(budget: Budget) -> bool:
    offered = budget.offer(case())
    if isinstance(offered, Hold):
        budget.settle(offered, usage(1, 1))
    return isinstance(offered, Hold)


@pytest.mark.parametrize(
    ("per", "zone", "last", "first"),
    [
        ("hour", "Asia/Kolkata", (2027, 5, 4, 10, 29, 59), (2027, 5, 4, 10, 30)),  # hours begin at half past
        ("hour", "Asia/Kathmandu", (2027, 5, 4, 10, 14, 59), (2027, 5, 4, 10, 15)),
        ("day", "Europe/Berlin", (2027, 3, 28, 21, 59, 59), (2027, 3, 28, 22)),  # a day of 23 hours
        ("day", "Europe/Berlin", (2027, 10, 31, 22, 59, 59), (2027, 10, 31, 23)),  # a day of 25 hours
        ("day", "America/Santiago", (2027, 9, 5, 3, 59, 59), (2027, 9, 5, 4)),  # a midnight that the clocks skip
        ("week", "Europe/Berlin", (2027, 3, 28, 21, 59, 59), (2027, 3, 28, 22)),
        ("month", "Pacific/Auckland", (2027, 3, 31, 10, 59, 59), (2027, 3, 31, 11)),
        ("month", "UTC", (2028, 2, 29, 23, 59, 59), (2028, 3, 1)),
    ],
)
def test_a_period_starts_afresh_when_the_calendar_says_so(
    make: Callable[..., Budget], clock: FakeClock, per: str, zone: str, last: Any, first: Any
) -> None:
    clock.now = utc(*last)
    budget = make(calls=1, per=per, timezone=zone)
    assert fits(budget)
    assert not fits(budget)
    clock.now = utc(*first)
    assert fits(budget)
    assert not fits(budget)


def test_a_day_of_25_hours_has_one_limit(make: Callable[..., Budget], clock: FakeClock) -> None:
    clock.now = utc(2027, 10, 30, 22)
    budget = make(calls=25, per="day", timezone="Europe/Berlin")
    for _ in range(25):
        assert fits(budget)
        clock.advance(3600)
    assert clock.now == utc(2027, 10, 31, 23)
    clock.advance(-1)
    assert not fits(budget)


def test_the_hour_that_comes_twice_is_two_hours(make: Callable[..., Budget], clock: FakeClock) -> None:
    clock.now = utc(2027, 10, 31, 0, 30)
    budget = make(calls=1, per="hour", timezone="Europe/Berlin")
    assert fits(budget)
    clock.advance(3600)
    assert fits(budget)
    assert not fits(budget)


def test_a_call_over_the_end_of_a_period_is_booked_where_it_began(
    make: Callable[..., Budget], clock: FakeClock
) -> None:
    clock.now = utc(2027, 5, 4, 23, 59, 59)
    budget = make(tokens=200, per="day")
    hold = budget.reserve(case())
    clock.advance(2)
    assert root(budget)["tokens"] == {"limit": 200, "spent": 0, "held": 0, "left": 200}
    other = budget.reserve(case())
    budget.settle(hold, usage(100, 400))
    budget.settle(other, usage(10, 10))
    assert root(budget)["tokens"] == {"limit": 200, "spent": 20, "held": 0, "left": 180}
    clock.advance(-3)
    assert root(budget)["tokens"] == {"limit": 200, "spent": 500, "held": 0, "left": 0}


def test_a_clock_that_jumps_back_finds_what_was_spent_then(make: Callable[..., Budget], clock: FakeClock) -> None:
    clock.now = utc(2027, 5, 4, 12)
    budget = make(calls=1, per="day")
    assert fits(budget)
    clock.advance(86_400)
    assert fits(budget)
    clock.advance(-86_400)
    assert not fits(budget)
    clock.advance(86_400)
    assert not fits(budget)


def test_a_settlement_after_the_clock_jumped_back_is_booked(make: Callable[..., Budget], clock: FakeClock) -> None:
    budget = make(tokens=1000, per="hour")
    hold = budget.reserve(case())
    clock.advance(-7 * 86_400)
    budget.settle(hold, usage(100, 50))
    clock.advance(7 * 86_400)
    assert root(budget)["tokens"]["spent"] == 150
    assert root(budget)["tokens"]["held"] == 0


def test_a_clock_that_jumps_ahead_frees_no_call_of_the_same_process(
    make: Callable[..., Budget], clock: FakeClock
) -> None:
    budget = make(calls=1, lease_seconds=60)
    hold = budget.reserve(case())
    clock.advance(10 * 3600)
    assert isinstance(budget.offer(case()), Shortage)
    budget.settle(hold, usage(1, 1))
    assert [entry.action for entry in budget.journal()] == ["settled", "reserved", "set"]


def test_machines_whose_clocks_differ_share_a_day_while_they_agree_on_the_date(clock: FakeClock) -> None:
    database = Database()
    clock.now = utc(2027, 5, 4, 12)
    slow = Budget(calls=3, per="day", store=database, pricing=PRICING, clock=lambda: clock.now - 90)
    fast = Budget(calls=3, per="day", store=database, pricing=PRICING, clock=lambda: clock.now + 90)
    assert [fits(slow), fits(fast), fits(slow), fits(fast), fits(slow)] == [True, True, True, False, False]
    slow.close()
    fast.close()
    database.close()


def test_limits_of_several_zones_start_afresh_each_in_its_own(make: Callable[..., Budget], clock: FakeClock) -> None:
    clock.now = utc(2027, 5, 4, 21)
    limits = {
        "global": Limit(calls=3, per="day"),
        "user=*": Limit(calls=1, per="day", timezone="Europe/Berlin"),
    }
    budget = make(limits=limits)
    budget.reserve(case(), path="user=ann")
    with pytest.raises(BudgetExceededError):
        budget.reserve(case(), path="user=ann")
    clock.now = utc(2027, 5, 4, 22)  # midnight in Berlin
    budget.reserve(case(), path="user=ann")
    with pytest.raises(BudgetExceededError) as refused:
        budget.reserve(case(), path="user=ann")
    assert refused.value.resets_at == datetime(2027, 5, 5, 22, tzinfo=timezone.utc)
    budget.reserve(case(), path="user=bob")
    with pytest.raises(BudgetExceededError, match="3 of 3 calls"):
        budget.reserve(case(), path="user=cid")
