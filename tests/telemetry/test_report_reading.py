"""The whole report: what happened over time, whose it was, what changed, and what is to come."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from langchain_tokopt.budget import Budget, Limit
from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import CacheLookup, Decision, Event, Failure, ModelCall, Reservation, Who
from langchain_tokopt.telemetry.report import Report
from langchain_tokopt.telemetry.report_details import AgentSpend, BudgetLine, Slice, SpanBefore, TokenShares
from langchain_tokopt.telemetry.report_reading import read_report
from langchain_tokopt.telemetry.store import EventStore
from langchain_tokopt.telemetry.telemetry import Telemetry
from tests.databases import KINDS, database_url
from tests.fakes import FakeClock

NOW = 1_800_003_000.0  # ten minutes before a whole hour
HOUR = 1_800_000_000
USD = Decimal


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EventStore]:
    with database_url(request.param, tmp_path) as url:
        database = Database(url)
        yield EventStore(database)
        database.close()


@pytest.fixture
def memory() -> Iterator[EventStore]:
    database = Database()
    yield EventStore(database)
    database.close()


def call(
    at: float, usd: str | None, *, agent: str | None = None, thread: str | None = None, **fields: Any
) -> ModelCall:
    tokens: int = fields.pop("tokens", 1000)
    usage: Any = {"input_tokens": tokens, "output_tokens": 100, "total_tokens": tokens + 100}
    settings: Any = {"model": "m", "provider": "p", "usage_source": "provider", "usage": usage, **fields}
    who = Who(agent=agent, thread=thread)
    return ModelCall(at=at, who=who, cost_usd=None if usd is None else USD(usd), **settings)


def read(store: EventStore, *events: Event, hours: float | None = 24, **settings: Any) -> Report:
    store.write(events)
    return read_report(store, now=NOW, hours=hours, **settings)


# --- over time -------------------------------------------------------------------------------------------------------


def test_the_span_is_shown_in_slices_without_gaps(store: EventStore) -> None:
    saved: Any = {"saved_input_tokens": 1, "saved_usd": USD("0.5")}
    found = read(
        store,
        call(HOUR - 7200, "1"),
        call(HOUR - 7199, "2", usage_source="estimate"),
        call(HOUR, "4"),
        CacheLookup(at=HOUR + 5, outcome="exact", **saved),
        CacheLookup(at=HOUR + 6, outcome="miss"),
        hours=4,
    )
    assert found.slice_seconds == 300
    assert len(found.slices) == (HOUR - (HOUR + 3000 - 4 * 3600)) // 300 + 1
    busy = [one for one in found.slices if one.calls]
    assert busy == [
        Slice(start=HOUR - 7200, calls=2, measured_usd=USD(1), estimated_usd=USD(2)),
        Slice(start=HOUR, calls=1, measured_usd=USD(4), saved_usd=USD("0.5"), hits=1, eligible=2),
    ]
    starts = [one.start for one in found.slices]
    assert starts == list(range(starts[0], HOUR + 1, 300))


@pytest.mark.parametrize(
    ("hours", "seconds"), [(4, 300), (24, 3600), (24 * 7, 21_600), (24 * 60, 86_400), (24 * 365, 604_800)]
)
def test_slices_are_as_long_as_the_span_asks_for(memory: EventStore, hours: float, seconds: int) -> None:
    found = read(memory, call(NOW - 60, "1"), hours=hours)
    assert found.slice_seconds == seconds
    assert len(found.slices) <= 121


def test_one_event_with_a_wrong_clock_does_not_make_millions_of_slices(memory: EventStore) -> None:
    found = read(memory, call(86_400.0, "1"), call(NOW - 60, "1"), hours=None)
    assert [one.calls for one in found.slices] == [1, 1]


def test_what_is_kept_as_sums_by_the_day_is_shown_by_the_day(tmp_path: Path) -> None:
    clock = FakeClock(NOW)
    database = Database(tmp_path / "events.db")
    telemetry = Telemetry(database=database, keep_days=7, hourly_days=14, flush_seconds=3600, clock=clock)
    events = [call(NOW - days * 86_400, "1", agent="writer", model="big", thread="t") for days in range(1, 25)]
    for event in events:
        telemetry.emit(event)
    telemetry.roll_up()
    found = telemetry.report(24 * 30)
    fortnight = telemetry.report(24 * 10)
    telemetry.close()
    database.close()
    assert (found.measured.calls, found.slice_seconds, fortnight.slice_seconds) == (24, 86_400, 21_600)
    assert sum(one.calls for one in found.slices) == 24
    assert found.tokens is not None
    assert found.tokens.since is not None
    # Only what is kept one by one tells where tokens go, and can be replayed.
    assert (found.tokens.input, sum(one.calls for one in found.agents)) == (7000, 24)
    assert found.too_little is not None
    assert "so far there are 7 calls" in found.too_little


# --- whose, what, and what changed -----------------------------------------------------------------------------------


def test_agents_are_told_apart_the_dearest_first(store: EventStore) -> None:
    found = read(
        store,
        call(NOW - 60, "1", agent="writer", request="r1"),
        call(NOW - 60, "1", agent="writer", request="r1"),
        call(NOW - 60, "3", agent="reader", usage_source="estimate"),
        call(NOW - 60, None, agent="local"),
    )
    assert found.agents == (
        AgentSpend(agent="reader", calls=1, requests=1, measured_usd=None, estimated_usd=USD(3)),
        AgentSpend(agent="writer", calls=2, requests=1, measured_usd=USD(2), estimated_usd=None),
        AgentSpend(agent="local", calls=1, requests=1, measured_usd=None, estimated_usd=None, unpriced=1),
    )


def test_agents_without_a_row_of_their_own_are_the_rest_of_the_whole(memory: EventStore) -> None:
    found = read(memory, *[call(NOW - 60, str(n), agent=f"a{n}") for n in range(1, 16)])
    assert (len(found.agents), found.agent_count) == (10, 15)
    assert "| 5 other agents | - | 5 | \\$15.00 | - | 0 |" in found.to_markdown()


def test_the_dearest_agent_and_model_are_named_with_their_share(memory: EventStore) -> None:
    found = read(
        memory,
        call(NOW - 60, "3", agent="writer", model="big"),
        call(NOW - 60, "1", agent="reader", model="small"),
    )
    assert "Of agents, writer cost most: $3.00 measured, 75% of all, in 1 call." in found.findings
    assert "Of models, big cost most: $3.00 measured, 75% of all, in 1 call." in found.findings


def test_where_the_tokens_go_is_told_as_far_as_events_know(store: EventStore) -> None:
    tools: Any = {"at": NOW - 60, "part": "tools", "tokens_before": 400, "tokens_after": 100}
    usage: Any = {
        "input_tokens": 1000,
        "output_tokens": 100,
        "total_tokens": 1100,
        "input_token_details": {"cache_read": 250},
        "output_token_details": {"reasoning": 25},
    }
    found = read(
        store,
        Decision(action="applied", request="r1", **tools),
        Decision(action="applied", request="r2", mode="shadow", **tools),
        Decision(action="skipped", request="r3", **tools),
        call(NOW - 60, "1", request="r1", thread="t", tokens=1000),
        call(NOW - 50, "1", request="r2", thread="t", tokens=1500),
        call(NOW - 40, "1", request="r3", thread="u", tokens=500),
        call(NOW - 30, "1", usage=usage),
        call(NOW - 30, "1", internal=True),
        call(NOW - 30, "1", usage_source="estimate"),
    )
    # Of r1 what was left of them was sent, of the others all.
    assert found.tokens == TokenShares(input=4000, output=400, reasoning=25, cache_read=250, tools=900, grown=500)
    assert (
        "Of the 4,400 tokens of agents' calls 90.9% were input and 9.1% output; of the input, schemas of tools 22% "
        "(our count) and what threads had grown by 12% at least; of the output, reasoning 6.2%." in found.findings
    )


def test_what_changed_against_the_span_before_is_told(store: EventStore) -> None:
    day = 86_400
    lookups = [
        CacheLookup(at=NOW - 60 - back, outcome="exact" if n < hits else "miss", saved_usd=USD(0))
        for back, hits in ((0, 60), (day, 20))
        for n in range(100)
    ]
    found = read(
        store,
        *lookups,
        call(NOW - 60, "3"),
        call(NOW - 60 - day, "2"),
        call(NOW - 60 - day, "0.5", usage_source="estimate", internal=True),
        call(NOW - 60 - 2 * day, "9"),
        ModelCall(at=NOW - day - 60, error="Timeout"),
        Failure(at=NOW - day - 60, part="cache", error="x"),
        Reservation(at=NOW - day - 60, action="refused"),
    )
    assert found.before == SpanBefore(
        calls=2,
        measured_usd=USD(2),
        estimated_usd=USD("0.5"),
        unpriced=0,
        net_saved_usd=USD("-0.5"),
        hits=20,
        eligible=100,
        failed_calls=1,
        refused_calls=1,
        failures=1,
    )
    assert (
        "Against the 24 hours before, measured cost rose by 50%, from $2.00 to $3.00, with 1 instead of 2 calls."
        in (found.findings)
    )
    assert (
        "The cache's hit rate went from 20% to 60%, more than chance would move it (of 100 and 100 requests)."
        in found.findings
    )
    assert "The net saving was $0.00, after -$0.50 in the span before (both estimated)." in found.findings


def test_a_difference_that_may_be_chance_is_called_so(memory: EventStore) -> None:
    lookups = [
        CacheLookup(at=NOW - 60 - back, outcome=outcome) for back in (0, 86_400) for outcome in ("exact", "miss")
    ]
    found = read(memory, *lookups, CacheLookup(at=NOW - 60, outcome="exact"))
    assert (
        "The cache's hit rate went from 50% to 67%, no more than chance would move it (of 2 and 3 requests)."
        in found.findings
    )


def test_without_a_span_before_nothing_is_compared(memory: EventStore) -> None:
    assert read(memory, call(NOW - 60, "1")).before is None
    assert read(memory, call(NOW - 90_000, "1"), hours=None).before is None


@pytest.mark.parametrize("hours", [0, -1, float("nan"), float("inf"), True, "24"])
def test_hours_that_make_no_sense_are_refused(memory: EventStore, hours: Any) -> None:
    with pytest.raises(ConfigurationError, match="hours"):
        read(memory, hours=hours)


# --- budgets ---------------------------------------------------------------------------------------------------------


def node(name: str, spent: str, *, held: str = "0", limit: str | None = "50", **fields: Any) -> dict[str, Any]:
    usd = {"limit": None if limit is None else USD(limit), "spent": USD(spent), "held": USD(held), "left": None}
    none = {"limit": None, "spent": 0, "held": 0, "left": None}
    return {
        "node": name,
        "per": "month",
        "scope": None,
        "resets_at": NOW + 86_400,
        "hard": True,
        "usd": usd,
        "tokens": none,
        "calls": none,
        **fields,
    }


STATUS = {
    "name": "default",
    "nodes": [node("global", "30"), node("team", "44", held="1"), node("free", "9", limit=None)],
}
FORECAST = {
    "expected": 60_000_000_000,
    "low": 55_000_000_000,
    "high": 70_000_000_000,
    "coverage": 0.8,
    "limit": 50_000_000_000,
    "unit": "usd",
    "runs_out_at": NOW + 3600,
}


@pytest.mark.parametrize("given", [STATUS, [STATUS], lambda: STATUS, lambda: [STATUS]])
def test_budgets_are_told_the_fullest_first_with_their_forecasts(memory: EventStore, given: Any) -> None:
    found = read(memory, call(NOW - 60, "1"), budgets=given, forecasts={"team": FORECAST})
    team, all_ = found.budgets
    assert team == BudgetLine(
        budget="default",
        node="team",
        per="month",
        unit="usd",
        limit=USD(50),
        spent=USD(44),
        held=USD(1),
        resets_at=NOW + 86_400,
        expected=USD(60),
        low=USD(55),
        high=USD(70),
        coverage=0.8,
        runs_out_at=NOW + 3600,
    )
    assert (team.share, all_.node, all_.expected) == (0.9, "global", None)
    assert (
        "Budget default: team has spent $44.00 of $50.00 per month, and $1.00 is held for calls under way (90%); "
        "$60.00 is expected by 2027-01-16 08:50 UTC ($55.00 to $70.00 with a chance of 80%); the limit is reached "
        "about 2027-01-15 09:50 UTC." in found.findings
    )
    assert [one.id for one in found.recommendations] == ["raise-limit:default:team:month:usd"]


def test_a_forecast_of_another_limit_is_not_held_against_this_one(memory: EventStore) -> None:
    other = {**FORECAST, "limit": 1}
    tokens = {**FORECAST, "unit": "tokens"}
    for given in (other, tokens, None):
        found = read(memory, budgets=STATUS, forecasts=lambda node, given=given: given)
        assert [line.expected for line in found.budgets] == [None, None]


def test_a_budget_that_cannot_be_read_is_said_and_harms_nothing(memory: EventStore) -> None:
    def broken() -> Any:
        raise RuntimeError("the ledger is locked")

    found = read(memory, call(NOW - 60, "1"), budgets=broken)
    assert found.budget_errors == (("budgets", "RuntimeError: the ledger is locked"),)
    assert "The budget budgets could not be read: RuntimeError: the ledger is locked" in found.findings
    found = read(memory, budgets=[{"name": "a", "error": "gone"}, STATUS])
    assert found.budget_errors == (("a", "gone"),)
    assert len(found.budgets) == 2


def test_forecasts_that_cannot_be_made_leave_the_budgets_standing(memory: EventStore) -> None:
    def broken(node: str) -> Any:
        raise RuntimeError("no history")

    found = read(memory, budgets=STATUS, forecasts=broken)
    assert found.budget_errors == (("forecasts", "RuntimeError: no history"),)
    assert [line.node for line in found.budgets] == ["team", "global"]


def test_only_the_fullest_nodes_are_foretold(memory: EventStore) -> None:
    asked: list[str] = []
    nodes = [node(f"n{n}", str(n)) for n in range(30)]
    read(memory, budgets={"name": "default", "nodes": nodes}, forecasts=asked.append)
    assert asked == [f"n{n}" for n in range(29, 9, -1)]


def test_a_budget_tells_where_it_stands_and_what_is_to_come(memory: EventStore) -> None:
    now = [NOW - 7 * 3600]
    budget = Budget(limits={"team": Limit(calls=10, per="day")}, clock=lambda: now[0])
    for _ in range(6):
        with budget.spend("team"):
            now[0] += 600
    found = read(memory, budgets=budget.status, forecasts=budget.forecast)
    budget.close()
    (line,) = found.budgets
    assert (line.node, line.per, line.unit, line.limit, line.spent, line.share) == ("team", "day", "calls", 10, 6, 0.6)
    assert line.expected is not None
    assert line.expected >= 6
    assert line.rough
    assert any(finding.endswith("; a guess, from hardly any history.") for finding in found.findings)


def test_budgets_are_told_without_any_event(memory: EventStore) -> None:
    found = read(memory, budgets=STATUS)
    assert found.findings[0] == "Nothing has been recorded in the last 24 hours."
    assert found.findings[1].startswith("Budget default: team has spent $44.00 of $50.00 per month")
    assert found.too_little is None
