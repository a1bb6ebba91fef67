"""Planning with a budget: limits that are set, shares that are moved, forecasts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest

from langchain_tokopt.budget import Allocation, Budget, Limit, Shortage
from langchain_tokopt.database import Database
from langchain_tokopt.errors import BudgetExceededError, ConfigurationError
from langchain_tokopt.events import Failure
from tests.budget.figures import PRICING, case, usage
from tests.fakes import FakeClock, ListSink

DAY = 86_400
MONDAY = datetime(2027, 3, 1, tzinfo=timezone.utc).timestamp()


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


@pytest.fixture
def make(sink: ListSink, clock: FakeClock) -> Iterator[Callable[..., Budget]]:
    clock.now = MONDAY + DAY / 2
    made: list[Budget] = []

    def budget(limits: dict[str, Any], **settings: Any) -> Budget:
        made.append(Budget(**{"pricing": PRICING, "sink": sink, "clock": clock, "limits": limits, **settings}))
        return made[-1]

    yield budget
    for one in made:
        one.close()


def spend(budget: Budget, path: str, usd: str) -> None:
    with budget.spend(path, usd=usd):
        pass


def shares(budget: Budget) -> dict[str, Decimal]:
    return {one["node"]: one["usd"]["limit"] for one in budget.status()["nodes"] if one["origin"] == "allocated"}


# --- limits that are set ---


def test_what_is_set_holds_for_every_process_until_it_is_dropped(make: Callable[..., Budget], clock: FakeClock) -> None:
    database = Database()
    one, other = (make({"user=*": Limit(usd=1, per="day")}, store=database) for _ in range(2))
    spend(other, "user=ann", "0.4")
    one.set_limit("user=ann", Limit(usd="0.5", per="day"), reason="too fast")
    clock.advance(5)
    with pytest.raises(BudgetExceededError, match=r"of \$0.5 "):
        spend(other, "user=ann", "0.4")
    spend(other, "user=bob", "0.6")
    entry = one.journal("user=ann")[0]
    assert (entry.action, entry.path, entry.reason) == ("set", "user=ann", "$0.5 per day: too fast")
    assert one.drop_limit("user=ann", "day")
    assert not one.drop_limit("user=ann", "day")
    clock.advance(5)
    spend(other, "user=ann", "0.4")
    database.close()


def test_a_limit_is_set_until_a_moment(make: Callable[..., Budget], clock: FakeClock) -> None:
    budget = make({"global": Limit(usd=1, per="day")})
    budget.set_limit("global", Limit(usd=2, per="day"), until=clock.now + 60)
    spend(budget, "", "1.5")
    clock.advance(60)
    with pytest.raises(BudgetExceededError):
        spend(budget, "", "0.1")


def test_the_limits_of_the_code_are_published_and_followed(make: Callable[..., Budget], clock: FakeClock) -> None:
    database = Database()
    make({"global": Limit(usd=1, per="day"), "user=*": Limit(calls=5)}, store=database).status()
    opened = Budget.opened(database, clock=clock)
    assert repr(opened) == "Budget(name='default', global: $1 per day, user=*: 5 calls in all)"
    make({"global": Limit(usd=2, per="day")}, store=database).status()
    assert repr(Budget.opened(database, clock=clock)) == "Budget(name='default', global: $2 per day)"
    with pytest.raises(ConfigurationError, match="no budget of that name; there are: 'default'"):
        Budget.opened(database, name="other")
    opened.close()
    database.close()


# --- shares ---


def test_the_children_of_a_node_share_its_budget(make: Callable[..., Budget]) -> None:
    budget = make({"project=shop": Limit(usd=9, per="day")})
    for agent in ("a", "b", "c"):
        spend(budget, f"project=shop/agent={agent}", "0.5")
    plan = budget.allocate("project=shop", Allocation(strategy="equal"), apply=False)
    assert {share.name: share.after for share in plan.shares} == {
        f"project=shop/agent={agent}": 3 * 10**9 for agent in ("a", "b", "c")
    }
    assert shares(budget) == {}
    budget.allocate("project=shop", Allocation(strategy="equal"))
    assert shares(budget) == {f"project=shop/agent={agent}": 3 for agent in ("a", "b", "c")}
    with pytest.raises(BudgetExceededError) as refused:
        spend(budget, "project=shop/agent=a", "2.6")
    assert (refused.value.node, refused.value.limit) == ("project=shop/agent=a", 3)
    moved = [entry for entry in budget.journal("project=shop/agent=a") if entry.action == "moved"]
    assert [entry.reason for entry in moved] == [f"$3.00: {plan.shares[0].reason}"]


def test_what_was_spent_beside_the_children_is_gone(make: Callable[..., Budget]) -> None:
    budget = make({"global": Limit(usd=10, per="day")})
    spend(budget, "", "4")
    plan = budget.allocate("global", Allocation(strategy="equal", children=["agent=a", "agent=b"]))
    assert (plan.total, [share.after for share in plan.shares]) == (6 * 10**9, [3 * 10**9, 3 * 10**9])


def test_a_node_across_all_paths_is_nobody_s_child(make: Callable[..., Budget]) -> None:
    budget = make({"global": Limit(usd=10, per="day"), "user=*": Limit(usd=1, per="day")})
    spend(budget, "project=a/user=ann", "0.1")
    spend(budget, "project=b/user=ann", "0.1")
    budget.allocate("global", Allocation(strategy="equal"))
    assert shares(budget) == {"project=a": 5, "project=b": 5}
    spend(budget, "user=ann", "0.1")  # now ann stands below the root as well
    plan = budget.allocate("global", Allocation(strategy="equal"), apply=False)
    assert [share.name for share in plan.shares] == ["project=a", "project=b", "user=ann"]


def test_shares_that_nobody_makes_anew_end_with_the_next_period(make: Callable[..., Budget], clock: FakeClock) -> None:
    budget = make({"global": Limit(usd=10, per="day")})
    budget.allocate("global", Allocation(strategy="equal", children=["agent=a", "agent=b"]))
    clock.now = MONDAY + 2 * DAY - 1
    with pytest.raises(BudgetExceededError):
        spend(budget, "agent=a", "6")
    clock.now = MONDAY + 2 * DAY
    spend(budget, "agent=a", "6")


def test_a_limit_that_was_set_by_hand_stays_and_the_code_s_is_a_cap(make: Callable[..., Budget]) -> None:
    budget = make({"global": Limit(usd=10, per="day"), "agent=a": Limit(usd=1, per="day")})
    budget.set_limit("agent=b", Limit(usd=2, per="day"))
    budget.allocate("global", Allocation(strategy="equal", children=["agent=a", "agent=b", "agent=c"]))
    assert shares(budget)["agent=c"] == 7
    by_node = {one["node"]: one["usd"]["limit"] for one in budget.status()["nodes"]}
    assert by_node == {"global": 10, "agent=a": 1, "agent=b": 2, "agent=c": 7}


def test_floors_caps_and_priorities_are_named_below_the_node(make: Callable[..., Budget]) -> None:
    budget = make({"project=shop": Limit(usd=12, per="day")})
    allocation = Allocation(
        strategy="priority",
        priorities={"agent=a": 3, "agent=b": 1},
        caps={"agent=a": "6"},
        floors={"project=shop/agent=c": 4},
    )
    budget.allocate("project=shop", allocation)
    assert shares(budget) == {"project=shop/agent=a": 6, "project=shop/agent=b": 2, "project=shop/agent=c": 4}


def test_what_is_unused_moves_to_where_it_is_needed(make: Callable[..., Budget]) -> None:
    budget = make({"global": Limit(usd=10, per="day")})
    budget.allocate("global", Allocation(strategy="equal", children=["agent=a", "agent=b"]))
    spend(budget, "agent=a", "4.5")
    spend(budget, "agent=b", "0.1")
    plan = budget.rebalance("global", Allocation(strategy="proportional"))
    [move] = plan.moves
    assert (move.source, move.target) == ("agent=b", "agent=a")
    assert shares(budget)["agent=a"] == 5 + Decimal(move.amount) / 10**9
    assert sum(shares(budget).values()) == 10
    assert budget.rebalance("global", Allocation(strategy="proportional")).moves == ()


def test_shares_follow_what_answers_were_worth(make: Callable[..., Budget]) -> None:
    budget = make({"global": Limit(usd=10, per="day")})
    for _ in range(30):
        for agent, value in (("agent=good", 1), ("agent=bad", 0)):
            spend(budget, agent, "0.01")
            budget.feedback(agent, value)
    plan = budget.allocate("global", Allocation(strategy="performance"))
    given = {share.name: share.after for share in plan.shares}
    assert given["agent=good"] > 2 * given["agent=bad"] > 0


def test_shares_follow_what_will_be_needed(make: Callable[..., Budget], clock: FakeClock) -> None:
    budget = make({"global": Limit(usd=10, per="day")})
    for hour in range(14 * 24 + 6):
        clock.now = MONDAY + hour * 3600 + 60
        spend(budget, "agent=steady", "0.1")
        if hour % 24 < 6:
            spend(budget, "agent=early", "0.4")
    clock.now = MONDAY + 14 * DAY + 6 * 3600
    plan = budget.allocate("global", Allocation(strategy="predictive"))
    given = {share.name: share.after for share in plan.shares}
    assert given["agent=steady"] >= 24 * 10**8
    assert given["agent=early"] >= 24 * 10**8
    steady = budget.forecast("agent=steady", per="day")
    assert steady is not None
    assert abs(steady.expected - 24 * 10**8) < 10**8


def test_of_several_limits_the_one_that_is_shared_must_be_named(make: Callable[..., Budget]) -> None:
    budget = make({"global": [Limit(usd=10, per="day"), Limit(usd=100, per="month"), Limit(calls=5, hard=False)]})
    with pytest.raises(ConfigurationError, match="has limits per day and month: say which is shared"):
        budget.allocate("global", Allocation(children=["agent=a"]))
    budget.allocate("global", Allocation(per="month", children=["agent=a"]))
    assert shares(budget) == {"agent=a": 100}


@pytest.mark.parametrize(
    ("node", "allocation", "said"),
    [
        ("agent=a", Allocation(), "no hard limit that its children could share"),
        ("global", Allocation(unit="tokens"), "no hard limit"),
        ("global", Allocation(per="month"), "no hard limit"),
        ("global", Allocation(), "nobody has spent on it yet"),
        ("global", Allocation(floors={"agent=a": 6, "agent=b": 6}), "floor="),
        ("global", Allocation(floors={"agent=a": "much"}), "floors="),
        ("user=*", Allocation(), "node="),
        ("global", 7, "allocation="),
    ],
)
def test_what_cannot_be_shared_is_said(make: Callable[..., Budget], node: str, allocation: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make({"global": Limit(usd=10, per="day")}).allocate(node, allocation)


@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": "best"},
        {"per": "run"},
        {"per": "year"},
        {"unit": "euros"},
        {"children": "agent=a"},
        {"children": ["agent=*"]},
        {"floors": [1]},
        {"every_seconds": 0},
    ],
)
def test_an_allocation_that_cannot_work_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Allocation(**settings)


# --- by itself ---


def test_shares_are_made_anew_in_each_period_by_one_process(make: Callable[..., Budget], clock: FakeClock) -> None:
    database = Database()
    allocations = {"global": Allocation(strategy="proportional", children=["agent=a", "agent=b"])}
    one, other = (make({"global": Limit(usd=10, per="day")}, store=database, allocations=allocations) for _ in range(2))
    spend(one, "agent=a", "1")
    assert sum(shares(one).values()) == 10
    spend(other, "agent=a", "3")
    before = shares(one)
    spend(one, "agent=b", "0.1")
    assert shares(one) == before
    clock.advance(DAY)
    spend(other, "agent=b", "0.1")
    clock.advance(5)
    assert shares(one)["agent=a"] > shares(one)["agent=b"]
    moves = [entry for entry in one.journal(count=1000) if entry.action == "moved"]
    assert {entry.at for entry in moves} == {MONDAY + DAY / 2, MONDAY + DAY / 2 + DAY}
    database.close()


def test_shares_are_moved_as_often_as_is_said(make: Callable[..., Budget], clock: FakeClock) -> None:
    allocation = Allocation(strategy="proportional", children=["agent=a", "agent=b"], every_seconds=3600)
    budget = make({"global": Limit(usd=10, per="day")}, allocations={"global": allocation})
    spend(budget, "agent=a", "4")
    first = shares(budget)
    clock.advance(1800)
    spend(budget, "agent=b", "0.1")
    assert shares(budget) == first
    clock.advance(1800)
    spend(budget, "agent=b", "0.1")
    assert shares(budget)["agent=a"] > first["agent=a"]


def test_shares_that_cannot_be_moved_stop_no_call(
    make: Callable[..., Budget], sink: ListSink, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    allocation = Allocation(floors={"agent=a": 20})
    budget = make({"global": Limit(usd=10, per="day")}, allocations={"global": allocation})
    with caplog.at_level(logging.WARNING):
        spend(budget, "agent=a", "1")
        spend(budget, "agent=a", "1")
    [record] = caplog.records
    assert "the shares of global were not moved" in record.getMessage()
    assert [(failure.part, failure.stage) for failure in sink.of(Failure)] == [("budget", "background")]


@pytest.mark.parametrize("allocations", [7, {"global": 7}, {"user=*": Allocation()}])
def test_allocations_that_cannot_be_read_are_refused(make: Callable[..., Budget], allocations: Any) -> None:
    with pytest.raises(ConfigurationError):
        make({"global": Limit(usd=1)}, allocations=allocations)


# --- looking ahead ---


def test_a_forecast_says_what_the_period_will_take(make: Callable[..., Budget], clock: FakeClock) -> None:
    budget = make({"global": Limit(usd=100, per="month"), "user=*": Limit(usd=1, per="day")})
    assert budget.forecast() is None
    for day in range(20):
        clock.now = MONDAY + day * DAY + DAY / 2
        spend(budget, "user=ann", "0.75")
    clock.now = MONDAY + 20 * DAY
    found = budget.forecast()
    assert found is not None
    assert (found.spent, found.limit, found.runs_out_at) == (15 * 10**9, 100 * 10**9, None)
    assert found.low <= found.expected <= found.high
    assert abs(found.expected - 23.25e9) < 0.5e9
    ann = budget.forecast("user=ann", unit="usd")
    assert ann is not None
    assert (ann.limit, ann.spent) == (10**9, 0)
    tokens = budget.forecast("user=ann", per="month", unit="calls")
    assert tokens is not None
    assert (tokens.unit, tokens.limit, tokens.spent) == ("calls", None, 20)


def test_a_forecast_says_when_a_limit_runs_out(make: Callable[..., Budget], clock: FakeClock) -> None:
    budget = make({"global": Limit(usd=20, per="month")})
    for day in range(15):
        clock.now = MONDAY + day * DAY + DAY / 2
        spend(budget, "", "1")
    clock.now = MONDAY + 15 * DAY
    found = budget.forecast()
    assert found is not None
    assert found.runs_out_at is not None
    assert MONDAY + 19 * DAY <= found.runs_out_at <= MONDAY + 21 * DAY


@pytest.mark.parametrize(
    "settings", [{"node": "user=*"}, {"per": "run"}, {"per": "year"}, {"unit": "euros"}, {"coverage": 2}]
)
def test_a_forecast_that_cannot_be_made_is_said(make: Callable[..., Budget], settings: dict[str, Any]) -> None:
    budget = make({"global": Limit(usd=20, per="month")})
    spend(budget, "", "1")
    with pytest.raises(ConfigurationError):
        budget.forecast(**settings)


@pytest.mark.parametrize(("path", "value"), [("a//b", 1), ("a", float("nan")), ("a", True), ("a", "1")])
def test_feedback_that_cannot_be_read_is_said(make: Callable[..., Budget], path: str, value: Any) -> None:
    with pytest.raises(ConfigurationError):
        make({"global": Limit(usd=20)}).feedback(path, value)


def test_the_journal_has_what_happened_newest_first(make: Callable[..., Budget]) -> None:
    budget = make({"global": Limit(usd=20)})
    spend(budget, "agent=a", "1")
    offered = budget.offer(case(), path="agent=b")
    assert not isinstance(offered, Shortage)
    budget.settle(offered, usage(1, 1))
    assert [(entry.action, entry.path) for entry in budget.journal(count=4)] == [
        ("settled", "agent=b"),
        ("reserved", "agent=b"),
        ("settled", "agent=a"),
        ("reserved", "agent=a"),
    ]
    assert [entry.action for entry in budget.journal("agent=b")] == ["settled", "reserved"]
    with pytest.raises(ConfigurationError, match="count="):
        budget.journal(count=0)
