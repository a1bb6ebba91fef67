"""`tokopt budget`: what it prints and changes, its exit codes, and names that mean harm."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from langchain_tokopt.budget import Budget, Limit
from langchain_tokopt.cli import app, budget_options, shown
from langchain_tokopt.cli.budget_tables import labelled, part_used, standing_table
from langchain_tokopt.cli.fitted import keep_drawing
from langchain_tokopt.database import Database
from langchain_tokopt.optimizer import DATABASE_FILE
from tests.budget.ledgers.redis_servers import own_prefix
from tests.databases import database_url, redis_url
from tests.fakes import FakeClock

DAY = 86_400
NOON = datetime(2027, 3, 1, 12, tzinfo=timezone.utc).timestamp()
HOSTILE = "user=a\u202e\x9b[2J[red]b\u200b"
LIMITS = {
    "global": Limit(usd=50, per="month"),
    "project=shop": Limit(usd="2.00", tokens=1_000, per="day"),
    "project=shop/agent=writer": Limit(usd="0.80", per="day", hard=False),
    "user=*": Limit(calls=3, per="day"),
}
runner = CliRunner()


def spend(store: Any, clock: FakeClock, name: str = "default") -> None:
    """A budget that 1.45 USD of the first project and 0.20 of another are spent from, by calls of no tokens."""
    budget = Budget(limits=LIMITS, store=store, name=name, clock=clock)
    for path, usd in (
        ("project=shop/agent=writer/user=ann", "0.85"),
        ("project=shop/agent=search/user=bob", "0.60"),
        (f"project=lab/{HOSTILE}", "0.20"),
    ):
        with budget.spend(path, usd=usd):
            pass
        clock.advance(60)
    budget.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock(NOON)
    monkeypatch.setattr(budget_options, "clock", clock)
    return clock


@pytest.fixture
def data_dir(tmp_path: Path, clock: FakeClock) -> Path:
    made = tmp_path / "data"
    made.mkdir()
    database = Database(made / DATABASE_FILE)
    spend(database, clock)
    database.close()
    return made


def run(*arguments: str) -> tuple[int, str, str]:
    done = runner.invoke(app, ["budget", *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def tokopt(data_dir: Path) -> Any:
    """Runs `tokopt budget` on the budget; gives exit code, output and errors."""
    return lambda *arguments: run(*arguments, "--data-dir", str(data_dir))


def as_json(done: tuple[int, str, str]) -> Any:
    return json.loads(done[1])


def rows(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines() if line.strip() and "\u2500" not in line]


# --- show ------------------------------------------------------------------------------------------------------------


def test_show_prints_the_nodes_from_the_root_down(tokopt: Any) -> None:
    code, out, error = tokopt("show", "--limited")
    assert (code, error) == (0, "")
    assert rows(out) == [
        ["Node", "Per", "Unit", "Spent", "Held", "Limit", "Left", "Used", "Resets", "in", "By"],
        ["global", "month", "USD", "$1.65", "$0.00", "$50.00", "$48.35", "3", "%", "30", "d", "code"],
        ["project=shop", "day", "USD", "$1.45", "$0.00", "$2.00", "$0.55", "72", "%", "11", "h", "code"],
        ["tokens", "0", "0", "1,000", "1,000", "0", "%"],
        ["agent=writer", "day", "USD", "$0.85", "$0.00", "$0.80", "$0.00", "106", "%", "11", "h", "code,", "soft"],
        ["user=ann", "day", "calls", "1", "0", "3", "2", "33", "%", "11", "h", "code"],
        [*safe_name().split(), "day", "calls", "1", "0", "3", "2", "33", "%", "11", "h", "code"],
        ["user=bob", "day", "calls", "1", "0", "3", "2", "33", "%", "11", "h", "code"],
    ]
    assert "\n   project=shop  " in out
    assert "\n     agent=writer  " in out


def safe_name() -> str:
    return shown.safe(HOSTILE)


def test_show_of_one_node_has_what_counts_on_it(tokopt: Any) -> None:
    def nodes(*arguments: str) -> list[tuple[str, str]]:
        return [(one["node"], one["per"]) for one in as_json(tokopt("show", "--json", *arguments))["nodes"]]

    assert nodes("project=shop/agent=writer") == [
        ("project=shop/agent=writer", "day"),
        ("project=shop/agent=writer", "month"),
        ("project=shop/agent=writer/user=ann", "day"),
        ("project=shop/agent=writer/user=ann", "month"),
    ]
    assert nodes("user=bob", "--limited") == [("user=bob", "day")]
    assert nodes("agent=*", "--depth", "2") == [
        ("project=shop/agent=search", "day"),
        ("project=shop/agent=search", "month"),
        ("project=shop/agent=writer", "day"),
        ("project=shop/agent=writer", "month"),
    ]
    assert nodes("--depth", "0") == [("global", "day"), ("global", "month")]
    assert nodes("global", "--depth", "0") == nodes("--depth", "0")


def test_show_as_json_has_what_status_has(tokopt: Any) -> None:
    code, out, _ = tokopt("show", "project=shop", "--depth", "1", "--json")
    assert code == 0
    day, month = json.loads(out)["nodes"]
    assert day == {
        "node": "project=shop",
        "per": "day",
        "scope": None,
        "resets_at": "2027-03-02T00:00:00+00:00",
        "hard": True,
        "origin": "code",
        "share": 0.725,
        "usd": {"limit": "2", "spent": "1.45", "held": "0", "left": "0.55"},
        "tokens": {"limit": 1000, "spent": 0, "held": 0, "left": 1000},
        "calls": {"limit": None, "spent": 2, "held": 0, "left": None},
    }
    assert (month["per"], month["origin"], month["usd"]["limit"]) == ("month", None, None)


def test_a_node_that_is_not_there_is_exit_code_1_with_the_nearest_names(tokopt: Any) -> None:
    said = "There is no node 'project=shpo' in the current periods; did you mean 'project=shop'"
    code, out, error = tokopt("show", "project=shpo")
    assert (code, out) == (1, "")
    assert error.startswith(said)
    assert tokopt("show", "zzz") == (1, "", "There is no node 'zzz' in the current periods.\n")
    assert tokopt("show", "zzz", "--json") == (1, '{\n  "name": "default",\n  "nodes": []\n}\n', "")


def test_what_the_options_leave_nothing_of_is_exit_code_1(tokopt: Any) -> None:
    said = "There are nodes, but --limited and --depth leave out all of them.\n"
    assert tokopt("show", "agent=search", "--limited") == (1, "", said)


def test_watching_needs_a_terminal(tokopt: Any) -> None:
    code, out, error = tokopt("show", "--watch", "2")
    assert (code, out) == (2, "")
    assert error == "Error: --watch=2.0 cannot be used: it needs a terminal, and no --json; leave it out\n"


def test_watching_draws_until_it_is_interrupted() -> None:
    drawn: list[int] = []
    slept: list[float] = []

    def draw() -> Any:
        drawn.append(len(drawn))
        return standing_table([node(1)], screen, now=NOON)

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    keep_drawing(draw, screen, seconds=2.5, sleep=sleep)
    assert (len(drawn), slept) == (3, [2.5, 2.5, 2.5])


# --- how a table looks -----------------------------------------------------------------------------------------------


def node(spent: int, name: str = "global", **fields: Any) -> dict[str, Any]:
    calls = {"limit": 10, "spent": spent, "held": 0, "left": max(0, 10 - spent)}
    none = {"limit": None, "spent": 0, "held": 0, "left": None}
    at = datetime.fromtimestamp(NOON + 7200, timezone.utc)
    given = {"node": name, "per": "day", "scope": None, "resets_at": at, "hard": True, "origin": "code"}
    return {**given, "usd": none, "tokens": none, "calls": calls, **fields}


def drawn(nodes: list[dict[str, Any]], *, terminal: bool = True, width: int = 120, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace", newline="\n")
    colours: Any = "standard" if terminal else None
    screen = Console(file=file, force_terminal=terminal, width=width, color_system=colours, legacy_windows=False)
    screen.print(standing_table(nodes, screen, now=NOON))
    file.flush()
    return file.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("spent", "colour"), [(0, 32), (7, 32), (8, 33), (9, 33), (10, 31), (12, 31)])
def test_the_share_used_is_green_then_yellow_then_red(spent: int, colour: int) -> None:
    out = drawn([node(spent)])
    bar = "\u2588" * min(10, spent) + "\u2591" * (10 - min(10, spent))
    assert f"\x1b[{colour}m{bar}\x1b[0m" in out
    assert f"{10 * spent} %\x1b[0m" in out


def test_a_share_is_never_rounded_up_to_a_limit_that_holds() -> None:
    assert part_used({"limit": 1000, "spent": 990, "held": 9}) == Decimal("0.999")
    assert part_used({"limit": 0, "spent": 0, "held": 0}) == 1
    assert part_used({"limit": None, "spent": 1, "held": 0}) is None
    almost = {"limit": 1000, "spent": 999, "held": 0, "left": 1}
    assert "m99 %" in drawn([node(0, calls=almost)])
    assert "m29 %" in drawn([node(0, calls={"limit": 100, "spent": 29, "held": 0, "left": 71})])


def test_what_is_only_counted_is_dim_and_has_no_limit() -> None:
    counted = {"limit": None, "spent": 4, "held": 0, "left": None}
    out = drawn([node(4), node(4, "a", calls=counted, origin=None, hard=None)])
    (line,) = [line for line in out.splitlines() if "  a" in line]
    assert "\x1b[2m" in line
    assert "%" not in line


def test_bars_are_for_terminals_and_plain_where_the_encoding_knows_little() -> None:
    assert "\u2588" not in drawn([node(4)], terminal=False)
    out = drawn([node(4)], encoding="ascii")
    assert "####......" in out
    assert "\\u2588" not in out


def test_a_narrow_terminal_leaves_out_what_matters_least() -> None:
    def header(width: int) -> list[str]:
        out = drawn([node(4, "project=shop/agent=writer")], terminal=False, width=width)
        return next(line.split() for line in out.splitlines() if "Node" in line)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "1")  # otherwise a pipe is as wide as it has to be
        full = ["Node", "Per", "Unit", "Spent", "Held", "Limit", "Left", "Used", "Resets", "in", "By"]
        assert header(120) == full
        assert header(81) == [name for name in full if name != "Left"]
        assert header(80) == [name for name in full if name not in ("Left", "Held")]
        assert header(69) == ["Node", "Per", "Unit", "Spent", "Limit", "Used", "Resets", "in"]
        assert header(68) == ["Node", "Per", "Unit", "Spent", "Limit", "Used", "By"]
        assert header(63) == ["Node", "Per", "Unit", "Spent", "Limit", "Used"]
        for width in range(58, 120):
            assert max(map(len, drawn([node(4, "x" * 40)], terminal=False, width=width).splitlines())) <= width


def test_in_a_pipe_a_row_stays_on_one_line() -> None:
    name = "/".join(["x" * 100] * 4)
    out = drawn([node(4, name)], terminal=False, width=160)
    assert [line for line in out.splitlines() if name in line]


def test_a_run_is_told_beside_its_period() -> None:
    out = drawn([node(4, per="run", scope="r" * 40, resets_at=None)], terminal=False)
    assert f" run {'r' * 11}\u2026 " in out


def test_nodes_are_named_by_what_they_add_to_the_one_above() -> None:
    assert list(labelled(["global", "a", "a/b/c", "a/b/c/d", "ab", "global"])) == [
        ("global", "global"),
        ("a", "  a"),
        ("a/b/c", "    b/c"),
        ("a/b/c/d", "      d"),
        ("ab", "  ab"),
    ]
    assert list(labelled(["a/b", "a/b/c", "a/d"])) == [("a/b", "a/b"), ("a/b/c", "  c"), ("a/d", "a/d")]


# --- set and drop ----------------------------------------------------------------------------------------------------


def test_set_and_drop_say_what_held_before_and_what_holds_now(tokopt: Any) -> None:
    done = tokopt("set", "project=shop", "--usd", "5", "--calls", "1", "--per", "day", "--until", "3d")
    said = "project=shop: $5.00 and 1 call per day, until 2027-03-04T12:03:00+00:00. "
    assert done == (0, f"{said}Before: $2.00 and 1,000 tokens per day (in the code).\n", "")
    done = tokopt("set", "project=shop", "--usd", "0.0000015", "--per", "day", "--timezone", "Europe/Berlin", "--soft")
    said = "project=shop: $0.0000015 per day in Europe/Berlin, soft. "
    assert done == (0, f"{said}Before: $5.00 and 1 call per day (set).\n", "")
    done = tokopt("drop", "project=shop", "--per", "day")
    said = "project=shop: dropped $0.0000015 per day in Europe/Berlin, soft (set). "
    assert done == (0, f"{said}Now: $2.00 and 1,000 tokens per day (in the code).\n", "")
    assert tokopt("drop", "project=shop", "--per", "day") == (
        1,
        "",
        "No limit per day is kept for project=shop.\n",
    )


def test_what_is_set_is_shown_and_journalled(tokopt: Any) -> None:
    tokopt("set", "project=lab", "--tokens", "5", "--per", "day", "--reason", "a test")
    (one,) = as_json(tokopt("show", "project=lab", "--json", "--limited"))["nodes"]
    assert (one["origin"], one["tokens"]["limit"]) == ("set", 5)
    entry = json.loads(tokopt("journal", "project=lab", "--limit", "1", "--json")[1])
    assert (entry["action"], entry["path"], entry["reason"]) == ("set", "project=lab", "5 tokens per day: a test")


def test_a_pattern_is_set_and_dropped(tokopt: Any) -> None:
    done = tokopt("set", "user=*", "--calls", "9", "--per", "day")
    assert done == (0, "user=*: 9 calls per day. Before: 3 calls per day (in the code).\n", "")
    done = tokopt("set", "user=ann", "--calls", "5", "--per", "day", "--until", "2027-03-02")
    assert done[1] == "user=ann: 5 calls per day, until 2027-03-02T00:00:00+00:00. Before: 9 calls per day (set).\n"
    done = tokopt("drop", "user=ann", "--per", "day")
    assert done[1] == "user=ann: dropped 5 calls per day (set). Now: 9 calls per day (set).\n"
    done = tokopt("drop", "user=*", "--per", "day", "--json")
    three = {"usd": None, "tokens": None, "calls": 3, "per": "day", "timezone": "UTC", "hard": True, "origin": "code"}
    assert as_json(done) == {
        "name": "default",
        "node": "user=*",
        "per": "day",
        "dropped": [{**three, "calls": 9, "origin": "set"}],
        "now": three,
    }


def test_set_as_json(tokopt: Any) -> None:
    done = tokopt("set", "global", "--usd", "7.50", "--until", "2027-03-05T00:00+01:00", "--json")
    assert as_json(done) == {
        "name": "default",
        "node": "global",
        "limit": {
            "usd": "7.5",
            "tokens": None,
            "calls": None,
            "per": "forever",
            "timezone": "UTC",
            "hard": True,
            "until": "2027-03-04T23:00:00+00:00",
        },
        "before": None,
    }
    assert as_json(tokopt("drop", "global", "--per", "day", "--json")) == {
        "name": "default",
        "node": "global",
        "per": "day",
        "dropped": [],
        "now": None,
    }
    assert tokopt("drop", "global", "--per", "day")[2].endswith("; there are limits per forever: use --per.\n")


def test_a_limit_where_nothing_was_spent_is_kept_with_a_hint(tokopt: Any) -> None:
    code, out, error = tokopt("set", "project=shpo", "--usd", "1", "--per", "day")
    assert (code, out) == (0, "project=shpo: $1.00 per day. Before: no limit.\n")
    assert error.startswith("Nothing was spent there in the current periods; did you mean 'project=shop'")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["set", "a"], "--usd=None cannot be used: give a limit: --usd 5.00, --tokens 100000"),
        (["set", "a", "--usd", "x"], "--usd='x' cannot be used: give a positive amount such as \"5.00\""),
        (["set", "a", "--usd", "-1"], "--usd='-1' cannot be used: "),
        (["set", "a", "--tokens", "0"], "--tokens=0 cannot be used: give a whole number of tokens from 1 up"),
        (["set", "a", "--calls", "-5"], "--calls=-5 cannot be used: "),
        (["set", "a//b", "--usd", "1"], "NODE='a//b' cannot be used: give segments from the root down"),
        (["set", "a\x1b[2J", "--usd", "1"], "NODE='a\\x1b[2J' cannot be used: "),
        (["set", "a*", "--usd", "1"], "NODE='a*' cannot be used: \"*\" stands for a whole name"),
        (["set", "a", "--usd", "1", "--timezone", "Mars"], "--timezone='Mars' cannot be used: use an IANA name"),
        (["set", "a", "--usd", "1", "--until", "soon"], "--until='soon' cannot be used: use a date, a time or"),
        (["set", "a", "--usd", "1", "--until", "2027-02-01"], "--until='2027-02-01' cannot be used: it is over"),
        (["drop", "a//b"], "NODE='a//b' cannot be used: "),
        (["show", "a//b"], "NODE='a//b' cannot be used: "),
        (["forecast", "user=*"], "NODE='user=*' cannot be used: name one node instead"),
        (["forecast", "--coverage", "2"], "--coverage=2.0 cannot be used: give a share from 0.5 to 0.99"),
        (["forecast", "--per", "run"], "--per='run' cannot be used: use a period that ends"),
        (["journal", "--since", "soon"], "--since='soon' cannot be used: use a date, a time or a time span"),
        (["journal", "--until", "2027-13-01"], "--until='2027-13-01' cannot be used: "),
        (["allocate", "nobody"], "NODE='nobody' cannot be used: it has no hard limit"),
        (["allocate", "user=bob"], "NODE='user=bob' cannot be used: nobody has spent on it yet: name those"),
        (["allocate", "project=shop", "--floor", "1.00"], "--floor='1.00' cannot be used: name a child and its"),
        (["allocate", "project=shop", "--floor", "agent=a=9"], "--floor=['agent=a=9'] cannot be used: together"),
        (["allocate", "project=shop", "--cap", "agent=a=x"], "--cap='x' cannot be used: "),
        (["allocate", "project=shop", "--priority", "agent=a=x"], "--priority='agent=a=x' cannot be used: use a"),
        (["allocate", "project=shop", "--priority", "agent=a=-1"], "--priority=-1.0 cannot be used: "),
        (["allocate", "project=shop", "--child", "agent=*"], "--child='agent=*' cannot be used: name one child"),
        (["show", "--name", "defalt"], "--name='defalt' cannot be used: no program has spent from it here; there"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(tokopt: Any, arguments: list[str], said: str) -> None:
    code, out, error = tokopt(*arguments)
    assert (code, out) == (2, "")
    assert error.startswith(f"Error: {said}")
    assert error.count("\n") == 1
    assert "\x1b" not in error


# --- allocate --------------------------------------------------------------------------------------------------------


def test_allocate_shows_the_plan_and_keeps_nothing(tokopt: Any) -> None:
    arguments = ("allocate", "project=shop", "--strategy", "equal", "--per", "day", "--unit", "usd")
    code, out, error = tokopt(*arguments)
    assert (code, error) == (0, "")
    assert rows(out)[:3] == [
        ["Child", "Before", "After", "Change"],
        ["project=shop/agent=search", "$0.00", "$1.00", "+$1.00"],
        ["project=shop/agent=writer", "$0.00", "$1.00", "+$1.00"],
    ]
    assert "\n$2.00 to share, equal.\n" in out
    assert "\nWhy\n- project=shop/agent=search" in out
    assert "\nMoves\n- gave $1.00 to project=shop/agent=search: " in out
    assert out.endswith("\nNothing was changed: add --apply to keep it.\n")
    assert origins(tokopt) == ["code", "code"]


def origins(tokopt: Any) -> list[str]:
    nodes = as_json(tokopt("show", "project=shop", "--json", "--limited"))["nodes"]
    return [one["origin"] for one in nodes]


def test_allocate_keeps_the_plan_when_it_is_told_to(tokopt: Any) -> None:
    arguments = ("allocate", "project=shop", "--strategy", "priority", "--apply", "--json", "--unit", "usd")
    bounds = ("--child", "agent=search", "--child", "agent=writer", "--priority", "agent=writer=3")
    told = as_json(tokopt(*arguments, *bounds, "--floor", "agent=search=0.70", "--cap", "agent=writer=1.2"))
    reasons = [share.pop("reason") for share in told["shares"]]
    moved = [move.pop("reason") for move in told["moves"]]
    assert all(isinstance(reason, str) and reason for reason in [*reasons, *moved])
    assert told == {
        "name": "default",
        "node": "project=shop",
        "applied": True,
        "strategy": "priority",
        "unit": "usd",
        "total": "2",
        "shares": [
            {"node": "project=shop/agent=search", "before": "0", "after": "0.8"},
            {"node": "project=shop/agent=writer", "before": "0", "after": "1.2"},
        ],
        "moves": [
            {"from": None, "to": "project=shop/agent=writer", "amount": "1.2"},
            {"from": None, "to": "project=shop/agent=search", "amount": "0.8"},
        ],
        "unallocated": "0",
        "overspent": "0",
        "notes": [],
    }
    assert origins(tokopt) == ["code", "allocated", "code"]
    done = tokopt("drop", "project=shop/agent=search", "--per", "day")
    assert done[1] == "project=shop/agent=search: dropped $0.80 per day (allocated). Now: no limit.\n"


def test_rebalance_moves_what_is_not_needed(tokopt: Any) -> None:
    shares = ("--child", "agent=search", "--child", "agent=spare", "--unit", "usd")
    tokopt("allocate", "project=shop", "--strategy", "priority", "--priority", "agent=spare=9", "--apply", *shares)
    told = as_json(tokopt("allocate", "project=shop", "--rebalance", "--apply", "--json", *shares))
    assert [(move["from"], move["to"]) for move in told["moves"]] == [
        ("project=shop/agent=spare", "project=shop/agent=search")
    ]
    entry = json.loads(tokopt("journal", "project=shop/agent=search", "--limit", "1", "--json")[1])
    assert entry["action"] == "moved"


def test_allocate_shares_tokens(tokopt: Any) -> None:
    shares = ("--child", "agent=a", "--child", "agent=b", "--floor", "agent=a=600", "--strategy", "equal")
    told = as_json(tokopt("allocate", "project=shop", "--unit", "tokens", "--json", *shares))
    assert [(share["node"][-7:], share["after"]) for share in told["shares"]] == [("agent=a", 600), ("agent=b", 400)]


# --- forecast --------------------------------------------------------------------------------------------------------


def test_forecast_says_it_in_a_sentence_first(tokopt: Any, clock: FakeClock) -> None:
    code, out, error = tokopt("forecast", "project=shop", "--per", "day")
    assert (code, error) == (0, "")
    assert out.splitlines()[0].startswith("About $")
    assert "$1.45 spent so far. The limit of $2.00 runs out about Mon 1 Mar 2027, " in out.splitlines()[0]
    assert out.splitlines()[2].startswith("Runs out: 2027-03-01T")


def test_forecast_of_a_long_past_has_the_methods_beside_the_naive_one(tmp_path: Path, clock: FakeClock) -> None:
    database = Database(tmp_path / "past.db")
    budget = Budget(limits={"global": Limit(usd=5, per="day")}, store=database, clock=clock)
    for _ in range(4 * 24):
        with budget.spend("", usd="0.10"):
            pass
        clock.advance(3600)
    database.close()
    done = run("forecast", "--db", str(tmp_path / "past.db"))
    assert done[0] == 0
    assert ["seasonal", "naive", "0", "%", "even", "the", "one", "to", "beat"] in [row[:9] for row in rows(done[1])]
    told = as_json(run("forecast", "--db", str(tmp_path / "past.db"), "--coverage", "0.9", "--json"))
    assert {name: told[name] for name in ("name", "node", "unit", "spent", "expected", "limit", "coverage")} == {
        "name": "default",
        "node": "global",
        "unit": "usd",
        "spent": "1.2",
        "expected": "2.4",
        "limit": "5",
        "coverage": 0.9,
    }
    assert (told["ends_at"], told["runs_out_at"]) == ("2027-03-06T00:00:00+00:00", None)
    assert told["path"][-1]["at"] == told["ends_at"]
    assert {"method": "seasonal_naive", "error": 0.0, "bias": 0.0} in told["errors"]


def test_forecast_of_nothing_is_exit_code_1(tokopt: Any) -> None:
    said = "Nothing was spent on 'project=new' yet: there is nothing to go by.\n"
    assert tokopt("forecast", "project=new") == (1, "", said)
    assert tokopt("forecast", "project=new", "--json") == (1, "", said)


# --- journal ---------------------------------------------------------------------------------------------------------


def lines(done: tuple[int, str, str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done[1].splitlines()]


def test_journal_has_the_newest_last(tokopt: Any) -> None:
    code, out, _ = tokopt("journal", "--limit", "2")
    assert code == 0
    header, *printed = rows(out)
    assert header == ["Time", "(UTC)", "Action", "Path", "Spent", "Held", "Reservation", "Reason"]
    path = f"project=lab/{safe_name()}"
    assert [line[:4] for line in printed] == [
        ["2027-03-01", "12:02:00", "reserved", path],
        ["2027-03-01", "12:02:00", "settled", path],
    ]
    assert printed[1][4:6] == ["+$0.20", "-$0.20"]


def test_journal_as_json_is_an_object_a_line(tokopt: Any) -> None:
    reserved, settled = lines(tokopt("journal", "project=shop/agent=search", "--json"))
    assert reserved["reservation"] == settled["reservation"]
    assert isinstance(settled.pop("id"), str)
    nodes = ("global", "project=shop", "project=shop/agent=search", "project=shop/agent=search/user=bob")
    day, month = "2027-03-01T00:00:00+00:00", "2027-03-01T00:00:00+00:00"
    accounts = [
        *({"node": node, "per": "day", "since": day, "scope": None} for node in (*nodes, "user=bob")),
        *({"node": node, "per": "month", "since": month, "scope": None} for node in nodes),
    ]
    assert sorted(settled.pop("accounts"), key=lambda one: (one["per"], one["node"])) == accounts
    assert settled == {
        "at": "2027-03-01T12:01:00+00:00",
        "action": "settled",
        "path": "project=shop/agent=search/user=bob",
        "reservation": reserved["reservation"],
        "spent": {"usd": "0.6", "tokens": 0, "calls": 1},
        "held": {"usd": "-0.6", "tokens": 0, "calls": -1},
        "reason": "no usage was given: booked as reserved",
    }


def test_journal_of_what_has_no_price_is_in_tokens(tmp_path: Path, clock: FakeClock) -> None:
    database = Database(tmp_path / "tokens.db")
    budget = Budget(tokens=10_000, store=database, clock=clock)
    with budget.spend("a", input_tokens=1_200, output_tokens=34, model="nobody-knows-it"):
        pass
    budget.close()
    database.close()
    settled = rows(run("journal", "a", "--db", str(tmp_path / "tokens.db"))[1])[-1]
    assert settled[2:8] == ["settled", "a", "+1,234", "tokens", "-1,234", "tokens"]


def test_journal_is_narrowed_down(tokopt: Any, clock: FakeClock) -> None:
    def paths(*arguments: str) -> list[str]:
        return [line["path"] for line in lines(tokopt("journal", "--json", *arguments))]

    last = f"project=lab/{HOSTILE}"
    assert paths("--since", "90s") == [last, last]
    assert paths("--since", "2027-03-01T13:02:00+01:00") == [last, last]
    assert paths("--since", "2027-03-01T12:02:00Z", "--limit", "1") == [last]
    assert paths("--since", "2027-03-01 12:01", "--until", "61s") == ["project=shop/agent=search/user=bob"] * 2
    (entry, _) = lines(tokopt("journal", "--json", "--limit", "2"))
    assert paths("--reservation", entry["reservation"]) == [last, last]
    assert tokopt("journal", "--since", "2027-03-02") == (1, "", "There is no such entry in the journal.\n")
    assert tokopt("journal", "--reservation", "none", "--json") == (1, "", "")


# --- reconcile -------------------------------------------------------------------------------------------------------


def test_reconcile_shows_what_was_wrong_and_repairs_it(tokopt: Any, data_dir: Path) -> None:
    assert tokopt("reconcile") == (0, "All counters agree with the journal.\n", "")
    spoil(data_dir)
    code, out, error = tokopt("reconcile")
    assert (code, error) == (1, "")
    assert rows(out)[:3] == [
        ["Node", "Per", "Since", "Counter", "Before", "After"],
        ["project=shop", "day", "2027-03-01T00:00:00+00:00", "spent", "USD", "$9.00", "$1.45"],
        ["project=shop", "day", "2027-03-01T00:00:00+00:00", "held", "tokens", "7", "0"],
    ]
    assert out.endswith("1 account was wrong, and repaired.\n")
    assert tokopt("reconcile")[0] == 0


def spoil(data_dir: Path) -> None:
    with sqlite3.connect(data_dir / DATABASE_FILE) as connection:
        connection.execute(
            "UPDATE tokopt_ledger_accounts SET spent_nano = 9000000000, held_tokens = 7 "
            "WHERE node = 'project=shop' AND per = 'day'"
        )
    connection.close()


def test_reconcile_as_json(tokopt: Any, data_dir: Path) -> None:
    spoil(data_dir)
    code, out, _ = tokopt("reconcile", "--json")
    none = {"usd": "0", "tokens": 0, "calls": 0}
    assert (code, json.loads(out)) == (
        1,
        {
            "name": "default",
            "freed": None,
            "corrections": [
                {
                    "node": "project=shop",
                    "per": "day",
                    "since": "2027-03-01T00:00:00+00:00",
                    "scope": None,
                    "before": {"spent": {"usd": "9", "tokens": 0, "calls": 2}, "held": {**none, "tokens": 7}},
                    "after": {"spent": {"usd": "1.45", "tokens": 0, "calls": 2}, "held": none},
                }
            ],
        },
    )
    assert as_json(tokopt("reconcile", "--json")) == {"name": "default", "freed": None, "corrections": []}


def test_what_dead_processes_held_is_freed_when_asked_for(tokopt: Any, data_dir: Path, clock: FakeClock) -> None:
    database = Database(data_dir / DATABASE_FILE)
    dead = Budget(limits=LIMITS, store=database, clock=clock, lease_seconds=60)
    dead.spend("project=shop", usd="0.30").__enter__()
    dead.close()
    database.close()
    clock.advance(61)
    held = as_json(tokopt("show", "project=shop", "--depth", "1", "--json"))["nodes"][0]["usd"]["held"]
    assert held == "0.3"
    said = "Freed 1 reservation whose lease ran out.\nAll counters agree with the journal.\n"
    assert tokopt("reconcile", "--sweep") == (0, said, "")
    assert as_json(tokopt("reconcile", "--sweep", "--json"))["freed"] == 0


# --- names that mean harm, and stores --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["show"],
        ["journal"],
        ["allocate", "project=lab", "--strategy", "equal", "--unit", "usd"],
        ["set", HOSTILE, "--calls", "1", "--per", "day"],
        ["drop", HOSTILE, "--per", "day"],
        ["forecast", f"project=lab/{HOSTILE}"],
        ["show", f"{HOSTILE}x"],
        ["show", "--name", HOSTILE],
    ],
)
@pytest.mark.parametrize("json_", [True, False])
def test_names_that_mean_harm_do_none(tokopt: Any, arguments: list[str], json_: bool) -> None:
    tokopt("set", "project=lab", "--usd", "5", "--per", "day")
    _, out, error = tokopt(*arguments, *(["--json"] if json_ else []))
    assert not set(out + error) & set("\x1b\u202e\u200b\x9b")
    if arguments[0] != "forecast":
        assert "[red]b" in out + error or json.loads(out)["nodes"] == []


COMMANDS = (
    "show",
    "forecast",
    "journal",
    "reconcile",
    "allocate --unit usd",
    "set a --usd 1",
    "drop a",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_database_or_a_budget_nothing_is_made(tmp_path: Path, command: str) -> None:
    for where, reason in ((["--data-dir", str(tmp_path / "no")], "there is no database"), ([], "name the database")):
        code, out, error = run(*command.split(), *where)
        assert (code, out) == (2, "")
        assert reason in error
    assert list(tmp_path.iterdir()) == []
    Database(tmp_path / "empty.db").close()
    code, out, error = run(*command.split(), "--db", str(tmp_path / "empty.db"))
    assert (code, out) == (2, "")
    assert error == (
        "Error: --name='default' cannot be used: no program has spent from a budget of that name here: run one, or "
        "name another store\n"
    )


def test_a_name_that_is_not_there_is_told_with_the_likeliest(tmp_path: Path, clock: FakeClock) -> None:
    database = Database(tmp_path / "many.db")
    for name in ("night", "daily", "weekly", "d", "e", "f", "g"):
        Budget(usd=1, name=name, store=database, clock=clock).status()
    database.close()
    error = run("show", "--name", "dayly", "--db", str(tmp_path / "many.db"))[2]
    assert "there are: 'daily', 'weekly', " in error
    assert error.endswith(" and 2 more\n")


def test_a_database_that_can_only_be_read_is_shown_and_not_changed(data_dir: Path) -> None:
    url = f"sqlite:///file:{data_dir / DATABASE_FILE}?mode=ro&uri=true"
    for command in ("show", "forecast", "journal", "allocate --unit usd"):
        assert run(*command.split(), "--db", url)[0] == 0
    for command in ("set a --usd 1", "allocate project=shop --unit usd --apply"):
        code, out, error = run(*command.split(), "--db", url)
        assert (code, out) == (2, "")
        assert error.startswith("Error: ")
        assert "readonly database" in error
        assert error.count("\n") == 1


@pytest.fixture(params=["postgresql", "redis"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The URL of a server, and the name of a budget that nobody else uses."""
    if request.param == "postgresql":
        with database_url("postgresql", tmp_path) as url:
            assert url is not None
            yield url, "default"
        return
    with own_prefix() as name:
        yield redis_url(), name
        import redis

        with redis.Redis.from_url(redis_url()) as client:
            client.srem("tokopt:budgets", name)


