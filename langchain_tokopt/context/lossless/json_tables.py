"""Arrays of equal objects as columns and rows, and the way back."""

from __future__ import annotations

import json
from typing import Any


class NotThisShapeError(ValueError):
    """The value cannot be written in this shape, or the text is not of it."""


def dumps(value: Any) -> str:
    """Minified JSON. Characters that UTF-8 cannot hold stay escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))
    return text


def table_of(value: list[Any]) -> tuple[list[str], list[list[Any]]] | None:
    """Columns and rows of an array of at least two objects with equal keys in equal order."""
    if len(value) < 2 or not all(isinstance(item, dict) and item for item in value):
        return None
    for flatten in (_flat, dict):
        records = [flatten(item) for item in value]
        columns = list(records[0])
        if all(list(record) == columns for record in records):
            return columns, [list(record.values()) for record in records]
    return None


def _flat(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def record_of(columns: list[str], row: list[Any]) -> dict[str, Any]:
    """A row as an object again. Ambiguous names (a key with a dot of its own) fail the comparison that follows."""
    if len(columns) != len(row):
        raise NotThisShapeError
    record: dict[str, Any] = {}
    for column, value in zip(columns, row, strict=True):
        *path, name = column.split(".")
        place = record
        for key in path:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise NotThisShapeError
        place[name] = value
    return record


def to_columns(value: Any) -> str:
    """The value as JSON with its tables as columns and rows."""
    return dumps(_columns(value))


def _columns(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _columns(item) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    table = table_of(value)
    if table is None:
        return [_columns(item) for item in value]
    columns, rows = table
    return {"columns": columns, "rows": [[_columns(cell) for cell in row] for row in rows]}


def from_columns(text: str) -> Any:
    """The value that `to_columns` wrote."""
    return _uncolumned(json.loads(text))


def _uncolumned(value: Any) -> Any:
    if isinstance(value, list):
        return [_uncolumned(item) for item in value]
    if not isinstance(value, dict):
        return value
    if list(value) == ["columns", "rows"]:
        columns, rows = value["columns"], value["rows"]
        if not (isinstance(columns, list) and isinstance(rows, list) and all(isinstance(row, list) for row in rows)):
            raise NotThisShapeError
        return [record_of(columns, [_uncolumned(cell) for cell in row]) for row in rows]
    return {key: _uncolumned(item) for key, item in value.items()}
