"""Single requests: a line for each, the whole story of one, exact figures of known events."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import CacheLookup, Decision, Event, Failure, LimitAlert, ModelCall, Reservation, Who
from langchain_tokopt.telemetry.readings import Place, Readings, Reason, Span, Times
from langchain_tokopt.telemetry.report import Saved
from langchain_tokopt.telemetry.store import EventStore
from tests.databases import KINDS, database_url

NOW = 1_800_000_000.0
ANN, BOB = Who(user="ann", agent="writer"), Who(user="bob", agent="writer")


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    with database_url(request.param, tmp_path) as url:
        database = Database(url)
        yield EventStore(database)
        database.close()


def call(at: float, request: str, tokens: int, usd: str | None, **fields: Any) -> ModelCall:
    usage: Any = {"input_tokens": tokens, "output_tokens": 10, "total_tokens": tokens + 10}
    settings: Any = {"model": "gpt-4o", "provider": "openai", "usage_source": "provider", "usage": usage, **fields}
    return ModelCall(at=NOW + at, request=request, cost_usd=None if usd is None else Decimal(usd), **settings)


STORY: list[Event] = [
    CacheLookup(at=NOW, request="r1", who=ANN, outcome="miss", similarity=0.5, threshold=0.9, seconds=0.25),
    Decision(
        at=NOW + 1,
        request="r1",
        who=ANN,
        part="tools",
        action="applied",
        tokens_before=900,
        tokens_after=500,
        saved_usd=Decimal("0.002"),
        reason="4 of 40 tools",
        detail={"kept": ["a"]},
        seconds=0.5,
    ),
    Decision(at=NOW + 2, request="r1", who=ANN, mode="shadow", part="history", action="applied", tokens_before=1),
    Reservation(at=NOW + 3, request="r1", who=ANN, action="reserved", tokens=600, usd=Decimal("0.5")),
    call(4, "r1", 0, None, usage=None, usage_source=None, error="Timeout", who=ANN),
    call(5, "r1", 450, "0.01", who=ANN, latency_seconds=2.0, model="gpt-4o-mini"),
    call(6, "r1", 30, "0.001", who=ANN, internal=True, latency_seconds=0.5, model="judge"),
    Failure(at=NOW + 7, request="r1", who=ANN, part="cache", error="StoreError: gone"),
]
OTHERS: list[Event] = [
    CacheLookup(at=NOW + 10, request="r2", who=BOB, outcome="exact", saved_usd=Decimal("0.5"), seconds=0.125),
    Reservation(at=NOW + 20, request="r3", who=BOB, action="refused", reason="over the limit"),
    call(30, "r4", 0, None, usage=None, usage_source=None, error="Timeout", who=BOB),
    call(40, "r5", 100, "0.2", who=BOB, usage_source="estimate", latency_seconds=1.0),
    ModelCall(at=NOW + 50, id="alone", request=None, usage_source="provider", who=BOB),
    LimitAlert(at=NOW + 60, request=None, budget="b", path="p", per="day", unit="usd", share=0.8, limit=5, spent=4),
    Decision(at=NOW + 70, request="r6", who=BOB, part="tools", action="skipped", reason="4 of 40 tools"),
]


@pytest.fixture
def readings(store: EventStore) -> Readings:
    store.write([*STORY, *OTHERS])
    return Readings(store)


def test_a_line_has_the_sums_of_all_events_of_the_request(readings: Readings) -> None:
    (line,) = readings.requests(Span(NOW + 7, NOW + 8))
    assert (line.id, line.at, line.until, line.who, line.events) == ("r1", NOW, NOW + 7, ANN, 8)
    assert (line.model, line.provider, line.outcome) == ("gpt-4o-mini", "openai", "answered")
    assert (line.calls, line.own_calls, line.failed_calls, line.failures) == (2, 1, 1, 1)
    assert (line.measured.calls, line.measured.input_tokens, line.measured.cost_usd) == (2, 480, Decimal("0.011"))
    assert line.estimated.calls == 0
    assert line.saved == Saved(applied=1, tokens=400, usd=Decimal("0.002"))
    assert line.saved_in_shadow == Saved(applied=1, unpriced=1)
    assert (line.added_seconds, line.latency_seconds) == (0.75, 2.5)


def test_requests_come_by_what_is_asked_for(readings: Readings) -> None:
    def ids(**settings: Any) -> list[str]:
        return [line.id for line in readings.requests(Span(), **settings)]

    assert ids() == ["r6", "alone", "r5", "r4", "r3", "r2", "r1"]
    assert ids(limit=2) == ["r6", "alone"]
    assert ids(order="oldest", limit=3) == ["r1", "r2", "r3"]
    assert ids(order="dearest") == ["r5", "r1"]
    assert ids(order="slowest") == ["r1", "r5", "r2"]
    assert ids(order="saved") == ["r2", "r1"]
    assert ids(order="tokens") == ["r1", "r5"]
    assert ids(where={"user": "ann"}) == ["r1"]
    assert ids(where={"outcome": "refused"}) == ["r3"]
    assert ids(where={"outcome": "cached"}) == ["r2"]
    assert ids(where={"outcome": "failed"}) == ["r4"]
    assert ids(where={"outcome": "none"}) == ["r6"]
    assert ids(where={"outcome": "answered"}, order="dearest") == ["r5", "r1"]
    assert ids(where={"outcome": "answered", "user": "bob"}) == ["alone", "r5"]


def test_more_requests_than_a_page_come_once_each(store: EventStore) -> None:
    store.write([call(n // 3, f"r{n % 700}", 1, None) for n in range(2100)])
    found = [line.id for line in Readings(store).requests(Span(), limit=1000)]
    assert found == [f"r{n}" for n in reversed(range(700))]


def test_a_story_says_what_each_part_did_and_why(readings: Readings) -> None:
    story = readings.request("r1")
    assert story is not None
    assert [step.event for step in story.steps] == STORY
    assert [(step.after, step.part, step.action, step.mode, step.reason) for step in story.steps] == [
        (0.0, "cache", "miss", "optimize", None),
        (1.0, "tools", "applied", "optimize", "4 of 40 tools"),
        (2.0, "history", "applied", "shadow", None),
        (3.0, "budget", "reserved", "optimize", None),
        (4.0, "model", "failed", "optimize", "Timeout"),
        (5.0, "model", "answered", "optimize", None),
        (6.0, "model", "answered", "optimize", None),
        (7.0, "cache", "failed", "optimize", "StoreError: gone"),
    ]
    assert story.steps[1].figures == {
        "tokens_before": 900,
        "tokens_after": 500,
        "saved_tokens": 400,
        "seconds": 0.5,
        "saved_usd": "0.002",
    }
    assert story.steps[1].detail == {"kept": ["a"]}
    assert (story.came_in, story.went_out, story.went_out_measured) == (900, 450, True)
    assert story.line == readings.requests(Span(where={"user": "ann"}))[0]


def test_a_request_that_there_is_not_is_none(readings: Readings) -> None:
    assert readings.request("nobody") is None
    lone = readings.request("alone")
    assert lone is not None
    assert (lone.line.outcome, lone.came_in, lone.went_out, len(lone.steps)) == ("answered", None, None, 1)


def test_times_are_of_requests_and_of_answered_calls(readings: Readings) -> None:
    times = readings.times(Span())[Place()]
    assert times.added == Times(2, 0.125, 0.75)
    assert times.latency == Times(3, 1.0, 2.0)
    by_part = readings.times(Span(where={"user": "ann"}), by=("part",))
    assert by_part[Place(("tools",))].added == Times(1, 0.5, 0.5)
    assert by_part[Place((None,))].latency == Times(2, 0.5, 2.0)


def test_reasons_come_most_frequent_first(readings: Readings) -> None:
    assert readings.reasons(Span()) == (
        Reason("ModelCall", "model", None, "optimize", "Timeout", 2),
        Reason("Decision", "tools", "applied", "optimize", "4 of 40 tools", 1),
        Reason("Decision", "tools", "skipped", "optimize", "4 of 40 tools", 1),
        Reason("Failure", "cache", None, "optimize", "StoreError: gone", 1),
        Reason("Reservation", "budget", "refused", "optimize", "over the limit", 1),
    )
    assert readings.reasons(Span(), limit=1)[0].count == 2


@pytest.mark.parametrize(
    "wrong",
    [{"limit": 0}, {"limit": True}, {"order": "best"}, {"where": {"colour": "x"}}, {"where": {"outcome": "good"}}],
)
def test_what_cannot_be_asked_of_requests_is_said(readings: Readings, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong)) if "colour" not in str(wrong) else "colour"):
        readings.requests(Span(), **wrong)
