"""What a plan is made of, and the steps that several plans take."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from langchain_tokopt.demo import extract
from langchain_tokopt.demo.sight import Result


@dataclass(frozen=True)
class Want:
    """A tool call that is wanted: the best tool first, then second-best ones. `words`: how one would ask for it."""

    words: str
    calls: tuple[tuple[str, Mapping[str, Any]], ...]


Plan: TypeAlias = Generator[Sequence[Want], Sequence[Result], str]


def search(pattern: str, glob: str = "*", limit: int = 40, *, ignore_case: bool = True) -> Want:
    args = {"pattern": pattern, "glob": glob, "limit": limit, "ignore_case": ignore_case}
    return Want("search the text of the files for a regular expression", (("search_text", args),))


def read(path: str, start: int, end: int) -> Want:
    args = {"path": path, "start": max(start, 1), "end": max(end, 1)}
    return Want("read lines of a file", (("read_file", args), ("file_head", {"path": path, "lines": max(end, 1)})))


def definition(name: str) -> Want:
    last = name.rsplit(".", 1)[-1]
    pattern = rf"^\s*(class|def|async def) {last}\b"
    return Want(
        "find where a class or function is defined",
        (("find_definition", {"name": name}), ("search_text", {"pattern": pattern, "ignore_case": False})),
    )


def references(name: str) -> Want:
    word = rf"\b{re.escape(name)}\b"
    second = {"pattern": word, "glob": "*.py", "limit": 80, "ignore_case": False}
    return Want(
        "find every use of a name in the Python files", (("find_references", {"name": name}), ("search_text", second))
    )


def find(path: str) -> Want:
    """Agents check that a file is there before they use it."""
    pattern = Path(path).name
    return Want("find a file by its name", (("find_files", {"pattern": pattern}), ("list_files", {"folder": "."})))


def place(result: Result, name: str) -> extract.Hit | None:
    last = name.rsplit(".", 1)[-1]
    found = [
        hit for hit in extract.hits(result.text) if re.match(rf"(class|def|async def) {re.escape(last)}\b", hit.text)
    ]
    return found[0] if found else None


def unknown(what: str) -> str:
    return f"I could not find out {what}."
