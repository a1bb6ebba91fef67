"""Which limits a call is under: those of the code and those kept with the ledger, on every node of its path."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from langchain_tokopt.budget.ledgers.words import Account, Cap, Source, StoredLimit
from langchain_tokopt.budget.limits import Limit
from langchain_tokopt.budget.nodes import Path, Pattern, node_path, shown
from langchain_tokopt.budget.periods import Per, Period, period_at, read_timezone
from langchain_tokopt.errors import ConfigurationError

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
        self._clocks: dict[tuple[Per, str], Period] = {}
        self._laid = _Laid(self._code, ())

    def named(self) -> list[tuple[Pattern, Limit]]:
        """Every limit of the code, and every one that was set or allocated, with what it is written for."""
        return [*self._code, *((one.pattern, one.limit) for one in (*self._laid.set, *self._laid.allocated))]

    def published(self, now: float) -> list[StoredLimit]:
        """What the code says, as it is kept for whoever looks on."""
        return [
            StoredLimit(
                str(pattern),
                limit.per,
                limit.nano,
                limit.tokens,
                limit.calls,
                timezone=limit.timezone,
                hard=limit.hard,
                source="code",
                at=now,
            )
            for pattern, limit in self._code
        ]

    def follow(self, published: Iterable[StoredLimit]) -> None:
        """From now on the code says what was published; what is empty changes nothing."""
        code = [(one.pattern, one.limit) for one in _written(tuple(published), "code")]
        if code and code != self._code:
            self._code = code
            self._laid = _Laid(code, self._laid.stored)

    def lay_over(self, stored: Iterable[StoredLimit]) -> None:
        """From now on what is kept with the ledger is this."""
        new = tuple(stored)
        if new != self._laid.stored:
            self._laid = _Laid(self._code, new)

    def on(self, path: Path, now: float, *, run: str = "", thread: str = "") -> tuple[Rule, ...]:
        """The rules for a call on the path, from the root down."""
        return self._laid.on(path, now, {"run": run, "thread": thread})

    # --- accounts and caps -------------------------------------------------------------------------------------------

    def periods(self, now: float) -> list[tuple[Per, Period]]:
        """The calendar periods that every node is counted in just now."""
        found: list[tuple[Per, Period]] = []
        laid = self._laid
        for per, zone in laid.counted:
            period = self._clocks.get((per, zone))
            if period is None or not period.start <= now or (period.end is not None and period.end <= now):
                period = self._clocks[per, zone] = period_at(per, now, laid.zones[zone])
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


class _Laid:
    """The limits of the code with those of the ledger laid over them. It is never changed, only replaced."""

    def __init__(self, code: Sequence[tuple[Pattern, Limit]], stored: tuple[StoredLimit, ...]) -> None:
        self.stored = stored
        self.code = [_Written(pattern, limit, None) for pattern, limit in code]
        self.set = _written(stored, "set")
        self.allocated = _written(stored, "allocated")
        self.granted = [one for one in stored if one.source == "granted"]
        lasting = [one.limit for one in (*self.code, *self.set, *self.allocated)]
        found = {(limit.per, limit.timezone) for limit in lasting if not limit.scoped}
        self.counted: list[tuple[Per, str]] = sorted(found) or [("forever", "UTC")]
        self.zones = {name: read_timezone(name) for _, name in self.counted}
        self._ends = sorted(one.until for one in (*self.set, *self.allocated) if one.until is not None)
        self._known: dict[tuple[Path, int], tuple[Rule, ...]] = {}

    def on(self, path: Path, now: float, scopes: Mapping[str, str]) -> tuple[Rule, ...]:
        ended = bisect_right(self._ends, now)  # between two ends nothing changes
        known = self._known.get((path, ended))
        if known is None:
            if len(self._known) >= _PATHS_KEPT:
                self._known = {}
            known = self._known[path, ended] = self._rules(path, now)
        return tuple(self._with_grants(rule, now, scopes) for rule in known) if self.granted else known

    def _rules(self, path: Path, now: float) -> tuple[Rule, ...]:
        best: dict[tuple[str, Per], tuple[tuple[bool, int], Rule]] = {}
        origins: tuple[tuple[Origin, list[_Written]], ...] = (("code", self.code), ("set", self.set))
        for origin, written in origins:
            for one in written:
                node = one.node_on(path, now)
                if node is None:
                    continue
                # What was set by hand stands before the code, an exact name before one that is left open.
                rank = (origin == "set", -one.pattern.wildcards)
                key = (node, one.limit.per)
                if key not in best or rank > best[key][0]:
                    best[key] = (rank, Rule(node, one.limit, origin))
        rules = [rule for _, rule in best.values()]
        for one in self.allocated:
            node = one.node_on(path, now)
            if node is not None:
                rules.append(Rule(node, one.limit, "allocated"))
        return tuple(sorted(rules, key=lambda rule: (len(node_path(rule.node).segments), rule.node, rule.limit.per)))

    def _with_grants(self, rule: Rule, now: float, scopes: Mapping[str, str]) -> Rule:
        limit = rule.limit
        for one in self.granted:
            if (one.node, one.per, one.scope) != (rule.node, limit.per, scopes.get(limit.per, "")):
                continue
            if one.until is None or one.until > now:
                limit = limit.raised(one.nano, one.tokens, one.calls)
        return rule if limit is rule.limit else replace(rule, limit=limit)


@dataclass(frozen=True, slots=True)
class _Written:
    """A limit with what it is written for and when it ends."""

    pattern: Pattern
    limit: Limit
    until: float | None

    def node_on(self, path: Path, now: float) -> str | None:
        return None if self.until is not None and self.until <= now else self.pattern.node_on(path)


def _written(stored: Iterable[StoredLimit], source: Source) -> list[_Written]:
    return [_Written(Pattern.read(one.node), Limit.stored(one), one.until) for one in stored if one.source == source]


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
