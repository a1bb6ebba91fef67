"""Sharing a budget: the five strategies, bounds, what cannot be had, and what is said about it."""

from __future__ import annotations

from typing import Any

import pytest

from langchain_tokopt.budget.planning import Child, Plan, Strategy, allocate
from langchain_tokopt.errors import ConfigurationError

USD = 10**9


def shares(plan: Plan) -> dict[str, int]:
    return {share.name: share.after for share in plan.shares}


def reasons(plan: Plan) -> dict[str, str]:
    return {share.name: share.reason for share in plan.shares}


def family(**children: dict[str, Any]) -> list[Child]:
    return [Child(name=name, **settings) for name, settings in children.items()]


# --- strategies ---


def test_equal_gives_each_the_same_and_the_odd_units_by_name() -> None:
    plan = allocate(family(c={}, a={}, b={}), 11)
    assert shares(plan) == {"a": 4, "b": 4, "c": 3}
    assert [share.name for share in plan.shares] == ["c", "a", "b"]
    assert (plan.unallocated, plan.overspent, plan.notes) == (0, 0, ())
    assert [(move.source, move.target, move.amount) for move in plan.moves] == [
        (None, "a", 4),
        (None, "b", 4),
        (None, "c", 3),
    ]


def test_proportional_goes_by_use_with_a_start_for_those_without() -> None:
    """Weights are use + 0.2 * mean use: 60 + 6, 30 + 6, 0 + 6 of 108."""
    plan = allocate(family(a={"used": 60}, b={"used": 30}, c={}), 1080, strategy="proportional")
    assert shares(plan) == {"a": 660, "b": 360, "c": 60}
    assert reasons(plan) == {
        "a": "a used 67 % of what all used",
        "b": "b used 33 % of what all used",
        "c": "c has used nothing yet and gets a start",
    }


def test_proportional_can_go_by_more_than_this_period() -> None:
    plan = allocate(family(a={"recent": 90}, b={"recent": 30, "used": 5}), 144, strategy="proportional")
    assert shares(plan) == {"a": 102, "b": 42}


def test_before_anything_is_used_proportional_is_equal() -> None:
    assert shares(allocate(family(a={}, b={}), 10, strategy="proportional")) == {"a": 5, "b": 5}


def test_priority_goes_by_weights() -> None:
    plan = allocate(family(a={"priority": 3}, b={}, c={"priority": 0.5}), 900, strategy="priority")
    assert shares(plan) == {"a": 600, "b": 200, "c": 100}
    assert reasons(plan)["a"] == "a has priority 3 of 4.5 in all"


def test_predictive_gives_what_is_needed_and_the_rest_in_proportion_to_what_is_still_to_come() -> None:
    plan = allocate(family(a={"forecast": 60}, b={"forecast": 20, "used": 5}), 160, strategy="predictive", unit="calls")
    assert shares(plan) == {"a": 60 + 64, "b": 20 + 16}
    assert reasons(plan) == {"a": "a will need about 60 calls more", "b": "b will need about 15 calls more"}


def test_predictive_shares_a_shortage_by_what_is_still_needed() -> None:
    """80 are used and needed on top are 60 and 20, but only 40 are there: half of each."""
    children = family(a={"used": 20, "forecast": 80}, b={"used": 60, "forecast": 80})
    assert shares(allocate(children, 120, strategy="predictive")) == {"a": 50, "b": 70}


def test_predictive_takes_a_child_without_a_forecast_for_one_like_the_others() -> None:
    children = family(a={"forecast": 10}, b={"forecast": 30}, c={"forecast": 20}, d={})
    plan = allocate(children, 80, strategy="predictive", unit="tokens")
    assert shares(plan) == {"a": 10, "b": 30, "c": 20, "d": 20}
    assert reasons(plan)["d"] == "d will need about 20 tokens more, if it is like the others"


def test_predictive_without_any_forecast_is_equal() -> None:
    assert shares(allocate(family(a={}, b={}), 10, strategy="predictive")) == {"a": 5, "b": 5}


