"""Which limits a call is under: those of the code and those kept with the ledger, on every node of its path."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from langchain_tokopt.budget.ledgers.words import Account, Cap, StoredLimit
from langchain_tokopt.budget.limits import Limit
from langchain_tokopt.budget.nodes import Path, Pattern, shown
from langchain_tokopt.budget.periods import Per, Period, period_at, read_timezone
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.pricing import from_nano

Origin = Literal["code", "set", "allocated"]

_PATHS_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Rule:
    """A limit on one node. `origin` says who made it."""

    node: str
    limit: Limit
    origin: Origin = "code"


@dataclass(frozen=True, slots=True)
class Ruled:
    """A rule in one period: the account that it counts on."""

    rule: Rule
    account: Account
    period: Period


@dataclass(frozen=True, slots=True)
class Terms:
    """What a call is under.

    Attributes:
        caps: One for each account that it counts on, hard limits in them.
        ruled: Every rule on its path, hard and soft.
    """

    caps: tuple[Cap, ...]
    ruled: tuple[Ruled, ...]

    @property
    def accounts(self) -> tuple[Account, ...]:
        return tuple(cap.account for cap in self.caps)


class Rules:
    """The limits of one budget.

    Every node on a call's path is counted in every calendar period that any limit of the budget is for, so that the sum
    over the children of a node is what the node itself has spent. Of several patterns for one node and kind of period
    the one with the fewest names left open holds. What is kept with the ledger is laid over what the code says.

    Args:
        given: Limits by node or pattern, as the user wrote them.

    Raises:
        ConfigurationError: A node cannot be read, or is defined twice.
    """

    def __init__(self, given: Mapping[str, Limit | Sequence[Limit]]) -> None:
        self._code = _read(given)
        self._stored: tuple[StoredLimit, ...] = ()
        self._clocks: dict[tuple[Per, str], Period] = {}
        self._lock = threading.Lock()
        self._rebuild()

    def named(self) -> list[tuple[Pattern, Limit]]:
        """Every limit of the code, and every one that was set or allocated, with what it is written for."""
        allocated = [(Pattern.read(node), limit) for node, limit, _ in self._allocated]
        return [*self._code, *((pattern, limit) for pattern, limit, _ in self._set), *allocated]

    @property
    def stored(self) -> tuple[StoredLimit, ...]:
        """What is kept with the ledger."""
        return self._stored

    def lay_over(self, stored: Iterable[StoredLimit]) -> None:
        """From now on what is kept with the ledger is this."""
        now = tuple(stored)
        if now != self._stored:
            with self._lock:
                self._stored = now
                self._rebuild()

    def _rebuild(self) -> None:
        set_ = [(Pattern.read(one.node), one) for one in self._stored if one.source == "set"]
        self._set = [(pattern, Limit.stored(one), one.until) for pattern, one in set_]
        self._allocated = [
            (one.node, Limit.stored(one), one.until) for one in self._stored if one.source == "allocated"
        ]
        self._granted = [one for one in self._stored if one.source == "granted"]
        limits = [limit for _, limit in self._code] + [limit for _, limit, _ in (*self._set, *self._allocated)]
        counted = {(limit.per, limit.timezone) for limit in limits if not limit.scoped}
        self._counted = sorted(counted) or [("forever", "UTC")]
        self._zones = {name: read_timezone(name) for _, name in self._counted}
        self._known: dict[Path, tuple[Rule, ...]] = {}

    # --- the rules on a path -----------------------------------------------------------------------------------------

    def on(self, path: Path, now: float, *, run: str = "", thread: str = "") -> tuple[Rule, ...]:
        """The rules for a call on the path, from the root down."""
        lasting = self._known.get(path)
        if lasting is None:
            lasting = self._lasting(path)
            if len(self._known) >= _PATHS_KEPT:
                self._known = {}
            self._known[path] = lasting
        if not (self._granted or any(until for *_, until in (*self._set, *self._allocated))):
            return lasting
        return self._at(path, now, {"run": run, "thread": thread})

    def _lasting(self, path: Path) -> tuple[Rule, ...]:
        return self._laid(path, float("-inf"))

    def _at(self, path: Path, now: float, scopes: Mapping[str, str]) -> tuple[Rule, ...]:
        return tuple(self._with_grants(rule, now, scopes) for rule in self._laid(path, now))

    def _laid(self, path: Path, now: float) -> tuple[Rule, ...]:
        best: dict[tuple[str, Per], tuple[int, Rule]] = {}
        for origin, pairs in (
            ("code", [(pattern, limit, None) for pattern, limit in self._code]),
            ("set", self._set),
        ):
            for pattern, limit, until in pairs:
                node = pattern.node_on(path)
                if node is None or (until is not None and until <= now):
                    continue
                # What was set by hand stands before the code, an exact name before one that is left open.
                rank = -pattern.wildcards + (0 if origin == "code" else 1000)
                key = (node, limit.per)
                if key not in best or rank > best[key][0]:
                    best[key] = (rank, Rule(node, limit, "set" if origin == "set" else "code"))
        rules = [rule for _, rule in best.values()]
        nodes = {*path.nodes, *(rule.node for rule in rules)}
        for node, limit, until in self._allocated:
            if node in nodes and not (until is not None and until <= now):
                rules.append(Rule(node, limit, "allocated"))
        return tuple(
            sorted(rules, key=lambda rule: (rule.node.count("/") if rule.node else -1, rule.node, rule.limit.per))
        )

    def _with_grants(self, rule: Rule, now: float, scopes: Mapping[str, str]) -> Rule:
        limit = rule.limit
        for one in self._granted:
            if (one.node, one.per, one.scope) != (rule.node, limit.per, scopes.get(limit.per, "")):
                continue
            if one.until is not None and one.until <= now:
                continue
            limit = replace(
                limit,
                usd=None if limit.nano is None else from_nano(limit.nano + (one.nano or 0)),
                tokens=None if limit.tokens is None else limit.tokens + (one.tokens or 0),
                calls=None if limit.calls is None else limit.calls + (one.calls or 0),
            )
        return rule if limit is rule.limit else replace(rule, limit=limit)

    # --- accounts and caps -------------------------------------------------------------------------------------------

    def periods(self, now: float) -> list[tuple[Per, Period]]:
        """The calendar periods that every node is counted in just now."""
        found: list[tuple[Per, Period]] = []
        for per, zone in self._counted:
            period = self._clocks.get((per, zone))
            if period is None or not period.start <= now or (period.end is not None and period.end <= now):
                period = self._clocks[per, zone] = period_at(per, now, self._zones[zone])
            if (per, period) not in found:
                found.append((per, period))
        return found

    def terms(self, path: Path, now: float, *, run: str, thread: str) -> Terms:
        """What a call on the path is under. `run` and `thread` name the scopes of limits that are for each of them."""
        periods = self.periods(now)
        caps = {
            account: Cap(account)
            for node in path.nodes
            for account in (Account(node, per, period.start) for per, period in periods)
        }
        ruled = []
        for rule in self.on(path, now, run=run, thread=thread):
            limit, period = rule.limit, rule.limit.period(now)
            scope = {"run": run, "thread": thread}.get(limit.per, "")
            account = Account(rule.node, limit.per, period.start, scope)
            ruled.append(Ruled(rule, account, period))
            cap = caps.get(account, Cap(account))
            if limit.hard:
                cap = Cap(
                    account,
                    _least(cap.nano, limit.nano),
                    _least(cap.tokens, limit.tokens),
                    _least(cap.calls, limit.calls),
                )
            caps[account] = cap
        return Terms(tuple(caps.values()), tuple(ruled))

    def names(self, path: Path) -> bool:
        """Whether a limit beside the root's is written for a node on the path."""
        return any(pattern.segments and pattern.node_on(path) is not None for pattern, _ in self.named())


def _least(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)


def _read(given: Mapping[str, Limit | Sequence[Limit]]) -> list[tuple[Pattern, Limit]]:
    remedy = 'map nodes to limits, such as {"global": Limit(usd="50", per="day"), "user=*": Limit(usd="1", per="day")}'
    if not isinstance(given, Mapping) or not given:
        raise ConfigurationError("limits", given, remedy)
    read: list[tuple[Pattern, Limit]] = []
    seen: set[tuple[Pattern, Per]] = set()
    for node, limits in given.items():
        pattern = Pattern.read(node)
        each = [limits] if isinstance(limits, Limit) else limits
        if isinstance(each, (str, bytes)) or not isinstance(each, Sequence) or not each:
            raise ConfigurationError("limits", given, remedy)
        for limit in each:
            if not isinstance(limit, Limit):
                raise ConfigurationError("limits", given, remedy)
            if (pattern, limit.per) in seen:
                again = f"{shown(str(pattern))!r} has two limits per {limit.per!r}: put all units into one Limit"
                raise ConfigurationError("limits", given, again)
            seen.add((pattern, limit.per))
            read.append((pattern, limit))
    return read
