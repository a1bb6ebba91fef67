"""A process that spends from a budget in Redis: `python -m tests.budget.ledgers.redis_spenders URL PREFIX NAME ...`.

With `spend THREADS CALLS` it tries so many calls and prints how many fitted. With `die` it reserves one call, says so
and waits to be killed. With `fork CHILDREN` it forks while its threads spend, and prints how many calls fitted in all.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.redis_ledger import RedisLedger
from langchain_tokopt.budget.ledgers.words import Account, Cap, Granted

LIMIT = 1000
CALL = Amount(20, 10, 1)
SITES = Account("", "day", 86_400), Account("user=alice", "day", 86_400)
CAPS = Cap(SITES[0], LIMIT), Cap(SITES[1])


def tried(ledger: RedisLedger, name: str, threads: int, calls: int, meanwhile: Callable[[], int] = int) -> int:
    """How many of the calls fitted; something else may be done while they are tried."""
    fitted: list[int] = []

    def spend(thread: int) -> None:
        for n in range(calls):
            reservation = f"{name}.{thread}.{n}"
            granted = ledger.reserve(reservation, CAPS, CALL, path="user=alice", now=1.0, expires_at=61.0)
            if isinstance(granted, Granted):
                fitted.append(1)
                ledger.settle(reservation, CALL, accounts=SITES, path="user=alice", now=2.0)

    working = [threading.Thread(target=spend, args=(thread,)) for thread in range(threads)]
    for thread in working:
        thread.start()
    others = meanwhile()
    for thread in working:
        thread.join()
    return len(fitted) + others


def forked(ledger: RedisLedger, name: str, children: int) -> int:
    """How many calls fitted in the children."""
    pipes = []
    for child in range(children):
        reading, writing = os.pipe()
        if os.fork() == 0:
            told = 255
            try:
                told = tried(ledger, f"{name}.{child}", 2, 10)
            finally:
                os.write(writing, bytes([told]))
                os._exit(0)
        os.close(writing)
        pipes.append(reading)
    fitted = sum(os.read(reading, 1)[0] for reading in pipes)
    for _ in pipes:
        os.wait()
    return fitted


def main(url: str, prefix: str, name: str, what: str, *numbers: str) -> None:
    ledger = RedisLedger(url, prefix=prefix)
    if what == "die":
        ledger.reserve(name, CAPS, CALL, path="user=alice", now=time.time(), expires_at=time.time() + 30)
        print("reserved", flush=True)  # noqa: T201 - it is what the test reads
        time.sleep(60)
    elif what == "fork":
        children = int(numbers[0])
        print(tried(ledger, name, 4, 20, lambda: forked(ledger, name, children)))  # noqa: T201
    else:
        print(tried(ledger, name, int(numbers[0]), int(numbers[1])))  # noqa: T201
    ledger.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
