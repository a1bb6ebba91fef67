"""Sharing a parent's budget among its children, and moving what is unused from one to another."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from langchain_tokopt.budget.amounts import Unit
from langchain_tokopt.budget.planning.children import Child, Plan, Share, Strategy, check, read_strategy
from langchain_tokopt.budget.planning.filling import Vessel, fill
from langchain_tokopt.budget.planning.matching import Part, matched
from langchain_tokopt.budget.planning.reasons import Told
from langchain_tokopt.budget.planning.saying import amount, listing
from langchain_tokopt.budget.planning.strategies import vessels
from langchain_tokopt.errors import ConfigurationError

# A move is worth making from this share of the total on, and the first of several from twice that on.
CRUMB = Fraction(1, 100)
WAKE = 2


def allocate(
    children: Sequence[Child],
    total: int,
    *,
    strategy: Strategy = "equal",
    unit: Unit = "usd",
    per: str = "period",
    gone: float | None = None,
) -> Plan:
    """The shares that the strategy gives each child, to the last unit: they and what is unallocated sum to `total`.

    Nobody gets less than it has used or its floor, nor more than its cap; what the bounds take from one goes to all
    others in the strategy's proportions. Where the children have already used so much that the floors do not all fit
    any more, what is left is shared in proportion to what each floor lacks, and a note says so. Where they have used
    more than there is, each gets just that.

    Args:
        children: Each with a name of its own. The order does not matter.
        total: What there is to share, in whole nano-USD, tokens or calls.
        strategy: See `langchain_tokopt.budget.planning.strategies`.
        unit: What all amounts are counted in.
        per: What the reasons call the period, such as "day".
        gone: Which share of the period is over, 0 to 1; it stands in the reasons.

    Raises:
        ConfigurationError: The floors are more than the total, or something else cannot work.
    """
    return _plan(children, total, strategy=strategy, unit=unit, per=per, gone=gone, smallest=1, wake=1)


def rebalance(
    children: Sequence[Child],
    total: int,
    *,
    strategy: Strategy = "equal",
    unit: Unit = "usd",
    per: str = "period",
    gone: float | None = None,
    smallest: int | None = None,
) -> Plan:
    """The shares after moving what is unused towards what `allocate` would give, but no crumbs.

    A move is at least `smallest` (1 % of the total unless told otherwise), and nothing moves before there is one of
    twice that, so that shares do not tremble with every forecast; rebalancing again moves nothing. What has to be is
    done whatever its size: a child below its floor or what it has used, above its cap, or shares above the total.
    What is left over by a cap, or has come to the parent since, stays unallocated until it is worth a move.

    Arguments and errors are those of `allocate`. A child whose `current` is `None` comes with nothing.
    """
    if smallest is None:
        smallest = max(1, int(CRUMB * total))
    elif isinstance(smallest, bool) or not isinstance(smallest, int) or smallest < 1:
        raise ConfigurationError("smallest", smallest, "give a whole amount from 1 up, or None for 1 % of the total")
    return _plan(
        children, total, strategy=strategy, unit=unit, per=per, gone=gone, smallest=smallest, wake=WAKE * smallest
    )


def _plan(
    children: Sequence[Child],
    total: int,
    *,
    strategy: Strategy,
    unit: Unit,
    per: str,
    gone: float | None,
    smallest: int,
    wake: int,
) -> Plan:
    strategy = read_strategy(strategy)
    check(children, total)
    lowers, notes = _lowers(children, total, unit)
    uppers = [None if child.cap is None else max(child.cap, child.used) for child in children]
    wanted = fill(vessels(children, total, lowers, uppers, strategy), total)
    had = [child.current or 0 for child in children]
    parts = [
        Part(child.name, before, after, lower, upper)
        for child, before, after, lower, upper in zip(children, had, wanted, lowers, uppers, strict=True)
    ]
    spare = total - sum(wanted)  # below 0 when they have used more than there is
    parts.append(Part(None, total - sum(had), spare, min(0, spare), None))
    told = Told(children, wanted, strategy, unit, per, gone)
    after = {child.name: before for child, before in zip(children, had, strict=True)}
    moves = []
    for source, target, moved in matched(parts, smallest=smallest, wake=wake):
        if source is not None:
            after[source] -= moved
        if target is not None:
            after[target] += moved
        moves.append(told.move(source, target, moved))
    left = total - sum(after.values())
    return Plan(
        strategy=strategy,
        unit=unit,
        total=total,
        shares=tuple(
            Share(child.name, before, after[child.name], told.share(child, after[child.name]))
            for child, before in zip(children, had, strict=True)
        ),
        moves=tuple(sorted(moves, key=lambda move: (-move.amount, move.source or "", move.target or ""))),
        unallocated=max(0, left),
        overspent=max(0, -left),
        notes=notes,
    )


def _lowers(children: Sequence[Child], total: int, unit: Unit) -> tuple[list[int], tuple[str, ...]]:
    """The least that each is to get, and a note when that is not all that was asked for."""
    lowers = [max(child.floor, child.used) for child in children]
    if sum(lowers) <= total:
        return lowers, ()
    used = sum(child.used for child in children)
    short = [child.name for child in children if child.floor > child.used]
    lacks = [
        Vessel(child.name, child.used, Fraction(lower - child.used), child.used, lower)
        for child, lower in zip(children, lowers, strict=True)
    ]
    note = f"of {amount(total, unit)} in all {amount(used, unit)} used already"
    if short:
        return fill(lacks, total), (f"{note}: too much for what {listing(sorted(short))} should have at least",)
    return lowers, (note,)
