"""One ledger for several processes, on a file and on PostgreSQL: no overspending, and the dead hold nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.sql_ledger import SqlLedger
from langchain_tokopt.budget.ledgers.words import NOTHING, Balance, Expired
from langchain_tokopt.database import Database
from tests.budget.ledgers.sql_spenders import RESERVED, ROOT, TEAM, USED
from tests.databases import database_url

FOLDER = Path(__file__).resolve().parents[3]


@pytest.fixture(params=["file", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with database_url(request.param, tmp_path) as url:
        assert url is not None
        yield url


def start(url: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.budget.ledgers.sql_spenders", url, *arguments],
        cwd=FOLDER,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_with_threads_share_one_limit_and_use_it_up(url: str) -> None:
    processes = [start(url, str(n), "5", "6") for n in range(3)]
    told = [process.communicate(timeout=120) for process in processes]
    assert [errors for _, errors in told] == ["", "", ""]
    # 90 calls were tried under 40 calls and 1000 nano-USD.
    assert sum(int(output) for output, _ in told) == 40
    database = Database(url)
    ledger = SqlLedger(database)
    spent = Balance(Amount(40 * USED.nano, 40 * USED.tokens, 40), NOTHING)
    assert ledger.balances([ROOT, TEAM]) == {ROOT: spent, TEAM: spent}
    users = [one for account, one in ledger.accounts(per="day", period=0).items() if "user=" in account.node]
    assert sum((one.spent for one in users), NOTHING) == spent.spent
    assert ledger.reconcile(now=2.0) == []
    assert ledger.sweep(now=1e9) == []
    database.close()


def test_what_a_killed_process_held_is_free_after_its_lease_and_can_be_settled_late(url: str) -> None:
    process = start(url, "dead", "1", "1", "die")
    assert process.stdout is not None
    assert process.stdout.readline() == "reserved\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    database = Database(url)
    ledger = SqlLedger(database)
    assert ledger.balances([ROOT])[ROOT] == Balance(NOTHING, RESERVED)
    assert ledger.sweep(now=59.0) == []
    assert ledger.sweep(now=60.0) == [Expired("dead", "team=a", RESERVED)]
    assert ledger.balances([ROOT])[ROOT] == Balance()
    assert ledger.settle("dead", USED, accounts=[], path="", now=61.0).outcome == "late"
    assert ledger.balances([ROOT, TEAM]) == dict.fromkeys([ROOT, TEAM], Balance(USED, NOTHING))
    database.close()


FORKING = """
import os, sys
from langchain_tokopt.budget.ledgers.sql_ledger import SqlLedger
from langchain_tokopt.database import Database
from tests.budget.ledgers.sql_spenders import CAPS, RESERVED, ROOT, USED

database = Database(sys.argv[1])
ledger = SqlLedger(database)

def spend(name):
    ledger.reserve(name, CAPS, RESERVED, path="", now=0.0, expires_at=60.0)
    return ledger.settle(name, USED, accounts=[], path="", now=1.0).outcome

assert spend("before") == "settled"
ledger.reserve("shared", CAPS, RESERVED, path="", now=0.0, expires_at=60.0)
child = os.fork()
if child == 0:
    done = [spend("in the child"), ledger.settle("shared", USED, accounts=[], path="", now=1.0).outcome]
    database.close()
    os._exit(0 if done == ["settled", "settled"] else 1)
assert os.waitpid(child, 0)[1] == 0
assert ledger.settle("shared", USED, accounts=[], path="", now=1.0).outcome == "again"
assert spend("after") == "settled"
assert ledger.balances([ROOT])[ROOT].spent.calls == 4
assert ledger.reconcile(now=2.0) == []
database.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")
def test_a_forked_child_goes_on_with_the_ledger(url: str) -> None:
    command = [sys.executable, "-W", "error", "-c", FORKING, url]
    done = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
