from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import dashboard
from langchain_tokopt.telemetry.readings import Readings, Span


def test_publishes_a_table_and_tidy_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.json"
    assert dashboard.main(["--events", "60", "--runs", "2", "--json", str(out)]) == 0
    assert "open_ms" in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert [(row["metric"], row["at"]) for row in result["rows"]] == [
        (metric, 60) for metric in ("data_ms", "page_ms", "page_mb", "open_ms")
    ]
    assert all(row["value"] > 0 for row in result["rows"])


def test_events_are_spread_over_the_week_a_request_at_a_time(tmp_path: Path) -> None:
    store = dashboard.filled(tmp_path / "events.db", 600)
    span = Span(dashboard.NOW - dashboard.WEEK, dashboard.NOW)
    lines = Readings(store).requests(span, limit=200)
    assert (len(lines), {line.events for line in lines}) == (100, {6})
    days = {int((line.at - dashboard.NOW + dashboard.WEEK) // 86_400) for line in lines}
    assert days == set(range(7))
    store.database.close()
