"""Where a budget stands: every node in its current periods, with the limits that are on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from langchain_tokopt.budget.ledgers.contract import Ledger
from langchain_tokopt.budget.ledgers.words import Account, Balance
from langchain_tokopt.budget.limits import Limit, figures
from langchain_tokopt.budget.nodes import node_path, shown
from langchain_tokopt.budget.periods import ALWAYS, Per, Period
from langchain_tokopt.budget.rules import Origin, Rules

_NODES_SHOWN = 1000
_SCOPES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Standing:
    """One node in one period.

    Attributes:
        node: The node; "" is the root.
        per: The kind of period.
        scope: The run or the thread; "" where it is for all.
        period: From when to when.
        balance: What is spent and held.
        limit: The limit, the tightest where there are several; `None` where the node is only counted.
        origin: Who made the limit.
    """

    node: str
    per: Per
    scope: str
    period: Period
    balance: Balance
    limit: Limit | None
    origin: Origin | None

    @property
    def share(self) -> float | None:
        """The part of the limit that is spent or held, of its tightest unit; `None` without a limit."""
        if self.limit is None:
            return None
        taken, most = self.balance.taken, self.limit
        pairs = ((taken.nano, most.nano), (taken.tokens, most.tokens), (taken.calls, most.calls))
        return max((used / limit for used, limit in pairs if limit), default=1.0)

    def as_json(self) -> dict[str, Any]:
        """USD as `Decimal`, tokens and calls as `int`, times as `datetime` in UTC."""
        return {
            "node": shown(self.node),
            "per": self.per,
            "scope": self.scope or None,
            "resets_at": self.period.resets_at,
            "hard": None if self.limit is None else self.limit.hard,
            "origin": self.origin,
            "share": self.share,
            **figures(self.balance, self.limit),
        }


def standings(ledger: Ledger, rules: Rules, now: float) -> tuple[list[Standing], bool]:
    """All nodes that are counted or limited just now, from the root down, and whether these are all.

    Of very many nodes there are those in which something began last, with the nodes above them; of runs and threads the
    last ones.

    Raises:
        StoreError: The ledger cannot be used.
    """
    periods = rules.periods(now)
    found: dict[Account, Balance] = {}
    complete = True
    for per, period in periods:
        counted = ledger.accounts(per=per, period=period.start, count=_NODES_SHOWN)
        complete &= len(counted) < _NODES_SHOWN
        found |= counted
    named = rules.named()
    for per in sorted({limit.per for _, limit in named if limit.scoped}):
        found |= ledger.accounts(per=per, period=0, count=_SCOPES_SHOWN)
    wanted = [Account("", per, period.start) for per, period in periods]
    # A node with a limit is shown before anything was spent on it.
    wanted += [
        Account(str(pattern), limit.per, limit.period(now).start)
        for pattern, limit in named
        if not limit.scoped and not pattern.wildcards
    ]
    wanted += [
        replace(account, node=node)
        for account in found
        if not account.scope
        for node in node_path(account.node).nodes[1:-1]
    ]
    found |= ledger.balances([account for account in dict.fromkeys(wanted) if account not in found])
    ends = {(per, period.start): period for per, period in periods}
    return _sorted(_standing(account, balance, rules, ends, now) for account, balance in found.items()), complete


def _standing(
    account: Account, balance: Balance, rules: Rules, ends: dict[tuple[Per, int], Period], now: float
) -> Standing:
    on = [
        rule
        for rule in rules.on(node_path(account.node), now, run=account.scope, thread=account.scope)
        if rule.node == account.node
        and rule.limit.per == account.per
        and (rule.limit.scoped or rule.limit.period(now).start == account.period)
    ]
    tightest = min(on, key=lambda rule: rule.limit.tightness, default=None)
    period = ends.get((account.per, account.period), ALWAYS)
    if tightest is not None and not tightest.limit.scoped:
        period = tightest.limit.period(now)
    return Standing(
        account.node,
        account.per,
        account.scope,
        period,
        balance,
        None if tightest is None else tightest.limit,
        None if tightest is None else tightest.origin,
    )


def _sorted(found: Iterable[Standing]) -> list[Standing]:
    def place(one: Standing) -> tuple[Any, ...]:
        return (one.node.split("/") if one.node else [], _LENGTHS[one.per], one.scope)

    return sorted(found, key=place)


_LENGTHS = {per: number for number, per in enumerate(("run", "thread", "hour", "day", "week", "month", "forever"))}
