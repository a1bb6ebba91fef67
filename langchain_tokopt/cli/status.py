"""`tokopt status`: what this installation has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from langchain_tokopt.cli.common import DataDir, Db, clear_errors, named_database, utc

_PACKAGES = (
    "langchain",
    "langchain-core",
    "langgraph",
    "genai-prices",
    "faiss-cpu",
    "onnxruntime",
    "sentence-transformers",
)


def status(
    db: Db = None,
    data_dir: DataDir = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what this installation has: embeddings, token counting, prices, and a database if one is named."""
    with clear_errors():
        import json

        found = _status(db, data_dir)
        if json_:
            typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
            return
        from rich.console import Console
        from rich.table import Table

        table = Table(show_header=False, box=None, pad_edge=False)
        for name, value in found.items():
            table.add_row(name.replace("_", " "), "" if value is None else str(value))
        Console().print(table, markup=False)


def _status(db: str | None, data_dir: Path | None) -> dict[str, Any]:
    import importlib.metadata
    import platform

    from langchain_tokopt import __version__
    from langchain_tokopt.tokens import TokenCounter

    found: dict[str, Any] = {
        "version": __version__,
        "python": platform.python_version(),
        "tokens": TokenCounter().source("gpt-4o"),
    }
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    if db is None and data_dir is None:
        return found
    from langchain_tokopt.telemetry import Telemetry

    database = named_database(db, data_dir)
    telemetry = Telemetry(database=database)
    try:
        told = telemetry.report()
        found |= {"database": database.url, "events": told.events}
        found |= {"first": utc(told.first), "last": utc(told.last)}
    finally:
        telemetry.close()
        database.close()
    return found
