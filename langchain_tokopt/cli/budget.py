"""`tokopt budget`: where a budget stands, its limits, shares, forecasts and journal.

Exit codes: 0 for done, 1 for nothing found or something that was wrong, 2 for a command that cannot work: such as that
there is no database, or no budget of that name in it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_tokopt.cli.budget_limits import drop, set_
from langchain_tokopt.cli.budget_options import (
    Json,
    MaybeNode,
    MaybePer,
    MaybeUnit,
    Name,
    Store,
    nothing,
    now,
    opened,
    print_json,
)
from langchain_tokopt.cli.budget_shares import allocate
from langchain_tokopt.cli.common import DataDir
from langchain_tokopt.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(help="See where a budget stands, set its limits, share it, look ahead.", no_args_is_help=True)


@app.command()
def show(
    node: MaybeNode = None,
    depth: Annotated[
        int | None, typer.Option("--depth", help="Only so many levels below the root.", min=0, show_default=False)
    ] = None,
    limited: Annotated[bool, typer.Option("--limited", help="Only nodes with a limit.")] = False,
    watch: Annotated[
        float | None, typer.Option("--watch", help="Draw it anew every so many seconds.", min=0.2, show_default=False)
    ] = None,
    name: Name = "default",
    db: Store = None,
    data_dir: DataDir = None,
    json_: Json = False,
) -> None:
    """Show what is spent, held and left on every node, or on one and those that count on it.

    A limit stands in the code, was set by hand, or was allocated. What is dim is only counted. Exit code 1 if the node
    is not there.
    """
    with opened(db, data_dir, name) as budget:
        from langchain_tokopt.cli.budget_tables import standing_table
        from langchain_tokopt.cli.fitted import keep_drawing
        from langchain_tokopt.cli.shown import console

        def read() -> list[Mapping[str, Any]]:
            return [
                one
                for one in _on(node, budget.status()["nodes"])
                if (depth is None or _depth(one["node"]) <= depth) and (one["origin"] is not None or not limited)
            ]

        def draw() -> Table:
            return standing_table(read(), screen, now=now())

        screen = console()
        if watch is not None and (json_ or not screen.is_terminal):
            raise ConfigurationError("--watch", watch, "it needs a terminal, and no --json; leave it out")
        found = read()
        if json_:
            from langchain_tokopt.cli.budget_words import plain

            print_json(plain({"name": budget.name, "nodes": found}))
            raise typer.Exit(0 if found else 1)
        if not found:
            nothing(_not_there(node, budget.status()["nodes"]))
        if watch is not None:
            keep_drawing(draw, screen, seconds=watch, sleep=time.sleep)
        else:
            screen.print(draw())


def _on(node: str | None, nodes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The nodes that count on the one that is named, itself the first of them."""
    if node is None:
        return list(nodes)
    from langchain_tokopt.budget.nodes import GLOBAL, Pattern, node_path

    pattern = Pattern.read(node, "NODE")
    return [
        one for one in nodes if pattern.node_on(node_path("" if one["node"] == GLOBAL else one["node"])) is not None
    ]


def _depth(node: str) -> int:
    return 0 if node == "global" else node.count("/") + 1


def _not_there(node: str | None, nodes: Sequence[Mapping[str, Any]]) -> str:
    from langchain_tokopt.cli.budget_limits import nearest

    if _on(node, nodes):
        return "There are nodes, but --limited and --depth leave out all of them."
    return f"There is no node {node!r} in the current periods{nearest(node or '', [one['node'] for one in nodes])}"


@app.command()
def forecast(
    node: Annotated[str, typer.Argument(metavar="NODE", help='Such as "project=shop/agent=writer".')] = "global",
    per: MaybePer = None,
    unit: MaybeUnit = None,
    coverage: Annotated[float, typer.Option("--coverage", help="The chance of the interval, from 0.5 to 0.99.")] = 0.8,
    name: Name = "default",
    db: Store = None,
    data_dir: DataDir = None,
    json_: Json = False,
) -> None:
    """Say what will be spent by the end of the period, and when the limit runs out.

    Below it: how far off each method was in a backtest. Exit code 1 if nothing was spent yet.
    """
    with opened(db, data_dir, name) as budget:
        found = budget.forecast(
            node,
            per=None if per is None else per.value,
            unit=None if unit is None else unit.value,
            coverage=coverage,
        )
        if found is None:
            nothing(f"Nothing was spent on {node!r} yet: there is nothing to go by.")
        elif json_:
            from langchain_tokopt.cli.budget_words import forecast_json, plain

            print_json(plain({"name": budget.name, "node": node or "global", **forecast_json(found)}))
        else:
            from langchain_tokopt.cli.budget_reports import print_forecast

            print_forecast(found, now())


@app.command()
def journal(
    node: MaybeNode = None,
    reservation: Annotated[
        str | None, typer.Option("--reservation", help="All that was booked under this id.", show_default=False)
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help='Such as "24h" ago, or "2027-01-31".', show_default=False)
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Before then; as --since.", show_default=False)] = None,
    limit: Annotated[int, typer.Option("--limit", help="The newest so many.", min=1)] = 50,
    name: Name = "default",
    db: Store = None,
    data_dir: DataDir = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show what was booked, set and moved: the newest entries, the newest of them last.

    The order is that of a log, in a terminal as in a pipe: what happened last stands at the prompt, and lines can be
    appended to a file. Exit code 1 if there is no entry.
    """
    with opened(db, data_dir, name) as budget:
        from langchain_tokopt.cli.shown import moment

        entries = budget.journal(
            node,
            reservation=reservation,
            since=None if since is None else moment("--since", since, now=now(), ahead=False),
            until=None if until is None else moment("--until", until, now=now(), ahead=False),
            count=limit,
        )
        entries.reverse()
        if json_:
            import json

            from langchain_tokopt.cli.budget_words import entry_json, plain

            for entry in entries:
                typer.echo(json.dumps(plain(entry_json(entry))))
            raise typer.Exit(0 if entries else 1)
        if not entries:
            nothing("There is no such entry in the journal.")
        from langchain_tokopt.cli.budget_reports import print_journal

        print_journal(entries)


@app.command()
def reconcile(
    sweep: Annotated[
        bool, typer.Option("--sweep", help="First free what processes held that are gone, by this machine's clock.")
    ] = False,
    name: Name = "default",
    db: Store = None,
    data_dir: DataDir = None,
    json_: Json = False,
) -> None:
    """Rebuild every counter from the journal, and show those that were wrong. Exit code 1 if there was any."""
    with opened(db, data_dir, name) as budget:
        freed = budget.sweep() if sweep else None
        corrections = budget.reconcile()
        if json_:
            from langchain_tokopt.cli.budget_words import correction_json, plain

            counters = [correction_json(one) for one in corrections]
            print_json(plain({"name": budget.name, "freed": freed, "corrections": counters}))
            raise typer.Exit(1 if corrections else 0)
        if freed is not None:
            typer.echo(f"Freed {freed:,} {'reservation' if freed == 1 else 'reservations'} whose lease ran out.")
        if not corrections:
            typer.echo("All counters agree with the journal.")
            return
        from langchain_tokopt.cli.budget_reports import print_corrections

        print_corrections(corrections)
        one = len(corrections) == 1
        typer.echo(f"{len(corrections):,} {'account was' if one else 'accounts were'} wrong, and repaired.")
        raise typer.Exit(1)


app.command("set")(set_)
app.command()(drop)
app.command()(allocate)
