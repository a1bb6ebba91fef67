"""Rules that can work, and those that are refused with what to do instead."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.telemetry.alerts import DEFAULT_RULES, AlertRule
from langchain_tokopt.telemetry.alerts.rules import OTHER_METRICS
from langchain_tokopt.telemetry.kpis import measure_of


def rule(**settings: Any) -> AlertRule:
    return AlertRule(**{"name": "r", "metric": "cache.hit_rate", "below": 0.2, **settings})


@pytest.mark.parametrize(
    ("settings", "argument", "remedy"),
    [
        ({"name": ""}, "name", "1 to 100 printable characters"),
        ({"name": "x" * 101}, "name", "1 to 100 printable characters"),
        ({"name": "a\nb"}, "name", "printable"),
        ({"name": "a\u202eb"}, "name", "printable"),
        ({"name": None}, "name", "printable"),
        ({"metric": "cache.hits"}, "metric", "use one of 'cost.spend'"),
        ({"metric": "cache.hit_rate.x"}, "metric", "'telemetry.dropped'"),
        ({"metric": 3}, "metric", "use one of"),
        ({"above": 0.1}, "above", "give either above or below (which is 0.2)"),
        ({"below": None}, "above", "give either above or below"),
        ({"below": "much"}, "below", 'give a finite number, or "target"'),
        ({"below": True}, "below", "give a finite number"),
        ({"below": float("nan")}, "below", "give a finite number"),
        ({"below": None, "above": float("inf")}, "above", "give a finite number"),
        ({"metric": "budget.use", "below": None, "above": "target"}, "above", "'budget.use' has no target"),
        ({"clear_at": 0.1}, "clear_at", "it has to be at or above below=0.2"),
        ({"below": None, "above": 0.5, "clear_at": 0.6}, "clear_at", "it has to be at or below above=0.5"),
        ({"clear_at": "0.3"}, "clear_at", "give a finite number, or None"),
        ({"below": "target", "clear_at": 0.3}, "clear_at", "by a tenth of it"),
        ({"for_seconds": -1}, "for_seconds", "give 0 or more seconds"),
        ({"for_seconds": float("inf")}, "for_seconds", "give 0 or more seconds"),
        ({"for_seconds": None}, "for_seconds", "give 0 or more seconds"),
        ({"severity": "bad"}, "severity", 'use "info", "warning" or "critical"'),
        ({"window_hours": 0}, "window_hours", "more than 0 hours"),
        ({"window_hours": 10_000}, "window_hours", "at most a year"),
        ({"min_count": -1}, "min_count", "0 or more"),
        ({"min_count": 1.5}, "min_count", "a whole number"),
        ({"sure": 1}, "sure", "True or False"),
        ({"repeat_seconds": 0}, "repeat_seconds", "1 or more seconds"),
        ({"advice": None}, "advice", "give a sentence"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(settings: dict[str, Any], argument: str, remedy: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        rule(**settings)
    assert raised.value.argument == argument
    assert remedy in str(raised.value)


def test_a_rule_may_look_at_one_part_or_at_all() -> None:
    assert rule(metric="health.errors", below=None, above=0.1).title == "Errors of a part"
    assert rule(metric="health.errors.my own part", below=None, above=0.1).unit == "share"


def test_an_alert_clears_at_its_own_level() -> None:
    assert rule().clears_at(0.2) == 0.2
    assert rule(clear_at=0.3).clears_at(0.2) == 0.3
    assert rule(below="target").clears_at(0.2) == pytest.approx(0.22)
    assert rule(below=None, above="target").clears_at(0.2) == pytest.approx(0.18)
    assert rule(below="target").threshold(None) is None


def test_the_default_rules_cover_what_goes_wrong() -> None:
    assert [(rule.name, rule.metric) for rule in DEFAULT_RULES] == [
        ("budget-use", "budget.use"),
        ("budget-forecast", "budget.forecast"),
        ("hit-rate", "cache.hit_rate"),
        ("model-errors", "health.model_errors"),
        ("part-failing", "health.errors"),
        ("savings-negative", "cost.saved_net"),
        ("audited-error", "cache.audited_error"),
        ("events-dropped", "telemetry.dropped"),
        ("calls-refused", "health.refused"),
    ]
    assert all(rule.advice for rule in DEFAULT_RULES)
    assert all(measure_of(rule.metric) or rule.metric in OTHER_METRICS for rule in DEFAULT_RULES)
    assert all(each.kw_only for each in fields(AlertRule))
