"""The benchmark of telemetry at a small size: processes that emit together lose nothing, and all figures come."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks.telemetry import METHODS, main
from benchmarks.telemetry_load import emitted, events
from langchain_tokopt.events import CacheLookup, Decision, Event, ModelCall, Reservation
from langchain_tokopt.telemetry import Telemetry

SMALL = ["--rate", "200", "--processes", "2", "--seconds", "0.5", "--kill-after", "0.3", "--flush-seconds", "0.1"]


def at(method: str) -> list[str]:
    """The options that name the method's server; skips the test where there is none."""
    if method == "sqlite":
        return []
    url = os.environ.get("TOKOPT_TEST_POSTGRES_URL")
    if not url:
        pytest.skip("set TOKOPT_TEST_POSTGRES_URL to test on postgres")
    return ["--postgres", url]


@pytest.mark.parametrize("method", METHODS)
def test_processes_that_emit_together_lose_nothing(method: str, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert main(["--only", method, *at(method), *SMALL, "--events", "600", "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert {row["method"] for row in rows} == {method}
    found = {row["metric"]: row["value"] for row in rows}
    assert (found["emitted"], found["lost"], found["dropped"]) == (100, 0, 0)
    assert found["lost_at_kill"] <= found["emitted_before_kill"]
    times = {name for name, value in found.items() if name.endswith("_ms") and value > 0}
    wanted = {"calls_week_ms", "times_week_ms", "requests_newest_ms", "request_ms"}
    assert wanted | {"hourly_calls_week_ms", "daily_calls_week_ms"} <= times
    assert found["daily_sums_per_event"] <= found["hourly_sums_per_event"]


def test_without_a_server_it_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "postgres"]) == 0
    assert "postgres is left out" in capsys.readouterr().err


def test_the_load_is_what_a_request_emits() -> None:
    source = events(3, at=5.0)
    first = [next(source) for _ in range(6)]
    kinds: list[type[Event]] = [CacheLookup, Decision, Decision, Reservation, ModelCall, Reservation]
    assert [type(event) for event in first] == kinds
    assert {(event.request, event.at) for event in first} == {("3-0", 5.0)}
    assert next(source).request == "3-1"
    telemetry = Telemetry(flush_seconds=3600)
    assert len(emitted(telemetry, process=0, rate=1e6, seconds=1e-5)) == 10
    assert telemetry.status()["queued"] == 10
    telemetry.close()
