"""Sums of old events: the same figures as the events gave, to the token and the nano-USD."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from langchain_tokopt.database import Database
from langchain_tokopt.events import CacheLookup, Decision, Event, Failure, LimitAlert, ModelCall, Reservation, Who
from langchain_tokopt.telemetry.readings import Place, Readings, RolledUpError, Span
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
        for by in ((), ("agent", "part"), ALL)
        for every in everies
    ]


SPANS = [
    Span(),
    Span(START + DAY, START + 4 * DAY),
    Span(START + 2 * DAY, where={"agent": "writer"}),
    Span(until=START + 3 * DAY, where={"project": None, "model": "big"}),
]


def test_sums_give_the_same_figures_as_the_events(store: EventStore) -> None:
    store.write(some_requests(100, seed=0))
    readings = Readings(store)
    hourly = [*SPANS, Span(START + 5 * HOUR, START + 50 * HOUR)]
    before = figures(readings, hourly, (None, HOUR))
    extent = readings.extent(Span())
    clock = FakeClock(NOW)
    keeping = upkeep(store, keep_days=2, hourly_days=1000, clock=clock)
    assert keeping.all() > 0
    left = len(list(store.events()))
    assert 0 < left < extent.events
    assert figures(readings, hourly, (None, HOUR)) == before
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


def test_a_request_counts_once_whatever_its_calls_have_in_common(store: EventStore) -> None:
    late, ann, bob = START + 3599.5, Who(agent="ann"), Who(agent="bob")
    store.write(
        [
            call(START, "retried", model="big", error="Timeout", usage=None, usage_source=None),
            call(START + 1, "retried", model="small"),
            call(late, "long"),
            call(late + 1, "long"),
            call(START + 5, "two", who=ann),
            call(START + 6, "two", who=bob),
            call(START + 7, "two", internal=True, who=bob),
            call(START + 8, None, who=bob),
        ]
    )
    readings = Readings(store)

    def requests(**asked: Any) -> dict[Any, int]:
        span = asked.pop("span", Span())
        found = readings.calls(span, **asked)
        return {(*place.key, place.start): each.requests for place, each in found.items()}

    wanted: list[tuple[dict[str, Any], dict[Any, int]]] = [
        ({}, {(None,): 4}),
        ({"by": ("model",)}, {("big", None): 1, ("small", None): 1, ("m", None): 3}),
        ({"by": ("agent",)}, {(None, None): 2, ("ann", None): 1, ("bob", None): 2}),
        ({"every": HOUR}, {(START,): 4, (START + HOUR,): 1}),
        ({"span": Span(START + HOUR)}, {(None,): 1}),
        ({"span": Span(where={"agent": "bob"})}, {(None,): 2}),
    ]
    for asked, answer in wanted:
        assert requests(**asked) == answer
    assert upkeep(store).all() == 8
    for asked, answer in wanted:
        assert requests(**asked) == answer
    upkeep(store, hourly_days=1).all()
    assert requests() == {(None,): 4}
    assert requests(every=DAY) == {(START,): 4}
    with store.database.read() as connection:  # its hours have become one day, and its places one
        assert connection.execute(text("SELECT COUNT(*) FROM tokopt_rollup_shared")).scalar() == 2


def test_times_stay_known_within_five_percent(store: EventStore) -> None:
    chance = random.Random(4)
    events: list[Event] = []
    for n in range(300):
        for part in ("tools", "history"):
            seconds = chance.lognormvariate(-3, 1)
            events.append(Decision(at=START + n, request=f"r{n}", part=part, action="applied", seconds=seconds))
        events.append(call(START + n, f"r{n}", latency_seconds=chance.lognormvariate(1, 1)))
    store.write(events)
    readings = Readings(store)
    asked: list[dict[str, Any]] = [{}, {"by": ("part",)}, {"by": ("model",)}, {"every": HOUR}]
    before = [readings.times(Span(), **each) for each in asked]
    upkeep(store).all()
    for each, exact in zip(asked, before, strict=True):
        rolled = readings.times(Span(), **each)
        assert rolled.keys() == exact.keys()
        for place, figures in exact.items():
            for name in ("added", "latency"):
                was, now = getattr(figures, name), getattr(rolled[place], name)
                if was is None:
                    assert now is None
                    continue
                assert (was.error, now.error, now.count) == (0.0, 0.05, was.count)
                assert now.p50 == pytest.approx(was.p50, rel=now.error)
                assert now.p95 == pytest.approx(was.p95, rel=now.error)
    store.write([call(NOW, "new", latency_seconds=1e-9)])
    both = readings.times(Span())[Place()].latency
    assert both is not None
    assert both.count == 301


def test_what_sums_do_not_know_is_refused_and_said(store: EventStore) -> None:
    store.write([call(START + 10, "old", who=Who(thread="a")), call(NOW - 10, "new", who=Who(thread="b"))])
    readings = Readings(store)
    upkeep(store).all()
    for by in (("thread",), ("agent", "run")):
        with pytest.raises(RolledUpError, match="kept as sums only") as caught:
            readings.calls(Span(), by=by)
        assert caught.value.since == START + HOUR
    with pytest.raises(RolledUpError):
        readings.times(Span(where={"run": None}))
    assert readings.singles(Span()) == Span(START + HOUR)
    assert readings.singles(Span(NOW - 100, NOW)) == Span(NOW - 100, NOW)
    assert readings.calls(readings.singles(Span()), by=("thread",)).keys() == {Place(("b",))}
    assert [line.id for line in readings.requests(Span())] == ["new"]
    assert readings.request("old") is None


def test_a_sum_belongs_to_the_span_that_its_hour_begins_in(store: EventStore) -> None:
    store.write([call(START + HOUR + 10, "a", 100), call(START + HOUR + 1000, "b", 10)])
    readings = Readings(store)
    cut = START + HOUR + 500
    assert (readings.precision(Span(cut)), readings.precision(Span(START, NOW))) == (0, 0)
    upkeep(store).all()

    def tokens(span: Span) -> int | None:
        found = readings.calls(span).get(Place())
        return None if found is None else found.measured.input_tokens

    assert (tokens(Span(START, cut)), tokens(Span(cut, NOW))) == (110, None)
    assert (readings.precision(Span(cut)), readings.precision(Span(None, cut))) == (HOUR, HOUR)
    assert readings.precision(Span(START + HOUR, START + 2 * HOUR)) == 0
    upkeep(store, hourly_days=1).all()
    assert (tokens(Span(START, cut)), readings.precision(Span(cut))) == (110, DAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Event):
    """An event of an application's own, whatever it is called."""


def test_events_of_any_name_are_only_counted(store: EventStore) -> None:
    store.write([Request(at=START, request="a"), call(START, "a")])
    readings = Readings(store)
    upkeep(store).all()
    assert readings.extent(Span()).events == 2
    assert readings.calls(Span())[Place()].requests == 1


def test_what_nobody_knew_stays_unknown(store: EventStore) -> None:
    store.write([call(START, "a", usd=None, usage=None), Decision(at=START, part="tools", action="applied")])
    upkeep(store).all()
    readings = Readings(store)
    usage = readings.calls(Span())[Place()].measured
    assert (usage.calls, usage.input_tokens, usage.cost_usd, usage.unpriced) == (1, None, None, 1)
    saved = readings.parts(Span())[Place()].real
    assert (saved.applied, saved.tokens, saved.usd, saved.unpriced) == (1, None, None, 1)
