"""A budget whose use is what a test says, and alerts that look at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_tokopt.database import Database
from langchain_tokopt.telemetry.alerts import AlertRule, Alerts, Notice
from langchain_tokopt.telemetry.store import EventStore

USE = AlertRule(name="use", metric="budget.use", above=0.8, clear_at=0.7)
SUBJECT = "default: global per day"


class Budget:
    """Gives what `Budget.status()` gives."""

    def __init__(self, share: float | None = 0.0, *, name: str = "default", node: str = "global") -> None:
        self.shares: dict[str, float | None] = {node: share}
        self.name = name
        self.complete = True

    def set(self, share: float | None, node: str = "global") -> None:
        self.shares[node] = share

    def __call__(self) -> dict[str, Any]:
        nodes = [
            {"node": node, "per": "day", "scope": None, "share": share, "resets_at": 1.0}
            for node, share in self.shares.items()
        ]
        return {"name": self.name, "nodes": nodes, "complete": self.complete}


class Ear:
    """A channel that keeps what it is told."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    def tell(self, notice: Notice) -> None:
        self.notices.append(notice)

    @property
    def heard(self) -> list[tuple[str, str]]:
        return [(notice.change, notice.alert.subject) for notice in self.notices]

    @property
    def changes(self) -> list[str]:
        return [notice.change for notice in self.notices]


def watching(
    store: EventStore, budget: Budget, clock: Callable[[], float], *rules: AlertRule, **settings: Any
) -> Alerts:
    return Alerts(store, rules=rules or (USE,), budgets=budget, clock=clock, **settings)


def look_often(url: str, start: Any, told: Any, turns: int) -> None:
    """What one process does: each turn all look together, at a use that rises and falls."""
    database, ear, budget, now = Database(url), Ear(), Budget(), [1_800_000_000.0]
    alerts = watching(EventStore(database), budget, lambda: now[0], channels=[ear])
    for turn in range(turns):
        budget.set(0.1 if turn % 2 else 0.9)
        now[0] += 10
        start.wait()
        alerts.check()
    told.put(ear.heard)
    database.close()
