"""The benchmark of budgets at a small size, on every store that is there, and what it makes of figures."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.budget import METHODS, OURS, _judged, main, place_of
from benchmarks.budget_load import WORST_NANO, Call, Done, Load, calls_of, mean_nano, run
from benchmarks.budget_processes import Outcome

SMALL = ["--shapes", "2x3", "--calls", "6", "--seconds", "0.3", "--model-ms", "2"]
SERVERS = {"postgres": "TOKOPT_TEST_POSTGRES_URL", "redis": "TOKOPT_TEST_REDIS_URL"}


def at(method: str) -> list[str]:
    """The options that name the method's server; skips the test where there is none."""
    if method not in SERVERS:
        return []
    url = os.environ.get(SERVERS[method])
    if not url:
        pytest.skip(f"set {SERVERS[method]} to test on {method}")
    return [f"--{method}", url]


@pytest.mark.parametrize("method", OURS)
def test_limits_hold_and_nothing_stays_held(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    code = main(["--only", method, *at(method), *SMALL, "--json", str(out)])
    assert (code, capsys.readouterr().err) == (0, "")
    result = json.loads(out.read_text())
    assert {(row["method"], row["at"]) for row in result["rows"]} == {(method, "2x3")}
    rows = {row["metric"]: row["value"] for row in result["rows"]}
    zero = ("overspend", "unbooked", "errors", "held_after_kill", "wrong_counters")
    assert [rows[name] for name in zero] == [0, 0, 0, 0, 0]
    assert rows["held_at_kill"] > 0
    assert rows["denied"] > 0
    assert 0 < rows["spent_of_limit"] <= 1
    assert all(rows[name] > 0 for name in ("ops_per_s", "p50_ms", "p99_ms", "settle_p50_ms", "settle_p99_ms"))


def test_a_counter_that_is_only_checked_books_all_and_holds_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert main(["--only", "check-then-spend", *SMALL, "--json", str(out)]) == 0
    rows = {row["metric"]: row["value"] for row in json.loads(out.read_text())["rows"]}
    assert (rows["unbooked"], rows["errors"]) == (0, 0)
    assert "held_after_kill" not in rows


def test_a_peer_that_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    assert main(["--only", "litellm", "redis", "--shapes", "1x1", "--litellm-python", str(python)]) == 0
    told = capsys.readouterr().err
    assert "litellm is left out: litellm is not installed" in told
    assert "redis is left out: give --redis URL" in told


def test_each_method_has_a_place_of_its_own() -> None:
    args = Namespace(postgres=None, redis=None, litellm_python="/bin/false")
    for method in METHODS:
        with place_of(method, args) as place:
            if not isinstance(place, str):
                assert place.method == method
                assert place.folder.is_dir()
                folder = place.folder
        if not isinstance(place, str):
            assert not folder.exists()


# --- the load --------------------------------------------------------------------------------------------------------


class Recorder:
    """Takes the first calls only, and notes what it is told."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.settled: list[Call] = []
        self.released = 0

    def reserve(self, call: Call) -> object | None:
        self.room -= 1
        return call if self.room >= 0 else None

    def settle(self, held: object, call: Call) -> None:
        self.settled.append(call)

    def release(self, held: object) -> None:
        self.released += 1

    def close(self) -> None:
        """Nothing is open."""


def test_a_load_is_the_same_each_time() -> None:
    load = Load(process=1, threads=2, calls=50, underestimated=0.2)
    assert list(calls_of(load, 0)) == list(calls_of(load, 0)) != list(calls_of(load, 1))
    paths = [call.path for call, _ in calls_of(load, 1)]
    assert paths[:2] == ["project=p0/agent=a0/user=u1", "project=p1/agent=a1/user=u1"]
    assert [call.path for call, _ in calls_of(Load(process=0, threads=1, calls=1, levels=1), 0)] == [""]


def test_only_underestimated_calls_take_more_than_was_reserved() -> None:
    sure = [call.nano for call, _ in calls_of(Load(process=0, threads=1, calls=2000), 0)]
    assert max(sure) <= WORST_NANO
    assert abs(sum(sure) / len(sure) - mean_nano()) < 0.05 * mean_nano()
    under = [call.nano for call, _ in calls_of(Load(process=0, threads=1, calls=2000, underestimated=1), 0)]
    assert min(under) > WORST_NANO


def test_what_was_billed_and_denied_is_counted() -> None:
    method = Recorder(room=7)
    done = run(method, Load(process=0, threads=1, calls=10, underestimated=1))
    assert (done.denied, len(method.settled), done.errors) == (3, 7, [])
    assert sum(done.spent.values()) == sum(call.nano for call in method.settled)
    assert sum(done.over.values()) == sum(call.nano - WORST_NANO for call in method.settled)
    assert (len(done.reserve_ms), len(done.settle_ms)) == (10, 7)


def test_calls_that_fail_are_not_billed_and_those_that_are_cancelled_pay_their_input() -> None:
    method = Recorder(room=100)
    done = run(method, Load(process=0, threads=1, calls=100, failing=0.3))
    cancelled = [call for call in method.settled if call.output_tokens == 0]
    assert method.released + len(method.settled) == 100
    assert 15 <= method.released <= 45
    assert 15 <= len(cancelled) <= 45
    assert sum(done.spent.values()) == sum(call.nano for call in method.settled)


def test_a_warm_up_counts_nowhere() -> None:
    method = Recorder(room=100)
    done = run(method, Load(process=0, threads=2, calls=3, warm_up=2))
    assert len(method.settled) == 2 * (3 + 2)
    assert len(done.settle_ms) == 2 * 3


# --- what it makes of figures ----------------------------------------------------------------------------------------


def judged(spent: dict[str, int], over: dict[str, int], limits: dict[str, int], on_books: int) -> dict[str, float]:
    outcome = Outcome([Done(spent=Counter(spent), over=Counter(over))])
    with place_of("sqlite", Namespace()) as place:
        assert not isinstance(place, str)
        return {row.metric: row.value for row in _judged(place, outcome, limits, on_books, "1x1")}


def test_overspend_is_that_of_the_worst_node_without_what_was_estimated_wrongly() -> None:
    spent = {"project=a/agent=x/user=u": 5_000_000_000, "project=b/agent=x/user=u": 4_000_000_000}
    limits = {"global": 10_000_000_000, "project=*": 4_500_000_000, "user=*": 8_000_000_000}
    rows = judged(spent, {}, limits, 9_000_000_000)
    assert (rows["overspend"], rows["estimation_error"], rows["unbooked"]) == (1, 0, 0)
    rows = judged(spent, {"project=a/agent=x/user=u": 750_000_000}, limits, 9_500_000_000)
    assert (rows["overspend"], rows["estimation_error"], rows["unbooked"]) == (0.25, 0.75, 0.5)
    assert judged(spent, {}, {"global": 10_000_000_000}, 9_000_000_000)["overspend"] == 0
