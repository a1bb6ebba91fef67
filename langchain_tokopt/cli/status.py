"""`tokopt status`: what this installation has, and how a database stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from langchain_tokopt.cli.common import DataDir, Db, clear_errors, print_json
from langchain_tokopt.cli.telemetry_options import Json, has_events, now, opened_database
from langchain_tokopt.errors import StoreError

if TYPE_CHECKING:
    from langchain_tokopt.database import Database


def status(db: Db = None, data_dir: DataDir = None, json_: Json = False) -> None:
    """Show what this installation has: embeddings, token counting, prices, and a database if one is named.

    Exit code 1 if something is wrong with what the database holds, such as that a newer version has written it.
    """
    with clear_errors():
        from langchain_tokopt.cli.status_facts import installation

        found = installation()
        problems: list[str] = []
        if db is not None or data_dir is not None:
            found |= _of_database(db, data_dir, problems)
        if json_:
            print_json(found)
        else:
            from langchain_tokopt.cli.status_tables import print_status

            print_status(found)
        raise typer.Exit(1 if problems else 0)


def _of_database(db: str | None, data_dir: Path | None, problems: list[str]) -> dict[str, Any]:
    from langchain_tokopt.cli.schemas import too_new
    from langchain_tokopt.cli.status_facts import database_facts

    with opened_database(db, data_dir) as database:
        found = database_facts(database)
        newer = too_new(found["schemas"])
        problems += [
            f"the tables of {name!r} have version {found['schemas'][name]['version']}, and this package knows "
            f"versions up to {found['schemas'][name]['known']}: upgrade it (pip install -U langchain-tokopt)"
            for name in newer
        ]
        if "telemetry" not in newer:
            found |= _of_events(database, problems)
        if "budget" not in newer:
            from langchain_tokopt.cli.status_facts import budget_facts

            found["budgets"] = budget_facts(database)
            problems += [f"budget {one['name']!r}: {one['error']}" for one in found["budgets"] if "error" in one]
    return {**found, "problems": problems}


def _of_events(database: Database, problems: list[str]) -> dict[str, Any]:
    from langchain_tokopt.cli import status_facts as facts

    if not has_events(database):
        return {"events": 0, "events_by_kind": {}, "first": None, "last": None, "rolled_up_until": None}
    from langchain_tokopt.telemetry.store import EventStore

    store = EventStore(database)
    found = facts.event_facts(store)
    found["snapshots"] = facts.snapshot_facts(store, now=now())
    problems += facts.troubles(found["snapshots"])
    try:
        found["alerts"] = facts.alert_facts(store)
    except StoreError as error:
        problems.append(f"alerts: {error}")
    return found
