"""`tokopt stats`, `report`, `status` and `dashboard`: what they print, write and tell scripts."""

from __future__ import annotations

import io
import json
import urllib.request
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from langchain_tokopt.budget import Budget, Limit
from langchain_tokopt.cli import shown, telemetry_options
from langchain_tokopt.cli.schemas import SCHEMAS
from langchain_tokopt.cli.stats_tables import standing
from langchain_tokopt.cli.status_facts import complete, troubles
from langchain_tokopt.cli.telemetry_budgets import KeptBudgets, kept_budgets
from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError, StoreError
from langchain_tokopt.optimizer import DATABASE_FILE
from langchain_tokopt.telemetry.dashboard import Server
from langchain_tokopt.telemetry.kpis import kpis
from langchain_tokopt.telemetry.readings import Readings
from langchain_tokopt.telemetry.snapshots import Taken
from langchain_tokopt.telemetry.store import EventStore
from tests.cli_events import EVENTS, HOUR, NOW, is_harmless, keep, lines, run


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry_options, "clock", lambda: NOW)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    keep(EVENTS, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def tokopt(data_dir: Path) -> Any:
    return lambda *arguments: run(*arguments, "--data-dir", str(data_dir))


def spend(data_dir: Path, usd: str, name: str = "default") -> None:
    """Spend from a budget of 2.00 a day for all and 1.00 for the shop."""
    database = Database(data_dir / DATABASE_FILE)
    limits = {"global": Limit(usd=2, per="day"), "project=shop": Limit(usd=1, per="day")}
    budget = Budget(limits=limits, store=database, name=name, clock=lambda: NOW)
    with budget.spend("project=shop", usd=usd):
        pass
    budget.close()
    database.close()


# --- stats -----------------------------------------------------------------------------------------------------------


def test_stats_says_the_most_important_first(tokopt: Any) -> None:
    code, out, error = tokopt("stats")
    assert (code, error) == (0, "")
    head, names, *rest = lines(out)
    assert head.startswith("Spent $0.52 (measured), saved net $0.48 (estimated) in the last 24 hours. ")
    assert names == "Figure Value 95 % Before Trend Target Met Of Source"
    groups = [line for line in rest if line in ("Cost", "Tokens", "Cache", "Quality", "Health")]
    assert groups == ["Cost", "Tokens", "Cache", "Quality", "Health"]
    assert any(line.startswith("Spend $0.52 ") and line.endswith(" 6 measured") for line in rest)
    assert any(line.startswith("Cache hit rate 50.0% 9.5% to 90.5% ") for line in rest)
    assert any(line.startswith("Failed model calls 12.5% 2.2% to 47.1% ") and " NO 8 " in line for line in rest)
    assert is_harmless(out)


def test_each_figure_is_a_line_with_all_that_is_known_of_it() -> None:
    database = Database()
    store = EventStore(database)
    store.write(EVENTS)
    one = next(kpi for kpi in kpis(Readings(store), now=NOW) if kpi.name == "cache.hit_rate")
    database.close()
    sure = replace(one, value=0.25, low=0.2, high=0.3, previous=0.5, trend="down", certain=True, target=0.2, ok=True)
    figures = [
        sure,
        replace(sure, title="x\x1b[2J", certain=False, trend="up", ok=False),
        replace(sure, trend="same", target=None, ok=None, low=None, high=None),
        replace(one, value=None, low=None, high=None, previous=None, trend=None, reason="nobody\u202e asked", count=0),
    ]
    shown_to = io.StringIO()
    screen = Console(file=shown_to, width=120, force_terminal=False)
    screen.print(standing(figures, screen, explained=False))
    assert lines(shown_to.getvalue())[2:] == [
        "Cache",
        "Cache hit rate 25.0% 20.0% to 30.0% 50.0% down >= 20 % yes 2 measured",
        "x\\x1b[2J 25.0% 20.0% to 30.0% 50.0% up ? >= 20 % NO 2 measured",
        "Cache hit rate 25.0% 50.0% same 2 measured",
        "Cache hit rate unknown",
        "?: it may be chance.",
        "Cache hit rate: nobody\\u202e asked.",
    ]


def test_stats_as_json_has_the_kpis(tokopt: Any) -> None:
    code, out, _ = tokopt("stats", "--json")
    assert code == 0
    told = json.loads(out)
    spend = next(kpi for kpi in told["kpis"] if kpi["name"] == "cost.spend")
    assert (Decimal(spend["value"]), spend["source"], spend["count"]) == (Decimal("0.52"), "measured", 6)
    assert (told["since"], told["until"]) == ("2027-01-14T08:00:00+00:00", "2027-01-15T08:00:00+00:00")
    assert "health.model_errors" in told["missed"]


def test_check_tells_scripts_that_a_target_is_missed(tokopt: Any) -> None:
    assert tokopt("stats")[0] == 0
    assert tokopt("stats", "--check")[0] == 1
    lenient = [f"--target={name}=1" for name in ("health.model_errors", "health.errors")]
    code, out, _ = tokopt("stats", "--check", "--json", *lenient)
    assert (code, json.loads(out)["missed"]) == (0, [])
    assert tokopt("stats", "--check", "--target", "cache.hit_rate=0.6", *lenient)[0] == 1


def test_explain_says_where_each_figure_is_from(tokopt: Any) -> None:
    _, out, _ = tokopt("stats", "--explain")
    assert "Spend (cost.spend)\n  What the model calls cost at list prices" in out
    assert "From: Readings.calls(span): measured.cost_usd" in out
    assert out.count("\n  Formula: ") == len(json.loads(tokopt("stats", "--json")[1])["kpis"])


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("cache.hit_rate", "name a figure and a number"),
        ("cache.hit_rate=lots", "name a figure and a number"),
        ("cache.hits=1", "use one of 'cost.spend'"),
        ("cache.hit_rate=20", "give a share of 1"),
    ],
)
def test_targets_that_cannot_be(tokopt: Any, target: str, said: str) -> None:
    code, out, error = tokopt("stats", "--target", target)
    assert (code, out) == (2, "")
    assert error.startswith(f"Error: --target={target!r} cannot be used: {said}")


