"""Limits on many nodes: a call fits under all of them, or under none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest

from langchain_tokopt.budget import Budget, Limit, Shortage, UnknownNodeError
from langchain_tokopt.budget.hold import Hold
from langchain_tokopt.database import Database
from langchain_tokopt.errors import BudgetExceededError, ConfigurationError
from langchain_tokopt.events import LimitAlert, Reservation, Who
from tests.budget.figures import PRICING, case, usage
from tests.fakes import FakeClock, ListSink

CALL = Decimal("0.0011")  # what `case()` may take at most
ANN = "project=shop/agent=writer/user=ann"
BOB = "project=shop/agent=writer/user=bob"


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


@pytest.fixture
def make(sink: ListSink, clock: FakeClock) -> Iterator[Callable[..., Budget]]:
    made: list[Budget] = []

    def budget(limits: dict[str, Any], **settings: Any) -> Budget:
        made.append(Budget(**{"pricing": PRICING, "sink": sink, "clock": clock, "limits": limits, **settings}))
        return made[-1]

    yield budget
    for one in made:
        one.close()


def figures(budget: Budget, unit: str = "usd", per: str | None = None) -> dict[str, tuple[Any, Any]]:
    """What each node has spent and holds."""
    nodes = [one for one in budget.status()["nodes"] if one["scope"] is None and per in (None, one["per"])]
    return {one["node"]: (one[unit]["spent"], one[unit]["held"]) for one in nodes}


def test_a_call_is_held_and_booked_on_every_node_of_its_path(make: Callable[..., Budget]) -> None:
    budget = make({"global": Limit(usd=1), "user=*": Limit(usd=1)})
    hold = budget.reserve(case(), path=ANN)
    nodes = ["global", "project=shop", "project=shop/agent=writer", "project=shop/agent=writer/user=ann", "user=ann"]
    assert figures(budget) == dict.fromkeys(nodes, (0, CALL))
    budget.settle(hold, usage(90, 20))
    assert figures(budget) == dict.fromkeys(nodes, (Decimal("0.00029"), 0))


def test_a_call_that_one_node_has_no_room_for_is_held_on_none(make: Callable[..., Budget]) -> None:
    budget = make({"global": Limit(usd=1), "user=*": Limit(usd="0.002", per="day")})
    budget.reserve(case(), path=ANN)
    before = figures(budget)
    with pytest.raises(BudgetExceededError) as refused:
        budget.reserve(case(), path=ANN)
    assert figures(budget) == before
    assert (refused.value.node, refused.value.per, refused.value.limit) == ("user=ann", "day", Decimal("0.002"))
    assert refused.value.resets_at == datetime(2027, 1, 16, tzinfo=timezone.utc)
    assert "budget 'default' on 'user=ann'" in str(refused.value)
    budget.reserve(case(), path=BOB)


def test_the_children_sum_up_to_their_parent(make: Callable[..., Budget]) -> None:
    budget = make({"global": Limit(usd=1, per="day")})
    for path in (ANN, ANN, BOB, "project=shop/agent=editor", "project=other/agent=writer"):
        budget.settle(budget.reserve(case(), path=path), usage(100, 100))
    spent = {node: pair[0] / CALL for node, pair in figures(budget).items()}
    assert spent["project=shop/agent=writer/user=ann"] + spent["project=shop/agent=writer/user=bob"] == 3
    assert spent["project=shop/agent=writer"] + spent["project=shop/agent=editor"] == spent["project=shop"] == 4
    assert spent["project=shop"] + spent["project=other"] == spent["global"] == 5


def test_a_refusal_is_about_the_limit_that_lasts_longest(make: Callable[..., Budget]) -> None:
    budget = make({"global": [Limit(calls=1, per="hour"), Limit(calls=1, per="month"), Limit(calls=1, per="day")]})
    budget.settle(budget.reserve(case()), usage(1, 1))
    with pytest.raises(BudgetExceededError, match="1 of 1 calls are made or under way") as refused:
        budget.reserve(case())
    assert (refused.value.per, refused.value.unit, refused.value.needed) == ("month", "calls", 1)


def test_an_answer_is_bounded_to_what_the_tightest_node_has_left(make: Callable[..., Budget]) -> None:
    budget = make({"global": Limit(tokens=1_000), "user=*": Limit(tokens=500), "agent=*": Limit(usd="0.0041")})
    hold = budget.reserve(case(100, 64_000, settings=("max_tokens",)), path=ANN)
    assert hold.case.output_tokens == 400


def test_limits_of_calls_bound_no_answer(make: Callable[..., Budget]) -> None:
    budget = make({"global": Limit(calls=1)})
    budget.reserve(case())
    with pytest.raises(BudgetExceededError, match="calls"):
        budget.reserve(case(100, 64_000, settings=("max_tokens",)))


def test_a_soft_limit_lets_calls_go_on_and_alerts_once(
    make: Callable[..., Budget], sink: ListSink, caplog: pytest.LogCaptureFixture
) -> None:
    budget = make({"user=*": Limit(usd="0.002", per="day", hard=False, alert_at=(0.5, 1.0))})
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            budget.settle(budget.reserve(case(), path=ANN), usage(100, 100))
    alerts = sink.of(LimitAlert)
    assert [(alert.path, alert.unit, alert.share, alert.spent, alert.limit, alert.hard) for alert in alerts] == [
        ("user=ann", "usd", 0.5, 1_100_000, 2_000_000, False),
        ("user=ann", "usd", 1.0, 2_200_000, 2_000_000, False),
    ]
    assert alerts[0].resets_at == datetime(2027, 1, 16, tzinfo=timezone.utc).timestamp()
    assert [record.getMessage() for record in caplog.records] == [
        "budget 'default': user=ann has spent $0.0011 of $0.002 per day, 50 % of it (a soft limit: calls go on)",
        "budget 'default': user=ann has spent $0.0022 of $0.002 per day, 100 % of it (a soft limit: calls go on)",
    ]


def test_one_booking_alerts_for_the_highest_share_that_it_crosses(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make({"global": Limit(tokens=200, alert_at=(0.1, 0.5, 1.0))})
    budget.settle(budget.reserve(case()), usage(100, 60))
    assert [(alert.share, alert.spent) for alert in sink.of(LimitAlert)] == [(0.5, 160)]


def test_of_two_processes_one_tells_of_a_share(make: Callable[..., Budget], sink: ListSink) -> None:
    database = Database()
    one, other = (make({"global": Limit(tokens=400, alert_at=(0.5,))}, store=database) for _ in range(2))
    holds = [(budget, budget.reserve(case())) for budget in (one, other)]
    for budget, hold in holds:
        budget.settle(hold, usage(100, 50))
    assert [alert.spent for alert in sink.of(LimitAlert)] == [300]
    database.close()


# --- where a call stands ---


def test_who_is_calling_gives_the_path(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make({"global": Limit(usd=1)})
    budget.reserve(case(), who=Who(project="shop", user="a/b", agent="writer"))
    assert sink.of(Reservation)[0].path == "project=shop/agent=writer/user=a%2Fb"


def test_the_levels_are_the_user_s(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make({"tenant=*": Limit(calls=1)}, levels=("tenant", "user"))
    budget.reserve(case(), who=Who(project="shop", user="ann", tenant="acme"))
    assert sink.of(Reservation)[0].path == "tenant=acme/user=ann"
    with pytest.raises(BudgetExceededError):
        budget.reserve(case(), who=Who(user="bob", tenant="acme"))


def test_a_path_that_no_limit_is_written_for_can_be_refused(make: Callable[..., Budget], sink: ListSink) -> None:
    limits = {"global": Limit(usd=1), "acme/*": Limit(usd=1)}
    make(limits).reserve(case(), path="unheard/of")
    strict = make(limits, unknown_nodes="refuse")
    strict.reserve(case(), path="acme/team-a")
    with pytest.raises(UnknownNodeError, match="no limit is written for a node on the path 'unheard/of'"):
        strict.reserve(case(), path="unheard/of")
    assert sink.of(Reservation)[-1].action == "refused"


@pytest.mark.parametrize("levels", ["user", (), ("user", "user"), ("a b",), (7,), None])
def test_levels_that_are_no_names_are_refused(levels: Any) -> None:
    if levels == ():
        Budget(usd=1, levels=levels).close()
        return
    with pytest.raises(ConfigurationError, match="levels="):
        Budget(usd=1, levels=levels)


def test_the_simple_limit_stands_beside_those_of_nodes(make: Callable[..., Budget]) -> None:
    budget = make({"global": Limit(usd=1, per="day"), "user=*": Limit(usd=1, per="day")}, calls=1)
    budget.reserve(case())
    with pytest.raises(BudgetExceededError, match="calls"):
        budget.reserve(case())
    with pytest.raises(ConfigurationError, match="'global' has two limits per 'day'"):
        make({"global": Limit(usd=1, per="day")}, calls=1, per="day")


# --- what does not fit ---


def test_a_shortage_tells_nobody_and_holds_nothing(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make({"global": Limit(usd="0.001")})
    offered = budget.offer(case())
    assert isinstance(offered, Shortage)
    assert sink.of(Reservation) == []
    assert figures(budget)["global"] == (0, 0)
    assert offered.left.nano == 1_000_000
    assert str(budget.refuse(offered)).startswith("budget 'default': $0 of $0.001 is spent or held")
    assert [event.action for event in sink.of(Reservation)] == ["refused"]


def test_what_was_approved_is_held_beyond_the_limit(make: Callable[..., Budget], sink: ListSink) -> None:
    budget = make({"global": Limit(usd="0.001")})
    offered = budget.offer(case())
    assert isinstance(offered, Shortage)
    hold = budget.hold_anyway(offered, reason="approved by ann")
    assert figures(budget)["global"] == (0, CALL)
    assert sink.of(Reservation)[-1].reason == "approved by ann"
    budget.settle(hold, usage(100, 100))
    assert isinstance(budget.offer(case(1, 0)), Shortage)


def test_a_limit_is_raised_for_the_rest_of_its_period_and_more_than_once(
    make: Callable[..., Budget], clock: FakeClock
) -> None:
    budget = make({"user=*": Limit(usd="0.001", per="day")})
    for _ in range(2):
        offered = budget.offer(case(), path=ANN)
        assert isinstance(offered, Shortage)
        budget.grant(offered, usd="0.00005")
    assert isinstance(budget.offer(case(), path=ANN), Hold)
    assert isinstance(budget.offer(case(), path=BOB), Shortage)
    clock.advance(24 * 3600)
    assert isinstance(budget.offer(case(), path=ANN), Shortage)


def test_a_limit_for_each_run_is_raised_for_that_run(make: Callable[..., Budget]) -> None:
    budget = make({"global": Limit(calls=1, per="run")})
    budget.reserve(case(), run="one")
    offered = budget.offer(case(), run="one")
    assert isinstance(offered, Shortage)
    budget.grant(offered, calls=1)
    assert isinstance(budget.offer(case(), run="one"), Hold)
    budget.reserve(case(), run="two")
    assert isinstance(budget.offer(case(), run="two"), Shortage)


# --- spend ---


def test_spend_names_a_path_and_a_price(make: Callable[..., Budget]) -> None:
    budget = make({"agent=search": Limit(usd="0.03", calls=5)})
    with budget.spend("agent=search", usd="0.02") as call:
        assert figures(budget)["agent=search"] == (0, Decimal("0.02"))
        call.settle(usd="0.015")
    assert figures(budget)["agent=search"] == (Decimal("0.015"), 0)
    with budget.spend("agent=search", usd="0.01"):
        pass
    assert figures(budget)["agent=search"] == (Decimal("0.025"), 0)
    with pytest.raises(BudgetExceededError), budget.spend("agent=search", usd="0.01"):
        pass
    assert figures(budget, "calls")["agent=search"] == (2, 0)


async def test_spend_in_a_coroutine(make: Callable[..., Budget]) -> None:
    budget = make({"global": Limit(usd="0.01")})
    async with budget.spend(ANN, input_tokens=100, output_tokens=100, model="gpt-4o-mini") as call:
        call.settle(usage(100, 50))
    assert figures(budget)["global"] == (Decimal("0.0006"), 0)
    with pytest.raises(OSError, match="gone"):
        async with budget.spend(ANN, input_tokens=100, model="gpt-4o-mini"):
            raise OSError("gone")

    async def wait() -> None:
        async with budget.spend(ANN, input_tokens=100, output_tokens=100, model="gpt-4o-mini"):
            entered.set()
            await asyncio.sleep(60)

    entered = asyncio.Event()
    task = asyncio.create_task(wait())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert figures(budget)["global"] == (Decimal("0.0007"), 0)


@pytest.mark.parametrize("wrong", [{"usd": -1}, {"usd": "x"}, {"path": "a//b"}, {"output_tokens": -1}])
def test_spend_says_what_it_cannot_read(make: Callable[..., Budget], wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        make({"global": Limit(usd=1)}).spend(**wrong)


@pytest.mark.parametrize("usd", [-1, "x", "NaN"])
def test_a_settlement_says_what_it_cannot_read(make: Callable[..., Budget], usd: Any) -> None:
    budget = make({"global": Limit(usd=1)})
    with budget.spend(usd="0.5") as call, pytest.raises(ConfigurationError):
        call.settle(usd=usd)
    assert figures(budget)["global"] == (Decimal("0.5"), 0)


def test_a_block_is_entered_once(make: Callable[..., Budget]) -> None:
    budget = make({"global": Limit(usd=1)})
    call = budget.spend(usd="0.1")
    with pytest.raises(RuntimeError, match="before the block was entered"):
        call.settle(usd="0.1")
    with call:
        pass
    with pytest.raises(RuntimeError, match="entered before"), call:
        pass
