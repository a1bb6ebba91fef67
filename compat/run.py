"""LangChain's own tests of agents, bare and with the optimiser in every agent: nothing that passed may fail.

    python -m compat.run                      # downloads the tests of the LangChain that is installed
    python -m compat.run --sdist langchain-1.4.7.tar.gz -k retry

Writes `report.json` into the working folder. Exit status: 0 nothing got worse, 1 something did, 2 it could not run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from compat.outcomes import Outcome, as_json, compare, counts, last_line, read, warnings
from compat.plugin import OUTCOMES, POSITION
from compat.sdist import AGENT_TESTS, SdistError, download, installed, unpack

PROJECT = Path(__file__).resolve().parent.parent
# What that suite imports besides pytest and LangChain: module and the package that has it.
NEEDED = {
    "blockbuster": "blockbuster",
    "langchain_openai": "langchain-openai",
    "langchain_tests": "langchain-tests",
    "pytest_asyncio": "pytest-asyncio",
    "pytest_mock": "pytest-mock",
    "pytest_socket": "pytest-socket",
    "syrupy": "syrupy",
    "vcr": "vcrpy",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status of the whole run."""
    options = _parser().parse_args(arguments)
    missing = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if missing:
        _say(f"LangChain's tests need {', '.join(missing)}: install the `compat` extra of this project.")
        return 2
    folder = options.folder.resolve()
    try:
        langchain = options.langchain or installed()
        root = unpack(options.sdist or download(langchain, folder), folder)
        runs = {"bare": _run(root, folder, None, options.k)}
        for position in options.positions:
            runs[position] = _run(root, folder, position, options.k)
    except SdistError as error:
        _say(str(error))
        return 2
    comparisons = {position: compare(runs["bare"], runs[position]) for position in options.positions}
    report: dict[str, Any] = {
        "langchain": root.name.removeprefix("langchain-"),
        "counts": {name: counts(found) for name, found in runs.items()},
        "warnings": {name: warnings(found) for name, found in runs.items() if name != "bare"},
        "compared": {position: as_json(found) for position, found in comparisons.items()},
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    _print(report)
    return 1 if any(found.regressions for found in comparisons.values()) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m compat.run", description=__doc__)
    parser.add_argument("--langchain", help="version whose tests are run; the installed one by default")
    parser.add_argument("--sdist", type=Path, help="source distribution that is here already")
    parser.add_argument("--folder", type=Path, default=Path("build/compat"), help="where it works")
    parser.add_argument("--positions", nargs="+", choices=["first", "last"], default=["first", "last"])
    parser.add_argument("-k", default="", help="only tests that match, as pytest's -k")
    return parser


def _run(root: Path, folder: Path, position: str | None, only: str) -> dict[str, Outcome]:
    """Outcomes of one run of the suite in a process of its own.

    Raises:
        SdistError: pytest could not run the tests.
    """
    file = folder / f"outcomes-{position or 'bare'}.json"
    file.unlink(missing_ok=True)
    inherited = {name: value for name, value in os.environ.items() if name not in (POSITION, "PYTEST_ADDOPTS")}
    environment = {
        **inherited,
        "PYTHONPATH": os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        OUTCOMES: str(file),
        **({POSITION: position} if position else {}),
    }
    command = [sys.executable, "-m", "pytest", AGENT_TESTS, "-p", "compat.plugin", "-p", "no:cacheprovider", "-q"]
    command += ["-o", "addopts=--strict-markers", "--tb=short", *(["-k", only] if only else [])]
    with (folder / f"pytest-{position or 'bare'}.log").open("w", encoding="utf-8") as log:
        done = subprocess.run(command, cwd=root, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode not in (0, 1) or not file.exists():
        msg = f"pytest ended with status {done.returncode}; see {log.name}"
        raise SdistError(msg)
    return read(json.loads(file.read_text(encoding="utf-8")))


def _print(report: dict[str, Any]) -> None:
    kinds = sorted({kind for found in report["counts"].values() for kind in found})
    _say(f"langchain {report['langchain']}: {AGENT_TESTS}")
    _say("  ".join([f"{'':<10}", *(f"{kind:>8}" for kind in kinds)]))
    for name, found in report["counts"].items():
        _say("  ".join([f"{name:<10}", *(f"{found.get(kind, 0):>8}" for kind in kinds)]))
    for position, compared in report["compared"].items():
        for text, tests in report["warnings"][position].items():
            _say(f"[{position}] warned in {tests} tests: {text[:200]}")
        for found in compared["expected"]:
            _say(f"[{position}] expected: {found['name']}: {found['reason']}")
        for name in compared["stale"]:
            _say(f"[{position}] passes after all, take it off the list of expected changes: {name}")
        for name in compared["repaired"]:
            _say(f"[{position}] passes only with the optimiser: {name}")
        for found in compared["regressions"]:
            _say(f"[{position}] REGRESSION {found['outcome']}: {found['name']}\n    {last_line(found['error'])}")
        _say(f"[{position}] {len(compared['regressions'])} regressions")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
