"""A process that spends: `python -m tests.budget.ledgers.sql_spenders <url> <name> <threads> <calls> [die]`.

Prints how many calls were made. With "die" it reserves one call, says so and waits to be killed.
"""

from __future__ import annotations

import sys
import threading
import time

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.sql_ledger import SqlLedger
from langchain_tokopt.budget.ledgers.words import Account, Cap, Granted
from langchain_tokopt.database import Database

ROOT, TEAM = Account("", "day"), Account("team=a", "day")
LIMIT = Amount(1000, 5000, 40)
CAPS = (Cap(ROOT, LIMIT.nano, LIMIT.tokens, LIMIT.calls), Cap(TEAM))
RESERVED, USED = Amount(25, 100, 1), Amount(20, 90, 1)


def main(url: str, name: str, threads: int, calls: int, *, die: bool) -> None:
    database = Database(url)
    ledger = SqlLedger(database)
    if die:
        ledger.reserve(name, CAPS, RESERVED, path="team=a", now=0.0, expires_at=60.0)
        print("reserved", flush=True)  # noqa: T201 - it is what the test reads
        time.sleep(60)
    made: list[int] = []

    def spend(thread: int) -> None:
        user = Account(f"team=a/user={name}.{thread}", "day")
        for call in range(calls):
            id_ = f"{name}.{thread}.{call}"
            answer = ledger.reserve(id_, (*CAPS, Cap(user)), RESERVED, path=user.node, now=0.0, expires_at=60.0)
            if isinstance(answer, Granted):
                made.append(1)
                done = ledger.settle(id_, USED, accounts=[ROOT, TEAM, user], path=user.node, now=1.0)
                if done.outcome != "settled" or done.balances[ROOT].taken.beyond(LIMIT):
                    raise AssertionError(done)

    working = [threading.Thread(target=spend, args=(thread,)) for thread in range(threads)]
    for thread in working:
        thread.start()
    for thread in working:
        thread.join()
    database.close()
    print(len(made))  # noqa: T201 - it is what the test reads


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), die="die" in sys.argv)
