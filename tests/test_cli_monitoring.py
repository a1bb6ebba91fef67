"""What the commands that look at events have in common: databases and spans that cannot be used, hostile names."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from langchain_tokopt.cli import telemetry_options
from langchain_tokopt.database import Database
from langchain_tokopt.events import Decision, Failure, ModelCall, Who
from langchain_tokopt.optimizer import DATABASE_FILE
from langchain_tokopt.telemetry.rollups_upkeep import Upkeep
from langchain_tokopt.telemetry.store import EventStore
from tests.cli_events import EVENTS, HOSTILE, HOUR, NOW, call, is_harmless, keep, run
from tests.databases import database_url

# Each with what makes it print all at once, and end.
COMMANDS = (
    ("top", "--by", "agent"),
    ("effectiveness",),
    ("stats",),
    ("report",),
    ("export",),
    ("dashboard", "--json"),
    ("alerts", "check"),
    ("status",),
)
WITH_HOURS = tuple(command for command in COMMANDS if command[0] not in ("alerts", "status"))
commands = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
commands_with_hours = pytest.mark.parametrize("command", WITH_HOURS, ids=lambda command: command[0])


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry_options, "clock", lambda: NOW)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    keep(EVENTS, tmp_path / "data")
    return tmp_path / "data"


def refused(done: tuple[int, str, str], *said: str) -> None:
    """One line on stderr, nothing on stdout, exit code 2."""
    code, out, error = done
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert error.startswith("Error: ")
    for words in said:
        assert words in error


@commands
def test_a_database_that_is_there_is_read(command: tuple[str, ...], data_dir: Path) -> None:
    code, out, _ = run(*command, "--data-dir", str(data_dir))
    assert code == 0
    assert out
    assert "\x1b" not in out
    assert run(*command, "--db", str(data_dir / DATABASE_FILE))[0] == 0


@commands
def test_what_is_printed_as_json_is_json(command: tuple[str, ...], data_dir: Path, tmp_path: Path) -> None:
    json_ = ("export", str(tmp_path / "events.csv")) if command == ("export",) else command
    code, out, _ = run(*dict.fromkeys((*json_, "--json")), "--data-dir", str(data_dir))
    assert code == 0
    assert out.isascii()
    assert isinstance(json.loads(out), dict)


@commands
def test_a_database_that_is_not_there(command: tuple[str, ...], tmp_path: Path) -> None:
    refused(run(*command, "--data-dir", str(tmp_path / "gone")), "there is no database")
    refused(run(*command, "--db", str(tmp_path / "gone.db")), "there is no database")
    refused(run(*command, "--data-dir", str(tmp_path), "--db", "x.db"), "either --data-dir or --db")
    refused(run(*command, "--db", "mysql://host/name"), "--db='mysql://host/name' cannot be used")
    if command != ("status",):
        refused(run(*command), "either --data-dir or --db")
    assert list(tmp_path.iterdir()) == []


@commands
def test_a_file_that_is_no_database(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is a text and no database, whatever its name says\n" * 50)
    refused(run(*command, "--db", str(tmp_path / "text.db")), "another kind of file")


@commands
def test_a_database_that_is_damaged(command: tuple[str, ...], data_dir: Path) -> None:
    file = data_dir / DATABASE_FILE
    content = file.read_bytes()
    # The first page has the names of the tables; all that they hold is gone.
    file.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    refused(run(*command, "--data-dir", str(data_dir)), "cannot be used")


@commands
def test_a_database_that_somebody_else_has_to_himself(
    command: tuple[str, ...], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry_options, "LOCK_TIMEOUT_SECONDS", 0.05)
    other = sqlite3.connect(data_dir / DATABASE_FILE, isolation_level=None)
    try:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        refused(run(*command, "--data-dir", str(data_dir)), "has been locked for 0.05 s")
    finally:
        other.close()


@commands
def test_a_database_that_can_only_be_read(command: tuple[str, ...], data_dir: Path) -> None:
    url = f"sqlite:///file:{data_dir / DATABASE_FILE}?mode=ro&uri=true"
    done = run(*command, "--db", url)
    if command == ("alerts", "check"):
        refused(done, "readonly database", "give this user the right to write the file")
    else:
        assert done[0] == 0
        assert done[1]


@commands
def test_a_database_of_a_newer_version(command: tuple[str, ...], data_dir: Path) -> None:
    database = sqlite3.connect(data_dir / DATABASE_FILE)
    with database:
        database.execute("UPDATE tokopt_schema SET version = 99 WHERE component = 'telemetry'")
    database.close()
    done = run(*command, "--data-dir", str(data_dir))
    if command != ("status",):
        refused(done, "'telemetry' have version 99", "upgrade the package")
        return
    assert (done[0], done[2]) == (1, "")
    assert "Wrong: the tables of 'telemetry' have version 99, and this package knows versions up to " in done[1]


@commands
def test_a_database_without_events_is_left_as_it_is(command: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "empty.db"
    Database(file).close()
    code, out, error = run(*command, "--db", str(file))
    if command == ("status",):
        assert (code, error) == (0, "")
    else:
        assert (code, out, error) == (1, "", f"No events were ever kept in sqlite:///{file}.\n")
    kept = sqlite3.connect(file)
    assert kept.execute("SELECT name FROM sqlite_master").fetchall() == []
    kept.close()


@commands_with_hours
@pytest.mark.parametrize("hours", ["0", "-1", "nan", "inf", "1e9"])
def test_hours_that_are_no_span(command: tuple[str, ...], hours: str, data_dir: Path) -> None:
    said = f"--hours={float(hours)!r} cannot be used: give a number of hours above 0"
    refused(run(*command, "--data-dir", str(data_dir), "--hours", hours), said)


@commands_with_hours
def test_a_span_without_events_is_exit_code_1(command: tuple[str, ...], data_dir: Path) -> None:
    code, out, error = run(*command, "--data-dir", str(data_dir), "--hours", "0.001")
    if command == ("dashboard", "--json"):
        assert code == 0  # a page may be empty, and fill
    elif command == ("report",):
        assert (code, error) == (1, "")
        assert "Nothing has been recorded in the last 0.001 hours." in out
    else:
        assert (code, out) == (1, "")
        assert error


def hostile_events() -> Iterator[Any]:
    who = Who(**dict.fromkeys(("tenant", "project", "task", "agent", "user", "thread", "run", "node"), HOSTILE))
    yield call(10, who, 10, "0.1", model=HOSTILE, provider=HOSTILE, request=HOSTILE)
    yield Decision(at=NOW - 9, who=who, part=HOSTILE, action="skipped", reason=HOSTILE, request=HOSTILE)
    yield Decision(at=NOW - 8, who=who, part=HOSTILE, action="applied", tokens_before=2, tokens_after=1)
    yield Failure(at=NOW - 7, who=who, part=HOSTILE, error=HOSTILE)


@commands
def test_names_that_mean_harm_are_never_obeyed(command: tuple[str, ...], tmp_path: Path) -> None:
    keep(hostile_events(), tmp_path / "data")
    given = [command, (*command, "--json")] if command[0] not in ("export", "dashboard") else [command]
    if command[0] == "top":
        given += [("top", "--by", by) for by in ("user", "model", "part", "thread", "run", "project,task")]
    if command[0] == "report":
        given += [("report", "--text"), ("report", "--markdown")]
    for one in given:
        _, out, error = run(*one, "--data-dir", str(tmp_path / "data"))
        assert is_harmless(out), (one, ascii(out))
        assert is_harmless(error)


def test_names_in_what_is_asked_for_are_never_obeyed(data_dir: Path) -> None:
    for command in (
        ("top", "--by", HOSTILE),
        ("export", "--kind", HOSTILE),
        ("export", HOSTILE),
        ("stats", "--target", HOSTILE),
        ("alerts", "ack", HOSTILE, "--by", "me"),
        ("report", "--html", f"/{HOSTILE}/x"),
    ):
        code, out, error = run(*command, "--data-dir", str(data_dir))
        assert code in (0, 2), command
        assert is_harmless(out)
        assert is_harmless(error)
    for left in Path.cwd().glob(f"{HOSTILE[:2]}*"):
        left.unlink()


@pytest.mark.parametrize("kind", ["postgresql"])
def test_the_same_figures_come_from_a_server(kind: str, data_dir: Path, tmp_path: Path) -> None:
    with database_url(kind, tmp_path) as url:
        assert url is not None
        keep(EVENTS, url)
        for command in (("top", "--by", "agent,model"), ("effectiveness",), ("stats",), ("report",)):
            served, here = (run(*command, "--json", *place) for place in (("--db", url), ("--data-dir", str(data_dir))))
            assert served == here, command
        assert run("export", "--db", url)[1].count("\n") == len(EVENTS)
        status = json.loads(run("status", "--db", url, "--json")[1])
        assert status["events"] == len(EVENTS)
        assert status["size_bytes"] > 0
        assert "postgresql" in status["database"]
        assert run("alerts", "check", "--db", url)[0] == 0


def test_a_driver_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    found = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == "psycopg":
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    done = run("stats", "--db", "postgresql://user:secret@127.0.0.1:1/none")
    refused(done, 'pip install "langchain-tokopt[postgres]"')
    assert "secret" not in done[2]


def test_a_server_that_is_not_there() -> None:
    done = run("stats", "--db", "postgresql://user:secret@127.0.0.1:1/none?connect_timeout=1")
    assert done[0] == 2
    assert done[2].count("\n") == 1
    assert "secret" not in done[2]


def test_watching_needs_a_terminal(data_dir: Path) -> None:
    for command in ("top", "effectiveness", "stats"):
        said = "--watch=2.0 cannot be used: it needs a terminal, and no --json; leave it out"
        refused(run(command, "--watch", "2", "--data-dir", str(data_dir)), said)


@pytest.mark.skipif(os.name == "nt", reason="there are no pseudo-terminals")
@pytest.mark.parametrize("command", ["top", "effectiveness", "stats"])
def test_watching_in_a_terminal_draws_until_ctrl_c(command: str, data_dir: Path) -> None:
    import pty
    import subprocess
    import sys

    root = Path(telemetry_options.__file__).parents[2]
    near, far = pty.openpty()
    arguments = [sys.executable, "-m", "langchain_tokopt", command, "--watch", "0.2", "--data-dir", str(data_dir)]
    settings = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen([*arguments, "--hours", "438000"], stdout=far, stderr=far, cwd=root, env=settings)
    os.close(far)
    seen = b""
    while seen.count(b"\x1b[2K") < 20:  # lines that were drawn over
        seen += os.read(near, 65536)
    process.send_signal(2)
    while True:
        try:
            if not os.read(near, 65536):
                break
        except OSError:  # the other end is closed
            break
    assert process.wait() == 0
    os.close(near)
    assert b"Traceback" not in seen


# --- the figures -----------------------------------------------------------------------------------------------------


def test_all_commands_agree_with_the_sums_over_the_events(data_dir: Path) -> None:
    def told(*command: str) -> Any:
        return json.loads(run(*command, "--hours", "24", "--json", "--data-dir", str(data_dir))[1])

    calls = [each for each in EVENTS if isinstance(each, ModelCall) and each.at >= NOW - 24 * HOUR]
    usage = {
        source: [each for each in calls if each.usage_source == source and each.usage]
        for source in ("provider", "estimate")
    }
    top, stats, report, page = told("top"), told("stats"), told("report"), told("dashboard")
    (shown,) = (window["totals"]["calls"] for window in page["windows"] if window["until"] - window["since"] == 86_400)
    for name, source in (("measured", "provider"), ("estimated", "estimate")):
        count = len(usage[source])
        sent = sum(each.usage["input_tokens"] for each in usage[source] if each.usage)
        cost = sum((each.cost_usd or Decimal(0) for each in usage[source]), Decimal(0))
        for found in (top["total"][name], report[name], shown[name]):
            assert (found["calls"], found["input_tokens"]) == (count, sent)
            assert Decimal(found["cost_usd"]) == cost
    kpis = {kpi["name"]: kpi["value"] for kpi in stats["kpis"]}
    assert Decimal(kpis["cost.spend"]) == Decimal(top["total"]["measured"]["cost_usd"])
    assert Decimal(kpis["cost.saved_net"]) == Decimal(top["total"]["net_saved_usd"])
    effects = told("effectiveness")["total"]
    assert Decimal(effects["net_saved_usd"]) == Decimal(report["net_saved_usd"]) == Decimal(kpis["cost.saved_net"])
    assert effects["saved"]["tokens"] == report["saved"]["tokens"] == top["total"]["saved"]["tokens"]


def test_figures_stay_when_events_are_rolled_up(data_dir: Path) -> None:
    given = ("--hours", "48", "--json", "--data-dir", str(data_dir))
    before = {name: run(name, *given)[1] for name in ("top", "effectiveness")}
    database = Database(data_dir / DATABASE_FILE)
    upkeep = Upkeep(EventStore(database), keep_days=1, hourly_days=365, clock=lambda: NOW)
    assert upkeep.all() == 1
    database.close()
    assert run("top", *given)[1] == before["top"]
    assert json.loads(run("effectiveness", *given)[1])["total"] == json.loads(before["effectiveness"])["total"]
    said = "what happened before 2027-01-14 03:00 UTC is kept as sums only, without it: ask from then on"
    refused(run("top", "--by", "thread", *given), f"--by='thread' cannot be used: {said}")
    code, out, error = run("export", "--data-dir", str(data_dir))
    assert (code, out.count("\n")) == (0, len(EVENTS) - 1)
    assert error == "Events from before 2027-01-14T03:00:00+00:00 are kept as sums only: they are not in this.\n"
    status = json.loads(run("status", "--json", "--data-dir", str(data_dir))[1])
    assert (status["events"], status["rolled_up_until"]) == (len(EVENTS), "2027-01-14T03:00:00+00:00")
    assert sum(status["events_by_kind"].values()) == len(EVENTS) - 1
