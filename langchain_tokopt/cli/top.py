"""`tokopt top`: where the money and the tokens go."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_tokopt.cli.common import DataDir, Db, nothing, print_json
from langchain_tokopt.cli.telemetry_options import (
    Hours,
    Json,
    Watch,
    check_watch,
    empty_span,
    opened_events,
    span_of,
)
from langchain_tokopt.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Group

    from langchain_tokopt.cli.top_rows import Ranking


class SortName(str, Enum):
    """What comes first."""

    cost = "cost"
    tokens = "tokens"
    calls = "calls"
    saved = "saved"


def top(
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="agent|model|user|...",
            help="What to tell apart: agent, model, user, project, task, thread, run, node, tenant, provider, part; "
            'or several, such as "agent,model".',
        ),
    ] = "agent",
    hours: Hours = 24,
    limit: Annotated[int, typer.Option("--limit", help="The first so many; the others are added up.", min=1)] = 10,
    sort: Annotated[
        SortName | None,
        typer.Option("--sort", help="What comes first: cost, if not said; of parts: saved.", show_default=False),
    ] = None,
    watch: Watch = None,
    db: Db = None,
    data_dir: DataDir = None,
    json_: Json = False,
) -> None:
    """Show who or what spends most. What was measured and what is estimated stand apart.

    Exit code 1 if nothing was recorded in that time.
    """
    with opened_events(db, data_dir, hours=hours) as store:
        from langchain_tokopt.cli.shown import console
        from langchain_tokopt.cli.top_rows import dimensions, ranking

        names = dimensions(by)
        order = sort.value if sort is not None else "saved" if "part" in names else "cost"
        if "part" in names and order == "cost":
            remedy = "no event says what the calls for one part cost; use saved, tokens or calls"
            raise ConfigurationError("--sort", order, remedy)
        if order == "saved" and (known := [name for name in names if name in ("model", "provider")]):
            remedy = f"no event says at which {known[0]} something was saved; use cost, tokens or calls"
            raise ConfigurationError("--sort", order, remedy)

        def read() -> Ranking:
            return ranking(store, by=names, span=span_of(hours), sort=order, limit=limit)

        def draw() -> Group:
            from langchain_tokopt.cli.top_tables import ranked

            return ranked(read(), screen)

        screen = console()
        check_watch(watch, is_terminal=screen.is_terminal, json=json_)
        found = read()
        if json_:
            print_json({"hours": hours, **found.as_json()})
            raise typer.Exit(0 if found.rows else 1)
        if watch is not None:
            import time

            from langchain_tokopt.cli.fitted import keep_drawing

            keep_drawing(draw, screen, seconds=watch, sleep=time.sleep)
        elif not found.rows:
            nothing(empty_span(store, hours))
        else:
            screen.print(draw())
