"""What raises an alert."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.telemetry.alerts.words import Severity
from langchain_tokopt.telemetry.kpis import NAMES, measure_of
from langchain_tokopt.telemetry.kpis_measures import Unit

Level: TypeAlias = "float | Literal['target'] | None"

# What can be looked at beside KPIs: its unit, and what it is called.
OTHER_METRICS: Final[dict[str, tuple[Unit, str]]] = {
    "budget.use": ("share", "Budget use"),
    "budget.forecast": ("share", "Forecast of a budget"),
    "telemetry.dropped": ("count", "Events dropped"),
}

# A target that is just met is passed again at once: an alert about it ends when it is met by this share of it.
_MARGIN: Final = 0.1
_LONGEST_NAME: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """Raises an alert when a metric passes a threshold for long enough, and clears it when it has come back.

    Args:
        name: Of the rule; each has its own.
        metric: A KPI such as "health.model_errors"; "health.errors" looks at each part, "health.errors.cache" at one.
            Or "budget.use" (the share of a limit that is taken, for each limit), "budget.forecast" (what will have
            been spent by the end of the period, as a share of the limit), "telemetry.dropped" (events that this process
            could not keep, in the window).
        above: Raise when the value is above this; "target" for the KPI's target, and nothing without one.
        below: The same for values below. One of both.
        for_seconds: For how long that has to be so, at each look.
        clear_at: Clear when the value has come back to this; by default to the threshold. A gap between both keeps an
            alert from coming and going. An alert about a target clears when that is met by a tenth of it.
        severity: "info", "warning" or "critical".
        window_hours: How far back a KPI looks.
        min_count: With fewer observations than this, none is raised.
        sure: Whether the whole 95 % interval of a rate has to be past the threshold, and not only its value.
        repeat_seconds: After how long an alert that is open, and that nobody has acknowledged, is told again; `None`
            for never.
        advice: What can be done, in a sentence.

    Raises:
        ConfigurationError: The rule cannot work.
    """

    name: str
    metric: str
    above: Level = None
    below: Level = None
    for_seconds: float = 0.0
    clear_at: float | None = None
    severity: Severity = "warning"
    window_hours: float = 24.0
    min_count: int = 1
    sure: bool = False
    repeat_seconds: float | None = None
    advice: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 0 < len(self.name) <= _LONGEST_NAME or not self.name.isprintable():
            remedy = f"give a name of 1 to {_LONGEST_NAME} printable characters"
            raise ConfigurationError("name", self.name, remedy)
        if not isinstance(self.metric, str) or (self.metric not in OTHER_METRICS and measure_of(self.metric) is None):
            known = ", ".join(map(repr, (*NAMES, *OTHER_METRICS)))
            raise ConfigurationError("metric", self.metric, f"use one of {known}")
        if (self.above is None) == (self.below is None):
            raise ConfigurationError("above", self.above, f"give either above or below (which is {self.below!r})")
        argument, level = ("above", self.above) if self.above is not None else ("below", self.below)
        if level == "target":
            if self.metric in OTHER_METRICS:
                raise ConfigurationError(argument, level, f"{self.metric!r} has no target: give a number")
            if self.clear_at is not None:
                remedy = 'leave it out: an alert about a "target" clears when that is met by a tenth of it'
                raise ConfigurationError("clear_at", self.clear_at, remedy)
        elif not _finite(level):
            raise ConfigurationError(argument, level, 'give a finite number, or "target" for the target of the KPI')
        if self.clear_at is not None:
            self._check_clear_at(level)
        self._check_rest()

    def _check_clear_at(self, level: Any) -> None:
        if not _finite(self.clear_at):
            raise ConfigurationError("clear_at", self.clear_at, "give a finite number, or None for the threshold")
        assert self.clear_at is not None  # noqa: S101 - for the type checker
        wrong = self.clear_at > level if self.above is not None else self.clear_at < level
        if wrong:
            side = "at or below above" if self.above is not None else "at or above below"
            raise ConfigurationError("clear_at", self.clear_at, f"it has to be {side}={level!r}")

    def _check_rest(self) -> None:
        if not _finite(self.for_seconds) or self.for_seconds < 0:
            raise ConfigurationError("for_seconds", self.for_seconds, "give 0 or more seconds")
        if self.severity not in ("info", "warning", "critical"):
            raise ConfigurationError("severity", self.severity, 'use "info", "warning" or "critical"')
        if not _finite(self.window_hours) or not 0 < self.window_hours <= 24 * 366:
            raise ConfigurationError("window_hours", self.window_hours, "give more than 0 hours, and at most a year")
        if isinstance(self.min_count, bool) or not isinstance(self.min_count, int) or self.min_count < 0:
            raise ConfigurationError("min_count", self.min_count, "give a whole number of observations, 0 or more")
        if not isinstance(self.sure, bool):
            raise ConfigurationError("sure", self.sure, "use True or False")
        if self.repeat_seconds is not None and (not _finite(self.repeat_seconds) or self.repeat_seconds < 1):
            raise ConfigurationError("repeat_seconds", self.repeat_seconds, "give 1 or more seconds, or None for never")
        if not isinstance(self.advice, str):
            raise ConfigurationError("advice", self.advice, "give a sentence")

    @property
    def unit(self) -> Unit:
        """Of the metric."""
        measure = measure_of(self.metric)
        return OTHER_METRICS[self.metric][0] if measure is None else measure.unit

    @property
    def title(self) -> str:
        """What the metric is called."""
        measure = measure_of(self.metric)
        return OTHER_METRICS[self.metric][1] if measure is None else measure.title

    def threshold(self, target: float | None) -> float | None:
        """What has to be passed, given the target of the metric; `None` when there is nothing to pass."""
        level = self.above if self.above is not None else self.below
        return target if isinstance(level, str) else level

    def past(self, value: float, level: float) -> bool:
        """Whether a value is on the wrong side of a level."""
        return value > level if self.above is not None else value < level

    def clears_at(self, threshold: float) -> float:
        """To where a value has to come back."""
        if self.clear_at is not None:
            return self.clear_at
        if "target" not in (self.above, self.below):
            return threshold
        return threshold - _MARGIN * abs(threshold) if self.above is not None else threshold + _MARGIN * abs(threshold)

    def worse(self, one: float, other: float) -> float:
        """The worse of two values."""
        return max(one, other) if self.above is not None else min(one, other)


def _finite(value: object) -> bool:
    number = isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
    return number and math.isfinite(value)  # type: ignore[arg-type]


DEFAULT_RULES: Final[tuple[AlertRule, ...]] = (
    AlertRule(
        name="budget-use",
        metric="budget.use",
        above=0.8,
        clear_at=0.75,
        advice="Raise the limit, or let calls get cheaper: `tokopt budget` shows what is spent where.",
    ),
    AlertRule(
        name="budget-forecast",
        metric="budget.forecast",
        above=1.0,
        clear_at=0.95,
        for_seconds=600,
        advice="At this rate the limit runs out before its period ends: raise it, or spend less until then.",
    ),
    AlertRule(
        name="hit-rate",
        metric="cache.hit_rate",
        below="target",
        for_seconds=900,
        min_count=50,
        sure=True,
        advice="See with `tokopt cache` why requests miss or are passed by.",
    ),
    AlertRule(
        name="model-errors",
        metric="health.model_errors",
        above=0.05,
        clear_at=0.03,
        for_seconds=60,
        severity="critical",
        window_hours=1,
        min_count=20,
        advice="Look at the errors of the provider, its status page and your rate limits.",
    ),
    AlertRule(
        name="part-failing",
        metric="health.errors",
        above=0.5,
        clear_at=0.2,
        for_seconds=300,
        severity="critical",
        window_hours=1 / 12,
        min_count=3,
        advice="Agents go on without the part. The report names its errors.",
    ),
    AlertRule(
        name="savings-negative",
        metric="cost.saved_net",
        below=0.0,
        for_seconds=600,
        min_count=20,
        advice="Switch off the part that costs more than it saves: `tokopt effectiveness` names it.",
    ),
    AlertRule(
        name="audited-error",
        metric="cache.audited_error",
        above="target",
        for_seconds=300,
        severity="critical",
        min_count=10,
        sure=True,
        advice="Lower max_error, or delete the wrong answers with `tokopt cache`.",
    ),
    AlertRule(
        name="events-dropped",
        metric="telemetry.dropped",
        above=0,
        window_hours=1,
        advice="Figures are too low: `tokopt status` names the last error of the database.",
    ),
    AlertRule(
        name="calls-refused",
        metric="health.refused",
        above=0,
        window_hours=1,
        advice="Agents were stopped by a limit: `tokopt budget` shows which.",
    ),
)
