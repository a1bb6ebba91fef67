"""Sharing the budget of a node among its children: who they are, what bounds them, and what is kept of the plan."""

from __future__ import annotations

from langchain_tokopt.budget.allocations import Allocation, child_of
from langchain_tokopt.budget.amounts import Unit, read_unit
from langchain_tokopt.budget.history import History
from langchain_tokopt.budget.ledgers.contract import Ledger
from langchain_tokopt.budget.ledgers.words import Account, StoredLimit
from langchain_tokopt.budget.limits import Limit
from langchain_tokopt.budget.nodes import Path, node_path, shown
from langchain_tokopt.budget.planning import Child, Plan, allocate, rebalance
from langchain_tokopt.budget.planning.saying import amount
from langchain_tokopt.budget.rules import Rule, Rules
from langchain_tokopt.errors import ConfigurationError


class Sharing:
    """One node's budget and its children, as they are now.

    Attributes:
        limit: The limit that is shared.

    Raises:
        ConfigurationError: The node has no hard limit that could be shared, or several.
    """

    def __init__(self, ledger: Ledger, rules: Rules, node: str, allocation: Allocation, now: float) -> None:
        self._ledger = ledger
        self._rules = rules
        self._node = node
        self._allocation = allocation
        self._now = now
        shared = _shared(rules, node, allocation, now)
        self.limit: Limit = shared[0].limit
        self._unit: Unit = read_unit(allocation.unit) if allocation.unit else self.limit.units[0]
        self._total = min(most for rule in shared if (most := rule.limit.of(self._unit)) is not None)
        self._period = self.limit.period(now)
        self._history = History(ledger, self.limit, self._unit, now)
        self._children: tuple[Child, ...] = ()

    def plan(self, *, moving: bool) -> Plan:
        """The shares; `moving`: only as much is changed as pays.

        Raises:
            ConfigurationError: There is nobody to share with, or the bounds cannot be kept.
            StoreError: The ledger cannot be used.
        """
        start, end = self._period.start, self._period.end
        self._children, beside = self._read()
        make = rebalance if moving else allocate
        return make(
            self._children,
            max(0, self._total - beside),
            strategy=self._allocation.strategy,
            unit=self._unit,
            per="period" if self.limit.per == "forever" else self.limit.per,
            gone=None if end is None else (self._now - start) / (end - start),
        )

    def keep(self, plan: Plan) -> None:
        """Keep the shares that are new as limits of the children.

        Raises:
            StoreError: The ledger cannot be used.
        """
        new = {child.name for child in self._children if child.current is None}
        changed = [share for share in plan.shares if share.before != share.after or share.name in new]
        stored = [
            StoredLimit(
                share.name,
                self.limit.per,
                nano=share.after if plan.unit == "usd" else None,
                tokens=share.after if plan.unit == "tokens" else None,
                calls=share.after if plan.unit == "calls" else None,
                timezone=self.limit.timezone,
                source="allocated",
                at=self._now,
                until=self._until,
            )
            for share in changed
        ]
        if stored:
            reasons = {share.name: f"{amount(share.after, plan.unit)}: {share.reason}" for share in changed}
            self._ledger.put_limits(stored, reasons=reasons, now=self._now)

    @property
    def _until(self) -> float | None:
        """Shares that nobody makes anew hold to the end of the next period, so that they do not outlive their use."""
        end = self._period.end
        following = None if end is None else self.limit.period(end).end
        return None if following is None else float(following)

    def _read(self) -> tuple[tuple[Child, ...], int]:
        """Those who share, and what was used on the node beside them: that is gone."""
        strategy = self._allocation.strategy
        floors, caps, priorities = self._allocation.bounds(self._node, self._unit)
        names = sorted({*self._names(), *floors, *caps, *priorities})
        if not names:
            remedy = "nobody has spent on it yet: name those who share, with Allocation(children=[...])"
            raise ConfigurationError("children", shown(self._node), remedy)
        used = self._used([*names, self._node])
        history, children = self._history, []
        for name in names:
            pinned, most, current = self._bounds(name)
            cap = min((bound for bound in (caps.get(name), most) if bound is not None), default=None)
            floor = floors.get(name, 0)
            if pinned is not None:
                floor = cap = pinned
            children.append(
                Child(
                    name=name,
                    used=used[name],
                    floor=floor if cap is None else min(floor, cap),
                    cap=cap,
                    priority=priorities.get(name, 1.0),
                    recent=history.recent(name) if strategy == "proportional" else None,
                    forecast=history.needed(name, used[name]) if strategy == "predictive" else None,
                    values=history.values(name) if strategy == "performance" else (),
                    cost=history.cost(name) if strategy == "performance" else 0,
                    current=current,
                )
            )
        return tuple(children), max(0, used[self._node] - sum(child.used for child in children))

    def _used(self, nodes: list[str]) -> dict[str, int]:
        accounts = {node: Account(node, self.limit.per, self._period.start) for node in nodes}
        found = self._ledger.balances(list(accounts.values()))
        return {node: found[account].taken.of(self._unit) for node, account in accounts.items()}

    def _names(self) -> set[str]:
        if self._allocation.children is not None:
            return {child_of(self._node, name, "children") for name in self._allocation.children}
        depth = len(node_path(self._node).segments) + 1
        below = f"{self._node}/" if self._node else ""
        per = self.limit.per
        seen = {account.node for account in self._ledger.accounts(per=per, period=self._period.start)}
        limited = {str(pattern) for pattern, limit in self._rules.named() if limit.per == per and not pattern.wildcards}
        across = self._across()
        return {
            name
            for name in (seen | limited) - across
            if name and name.startswith(below) and len(node_path(name).segments) == depth
        }

    def _across(self) -> set[str]:
        """Nodes that calls count on beside their path, such as "user=ann" across all projects: nobody's children."""
        below, across = set[str](), set[str]()
        for path in map(Path.read, self._history.paths()):
            below.update(path.nodes)
            across.update(rule.node for rule in self._rules.on(path, self._now))
        return across - below

    def _bounds(self, child: str) -> tuple[int | None, int | None, int | None]:
        """What was set for a child by hand, the most that the code lets it have, and the share that it has now."""
        pinned = most = current = None
        for rule in self._rules.on(node_path(child), self._now):
            amount = rule.limit.of(self._unit)
            if rule.node != child or rule.limit.per != self.limit.per or amount is None:
                continue
            if rule.origin == "allocated":
                current = amount
            elif rule.limit.hard and rule.origin == "set":
                pinned = amount
            elif rule.limit.hard:
                most = amount
        return pinned, most, current


def _shared(rules: Rules, node: str, allocation: Allocation, now: float) -> list[Rule]:
    """The hard limits of the node that are shared; several when one was allocated to it beside its own."""
    found = [
        rule
        for rule in rules.on(node_path(node), now)
        if rule.node == node and rule.limit.hard and not rule.limit.scoped
        if allocation.per in (None, rule.limit.per)
        if allocation.unit is None or rule.limit.of(allocation.unit) is not None
    ]
    kinds = sorted({rule.limit.per for rule in found})
    if not kinds:
        remedy = "it has no hard limit that its children could share: give it one, or name another node, period or unit"
        raise ConfigurationError("node", shown(node), remedy)
    if len(kinds) > 1:
        remedy = f"{shown(node)!r} has limits per {' and '.join(kinds)}: say which is shared"
        raise ConfigurationError("per", None, remedy)
    return found
