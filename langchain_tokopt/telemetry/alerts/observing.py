"""What rules look at, read once for all of them."""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from langchain_tokopt.errors import StoreError
from langchain_tokopt.events import LimitAlert
from langchain_tokopt.telemetry.alerts.deciding import Observation
from langchain_tokopt.telemetry.alerts.rules import AlertRule
from langchain_tokopt.telemetry.alerts.words import number
from langchain_tokopt.telemetry.kpis import BY_PART, figures, measure_of
from langchain_tokopt.telemetry.kpis_window import Audits, Window
from langchain_tokopt.telemetry.readings import Readings
from langchain_tokopt.telemetry.rows import name_of
from langchain_tokopt.telemetry.store import EventStore

log = logging.getLogger("langchain_tokopt")

Status: TypeAlias = "Callable[[], Mapping[str, Any] | Iterable[Mapping[str, Any]]]"
Forecasts: TypeAlias = Callable[[str], Any]

_AUDITED: Final = "cache.audited_error"
_LONGEST_PERIOD_SECONDS: Final = 32 * 86400.0
_FORECAST_EVERY_SECONDS: Final = 600.0
_MOST_FORECASTS: Final = 50


@dataclass(frozen=True, slots=True)
class Seen:
    """What a rule looked at.

    Attributes:
        found: The observations by subject.
        covers: Whether a subject that is not among them would be if there were anything to see.
    """

    found: dict[str, Observation]
    covers: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where observations come from; see `Alerts`."""

    store: EventStore
    budgets: Status | None = None
    forecasts: Forecasts | None = None
    audits: Audits | None = None
    health: Callable[[], Mapping[str, Any]] | None = None
    targets: Mapping[str, float] = field(default_factory=dict)


class Observer:
    """Gives what each rule looks at. A source that fails is logged once, and nothing is concluded from it meanwhile."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._readings = Readings(sources.store)
        self._forecasts: dict[str, tuple[float, Observation | None]] = {}
        self._dropped: deque[tuple[float, float]] = deque()
        self._failed: set[str] = set()

    def observe(self, rules: Sequence[AlertRule], now: float) -> dict[str, Seen]:
        """By the name of the rule.

        Raises:
            StoreError: The events cannot be read.
        """
        seen: dict[str, Seen] = {}
        of_kpis = [rule for rule in rules if measure_of(rule.metric) is not None]
        for hours in dict.fromkeys(rule.window_hours for rule in of_kpis):
            seen |= self._kpis([rule for rule in of_kpis if rule.window_hours == hours], hours, now)
        budgets = self._budgets() if any(rule.metric.startswith("budget.") for rule in rules) else _Budgets()
        for rule in rules:
            if rule.metric == "budget.use":
                seen[rule.name] = Seen(_by_subject(self._used(rule, budgets.nodes, now)), budgets.covers)
            elif rule.metric == "budget.forecast":
                seen[rule.name] = Seen(_by_subject(self._forecast(budgets.nodes, now)), _nothing)
            elif rule.metric == "telemetry.dropped":
                seen[rule.name] = Seen(_by_subject(self._lost(rule, now)), _nothing)
        return seen

    # --- KPIs --------------------------------------------------------------------------------------------------------

    def _kpis(self, rules: Sequence[AlertRule], hours: float, now: float) -> dict[str, Seen]:
        window = Window(self._readings, since=now - hours * 3600, seconds=hours * 3600, audits=self._audits)
        measures = {rule.name: measure for rule in rules if (measure := measure_of(rule.metric)) is not None}
        known = figures(window, {measure.name for measure in measures.values()})
        seen: dict[str, Seen] = {}
        for rule in rules:
            measure = measures[rule.name]
            if measure.name == _AUDITED and window.audits is None:
                continue  # the process with the cache knows
            wanted = {
                name: found
                for name, found in known.items()
                if name == rule.metric or (rule.metric in BY_PART and name.startswith(f"{rule.metric}."))
            }
            observations = []
            for name, (part, found) in wanted.items():
                usual = measure.target if found.target is None else found.target
                target = self._sources.targets.get(name, self._sources.targets.get(measure.name, usual))
                observations.append(
                    Observation(
                        subject="" if name == rule.metric else part or "",
                        named=part or "",
                        value=None if found.value is None else float(found.value),
                        count=found.count,
                        low=found.low,
                        high=found.high,
                        target=target,
                        more=found.note or "",
                    )
                )
            seen[rule.name] = Seen(_by_subject(observations), _everything)
        return seen

    def _audits(self) -> Mapping[str, Any] | None:
        told: Mapping[str, Any] | None = self._asked("audits", self._sources.audits)
        return told

    # --- budgets -----------------------------------------------------------------------------------------------------

    def _budgets(self) -> _Budgets:
        ask = self._sources.budgets
        found: _Budgets | None = self._asked("budgets", None if ask is None else lambda: _read_budgets(ask()))
        return found or _Budgets()

    def _used(self, rule: AlertRule, nodes: Sequence[Mapping[str, Any]], now: float) -> Iterator[Observation]:
        """What is taken of each limit, and what budgets have told of themselves where nobody knows better.

        The runs and threads of one limit are one subject, so that many of them are not as many alerts.
        """
        seen: dict[str, Observation] = {}
        for node in nodes:
            one = _limit(node["budget"], name_of(node.get("node")), str(node.get("per")), number(node, "share") or 0.0)
            seen[one.subject] = _worse(seen.get(one.subject), one)
        for alert in self._sources.store.events(kind="LimitAlert", since=now - _LONGEST_PERIOD_SECONDS):
            if not isinstance(alert, LimitAlert) or alert.mode == "shadow" or alert.at > now or not alert.limit:
                continue
            over = alert.resets_at if alert.resets_at is not None else alert.at + rule.window_hours * 3600
            if over <= now:
                continue
            share = alert.spent / alert.limit
            one = replace(_limit(alert.budget, alert.path, alert.per, share), told=True, heard_at=alert.at)
            known = seen.get(one.subject)
            # Of a limit that somebody looked at just now, only that its owner wanted to hear of this share.
            if known is None or known.heard_at is not None:
                seen[one.subject] = _worse(known, one)
            elif known.value is not None and known.value >= alert.share:
                seen[one.subject] = replace(known, told=True)
        yield from seen.values()

    def _forecast(self, nodes: Sequence[Mapping[str, Any]], now: float) -> Iterator[Observation]:
        """Of the nodes with a limit whose period ends; anew every ten minutes, since it takes some time."""
        if self._sources.forecasts is None:
            return
        wanted = [str(node.get("node")) for node in nodes if node.get("resets_at") is not None]
        for name in list(dict.fromkeys(wanted))[:_MOST_FORECASTS]:
            made, one = self._forecasts.get(name, (None, None))
            if made is None or not 0 <= now - made < _FORECAST_EVERY_SECONDS:
                one = self._forecast_of(name)
                self._forecasts[name] = now, one
            if one is not None:
                yield one

    def _forecast_of(self, node: str) -> Observation | None:
        ask = self._sources.forecasts
        found: Observation | None = self._asked("forecasts", None if ask is None else lambda: _read(node, ask(node)))
        return found

    # --- telemetry ---------------------------------------------------------------------------------------------------

    def _lost(self, rule: AlertRule, now: float) -> Iterator[Observation]:
        """What this process has dropped in the window; others cannot know it, so that the process is the subject."""
        ask = self._sources.health
        told: Mapping[str, Any] | None = self._asked("health", None if ask is None else lambda: dict(ask()))
        dropped = None if told is None else number(told, "dropped")
        if told is None or dropped is None:
            return
        if not self._dropped or dropped < self._dropped[-1][1]:
            self._dropped.clear()
            self._dropped.append((now, 0.0))
        if dropped != self._dropped[-1][1]:
            self._dropped.append((now, dropped))
        # The last count from before the window is what it began with.
        while len(self._dropped) > 1 and self._dropped[1][0] <= now - rule.window_hours * 3600:
            self._dropped.popleft()
        lost = dropped - self._dropped[0][1]
        name = f"process {os.getpid()} on {socket.gethostname()}"
        error = told.get("last_error")
        yield Observation(subject=name, named=name, value=lost, count=int(lost) or 1, more=str(error) if error else "")

    def _asked(self, name: str, ask: Callable[[], Any] | None) -> Any:
        """What a source says; `None` when there is none, or when it fails, which is logged once."""
        if ask is None:
            return None
        try:
            told = ask()
        except Exception as error:
            if name not in self._failed:
                self._failed.add(name)
                kind = "cannot be read" if isinstance(error, StoreError) else type(error).__name__
                log.warning("alerts go on without %s: %s: %s", name, kind, error)
            return None
        self._failed.discard(name)
        return told