def test_budgets_on_servers(server: tuple[str, str], clock: FakeClock) -> None:
    url, name = server
    spend(url, clock, name)

    def tokopt(*arguments: str) -> tuple[int, str, str]:
        return run(*arguments, "--db", url, "--name", name)

    nodes = as_json(tokopt("show", "project=shop", "--limited", "--json"))["nodes"]
    assert [(one["node"], one["usd"]["spent"]) for one in nodes] == [
        ("project=shop", "1.45"),
        ("project=shop/agent=writer", "0.85"),
    ]
    done = tokopt("set", "project=shop", "--usd", "3", "--per", "day", "--reason", "why")
    assert done[:2] == (0, "project=shop: $3.00 per day. Before: $2.00 and 1,000 tokens per day (in the code).\n")
    done = tokopt("allocate", "project=shop", "--strategy", "equal", "--apply", "--json")
    assert [share["after"] for share in as_json(done)["shares"]] == ["1.5", "1.5"]
    assert tokopt("forecast", "project=shop")[0] == 0
    assert [line["action"] for line in lines(tokopt("journal", "project=shop", "--limit", "1", "--json"))] == ["set"]
    assert tokopt("reconcile")[:2] == (0, "All counters agree with the journal.\n")
    done = tokopt("drop", "project=shop", "--per", "day")
    assert done[:2] == (
        0,
        "project=shop: dropped $3.00 per day (set). Now: $2.00 and 1,000 tokens per day (in the code).\n",
    )


