"""JSON as indented `key: value` lines and tables, and the way back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, cast

from langchain_tokopt.context.lossless.json_tables import NotThisShapeError, dumps, record_of, table_of

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_KEY = re.compile(r"[A-Za-z_][\w-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_DECODER = json.JSONDecoder()


def to_outline(value: Any) -> str:
    """The value as indented `key: value` lines and tables.

    Raises:
        ValueError: It is neither an object nor a table.
    """
    if isinstance(value, dict) and value:
        return "\n".join(_object_lines(value, ""))
    if isinstance(value, list) and (table := table_of(value)):
        return "\n".join(_table_lines("", table, ""))
    raise NotThisShapeError


def _object_lines(value: dict[str, Any], pad: str) -> Iterator[str]:
    for key, item in value.items():
        name = pad + (key if _KEY.fullmatch(key) else dumps(key))
        if isinstance(item, dict) and item:
            yield f"{name}:"
            yield from _object_lines(item, pad + "  ")
        elif isinstance(item, list) and (table := table_of(item)):
            yield from _table_lines(name, table, pad)
        else:
            yield f"{name}: {_cell(item, in_row=False)}"


def _table_lines(name: str, table: tuple[list[str], list[list[Any]]], pad: str) -> Iterator[str]:
    columns, rows = table
    if not all(_KEY.fullmatch(part) for column in columns for part in column.split(".")):
        raise NotThisShapeError
    yield f"{name}[{len(rows)}]{{{','.join(columns)}}}:"
    for row in rows:
        yield f"{pad}  {','.join(_cell(cell, in_row=True) for cell in row)}"


def _cell(value: Any, *, in_row: bool) -> str:
    if isinstance(value, str) and _is_plain(value) and not (in_row and "," in value):
        return value
    return dumps(value)


def _is_plain(text: str) -> bool:
    """Whether a string can stand without quotes: it cannot be read as anything else."""
    return bool(
        text
        and text == text.strip()
        and text[0] not in '"[{'
        and text not in ("true", "false", "null")
        and not _NUMBER.fullmatch(text)
        and not _CONTROL.search(text)
    )


def from_outline(text: str) -> Any:
    """The value that `to_outline` wrote.

    Raises:
        ValueError: The text is not an outline.
    """
    lines = text.split("\n")
    table = lines[0].startswith("[")
    value, end = _read_table(lines[0], lines, 1, "") if table else _read_object(lines, 0, "")
    if end != len(lines):
        raise NotThisShapeError
    return value


def _read_object(lines: list[str], at: int, pad: str) -> tuple[dict[str, Any], int]:
    value: dict[str, Any] = {}
    while at < len(lines) and lines[at].startswith(pad) and not lines[at].startswith(pad + " "):
        key, rest = _read_key(lines[at][len(pad) :])
        at += 1
        if rest.startswith("["):
            value[key], at = _read_table(rest, lines, at, pad)
        elif rest == ":":
            value[key], at = _read_object(lines, at, pad + "  ")
        elif rest.startswith(": "):
            value[key] = _read_cell(rest[2:])
        else:
            raise NotThisShapeError
    return value, at


def _read_key(line: str) -> tuple[str, str]:
    if line.startswith('"'):
        key, end = _DECODER.raw_decode(line)
        return cast("str", key), line[end:]
    found = _KEY.match(line)
    if found is None:
        raise NotThisShapeError
    return found.group(), line[found.end() :]


_HEADER = re.compile(r"\[(\d+)\]\{([^{}]*)\}:")


def _read_table(header: str, lines: list[str], at: int, pad: str) -> tuple[list[Any], int]:
    found = _HEADER.fullmatch(header)
    if found is None:
        raise NotThisShapeError
    columns, end = found.group(2).split(","), at + int(found.group(1))
    inner = pad + "  "
    rows = lines[at:end]
    if not all(row.startswith(inner) for row in rows):
        raise NotThisShapeError
    return [record_of(columns, list(_read_row(row[len(inner) :]))) for row in rows], end


def _read_row(row: str) -> Iterator[Any]:
    at = 0
    while True:
        if row[at : at + 1] in ('"', "[", "{"):
            value, end = _DECODER.raw_decode(row, at)
        else:
            end = row.find(",", at)
            end = len(row) if end < 0 else end
            value = _read_cell(row[at:end])
        yield value
        if end >= len(row):
            return
        if row[end] != ",":
            raise NotThisShapeError
        at = end + 1


def _read_cell(text: str) -> Any:
    if text[:1] in ('"', "[", "{") or text in ("true", "false", "null") or _NUMBER.fullmatch(text):
        return json.loads(text)
    return text
