"""Reading records out of a tool result as a reader would: JSON, JSON with columns and rows, or indented lines."""

from __future__ import annotations

import json
import re
from typing import Any

_HEADER = re.compile(r"^(?:[\w\"-]*)\[\d+\]\{([^{}]*)\}:$")
_DECODER = json.JSONDecoder()


def records(text: str) -> list[dict[str, Any]]:
    """The objects of a list, [] when the text holds none."""
    stripped = text.strip()
    try:
        value = json.loads(stripped)
    except ValueError:
        return _rows(stripped)
    if isinstance(value, dict) and {"columns", "rows"} <= value.keys():
        return [dict(zip(value["columns"], row, strict=False)) for row in value["rows"]]
    if isinstance(value, dict):
        return [value]
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def fields(text: str) -> dict[str, Any]:
    """The fields of one object, {} when the text holds none."""
    try:
        value = json.loads(text)
    except ValueError:
        found = (re.match(r'^"?([\w.-]+)"?: (.+)$', line) for line in text.strip().splitlines())
        return {match[1]: _cell(match[2]) for match in found if match}
    return value if isinstance(value, dict) else {}


def _rows(text: str) -> list[dict[str, Any]]:
    """The rows of a table "[2]{name,line}:" with one comma-separated line for each."""
    head, *lines = text.split("\n")
    match = _HEADER.match(head.strip())
    if match is None:
        return []
    columns = match[1].split(",")
    return [dict(zip(columns, _cells(line.strip()), strict=False)) for line in lines if line.strip()]


def _cells(line: str) -> list[Any]:
    found: list[Any] = []
    place = 0
    while place <= len(line):
        if line[place : place + 1] in ('"', "[", "{"):
            try:
                value, place = _DECODER.raw_decode(line, place)
            except ValueError:
                return found
            found.append(value)
        else:
            end = line.find(",", place)
            end = len(line) if end < 0 else end
            found.append(_cell(line[place:end]))
            place = end
        place += 1
    return found


def _cell(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
