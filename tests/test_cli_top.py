"""`tokopt top`: who spends most, measured and estimated apart, the rest added up."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from langchain_tokopt.cli import telemetry_options
from langchain_tokopt.cli.top_rows import dimensions, ranking, summed
from langchain_tokopt.cli.top_tables import ranked
from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import Who
from langchain_tokopt.telemetry.readings import Span
from langchain_tokopt.telemetry.report import Saved
from langchain_tokopt.telemetry.store import EventStore
from tests.cli_events import EVENTS, HOUR, NOW, call, keep, lines, run


@pytest.fixture
def tokopt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(telemetry_options, "clock", lambda: NOW)
    keep(EVENTS, tmp_path / "data")
    return lambda *arguments: run("top", *arguments, "--data-dir", str(tmp_path / "data"))


def told(done: tuple[int, str, str]) -> Any:
    assert done[0] == 0
    return json.loads(done[1])


def test_agents_by_cost(tokopt: Any) -> None:
    code, out, error = tokopt("--by", "agent")
    assert (code, error) == (0, "")
    assert lines(out)[:5] == [
        "Agent Calls Tokens Cost Share Est. calls Est. tokens Est. cost Failed Own cost Net saved",
        "writer 3 1,580 $0.42 81% 1 410 $0.05 $0.02 $0.48",
        "search 2 320 $0.06 + ? 12% 1",
        "(unknown) 1 110 $0.04 8%",
        "all 6 2,010 $0.52 + ? 1 410 $0.05 1 $0.02 $0.48",
    ]
    assert "Est.: calls whose usage no provider reported, by our estimate; not in the other figures." in out
    assert "+ ?: some of these calls have no known price." in out
    assert "\x1b" not in out


def test_as_json_all_is_exact_and_apart(tokopt: Any) -> None:
    found = told(tokopt("--json"))
    assert (found["by"], found["sort"], found["groups"], found["others"]) == (["agent"], "cost", 3, None)
    assert (found["since"], found["until"]) == ("2027-01-14T08:00:00+00:00", "2027-01-15T08:00:00+00:00")
    writer, search, nobody = found["rows"]
    assert writer["agent"] == "writer"
    assert writer["measured"] == {
        "calls": 3,
        "input_tokens": 1550,
        "output_tokens": 30,
        "cache_read_tokens": None,
        "cache_write_tokens": None,
        "reasoning_tokens": None,
        "cost_usd": "0.42",
        "unpriced": 0,
    }
    assert (writer["estimated"]["calls"], writer["estimated"]["cost_usd"]) == (1, "0.05")
    assert (writer["own"]["measured"]["cost_usd"], writer["own"]["estimated"]["calls"]) == ("0.02", 0)
    assert writer["saved"] == {"applied": 2, "tokens": 140, "usd": "0.500000012", "unpriced": 0}
    assert writer["saved_in_shadow"] == {"applied": 1, "tokens": 60, "usd": "0.01", "unpriced": 0}
    assert writer["net_saved_usd"] == "0.480000012"
    assert writer["share_of_measured"] == pytest.approx(42 / 52)
    assert writer["share_of_estimated"] == 1.0
    assert (search["failed_calls"], search["measured"]["unpriced"], search["estimated"]["cost_usd"]) == (1, 1, None)
    assert nobody["agent"] is None
    assert Decimal(found["total"]["measured"]["cost_usd"]) == Decimal("0.52")


def test_the_rest_is_added_up(tokopt: Any) -> None:
    code, out, _ = tokopt("--limit", "1")
    assert code == 0
    assert lines(out)[2] == "(2 others) 3 430 $0.10 + ? 19% 1"
    found = told(tokopt("--limit", "1", "--json"))
    assert [row["agent"] for row in found["rows"]] == ["writer"]
    assert (found["others"]["measured"]["calls"], found["others"]["measured"]["cost_usd"]) == (3, "0.1")


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (["--by", "model"], ["gpt-5", "claude", "local"]),
        (["--by", "model", "--sort", "tokens"], ["gpt-5", "claude", "local"]),
        (["--by", "provider", "--sort", "calls"], ["openai", "anthropic", None]),
        (["--by", "user", "--sort", "saved"], ["ann", "bob", None]),
        (["--by", "thread"], ["th1", "th2", None]),
        (["--by", "task"], ["t1", None]),
        (["--by", "project"], ["shop", None]),
        (["--by", "part"], ["cache", "tools", "history"]),
        (["--by", "part", "--sort", "tokens"], ["cache", "tools", "history"]),
    ],
)
def test_whatever_it_is_told_apart_by(tokopt: Any, arguments: list[str], first: list[str | None]) -> None:
    found = told(tokopt(*arguments, "--json"))
    assert [row[arguments[1]] for row in found["rows"]] == first


def test_two_dimensions_are_two_columns(tokopt: Any) -> None:
    found = told(tokopt("--by", "agent, model", "--json"))
    assert [(row["agent"], row["model"]) for row in found["rows"]][:2] == [("writer", "gpt-5"), ("writer", "claude")]
    assert lines(tokopt("--by", "agent,model")[1])[0].startswith("Agent Model Calls ")


def test_by_model_nothing_is_said_of_savings(tokopt: Any) -> None:
    found = told(tokopt("--by", "model", "--json"))
    assert not {"saved", "net_saved_usd", "left_alone"} & set(found["rows"][0])
    assert "Net saved" not in tokopt("--by", "model")[1]
    code, _, error = tokopt("--by", "model", "--sort", "saved")
    assert code == 2
    assert error.startswith("Error: --sort='saved' cannot be used: no event says at which model something was saved")


def test_by_part_nothing_is_said_of_calls(tokopt: Any) -> None:
    code, out, _ = tokopt("--by", "part")
    assert code == 0
    assert lines(out)[:5] == [
        "Part Applied Left alone Tokens saved Saved Share Shadow applied Shadow tokens Shadow saved",
        "cache 1 1 100 $0.50 100%",
        "tools 1 1 40 $0.000000012 0%",
        "history 0 0 1 60 $0.01",
        "all 2 2 140 $0.50 1 60 $0.01",
    ]
    assert not {"measured", "net_saved_usd"} & set(told(tokopt("--by", "part", "--json"))["rows"][0])
    assert tokopt("--by", "part", "--sort", "cost")[0] == 2


def test_only_what_is_estimated_has_shares_of_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry_options, "clock", lambda: NOW)
    guessed = [call(9, Who(agent=name), 5, usd, usage_source="estimate") for name, usd in (("a", "3"), ("b", "1"))]
    keep(guessed, tmp_path / "data")
    _, out, _ = run("top", "--data-dir", str(tmp_path / "data"))
    assert lines(out)[:4] == [
        "Agent Share Est. calls Est. tokens Est. cost",
        "a 75% 1 15 $3.00",
        "b 25% 1 15 $1.00",
        "all 2 30 $4.00",
    ]


@pytest.mark.parametrize(("by", "said"), [("agnt", "did you mean 'agent'?"), ("", "use one of tenant, project")])
def test_a_dimension_that_there_is_not(tokopt: Any, by: str, said: str) -> None:
    code, out, error = tokopt("--by", by)
    assert (code, out) == (2, "")
    assert error.startswith(f"Error: --by={by!r} cannot be used: {said}")
    assert error.count("\n") == 1


def test_dimensions_are_named_once() -> None:
    assert dimensions(" Agent,model,agent") == ("agent", "model")
    with pytest.raises(ConfigurationError):
        dimensions("agent,,model")


def test_a_span_without_events_says_which_would_have_some(tokopt: Any) -> None:
    code, out, error = tokopt("--hours", "0.001")
    assert (code, out) == (1, "")
    assert error == "Nothing was recorded in the last 0.001 hours; the newest event is 20 s old: use --hours 1.\n"
    code, out, _ = tokopt("--hours", "0.001", "--json")
    assert (code, json.loads(out)["rows"]) == (1, [])


def test_a_longer_span_has_more(tokopt: Any) -> None:
    assert told(tokopt("--hours", "31", "--json"))["total"]["measured"]["cost_usd"] == "7.52"
    assert told(tokopt("--hours", "30", "--json"))["total"]["measured"]["cost_usd"] == "7.52"
    assert told(tokopt("--hours", "29.999", "--json"))["total"]["measured"]["cost_usd"] == "0.52"
    assert EVENTS[-1].at == NOW - 30 * HOUR


@pytest.mark.parametrize(("width", "fits"), [(80, "Cost Share"), (120, "Est. calls"), (200, "Est. tokens")])
def test_it_fits_the_terminal_and_keeps_what_matters_most(width: int, fits: str) -> None:
    database = Database()
    store = EventStore(database)
    store.write([*EVENTS, call(9, Who(agent="n" * 300), 9, "1")])
    shown = io.StringIO()
    screen = Console(file=shown, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    screen.print(ranked(ranking(store, by=["agent"], span=Span(0, NOW), sort="cost", limit=10), screen))
    head, *rest = lines(shown.getvalue())
    assert max(map(len, shown.getvalue().splitlines())) <= width
    assert all(name in head for name in ("Calls", "Cost", "Share", "Est. cost", "Net saved", fits))
    assert any("\u2588" in line for line in rest)
    database.close()


def test_sums_keep_what_nobody_knows() -> None:
    assert summed([Saved(applied=1), Saved(applied=2, unpriced=2)], Saved()) == Saved(applied=3, unpriced=2)
    assert summed([Saved(tokens=1, usd=Decimal(2)), Saved()], Saved()) == Saved(tokens=1, usd=Decimal(2))
    assert summed([], Saved()) == Saved()
