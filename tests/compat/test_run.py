"""The whole run, on a small source distribution made here."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from compat import run
from compat.outcomes import Outcome
from compat.sdist import AGENT_TESTS, SdistError, download, unpack

SUITE = """
import pytest
from langchain.agents import create_agent
from langchain.agents.factory import create_agent as by_factory
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

def agent(make, **more):
    return make(GenericFakeChatModel(messages=iter([AIMessage("fine")])), **more)

def test_answer():
    assert agent(create_agent).invoke({"messages": ["Hello?"]})["messages"][-1].text == "fine"

def test_middleware_of_its_own():
    from langchain.agents.middleware import ModelCallLimitMiddleware
    limited = agent(by_factory, middleware=[ModelCallLimitMiddleware(run_limit=3)])
    assert limited.invoke({"messages": ["Hello?"]})["messages"][-1].text == "fine"

def test_broken():
    assert False, "broken before"

@pytest.mark.skip(reason="not here")
def test_skipped():
    pass
"""
SENSITIVE = """
def test_nobody_replaced_it():
    assert create_agent.__code__.co_filename.endswith("factory.py")
"""


def sdist(folder: Path, suite: str) -> Path:
    """A source distribution with that suite."""
    root = "langchain-9.9.9"
    files = {
        f"{root}/pyproject.toml": "[tool.pytest.ini_options]\nasyncio_mode = 'auto'\n",
        f"{root}/tests/__init__.py": "",
        f"{root}/tests/unit_tests/__init__.py": "",
        f"{root}/{AGENT_TESTS}/__init__.py": "",
        f"{root}/{AGENT_TESTS}/test_small.py": suite,
    }
    archive = folder / "small.tar.gz"
    with tarfile.open(archive, "w:gz") as target:
        for name, text in files.items():
            data = text.encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            target.addfile(member, io.BytesIO(data))
    return archive


@pytest.fixture(autouse=True)
def nothing_more_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "NEEDED", {})


def test_only_what_the_optimiser_breaks_is_a_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = sdist(tmp_path, SUITE + SENSITIVE)
    assert run.main(["--sdist", str(archive), "--folder", str(tmp_path / "work"), "--positions", "last"]) == 1
    report = json.loads((tmp_path / "work" / "report.json").read_text(encoding="utf-8"))
    assert report["counts"]["bare"] == {"passed": 3, "failed": 1, "skipped": 1}
    assert report["counts"]["last"] == {"passed": 2, "failed": 2, "skipped": 1}
    assert (report["langchain"], report["warnings"]) == ("9.9.9", {"last": {}})
    (found,) = report["compared"]["last"]["regressions"]
    assert found["name"] == f"{AGENT_TESTS}/test_small.py::test_nobody_replaced_it"
    said = capsys.readouterr().out
    assert f"REGRESSION failed: {found['name']}" in said
    assert "[last] 1 regressions" in said


def test_nothing_that_got_worse_gives_status_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def outcomes(root: Path, folder: Path, position: str | None, only: str) -> dict[str, Outcome]:
        asked.append(position)
        return {"a": Outcome("a", "passed"), "b": Outcome("b", "failed")}

    monkeypatch.setattr(run, "_run", outcomes)
    assert run.main(["--sdist", str(sdist(tmp_path, SUITE)), "--folder", str(tmp_path / "work")]) == 0
    assert asked == [None, "first", "last"]
    assert json.loads((tmp_path / "work" / "report.json").read_text(encoding="utf-8"))["compared"]["first"] == {
        "regressions": [],
        "expected": [],
        "repaired": [],
        "stale": [],
    }


def test_archive_without_tests_gives_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = tmp_path / "empty.tar.gz"
    with tarfile.open(archive, "w:gz") as target:
        target.addfile(tarfile.TarInfo("langchain-9.9.9/README.md"))
    assert run.main(["--sdist", str(archive), "--folder", str(tmp_path / "work")]) == 2
    assert AGENT_TESTS in capsys.readouterr().out


def test_tests_that_cannot_be_collected_give_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = sdist(tmp_path, "import nothing_of_that_name")
    assert run.main(["--sdist", str(archive), "--folder", str(tmp_path / "work")]) == 2
    assert "pytest ended with status 2" in capsys.readouterr().out


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(run, "NEEDED", {"nothing_of_that_name": "the-package"})
    assert run.main([]) == 2
    assert "the-package" in capsys.readouterr().out


def test_archive_that_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    archive = tmp_path / "langchain-0.0.0.tar.gz"
    archive.write_bytes(b"")
    assert download("0.0.0", tmp_path) == archive


def test_only_the_tests_are_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    with tarfile.open(archive, "w:gz") as target:
        for name in ("langchain/__init__.py", f"{AGENT_TESTS}/test_x.py", "pyproject.toml"):
            target.addfile(tarfile.TarInfo(f"langchain-9.9.9/{name}"))
    root = unpack(archive, tmp_path / "work")
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert found == {f"{AGENT_TESTS}/test_x.py", "pyproject.toml"}


def test_file_that_is_no_archive_is_named(tmp_path: Path) -> None:
    archive = tmp_path / "no.tar.gz"
    archive.write_text("no", encoding="utf-8")
    with pytest.raises(SdistError, match=r"no\.tar\.gz cannot be unpacked"):
        unpack(archive, tmp_path)