def test_what_several_connections_warn_of_is_said_once(server: tuple[str, str], clock: FakeClock, caplog: Any) -> None:
    url, name = server
    spend(url, clock, name)
    caplog.clear()
    run("set", "a", "--usd", "1", "--db", url, "--name", name)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(set(said))


# --- times -----------------------------------------------------------------------------------------------------------


def test_moments_are_dates_times_and_spans() -> None:
    from zoneinfo import ZoneInfo

    from langchain_tokopt.errors import ConfigurationError

    def at(text: str, *, ahead: bool = True, zone: Any = timezone.utc) -> float:
        return shown.moment("--x", text, now=NOON, ahead=ahead, zone=zone)

    assert (at("3d"), at("90s", ahead=False)) == (NOON + 3 * DAY, NOON - 90)
    assert at("2027-03-01T12:00") == at("2027-03-01T12:00:00Z") == at("2027-03-01 13:00+01:00") == NOON
    assert at("2027-07-01", zone=ZoneInfo("Europe/Berlin")) == at("2027-06-30T22:00")
    for wrong in (
        "",
        "90",
        "20270131",
        "soon",
        "-3d",
        "2027-02-30",
        "99999999d",
        "1969-12-31",
        "0001-01-01T00:00+23:00",
    ):
        with pytest.raises(ConfigurationError, match="--x="):
            at(wrong)
