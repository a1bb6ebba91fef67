"""`tokopt cache`: what it prints, removes and moves, its exit codes, and texts that mean harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from typer.testing import CliRunner

import langchain_tokopt
from langchain_tokopt.cache.answers import written
from langchain_tokopt.cache.catalog import Catalog
from langchain_tokopt.cache.entries import Entries, NewEntry
from langchain_tokopt.cache.fingerprint import digest
from langchain_tokopt.cache.key import owner_of, text_digest
from langchain_tokopt.cli import app
from langchain_tokopt.cli.shown import age, safe, seconds, shortened, size
from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.optimizer import DATABASE_FILE

HOSTILE = "a \x1b[2J\x1b]0;t\x07 \u202e[red]b[/red] \u200b\x9b\x7f " + "long " * 5_000
runner = CliRunner()


def put(database: Database, question: str, **fields: Any) -> int:
    given = {
        "scope": digest("scope"),
        "owner": digest(owner_of(tenant="acme")),
        "payload": written([AIMessage(f"to {question}")]),
        "spent": json.dumps({"usage": None, "provider": "openai", "name": "gpt-5-mini"}),
        **fields,
    }
    entries = Entries(database, kind="agent")
    return entries.put(NewEntry(exact=text_digest(question), question=question, **given), time.time() - 7200.5)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data_dir with three answers, one of which was served twice for a cent each."""
    made = tmp_path / "data"
    made.mkdir()
    database = Database(made / DATABASE_FILE)
    first = put(database, "How do I pay?", tags=("tool:pay",), value_nano_usd=10_000_000)
    put(database, HOSTILE, expires_at=time.time() + 3700)
    put(database, "Open on Sunday?", owner=digest(owner_of(user="u")), scope=digest("other"))
    Entries(database, kind="agent").touch({first: (time.time(), 2)})
    database.close()
    return made


@pytest.fixture
def tokopt(data_dir: Path) -> Any:
    """Runs `tokopt cache`, gives exit code and output."""

    def run(*arguments: str, data: str | None = None) -> tuple[int, str, str]:
        done = runner.invoke(app, ["cache", *arguments, "--data-dir", str(data_dir)], input=data)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.output
        return done.exit_code, done.stdout, done.stderr

    return run


def as_json(done: tuple[int, str, str]) -> Any:
    return json.loads(done[1])


# --- looking ---------------------------------------------------------------------------------------------------------


def test_stats(tokopt: Any, data_dir: Path) -> None:
    code, out, _ = tokopt("stats")
    assert code == 0
    (line,) = [line.split() for line in out.splitlines() if "agent" in line]
    assert line[:5] == ["agent", "3", "1", "2", "$0.02"]
    assert line[6:] == ["kB", "2", "2", "h", "0", "s", "0"]
    told = as_json(tokopt("stats", "--json"))
    assert told["database"].endswith(DATABASE_FILE)
    (kind,) = told["kinds"]
    assert (kind["kind"], kind["entries"], kind["hits"], kind["saved_usd"]) == ("agent", 3, 2, "0.020000000")


def test_stats_of_an_empty_cache(tmp_path: Path) -> None:
    Database(tmp_path / "empty.db").close()
    done = runner.invoke(app, ["cache", "stats", "--db", str(tmp_path / "empty.db")])
    assert (done.exit_code, done.stdout) == (0, "No answers are stored.\n")


def test_list_prints_a_line_for_each_answer(tokopt: Any) -> None:
    code, out, _ = tokopt("list")
    assert code == 0
    lines = [line.split() for line in out.splitlines() if line.strip()]
    assert lines[0] == ["Id", "Question", "Answer", "Hits", "Saved", "Age", "Left", "Model"]
    assert [line[0] for line in lines[2:]] == ["1", "3", "2"]
    assert "How do I pay?" in out
    assert "1 h" in out


def test_list_finds_by_what_is_given_together(tokopt: Any) -> None:
    def found(*arguments: str) -> list[int]:
        return [answer["id"] for answer in as_json(tokopt("list", "--json", *arguments))]

    assert found() == [1, 3, 2]
    assert found("--query", "PAY") == [1]
    assert found("--tag", "tool:pay", "--tenant", "acme") == [1]
    assert found("--user", "u") == [3]
    assert found("--scope", digest("other")[:6]) == [3]
    assert found("--order", "size", "--limit", "1") == [2]
    assert found("--kind", "llm") == []


