"""`tokopt dashboard`: one page with everything, as a file or served to this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_tokopt.cli.common import DataDir, Db, check_target, print_json, write_text
from langchain_tokopt.cli.telemetry_options import Hours, opened_events
from langchain_tokopt.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_tokopt.telemetry.dashboard import Server
    from langchain_tokopt.telemetry.store import EventStore


def dashboard(
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write the page to this file, and end; it needs no server.", show_default=False),
    ] = None,
    port: Annotated[int, typer.Option("--port", help="Where to listen; 0 for any free port.", min=0, max=65535)] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it in a browser.")] = True,
    hours: Hours = 24,
    db: Db = None,
    data_dir: DataDir = None,
    json_: Annotated[bool, typer.Option("--json", help="Print what the page shows as JSON, and end.")] = False,
) -> None:
    """Show what is spent, saved and wrong on one page, until Ctrl-C; it follows what happens.

    Only this machine can open it, and only with its whole URL.
    """
    with opened_events(db, data_dir, hours=hours) as store:
        from langchain_tokopt.cli.telemetry_budgets import kept_budgets
        from langchain_tokopt.cli.telemetry_views import page_data

        if html is not None and json_:
            raise ConfigurationError("--json", True, "use either --html or --json")
        if html is not None:
            check_target("--html", html)
        with kept_budgets(store.database) as budgets:

            def data() -> dict[str, Any]:
                return page_data(store, budgets, hours=hours)

            if json_:
                print_json(data())
            elif html is not None:
                _write(html, data())
            else:
                _serve(store, data, port=port, browser=browser)


def _write(target: Path, data: dict[str, Any]) -> None:
    from langchain_tokopt.cli.shown import safe
    from langchain_tokopt.telemetry.dashboard import page

    write_text(target, page(data))
    typer.echo(safe(f"Wrote the page to {target}."))


def _serve(store: EventStore, data: Callable[[], dict[str, Any]], *, port: int, browser: bool) -> None:
    from langchain_tokopt.cli.shown import console
    from langchain_tokopt.telemetry.dashboard import Server, arrivals

    with Server(data, version=lambda: arrivals(store), port=port) as server:
        # At once also in a pipe: whoever started this wants to know where it is.
        typer.echo(f"The dashboard is at {server.url}")
        console().file.flush()
        if browser and console().is_terminal:
            _open(server.url)
        typer.echo("Ctrl-C ends it.", err=True)
        try:
            wait(server)
        except KeyboardInterrupt:
            typer.echo("", err=True)
    typer.echo("It is closed.", err=True)


def wait(server: Server) -> None:
    """Wait until the user has seen enough (Ctrl-C)."""
    # Not for ever at once: on Windows such a wait does not hear of Ctrl-C.
    while not server.wait(1.0):
        pass


def _open(url: str) -> None:
    import contextlib
    import webbrowser

    # A machine without a browser has the URL.
    with contextlib.suppress(webbrowser.Error):
        webbrowser.open(url)