def test_what_was_used_beyond_a_forecast_counts() -> None:
    assert shares(allocate(family(a={"used": 40, "forecast": 10}, b={"forecast": 40}), 80, strategy="predictive")) == {
        "a": 40,
        "b": 40,
    }


def valued(mean: float, count: int, spread: float = 1.0) -> tuple[float, ...]:
    """Values around a mean, half of them above and half below."""
    return tuple(mean + spread * (-1) ** n for n in range(count))


def test_performance_gives_more_to_those_whose_answers_are_worth_more_for_their_cost() -> None:
    children = family(
        a={"values": valued(8, 200), "cost": 200},
        b={"values": valued(4, 200), "cost": 200},
        c={"values": valued(8, 200), "cost": 800},
    )
    found = shares(allocate(children, 1000, strategy="performance"))
    assert found["a"] > found["b"] > found["c"] > 100
    assert found["a"] / found["b"] == pytest.approx(1.8, abs=0.15)


def test_one_lucky_answer_does_not_take_all() -> None:
    children = family(
        a={"values": valued(1, 40, 0.5), "cost": 40},
        b={"values": valued(1, 40, 0.5), "cost": 40},
        lucky={"values": (5.0,), "cost": 1},
    )
    found = shares(allocate(children, 300, strategy="performance"))
    assert 100 < found["lucky"] < 190


def test_differences_that_may_be_chance_make_no_difference() -> None:
    children = family(a={"values": (1.0, 0.0, 1.0), "cost": 3}, b={"values": (0.0, 1.0, 0.0), "cost": 3})
    assert shares(allocate(children, 100, strategy="performance")) == {"a": 50, "b": 50}


def test_the_worthless_keep_a_share_to_show_that_they_are_not() -> None:
    children = family(a={"values": valued(5, 50), "cost": 50}, b={"values": valued(-3, 50), "cost": 50})
    plan = allocate(children, 1000, strategy="performance")
    assert shares(plan) == {"a": 950, "b": 50}  # a tenth is shared equally
    assert reasons(plan)["b"] == "b gets 0 % of the value per dollar that the best gets (50 answers valued)"


def test_a_child_without_feedback_is_taken_for_an_average_one() -> None:
    children = family(a={"values": valued(6, 50), "cost": 50}, b={"values": valued(2, 50), "cost": 50}, new={})
    found = shares(allocate(children, 900, strategy="performance"))
    assert found["a"] > found["new"] > found["b"]
    assert found["new"] == pytest.approx(300, abs=10)


@pytest.mark.parametrize("values", [(), (0.0, 0.0), (-1.0, -2.0)])
def test_performance_without_any_worth_is_equal(values: tuple[float, ...]) -> None:
    children = family(a={"values": values, "cost": 5}, b={})
    plan = allocate(children, 10, strategy="performance")
    assert shares(plan) == {"a": 5, "b": 5}
    assert "as good a claim as any" in reasons(plan)["a"]


# --- bounds ---


def test_what_bounds_take_from_one_goes_to_all_others() -> None:
    plan = allocate(family(a={"cap": 100}, b={"floor": 500}, c={}, d={}), 1000)
    assert shares(plan) == {"a": 100, "b": 500, "c": 200, "d": 200}
    assert reasons(plan) == {
        "a": "a has the most that it may have, $0.0000001",
        "b": "b has the least that it is to have, $0.0000005",
        "c": "c has the same claim as each",
        "d": "d has the same claim as each",
    }


def test_what_caps_leave_over_stays_with_the_parent() -> None:
    plan = allocate(family(a={"cap": 10}, b={"cap": 20}), 100)
    assert (shares(plan), plan.unallocated) == ({"a": 10, "b": 20}, 70)


def test_what_is_used_is_gone_even_above_a_cap() -> None:
    plan = allocate(family(a={"used": 60, "cap": 30}, b={}, c={}), 100)
    assert shares(plan) == {"a": 60, "b": 20, "c": 20}
    assert reasons(plan)["a"] == "a has used $0.00000006 already"


