"""`tokopt effectiveness`: what each part is worth."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from rich.console import Group

    from langchain_tokopt.cli.effectiveness_rows import Effects


def effectiveness(
    hours: Hours = 24, watch: Watch = None, db: Db = None, data_dir: DataDir = None, json_: Json = False
) -> None:
    """Show what each part saved, how sure that is, what it cost, how often it failed, and whether it pays.

    Exit code 1 if no part did anything in that time.
    """
    with opened_events(db, data_dir, hours=hours) as store:
        from langchain_tokopt.cli.effectiveness_rows import effects
        from langchain_tokopt.cli.shown import console

        def read() -> Effects:
            return effects(store, span_of(hours))

        def draw() -> Group:
            from langchain_tokopt.cli.effectiveness_tables import judged_parts

            return judged_parts(read(), screen)

        screen = console()
        check_watch(watch, is_terminal=screen.is_terminal, json=json_)
        found = read()
        if json_:
            print_json({"hours": hours, **found.as_json()})
            raise typer.Exit(0 if found.parts else 1)
        if watch is not None:
            from langchain_tokopt.cli.fitted import keep_drawing

            keep_drawing(draw, screen, seconds=watch, sleep=time.sleep)
        elif not found.parts:
            nothing(empty_span(store, hours, "No part did anything"))
        else:
            screen.print(draw())
