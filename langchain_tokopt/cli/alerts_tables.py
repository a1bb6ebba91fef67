"""Alerts and the rules that raise them, in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from langchain_tokopt.cli.common import utc
from langchain_tokopt.cli.fitted import Column, fitted
from langchain_tokopt.cli.shown import age, console, safe, shortened
from langchain_tokopt.telemetry.alerts.rules import AlertRule
from langchain_tokopt.telemetry.kpis import shown

if TYPE_CHECKING:
    from rich.console import Console

    from langchain_tokopt.telemetry.alerts import Alert

_SHORT = 8
_LONGEST = 300
_STYLES = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
_STATES = {"open": "", "acknowledged": "green", "cleared": "dim"}

_ALERTS = (
    Column("Id", "left"),
    Column("Severity", "left"),
    Column("What", "left", least=34),
    Column("For", rank=1),
    Column("State", "left", rank=2),
    Column("By", "left", rank=3, least=10),
    Column("Note", "left", rank=4, least=20),
)
_HISTORY = (
    Column("Id", "left"),
    Column("Severity", "left"),
    Column("What", "left", least=34),
    Column("Raised (UTC)", "left", rank=1),
    Column("Lasted", rank=3),
    Column("State", "left", rank=2),
    Column("By", "left", rank=4, least=10),
)
_RULES = (
    Column("Rule", "left"),
    Column("Severity", "left", rank=2),
    Column("Metric", "left", rank=1),
    Column("Raised", "left"),
    Column("For", rank=3),
    Column("Cleared at", rank=5),
    Column("Window", rank=4),
    Column("From", rank=6),
)


def print_alerts(found: Sequence[Alert], now: float) -> None:
    """Print a line for each alert, then what each means and what can be done."""
    screen = console()
    screen.print(fitted(_ALERTS, [_alert(alert, now) for alert in found], screen))
    for alert in found:
        screen.print(Text(f"- {safe(alert.id[:_SHORT])}: {shortened(alert.detail, _LONGEST)}"), soft_wrap=True)


def print_check(changed: Sequence[Alert], standing: Sequence[Alert], now: float) -> None:
    """Print what a look has raised and cleared, and all that is not over."""
    screen = console()
    for alert in changed:
        over = alert.state == "cleared"
        what = "cleared" if over else "raised"
        style = _STATES["cleared"] if over else _STYLES[alert.severity]
        line = f"{what}: {safe(alert.id[:_SHORT])} {shortened(alert.title, _LONGEST)}"
        screen.print(Text(line, style), soft_wrap=True)
    if not standing:
        screen.print(Text("Looked: there are no alerts."))
        return
    if not changed:
        screen.print(Text("Looked: nothing has changed."))
    print_alerts(standing, now)


def print_history(found: Sequence[Alert], now: float) -> None:
    """Print a line for each alert, over or not."""
    screen = console()
    rows = [
        {
            **_named(alert),
            "Raised (UTC)": Text((utc(alert.raised_at) or "").removesuffix("+00:00").replace("T", " ")),
            "Lasted": Text(age((alert.cleared_at or now) - alert.since)),
            "State": Text(alert.state, _STATES[alert.state]),
            "By": Text(shortened(alert.acknowledged_by or "", 60)),
        }
        for alert in found
    ]
    screen.print(fitted(_HISTORY, rows, screen))


def print_rules(rules: Sequence[AlertRule]) -> None:
    """Print a line for each rule, and what can be done."""
    screen: Console = console()
    screen.print(fitted(_RULES, [_rule(rule) for rule in rules], screen))
    for rule in rules:
        if rule.advice:
            screen.print(Text(f"- {safe(rule.name)}: {safe(rule.advice)}"), soft_wrap=True)


def _alert(alert: Alert, now: float) -> dict[str, Text]:
    return {
        **_named(alert),
        "For": Text(age(now - alert.since)),
        "State": Text(alert.state, _STATES[alert.state]),
        "By": Text(shortened(alert.acknowledged_by or "", 60)),
        "Note": Text(shortened(alert.note or "", _LONGEST)),
    }


def _named(alert: Alert) -> dict[str, Text]:
    return {
        "Id": Text(safe(alert.id[:_SHORT])),
        "Severity": Text(safe(alert.severity), _STYLES.get(alert.severity, "")),
        "What": Text(shortened(alert.title, _LONGEST)),
    }


def _rule(rule: AlertRule) -> dict[str, Text]:
    level = rule.above if rule.above is not None else rule.below
    side = "above" if rule.above is not None else "below"
    said = "its target" if level is None or isinstance(level, str) else shown(level, rule.unit)
    return {
        "Rule": Text(safe(rule.name)),
        "Severity": Text(rule.severity, _STYLES[rule.severity]),
        "Metric": Text(rule.metric),
        "Raised": Text(f"{side} {said}"),
        "For": Text(age(rule.for_seconds) if rule.for_seconds else "at once"),
        "Cleared at": Text("" if rule.clear_at is None else shown(rule.clear_at, rule.unit)),
        "Window": Text(age(rule.window_hours * 3600)),
        "From": Text(f"{rule.min_count:,} on" if rule.min_count > 1 else ""),
    }