def test_nothing_found_is_exit_code_1(tokopt: Any) -> None:
    assert tokopt("list", "--query", "nothing") == (1, "", "No such answer is stored.\n")
    assert tokopt("list", "--query", "nothing", "--json") == (1, "[]\n", "")
    assert tokopt("show", "99") == (1, "", "There is no answer 99.\n")
    assert tokopt("invalidate", "--tag", "nothing") == (1, "Removed 0 answers.\n", "")


def test_show(tokopt: Any) -> None:
    code, out, _ = tokopt("show", "1")
    assert code == 0
    for part in (
        "openai gpt-5-mini",
        "$0.02 ($0.01 a hit)",
        "(2 h ago)",
        "tool:pay",
        digest("scope"),
        "to How do I pay?",
    ):
        assert part in out
    told = as_json(tokopt("show", "1", "--json"))
    assert (told["question"], told["answer"], told["hits"]) == ("How do I pay?", "to How do I pay?", 2)


@pytest.mark.parametrize("arguments", [["list"], ["show", "2"], ["list", "--json"], ["show", "2", "--json"]])
def test_texts_that_mean_harm_do_none(tokopt: Any, arguments: list[str]) -> None:
    code, out, _ = tokopt(*arguments)
    assert code == 0
    assert not set(out) & set("\x1b\x07\u202e\u200b\x9b\x7f")
    assert "[red]b[/red]" in out
    if "--json" not in arguments:
        assert "\\x1b[2J" in out
    else:
        told = json.loads(out)
        assert HOSTILE in [answer["question"] for answer in (told if isinstance(told, list) else [told])]


def test_output_in_an_encoding_that_knows_little(data_dir: Path) -> None:
    database = Database(data_dir / DATABASE_FILE)
    put(database, "\u65e5\u672c caf\u00e9")
    database.close()
    root = Path(langchain_tokopt.__file__).parent.parent
    command = [sys.executable, "-m", "langchain_tokopt", "cache", "list", "--data-dir", str(data_dir)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, cwd=root, env=environment, check=True)
    assert b"\\u65e5\\u672c caf\\xe9" in done.stdout


# --- removing --------------------------------------------------------------------------------------------------------


def test_invalidate(tokopt: Any, data_dir: Path) -> None:
    assert tokopt("invalidate", "--older-than", "3h") == (1, "Removed 0 answers.\n", "")
    assert tokopt("invalidate", "--tag", "tool:pay", "--older-than", "2h") == (0, "Removed 1 answer.\n", "")
    assert as_json(tokopt("invalidate", "--id", "2", "--id", "77", "--json")) == {"removed": 1}
    database = Database(data_dir / DATABASE_FILE)
    assert [answer.id for answer in Catalog(database).find()] == [3]
    database.close()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "say which answers: --id, --tag"),
        (["--id", "1", "--tag", "x"], "use either --id or the other options"),
        (["--older-than", "soon"], '"30d" or "2w"'),
        (["--older-than", "-3d"], '"30d" or "2w"'),
    ],
)
def test_invalidate_refuses_what_is_not_clear(tokopt: Any, arguments: list[str], reason: str) -> None:
    code, out, error = tokopt("invalidate", *arguments)
    assert (code, out) == (2, "")
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    assert reason in error


def test_compact(tokopt: Any) -> None:
    code, out, _ = tokopt("compact")
    assert (code, out.splitlines()[0]) == (0, "Removed 0 expired answers and 0 rows of removed ones.")
    assert out.splitlines()[1] == "The file was not written anew: only 0% of it is free."
    tokopt("invalidate", "--id", "2")
    code, out, _ = tokopt("compact")
    assert (code, out.splitlines()[0]) == (0, "Removed 0 expired answers and 1 rows of removed ones.")
    assert out.splitlines()[1].startswith("Freed ")
    assert as_json(tokopt("compact", "--json"))["rewritten"] is False


# --- moving ----------------------------------------------------------------------------------------------------------


