"""KPIs of known events: exact values, and what is unknown said with the reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import CacheLookup, Decision, Event, Failure, ModelCall, Reservation
from langchain_tokopt.telemetry.kpis import HEADINGS, NAMES, Kpi, as_rows, kpis
from langchain_tokopt.telemetry.measure import measure
from langchain_tokopt.telemetry.readings import Readings
from langchain_tokopt.telemetry.rollups_upkeep import Upkeep
from langchain_tokopt.telemetry.store import EventStore
from tests.databases import KINDS, database_url

NOW = 1_800_000_000.0
HOUR = 3600.0
AUDITS = {"audited_error": 0.02, "audited_error_low": 0.01, "audited_error_high": 0.05, "audits": 40, "max_error": 0.01}


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


def found(store: EventStore, *events: Event, **settings: Any) -> dict[str, Kpi]:
    store.write(events)
    return {kpi.name: kpi for kpi in kpis(Readings(store), now=NOW, **settings)}


def call(ago: float, tokens: int = 100, usd: str | None = "0.01", *, read: int | None = None, **more: Any) -> ModelCall:
    usage: Any = {"input_tokens": tokens, "output_tokens": 10, "total_tokens": tokens + 10}
    if read is not None:
        usage["input_token_details"] = {"cache_read": read}
    cost = None if usd is None else Decimal(usd)
    settings: Any = {"model": "m", "usage": usage, "usage_source": "provider", "cost_usd": cost, **more}
    return ModelCall(at=NOW - ago, **settings)


def failed(ago: float, error: str) -> ModelCall:
    return ModelCall(at=NOW - ago, model="m", error=error)


def look(ago: float, outcome: Any, **more: Any) -> CacheLookup:
    return CacheLookup(at=NOW - ago, outcome=outcome, **more)


def did(ago: float, part: str, before: int | None = None, after: int | None = None, **more: Any) -> Decision:
    settings: Any = {"action": "applied", "tokens_before": before, "tokens_after": after, **more}
    return Decision(at=NOW - ago, part=part, **settings)


EVENTS: list[Event] = [
    call(10, 100, "0.01", read=40, request="r1"),
    call(20, 300, "0.03", read=0, request="r2"),
    call(30, 50, "0.005", internal=True, request="r2"),
    call(40, 400, "0.04", usage_source="estimate", request="r3"),
    failed(50, "Timeout"),
    failed(51, "StreamClosed"),
    failed(52, "CancelledError"),
    look(60, "exact", saved_input_tokens=90, saved_output_tokens=10, saved_usd=Decimal("0.02")),
    look(61, "semantic"),
    look(62, "miss"),
    look(63, "bypass"),
    look(64, "semantic", mode="shadow", saved_usd=Decimal(9), saved_input_tokens=9000),
    did(70, "history", 1000, 400, saved_usd=Decimal("0.05")),
    did(
        71,
        "history",
        1000,
        1600,
        saved_usd=Decimal("-0.01"),
        reason="x; this call only asked for what is shown in part",
    ),
    did(72, "history", 5000, 100, mode="shadow"),
    did(73, "history", 800, None, action="skipped"),
    did(74, "tools", 500, 300, reason="searched"),
    did(75, "tools", 500, 700, reason="searched; this call only searched for tools"),
    did(76, "budget", reason="fallback: small is called instead of big", request="r1"),
    did(77, "budget", reason="fallback: small is called instead of big; it does not fit yet", request="r1"),
    did(78, "budget", reason="clamp: shorter", request="r2"),
    Reservation(at=NOW - 80, action="reserved", seconds=0.25),
    Reservation(at=NOW - 81, action="reserved"),
    Reservation(at=NOW - 82, action="settled"),
    Reservation(at=NOW - 83, action="refused"),
    Reservation(at=NOW - 84, action="refused", mode="shadow"),
    Failure(at=NOW - 90, part="cache", error="StoreError: gone"),
    Failure(at=NOW - 91, part="<b>odd\u202e</b>", error="x"),
]


def test_every_kpi_is_what_the_events_add_up_to(store: EventStore) -> None:
    got = found(store, *EVENTS, audits=lambda: AUDITS)
    assert {name: (kpi.value, kpi.count, kpi.source) for name, kpi in got.items()} == {
        "cost.spend": (Decimal("0.045"), 3, "measured"),
        # 0.02 + 0.05 - 0.01 saved, less 0.005; five times something was done, and one call of its own.
        "cost.saved_net": (Decimal("0.055"), 7, "estimated"),
        "cost.per_answer": (Decimal("0.045") / 4, 4, "measured"),
        # Saved 100 of the cache, 600 - 600 of the history, 200 - 200 of the tools, less 60 of its own call.
        "tokens.reduction": (pytest.approx(40 / (110 + 310 + 60 + 410 + 40)), 6, "estimated"),
        "tokens.compression": (1.0, 2, "estimated"),
        "tokens.provider_cache": (40 / 450, 3, "measured"),
        "cache.hit_rate": (2 / 3, 3, "measured"),
        "cache.audited_error": (0.02, 40, "estimated"),
        "quality.evidence": (0.5, 2, "measured"),
        "quality.tools_found": (0.5, 2, "measured"),
        "quality.fallback_rate": (1 / 6, 6, "measured"),
        "health.added_p95": (0.25, 1, "measured"),
        "health.model_errors": (1 / 5, 5, "measured"),
        "health.refused": (1 / 3, 3, "measured"),
        "health.errors.cache": (1 / 6, 6, "measured"),
        "health.errors.history": (0.0, 4, "measured"),
        "health.errors.tools": (0.0, 2, "measured"),
        "health.errors.<b>odd\u202e</b>": (1.0, 1, "measured"),
    }
    assert {name.rsplit(".", 1)[0] if name.startswith("health.errors") else name for name in got} == set(NAMES)
    assert {kpi.group for kpi in got.values()} == {"cost", "tokens", "cache", "quality", "health"}


def test_kpis_say_the_same_as_the_report(store: EventStore) -> None:
    got = found(store, *EVENTS, call(26 * HOUR))
    report = measure(store, since=NOW - 24 * HOUR, hours=24)
    assert got["cost.spend"].value == report.measured.cost_usd
    assert got["cost.saved_net"].value == report.net_saved_usd
    assert got["cache.hit_rate"].value == report.cache.hit_rate
    assert report.added_seconds is not None
    assert got["health.added_p95"].value == report.added_seconds.p95
    assert got["tokens.provider_cache"].value == (report.measured.cache_read_tokens or 0) / (
        report.measured.input_tokens or 1
    )


def test_rates_have_wilsons_interval(memory: EventStore) -> None:
    got = found(memory, *EVENTS, audits=lambda: AUDITS)
    hit_rate, audited = got["cache.hit_rate"], got["cache.audited_error"]
    assert (hit_rate.low, hit_rate.high) == pytest.approx((0.2077, 0.9385), abs=1e-4)
    assert (audited.low, audited.high) == (0.01, 0.05), "the cache's own"
    for name in ("health.model_errors", "health.refused", "quality.evidence", "quality.fallback_rate"):
        kpi = got[name]
        assert None not in (kpi.low, kpi.value, kpi.high)
        assert kpi.low <= kpi.value <= kpi.high  # type: ignore[operator]
    assert got["cost.spend"].low is None


def test_what_is_left_out_is_said(memory: EventStore) -> None:
    got = found(memory, call(1), call(2, usd=None), call(3, usage_source="estimate"))
    assert got["cost.spend"].value == Decimal("0.01")
    assert got["cost.spend"].note == (
        "without 1 call of 2, whose price is not known; "
        "without 1 call that no provider reported on ($0.01 by our estimate)"
    )
    assert got["cost.per_answer"].value == Decimal("0.01"), "an answer at an unknown price is not one for nothing"
    got = found(memory, did(4, "tools", 10, 5), did(5, "tools", 10, 5, saved_usd=Decimal(1)))
    assert got["cost.saved_net"].value == Decimal(1)
    assert got["cost.saved_net"].note == "without what was saved at an unknown price (1 time)"


def test_where_no_provider_reports_there_are_estimates(memory: EventStore) -> None:
    got = found(memory, call(1, usage_source="estimate"), call(2, usage_source="estimate", internal=True))
    assert (got["cost.spend"].value, got["cost.spend"].source) == (Decimal("0.02"), "estimated")
    assert (got["cost.per_answer"].value, got["cost.per_answer"].source) == (Decimal("0.02"), "estimated")
    assert got["tokens.provider_cache"].reason == "no provider reported what a call used in this window"


def test_nothing_is_known_of_a_window_in_which_nothing_happened(store: EventStore) -> None:
    got = found(store, call(25 * HOUR), call(49 * HOUR))
    assert {name: kpi.value for name, kpi in got.items()} == dict.fromkeys(set(NAMES) - {"health.errors"})
    assert all(kpi.reason and kpi.count == 0 and kpi.ok is None and kpi.trend is None for kpi in got.values())
    assert got["cost.spend"].reason == "no model call was answered in this window"
    assert got["cost.spend"].previous == Decimal("0.01")
    assert got["cost.spend"].shown == "unknown"
    assert got["cache.audited_error"].reason == "the semantic cache was not asked, or does not audit"


@pytest.mark.parametrize(
    ("events", "name", "reason"),
    [
        ([call(1, usd=None)], "cost.spend", "no call has a known price"),
        ([call(1, usd=None)], "cost.per_answer", "no answer has a known price"),
        ([call(1, usd=None, internal=True)], "cost.saved_net", "a call of the optimiser's own has no known price"),
        ([did(1, "tools", 9, 5)], "cost.saved_net", "nothing that was saved has a known price"),
        ([did(1, "tools")], "tokens.reduction", "no part says how many tokens it saved"),
        ([call(1)], "tokens.provider_cache", "no provider said what it read from its cache"),
        ([did(1, "history")], "tokens.compression", "no shortened history was counted"),
        ([look(1, "bypass")], "cache.hit_rate", "no request was looked up in the semantic cache in this window"),
    ],
)
def test_why_a_value_is_not_known(memory: EventStore, events: list[Event], name: str, reason: str) -> None:
    kpi = found(memory, *events)[name]
    assert (kpi.value, kpi.reason) == (None, reason)


def test_a_cache_that_has_not_audited_anything_knows_no_error(memory: EventStore) -> None:
    told = {"audited_error": None, "audited_error_low": None, "audited_error_high": None, "audits": 0}
    kpi = found(memory, audits=lambda: told)["cache.audited_error"]
    assert (kpi.value, kpi.reason) == (None, "no stored answer has been audited yet")
    assert found(memory, audits=lambda: None)["cache.audited_error"].value is None


def test_the_window_before_is_what_a_value_is_compared_with(store: EventStore) -> None:
    now = [look(n, "exact" if n <= 60 else "miss") for n in range(1, 101)]
    before = [look(24 * HOUR + n, "exact" if n <= 20 else "miss") for n in range(1, 101)]
    kpi = found(store, *now, *before)["cache.hit_rate"]
    assert (kpi.value, kpi.previous, kpi.trend, kpi.certain) == (0.6, 0.2, "up", True)
    assert (kpi.since, kpi.until, kpi.hours) == (NOW - 24 * HOUR, NOW, 24)


def test_a_change_that_may_be_chance_is_called_so(memory: EventStore) -> None:
    got = found(memory, look(1, "exact"), look(2, "miss"), look(25 * HOUR, "miss"))
    assert (got["cache.hit_rate"].trend, got["cache.hit_rate"].certain) == ("up", False)


def test_spending_is_compared_hour_by_hour_with_the_day_before(store: EventStore) -> None:
    today = [call(HOUR * n + 1, usd=f"{n + 2}.50", read=10 + n % 3) for n in range(24)]
    yesterday = [call(HOUR * (24 + n) + 1, usd=f"{n + 1}.00", read=60 + n % 3) for n in range(24)]
    got = found(store, *today, *yesterday)
    spend, share = got["cost.spend"], got["tokens.provider_cache"]
    assert (spend.value, spend.previous, spend.trend, spend.certain) == (Decimal(336), Decimal(300), "up", True)
    assert (share.value, share.previous, share.trend, share.certain) == (0.11, 0.61, "down", True)
    assert 0.1 < (share.low or 0) < 0.11 < (share.high or 1) < 0.12
    assert got["cost.per_answer"].value == Decimal(14)
    assert got["cost.per_answer"].trend == "up"
    assert got["cost.per_answer"].certain is False, "what an answer costs varies more than that within a day"


def test_a_total_is_not_compared_with_a_window_that_was_recorded_in_part(memory: EventStore) -> None:
    got = found(memory, call(1), look(1, "exact"), call(30 * HOUR), look(30 * HOUR, "miss"))
    assert (got["cost.spend"].previous, got["cost.spend"].trend, got["cost.spend"].certain) == (None, None, None)
    assert got["cache.hit_rate"].previous == 0.0
    got = found(memory, call(48 * HOUR))
    assert (got["cost.spend"].previous, got["cost.spend"].trend) == (Decimal("0.02"), "down")


def test_what_was_measured_is_not_compared_with_an_estimate(memory: EventStore) -> None:
    got = found(memory, call(1), call(30 * HOUR, usage_source="estimate"), call(48 * HOUR, usage_source="estimate"))
    assert (got["cost.spend"].source, got["cost.spend"].previous) == ("measured", None)
    assert (got["tokens.reduction"].source, got["tokens.reduction"].previous) == ("estimated", 0.0)


def test_what_is_kept_as_sums_only_is_told_apart(store: EventStore) -> None:
    before = found(store, *EVENTS)
    old = [did(40 * HOUR, "history", 100, 10), call(40 * HOUR), look(40 * HOUR, "exact"), failed(40 * HOUR, "Timeout")]
    store.write(old)
    Upkeep(store, keep_days=1, hourly_days=1000, clock=lambda: NOW).all()
    got = found(store)
    for name, kpi in got.items():
        assert (kpi.value, kpi.low, kpi.high, kpi.note) == (
            before[name].value,
            before[name].low,
            before[name].high,
            before[name].note,
        )
    assert got["cache.hit_rate"].previous == 1.0
    assert got["tokens.compression"].previous is None
    whole = found(store, hours=48)
    assert (whole["cost.spend"].value, whole["cache.hit_rate"].value) == (Decimal("0.055"), 3 / 4)
    assert (whole["tokens.compression"].value, whole["health.model_errors"].value) == (1.0, 1 / 5)
    begin = "only of what is kept one by one, from 2027-01-13 17:00 UTC on"
    for name in ("tokens.compression", "quality.evidence", "quality.fallback_rate", "health.model_errors"):
        assert whole[name].note == begin
    gone = {kpi.name: kpi for kpi in kpis(Readings(store), now=NOW - 30 * HOUR)}
    assert gone["quality.evidence"].reason == "of this window only sums are kept, which do not tell"


def test_a_window_ends_before_now_and_begins_at_its_start(memory: EventStore) -> None:
    got = found(memory, look(0, "exact"), look(HOUR, "miss"), look(HOUR + 1, "exact"), look(-5, "exact"), hours=1)
    assert (got["cache.hit_rate"].value, got["cache.hit_rate"].previous) == (0.0, 1.0)


# --- targets ---------------------------------------------------------------------------------------------------------


def test_targets_are_met_or_missed(memory: EventStore) -> None:
    targets = {"cache.hit_rate": 0.7, "health.errors": 0.2, "health.errors.tools": 0.0, "cost.spend": 0.045}
    got = found(memory, *EVENTS, audits=lambda: AUDITS, targets=targets)
    assert {name: (kpi.target, kpi.ok) for name, kpi in got.items() if kpi.target is not None} == {
        "cost.spend": (0.045, True),
        "cost.saved_net": (0.0, True),
        "cache.hit_rate": (0.7, False),
        "cache.audited_error": (0.01, False),
        "quality.evidence": (0.9, False),
        "quality.tools_found": (0.9, False),
        "quality.fallback_rate": (0.1, False),
        "health.added_p95": (0.25, True),
        "health.model_errors": (0.05, False),
        "health.errors.cache": (0.2, True),
        "health.errors.history": (0.2, True),
        "health.errors.tools": (0.0, True),
        "health.errors.<b>odd\u202e</b>": (0.2, False),
    }


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({"cache.hits": 0.2}, "targets='cache.hits' cannot be used: use one of 'cost.spend'"),
        ({"cache.hit_rate.x": 0.2}, "use one of"),
        ({3: 0.2}, "targets=3 cannot be used"),
        ({"cache.hit_rate": 20}, "targets['cache.hit_rate']=20 cannot be used: give a share of 1"),
        ({"cache.hit_rate": True}, "give a finite number"),
        ({"cache.hit_rate": "0.2"}, "give a finite number"),
        ({"cache.hit_rate": float("nan")}, "give a finite number"),
        ({"cost.spend": -1}, "give 0 or more"),
        ([("cache.hit_rate", 0.2)], "map names to numbers"),
    ],
)
def test_targets_that_cannot_be_reached_are_refused(memory: EventStore, targets: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        found(memory, targets=targets)
    assert said in str(raised.value)


@pytest.mark.parametrize("hours", [0, -1, True, "24", float("inf"), float("nan"), None])
def test_a_window_has_a_length(memory: EventStore, hours: Any) -> None:
    with pytest.raises(ConfigurationError, match="hours"):
        found(memory, hours=hours)


@pytest.mark.parametrize("hours", [1e-9, 0.3, 1e9, 1e300])
def test_a_window_may_have_any_length(store: EventStore, hours: float) -> None:
    assert set(found(store, call(1e-7), hours=hours)) >= {"cost.spend"}


def test_a_moment_is_a_number(memory: EventStore) -> None:
    with pytest.raises(ConfigurationError, match="now"):
        kpis(Readings(memory), now=float("nan"))


# --- showing ---------------------------------------------------------------------------------------------------------


def test_a_kpi_is_shown_in_its_unit(memory: EventStore) -> None:
    got = found(memory, *EVENTS, audits=lambda: AUDITS)
    names = ("cost.spend", "cost.saved_net", "tokens.compression", "cache.hit_rate", "health.added_p95")
    assert [got[name].shown for name in names] == ["$0.045", "$0.055", "1.00 x", "66.7%", "250.0 ms"]


def test_kpis_as_json_hold_everything_exactly(memory: EventStore) -> None:
    got = found(memory, *EVENTS)
    for kpi in got.values():
        plain = json.loads(json.dumps(kpi.as_json(), allow_nan=False))
        assert set(plain) == {each.name for each in fields(Kpi)}
        assert plain["trace"]
    assert got["cost.spend"].as_json()["value"] == "0.045"


def test_kpis_as_a_table(memory: EventStore) -> None:
    got = found(memory, look(1, "exact"), look(2, "miss"), look(25 * HOUR, "miss"), targets={"cache.hit_rate": 0.7})
    rows = {row[0]: row for row in as_rows(list(got.values()))}
    assert all(len(row) == len(HEADINGS) for row in rows.values())
    assert rows["Cache hit rate"] == (
        "Cache hit rate",
        "50.0%",
        "9.5% to 90.5%",
        "0.0% (may be chance)",
        "at least 70.0%, missed",
        "2",
        "measured",
    )
    assert rows["Spend"][1] == "unknown: no model call was answered in this window"
