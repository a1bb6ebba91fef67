"""Events to show: a day of an agent's work, and strings that mean harm."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from langchain_tokopt.database import Database
from langchain_tokopt.events import CacheLookup, Decision, Event, Failure, ModelCall, Reservation, Who
from langchain_tokopt.telemetry.report import Report
from langchain_tokopt.telemetry.store import EventStore

NOW = 1_800_000_000.0  # a whole hour: 2027-01-15 08:00 UTC
ANN, BOB = Who(user="ann", agent="writer", project="shop"), Who(user="bob", agent="planner", project="shop")

HOSTILE = (
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "<!--<script>",
    "]]>{{data}}{{script}}",
    "' OR 1=1 --\"><b>",
    "javascript:document.title='owned'",
    "\u202egnirts desrever\u202c\u2066x\u2069",
    "bell\x07 escape\x1b[31m nul\x00 feff\ufeff line\u2028par\u2029",
    "__proto__",
    "a" * 10_000,
    "\ud83d alone",
)


def call(at: float, who: Who, tokens: int, usd: str | None, **fields: Any) -> ModelCall:
    usage: Any = {
        "input_tokens": tokens,
        "output_tokens": 10,
        "total_tokens": tokens + 10,
        "input_token_details": {"cache_read": tokens // 2},
    }
    settings: Any = {"model": "gpt-4o", "provider": "openai", "usage_source": "provider", "latency_seconds": 0.5}
    cost = None if usd is None else Decimal(usd)
    return ModelCall(at=at, who=who, usage=usage, cost_usd=cost, **{**settings, **fields})


def day() -> list[Event]:
    """A few requests of every outcome, within the last day before `NOW`."""
    early, late = NOW - 20 * 3600, NOW - 600
    saved: dict[str, Any] = {"saved_input_tokens": 90, "saved_output_tokens": 10, "saved_usd": Decimal("0.5")}
    return [
        CacheLookup(at=early, who=ANN, request="r1", outcome="miss", similarity=0.5, threshold=0.9, seconds=0.002),
        Decision(
            at=early + 1,
            who=ANN,
            request="r1",
            part="tools",
            action="applied",
            tokens_before=400,
            tokens_after=100,
            saved_usd=Decimal("0.000300001"),
            reason="2 of 9 tools fit",
            detail={"kept": ["search", "buy"]},
            seconds=0.004,
        ),
        Decision(
            at=early + 2,
            who=ANN,
            request="r1",
            part="history",
            action="skipped",
            tokens_before=700,
            tokens_after=700,
            reason="it would cost more than it saves",
        ),
        Reservation(at=early + 3, who=ANN, request="r1", action="reserved", tokens=710, usd=Decimal("0.02"), path="a"),
        call(early + 4, ANN, 1000, "0.010000001", request="r1"),
        call(early + 5, ANN, 2000, "0.02", request="r1"),
        call(late, BOB, 300, None, request="r2"),
        call(late + 1, BOB, 400, "0.04", usage_source="estimate", request="r3"),
        call(late + 2, BOB, 50, "0.005", internal=True, request="r3"),
        ModelCall(at=late + 3, who=BOB, model="gpt-4o", provider="openai", error="Timeout", request="r4"),
        CacheLookup(at=late + 4, who=ANN, request="r5", outcome="exact", **saved),
        CacheLookup(at=late + 5, who=BOB, request="r6", outcome="semantic", mode="shadow", **saved),
        Reservation(at=late + 6, who=ANN, request="r7", action="refused", reason="$0.01 left of $5.00 per day"),
        Failure(at=late + 7, who=ANN, request="r5", part="cache", error="StoreError: gone"),
    ]


def many(count: int) -> list[Event]:
    """So many events, spread evenly over a week before `NOW`: lookups and calls of 7 agents and 100 users in turn."""
    found: list[Event] = []
    for n in range(count // 2):
        at = NOW - 7 * 86_400 + (n + 0.5) * 7 * 86_400 / (count // 2)
        who = Who(agent=f"agent {n % 7}", user=f"user {n % 100}", project=f"project {n % 3}")
        found.append(CacheLookup(at=at, who=who, request=f"r{n}", outcome="miss", id=f"l{n}"))
        found.append(call(at + 0.1, who, 1000 + n % 500, f"0.00{n % 9 + 1}", request=f"r{n}", id=f"c{n}"))
    return found


def hostile(text: str, n: int) -> list[Event]:
    """Events with this text in every field that takes text."""
    who = Who(tenant=text, project=text, task=text, agent=text, user=text, thread=text, run=text, node=text)
    named: dict[str, Any] = {"who": who, "request": f"{n} {text}", "at": NOW - 60 - n}
    detail: dict[str, Any] = {text: {text: [text]}}
    return [
        CacheLookup(**named, id=f"1 {n} {text}", outcome="miss", reason=text),
        Decision(**named, id=f"2 {n} {text}", part=text, action="applied", reason=text, detail=detail),
        Reservation(**named, id=f"3 {n} {text}", action="refused", reservation=text, path=text, reason=text),
        call(NOW - 60 - n, who, 5, "0.1", id=f"4 {n} {text}", request=f"{n} {text}", model=text, provider=text),
        Failure(**named, id=f"5 {n} {text}", part=text, error=text),
    ]


def store_of(events: list[Event], url: str | None = None) -> EventStore:
    store = EventStore(Database(url))
    for first in range(0, len(events), 5000):
        store.write(events[first : first + 5000])
    return store


def budgets(name: str = "shop") -> dict[str, Any]:
    """What `Budget.status()` gives of one limit."""
    usd = {"limit": Decimal(5), "spent": Decimal("4.25"), "held": Decimal("0.25"), "left": Decimal("0.5")}
    counted = {"limit": None, "spent": 3, "held": 0, "left": None}
    node = {"node": name, "per": "day", "scope": None, "resets_at": None, "hard": True, "origin": "code", "share": 0.9}
    return {"name": name, "nodes": [{**node, "usd": usd, "tokens": counted, "calls": counted}], "complete": True}


def forecast() -> dict[str, Any]:
    return {"unit": "usd", "limit": 5 * 10**9, "expected": 6 * 10**9, "low": 5 * 10**9, "high": 7 * 10**9} | {
        "coverage": 0.8,
        "runs_out_at": NOW + 3600,
    }


def alert(text: str, **fields: Any) -> Any:
    """What an alert is to the page: something with a mapping of its fields."""
    shown = {"id": text, "rule": text, "subject": text, "severity": "critical", "title": text, "detail": text}
    numbers = {"value": 0.2, "threshold": 0.1, "since": NOW - 600, "cleared_at": None, "acknowledged_by": text}
    return SimpleNamespace(as_json=lambda: {**shown, **numbers, "note": text, **fields})


def report(*said: str) -> Report:
    return Report(findings=said)
