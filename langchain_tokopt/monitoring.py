"""What an optimiser can tell of itself: report, KPIs, alerts, dashboard, each with what it takes from the parts."""

from __future__ import annotations

import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain_tokopt.errors import ConfigurationError, StoreError

if TYPE_CHECKING:
    from langchain_tokopt.budget import Budget, Forecast
    from langchain_tokopt.cache import SemanticCache
    from langchain_tokopt.events import Sink
    from langchain_tokopt.telemetry import Report, Telemetry
    from langchain_tokopt.telemetry.alerts import Alert, AlertRule, Alerts, Channel
    from langchain_tokopt.telemetry.dashboard import Server
    from langchain_tokopt.telemetry.kpis import Kpi

Method: TypeAlias = "Callable[[], Mapping[str, Any]]"

_ALERTS_SECONDS = 60.0
_SNAPSHOT_SECONDS = 300.0


class Monitoring:
    """Report, KPIs, alerts and dashboard of one optimiser, over its telemetry, its cache and its budget.

    Args:
        telemetry: The events.
        cache: Knows of its audits; `None` without one.
        budget: Knows where it stands and what is to come; `None` without one.
        rules: What raises alerts; `None` for the usual rules, an empty list for no alerts at all.
        channels: Where alerts are told; by default the log.
        sink: Hears of alerts as events; by default the telemetry.
        targets: Of KPIs, by name, such as `{"cache.hit_rate": 0.2}`.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        *,
        cache: SemanticCache | None = None,
        budget: Budget | None = None,
        rules: Iterable[AlertRule] | None = None,
        channels: Iterable[Channel] | None = None,
        sink: Sink | None = None,
        targets: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._telemetry = telemetry
        self._cache = cache
        self._budget = budget
        self._rules = None if rules is None else tuple(rules)
        self._channels = None if channels is None else tuple(channels)
        self._sink: Sink = sink or telemetry
        self._targets = targets
        self._clock = clock
        self._alerts: Alerts | None = None
        if targets is not None:
            from langchain_tokopt.telemetry.kpis import read_targets

            read_targets(targets)

    def begin(self) -> None:
        """Look for alerts once a minute, and note how things stand now and then, while events come."""
        if self._rules is None or self._rules:
            self._watch("alerts", self._look, every_seconds=_ALERTS_SECONDS)
        if self._cache is not None:
            self._watch("cache", self._cached)
        if self._budget is not None:
            self._watch("budget", self.standing)
        self._watch("telemetry", self._writing)

    def _watch(self, name: str, figures: Method, *, every_seconds: float = _SNAPSHOT_SECONDS) -> None:
        """Have `figures` noted, without keeping this object for it: an optimiser that is dropped is collected."""
        known = weakref.WeakMethod(figures)

        def noted() -> Mapping[str, Any]:
            method = known()
            return {} if method is None else method()

        self._telemetry.watch(name, noted, every_seconds=every_seconds)

    @property
    def alerts(self) -> Alerts:
        """What needs attention, and what did.

        Raises:
            ConfigurationError: A rule or a channel cannot be used.
            StoreError: The database cannot be used.
        """
        if self._alerts is None:
            from langchain_tokopt.telemetry.alerts import DEFAULT_RULES, Alerts, LogChannel

            self._alerts = Alerts(
                self._telemetry.store(),
                rules=DEFAULT_RULES if self._rules is None else self._rules,
                channels=(LogChannel(),) if self._channels is None else self._channels,
                budgets=None if self._budget is None else self.standing,
                forecasts=None if self._budget is None else self._forecast,
                audits=self._audits,
                health=self._telemetry.status,
                targets=self._targets,
                sink=self._sink,
                clock=self._clock,
            )
        return self._alerts

    def check(self) -> list[Alert]:
        """Look for alerts now; those that were raised, cleared or told again.

        Raises:
            ConfigurationError: A rule or a channel cannot be used.
            StoreError: The database cannot be used.
        """
        self._telemetry.flush()
        return self.alerts.check()

    def report(self, hours: float | None = None) -> Report:
        """What was spent and saved in the last `hours` (`None`: ever), what is wrong, and what to change."""
        if self._budget is None:
            return self._telemetry.report(hours)
        return self._telemetry.report(hours, budgets=self.standing, forecasts=self._forecast)

    def kpis(self, hours: float = 24.0) -> tuple[Kpi, ...]:
        """The figures by which to judge how things go, over the last `hours`, with targets, intervals and trends.

        Raises:
            ConfigurationError: `hours` is not above 0.
            StoreError: The database cannot be read.
        """
        from langchain_tokopt.telemetry.kpis import kpis
        from langchain_tokopt.telemetry.readings import Readings

        self._telemetry.flush()
        readings = Readings(self._telemetry.store())
        return kpis(readings, now=self._clock(), hours=hours, targets=self._targets, audits=self._audits)

    def dashboard(self, target: str | Path, *, hours: float | None = 24.0) -> Path:
        """Write the dashboard of the last `hours` into one file that needs nothing else; its path.

        Raises:
            ConfigurationError: `hours` is not above 0.
            StoreError: The database cannot be read, or the file not be written.
        """
        from langchain_tokopt.telemetry.dashboard import page

        file = Path(target).expanduser()
        text = page(self._data(hours))
        beside = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
        try:
            beside.write_text(text, encoding="utf-8", errors="replace")
            beside.replace(file)
        except OSError as error:
            beside.unlink(missing_ok=True)
            msg = f"target={str(target)!r} cannot be written ({error}); give a file in a folder that you can write to"
            raise StoreError(msg) from error
        return file

    def serve(self, *, port: int = 0, hours: float | None = 24.0) -> Server:
        """The dashboard, served to this machine at `.url`, and following what happens; `.close()` ends it.

        Raises:
            ConfigurationError: The port is taken, or `hours` is not above 0.
        """
        from langchain_tokopt.telemetry.dashboard import Server, arrivals

        if hours is not None and not hours > 0:
            raise ConfigurationError("hours", hours, "give a number of hours above 0, or None for all")
        return Server(lambda: self._data(hours), version=lambda: arrivals(self._telemetry.store()), port=port)

    def _data(self, hours: float | None) -> dict[str, Any]:
        from langchain_tokopt.telemetry.dashboard import dashboard_data

        self._telemetry.flush()
        found = self.alerts.history(limit=50)
        return dashboard_data(
            self._telemetry.store(),
            now=self._clock(),
            hours=hours,
            budgets=None if self._budget is None else self.standing,
            forecasts=None if self._budget is None else self._forecast,
            alerts=sorted(found, key=lambda alert: alert.state == "cleared"),
            report=self.report(hours),
            audits=self._audits,
            targets=self._targets,
        )

    # --- what the parts know -----------------------------------------------------------------------------------------

    def _cached(self) -> Mapping[str, Any]:
        return {} if self._cache is None else self._cache.stats()

    def _writing(self) -> Mapping[str, Any]:
        return self._telemetry.status()

    def _look(self) -> Mapping[str, Any]:
        """Look for alerts; how many there are."""
        changed = self.alerts.check()
        return {"changed": len(changed), "open": len(self.alerts.active())}

    def standing(self) -> dict[str, Any]:
        """Where the budget stands; what is wrong while its ledger cannot be used."""
        if self._budget is None:
            return {}
        try:
            return self._budget.status()
        except StoreError as error:
            return {"name": self._budget.name, "error": str(error)}

    def _forecast(self, node: str) -> Forecast | None:
        try:
            return None if self._budget is None else self._budget.forecast(node)
        except (ConfigurationError, StoreError):
            return None  # a limit for runs or threads; or the standing tells what is wrong

    def _audits(self) -> Mapping[str, Any] | None:
        if self._cache is None:
            return None
        found = self._cache.stats().get("decision")
        return found if isinstance(found, Mapping) else None
