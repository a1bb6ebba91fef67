"""Sums of old events: the same figures as the events gave, to the token and the nano-USD."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from langchain_tokopt.database import Database
from langchain_tokopt.events import CacheLookup, Decision, Event, Failure, LimitAlert, ModelCall, Reservation, Who
from langchain_tokopt.telemetry.readings import Readings, Span
from langchain_tokopt.telemetry.rollups_upkeep import Upkeep
from langchain_tokopt.telemetry.store import EventStore
from tests.databases import KINDS, database_url
from tests.fakes import FakeClock

DAY, HOUR = 86_400, 3_600
START = 1_800_000_000 // DAY * DAY  # midnight
DAYS = 6
NOW = START + DAYS * DAY


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    with database_url(request.param, tmp_path) as url:
        database = Database(url)
        yield EventStore(database)
        database.close()


def upkeep(
    store: EventStore, *, keep_days: float = 1, hourly_days: float = 1000, now: float = NOW, clock: Any = None
) -> Upkeep:
    return Upkeep(store, keep_days=keep_days, hourly_days=hourly_days, clock=clock or FakeClock(now))


def call(at: float, request: str | None, tokens: int = 10, usd: str | None = "0.01", **fields: Any) -> ModelCall:
    usage: Any = {"input_tokens": tokens, "output_tokens": 1, "total_tokens": tokens + 1}
    settings: Any = {"model": "m", "provider": "p", "usage_source": "provider", "usage": usage, **fields}
    return ModelCall(at=at, request=request, cost_usd=None if usd is None else Decimal(usd), **settings)


def some_requests(count: int, seed: int) -> list[Event]:
    """Requests of all shapes over some days: retries by other models, own calls, hours that they stretch over."""
    chance = random.Random(seed)
    events: list[Event] = []
    for n in range(count):
        who = Who(
            project=chance.choice(["shop", None]),
            agent=chance.choice(["writer", "critic"]),
            user=f"u{chance.randrange(4)}",
            thread=f"t{n}",
            run=f"r{n}",
        )
        at = START + chance.random() * DAYS * DAY
        length = chance.choice([0.0, 1.0, 1.0, 4000.0])
        request = f"q{n}"
        mode: Any = chance.choice(["optimize", "optimize", "shadow"])
        for _ in range(chance.randrange(1, 5)):
            moment = at + chance.random() * length
            usage: Any = {
                "input_tokens": chance.randrange(5000),
                "output_tokens": chance.randrange(500),
                "total_tokens": 0,
                "input_token_details": {"cache_read": chance.randrange(100)} if chance.random() < 0.3 else {},
            }
            failed = chance.random() < 0.2
            events.append(
                ModelCall(
                    at=moment,
                    request=request,
                    who=who,
                    model=chance.choice(["big", "small"]),
                    provider="p",
                    usage=None if failed else usage,
                    usage_source=None if failed else chance.choice(["provider", "estimate"]),
                    cost_usd=None if failed or chance.random() < 0.2 else Decimal(chance.randrange(10**9)) / 10**9,
                    latency_seconds=chance.random() * 10 if chance.random() < 0.9 else None,
                    error="Timeout" if failed else None,
                    internal=chance.random() < 0.1,
                )
            )
        outcome: Any = chance.choice(["exact", "semantic", "miss", "bypass"])
        events.append(
            CacheLookup(
                at=at,
                request=request,
                who=who,
                mode=mode,
                outcome=outcome,
                saved_input_tokens=chance.choice([None, 100]),
                saved_usd=chance.choice([None, Decimal("0.000000001")]),
                seconds=chance.random(),
            )
        )
        action: Any = chance.choice(["applied", "skipped"])
        part = chance.choice(["tools", "history", "budget"])
        saved = chance.choice([None, Decimal(chance.randrange(-(10**6), 10**6)) / 10**9])
        settings: Any = {"tokens_before": 100, "tokens_after": chance.choice([None, 40]), "reason": f"because {n}"}
        events.append(
            Decision(
                at=at + 0.5, request=request, who=who, mode=mode, part=part, action=action, saved_usd=saved, **settings
            )
        )
        if chance.random() < 0.3:
            events.append(Reservation(at=at, request=request, who=who, action="refused", tokens=5, mode=mode))
        if chance.random() < 0.2:
            events.append(Failure(at=at + length, request=chance.choice([request, None]), part="cache", error=f"e{n}"))
    events.append(LimitAlert(at=START, budget="b", path="p", per="day", unit="usd", share=0.8, limit=5, spent=4))
    return events


ALL = ("tenant", "project", "task", "agent", "user", "node", "model", "provider", "part")


def figures(readings: Readings, spans: Sequence[Span], everies: Sequence[int | None]) -> list[Any]:
    return [
        (getattr(readings, name)(span, by=by, every=every))
        for name in ("calls", "parts", "lookups", "failures", "reservations")
        for span in spans
        for by in ((), ("model",), ("agent", "part"), ("user", "provider"), ALL)
        for every in everies
    ]


SPANS = [
    Span(),
    Span(START + DAY, START + 4 * DAY),
    Span(START + 2 * DAY, where={"agent": "writer"}),
    Span(until=START + 3 * DAY, where={"project": None, "model": "big"}),
]


@pytest.mark.parametrize("seed", range(3))
def test_sums_give_the_same_figures_as_the_events(store: EventStore, seed: int) -> None:
    store.write(some_requests(150, seed))
    readings = Readings(store)
    hourly = [*SPANS, Span(START + 5 * HOUR, START + 50 * HOUR)]
    before = figures(readings, hourly, (None, HOUR, DAY))
    extent = readings.extent(Span())
    clock = FakeClock(NOW)
    keeping = upkeep(store, keep_days=2, hourly_days=1000, clock=clock)
    assert keeping.all() > 0
    left = len(list(store.events()))
    assert 0 < left < extent.events
    assert figures(readings, hourly, (None, HOUR, DAY)) == before
    assert readings.extent(Span()).events == extent.events

    # Days, hours and events side by side; later only days.
    before_days = figures(readings, SPANS, (None, DAY))
    days = upkeep(store, keep_days=2, hourly_days=3, clock=clock)
    days.all()
    with store.database.read() as connection:
        lengths = connection.execute(text("SELECT DISTINCT seconds FROM tokopt_rollups ORDER BY 1")).scalars().all()
    assert lengths == [HOUR, DAY]
    assert figures(readings, SPANS, (None, DAY)) == before_days
    clock.now = NOW + 20 * DAY
    days.all()
    assert list(store.events()) == []
    assert figures(readings, SPANS, (None, DAY)) == before_days
    assert readings.extent(Span()).events == extent.events
