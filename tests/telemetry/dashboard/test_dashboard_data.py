"""What the page is given: exact sums, each with its source, and nothing that JSON cannot hold."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import Decision, ModelCall
from langchain_tokopt.telemetry.dashboard import arrivals, dashboard_data
from langchain_tokopt.telemetry.dashboard.plain import LONGEST, plain
from langchain_tokopt.telemetry.rollups_upkeep import Upkeep
from langchain_tokopt.telemetry.store import EventStore
from tests.telemetry.dashboard.happenings import HOSTILE, NOW, alert, budgets, day, forecast, hostile, report, store_of


@pytest.fixture
def store(database: Any) -> EventStore:
    found = EventStore(database)
    found.write(day())
    return found


def behind(store: EventStore, source: dict[str, Any], more: str = "") -> list[dict[str, Any]]:
    """The events that a source's query lists, on condition of `more`."""
    from sqlalchemy import text

    query = source["events"].replace(" ORDER BY", f"{more} ORDER BY")
    with store.database.read() as connection:
        return [dict(row) for row in connection.execute(text(query)).mappings()]


def nano(text: str | None) -> int:
    return int(Decimal(text or 0) * 10**9)


def test_totals_are_sums_over_the_events(store: EventStore) -> None:
    totals = dashboard_data(store, now=NOW)["windows"][-1]["totals"]
    calls = totals["calls"]
    assert calls["measured"] == {
        "calls": 4,
        "input_tokens": 3350,
        "output_tokens": 40,
        "cache_read_tokens": 1675,
        "cache_write_tokens": None,
        "reasoning_tokens": None,
        "cost_usd": "0.035000001",
        "unpriced": 1,
    }
    assert (calls["estimated"]["calls"], calls["estimated"]["cost_usd"]) == (1, "0.04")
    assert (calls["own_measured"]["cost_usd"], calls["own_estimated"]) == ("0.005", None)
    assert (calls["failed"], calls["requests"]) == (1, 4)
    assert totals["parts"]["real"] == {"applied": 2, "tokens": 400, "usd": "0.500300001", "unpriced": 0}
    assert totals["net_usd"] == "0.495300001"
    assert (totals["lookups"]["real"]["hits"], totals["lookups"]["real"]["eligible"]) == (1, 2)
    assert (totals["failures"], totals["reservations"]) == (1, {"reserved": 1, "refused": 1})


def test_every_figure_can_be_followed_to_its_events(store: EventStore) -> None:
    window = dashboard_data(store, now=NOW)["windows"][-1]
    totals = window["totals"]
    rows = behind(store, totals["source"]["calls"], " AND usage_source = 'provider'")
    assert sum(row["cost_nano"] or 0 for row in rows) == nano(totals["calls"]["measured"]["cost_usd"])
    table = window["by"]["agent"]
    assert table["source"]["calls"]["columns"] == ["agent"]
    for row in table["rows"]:
        events = behind(store, table["source"]["calls"], f" AND agent = '{row['key']}' AND usage_source = 'provider'")
        assert sum(event["cost_nano"] or 0 for event in events) == nano(row["calls"]["measured"]["cost_usd"])
    assert {row["key"] for row in table["rows"]} == {"writer", "planner"}
    assert len(behind(store, totals["source"]["lookups"])) == 3
    assert len(behind(store, totals["source"]["failures"])) == totals["failures"]


def test_figures_of_what_is_rolled_up_can_be_followed_to_the_sums(store: EventStore) -> None:
    from sqlalchemy import text

    before = dashboard_data(store, now=NOW)["windows"][-1]["totals"]
    Upkeep(store, keep_days=0.5, hourly_days=1000, clock=lambda: NOW).all()
    window = dashboard_data(store, now=NOW)["windows"][-1]
    totals = window["totals"]
    assert totals["calls"] == before["calls"]
    assert NOW - 20 * 3600 < window["extent"]["rolled"] <= NOW - 12 * 3600
    source = totals["source"]["calls"]
    with store.database.read() as connection:
        kept = connection.execute(text(source["sums"])).mappings().all()
    rows = [row for row in [*kept, *behind(store, source)] if row["usage_source"] == "provider"]
    assert sum(row["cost_nano"] or 0 for row in rows) == nano(totals["calls"]["measured"]["cost_usd"])
    assert len(kept) == 1


