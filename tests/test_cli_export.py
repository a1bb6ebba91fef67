"""`tokopt export`: exact events for other programs, whole files, nothing that a spreadsheet computes."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from langchain_tokopt.cli import telemetry_options
from langchain_tokopt.cli.common import write_pieces
from langchain_tokopt.cli.export_rows import as_csv, as_mapping
from langchain_tokopt.errors import StoreError
from langchain_tokopt.events import Decision, Event, Failure, ModelCall, Who
from langchain_tokopt.telemetry.rows import StoredEvent
from langchain_tokopt.telemetry.store import EventStore
from tests.cli_events import EVENTS, HOSTILE, NOW, is_harmless, keep, run


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted(Event):
    said: str


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(telemetry_options, "clock", lambda: NOW)
    keep(EVENTS, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def tokopt(data_dir: Path) -> Any:
    return lambda *arguments: run("export", *arguments, "--data-dir", str(data_dir))


def objects(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def table(out: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(out, newline="")))


def test_json_lines_have_every_event_as_it_is_oldest_first(tokopt: Any) -> None:
    code, out, error = tokopt()
    assert (code, error) == (0, "")
    kept = sorted(EVENTS, key=lambda event: event.at)
    assert objects(out) == [json.loads(json.dumps(as_mapping(event))) for event in kept]
    assert [each["saved_usd"] for each in objects(out) if each["kind"] == "Decision"] == ["0.000000012", None, "0.01"]
    call = next(each for each in objects(out) if each["kind"] == "ModelCall" and each["request"] == "q1")
    assert call == {
        "kind": "ModelCall",
        "time": "2027-01-15T07:58:20.000000+00:00",
        "who": {
            "tenant": None,
            "project": "shop",
            "task": "t1",
            "agent": "writer",
            "user": "ann",
            "thread": "th1",
            "run": "r1",
            "node": None,
        },
        "at": NOW - 100,
        "id": EVENTS[0].id,
        "request": "q1",
        "mode": "optimize",
        "model": "gpt-5",
        "provider": "openai",
        "usage": {"input_tokens": 1000, "output_tokens": 10, "total_tokens": 1010},
        "usage_source": "provider",
        "cost_usd": "0.3",
        "repeated_prefix_tokens": None,
        "latency_seconds": None,
        "error": None,
        "internal": False,
    }


def test_csv_has_one_table_for_all_kinds(tokopt: Any) -> None:
    code, out, _ = tokopt("-", "--format", "csv")
    assert code == 0
    found = table(out)
    assert len(found) == len(EVENTS)
    call = next(each for each in found if each["request"] == "q1")
    assert (call["kind"], call["agent"], call["internal"], call["error"]) == ("ModelCall", "writer", "false", "")
    assert Decimal(call["cost_usd"]) == Decimal("0.30")
    assert json.loads(call["usage"])["input_tokens"] == 1000
    assert float(call["at"]) == NOW - 100
    assert next(each for each in found if each["kind"] == "Failure")["error"] == "RuntimeError: gone"


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["--kind", "ModelCall"], 9),
        (["--kind", "model_call", "--kind", "failure"], 10),
        (["--kind", "CACHE-LOOKUP"], 2),
        (["--hours", "24"], 16),
        (["--hours", "24", "--kind", "ModelCall"], 8),
        (["--since", "95s"], 8),
        (["--since", "31h", "--until", "24h"], 1),
        (["--since", "2027-01-15T07:58:00Z", "--until", "2027-01-15T07:58:50Z"], 3),
        (["--until", "2027-01-15"], 1),
    ],
)
def test_only_what_is_asked_for(tokopt: Any, arguments: list[str], count: int) -> None:
    code, out, _ = tokopt(*arguments)
    assert (code, len(objects(out))) == (0, count)
    times = [each["at"] for each in objects(out)]
    assert times == sorted(times)


def test_a_bound_is_inclusive_at_the_beginning_and_exclusive_at_the_end(tokopt: Any) -> None:
    def kinds(*arguments: str) -> list[str]:
        return [each["kind"] for each in objects(tokopt(*arguments)[1])]

    assert kinds("--since", "40s", "--until", "20s") == ["Failure", "Reservation"]


def test_a_file_is_written_and_told(tokopt: Any, tmp_path: Path) -> None:
    target = tmp_path / "events.csv"
    target.write_text("old")
    assert tokopt(str(target)) == (0, f"Wrote {len(EVENTS)} events to {target}.\n", "")
    assert len(table(target.read_text())) == len(EVENTS)
    code, out, _ = tokopt(str(tmp_path / "events.jsonl"), "--kind", "Failure", "--json")
    assert code == 0
    assert json.loads(out) == {
        "file": str(tmp_path / "events.jsonl"),
        "format": "jsonl",
        "events": 1,
        "first_at": NOW - 40,
        "last_at": NOW - 40,
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "events.csv", "events.jsonl"]


def test_nothing_found_writes_nothing(tokopt: Any, tmp_path: Path) -> None:
    target = tmp_path / "events.jsonl"
    target.write_text("old")
    done = tokopt(str(target), "--kind", "LimitAlert", "--hours", "0.001")
    assert done == (1, "", "There is no such event. Nothing was written.\n")
    assert target.read_text() == "old"
    assert tokopt("--since", "1s") == (1, "", "There is no such event.\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kind", "Nope"], "--kind='Nope' cannot be used: there are: ModelCall, CacheLookup"),
        (["--format", "parquet"], "--format='parquet' cannot be used: use jsonl or csv"),
        (["--hours", "1", "--since", "2h"], "--since='2h' cannot be used: use either --hours or --since"),
        (["--since", "1h", "--until", "2h"], "--until='2h' cannot be used: it is not later than the beginning"),
        (["--since", "soon"], "--since='soon' cannot be used: use a date"),
        (["--json"], "--json=True cannot be used: the events go to the standard output"),
        (["{tmp}"], "it is a folder; name a file"),
        (["{tmp}/gone/x.csv"], "there is no folder"),
        (["/dev/null"], "it is a device or a pipe"),
    ],
)
def test_what_cannot_work_is_one_line(tokopt: Any, tmp_path: Path, arguments: list[str], said: str) -> None:
    code, out, error = tokopt(*(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert error.startswith("Error: ")
    assert said in error


def test_an_error_half_way_leaves_what_was_there(tokopt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        yield from EVENTS[:3]
        raise StoreError("the disk is gone")

    monkeypatch.setattr(EventStore, "events", broken)
    target = tmp_path / "events.jsonl"
    target.write_text("old")
    assert tokopt(str(target)) == (2, "", "Error: the disk is gone\n")
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "events.jsonl"]


def test_a_file_that_is_interrupted_is_not_left_behind(tmp_path: Path) -> None:
    def pieces() -> Any:
        yield "one\n"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pieces(tmp_path / ("x" * 250), pieces())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+49 30", "'+49 30"),
        ("-5", "'-5"),
        ("@sum", "'@sum"),
        ("\tx", "'\tx"),
        ("\r=x", "'\r=x"),
        ("  =x", "'  =x"),
        ("\uff1dx", "'\uff1dx"),
        ("a=b", "a=b"),
        ("", ""),
        ('say "hi",\nbob', 'say "hi",\nbob'),
    ],
)
def test_a_spreadsheet_computes_nothing_of_what_others_wrote(text: str, cell: str) -> None:
    event = Failure(at=NOW, who=Who(agent=text, user=text), part=text, error=text)
    (row,) = table("".join(as_csv([event])))
    assert [row[name] for name in ("agent", "user", "part", "error")] == [cell] * 4


def test_amounts_below_nothing_stay_amounts() -> None:
    event = Decision(at=NOW, part="tools", action="applied", saved_usd=Decimal("-0.000000001"), tokens_before=-3)
    (row,) = table("".join(as_csv([event])))
    assert (row["saved_usd"], row["tokens_before"]) == ("-0.000000001", "-3")


def test_json_lines_have_nothing_that_a_terminal_obeys(tmp_path: Path) -> None:
    keep([Failure(at=NOW, who=Who(agent=HOSTILE), part=HOSTILE, error=HOSTILE)], tmp_path / "data")
    code, out, _ = run("export", "--data-dir", str(tmp_path / "data"))
    assert code == 0
    assert is_harmless(out)
    assert out.isascii()
    assert objects(out)[0]["error"] == HOSTILE


def test_csv_is_exact_in_a_pipe_and_spelled_out_in_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep([Failure(at=NOW, part="p", error=HOSTILE)], tmp_path / "data")
    given = ("export", "--format", "csv", "--data-dir", str(tmp_path / "data"))
    assert table(run(*given)[1])[0]["error"] == HOSTILE
    monkeypatch.setattr(Console, "is_terminal", property(lambda _: True))
    code, out, _ = run(*given)
    assert code == 0
    assert is_harmless(out.replace("\t", " "))
    assert "a\\u202e\\x9b[2J\\x1b]0;t\\x07[red]b[/red]" in out


def test_what_no_calendar_or_json_has_is_left_open() -> None:
    told = as_mapping(ModelCall(at=1e18, latency_seconds=float("inf")))
    assert (told["time"], told["at"], told["latency_seconds"]) == (None, 1e18, None)


def test_events_of_other_kinds_are_there_too(tmp_path: Path) -> None:
    keep([Noted(at=NOW - 1, said="x"), Noted(at=NOW - 2, said="y")], tmp_path / "data")
    _, out, _ = run("export", "--data-dir", str(tmp_path / "data"), "--kind", "noted")
    assert [(each["kind"], each["fields"]) for each in objects(out)] == [
        ("Noted", {"said": "y"}),
        ("Noted", {"said": "x"}),
    ]
    assert as_mapping(StoredEvent(at=1.0, kind="Noted"))["kind"] == "Noted"


def test_many_pages_are_streamed(tmp_path: Path) -> None:
    many = [Failure(at=NOW - n, part="tools", error=str(n)) for n in range(2_500)]
    keep(many, tmp_path / "data")
    _, out, _ = run("export", "--data-dir", str(tmp_path / "data"), "--since", "2027-01-01")
    assert [each["error"] for each in objects(out)] == [str(n) for n in reversed(range(2_500))]
