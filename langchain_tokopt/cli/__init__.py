"""The command line, `tokopt`: one file for each command or group of commands.

Each of these files imports no more than `typer` at its top; what a command needs is imported inside it, so that
`tokopt --help` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from langchain_tokopt.cli import alerts, budget, cache, embedder
from langchain_tokopt.cli.dashboard import dashboard
from langchain_tokopt.cli.demo import demo
from langchain_tokopt.cli.effectiveness import effectiveness
from langchain_tokopt.cli.export import export
from langchain_tokopt.cli.report import report
from langchain_tokopt.cli.stats import stats
from langchain_tokopt.cli.status import status
from langchain_tokopt.cli.top import top

app = typer.Typer(
    help="Spend fewer tokens and less money with LangChain agents.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(stats)
app.command()(report)
app.command()(top)
app.command()(effectiveness)
app.command()(dashboard)
app.command()(status)
app.command()(export)
app.add_typer(alerts.app, name="alerts")
app.add_typer(budget.app, name="budget")
app.add_typer(cache.app, name="cache")
app.add_typer(embedder.app, name="embedder")


def _version(wanted: bool) -> None:
    if wanted:
        from langchain_tokopt import __version__

        typer.echo(f"langchain-tokopt {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Spend fewer tokens and less money with LangChain agents."""
