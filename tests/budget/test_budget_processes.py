"""One budget for several processes: no overspending, and what a killed process held is freed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

from langchain_tokopt.budget import Budget
from langchain_tokopt.database import Database
from langchain_tokopt.events import Reservation
from tests.budget.figures import root
from tests.budget.spenders import CASE, PRICING, USAGE
from tests.fakes import FakeClock, ListSink

ROOT = Path(__file__).resolve().parents[2]


def start(url: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.budget.spenders", url, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_with_threads_share_one_limit(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'tokopt.db'}"
    processes = [start(url, "4", "10") for _ in range(4)]
    told = [process.communicate(timeout=120) for process in processes]
    # Of all processes, the one that crosses a share says so.
    assert sorted(line for _, errors in told for line in errors.splitlines()) == [
        "budget 'default': global has spent $4 of $5 in all, 80 % of it",
        "budget 'default': global has spent $5 of $5 in all, 100 % of it",
    ]
    # 160 calls of 0.20 USD were tried under 5 USD.
    assert sum(int(output) for output, _ in told) == 25
    database = Database(url)
    budget = Budget(usd="5", store=database, pricing=PRICING)
    assert root(budget)["usd"] == {"limit": 5, "spent": 5, "held": 0, "left": 0}
    assert budget.reconcile() == []
    database.close()


def test_what_a_killed_process_held_is_freed_after_its_lease(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'tokopt.db'}"
    process = start(url, "1", "1", "die")
    assert process.stdout is not None
    assert process.stdout.readline() == "reserved\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    clock, sink = FakeClock(time.time()), ListSink()
    database = Database(url)
    budget = Budget(usd="0.2", store=database, pricing=PRICING, lease_seconds=30, clock=clock, sink=sink)
    assert root(budget)["usd"]["held"] == Decimal("0.2")
    assert budget.sweep() == 0
    clock.advance(60)
    # A call that does not fit beside what the dead process held sweeps by itself.
    hold = budget.reserve(CASE)
    assert [event.action for event in sink.of(Reservation)] == ["expired", "reserved"]
    budget.settle(hold, USAGE)
    assert root(budget)["usd"] == {"limit": Decimal("0.2"), "spent": Decimal("0.2"), "held": 0, "left": 0}
    budget.close()
    database.close()
