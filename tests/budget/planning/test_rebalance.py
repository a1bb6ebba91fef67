"""Moving what is unused from one child to another: how much, when at all, and why."""

from __future__ import annotations

from typing import Any

import pytest

from langchain_tokopt.budget.planning import Child, Move, Plan, rebalance
from langchain_tokopt.errors import ConfigurationError

USD = 10**9


def moves(plan: Plan) -> list[tuple[str | None, str | None, int]]:
    return [(move.source, move.target, move.amount) for move in plan.moves]


def family(**children: dict[str, Any]) -> list[Child]:
    return [Child(name=name, **settings) for name, settings in children.items()]


def test_a_move_says_what_how_much_and_why() -> None:
    children = family(
        a={"used": 150_000_000, "current": 5 * USD, "forecast": 3 * USD},
        b={"used": 4_200_000_000, "current": 5 * USD, "forecast": 7_300_000_000},
    )
    plan = rebalance(children, 10 * USD, strategy="predictive", per="day", gone=0.8)
    assert len(plan.moves) == 1
    (move,) = plan.moves
    assert (move.source, move.target) == ("a", "b")
    assert move.reason == (
        f"moved ${move.amount / USD:.2f} from a to b: a has used 3 % of its $5.00 with 80 % of the day gone, "
        "b will need about $3.10 more"
    )


def test_a_new_child_gets_its_share_from_the_largest_givers() -> None:
    plan = rebalance(family(a={"current": 700}, b={"current": 300}, c={}), 1000, strategy="equal")
    assert moves(plan) == [("a", "c", 333), ("a", "b", 33)]


def test_what_is_new_to_the_parent_is_given() -> None:
    plan = rebalance(family(a={"current": 500}, b={"current": 500}), 2000, unit="tokens")
    assert plan.moves == (
        Move(None, "a", 500, "gave 500 tokens to a: a has the same claim as each"),
        Move(None, "b", 500, "gave 500 tokens to b: b has the same claim as each"),
    )


def test_what_the_parent_has_no_more_is_taken_back() -> None:
    plan = rebalance(family(a={"current": 500, "used": 100}, b={"current": 500}), 600, unit="tokens")
    assert plan.moves == (
        Move("a", None, 200, "took 200 tokens back from a: a has used 20 % of its 500 tokens"),
        Move("b", None, 200, "took 200 tokens back from b: b has used 0 % of its 500 tokens"),
    )


def test_nothing_moves_before_a_move_is_worth_two_percent() -> None:
    assert moves(rebalance(family(a={"current": 519}, b={"current": 481}), 1000)) == []
    assert moves(rebalance(family(a={"current": 520}, b={"current": 480}), 1000)) == [("a", "b", 20)]


def test_once_awake_moves_of_one_percent_are_made_and_crumbs_stay() -> None:
    children = family(
        a={"current": 341, "priority": 250},
        b={"current": 200, "priority": 250},
        c={"current": 238, "priority": 250},
        d={"current": 221, "priority": 250},
    )
    plan = rebalance(children, 1000, strategy="priority")
    assert moves(plan) == [("a", "b", 50), ("a", "d", 29), ("a", "c", 12)]
    children[2] = Child(name="c", current=245, priority=250)
    children[3] = Child(name="d", current=214, priority=250)
    assert moves(rebalance(children, 1000, strategy="priority")) == [("a", "b", 50), ("a", "d", 36)]


def test_the_smallest_move_can_be_chosen() -> None:
    children = family(a={"current": 519}, b={"current": 481})
    assert moves(rebalance(children, 1000, smallest=5)) == [("a", "b", 19)]
    assert moves(rebalance(children, 1000, smallest=300)) == []


@pytest.mark.parametrize("smallest", [0, -1, 1.5, True])
def test_a_smallest_move_that_cannot_be_is_refused(smallest: Any) -> None:
    with pytest.raises(ConfigurationError, match="smallest"):
        rebalance(family(a={}), 1000, smallest=smallest)


def test_what_has_to_be_is_done_however_small() -> None:
    """`a` used more than its share, `b` is below its floor, `c` is above its cap."""
    children = family(
        a={"current": 100, "used": 103},
        b={"current": 200, "floor": 202},
        c={"current": 304, "cap": 300},
        d={"current": 396},
    )
    plan = rebalance(children, 1000, strategy="priority", unit="calls", smallest=400)
    after = {share.name: share.after for share in plan.shares}
    assert after["a"] >= 103
    assert after["b"] >= 202
    assert after["c"] <= 300
    assert sum(after.values()) + plan.unallocated == 1000
    said = " ".join(move.reason for move in plan.moves)
    assert "a has used 103 calls, more than its 100 calls" in said
    assert "c may have 300 calls at most" in said


def test_shares_above_the_total_are_cut_however_little_it_is() -> None:
    plan = rebalance(family(a={"current": 503}, b={"current": 500}), 1000)
    assert sum(share.after for share in plan.shares) == 1000
    assert plan.unallocated == 0


def test_a_crumb_that_came_to_the_parent_stays_unallocated() -> None:
    plan = rebalance(family(a={"current": 500}, b={"current": 500}), 1005)
    assert (moves(plan), plan.unallocated) == ([], 5)


def test_only_what_is_unused_moves() -> None:
    plan = rebalance(family(a={"current": 900, "used": 850}, b={"current": 100, "used": 100}), 1000)
    assert moves(plan) == [("a", "b", 50)]


def test_a_few_large_moves_rather_than_many_small_ones() -> None:
    children = family(
        a={"current": 400}, b={"current": 300}, c={"current": 100}, d={"current": 100}, e={"current": 100}
    )
    assert moves(rebalance(children, 1000)) == [("a", "c", 100), ("a", "d", 100), ("b", "e", 100)]


def test_without_the_time_the_reason_does_not_speak_of_it() -> None:
    plan = rebalance(family(a={"current": 900}, b={"current": 100}), 1000, unit="tokens")
    assert plan.moves[0].reason == (
        "moved 400 tokens from a to b: a has used 0 % of its 900 tokens, b has the same claim as each"
    )
