"""`tokopt alerts`: raised once, taken up, told to scripts."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from langchain_tokopt.budget import Budget, Limit
from langchain_tokopt.cli import telemetry_options
from langchain_tokopt.database import Database
from langchain_tokopt.events import Event, ModelCall, Who
from langchain_tokopt.optimizer import DATABASE_FILE
from langchain_tokopt.telemetry.alerts import DEFAULT_RULES
from tests.cli_events import HOUR, NOW, call, is_harmless, keep, lines, run
from tests.fakes import FakeClock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock(NOW)
    monkeypatch.setattr(telemetry_options, "clock", clock)
    return clock


@pytest.fixture
def data_dir(tmp_path: Path, clock: FakeClock) -> Path:
    """A budget of which 90 % is spent, and a model that fails all the time."""
    made = tmp_path / "data"
    keep(failing(NOW), made)
    database = Database(made / DATABASE_FILE)
    budget = Budget(limits={"project=shop": Limit(usd=1, per="day")}, store=database, clock=clock)
    with budget.spend("project=shop", usd=Decimal("0.9")):
        pass
    budget.close()
    database.close()
    return made


def failing(at: float) -> list[Event]:
    broken = [ModelCall(at=at - n - 1, model="gpt-5", error="Timeout") for n in range(30)]
    return [*broken, call(NOW - at + 40, Who(), 10, "0.1")]


@pytest.fixture
def tokopt(data_dir: Path) -> Callable[..., tuple[int, str, str]]:
    return lambda *arguments: run("alerts", *arguments, "--data-dir", str(data_dir))


def found(done: tuple[int, str, str]) -> Any:
    return json.loads(done[1])


def test_nobody_has_looked_yet(tokopt: Any) -> None:
    said = "Nobody has looked for alerts here yet: run `tokopt alerts check`.\n"
    assert tokopt() == tokopt("list") == (0, said, "")
    assert found(tokopt("list", "--json")) == {"looked": False, "alerts": []}
    assert tokopt("history") == (1, "", "There were no alerts.\n")
    code, _, error = tokopt("ack", "abcdef12", "--by", "me")
    assert (code, error) == (2, "Error: ID='abcdef12' cannot be used: there are no alerts in this database\n")


def test_a_look_raises_once(tokopt: Any, clock: FakeClock) -> None:
    code, out, error = tokopt("check")
    assert (code, error) == (0, "")
    first, *rest = lines(out)
    assert first.startswith("raised: ")
    assert all(words in first for words in ("Budget use", "project=shop per day", "90.0%, over 80.0%"))
    assert rest[0] == "Id Severity What For State"
    clock.advance(10)
    code, out, _ = tokopt("check")
    assert (code, lines(out)[0]) == (0, "Looked: nothing has changed.")
    assert [alert["rule"] for alert in found(tokopt("--json"))["alerts"]] == ["budget-use"]


def test_a_critical_alert_is_exit_code_1_until_it_is_taken_up(tokopt: Any, clock: FakeClock) -> None:
    assert tokopt("check")[0] == 0
    clock.advance(61)
    code, out, _ = tokopt("check", "--json")
    told = found((code, out, ""))
    assert code == 1
    assert [(alert["rule"], alert["severity"], alert["state"]) for alert in told["changed"]] == [
        ("model-errors", "critical", "open")
    ]
    assert {alert["rule"] for alert in told["alerts"]} == {"budget-use", "model-errors"}
    assert (tokopt()[0], tokopt("list")[0], tokopt("list", "--json")[0]) == (1, 1, 1)
    id_ = told["changed"][0]["id"]
    code, out, _ = tokopt("ack", id_[:8], "--by", "ann\x1b[2J", "--note", "it is\u202e theirs")
    assert code == 0
    assert out.startswith(f"{id_[:8]}: Failed model calls")
    assert out.endswith(" 96.8%, over 5.0%. Taken up by ann\\x1b[2J.\n")
    assert tokopt()[0] == 0
    code, out, _ = tokopt("list")
    assert code == 0
    assert "acknowledged" in out
    assert "ann\\x1b[2J" in out
    assert "it is\\u202e theirs" in out
    assert is_harmless(out)


def test_what_is_over_is_in_the_history(tokopt: Any, clock: FakeClock, data_dir: Path) -> None:
    tokopt("check")
    clock.advance(61)
    tokopt("check")
    clock.advance(2 * HOUR)
    keep([call(-(2 * HOUR), Who(), 10, "0.1", request=str(n)) for n in range(30)], data_dir)
    clock.advance(1)
    code, out, _ = tokopt("check")
    assert code == 0
    assert lines(out)[0].startswith("cleared: ")
    told = found(tokopt("history", "--json"))["alerts"]
    assert {alert["rule"]: alert["state"] for alert in told} == {"budget-use": "open", "model-errors": "cleared"}
    code, out, _ = tokopt("history")
    assert (code, lines(out)[0]) == (0, "Id Severity What Raised (UTC) Lasted State")
    assert len(found(tokopt("history", "--json", "--limit", "1"))["alerts"]) == 1
    assert {alert["rule"] for alert in found(tokopt("history", "--json", "--since", "10m"))["alerts"]} == {
        "budget-use",
        "model-errors",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ack", "zz", "--by", "me"], "ID='zz' cannot be used: give the id of an alert"),
        (["ack", "abcdef12", "--by", "me"], "ID='abcdef12' cannot be used: there is no alert with this id"),
        (["ack", "abcdef12"], "--by=None cannot be used: say who takes the alert up"),
        (["ack", "abcdef12", "--by", " "], "--by=' ' cannot be used: say who takes the alert up"),
        (["history", "--since", "soon"], "--since='soon' cannot be used"),
    ],
)
def test_what_cannot_work_is_one_line(tokopt: Any, arguments: list[str], said: str) -> None:
    tokopt("check")
    code, out, error = tokopt(*arguments)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert error.startswith(f"Error: {said}")


def test_options_belong_behind_the_command(data_dir: Path) -> None:
    done = run("alerts", "--data-dir", str(data_dir), "list")
    assert done == (2, "", f"Error: --data-dir={str(data_dir)!r} cannot be used: put it after 'list'\n")
    assert run("alerts", "--json", "rules")[2] == "Error: --json=True cannot be used: put it after 'rules'\n"


def test_the_rules_are_told_with_what_can_be_done() -> None:
    code, out, _ = run("alerts", "rules")
    assert code == 0
    assert lines(out)[0] == "Rule Severity Metric Raised For Cleared at Window From"
    assert "budget-use warning budget.use above 80.0% at once 75.0% 1 d" in lines(out)
    assert "- budget-use: Raise the limit, or let calls get cheaper" in out
    told = json.loads(run("alerts", "rules", "--json")[1])["rules"]
    assert [rule["name"] for rule in told] == [rule.name for rule in DEFAULT_RULES]
