"""Figures by whatever they are told apart, exact sums of known events."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import CacheLookup, Decision, Event, Failure, ModelCall, Reservation, Who
from langchain_tokopt.telemetry.readings import Place, Readings, Span
from langchain_tokopt.telemetry.report import CacheReport, Saved
from langchain_tokopt.telemetry.store import EventStore
from tests.databases import KINDS, database_url

HOUR = 1_800_000_000  # a whole hour
ANN, BOB = Who(user="ann", agent="writer"), Who(user="bob", agent="writer")


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    with database_url(request.param, tmp_path) as url:
        database = Database(url)
        yield EventStore(database)
        database.close()


def call(at: float, who: Who, tokens: int, usd: str | None, *, source: Any = "provider", **fields: Any) -> ModelCall:
    usage: Any = {"input_tokens": tokens, "output_tokens": 10, "total_tokens": tokens + 10}
    cost = None if usd is None else Decimal(usd)
    settings: Any = {"model": "gpt-4o", "provider": "openai", "usage_source": source, **fields}
    return ModelCall(at=at, who=who, usage=usage, cost_usd=cost, **settings)


EVENTS: list[Event] = [
    call(HOUR, ANN, 100, "0.01", request="r1"),
    call(HOUR + 10, ANN, 200, "0.02", request="r1"),
    call(HOUR + 20, BOB, 300, None, request="r2"),
    call(HOUR + 3600, BOB, 400, "0.04", source="estimate", request="r3"),
    call(HOUR + 3601, BOB, 50, "0.005", internal=True, request="r3"),
    ModelCall(at=HOUR + 3602, who=BOB, model="gpt-4o", provider="openai", error="Timeout", request="r4"),
    CacheLookup(
        at=HOUR, who=ANN, outcome="exact", saved_input_tokens=90, saved_output_tokens=10, saved_usd=Decimal("0.5")
    ),
    CacheLookup(at=HOUR + 1, who=ANN, outcome="miss"),
    CacheLookup(at=HOUR + 2, who=BOB, outcome="semantic", mode="shadow"),
    Decision(at=HOUR + 3, who=ANN, part="tools", action="applied", tokens_before=90, tokens_after=50),
    Decision(at=HOUR + 4, who=ANN, part="tools", action="skipped", reason="nothing to do"),
    Decision(at=HOUR + 4, who=ANN, part="budget", action="applied", tokens_before=90, tokens_after=50),
    Reservation(at=HOUR + 5, who=ANN, action="refused"),
    Reservation(at=HOUR + 5, who=ANN, action="refused", mode="shadow"),
    Failure(at=HOUR + 6, part="cache", error="StoreError: gone"),
]


@pytest.fixture
def readings(store: EventStore) -> Readings:
    store.write(EVENTS)
    return Readings(store)


def test_calls_are_told_apart_by_who_made_them(readings: Readings) -> None:
    found = readings.calls(Span(), by=("user",))
    ann, bob = found[Place(("ann",))], found[Place(("bob",))]
    assert (ann.measured.calls, ann.measured.input_tokens, ann.measured.cost_usd) == (2, 300, Decimal("0.03"))
    assert (ann.requests, ann.failed, ann.measured.unpriced) == (1, 0, 0)
    assert (bob.measured.calls, bob.measured.cost_usd, bob.measured.unpriced) == (2, Decimal("0.005"), 1)
    assert (bob.estimated.calls, bob.estimated.cost_usd) == (1, Decimal("0.04"))
    assert (bob.own_measured.calls, bob.own_measured.cost_usd) == (1, Decimal("0.005"))
    assert (bob.failed, bob.requests) == (1, 3)


def test_calls_are_told_apart_by_hour(readings: Readings) -> None:
    found = readings.calls(Span(), every=3600)
    assert {place.start: figures.measured.input_tokens for place, figures in found.items()} == {
        HOUR: 600,
        HOUR + 3600: 50,
    }
    assert {place.key for place in found} == {()}


def test_a_span_is_from_its_start_up_to_its_end(readings: Readings) -> None:
    found = readings.calls(Span(HOUR + 10, HOUR + 3600))
    assert found[Place()].measured.input_tokens == 500
    assert readings.calls(Span(HOUR + 9_999)) == {}
    assert readings.calls(Span(where={"user": "ann"}))[Place()].measured.calls == 2
    assert readings.failures(Span(where={"user": None}), by=("part",)) == {Place(("cache",)): 1}


def test_parts_lookups_and_reservations(readings: Readings) -> None:
    parts = readings.parts(Span(), by=("part",))
    assert parts[Place(("tools",))].real == Saved(applied=1, tokens=40, usd=None, unpriced=1)
    assert parts[Place(("tools",))].skipped == 1
    assert parts[Place(("cache",))].real == Saved(applied=1, tokens=100, usd=Decimal("0.5"))
    assert parts[Place(("cache",))].shadow.applied == 1
    assert Place(("budget",)) not in parts
    looks = readings.lookups(Span())[Place()]
    assert (looks.real, looks.shadow) == (CacheReport(exact=1, misses=1), CacheReport(semantic=1))
    assert readings.reservations(Span(), by=("agent",)) == {Place(("writer",)): {"refused": 1, "shadow refused": 1}}


@pytest.mark.parametrize("wrong", [{"by": ("colour",)}, {"every": 0}, {"every": 1.5}])
def test_what_cannot_be_asked_is_said(readings: Readings, wrong: Any) -> None:
    with pytest.raises(ConfigurationError):
        readings.calls(Span(), **wrong)
