"""Events survive being rows: every kind, every field, and what is unknown stays unknown."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.events import CacheLookup, Decision, Event, Failure, LimitAlert, ModelCall, Reservation, Who
from langchain_tokopt.telemetry.rows import COLUMNS, StoredEvent, to_event, to_row

WHO = Who(tenant="acme", project="p", task="t", agent="a", user="u", thread="th", run="r", node="model")
FULL: list[Event] = [
    ModelCall(
        who=WHO,
        at=12.5,
        request="req",
        model="gpt-4o",
        provider="openai",
        usage={
            "input_tokens": 100,
            "output_tokens": 20,
            "total_tokens": 120,
            "input_token_details": {"cache_read": 64, "cache_creation": 10},
            "output_token_details": {"reasoning": 7},
        },
        usage_source="provider",
        cost_usd=Decimal("0.000123456"),
        repeated_prefix_tokens=80,
        latency_seconds=1.25,
        error="TimeoutError",
        internal=True,
    ),
    CacheLookup(
        who=WHO,
        outcome="semantic",
        similarity=0.97,
        threshold=0.93,
        saved_input_tokens=50,
        saved_output_tokens=5,
        saved_usd=Decimal("0.01"),
        reason="close enough",
        seconds=0.002,
    ),
    Decision(
        mode="shadow",
        part="tools",
        action="applied",
        tokens_before=1000,
        tokens_after=400,
        saved_usd=Decimal("-0.0005"),
        reason="10 of 40 tools",
        detail={"kept": ["a", "b"], "dropped": 30},
        seconds=0.004,
    ),
    Reservation(
        action="refused",
        reservation="res",
        path="acme/p",
        tokens=900,
        usd=Decimal("0.2"),
        reason="over the limit",
        seconds=0.001,
    ),
    Reservation(action="settled", reservation="res", budget="team", path="acme"),
    LimitAlert(
        budget="team",
        path="user=ann",
        per="day",
        unit="usd",
        share=0.8,
        limit=5_000_000_000,
        spent=4_100_000_000,
        hard=False,
        resets_at=1_800_000_000.0,
    ),
    LimitAlert(budget="default", path="global", per="forever", unit="calls", share=1.0, limit=5, spent=5),
    Failure(part="cache", error="StoreError: gone", stage="background"),
]
BARE: list[Event] = [
    ModelCall(),
    CacheLookup(outcome="miss"),
    Decision(part="history", action="skipped"),
    Reservation(action="released"),
    Failure(part="tools", error="x"),
]


@pytest.mark.parametrize("event", [*FULL, *BARE], ids=lambda event: type(event).__name__)
def test_an_event_comes_back_as_it_was(event: Event) -> None:
    row = to_row(event)
    assert list(row) == list(COLUMNS)
    assert to_event(row) == event


@pytest.mark.parametrize("event", BARE, ids=lambda event: type(event).__name__)
def test_what_is_unknown_is_none_and_never_zero(event: Event) -> None:
    numbers = {
        name: value
        for name, value in to_row(event).items()
        if COLUMNS[name] != "TEXT" and name not in ("at", "internal")
    }
    assert set(numbers.values()) == {None}


def test_zero_stays_zero() -> None:
    usage: Any = {
        "input_tokens": 0,
        "output_tokens": 0,
        "total_tokens": 0,
        "input_token_details": {"cache_read": 0, "cache_creation": 0},
        "output_token_details": {"reasoning": 0},
    }
    row = to_row(ModelCall(usage=usage, cost_usd=Decimal(0), repeated_prefix_tokens=0, latency_seconds=0.0))
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    assert [row[name] for name in (*names, "cost_nano", "repeated_prefix_tokens", "latency_seconds")] == [0] * 8


def test_the_columns_of_a_call_hold_what_queries_need() -> None:
    row = to_row(FULL[0])
    found = {
        name: row[name] for name in ("input_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    }
    assert found == {"input_tokens": 100, "cache_read_tokens": 64, "cache_write_tokens": 10, "reasoning_tokens": 7}
    assert (row["cost_nano"], row["user_id"], row["internal"]) == (123456, "u", 1)


def test_tokens_that_anthropic_wrote_by_lifetime_are_cache_writes() -> None:
    details: Any = {
        "cache_read": 5,
        "cache_creation": 0,
        "ephemeral_5m_input_tokens": 30,
        "ephemeral_1h_input_tokens": 2,
    }
    usage: Any = {"input_tokens": 100, "output_tokens": 1, "total_tokens": 101, "input_token_details": details}
    call = ModelCall(usage=usage)
    assert to_row(call)["cache_write_tokens"] == 32
    assert to_event(to_row(call)) == call


def test_saved_tokens_are_ready_for_a_sum() -> None:
    lookup, decision = to_row(FULL[1]), to_row(FULL[2])
    assert (lookup["saved_tokens"], decision["saved_tokens"]) == (55, 600)
    assert to_row(CacheLookup(outcome="exact", saved_output_tokens=4))["saved_tokens"] == 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather(Event):
    degrees: float
    where: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCall(ModelCall):
    verdict: str = "good"


def test_an_event_of_an_unknown_kind_is_kept_with_its_fields() -> None:
    event = Weather(who=WHO, degrees=21.5, where={"lat": Decimal("52.5")})
    row = to_row(event)
    back = to_event(row)
    assert row["kind"] == "Weather"
    assert isinstance(back, StoredEvent)
    assert (back.kind, back.fields) == ("Weather", {"degrees": 21.5, "where": {"lat": "52.5"}})
    assert [getattr(back, each.name) for each in fields(Event)] == [getattr(event, each.name) for each in fields(Event)]


def test_an_event_of_a_subclass_counts_as_its_known_kind() -> None:
    event = JudgedCall(model="m", verdict="bad")
    row = to_row(event)
    assert row["kind"] == "ModelCall"
    assert json.loads(row["detail"])["event"] == {"kind": "JudgedCall", "fields": {"verdict": "bad"}}
    assert to_event(row) == ModelCall(model="m", id=event.id, at=event.at)


@given(st.text())
def test_any_text_can_be_stored_by_any_database(text: str) -> None:
    for value in (
        to_row(Failure(part="p", error=text))["error"],
        to_row(Decision(part="p", action="skipped", detail={"x": text}))["detail"],
    ):
        assert "\0" not in value
        assert value.encode("utf-8").decode("utf-8") == value


def test_text_that_needs_no_change_is_not_changed() -> None:
    assert to_row(Failure(part="p", error="Überlauf: 内存\n"))["error"] == "Überlauf: 内存\n"
    assert to_row(Failure(part="p", error="a\0b\ud800"))["error"] == "a\ufffdb?"


def test_numbers_of_numpy_become_plain_ones() -> None:
    similarity: Any = np.float32(0.5)
    row = to_row(CacheLookup(outcome="miss", similarity=similarity))
    assert type(row["similarity"]) is float
