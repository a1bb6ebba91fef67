"""Redis for tests: a prefix of one's own on the server that is given, and servers that a test starts itself."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from langchain_tokopt.budget.ledgers.redis_ledger import RedisLedger
from tests.databases import redis_url


@contextmanager
def own_prefix() -> Iterator[str]:
    """A prefix that nobody else uses; whatever has it in its name is removed afterwards."""
    url = redis_url()
    import redis

    prefix = f"tokopt-test-{uuid.uuid4().hex}"
    try:
        yield prefix
    finally:
        with redis.Redis.from_url(url) as client:
            for key in client.scan_iter(match=f"*{prefix}*", count=1000):
                client.delete(key)


@contextmanager
def redis_ledgers(prefix: str) -> Iterator[Callable[..., RedisLedger]]:
    """Opens ledgers on the server that is given, all with the prefix; they are closed afterwards."""
    opened: list[RedisLedger] = []

    def connect(budget: str = "default") -> RedisLedger:
        ledger = RedisLedger(redis_url(), budget=budget, prefix=prefix)
        opened.append(ledger)
        return ledger

    try:
        yield connect
    finally:
        for ledger in opened:
            ledger.close()
