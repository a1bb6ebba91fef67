"""Tools that read structured files: JSON, TOML, CSV."""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
import sys
from typing import Any

from langchain_core.tools import ToolException

from langchain_tokopt.demo.corpus import Corpus

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = None

_STEP = re.compile(r"([^.\[\]]+)|\[(-?\d+)\]")


class DataTools:
    """Values inside data files."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def json_query(self, path: str, query: str = "") -> str:
        """Read a value from a JSON file; gives JSON.

        Args:
            path: The JSON file.
            query: Where the value is, such as "dependencies.react" or "items[0].name"; "" for the whole file.
        """
        return _shown(_picked(self._json(path), query, path))

    def json_keys(self, path: str, query: str = "") -> str:
        """List the keys of an object in a JSON file with the kind of each value, or the length of a list.

        Args:
            path: The JSON file.
            query: Where the object is, such as "dependencies" or "items[0]"; "" for the top.
        """
        value = _picked(self._json(path), query, path)
        if isinstance(value, dict):
            return "\n".join(f"{key}: {type(item).__name__}" for key, item in list(value.items())[:200]) or "(no keys)"
        return f"a list of {len(value)} items" if isinstance(value, list) else f"a value: {type(value).__name__}"

    def toml_query(self, path: str, query: str = "") -> str:
        """Read a value from a TOML file; gives JSON.

        Args:
            path: The TOML file.
            query: Where the value is, such as "project.name" or "tool.ruff.line-length"; "" for the whole file.
        """
        if tomllib is None:
            raise ToolException("TOML needs Python 3.11 or later; use read_file or search_text on this file")
        try:
            value = tomllib.loads(self._corpus.text(path))
        except tomllib.TOMLDecodeError as error:
            raise ToolException(f"path={path!r} is not TOML: {error}") from None
        return _shown(_picked(value, query, path))

    def csv_head(self, path: str, rows: int = 5) -> list[dict[str, Any]] | str:
        """Read the first rows of a CSV file, each with the names of its columns.

        Args:
            path: The CSV file; its first line names the columns.
            rows: How many rows, at most 50.
        """
        return self._rows(path)[: min(max(rows, 1), 50)] or f"{path} has no rows"

    def csv_column(self, path: str, column: str) -> dict[str, Any]:
        """Sum up a column of a CSV file: number of rows, different values; smallest, largest, sum, mean of numbers.

        Args:
            path: The CSV file; its first line names the columns.
            column: The column's name.
        """
        rows = self._rows(path)
        if rows and column not in rows[0]:
            raise ToolException(f"column={column!r} is not in {path}; it has {', '.join(map(str, rows[0]))}")
        values = [str(row.get(column) or "") for row in rows]
        found: dict[str, Any] = {"rows": len(values), "different": len(set(values))}
        try:
            numbers = [float(value) for value in values if value]
        except ValueError:
            return found
        if numbers:
            found |= {"min": min(numbers), "max": max(numbers), "sum": sum(numbers), "mean": statistics.fmean(numbers)}
        return found

    def _json(self, path: str) -> Any:
        try:
            return json.loads(self._corpus.text(path))
        except (ValueError, RecursionError) as error:
            raise ToolException(f"path={path!r} is not JSON: {error}") from None

    def _rows(self, path: str) -> list[dict[str, Any]]:
        text = self._corpus.text(path)
        try:
            dialect: Any = csv.Sniffer().sniff(text[:4096], delimiters=",;\t|")
        except csv.Error:
            dialect = csv.excel
        try:
            return [{k: v for k, v in row.items() if k} for row in csv.DictReader(io.StringIO(text), dialect=dialect)]
        except csv.Error as error:
            raise ToolException(f"path={path!r} is not CSV: {error}") from None


def _picked(value: Any, query: str, path: str) -> Any:
    if query and not _STEP.fullmatch(re.sub(r"\[-?\d+\]|\.", "", query) or "x"):
        raise ToolException(f'query={query!r} is not understood; write it as "a.b[0].c"')
    for key, index in _STEP.findall(query):
        try:
            value = value[int(index)] if index else value[key]
        except (KeyError, IndexError, TypeError):
            known = f"; there is {', '.join(list(value)[:20])}" if isinstance(value, dict) else ""
            raise ToolException(f"query={query!r}: nothing at {index or key!r} in {path}{known}") from None
    return value


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    if len(text) > 12_000:
        raise ToolException(f"the value has {len(text)} characters; ask for a part of it")
    return text
