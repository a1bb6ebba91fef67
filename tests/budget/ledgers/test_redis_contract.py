"""The ledger's contract over a real Redis server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from langchain_tokopt.budget.ledgers.redis_ledger import RedisLedger
from tests.budget.ledgers.contract import Connect, LedgerContract
from tests.budget.ledgers.redis_servers import own_prefix, redis_ledgers


@pytest.fixture
def connect() -> Iterator[Connect]:
    with own_prefix() as prefix, redis_ledgers(prefix) as connect:
        yield connect


@pytest.fixture
def ledger(connect: Connect) -> RedisLedger:
    return connect()


class TestRedisLedger(LedgerContract):
    pass
