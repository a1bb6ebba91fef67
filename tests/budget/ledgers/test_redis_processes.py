"""One budget in Redis for threads and processes: no overspending, and what a killed process held is freed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.redis_ledger import RedisLedger
from langchain_tokopt.budget.ledgers.words import NOTHING, Balance, Expired, Granted
from tests.budget.ledgers.redis_servers import own_prefix
from tests.budget.ledgers.redis_spenders import CALL, CAPS, LIMIT, SITES, tried
from tests.databases import redis_url

pytest.importorskip("redis")

ROOT = Path(__file__).resolve().parents[3]
FITTING = LIMIT // CALL.nano
ALL_SPENT = dict.fromkeys(SITES, Balance(Amount(LIMIT, FITTING * CALL.tokens, FITTING), NOTHING))


@pytest.fixture
def prefix() -> Iterator[str]:
    with own_prefix() as prefix:
        yield prefix


@pytest.fixture
def ledger(prefix: str) -> Iterator[RedisLedger]:
    ledger = RedisLedger(redis_url(), prefix=prefix)
    yield ledger
    ledger.close()


def start(prefix: str, name: str, *what: str) -> subprocess.Popen[str]:
    program = [sys.executable, "-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    return subprocess.Popen(
        [*program, "-m", "tests.budget.ledgers.redis_spenders", redis_url(), prefix, name, *what],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(processes: list[subprocess.Popen[str]]) -> list[int]:
    told = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), told
    return [int(output) for output, _ in told]


def test_threads_never_spend_more_than_the_limit(ledger: RedisLedger) -> None:
    assert tried(ledger, "a", 8, 50) == FITTING
    assert ledger.balances(SITES) == ALL_SPENT
    assert ledger.reconcile(now=3.0) == []


def test_processes_with_threads_never_spend_more_than_the_limit(prefix: str, ledger: RedisLedger) -> None:
    assert sum(finished([start(prefix, str(n), "spend", "4", "20") for n in range(3)])) == FITTING
    assert ledger.balances(SITES) == ALL_SPENT
    assert ledger.reconcile(now=3.0) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_children_that_are_forked_while_threads_spend_go_on_with_the_ledger(prefix: str, ledger: RedisLedger) -> None:
    # 80 calls of the parent, 20 of each child: more than fit.
    assert finished([start(prefix, "a", "fork", "3")]) == [FITTING]
    assert ledger.balances(SITES) == ALL_SPENT
    assert ledger.reconcile(now=3.0) == []


def test_what_a_killed_process_held_is_freed_after_its_lease(prefix: str, ledger: RedisLedger) -> None:
    process = start(prefix, "a", "die")
    assert process.stdout is not None
    assert process.stdout.readline() == "reserved\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    held = dict.fromkeys(SITES, Balance(NOTHING, CALL))
    assert ledger.sweep(now=time.time() - 60) == []
    assert ledger.balances(SITES) == held
    assert ledger.sweep(now=time.time() + 60) == [Expired("a", "user=alice", CALL)]
    assert ledger.balances(SITES) == dict.fromkeys(SITES, Balance())
    all_of_it = Amount(LIMIT, 0, 1)
    assert isinstance(ledger.reserve("b", CAPS, all_of_it, path="", now=1.0, expires_at=2.0), Granted)
    assert ledger.reconcile(now=3.0) == []
