"""What recommendations are drawn from: exact sums over known events, on every database."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from langchain_tokopt.database import Database
from langchain_tokopt.events import CacheLookup, Decision, Event, ModelCall, Reservation, Who
from langchain_tokopt.telemetry.readings import Span
from langchain_tokopt.telemetry.recommend_evidence import (
    Arm,
    Evidence,
    PartSavings,
    Prompts,
    Repeats,
    Sample,
    Unpriced,
)
from langchain_tokopt.telemetry.recommend_reading import read_evidence
from langchain_tokopt.telemetry.store import EventStore
from tests.databases import KINDS, database_url

NOW = 1_800_000_000.0
USD = Decimal


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    with database_url(request.param, tmp_path) as url:
        database = Database(url)
        yield EventStore(database)
        database.close()


def call(run: str, usd: str | None, *, read: int = 0, agent: str | None = "writer", **fields: Any) -> ModelCall:
    usage: Any = {
        "input_tokens": 1000,
        "output_tokens": 100,
        "total_tokens": 1100,
        "input_token_details": {"cache_read": read},
    }
    settings: Any = {"at": NOW - 60, "model": "big", "provider": "maker", "usage_source": "provider", "usage": usage}
    who = Who(run=run, agent=agent)
    return ModelCall(who=who, cost_usd=None if usd is None else USD(usd), **{**settings, **fields})


def decision(run: str, usd: str | None, *, mode: Any = "optimize", action: Any = "applied", **fields: Any) -> Decision:
    settings: Any = {"at": NOW - 60, "part": "tools", "tokens_before": 90, "tokens_after": 50}
    saved = None if usd is None else USD(usd)
    who = Who(run=run, agent="writer")
    return Decision(who=who, mode=mode, action=action, saved_usd=saved, **{**settings, **fields})


def lookup(request: str, outcome: Any, reason: str | None = None, **fields: Any) -> CacheLookup:
    return CacheLookup(at=NOW - 60, request=request, outcome=outcome, reason=reason, **fields)


def read(store: EventStore, *events: Event, span: Span | None = None, most: int = 1000) -> Evidence:
    store.write(events)
    return read_evidence(store, span or Span(), now=NOW, most=most)


def sample(*usd: str) -> Sample:
    nano = [int(USD(one) * 1_000_000_000) for one in usd]
    return Sample(count=len(nano), total=sum(nano), squares=float(sum(one * one for one in nano)))


def test_nothing_is_no_evidence(store: EventStore) -> None:
    assert read(store) == Evidence()


def test_calls_that_are_alike_stand_together(store: EventStore) -> None:
    found = read(
        store,
        call("a", "0.5", read=400, repeated_prefix_tokens=500),
        call("b", "0.25", read=400, repeated_prefix_tokens=500),
        call("c", None, read=400, repeated_prefix_tokens=500),
        call("d", "9", internal=True),
        ModelCall(at=NOW - 60, model="big", provider="maker", error="Timeout"),
        call("e", "1", at=NOW - 7200),
        span=Span(NOW - 3600),
    )
    alike: Any = {
        "provider": "maker",
        "model": "big",
        "measured": True,
        "input_tokens": 1000,
        "repeated": 500,
        "cache_read": 400,
        "cache_write": 0,
    }
    assert set(found.prompts) == {
        Prompts(**alike, calls=2, output=200, nano=750_000_000),
        Prompts(**alike, calls=1, output=100, nano=None),
    }
    assert found.unpriced == (Unpriced(provider="maker", model="big", calls=1, input_tokens=1000, output_tokens=100),)
    assert (found.calls, found.own_calls, found.own_nano) == (3, 1, 9_000_000_000)
    assert found.outputs == ((100, 3),)
    # From the first event in the span until now.
    assert found.seconds == 60.0


def test_of_very_many_events_the_newest_are_gone_through(store: EventStore) -> None:
    found = read(store, *[call(f"r{n}", "1", at=NOW - 100 + n) for n in range(10)], most=4)
    assert (found.calls, found.since, found.seconds) == (4, NOW - 94, 94.0)
    assert read(store, most=10).since is None


def test_parts_are_summed_for_real_and_in_shadow_mode(store: EventStore) -> None:
    found = read(
        store,
        decision("a", "0.001"),
        decision("b", "-0.003"),
        decision("c", None),
        decision("d", "0.5", action="skipped"),
        decision("e", "0.002", mode="shadow"),
        decision("f", "1", part="budget"),
    )
    assert found.parts == (
        PartSavings(part="tools", shadow=False, applied=3, tokens=120, priced=sample("0.001", "-0.003")),
        PartSavings(part="tools", shadow=True, applied=1, tokens=40, priced=sample("0.002")),
    )


def test_runs_are_told_apart_by_whether_a_part_worked(store: EventStore) -> None:
    found = read(
        store,
        *[decision(run, None) for run in ("on 1", "on 2", "both", "unpriced", "guessed")],
        *[decision(run, None, mode="shadow", action="skipped") for run in ("off 1", "both")],
        # All calls of a run count, and those of the optimiser as well.
        call("on 1", "0.25"),
        call("on 1", "0.25"),
        call("on 1", "0.5", internal=True),
        call("off 1", "2"),
        call("both", "4"),
        call("unpriced", None),
        call("guessed", "7", usage_source="estimate"),
    )
    assert found.part_arms == (
        # What was answered without a call cost nothing.
        Arm(subject="tools", variant="optimize", agent="writer", cost=sample("1", "0")),
        Arm(subject="tools", variant="shadow", agent="writer", cost=sample("2")),
    )


def test_runs_are_told_apart_by_the_model_that_answered(store: EventStore) -> None:
    found = read(
        store,
        call("a", "0.25"),
        call("a", "0.25"),
        call("b", "1"),
        call("c", "0.125", model="small"),
        call("d", "3", agent="reader"),
        call("e", None),
        call("f", "5", usage_source="estimate"),
    )
    assert set(found.model_arms) == {
        Arm(subject="model", variant="maker:big", agent="writer", cost=sample("0.5", "1")),
        Arm(subject="model", variant="maker:small", agent="writer", cost=sample("0.125")),
        Arm(subject="model", variant="maker:big", agent="reader", cost=sample("3")),
    }


def test_prompts_that_were_sent_whole_before_are_counted_by_what_the_cache_said(store: EventStore) -> None:
    again: Any = {"repeated_prefix_tokens": 1000}
    found = read(
        store,
        call("a", "1", request="r1", **again),
        call("b", "2", request="r2", **again),
        call("c", None, request="r3", **again),
        call("d", "4", request="r4", repeated_prefix_tokens=999),
        call("e", "8", request="r5", **again),
        call("f", "16", request="r6", **again),
        lookup("r2", "miss", "nothing stored"),
        lookup("r3", "miss", "nothing stored"),
        # What a cache in shadow mode found is its own to tell.
        lookup("r5", "exact", mode="shadow"),
        lookup("r6", "bypass", "after a tool call"),
    )
    assert set(found.repeats) == {
        Repeats(outcome=None, reason=None, calls=1, priced=1, nano=1_000_000_000),
        Repeats(outcome="miss", reason="nothing stored", calls=2, priced=1, nano=2_000_000_000),
        Repeats(outcome="bypass", reason="after a tool call", calls=1, priced=1, nano=16_000_000_000),
    }


def test_what_was_held_for_answers_is_what_is_beyond_the_input(store: EventStore) -> None:
    def held(request: str, tokens: int, action: Any = "reserved") -> Reservation:
        return Reservation(at=NOW - 60, request=request, action=action, tokens=tokens)

    found = read(
        store,
        *[call(run, "1", request=run) for run in ("r1", "r2", "r3", "r4")],
        held("r1", 5000),
        held("r2", 5000),
        held("r3", 900),  # an estimate of the input that was too low
        held("r4", 7000),
        held("r4", 7000),  # tried twice: nobody knows for which
        held("r5", 8000),
        held("r6", 8000, "refused"),
        Reservation(at=NOW - 60, action="refused", mode="shadow"),
    )
    assert found.reserved_for_output == ((4000, 2),)
    assert found.refused == 1
