"""What holds for any allocation: exact sums, bounds, and no dependence on order or repetition."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from langchain_tokopt.budget.planning import Child, Plan, Strategy, allocate, rebalance

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
NAMES = "abcdefgh"


@st.composite
def families(draw: st.DrawFn) -> tuple[list[Child], int]:
    """Children and a total that their floors fit under; what they have used may be more."""
    most = draw(st.sampled_from([7, 100, 10**6, 5 * 10**12]))
    amounts = st.integers(0, most)
    children = []
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True)):
        floor = draw(st.one_of(st.just(0), st.integers(0, most // 4)))
        children.append(
            Child(
                name=name,
                used=draw(st.one_of(st.just(0), amounts)),
                floor=floor,
                cap=draw(st.one_of(st.none(), st.integers(floor, 2 * most))),
                priority=draw(st.sampled_from([0.1, 1.0, 1.5, 3.0, 7.0])),
                recent=draw(st.one_of(st.none(), amounts)),
                values=tuple(draw(st.lists(st.floats(-2, 5), max_size=5))),
                cost=draw(st.one_of(st.just(0), amounts)),
                forecast=draw(st.one_of(st.none(), amounts)),
                current=draw(st.one_of(st.none(), amounts)),
            )
        )
    floors = sum(child.floor for child in children)
    return children, draw(st.integers(floors, floors + 4 * most))


def after(plan: Plan) -> dict[str, int]:
    return {share.name: share.after for share in plan.shares}


def applied(children: list[Child], plan: Plan) -> list[Child]:
    found = after(plan)
    return [replace(child, current=found[child.name]) for child in children]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("share_out", [allocate, rebalance])
@settings(max_examples=30, deadline=None)
@given(family=families())
def test_sums_are_exact_and_bounds_hold(share_out, strategy: Strategy, family: tuple[list[Child], int]) -> None:  # type: ignore[no-untyped-def]
    children, total = family
    plan = share_out(children, total, strategy=strategy)
    used = sum(child.used for child in children)
    assert sum(after(plan).values()) + plan.unallocated == total + plan.overspent
    assert plan.overspent == max(0, used - total)
    assert plan.overspent == 0 or plan.unallocated == 0
    fits = sum(max(child.used, child.floor) for child in children) <= total
    assert bool(plan.notes) is not fits
    for child in children:
        share = after(plan)[child.name]
        assert share >= (max(child.used, child.floor) if fits else child.used)
        assert child.cap is None or share <= max(child.cap, child.used)
        if plan.overspent:
            assert share == child.used


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=30, deadline=None)
@given(family=families())
def test_all_is_given_unless_every_child_with_a_claim_has_its_cap(
    strategy: Strategy, family: tuple[list[Child], int]
) -> None:
    children, total = family
    plan = allocate(children, total, strategy=strategy)
    if plan.unallocated and strategy != "predictive":
        assert all(
            child.cap is not None and after(plan)[child.name] == max(child.cap, child.used) for child in children
        )


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("share_out", [allocate, rebalance])
@settings(max_examples=30, deadline=None)
@given(family=families(), data=st.data())
def test_the_order_of_the_children_does_not_matter(  # type: ignore[no-untyped-def]
    share_out, strategy: Strategy, family: tuple[list[Child], int], data: st.DataObject
) -> None:
    children, total = family
    one = share_out(children, total, strategy=strategy)
    other = share_out(data.draw(st.permutations(children)), total, strategy=strategy)
    assert after(one) == after(other)
    assert (one.moves, one.unallocated, one.notes) == (other.moves, other.unallocated, other.notes)
    assert {share.name: share.reason for share in one.shares} == {share.name: share.reason for share in other.shares}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("share_out", [allocate, rebalance])
@settings(max_examples=30, deadline=None)
@given(family=families())
def test_doing_it_again_moves_nothing(share_out, strategy: Strategy, family: tuple[list[Child], int]) -> None:  # type: ignore[no-untyped-def]
    children, total = family
    plan = share_out(children, total, strategy=strategy)
    again = share_out(applied(children, plan), total, strategy=strategy)
    assert again.moves == ()
    assert after(again) == after(plan)


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=30, deadline=None)
@given(family=families())
def test_the_moves_lead_from_before_to_after(strategy: Strategy, family: tuple[list[Child], int]) -> None:
    children, total = family
    plan = rebalance(children, total, strategy=strategy)
    have: dict[str | None, int] = {child.name: child.current or 0 for child in children}
    for move in plan.moves:
        assert move.amount > 0
        assert move.reason
        have[move.source] = have.get(move.source, 0) - move.amount
        have[move.target] = have.get(move.target, 0) + move.amount
    have.pop(None, None)
    assert have == after(plan)
    assert len(plan.moves) <= len(children)
    givers, takers = ({getattr(move, end) for move in plan.moves} for end in ("source", "target"))
    assert not givers & takers


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=30, deadline=None)
@given(family=families())
def test_rebalancing_ends_near_what_the_strategy_gives(strategy: Strategy, family: tuple[list[Child], int]) -> None:
    children, total = family
    plan = rebalance(children, total, strategy=strategy)
    wanted = allocate(children, total, strategy=strategy)
    off = {name: share - after(wanted)[name] for name, share in after(plan).items()}
    off[""] = (plan.unallocated - plan.overspent) - (wanted.unallocated - wanted.overspent)
    assert sum(off.values()) == 0
    assert min(max(off.values()), -min(off.values())) < 2 * max(1, total // 100)


@settings(max_examples=30, deadline=None)
@given(family=families(), data=st.data())
def test_more_priority_is_never_less_money(family: tuple[list[Child], int], data: st.DataObject) -> None:
    children, total = family
    at = data.draw(st.integers(0, len(children) - 1))
    before = after(allocate(children, total, strategy="priority"))[children[at].name]
    raised = replace(children[at], priority=children[at].priority * data.draw(st.floats(1, 10)))
    children = [*children[:at], raised, *children[at + 1 :]]
    # One unit, a billionth of a dollar, may go the other way: that is how largest remainders round.
    assert after(allocate(children, total, strategy="priority"))[raised.name] >= before - 1


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=30, deadline=None)
@given(family=families())
def test_equal_children_get_the_same(strategy: Strategy, family: tuple[list[Child], int]) -> None:
    children, total = family
    twin = replace(children[0], name="z")
    assume(sum(child.floor for child in children) + twin.floor <= total)
    shares = after(allocate([*children, twin], total, strategy=strategy))
    assert 0 <= shares[children[0].name] - shares["z"] <= 1
