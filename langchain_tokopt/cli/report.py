"""`tokopt report`: what was spent and saved, and what to change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_tokopt.cli.common import DataDir, Db, check_target, print_json, write_text
from langchain_tokopt.cli.telemetry_options import Json, opened_events
from langchain_tokopt.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_tokopt.pricing import Rates

# Longer lines are hard to read.
_TEXT_WIDTH = 100


def report(
    hours: Annotated[float | None, typer.Option(help="Only the last so many hours.", show_default=False)] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    text: Annotated[bool, typer.Option("--text", help="Print plain text, also in a terminal.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write an HTML file, with pictures.", show_default=False)
    ] = None,
    candidate: Annotated[
        list[str] | None,
        typer.Option("--candidate", help="A model that may answer instead; may be repeated. Else the next smaller."),
    ] = None,
    db: Db = None,
    data_dir: DataDir = None,
    json_: Json = False,
) -> None:
    """Show what was spent and saved, where it goes, what is to come, and what to change.

    Exit code 1 if nothing was recorded in that time.
    """
    with opened_events(db, data_dir, hours=hours) as store:
        from langchain_tokopt.cli.telemetry_budgets import kept_budgets
        from langchain_tokopt.cli.telemetry_views import report_of

        given = [name for name, wanted in (("--json", json_), ("--markdown", markdown), ("--text", text)) if wanted]
        if len(given) > 1:
            raise ConfigurationError(given[1], True, f"use either {given[0]} or {given[1]}")
        if html is not None:
            check_target("--html", html)
        candidates = _priced(candidate or ())
        with kept_budgets(store.database) as budgets:
            found = report_of(store, budgets, hours=hours, candidates=candidates)
        if html is not None:
            write_text(html, found.to_html())
        if json_:
            # Not `to_json`: a terminal obeys some characters beyond ASCII, and names are others'.
            print_json(found.to_dict())
        elif markdown:
            typer.echo(found.to_markdown())
        elif html is not None:
            from langchain_tokopt.cli.shown import safe

            typer.echo(safe(f"Wrote the report to {html}."))
        else:
            from langchain_tokopt.cli.shown import console

            screen = console()
            if text or not screen.is_terminal:
                typer.echo(found.to_text(width=min(_TEXT_WIDTH, screen.width)))
            else:
                screen.print(found)
        raise typer.Exit(0 if found.events else 1)


def _priced(names: Sequence[str]) -> list[Rates]:
    """The rates of models: one whose price nobody knows cannot be compared."""
    from langchain_tokopt.pricing import Pricing

    pricing = Pricing()
    found = []
    for name in names:
        rates = pricing.rates(name)
        if rates is None:
            remedy = 'no price of it is known: name it as its provider does, such as "openai:gpt-5-mini"'
            raise ConfigurationError("--candidate", name, remedy)
        found.append(rates)
    return found
