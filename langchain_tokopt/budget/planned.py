"""What is planned with a budget: limits that are set, shares that are moved, forecasts, what answers were worth."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from langchain_tokopt.budget.allocations import Allocation
from langchain_tokopt.budget.amounts import Unit, read_unit
from langchain_tokopt.budget.calls import Calls
from langchain_tokopt.budget.history import History
from langchain_tokopt.budget.ledgers.contract import Ledger
from langchain_tokopt.budget.ledgers.words import Account, Entry, StoredLimit, Valued
from langchain_tokopt.budget.limits import Limit
from langchain_tokopt.budget.nodes import Path, Pattern, node_path, read_node, shown
from langchain_tokopt.budget.periods import Per, read_per
from langchain_tokopt.budget.planning import Forecast, Plan, forecast
from langchain_tokopt.budget.rules import Rule
from langchain_tokopt.budget.sharing import Sharing
from langchain_tokopt.errors import ConfigurationError, StoreError
from langchain_tokopt.events import Failure

log = logging.getLogger("langchain_tokopt")

_NEVER = 10.0**11
# How long after a failure shares are looked at again.
_AGAIN_SECONDS = 60.0


class Planned(Calls):
    """A budget that can be planned with. `allocations` are read by `Budget`."""

    def __init__(self, *, allocations: Mapping[str, Allocation], **settings: Any) -> None:
        super().__init__(**settings)
        self._allocations = {str(read_node(node, "allocations")): each for node, each in allocations.items()}
        self._due: dict[str, float] = {}

    # --- limits ------------------------------------------------------------------------------------------------------

    def set_limit(self, node: str, limit: Limit, *, until: float | None = None, reason: str | None = None) -> None:
        """Keep a limit with the ledger, instead of the one in the code, for all processes within a few seconds.

        `node` may be a pattern such as "user=*". `until` is Unix time in seconds; `None` for as long as it is not
        dropped.

        Raises:
            ConfigurationError: The node or the limit cannot be read.
            StoreError: The ledger cannot be used.
        """
        pattern = Pattern.read(node, "node")
        if not isinstance(limit, Limit):
            raise ConfigurationError("limit", limit, 'pass a Limit, such as Limit(usd="5", per="day")')
        ledger, now = self._books.ledger(), self._clock()
        stored = StoredLimit(
            str(pattern),
            limit.per,
            limit.nano,
            limit.tokens,
            limit.calls,
            timezone=limit.timezone,
            hard=limit.hard,
            at=now,
            until=until,
        )
        said = f"{limit}: {reason}" if reason else str(limit)
        ledger.put_limits([stored], reasons={stored.node: said}, now=now)
        self._books.refresh()

    def drop_limit(self, node: str, per: Per, *, reason: str | None = None) -> bool:
        """Whether a limit was kept for the node: set, allocated or granted. What the code says holds again.

        Raises:
            ConfigurationError: The node or the kind of period cannot be read.
            StoreError: The ledger cannot be used.
        """
        name, kind = str(Pattern.read(node, "node")), read_per(per)
        ledger, now = self._books.ledger(), self._clock()
        dropped = [
            ledger.drop_limit(name, kind, source="set", now=now, reason=reason),
            ledger.drop_limit(name, kind, source="allocated", now=now, reason=reason),
            ledger.drop_limit(name, kind, source="granted", now=now, reason=reason),
        ]
        self._books.refresh()
        return any(dropped)

    # --- shares ------------------------------------------------------------------------------------------------------

    def allocate(self, node: str = "global", allocation: Allocation | None = None, *, apply: bool = True) -> Plan:
        """How the children of the node share its budget from now on; with `apply=False` only how they would.

        Each share is kept with the ledger as a limit of the child, beside the limits that it has, to the end of the
        period and of the next, if it is not made anew before. A limit that was set by hand stays as it is: the others
        share what it leaves. `allocation`: by default the one that the budget was
        given for the node, else in proportion to use.

        Raises:
            ConfigurationError: The node has no hard limit that could be shared, or the allocation cannot work.
            StoreError: The ledger cannot be used.
        """
        return self._share(node, allocation, apply=apply, moving=False)

    def rebalance(self, node: str = "global", allocation: Allocation | None = None, *, apply: bool = True) -> Plan:
        """What is unused goes where it is needed: the moves, each with its reason. No crumbs are moved.

        It also happens by itself, at the first call of each period and as often as the allocation says, for the nodes
        that the budget was given an allocation for. Errors and arguments are those of `allocate`.
        """
        return self._share(node, allocation, apply=apply, moving=True)

    def _share(self, node: str, allocation: Allocation | None, *, apply: bool, moving: bool) -> Plan:
        name = str(read_node(node))
        chosen = allocation or self._allocations.get(name) or Allocation()
        if not isinstance(chosen, Allocation):
            raise ConfigurationError("allocation", allocation, 'pass an Allocation(strategy="equal")')
        sharing = Sharing(self._books.ledger(), self._rules, name, chosen, self._clock())
        plan = sharing.plan(moving=moving)
        if apply:
            sharing.keep(plan)
            self._books.refresh()
        return plan

    def _when_due(self, now: float) -> bool:
        """Move shares where it is time to; of all processes, one does it."""
        moved = False
        for node, allocation in self._allocations.items():
            if now < self._due.get(node, -math.inf):
                continue
            try:
                moved |= self._rebalance_once(node, allocation, now)
            except (StoreError, ConfigurationError) as error:
                self._due[node] = now + _AGAIN_SECONDS
                log.warning("budget %r: the shares of %s were not moved: %s", self.name, shown(node), error)
                self._sink.emit(Failure(part="budget", error=f"{type(error).__name__}: {error}", stage="background"))
        return moved

    def _rebalance_once(self, node: str, allocation: Allocation, now: float) -> bool:
        ledger = self._books.ledger()
        period = Sharing(ledger, self._rules, node, allocation, now).limit.period(now)
        slot, ends = 0, period.end or _NEVER
        if allocation.every_seconds is not None:
            slot = int((now - period.start) // allocation.every_seconds)
            ends = min(ends, period.start + (slot + 1) * allocation.every_seconds)
        self._due[node] = ends
        if not ledger.claim(f"rebalance {shown(node)} {period.start} {slot}", now=now, until=ends):
            return False
        try:
            self.rebalance(node, allocation)
        except ConfigurationError as error:
            if error.argument != "children":
                raise
            self._due[node] = min(ends, now + _AGAIN_SECONDS)  # nobody is there yet to share it
            return False
        return True

    # --- looking ahead -----------------------------------------------------------------------------------------------

    def forecast(
        self,
        node: str = "global",
        *,
        per: Per | None = None,
        unit: Unit | None = None,
        coverage: float = 0.8,
    ) -> Forecast | None:
        """What the node will have spent by the end of the period, with an interval, and when its limit runs out.

        `None` when nothing was spent yet. `per` and `unit` choose among its limits; by default the calendar limit of
        which most is spent, and its first unit. A node without one is looked at per month.

        Raises:
            ConfigurationError: `node`, `per`, `unit` or `coverage` cannot be used.
            StoreError: The ledger cannot be used.
        """
        name = str(read_node(node))
        kind = None if per is None else read_per(per)
        wanted = None if unit is None else read_unit(unit)
        if kind in ("run", "thread"):
            raise ConfigurationError("per", per, 'use a period that ends, such as "day"')
        ledger, now = self._books.ledger(), self._clock()
        limit = self._limit_ahead(ledger, name, kind, wanted, now)
        counted: Unit = wanted or (limit.units[0] if limit is not None else "usd")
        ruler = limit or Limit(usd=1, per=kind or "month")
        history = History(ledger, ruler, counted, now)
        account = Account(name, ruler.per, ruler.period(now).start)
        spent = ledger.balances([account])[account].spent.of(counted)
        if not spent:  # the node is not counted in this period
            spent = sum(amount for start, amount in history.pieces(name) if start >= history.period.start)
        most = None if limit is None else limit.of(counted)
        return forecast(history.series(name), spent=spent, limit=most, unit=counted, coverage=coverage)

    def _limit_ahead(self, ledger: Ledger, node: str, per: Per | None, unit: Unit | None, now: float) -> Limit | None:
        """The limit that a forecast is held against."""
        rules = [
            rule
            for rule in self._rules.on(node_path(node), now)
            if rule.node == node and not rule.limit.scoped and per in (None, rule.limit.per)
            if unit is None or rule.limit.of(unit) is not None
        ]
        accounts = {rule: Account(node, rule.limit.per, rule.limit.period(now).start) for rule in rules}
        balances = ledger.balances(list(accounts.values())) if accounts else {}

        def used(rule: Rule) -> float:
            kind = unit or rule.limit.units[0]
            return balances[accounts[rule]].taken.of(kind) / max(1, rule.limit.of(kind) or 0)

        return max(rules, key=lambda rule: (rule.limit.per != "forever", used(rule))).limit if rules else None

    def feedback(self, path: Path | str | Sequence[str], value: float | Decimal) -> None:
        """Keep what an answer on the path was worth, in a unit of your own: 1 for a good one and 0 for a bad one, say.

        The strategy "performance" shares by it.

        Raises:
            ConfigurationError: The path or the value cannot be read.
            StoreError: The ledger cannot be used.
        """
        if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)) or not math.isfinite(value):
            raise ConfigurationError("value", value, "give a finite number")
        worth = Decimal(str(value))
        self._books.ledger().value(Valued(self._clock(), str(Path.read(path)), worth))

    def journal(
        self,
        node: str | None = None,
        *,
        reservation: str | None = None,
        since: float | None = None,
        until: float | None = None,
        count: int = 100,
    ) -> list[Entry]:
        """The newest entries of the journal, newest first; see `Ledger.journal`.

        Raises:
            ConfigurationError: The node or the number cannot be read.
            StoreError: The ledger cannot be used.
        """
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ConfigurationError("count", count, "give how many entries you want, from 1 up")
        name = None if node is None else str(Pattern.read(node, "node"))
        return self._books.ledger().journal(node=name, reservation=reservation, since=since, until=until, count=count)