def test_floors_that_others_have_used_are_scaled_and_noted() -> None:
    """70 of 100 are used; the floors lack 40 and 20, and 30 are left: half of each."""
    plan = allocate(
        family(a={"used": 60}, b={"used": 10, "floor": 50}, c={"floor": 20}), 100, strategy="priority", unit="tokens"
    )
    assert shares(plan) == {"a": 60, "b": 30, "c": 10}
    assert plan.notes == (
        "of 100 tokens in all 70 tokens used already: too much for what b and c should have at least",
    )


def test_an_overspent_parent_gives_each_what_it_used() -> None:
    plan = allocate(family(a={"used": 80}, b={"used": 40, "floor": 50}, c={}), 100, unit="calls")
    assert shares(plan) == {"a": 80, "b": 40, "c": 0}
    assert (plan.overspent, plan.unallocated) == (20, 0)
    assert plan.notes == ("of 100 calls in all 120 calls used already: too much for what b should have at least",)


def test_nothing_can_be_shared_and_shared_among_nobody() -> None:
    assert shares(allocate(family(a={}, b={}), 0)) == {"a": 0, "b": 0}
    assert allocate([], 100).unallocated == 100


def test_large_amounts_are_exact() -> None:
    total = 10**18 + 1
    plan = allocate(
        family(a={"priority": 1 / 3}, b={"priority": 0.1}, c={"priority": 7e-9}), total, strategy="priority"
    )
    assert sum(shares(plan).values()) == total


# --- what cannot be ---


def test_floors_beyond_the_total_are_refused_by_name() -> None:
    with pytest.raises(ConfigurationError) as caught:
        allocate(family(a={"floor": 60}, b={}, c={"floor": 50}), 100)
    assert (caught.value.argument, caught.value.value) == ("floor", {"a": 60, "c": 50})
    assert "together they are 110, and there are 100 to share" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"floor": 5, "cap": 4}, "cap"),
        ({"used": -1}, "used"),
        ({"used": 1.5}, "used"),
        ({"floor": True}, "floor"),
        ({"forecast": -1}, "forecast"),
        ({"priority": 0}, "priority"),
        ({"priority": float("nan")}, "priority"),
        ({"priority": float("inf")}, "priority"),
        ({"values": (1.0, float("nan"))}, "values"),
    ],
)
def test_a_child_that_cannot_be_is_refused(settings: dict[str, Any], argument: str) -> None:
    with pytest.raises(ConfigurationError, match="'a'") as caught:
        Child(name="a", **settings)
    assert caught.value.argument == argument


@pytest.mark.parametrize("total", [-1, 1.5, True])
def test_a_total_that_cannot_be_is_refused(total: Any) -> None:
    with pytest.raises(ConfigurationError, match="total"):
        allocate(family(a={}), total)


def test_two_children_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="children="):
        allocate([Child(name="a"), Child(name="a")], 10)


def test_an_unknown_strategy_is_refused() -> None:
    strategy: Any = "fair"
    with pytest.raises(ConfigurationError, match="'equal', 'proportional', 'priority', 'performance', 'predictive'"):
        allocate(family(a={}), 10, strategy=strategy)


@pytest.mark.parametrize("strategy", ["equal", "proportional", "priority", "performance", "predictive"])
def test_a_thousand_children_are_shared_exactly(strategy: Strategy) -> None:
    children = [
        Child(
            name=f"child {n}",
            used=n * 7919 % 1000,
            floor=n % 13,
            cap=None if n % 3 else 5_000,
            priority=1 + n % 5,
            forecast=n * 104729 % 3_000,
            values=(float(n % 4),) * (n % 3),
            cost=n % 3 * 10,
        )
        for n in range(1000)
    ]
    plan = allocate(children, 2_000_003, strategy=strategy)
    assert sum(shares(plan).values()) == 2_000_003