def test_series_and_tables_add_up_to_the_totals(store: EventStore) -> None:
    for window in dashboard_data(store, now=NOW, hours=200)["windows"]:
        series, totals = window["series"], window["totals"]
        measured = totals["calls"]["measured"]
        lengths = {len(series[name]) for name in series if isinstance(series[name], list)}
        assert lengths == {len(series["start"])}
        assert sum(map(nano, series["measured_usd"])) == nano(measured["cost_usd"])
        assert sum(map(nano, series["saved_usd"])) == nano(totals["parts"]["real"]["usd"])
        assert sum(n or 0 for n in series["input_tokens"]) == measured["input_tokens"]
        for name in ("agent", "user", "project", "model"):
            rows = window["by"][name]["rows"]
            shown = [row["calls"]["measured"] or {"cost_usd": None} for row in rows]
            assert sum(nano(usage["cost_usd"]) for usage in shown) == nano(measured["cost_usd"])


def test_what_is_beyond_the_rows_of_a_table_is_summed_in_one(store: EventStore) -> None:
    from langchain_tokopt.events import Who
    from tests.telemetry.dashboard.happenings import call

    store.write([call(NOW - 10, Who(user=f"u{n}"), 10, "1") for n in range(40)])
    window = dashboard_data(store, now=NOW)["windows"][-1]
    rows = window["by"]["user"]["rows"]
    assert (len(rows), rows[-1]["more"]) == (26, 17)
    total = sum(nano(row["calls"]["measured"]["cost_usd"]) for row in rows)
    assert total == nano(window["totals"]["calls"]["measured"]["cost_usd"])


def test_a_bucket_without_events_is_unknown_and_not_nothing(store: EventStore) -> None:
    series = dashboard_data(store, now=NOW)["windows"][-1]["series"]
    quiet = series["start"].index(NOW - 10 * 3600)
    assert [series[name][quiet] for name in ("measured_usd", "net_usd", "input_tokens")] == [None, None, None]


def test_windows_are_those_that_fit_into_the_hours() -> None:
    empty = store_of([])
    names = {
        hours: [window["name"] for window in dashboard_data(empty, now=NOW, hours=hours)["windows"]]
        for hours in (0.5, 1, 24, 36, 168, 720, None)
    }
    assert names == {
        0.5: ["0.5 h"],
        1: ["1 h"],
        24: ["1 h", "24 h"],
        36: ["1 h", "24 h", "36 h"],
        168: ["1 h", "24 h", "7 d"],
        720: ["1 h", "24 h", "7 d", "30 d"],
        None: ["All"],
    }
    ever = dashboard_data(store_of(day()), now=NOW, hours=None)["windows"]
    assert [window["name"] for window in ever] == ["1 h", "All"]
    assert ever[-1]["totals"]["calls"]["measured"]["calls"] == 4


@pytest.mark.parametrize("hours", [0, -1, math.nan, math.inf, True, "24"])
def test_hours_that_are_none_are_refused(hours: Any) -> None:
    with pytest.raises(ConfigurationError, match="hours"):
        dashboard_data(store_of([]), now=NOW, hours=hours)


