from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from langchain_core.messages.ai import UsageMetadata
from typer.testing import CliRunner

import langchain_tokopt
from langchain_tokopt.cli import app
from langchain_tokopt.database import Database
from langchain_tokopt.demo import outcome
from langchain_tokopt.embedding_quality import Quality
from langchain_tokopt.events import ModelCall
from langchain_tokopt.optimizer import DATABASE_FILE
from langchain_tokopt.telemetry import Telemetry
from tests.demo.folders import make_folder
from tests.fakes import TableEmbeddings
from tests.tiny_models import make_tiny_model

runner = CliRunner()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(outcome, "ready_embeddings", lambda: (TableEmbeddings(), None))
    return make_folder(tmp_path / "folder")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data_dir in which one call for 0.25 USD is on record."""
    made = tmp_path / "data"
    made.mkdir()
    database = Database(made / DATABASE_FILE)
    telemetry = Telemetry(database=database)
    usage = UsageMetadata(input_tokens=100, output_tokens=10, total_tokens=110)
    telemetry.emit(ModelCall(model="gpt-5-mini", usage=usage, usage_source="provider", cost_usd=Decimal("0.25")))
    telemetry.close()
    database.close()
    return made


# --- demo ------------------------------------------------------------------------------------------------------------


def test_demo_prints_a_table_and_writes_figures_and_a_page(folder: Path, tmp_path: Path) -> None:
    figures, html = tmp_path / "figures.json", tmp_path / "page.html"
    done = runner.invoke(
        app, ["demo", "--path", str(folder), "--questions", "2", "--json", str(figures), "--html", str(html)]
    )
    assert done.exit_code == 0, done.output
    assert "answers equal" in done.stdout
    assert "2/2" in done.stdout
    rows = json.loads(figures.read_text())["figures"]
    assert {row["prices"] for row in rows} == {"openai", "anthropic", "uncached"}
    assert html.read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.json", "folder", "page.html"]


def test_demo_replaces_a_file_that_is_there(folder: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    figures.write_text("old")
    done = runner.invoke(app, ["demo", "--path", str(folder), "--questions", "1", "--json", str(figures)])
    assert done.exit_code == 0, done.output
    assert "figures" in json.loads(figures.read_text())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--path", "{tmp}/missing"], "no such folder"),
        (["--path", "{tmp}/file.txt"], "it is a file"),
        (["--path", "{tmp}/empty"], "holds no files"),
        (["--path", "{tmp}/binary"], "holds no text file"),
        (["--json", "{tmp}/missing/figures.json"], "there is no folder"),
        (["--json", "{tmp}"], "it is a folder; name a file"),
        (["--html", "{tmp}/missing/page.html"], "there is no folder"),
        (["--model", "gpt-4o"], "provider:name"),
        (["--model", "nowhere:gpt-4o"], "cannot be used"),
    ],
)
def test_demo_refuses_what_cannot_work_in_one_line(
    folder: Path, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / "x.bin").write_bytes(b"\0\1\2")
    before = sorted(tmp_path.rglob("*"))
    given = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    done = runner.invoke(app, ["demo", *(["--path", str(folder)] if "--path" not in given else []), *given])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert reason in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_demo_refuses_a_folder_that_it_cannot_write_to(folder: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    done = runner.invoke(app, ["demo", "--path", str(folder), "--json", str(locked / "figures.json")])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "cannot be written to" in done.stderr


def test_a_write_that_fails_leaves_nothing_behind(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "figures.json"
    target.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    done = runner.invoke(app, ["demo", "--path", str(folder), "--questions", "1", "--json", str(target)])
    assert done.exit_code == 2
    assert "could not be written (No space left on device)" in done.stderr
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.json", "folder"]


# --- report ----------------------------------------------------------------------------------------------------------


def test_report_as_json(data_dir: Path) -> None:
    done = runner.invoke(app, ["report", "--data-dir", str(data_dir), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["measured"]["calls"] == 1
    assert Decimal(told["measured"]["cost_usd"]) == Decimal("0.25")


@pytest.mark.parametrize("arguments", [[], ["--markdown"], ["--hours", "1"]])
def test_report_for_people(data_dir: Path, arguments: list[str]) -> None:
    done = runner.invoke(app, ["report", "--db", str(data_dir / DATABASE_FILE), *arguments])
    assert done.exit_code == 0, done.output
    assert "0.25" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name the database with either --data-dir or --db"),
        (["--data-dir", "{tmp}", "--db", "x.db"], "name the database with either --data-dir or --db"),
        (["--data-dir", "{tmp}/missing"], "there is no database"),
        (["--db", "{tmp}/missing.db"], "there is no database"),
        (["--db", "sqlite:///{tmp}/missing.db"], "there is no database"),
        (["--db", "{tmp}/text.db"], "text.db"),
        (["--data-dir", "{tmp}/data", "--hours", "-1"], "hours"),
        (["--data-dir", "{tmp}/data", "--json", "--markdown"], "either --json or --markdown"),
    ],
)
@pytest.mark.usefixtures("data_dir")
def test_report_refuses_what_cannot_work_in_one_line(tmp_path: Path, arguments: list[str], reason: str) -> None:
    (tmp_path / "text.db").write_text("this is a text and no database, whatever its name says\n" * 50)
    done = runner.invoke(app, ["report", *(argument.replace("{tmp}", str(tmp_path)) for argument in arguments)])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert reason in done.stderr
    assert not (tmp_path / "missing.db").exists()
    assert not (tmp_path / "missing").exists()


# --- status and the rest ---------------------------------------------------------------------------------------------


def test_status(data_dir: Path) -> None:
    alone = json.loads(runner.invoke(app, ["status", "--json"]).stdout)
    assert alone["version"] == langchain_tokopt.__version__
    assert alone["tokens"] in ("tiktoken", "estimate")
    assert "events" not in alone
    told = json.loads(runner.invoke(app, ["status", "--json", "--data-dir", str(data_dir)]).stdout)
    assert told["events"] == 1
    assert told["database"].endswith(DATABASE_FILE)
    assert "version" in runner.invoke(app, ["status"]).stdout


def test_version() -> None:
    done = runner.invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"langchain-tokopt {langchain_tokopt.__version__}\n")


def test_help_names_the_commands_and_loads_nothing_heavy() -> None:
    heavy = ("torch", "faiss", "sentence_transformers", "langchain_core", "langchain", "langgraph", "sqlalchemy")
    program = (
        "import sys; from typer.testing import CliRunner; from langchain_tokopt.cli import app;"
        f"out = CliRunner().invoke(app, ['--help']).output; print([m for m in {heavy} if m in sys.modules]);"
        "print(all(name in out for name in ('demo', 'report', 'status', 'embedder')))"
    )
    root = Path(langchain_tokopt.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.splitlines() == ["[]", "True"]


def test_it_can_be_run_as_a_module() -> None:
    root = Path(langchain_tokopt.__file__).parent.parent
    command = [sys.executable, "-m", "langchain_tokopt", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout == f"langchain-tokopt {langchain_tokopt.__version__}\n"


# --- embedder --------------------------------------------------------------------------------------------------------


def test_embedder_export_and_info(tmp_path: Path) -> None:
    for package in ("torch", "sentence_transformers", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    model, place = str(make_tiny_model(tmp_path / "tiny")), str(tmp_path / "data")
    before = json.loads(runner.invoke(app, ["embedder", "info", model, "--data-dir", place, "--json"]).stdout)
    assert (before["model"], before["used"], before["export"]) == ("tiny", "folder", None)
    assert [(each["source"], each["used"]) for each in before["candidates"]] == [
        ("export", False),
        ("export", False),
        ("folder", True),
    ]
    done = runner.invoke(app, ["embedder", "export", model, "--data-dir", place])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Wrote tiny@")
    assert "cosine to the original: median 0.99" in done.stdout or "median 1.0" in done.stdout
    again = json.loads(runner.invoke(app, ["embedder", "export", model, "--data-dir", place, "--json"]).stdout)
    assert (again["made"], again["dim"]) == (False, 32)
    assert again["recipe"] in ("int8", "int7")  # seven bits where the processor cuts sums of eight off
    shown = runner.invoke(app, ["embedder", "info", model, "--data-dir", place, "--verify"])
    assert shown.exit_code == 0, shown.output
    assert "measured now: good" in shown.stdout
    told = json.loads(runner.invoke(app, ["embedder", "info", model, "--data-dir", place, "--json", "--verify"]).stdout)
    assert (told["used"], told["verified"]["acceptable"]) == ("export", True)
    assert told["export"]["name"] == again["name"]


def test_embedder_info_verify_fails_when_the_export_is_bad(
    minilm_export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Quality(sentences=98, cosine_min=0.1, cosine_median=0.2, neighbours=0.3)
    monkeypatch.setattr("langchain_tokopt.onnx_model.compare", lambda *_: bad)
    done = runner.invoke(app, ["embedder", "info", "--data-dir", str(minilm_export), "--verify"])
    assert done.exit_code == 1
    assert "measured now: BAD" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["embedder", "info", "--verify"], "no export would be used"),
        (["embedder", "info", "./gone"], "there is no such folder"),
        (["embedder", "export", "./gone"], "there is no such folder"),
        (["embedder", "export", "{tmp}"], "it is no sentence-transformers model"),
    ],
)
def test_embedder_refuses_what_cannot_work_in_one_line(tmp_path: Path, arguments: list[str], reason: str) -> None:
    done = runner.invoke(app, [argument.replace("{tmp}", str(tmp_path)) for argument in arguments])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert reason in done.stderr