def _limit(budget: str, node: str, per: str, share: float) -> Observation:
    named = f"{node} per {per}" if per != "forever" else node
    return Observation(
        subject=f"{budget}: {node} per {per}",
        named=named if budget == "default" else f"{named} (budget {budget})",
        value=share,
        count=1,
    )


def _worse(known: Observation | None, one: Observation) -> Observation:
    if known is None or (known.value or 0.0) < (one.value or 0.0):
        return one
    return known


@dataclass(frozen=True, slots=True)
class _Budgets:
    """Every node with a limit, with the name of its budget, and the budgets of which these are all."""

    nodes: tuple[Mapping[str, Any], ...] = ()
    whole: frozenset[str] = frozenset()

    def covers(self, subject: str) -> bool:
        return any(subject.startswith(f"{name}: ") for name in self.whole)


def _read_budgets(told: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> _Budgets:
    nodes, whole = [], set()
    for status in [told] if isinstance(told, Mapping) else told:
        name = name_of(status.get("name", "default"))
        nodes += [{**node, "budget": name} for node in status.get("nodes", ()) if number(node, "share") is not None]
        if status.get("complete", True):
            whole.add(name)
    return _Budgets(tuple(nodes), frozenset(whole))


_GUESS = "mean_rate"  # what a forecast goes by that has nothing else to go by


def _read(node: str, told: Any) -> Observation | None:
    """A forecast, as a share of the limit; none where there is so little history that it is a guess."""
    if told is None:
        return None
    names = ("expected", "limit", "method")
    values = told if isinstance(told, Mapping) else {name: getattr(told, name, None) for name in names}
    expected, limit = number(values, "expected"), number(values, "limit")
    if expected is None or not limit or values.get("method") == _GUESS:
        return None
    return Observation(subject=node, named=node, value=expected / limit, count=1)


def _by_subject(found: Iterable[Observation]) -> dict[str, Observation]:
    return {one.subject: one for one in found}


def _everything(_: str) -> bool:
    return True


def _nothing(_: str) -> bool:
    return False