def test_a_request_comes_with_all_that_happened_in_it(store: EventStore) -> None:
    shown = {request["id"]: request for request in dashboard_data(store, now=NOW)["requests"]["rows"]}
    first = shown["r1"]
    assert [step["part"] for step in first["steps"]] == ["cache", "tools", "history", "budget", "model", "model"]
    assert (first["came_in"], first["went_out"], first["went_out_measured"]) == (1000, 2000, True)
    assert first["measured"]["cost_usd"] == "0.030000001"
    tools = first["steps"][1]
    assert (tools["reason"], tools["figures"]["saved_usd"]) == ("2 of 9 tools fit", "0.000300001")
    assert tools["detail"] == {"kept": ["search", "buy"]}
    outcomes = {name: request["outcome"] for name, request in shown.items()}
    expected = ["answered", "answered", "answered", "failed", "cached", "none", "refused"]
    assert [outcomes[f"r{n}"] for n in range(1, 8)] == expected
    assert "cost_usd" not in shown["r2"]["measured"]
    assert "measured" not in shown["r4"]


def test_only_the_newest_requests_come_in_full(store: EventStore) -> None:
    found = dashboard_data(store, now=NOW, requests=2)
    assert [request["id"] for request in found["requests"]["rows"]] == ["r5", "r7"]
    assert found["windows"][-1]["totals"]["calls"]["requests"] == 4


def test_what_parts_made_of_the_tokens(store: EventStore) -> None:
    assert dashboard_data(store, now=NOW)["requests"]["changes"] == [
        {"part": "history", "decisions": 1, "before": 700, "after": 700},
        {"part": "tools", "decisions": 1, "before": 400, "after": 100},
    ]


def test_budgets_alerts_and_findings_are_those_that_are_given() -> None:
    found = dashboard_data(
        store_of([]),
        now=NOW,
        budgets=budgets(),
        forecasts={"shop": forecast()},
        alerts=[alert("slow")],
        report=report("All is well."),
    )
    line = found["budgets"][0]
    assert (line["node"], line["limit"], line["spent"], line["held"], line["left"]) == (
        "shop",
        "5",
        "4.25",
        "0.25",
        "0.50",
    )
    assert (line["expected"], line["share"], line["runs_out_at"]) == ("6", 0.9, NOW + 3600)
    assert (found["alerts"][0]["title"], found["findings"]) == ("slow", ["All is well."])


def test_a_budget_that_cannot_be_read_is_said() -> None:
    def broken() -> Any:
        raise OSError("no route")

    assert dashboard_data(store_of([]), now=NOW, budgets=broken)["budget_errors"] == [["budgets", "OSError: no route"]]


def test_nothing_recorded_gives_a_page_of_nothing() -> None:
    found = dashboard_data(store_of([]), now=NOW)
    calls = found["windows"][-1]["totals"]["calls"]
    assert (calls["measured"], calls["estimated"], found["requests"]["rows"]) == (None, None, [])
    json.dumps(found, allow_nan=False)


def test_any_text_is_json_and_none_is_long() -> None:
    events = [event for n, text in enumerate(HOSTILE) for event in hostile(text, n)]
    found = dashboard_data(store_of(events), now=NOW, alerts=[alert(text) for text in HOSTILE], report=report(*HOSTILE))
    text = json.dumps(found, ensure_ascii=False, allow_nan=False)
    text.encode()  # no half of a surrogate pair
    assert "a" * (LONGEST + 1) not in text
    assert "[8,000 characters more]" in text


def test_plain_values() -> None:
    assert plain(Decimal("1E-9")) == "0.000000001"
    assert plain(Decimal("NaN")) is None
    assert plain([math.nan, math.inf, 1.5, True, None]) == [None, None, 1.5, True, None]
    assert plain({1: {"x"}, "y": b"z"}) == {"1": ["x"], "y": "b'z'"}


def test_arrivals_change_with_each_event(store: EventStore) -> None:
    before = arrivals(store)
    store.write([Decision(at=NOW - 9e6, part="tools", action="skipped")])  # long ago, but it arrives now
    assert arrivals(store) == before + 1
    assert arrivals(store_of([])) == 0


def test_a_database_of_a_file_is_read_as_well(tmp_path: Path) -> None:
    store = store_of([ModelCall(at=NOW - 5, error="x")], f"sqlite:///{tmp_path / 'events.db'}")
    assert dashboard_data(store, now=NOW)["windows"][0]["totals"]["calls"]["failed"] == 1
