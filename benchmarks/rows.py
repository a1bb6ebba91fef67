"""What every benchmark writes: tidy rows, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from langchain_tokopt import __version__


@dataclass(frozen=True)
class Measure:
    """One figure: which method, what was measured, at which point, and between which bounds if they are known."""

    method: str
    metric: str
    at: float | str | None
    value: float
    low: float | None = None
    high: float | None = None


def publish(program: str, data: str, rows: Sequence[Measure], out: Path | None) -> None:
    """Print the rows as one table, a line per metric and point, a column per method; write them to `out` as JSON."""
    methods = list(dict.fromkeys(row.method for row in rows))
    table = Table(title=f"{program} on {data}")
    table.add_column("metric")
    table.add_column("at")
    for method in methods:
        table.add_column(method, justify="right")
    cells: dict[tuple[str, Any], dict[str, str]] = {}
    for row in rows:
        bounds = "" if row.low is None or row.high is None else f" ({row.low:.4g}-{row.high:.4g})"
        cells.setdefault((row.metric, row.at), {})[row.method] = f"{row.value:.4g}{bounds}"
    for (metric, at), values in cells.items():
        table.add_row(metric, "" if at is None else str(at), *(values.get(method, "") for method in methods))
    Console().print(table)
    if out is not None:
        result = {
            "program": program,
            "version": __version__,
            "data": data,
            "rows": [{k: v for k, v in asdict(row).items() if v is not None or k == "at"} for row in rows],
        }
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
