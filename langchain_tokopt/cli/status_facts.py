"""What this installation and a database have: packages, extras, schemas, events, budgets, alerts."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from langchain_tokopt.cli.common import utc
from langchain_tokopt.cli.schemas import schemas

if TYPE_CHECKING:
    from langchain_tokopt.database import Database
    from langchain_tokopt.telemetry.store import EventStore

PACKAGE: Final = "langchain-tokopt"
_PACKAGES: Final = (
    "langchain",
    "langchain-core",
    "langgraph",
    "genai-prices",
    "faiss-cpu",
    "onnxruntime",
    "sentence-transformers",
)
# What developers of this package install.
_NOT_FOR_USERS: Final = frozenset({"test", "compat", "docs", "notebooks", "bench", "lint"})
ALERT_SEVERITIES: Final = ("critical", "warning", "info")
# What is older than a week does not say how the writers are.
_SNAPSHOT_SECONDS: Final = 7 * 86400.0
_NEEDED: Final = re.compile(r"([A-Za-z0-9._-]+).*;\s*.*extra\s*==\s*['\"]([^'\"]+)['\"]")

# --- the installation ------------------------------------------------------------------------------------------------


def installation() -> dict[str, Any]:
    """Versions of what is installed, how tokens are counted, and which extras are complete."""
    from langchain_tokopt import __version__
    from langchain_tokopt.tokens import TokenCounter

    return {
        "version": __version__,
        "python": platform.python_version(),
        "tokens": TokenCounter().source("gpt-4o"),
        **{package: _version(package) or "not installed" for package in _PACKAGES},
        "extras": extras(),
    }


def extras() -> dict[str, bool]:
    """Whether all that each extra for users needs is installed; nothing where the package itself is not."""
    try:
        needed = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    return complete(needed)


def complete(needed: Iterable[str]) -> dict[str, bool]:
    """The same for requirements as a package's metadata has them."""
    wanted: dict[str, list[str]] = {}
    for line in needed:
        found = _NEEDED.fullmatch(line.strip())
        if found is not None and found[2] not in _NOT_FOR_USERS:
            wanted.setdefault(found[2], []).append(found[1])
    return {extra: all(_version(package) for package in packages) for extra, packages in sorted(wanted.items())}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# --- a database ------------------------------------------------------------------------------------------------------


def database_facts(database: Database) -> dict[str, Any]:
    """Its size, and the version of the tables of each component beside the newest one that this package knows."""
    return {"database": database.url, "size_bytes": _size(database), "schemas": schemas(database)}


def _size(database: Database) -> int | None:
    """Bytes: of the file with its log, or of the tables of this package on a server."""
    from sqlalchemy import text

    if database.path is not None:
        files = [database.path.with_name(f"{database.path.name}{end}") for end in ("", "-wal", "-shm")]
        return sum(file.stat().st_size for file in files if file.is_file())
    if database.dialect != "postgresql":
        return None
    query = text(
        "SELECT COALESCE(SUM(pg_total_relation_size(oid)), 0) FROM pg_class "
        r"WHERE relkind = 'r' AND relname LIKE 'tokopt\_%' AND pg_table_is_visible(oid)"
    )
    with database.read() as connection:
        return int(connection.execute(query).scalar() or 0)


# --- events ----------------------------------------------------------------------------------------------------------


def event_facts(store: EventStore) -> dict[str, Any]:
    """How many events there are, of which kinds, from when to when, and up to when only sums are left of them."""
    from sqlalchemy import text

    from langchain_tokopt.telemetry.readings import Readings, Span
    from langchain_tokopt.telemetry.store import TABLE

    query = text(f"SELECT kind, COUNT(*) FROM {TABLE} GROUP BY kind ORDER BY 2 DESC, 1")  # noqa: S608 - a name of ours
    with store.reading() as connection:
        rows = connection.execute(query).all()
        extent = Readings(store).extent(Span())
    return {
        "events": extent.events,
        "events_by_kind": {row[0]: int(row[1]) for row in rows},
        "first": utc(extent.first),
        "last": utc(extent.last),
        "rolled_up_until": utc(extent.rolled),
    }


# --- budgets and alerts ----------------------------------------------------------------------------------------------


def budget_facts(database: Database) -> list[dict[str, Any]]:
    """Each budget that is spent from here: how many limits it has, and which of them are used up."""
    from langchain_tokopt.cli.telemetry_budgets import kept_budgets

    facts: list[dict[str, Any]] = []
    with kept_budgets(database) as budgets:
        for one in budgets.status():
            if "error" in one:
                facts.append({"name": one["name"], "error": one["error"]})
                continue
            nodes = [node for node in one["nodes"] if node["origin"] is not None]
            full = [node["node"] for node in nodes if any(_used_up(node[unit]) for unit in ("usd", "tokens", "calls"))]
            facts.append({"name": one["name"], "limits": len(nodes), "used_up": full})
    return facts


def _used_up(figures: Mapping[str, Any]) -> bool:
    return figures["limit"] is not None and figures["spent"] + figures["held"] >= figures["limit"]


def alert_facts(store: EventStore) -> dict[str, int] | None:
    """How many alerts are open, by severity; `None` where nobody ever looked for any."""
    if "alerts" not in schemas(store.database):
        return None
    from langchain_tokopt.telemetry.alerts import Alerts

    standing = [alert for alert in Alerts(store).active() if alert.state == "open"]
    return {severity: sum(alert.severity == severity for alert in standing) for severity in ALERT_SEVERITIES}


# --- writers ---------------------------------------------------------------------------------------------------------


def snapshot_facts(store: EventStore, *, now: float) -> list[dict[str, Any]]:
    """The last snapshot of each name, with the name, its age in seconds, and what was found."""
    last = {each.name: each for each in store.snapshots(since=now - _SNAPSHOT_SECONDS)}
    return [
        {"name": name, "at": utc(one.at), "age_seconds": max(0.0, now - one.at), "figures": dict(one.figures)}
        for name, one in sorted(last.items())
    ]


def troubles(snapshots: Iterable[Mapping[str, Any]]) -> list[str]:
    """What those who write events said of themselves that is wrong: the snapshots that are named "telemetry"."""
    found = []
    for one in snapshots:
        if one["name"] != "telemetry":
            continue
        dropped, error = (one["figures"].get(name) for name in ("dropped", "last_error"))
        if isinstance(dropped, int) and dropped > 0:
            found.append(f"telemetry: {dropped:,} events were dropped by a process and are in no figures")
        if isinstance(error, str) and error:
            found.append(f"telemetry: {error}")
    return found
