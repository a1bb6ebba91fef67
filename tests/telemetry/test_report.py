"""What a report says: exact figures from known events, measured apart from estimated, unknown never as zero."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from langchain_tokopt.database import Database
from langchain_tokopt.errors import StoreError
from langchain_tokopt.events import CacheLookup, Decision, Event, Failure, ModelCall, Reservation
from langchain_tokopt.pricing import Rates
from langchain_tokopt.telemetry import (
    CacheReport,
    FailureReport,
    ModelUsage,
    PartReport,
    Percentiles,
    Report,
    Repriced,
    Saved,
    Telemetry,
    Usage,
)
from tests.databases import KINDS, database_url
from tests.fakes import FakeClock

NOW = 1_800_000_000.0
TOO_LITTLE = (
    "Recommendations about money need at least 30 model calls of agents, or as many times that a part worked; so far "
    "there {}."
)
USD = Decimal


def call(
    input_tokens: int,
    output_tokens: int,
    usd: str | None,
    *,
    source: str = "provider",
    read: int | None = None,
    model: str = "gpt-4o",
    **fields: Any,
) -> ModelCall:
    usage: Any = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }
    if read is not None:
        usage["input_token_details"] = {"cache_read": read}
    settings: Any = {"at": NOW - 60, "provider": "openai", "model": model, "usage_source": source, **fields}
    return ModelCall(usage=usage, cost_usd=None if usd is None else USD(usd), **settings)


def lookup(outcome: Any, **fields: Any) -> CacheLookup:
    return CacheLookup(**{"at": NOW - 60, "outcome": outcome, **fields})


def decision(part: str, action: Any, **fields: Any) -> Decision:
    return Decision(**{"at": NOW - 60, "part": part, "action": action, **fields})


@pytest.fixture(params=KINDS)
def telemetry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Telemetry]:
    with database_url(request.param, tmp_path) as url:
        database = Database(url)
        telemetry = Telemetry(database=database, flush_seconds=3600, clock=FakeClock(NOW))
        yield telemetry
        telemetry.close()
        database.close()


@pytest.fixture
def memory() -> Iterator[Telemetry]:
    telemetry = Telemetry(flush_seconds=3600, clock=FakeClock(NOW))
    yield telemetry
    telemetry.close()


def report(telemetry: Telemetry, *events: Event, hours: float | None = None) -> Report:
    for event in events:
        telemetry.emit(event)
    return telemetry.report(hours)


# --- model calls -----------------------------------------------------------------------------------------------------


def test_without_events_it_says_so_and_claims_nothing(telemetry: Telemetry) -> None:
    made = report(telemetry)
    assert made == Report(findings=("Nothing has been recorded.",), net_saved_usd=None)
    assert report(telemetry, hours=24).findings == ("Nothing has been recorded in the last 24 hours.",)
    assert made.measured == Usage(calls=0, input_tokens=None, output_tokens=None, cost_usd=None)


def test_measured_and_estimated_calls_stand_side_by_side(telemetry: Telemetry) -> None:
    made = report(
        telemetry,
        call(1000, 20, "0.5", read=400, latency_seconds=1.0),
        call(500, 10, "0.25", read=0, latency_seconds=3.0),
        call(70, 7, "0.001", source="estimate", latency_seconds=2.0),
        call(200, 5, None, model="unknown-model"),
    )
    assert made.measured == Usage(
        calls=3, input_tokens=1700, output_tokens=35, cache_read_tokens=400, cost_usd=USD("0.75"), unpriced=1
    )
    assert made.estimated == Usage(calls=1, input_tokens=70, output_tokens=7, cost_usd=USD("0.001"))
    assert made.models == (
        ModelUsage(
            provider="openai",
            model="gpt-4o",
            measured=Usage(calls=2, input_tokens=1500, output_tokens=30, cache_read_tokens=400, cost_usd=USD("0.75")),
            estimated=Usage(calls=1, input_tokens=70, output_tokens=7, cost_usd=USD("0.001")),
        ),
        ModelUsage(
            provider="openai",
            model="unknown-model",
            measured=Usage(calls=1, input_tokens=200, output_tokens=5, unpriced=1),
            estimated=Usage(),
        ),
    )
    assert made.latency_seconds == Percentiles(count=3, p50=2.0, p95=3.0)
    assert made.findings == (
        (
            "3 model calls used 1,700 input and 35 output tokens as reported by the providers; $0.75 at list prices, "
            "but the cost of 1 of them is unknown, since their price is."
        ),
        "24% of these input tokens were read from the providers' prompt caches.",
        (
            "For 1 model call the provider reported no usage; we estimate 70 input and 7 output tokens; $0.001 at list "
            "prices."
        ),
        "Of the 1,735 tokens of agents' calls 98.0% were input and 2.0% output.",
        "To do: Give the rates of openai:unknown-model, whose price is not known (high confidence).",
        TOO_LITTLE.format("are 4 calls"),
    )


def test_a_cost_that_nobody_knows_is_unknown(telemetry: Telemetry) -> None:
    made = report(telemetry, call(10, 1, None))
    assert (made.measured.cost_usd, made.measured.unpriced) == (None, 1)
    assert "the cost of 1 of them is unknown" in made.findings[0]


def test_failed_calls_are_counted_apart(telemetry: Telemetry) -> None:
    failed = ModelCall(at=NOW - 60, model="gpt-4o", error="TimeoutError")
    stopped = call(100, 3, "0.01", source="estimate", error="CancelledError")
    made = report(telemetry, failed, stopped, call(10, 1, "0.001"))
    assert made.failed_calls == 2
    assert made.measured.calls == 1
    assert made.estimated == Usage(calls=1, input_tokens=100, output_tokens=3, cost_usd=USD("0.01"))
    assert "2 model calls failed; providers may or may not bill them." in made.findings


def test_only_the_hours_that_are_asked_for_count(telemetry: Telemetry) -> None:
    old, new = call(10, 1, "1", at=NOW - 7201), call(20, 2, "2", at=NOW - 7199)
    assert report(telemetry, old, new).measured.calls == 2
    made = report(telemetry, hours=2)
    assert (made.measured.calls, made.measured.cost_usd, made.hours) == (1, USD(2), 2)
    assert (made.first, made.last, made.events) == (NOW - 7199, NOW - 7199, 1)
    assert made.findings[0].startswith("1 model call in the last 2 hours used 20 input")
    assert report(telemetry, hours=1).findings == ("Nothing has been recorded in the last hour.",)


# --- parts -----------------------------------------------------------------------------------------------------------


def test_each_part_says_how_often_it_worked_and_what_it_saved(telemetry: Telemetry) -> None:
    made = report(
        telemetry,
        decision("tools", "applied", tokens_before=1000, tokens_after=400, saved_usd=USD("0.003")),
        decision("tools", "applied", tokens_before=1000, tokens_after=500, saved_usd=None),
        decision("tools", "skipped", tokens_before=90, tokens_after=90, reason="few tools"),
        decision("tools", "skipped", reason="few tools"),
        decision("tools", "skipped", reason="does not pay"),
        decision("history", "applied", tokens_before=100, tokens_after=120, saved_usd=USD("-0.001")),
    )
    assert made.parts == (
        PartReport(
            part="history", real=Saved(applied=1, tokens=-20, usd=USD("-0.001")), shadow=Saved(), skipped=0, reasons=()
        ),
        PartReport(
            part="tools",
            real=Saved(applied=2, tokens=1100, usd=USD("0.003"), unpriced=1),
            shadow=Saved(),
            skipped=3,
            reasons=(("few tools", 2), ("does not pay", 1)),
        ),
    )
    assert made.saved == Saved(applied=3, tokens=1080, usd=USD("0.002"), unpriced=1)
    assert made.net_saved_usd == USD("0.002")
    assert (
        "Estimate: tools (applied 2 times) saved 1,100 tokens and $0.003, and what 1 time saved at unknown prices."
        in made.findings
    )


def test_savings_of_unknown_size_are_unknown(telemetry: Telemetry) -> None:
    made = report(telemetry, decision("tools", "applied"))
    assert made.parts[0].real == Saved(applied=1, tokens=None, usd=None, unpriced=1)
    assert made.net_saved_usd is None
    assert "Estimate: tools (applied 1 time) saved an unknown number of tokens, at an unknown price." in made.findings


def test_shadow_mode_is_shown_apart(telemetry: Telemetry) -> None:
    made = report(
        telemetry,
        decision("tools", "applied", tokens_before=10, tokens_after=4, saved_usd=USD(1), mode="shadow"),
        decision("tools", "applied", tokens_before=10, tokens_after=9, saved_usd=USD(2)),
        lookup("semantic", saved_input_tokens=100, saved_output_tokens=10, saved_usd=USD(3), mode="shadow"),
        lookup("miss", mode="shadow"),
        Reservation(at=NOW - 60, action="refused", mode="shadow"),
    )
    assert [(part.part, part.real, part.shadow) for part in made.parts] == [
        ("cache", Saved(), Saved(applied=1, tokens=110, usd=USD(3))),
        ("tools", Saved(applied=1, tokens=1, usd=USD(2)), Saved(applied=1, tokens=6, usd=USD(1))),
    ]
    assert made.saved == Saved(applied=1, tokens=1, usd=USD(2))
    assert made.saved_in_shadow == Saved(applied=2, tokens=116, usd=USD(4))
    assert made.cache == CacheReport()
    assert made.cache_in_shadow == CacheReport(semantic=1, misses=1)
    assert (made.refused_calls, made.refused_in_shadow) == (0, 1)
    assert "Estimate: in shadow mode, tools (applied 1 time) would have saved 6 tokens and $1.00." in made.findings
    assert (
        "The semantic cache would have answered (shadow mode) 1 of 2 requests that it may answer (50%; 9.5% to 90.5% "
        "with a chance of 95%)." in made.findings
    )


def test_the_hit_rate_is_of_eligible_lookups(telemetry: Telemetry) -> None:
    saved: Any = {"saved_input_tokens": 100, "saved_output_tokens": 10, "saved_usd": USD("0.5")}
    made = report(
        telemetry,
        lookup("exact", **saved),
        lookup("semantic", **saved),
        lookup("miss"),
        lookup("miss", reason="too far"),
        *[lookup("bypass", reason="after a tool call") for _ in range(6)],
    )
    assert made.cache == CacheReport(exact=1, semantic=1, misses=2, bypassed=6)
    assert (made.cache.hits, made.cache.eligible, made.cache.hit_rate) == (2, 4, 0.5)
    (part,) = made.parts
    assert (part.part, part.real, part.skipped) == ("cache", Saved(applied=2, tokens=220, usd=USD(1)), 8)
    assert part.reasons == (("after a tool call", 6), ("too far", 1))
    assert (
        "The semantic cache answered 2 of 4 requests that it may answer (50%; 15% to 85% with a chance of 95%)."
        in made.findings
    )


def test_without_eligible_lookups_there_is_no_hit_rate(telemetry: Telemetry) -> None:
    assert report(telemetry, lookup("bypass")).cache.hit_rate is None


def test_the_optimisers_own_calls_are_subtracted(telemetry: Telemetry) -> None:
    made = report(
        telemetry,
        call(10, 1, "1"),
        call(20, 2, "0.3", internal=True),
        call(30, 3, "0.1", internal=True, source="estimate"),
        decision("history", "applied", tokens_before=100, tokens_after=10, saved_usd=USD(2)),
    )
    assert made.overhead == Usage(calls=1, input_tokens=20, output_tokens=2, cost_usd=USD("0.3"))
    assert made.overhead_estimated == Usage(calls=1, input_tokens=30, output_tokens=3, cost_usd=USD("0.1"))
    assert made.measured.cost_usd == USD("1.3")
    assert made.net_saved_usd == USD("1.6")
    assert (
        "The optimiser's own 2 model calls cost $0.30 (measured) and $0.10 (estimated); net, an estimated $1.60 was "
        "saved, 123% of what calls cost." in made.findings
    )


def test_own_calls_that_cost_more_than_they_save_are_a_loss(telemetry: Telemetry) -> None:
    made = report(telemetry, call(20, 2, "0.3", internal=True))
    assert made.net_saved_usd == USD("-0.3")
    assert made.findings[1].endswith("net, an estimated $0.30 more was spent than saved.")


def test_own_calls_at_an_unknown_price_make_the_net_unknown(telemetry: Telemetry) -> None:
    made = report(telemetry, call(20, 2, None, internal=True), decision("tools", "applied", saved_usd=USD(2)))
    assert (made.saved.usd, made.net_saved_usd) == (USD(2), None)
    assert made.findings[1].endswith("cost unknown (measured); the net saving is not known.")


# --- budget, time, trouble -------------------------------------------------------------------------------------------


def test_refused_calls_and_the_steps_of_the_budget_are_counted(telemetry: Telemetry) -> None:
    actions: list[Any] = ["reserved", "reserved", "settled", "refused", "overage"]
    made = report(telemetry, *[Reservation(at=NOW - 60, action=action, usd=USD(1)) for action in actions])
    assert made.budget == (("overage", 1), ("refused", 1), ("reserved", 2), ("settled", 1))
    assert made.refused_calls == 1
    assert "The budget refused 1 call." in made.findings
    assert made.measured.cost_usd is None


def test_added_time_is_summed_by_request(telemetry: Telemetry) -> None:
    events: list[Event] = []
    for n in range(1, 21):
        events.append(lookup("miss", seconds=n / 1000, request=f"r{n}"))
        events.append(decision("tools", "skipped", seconds=n / 1000, request=f"r{n}"))
        events.append(call(1, 1, "1", request=f"r{n}", latency_seconds=9.0))
    made = report(telemetry, *events, decision("tools", "skipped"))
    assert made.added_seconds is not None
    assert made.added_seconds.count == 20
    assert made.added_seconds.p50 == pytest.approx(0.020)
    assert made.added_seconds.p95 == pytest.approx(0.038)
    assert "The optimiser added 20.0 ms to a request (median; 38.0 ms at the 95th percentile)." in made.findings


def test_events_outside_of_a_request_are_timed_one_by_one(telemetry: Telemetry) -> None:
    made = report(telemetry, lookup("miss", seconds=0.5), lookup("miss", seconds=0.25))
    assert made.added_seconds == Percentiles(count=2, p50=0.25, p95=0.5)


def test_failures_are_listed_by_part(telemetry: Telemetry) -> None:
    errors = ["a", "b", "b", "b", "c", "d", "d"]
    made = report(
        telemetry,
        *[Failure(at=NOW - 60, part="cache", error=error) for error in errors],
        Failure(at=NOW - 60, part="tools", error="x"),
    )
    assert made.failures == (
        FailureReport(part="cache", count=7, errors=(("b", 3), ("d", 2), ("a", 1))),
        FailureReport(part="tools", count=1, errors=(("x", 1),)),
    )
    assert made.findings[-3:-1] == (
        "cache failed 7 times and stepped aside; most often: b.",
        "tools failed 1 time and stepped aside; most often: x.",
    )


# --- the same calls elsewhere ----------------------------------------------------------------------------------------

PLAIN = Rates(provider="p", model="plain", input=USD(1), output=USD(10))
AUTOMATIC = Rates(
    provider="p",
    model="automatic",
    input=USD(2),
    output=USD(10),
    cache_read=USD(1),
    caching="automatic",
    min_cache_tokens=1024,
    cache_increment=128,
)
EXPLICIT = Rates(
    provider="p",
    model="explicit",
    input=USD(4),
    output=USD(10),
    cache_read=USD("0.4"),
    cache_write=USD(5),
    caching="explicit",
    min_cache_tokens=1024,
)


def test_calls_are_repriced_by_the_rules_of_another_prompt_cache(telemetry: Telemetry) -> None:
    made = report(
        telemetry,
        call(4000, 100, "1", repeated_prefix_tokens=3000),
        call(4000, 50, "1", repeated_prefix_tokens=3000),
        call(1000, 10, "1", repeated_prefix_tokens=900),
        call(2000, 10, None, source="estimate", repeated_prefix_tokens=None),
        ModelCall(at=NOW - 60, error="TimeoutError"),
    )
    output = 170 * 10
    expected = {
        "plain": 11_000 * 1 + output,
        # 3,000 is read in steps of 128: 2,944; 900 is below the minimum.
        "automatic": 2 * (2944 * 1 + 1056 * 2) + 1000 * 2 + 2000 * 2 + output,
    }
    plain, automatic, explicit = made.cost_at([PLAIN, AUTOMATIC, EXPLICIT])
    for repriced in (plain, automatic):
        assert repriced == Repriced(
            provider="p",
            model=repriced.model,
            calls=4,
            cost_usd=USD(expected[repriced.model]) / 1_000_000,
            without_prefix=1,
            unknown=1,
        )
    # What is read is cheaper than what is sent, and what is written costs more.
    read = 2 * 3000
    assert (
        explicit.cost_usd
        == USD(read) * USD("0.4") / 1_000_000 + (USD(2 * 1000 + 2000) * 5 + 1000 * 4 + output) / 1_000_000
    )


def test_later_events_do_not_change_what_a_report_says_of_other_rates(telemetry: Telemetry) -> None:
    made = report(telemetry, call(1000, 0, "1"))
    before = made.cost_at([PLAIN])
    report(telemetry, call(1000, 0, "1", at=NOW))
    assert (
        made.cost_at([PLAIN])
        == before
        == [Repriced(provider="p", model="plain", calls=1, cost_usd=USD("0.001"), without_prefix=1, unknown=0)]
    )


def test_prices_that_rise_with_the_prompt_are_those_of_each_prompt(telemetry: Telemetry) -> None:
    dearer = Rates(input=USD(2), output=USD(20))
    tiered = Rates(input=USD(1), output=USD(10), tiers=((1000, dearer),))
    made = report(telemetry, call(1000, 100, "1"), call(1001, 100, "1"))
    (repriced,) = made.cost_at([tiered])
    assert repriced.cost_usd == (USD(1000) + 10 * 100 + 2 * 1001 + 20 * 100) / 1_000_000


def test_nothing_costs_nothing_anywhere(telemetry: Telemetry) -> None:
    assert report(telemetry).cost_at([PLAIN]) == [
        Repriced(provider="p", model="plain", calls=0, cost_usd=USD(0), without_prefix=0, unknown=0)
    ]


def test_repricing_needs_the_database(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    telemetry = Telemetry(database=database)
    made = report(telemetry, call(1000, 0, "1"))
    telemetry.close()
    database.close()
    with pytest.raises(StoreError, match="is closed"):
        made.cost_at([PLAIN])


def test_budgets_and_candidates_are_passed_on(memory: Telemetry) -> None:
    usd = {"limit": USD(4), "spent": USD(3), "held": USD(0), "left": USD(1)}
    status = {"name": "default", "nodes": [{"node": "global", "per": "day", "usd": usd}]}
    for _ in range(30):
        memory.emit(call(1000, 100, "0.01"))
    made = memory.report(24, budgets=status, candidates=[PLAIN])
    assert [line.share for line in made.budgets] == [0.75]
    assert [one.change for one in made.recommendations] == ["init_chat_model('plain', model_provider='p')"]
    assert made.recommendations[0].saves_usd == 30 * (USD("0.01") - USD("0.002"))


# --- views -----------------------------------------------------------------------------------------------------------

HOSTILE = "<script>alert(1)</script> | `x` [a](http://evil.example) *b*"


@pytest.fixture
def full(memory: Telemetry) -> Report:
    return report(
        memory,
        call(1000, 20, "0.5", read=400, latency_seconds=1.0),
        call(70, 7, None, source="estimate", model=HOSTILE),
        call(20, 2, "0.3", internal=True),
        ModelCall(at=NOW - 60, error="TimeoutError"),
        decision("tools", "applied", tokens_before=10, tokens_after=4, saved_usd=USD(1), seconds=0.002),
        decision("tools", "skipped", reason=HOSTILE),
        decision("history", "applied", tokens_before=10, tokens_after=4, saved_usd=USD(1), mode="shadow"),
        lookup("exact"),
        lookup("miss", mode="shadow"),
        Reservation(at=NOW - 60, action="refused"),
        Reservation(at=NOW - 60, action="refused", mode="shadow"),
        Failure(at=NOW - 60, part="cache", error=HOSTILE),
        hours=24,
    )


def test_as_a_dictionary_it_is_plain_json(full: Report) -> None:
    shown = full.to_dict()
    assert json.loads(full.to_json()) == shown
    assert shown["measured"]["cost_usd"] == "0.8"
    assert shown["estimated"]["cost_usd"] is None
    assert shown["cache"]["hit_rate"] == 1.0
    assert shown["cache"]["misses"] == 0
    assert shown["findings"] == list(full.findings)
    assert [part["part"] for part in shown["parts"]] == ["cache", "history", "tools"]
    assert not [name for name in shown if name.startswith("_")]


def test_markdown_starts_with_the_findings_and_shows_every_table(full: Report) -> None:
    text = full.to_markdown()
    assert text.index("- 2 model calls in the last 24 hours") < text.index("## Model calls")
    titles = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        "Recommendations",
        "Model calls",
        "By model",
        "Savings (estimates)",
        "Semantic cache",
        "Time",
        "Trouble",
    ]
    # A dollar sign would begin a formula.
    assert "| Reported by the provider | 2 | 1,020 | 400 | unknown | 22 | unknown | \\$0.80 |" in text
    assert "| Estimated | 1 | 70 | unknown | unknown | 7 | unknown | unknown for 1 call |" in text


def test_no_table_of_the_markdown_is_broken_by_what_comes_from_outside(full: Report) -> None:
    text = full.to_markdown()
    assert HOSTILE not in "".join(re.split(r"``.*?``", text))  # in a code span nothing is markup
    assert "\\<script\\>" in text
    for block in text.split("\n\n"):
        rows = [line.replace("\\|", "") for line in block.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1


def test_html_is_escaped_and_brings_nothing_with_it(full: Report) -> None:
    shown = full._repr_html_()
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    visible = shown.replace("http://evil", "")  # as text, it may stay; long names are cut
    for foreign in ("http", "src=", "href=", "url(", "@import", "<link", "<img"):
        assert foreign not in visible


def test_html_takes_its_colours_from_the_page(full: Report) -> None:
    shown = full._repr_html_()
    assert "color:inherit;background:transparent" in shown
    assert "#" not in shown.replace("&#x27;", "")
    assert "white" not in shown
    assert "black" not in shown


def test_a_terminal_shows_the_findings_and_the_tables(full: Report) -> None:
    from rich.console import Console

    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        console.print(full)
    text = captured.get()
    assert "2 model calls in the last 24 hours" in text
    assert "Savings (estimates)" in text
    assert HOSTILE.split(" | ")[0] in text


@pytest.mark.parametrize("view", ["to_markdown", "_repr_html_", "to_json"])
def test_an_empty_report_can_be_shown(memory: Telemetry, view: str) -> None:
    assert "Nothing has been recorded." in getattr(report(memory), view)()


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        (None, "unknown"),
        ("0", "$0.00"),
        ("1234.5", "$1,234.50"),
        ("-3", "-$3.00"),
        ("0.5", "$0.50"),
        ("0.123456", "$0.123"),
        ("0.00123456", "$0.00123"),
        ("0.0000048", "$0.0000048"),
        ("0.9999", "$1.00"),
    ],
)
def test_money_is_shown_to_a_sensible_digit(usd: str | None, shown: str) -> None:
    from langchain_tokopt.telemetry.findings import money

    assert money(None if usd is None else USD(usd)) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(0.0000456, "46 µs"), (0.0123, "12.3 ms"), (2.5, "2.50 s")])
def test_durations_are_shown_in_a_unit_that_suits_them(seconds: float, shown: str) -> None:
    from langchain_tokopt.telemetry.findings import duration

    assert duration(seconds) == shown


def test_what_a_budget_does_to_a_call_is_no_saving(telemetry: Telemetry) -> None:
    clamped = Decision(at=NOW - 60, part="budget", action="applied", tokens_before=900, tokens_after=300)
    made = report(telemetry, clamped, Decision(at=NOW - 60, part="budget", action="skipped", reason="nothing helps"))
    assert made.parts == ()
    assert made.saved.tokens is None
