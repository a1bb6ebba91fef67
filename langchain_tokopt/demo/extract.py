"""Taking facts out of the text of tool results, in whichever of their forms they come."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass

_HIT = re.compile(r"^\s*([^\s:|][^:|]*):(\d+):\s?(.*)$")
_NUMBERED = re.compile(r"^\s*(\d+)\|\s?(.*)$")
_QUOTES = ('"""', "'''")


@dataclass(frozen=True)
class Hit:
    """One "path:line: text"."""

    path: str
    line: int
    text: str


def hits(text: str) -> list[Hit]:
    """The lines of a search result."""
    return [Hit(m[1], int(m[2]), m[3].strip()) for m in map(_HIT.match, text.splitlines()) if m]


def numbered(texts: Iterable[str]) -> dict[int, str]:
    """Line number and line of everything that was read of one file."""
    return {int(m[1]): m[2] for text in texts for m in map(_NUMBERED.match, text.splitlines()) if m}


def paths(text: str) -> list[str]:
    """The paths at the start of the lines of a listing ("path", "path  size", "path: count")."""
    found = [re.split(r":\s|\s{2,}|\s\d+$", line.strip())[0] for line in text.splitlines()]
    return [path for path in found if path and not path.startswith("...")]


def number_of(text: str, noun: str) -> int | None:
    """The number that is said of `noun`: "12 lines", or a field "lines": 12."""
    match = re.search(rf'(\d+) {noun}\b|"?{noun}"?\s*[:=]\s*(\d+)', text)
    return int(match[1] or match[2]) if match else None


def total_lines(text: str) -> int | None:
    """How many lines a file has, from the head of what read_file gave."""
    match = re.search(r", lines \d+-\d+ of (\d+)", text)
    return int(match[1]) if match else None


def sentences(text: str, count: int = 1) -> str:
    """The first sentences of a text, white space made single."""
    flat = " ".join(text.split())
    return " ".join(re.split(r"(?<=[.!?])\s+(?=[A-Z`\"(*])", flat)[:count])


def docstring_in(lines: dict[int, str], start: int) -> str | None:
    """The first paragraph of the docstring of what is defined on line `start`, out of numbered lines of source."""
    number = start
    while number in lines and number < start + 40:
        stripped = lines[number].strip().lstrip("rRbBuU")
        if stripped.startswith(_QUOTES):
            mark = stripped[:3]
            body = [stripped[3:]]
            while mark not in body[-1] and body[-1].strip() and number + 1 in lines:
                number += 1
                body.append(lines[number])
            return " ".join(" ".join(body).split(mark)[0].split())
        number += 1
    return None


def parameters(signature: str) -> list[str] | None:
    """The names of the parameters in a signature "def f(a, *, b=1) -> c", self and cls left out; `None` if unclear."""
    match = re.search(r"(?:async\s+)?def\s+\w+\s*\(", signature)
    if match is None:
        return None
    end = _closing(signature, match.end())
    if end is None:
        return None
    try:
        node = ast.parse(f"def f({signature[match.end() : end]}): ...").body[0]
    except (SyntaxError, ValueError):
        return None
    if not isinstance(node, ast.FunctionDef):
        return None
    given = node.args
    names = [a.arg for a in (*given.posonlyargs, *given.args)]
    names += [f"*{given.vararg.arg}"] if given.vararg else []
    names += [a.arg for a in given.kwonlyargs]
    names += [f"**{given.kwarg.arg}"] if given.kwarg else []
    return [name for name in names if name not in ("self", "cls")]


def _closing(text: str, start: int) -> int | None:
    depth = 1
    for place in range(start, len(text)):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place
    return None


def imports_in(lines: Iterable[str]) -> list[str]:
    """The modules that lines of Python source import, sorted."""
    found: set[str] = set()
    for line in lines:
        text = line.strip().split("#")[0].strip()
        if match := re.match(r"from\s+(\.*[\w.]*)\s+import\b", text):
            found.add(match[1])
        elif match := re.match(r"import\s+(.+)$", text):
            found.update(part.strip().split(" as ")[0] for part in match[1].split(","))
    return sorted(found)


def methods_in(lines: dict[int, str], start: int) -> list[str]:
    """The public methods of the class on line `start`, out of numbered lines of its source."""
    first = lines.get(start, "")
    indent = len(first) - len(first.lstrip())
    found: list[str] = []
    inner: int | None = None
    number = start + 1
    while number in lines:
        line = lines[number]
        depth = len(line) - len(line.lstrip())
        if line.strip() and depth <= indent and not line.strip().startswith((")", "]", "}")):
            break
        match = re.match(r"\s*(?:async\s+)?def\s+(\w+)", line)
        if match:
            inner = depth if inner is None else inner
            if depth == inner and not match[1].startswith("_"):
                found.append(match[1])
        number += 1
    return found


def listed(names: Iterable[str]) -> str:
    """Names as "`a`, `b` and `c`"."""
    shown = [f"`{name}`" for name in names]
    if len(shown) < 2:
        return "".join(shown)
    return f"{', '.join(shown[:-1])} and {shown[-1]}"
