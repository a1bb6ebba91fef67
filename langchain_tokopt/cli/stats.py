"""`tokopt stats`: how things stand, in a few figures."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_tokopt.cli.common import DataDir, Db, nothing, print_json, utc
from langchain_tokopt.cli.telemetry_options import (
    Hours,
    Json,
    Watch,
    check_watch,
    empty_span,
    now,
    opened_events,
)
from langchain_tokopt.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Group

    from langchain_tokopt.telemetry.kpis import Kpi
    from langchain_tokopt.telemetry.store import EventStore


def stats(
    hours: Hours = 24,
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 if a target is missed.")] = False,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", help='Another target: "cache.hit_rate=0.2"; may be repeated.'),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say of each figure what it is, and where it is from.")
    ] = False,
    watch: Watch = None,
    db: Db = None,
    data_dir: DataDir = None,
    json_: Json = False,
) -> None:
    """Show what was spent and saved, and how tokens, cache, quality and health stand.

    Exit code 1 if nothing was recorded in that time, and with --check if a target is missed.
    """
    with opened_events(db, data_dir, hours=hours) as store:
        from langchain_tokopt.cli.shown import console

        goals = _targets(target)

        def read() -> tuple[Kpi, ...]:
            return _read(store, hours, goals)

        def draw() -> Group:
            from langchain_tokopt.cli.stats_tables import standing

            return standing(read(), screen, explained=explain)

        screen = console()
        check_watch(watch, is_terminal=screen.is_terminal, json=json_)
        if check and watch is not None:
            raise ConfigurationError("--check", True, "it ends with an exit code, and --watch does not end: use one")
        found = read()
        missed = [kpi.name for kpi in found if kpi.ok is False]
        some = any(kpi.count for kpi in found)
        code = 1 if not some or (check and missed) else 0
        if json_:
            window = {"since": utc(found[0].since), "until": utc(found[0].until)} if found else {}
            told = [kpi.as_json() for kpi in found]
            print_json({"hours": hours, **window, "missed": missed, "kpis": told})
        elif watch is not None:
            from langchain_tokopt.cli.fitted import keep_drawing

            keep_drawing(draw, screen, seconds=watch, sleep=time.sleep)
            code = 0
        elif not some:
            nothing(empty_span(store, hours))
        else:
            screen.print(draw())
        raise typer.Exit(code)


def _read(store: EventStore, hours: float, targets: Mapping[str, float]) -> tuple[Kpi, ...]:
    from langchain_tokopt.cli.telemetry_views import audits_of
    from langchain_tokopt.telemetry.kpis import kpis
    from langchain_tokopt.telemetry.readings import Readings

    with store.reading():
        return kpis(Readings(store), now=now(), hours=hours, targets=targets, audits=lambda: audits_of(store))


def _targets(given: Sequence[str] | None) -> dict[str, float]:
    from langchain_tokopt.telemetry.kpis import read_targets

    goals: dict[str, float] = {}
    for text in given or ():
        name, _, number = text.partition("=")
        try:
            goals |= read_targets({name.strip(): float(number)})
        except ConfigurationError as error:
            raise ConfigurationError("--target", text, error.remedy) from None
        except ValueError:
            remedy = 'name a figure and a number, such as "cache.hit_rate=0.2"'
            raise ConfigurationError("--target", text, remedy) from None
    return goals