def test_there_and_back(tokopt: Any, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    assert tokopt("export", str(file), "--vectors") == (0, "Wrote 3 answers.\n", "")
    assert as_json(tokopt("export", str(file), "--json")) == {"exported": 3}
    assert tokopt("import", str(file)) == (0, "0 stored, 3 unchanged.\n", "")
    tokopt("invalidate", "--query", "pay")
    assert tokopt("import", str(file)) == (0, "1 stored, 2 unchanged.\n", "")
    assert as_json(tokopt("show", "4", "--json"))["hits"] == 2


def test_through_pipes(tokopt: Any) -> None:
    code, out, error = tokopt("export", "-")
    assert (code, error) == (0, "Wrote 3 answers.\n")
    assert [json.loads(line).get("question", "") for line in out.splitlines()] == [
        "",
        "How do I pay?",
        HOSTILE,
        "Open on Sunday?",
    ]
    assert tokopt("import", "-", data=out) == (0, "0 stored, 3 unchanged.\n", "")


def test_bad_rows_are_named_and_are_exit_code_1(tokopt: Any, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    tokopt("export", str(file))
    spoilt = file.read_text() + '{"kind": "\\u001b[2J"}\n{}\n'
    file.write_text(spoilt)
    code, out, error = tokopt("import", str(file))
    assert (code, out) == (1, "0 stored, 3 unchanged, 2 failed.\n")
    assert error == "line 5: kind='\\x1b[2J': use 'agent' or 'llm'\nline 6: kind is missing\n"
    told = tokopt("import", str(file), "--json")
    assert told[0] == 1
    assert as_json(told)["failed"][1] == {"line": 6, "reason": "kind is missing"}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["import", "{tmp}/missing"], "cannot be read"),
        (["import", "{tmp}/other.jsonl"], "it is no export of a cache"),
        (["export", "{tmp}"], "it is a folder; name a file"),
        (["export", "{tmp}/missing/file"], "there is no folder"),
        (["export", "-", "--json"], "name a file"),
    ],
)
def test_files_that_cannot_be_used_are_refused_in_one_line(
    tokopt: Any, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    (tmp_path / "other.jsonl").write_text("\x1b[2J{}\n")
    code, out, error = tokopt(*(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert (code, out) == (2, "")
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    assert reason in error
    assert "\x1b" not in error


@pytest.mark.parametrize("command", ["stats", "list", "compact", "show 1", "export x", "import x", "invalidate --id 1"])
def test_without_a_database_nothing_is_made(tmp_path: Path, command: str) -> None:
    for where, reason in ((["--data-dir", str(tmp_path / "no")], "there is no database"), ([], "name the database")):
        done = runner.invoke(app, ["cache", *command.split(), *where])
        assert (done.exit_code, done.stdout) == (2, "")
        assert reason in done.stderr
    assert list(tmp_path.iterdir()) == []


# --- how things are said ---------------------------------------------------------------------------------------------


def test_texts_are_made_safe() -> None:
    assert safe("a\x1b[0m\tb\r\nc\u2028\U000e0001") == "a\\x1b[0m b c \\U000e0001"
    assert safe("a\tb\r\nc\rd\u2028", lines=True) == "a\tb\nc\\x0dd\\u2028"
    assert safe("caf\u00e9 \u65e5\u672c \U0001f600") == "caf\u00e9 \u65e5\u672c \U0001f600"
    assert shortened("a" * 100_000, 5) == "aaaa\u2026"
    assert shortened("\x1b" * 100, 5) == "\\x1b\u2026"
    assert shortened("abcde", 5) == "abcde"


def test_sizes_and_ages_are_said_in_units_that_suit_them() -> None:
    assert [size(count) for count in (0, 999, 1_000, 2_550_000, 3 * 10**9, 10**13)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "2.5 MB",
        "3.0 GB",
        "10000.0 GB",
    ]
    assert [age(span) for span in (-1, 59.9, 60, 7_199, 86_399, 200_000)] == [
        "0 s",
        "59 s",
        "1 min",
        "1 h",
        "23 h",
        "2 d",
    ]
    assert [seconds("--x", text) for text in ("90", "1.5m", "2 H", "1d", "1w")] == [90, 90, 7200, 86400, 604800]
    for wrong in ("", "d", "3y", "-1d", "1e3"):
        with pytest.raises(ConfigurationError):
            seconds("--x", wrong)
