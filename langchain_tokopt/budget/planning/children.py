"""Who shares a budget, and how much: the words of an allocation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from langchain_tokopt.budget.amounts import Unit
from langchain_tokopt.errors import ConfigurationError

Strategy = Literal["equal", "proportional", "priority", "performance", "predictive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One of those who share a parent's budget. Amounts are whole: nano-USD, tokens or calls.

    Attributes:
        name: Its name, different from all others'.
        used: What it has spent and holds in this period. It cannot get less: that much is gone.
        floor: The least that it is to have.
        cap: The most that it is to have, `None` for no bound. What it has used counts all the same.
        priority: For "priority": how much more it is to have than one with 1.
        recent: For "proportional": what it used over the time that is to count, such as this period and the last.
            `None`: `used` counts.
        values: For "performance": what its answers were worth, one by one, in the caller's own unit.
        cost: For "performance": what the answers behind these values took, in the unit of the amounts.
        forecast: For "predictive": what it will have spent by the end of the period, `used` included; `None` when
            nobody knows.
        current: The share that it has now; `None` for one that has none yet.
    """

    name: str
    used: int = 0
    floor: int = 0
    cap: int | None = None
    priority: float = 1.0
    recent: int | None = None
    values: tuple[float, ...] = ()
    cost: int = 0
    forecast: int | None = None
    current: int | None = None

    def __post_init__(self) -> None:
        for argument in ("used", "floor", "cap", "recent", "cost", "forecast", "current"):
            amount = getattr(self, argument)
            if amount is not None and (isinstance(amount, bool) or not isinstance(amount, int) or amount < 0):
                raise ConfigurationError(argument, amount, f"give {self.name!r} a whole amount from 0 up")
        if self.cap is not None and self.cap < self.floor:
            raise ConfigurationError("cap", self.cap, f"give {self.name!r} a cap that is not below its floor")
        if not 0 < self.priority < math.inf:
            raise ConfigurationError("priority", self.priority, f"give {self.name!r} a positive priority, such as 1.0")
        if not all(map(math.isfinite, self.values)):
            raise ConfigurationError("values", self.values, f"give {self.name!r} finite numbers")


@dataclass(frozen=True, slots=True)
class Share:
    """What a child had (0 for a new one), what it has by the plan, and why, in a sentence."""

    name: str
    before: int
    after: int
    reason: str


@dataclass(frozen=True, slots=True)
class Move:
    """An amount that goes from one to another, and why, in a sentence. `None` is the parent's own, unallocated part."""

    source: str | None
    target: str | None
    amount: int
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """How a budget is shared.

    Attributes:
        strategy: How the shares were chosen.
        unit: What all amounts are counted in: "usd" is nano-USD.
        total: What there is to share.
        shares: One per child, in the order in which they were given.
        moves: What changes, largest first; making all of them leads from `before` to `after`.
        unallocated: What nobody was given, because of caps, or because it was not worth a move. The shares and this
            sum to the total.
        overspent: By how much the children have used more than there is. The shares sum to the total and this.
        notes: What could not be had as it was asked for.
    """

    strategy: Strategy
    unit: Unit
    total: int
    shares: tuple[Share, ...]
    moves: tuple[Move, ...]
    unallocated: int
    overspent: int
    notes: tuple[str, ...] = ()


def read_strategy(strategy: object) -> Strategy:
    """The strategy.

    Raises:
        ConfigurationError: There is no such strategy.
    """
    for known in get_args(Strategy):
        if strategy == known:
            kind: Strategy = known
            return kind
    raise ConfigurationError("strategy", strategy, f"use one of {', '.join(map(repr, get_args(Strategy)))}")


def check(children: Sequence[Child], total: int) -> None:
    """Refuse what cannot be shared.

    Raises:
        ConfigurationError: The total is negative, two children have one name, or the floors are more than the total.
    """
    if isinstance(total, bool) or not isinstance(total, int) or total < 0:
        raise ConfigurationError("total", total, "give a whole amount from 0 up")
    names = [child.name for child in children]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ConfigurationError("children", twice, "give each child a name of its own")
    floors = {child.name: child.floor for child in children if child.floor}
    if sum(floors.values()) > total:
        remedy = f"together they are {sum(floors.values())}, and there are {total} to share: lower some, or share more"
        raise ConfigurationError("floor", floors, remedy)