def test_audits_are_those_that_the_cache_told_last(data_dir: Path) -> None:
    audits = {"audited_error": 0.02, "audited_error_low": 0.01, "audited_error_high": 0.05, "audits": 40}
    keep([Taken(name="cache", at=NOW - 60, figures={"decision": {**audits, "max_error": 0.01}})], data_dir)
    told = json.loads(run("stats", "--json", "--data-dir", str(data_dir))[1])
    found = next(kpi for kpi in told["kpis"] if kpi["name"] == "cache.audited_error")
    assert (found["value"], found["low"], found["high"], found["ok"]) == (0.02, 0.01, 0.05, False)


# --- report ----------------------------------------------------------------------------------------------------------


def test_the_report_has_budgets_and_what_is_to_come(tokopt: Any, data_dir: Path) -> None:
    spend(data_dir, "0.9")
    told = json.loads(tokopt("report", "--hours", "24", "--json")[1])
    assert [(line["node"], line["limit"], line["spent"]) for line in told["budgets"]] == [
        ("project=shop", "1", "0.9"),
        ("global", "2", "0.9"),
    ]
    assert told["measured"]["cost_usd"] == "0.52"
    assert "recommendations" in told


@pytest.mark.parametrize("form", [[], ["--text"], ["--markdown"]])
def test_the_report_in_a_pipe_is_plain_text(tokopt: Any, form: list[str]) -> None:
    code, out, _ = tokopt("report", "--hours", "24", *form)
    assert code == 0
    assert "$0.52" in out
    assert is_harmless(out)
    if form != ["--markdown"]:
        assert max(map(len, out.splitlines())) <= 100


