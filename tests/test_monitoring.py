"""What an optimiser tells of itself: one set of figures, whatever shows them."""

from __future__ import annotations

import json
import re
import urllib.request
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage

from langchain_tokopt import Budget, ConfigurationError, Limit, StoreError, TokenOptimizer
from langchain_tokopt.events import Event
from langchain_tokopt.telemetry.alerts import AlertRule, CallbackChannel, Notice
from tests.fakes import ListSink, ScriptedModel, TableEmbeddings, ai


def spent(tokopt: TokenOptimizer, calls: int = 3) -> Any:
    """An agent that was asked so often, by alice; its last answer."""
    responses = [ai(f"answer {number}", input_tokens=1000, output_tokens=100) for number in range(calls)]
    agent = create_agent(ScriptedModel(responses=responses), middleware=tokopt.middleware, name="writer")
    for number in range(calls):
        config: Any = {"configurable": {"user_id": "alice"}}
        answer = agent.invoke({"messages": [HumanMessage(f"What is {number} times {number}?")]}, config)
    return answer


def optimizer(**settings: Any) -> TokenOptimizer:
    return TokenOptimizer(**{"embeddings": TableEmbeddings(), "cache": None, **settings})


def test_report_kpis_and_page_say_the_same(tmp_path: Path) -> None:
    budget = Budget(limits={"global": Limit(usd="0.5", per="day"), "user=*": Limit(usd="0.1", per="day")})
    with optimizer(budget=budget, data_dir=tmp_path) as tokopt:
        spent(tokopt)
        report = tokopt.report(24)
        cost = report.measured.cost_usd
        assert cost is not None
        assert cost > 0
        found = {kpi.name: kpi.value for kpi in tokopt.monitoring.kpis()}
        assert found["cost.spend"] == cost
        assert {line.node: Decimal(line.spent or 0) for line in report.budgets if line.unit == "usd"}[
            "user=alice"
        ] == cost
        file = tokopt.monitoring.dashboard(tmp_path / "page.html")
        text = file.read_text(encoding="utf-8")
    assert "user=alice" in text
    assert format(cost, "f") in text
    assert re.search(r"https?://(?!www\.w3\.org|127\.0\.0\.1)", text.split("<script", 1)[0]) is None


def test_the_page_is_served_to_this_machine_and_follows_what_happens() -> None:
    with (
        optimizer() as tokopt,
        tokopt.monitoring.serve() as server,
        urllib.request.urlopen(server.url, timeout=20) as answered,
    ):
        assert "Content-Security-Policy" in answered.headers
        assert b"<!doctype html" in answered.read()[:100].lower()


def test_alerts_are_looked_for_and_told(tmp_path: Path) -> None:
    heard: list[Notice] = []
    budget = Budget(usd="0.0007", per="day")
    with optimizer(budget=budget, data_dir=tmp_path, channels=[CallbackChannel(heard.append)]) as tokopt:
        spent(tokopt)
        tokopt.monitoring.alerts.check()
        [alert] = [alert for alert in tokopt.monitoring.alerts.active() if alert.rule.startswith("budget")][:1]
        assert "global" in alert.title + alert.detail
        tokopt.monitoring.alerts.acknowledge(alert.id, "ann")
    assert heard


@pytest.mark.parametrize(
    "settings",
    [
        {"targets": {"cache.colour": 1}},
        {"alerts": ["loud"]},
        {"channels": [7]},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError), optimizer(**settings) as tokopt:
        tokopt.monitoring.alerts.check()


def test_no_rules_no_alerts() -> None:
    with optimizer(alerts=[]) as tokopt:
        spent(tokopt)
        assert tokopt.monitoring.alerts.check() == []


def test_a_rule_of_one_s_own() -> None:
    rule = AlertRule(name="much", metric="cost.spend", above=0.0001, severity="info")
    with optimizer(alerts=[rule]) as tokopt:
        spent(tokopt)
        tokopt.telemetry.flush()
        assert [alert.rule for alert in tokopt.monitoring.alerts.check()] == ["much"]


def test_others_are_told_what_happens_too() -> None:
    sink = ListSink()
    with optimizer(sinks=[sink]) as tokopt:
        spent(tokopt)
        tokopt.telemetry.flush()
        kept: list[Event] = list(tokopt.telemetry.events())
    assert {event.id for event in sink.of(Event)} >= {event.id for event in kept if type(event).__name__ == "ModelCall"}


def test_a_page_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with optimizer() as tokopt, pytest.raises(StoreError, match="cannot be written"):
        tokopt.monitoring.dashboard(tmp_path / "missing" / "page.html")


def test_a_report_of_a_budget_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with optimizer(budget=Budget(usd=1, store=tmp_path / "budget.db"), data_dir=tmp_path) as tokopt:
        spent(tokopt)
        tokopt.budget.close()
        (tmp_path / "budget.db").unlink()
        told = json.loads(tokopt.report(24).to_json())
    assert told["events"] > 0
