"""The versions of the tables in a database, beside those that this package knows."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from langchain_tokopt.database import Database

# Where the steps are that make the tables of each component: their number is the newest version.
SCHEMAS: Final[Mapping[str, tuple[str, str]]] = {
    "telemetry": ("langchain_tokopt.telemetry.store", "STEPS"),
    "alerts": ("langchain_tokopt.telemetry.alerts.table", "STEPS"),
    "budget": ("langchain_tokopt.budget.ledgers.sql_reading", "STEPS"),
    "cache": ("langchain_tokopt.cache.entries", "STEPS"),
    "cache_decision": ("langchain_tokopt.cache.decision.record", "_STEPS"),
    "cache_eviction": ("langchain_tokopt.cache.eviction.rows", "_STEPS"),
    "cache_prediction": ("langchain_tokopt.cache.prediction_store", "_STEPS"),
    "cache_turned_down": ("langchain_tokopt.cache.turned_down", "_STEPS"),
    "context_summaries": ("langchain_tokopt.context.memory.summary_rows", "STEPS"),
    "context_threads": ("langchain_tokopt.context.habit_rows", "STEPS"),
    "tools": ("langchain_tokopt.tools.store", "STEPS"),
}


def schemas(database: Database) -> dict[str, dict[str, int | None]]:
    """By component: the `version` of its tables, and the newest one that this package has `known`."""
    from sqlalchemy import inspect, text

    with database.read() as connection:
        if not inspect(connection).has_table("tokopt_schema"):
            return {}
        rows = connection.execute(text("SELECT component, version FROM tokopt_schema ORDER BY component")).all()
    return {component: {"version": int(version), "known": _known(component)} for component, version in rows}


def too_new(found: Mapping[str, Mapping[str, int | None]]) -> list[str]:
    """The components whose tables a newer version of this package has made."""
    return [
        component
        for component, each in found.items()
        if each["known"] is not None and (each["version"] or 0) > each["known"]
    ]


def _known(component: str) -> int | None:
    place = SCHEMAS.get(component)
    return None if place is None else len(getattr(import_module(place[0]), place[1]))