def test_the_report_as_a_file(tokopt: Any, tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    assert tokopt("report", "--html", str(target)) == (0, f"Wrote the report to {target}.\n", "")
    page = target.read_text()
    assert page.lower().startswith("<!doctype html>")
    assert "$0.52" in page or "$7.52" in page
    code, out, _ = tokopt("report", "--html", str(target), "--json")
    assert (code, json.loads(out)["events"]) == (0, len(EVENTS))


def test_one_form_of_the_report_at_a_time(tokopt: Any, tmp_path: Path) -> None:
    said = "Error: --markdown=True cannot be used: use either --json or --markdown\n"
    assert tokopt("report", "--json", "--markdown") == (2, "", said)
    code, out, error = tokopt("report", "--html", str(tmp_path / "gone" / "x.html"))
    assert (code, out) == (2, "")
    assert "there is no folder" in error


def test_a_candidate_without_a_price(tokopt: Any) -> None:
    code, out, error = tokopt("report", "--candidate", "openai:gpt-5-mini", "--candidate", "nope")
    assert (code, out) == (2, "")
    assert error.startswith("Error: --candidate='nope' cannot be used: no price of it is known")
    assert tokopt("report", "--candidate", "openai:gpt-5-mini")[0] == 0


# --- status ----------------------------------------------------------------------------------------------------------


def test_status_says_how_the_database_stands(tokopt: Any, data_dir: Path) -> None:
    spend(data_dir, "1")
    keep([Taken(name="telemetry", at=NOW - 60, figures={"queued": 0, "dropped": 0, "last_error": None})], data_dir)
    told = json.loads(tokopt("status", "--json")[1])
    assert told["events"] == len(EVENTS)
    assert told["events_by_kind"] == {
        "ModelCall": 9,
        "Decision": 3,
        "CacheLookup": 2,
        "Failure": 1,
        "LimitAlert": 1,
        "Reservation": 1,
    }
    assert (told["first"], told["last"]) == ("2027-01-14T02:00:00+00:00", "2027-01-15T07:59:40+00:00")
    assert told["rolled_up_until"] is None
    assert told["size_bytes"] >= (data_dir / DATABASE_FILE).stat().st_size
    assert set(told["schemas"]) == {"telemetry", "budget"}
    assert all(each["version"] == each["known"] for each in told["schemas"].values())
    assert told["budgets"] == [{"name": "default", "limits": 2, "used_up": ["project=shop"]}]
    assert told["snapshots"][0]["age_seconds"] == 60
    assert (told["alerts"], told["problems"]) == (None, [])
    code, out, error = tokopt("status")
    assert (code, error) == (0, "")
    assert "default (2 limits, used up: project=shop)" in out
    assert "telemetry (1 min ago, queued 0, dropped 0)" in out
    assert "nobody looked for any yet: tokopt alerts check" in out


def test_status_without_a_database_says_what_is_installed() -> None:
    code, out, _ = run("status", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["extras"]["postgres"] in (True, False)
    assert not {"test", "docs", "lint"} & set(told["extras"])
    assert "database" not in told


def test_events_that_a_process_dropped_are_something_wrong(data_dir: Path) -> None:
    lost = {"dropped": 1_500, "last_error": "StoreError: the disk is full\x1b[2J"}
    keep([Taken(name="telemetry", at=NOW - 60, figures=lost)], data_dir)
    code, out, _ = run("status", "--data-dir", str(data_dir))
    assert code == 1
    assert "Wrong: telemetry: 1,500 events were dropped by a process and are in no figures" in out
    assert "Wrong: telemetry: StoreError: the disk is full\\x1b[2J" in out
    assert troubles([{"name": "telemetry", "figures": {"dropped": 0, "last_error": None}}]) == []
    assert troubles([{"name": "cache", "figures": {"dropped": 3}}]) == []


def test_an_extra_is_there_when_all_that_it_needs_is() -> None:
    needed = [
        'typer>=0.1 ; extra == "cli"',
        'typer; extra == "more"',
        "no-such-package-at-all[x]>=3; python_version > \"3\" and extra == 'more'",
        'pytest; extra == "test"',
        "rich>=15",
    ]
    assert complete(needed) == {"cli": True, "more": False}


def test_every_schema_of_the_package_is_known() -> None:
    root = Path(telemetry_options.__file__).parents[1]
    made = "".join(path.read_text() for path in root.rglob("*.py") if path.name != "database.py")
    assert made.count(".migrate(") == len(SCHEMAS) + 1  # the budget's is brought up to date in two places


# --- budgets for those who look --------------------------------------------------------------------------------------


class Broken:
    """A budget whose ledger is gone."""

    def status(self) -> Any:
        raise StoreError("the ledger is gone")

    def forecast(self, node: str) -> Any:
        raise StoreError("the ledger is gone") if node == "a" else ConfigurationError("per", "run", "use a day")


def test_a_budget_that_cannot_be_read_is_told() -> None:
    kept = KeptBudgets({"default": Broken()}, {"old": "too new"})  # type: ignore[dict-item]
    assert kept.status() == [{"name": "default", "error": "the ledger is gone"}, {"name": "old", "error": "too new"}]
    assert (kept.forecast("a"), kept.forecast("b")) == (None, None)


def test_forecasts_are_made_anew_after_ten_minutes_and_not_for_every_node(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spend(data_dir, "0.5")
    at, asked = [NOW + HOUR], list[str]()
    monkeypatch.setattr(telemetry_options, "clock", lambda: at[0])
    database = Database(data_dir / DATABASE_FILE)
    with kept_budgets(database) as kept:
        ask = kept._forecast
        monkeypatch.setattr(kept, "_forecast", lambda node: asked.append(node) or ask(node))
        found = kept.forecast("project=shop")
        assert found is not None
        assert found.spent == 500_000_000
        assert kept.forecast("project=shop") is found
        at[0] += 600
        assert kept.forecast("project=shop") is not found
        assert asked == ["project=shop", "project=shop"]
        for n in range(30):
            kept.forecast(f"project=p{n}")
        assert len(asked) == 21
    database.close()


# --- dashboard -------------------------------------------------------------------------------------------------------


def test_the_page_as_a_file(tokopt: Any, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    assert tokopt("dashboard", "--html", str(target)) == (0, f"Wrote the page to {target}.\n", "")
    assert target.read_text().lower().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--html", "{tmp}/gone/x.html"], "there is no folder"),
        (["--html", "{tmp}/x.html", "--json"], "use either --html or --json"),
    ],
)
def test_a_page_that_cannot_be_written(tokopt: Any, tmp_path: Path, arguments: list[str], said: str) -> None:
    code, out, error = tokopt("dashboard", *(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert said in error


def test_the_page_is_served_until_ctrl_c(tokopt: Any, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def look(server: Server, seconds: float) -> bool:
        with urllib.request.urlopen(server.url) as answer:
            seen["page"] = answer.read().decode()
        seen["url"] = server.url
        raise KeyboardInterrupt

    spend(data_dir, "0.9")
    monkeypatch.setattr(Server, "wait", look)
    code, out, error = tokopt("dashboard")
    assert (code, out) == (0, f"The dashboard is at {seen['url']}\n")
    assert error == "Ctrl-C ends it.\n\nIt is closed.\n"
    assert seen["page"].lower().startswith("<!doctype html>")
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(seen["url"])


def test_a_port_that_is_taken(tokopt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, out, error = tokopt("dashboard", "--no-browser", "--port", str(port))
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert error.startswith(f"Error: --port={port} cannot be used: another program uses it")


def test_a_browser_is_opened_only_in_a_terminal(tokopt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url))
    monkeypatch.setattr(Server, "wait", lambda server, seconds: True)
    assert tokopt("dashboard")[0] == 0
    assert opened == []
    plain = shown.console

    def terminal() -> Any:
        screen = plain()
        screen._force_terminal = True
        return screen

    monkeypatch.setattr(shown, "console", terminal)
    code, out, _ = tokopt("dashboard")
    assert (code, [f"The dashboard is at {url}\n" for url in opened]) == (0, [out])
    assert tokopt("dashboard", "--no-browser")[0] == 0
    assert len(opened) == 1
