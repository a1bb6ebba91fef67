"""`tokopt report`: what was spent and saved."""

from __future__ import annotations

from typing import Annotated

import typer

from langchain_tokopt.cli.common import DataDir, Db, clear_errors, named_database
from langchain_tokopt.errors import ConfigurationError


def report(
    hours: Annotated[float | None, typer.Option(help="Only the last so many hours.", show_default=False)] = None,
    db: Db = None,
    data_dir: DataDir = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Show what was spent and saved, from a database that an optimiser writes to."""
    with clear_errors():
        if json_ and markdown:
            raise ConfigurationError("--markdown", True, "use either --json or --markdown")
        from langchain_tokopt.telemetry import Telemetry

        database = named_database(db, data_dir)
        telemetry = Telemetry(database=database)
        try:
            found = telemetry.report(hours)
        finally:
            telemetry.close()
            database.close()
        if json_:
            typer.echo(found.to_json())
        elif markdown:
            typer.echo(found.to_markdown())
        else:
            from rich.console import Console

            Console().print(found)
