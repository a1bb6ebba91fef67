"""A ledger in Redis does what the rules of ledgers say, whatever it is asked in whatever order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.machine import Expire, Machine, Release, Renew, Reserve, Settle
from langchain_tokopt.budget.ledgers.redis_ledger import RedisLedger
from langchain_tokopt.budget.ledgers.words import Account, Bucket, Cap, Entry, Granted
from tests.budget.ledgers.contract import told
from tests.budget.ledgers.redis_servers import own_prefix
from tests.databases import redis_url

pytest.importorskip("redis")

ACCOUNTS = tuple(
    Account(node, per, 0 if per == "run" else 86_400, scope)
    for node, per, scope in (("", "day", ""), ("a", "day", ""), ("a/b:c", "day", ""), ("", "run", "x:1"))
)
# Where doubles and the halves of long amounts begin and end.
sizes = st.one_of(
    st.integers(0, 9),
    st.sampled_from([10**9 - 1, 10**9, 10**15 - 1, 10**15, 2**53 - 1, 2**53, 2**53 + 1, 10**17]),
    st.integers(0, 10**17),
)
amounts = st.builds(Amount, sizes, sizes, st.integers(0, 2))
limits = st.one_of(st.none(), st.none(), sizes, st.integers(10**17, 10**18))
times = st.integers(0, 4 * 3600).map(float)
caps = st.lists(st.sampled_from(ACCOUNTS), unique=True, max_size=4).flatmap(
    lambda accounts: st.tuples(*(st.builds(Cap, st.just(account), limits, limits, limits) for account in accounts))
)
accounts = st.lists(st.sampled_from(ACCOUNTS), max_size=4).map(tuple)
paths = st.sampled_from(["", "a", "a/b\n:c"])
reasons = st.sampled_from([None, "", "because"])


class Ledgers(RuleBasedStateMachine):
    """The same commands for the rules alone and for Redis; all answers, balances and lines must be the same."""

    names = Bundle("names")
    maybe_known = st.one_of(names, names, st.sampled_from(["new", "newer"]))

    def __init__(self) -> None:
        super().__init__()
        self.closing = ExitStack()
        self.redis = RedisLedger(redis_url(), prefix=self.closing.enter_context(own_prefix()))
        self.closing.callback(self.redis.close)
        self.rules = Machine()
        self.numbers = itertools.count()

    def teardown(self) -> None:
        self.closing.close()

    @rule(target=names, caps=caps, amount=amounts, path=paths, now=times, seconds=st.integers(0, 7200))
    def reserve(self, caps: tuple[Cap, ...], amount: Amount, path: str, now: float, seconds: int) -> str:
        name = str(next(self.numbers))
        expected = Reserve(name, caps, amount, path, now, now + seconds).decide(self.rules)
        assert self.redis.reserve(name, caps, amount, path=path, now=now, expires_at=now + seconds) == expected
        return name

    @rule(name=names, caps=caps, amount=amounts)
    def reserve_again(self, name: str, caps: tuple[Cap, ...], amount: Amount) -> None:
        if name in self.rules.reservations:
            # Whoever asks again names the same accounts; what others are told is not promised.
            again = self.redis.reserve(name, caps, amount, path="", now=1.0, expires_at=9.0)
            assert isinstance(again, Granted)

    @rule(name=maybe_known, actual=amounts, accounts=accounts, path=paths, now=times, reason=reasons)
    def settle(
        self, name: str, actual: Amount, accounts: tuple[Account, ...], path: str, now: float, reason: str | None
    ) -> None:
        expected = Settle(name, actual, accounts, path, now, reason).decide(self.rules)
        assert self.redis.settle(name, actual, accounts=accounts, path=path, now=now, reason=reason) == expected

    @rule(name=names, now=times, reason=reasons)
    def release(self, name: str, now: float, reason: str | None) -> None:
        assert self.redis.release(name, now=now, reason=reason) == Release(name, now, reason).decide(self.rules)

    @rule(some=st.lists(names, unique=True, min_size=1), expires_at=times)
    def renew(self, some: list[str], expires_at: float) -> None:
        expected = sum(Renew(name, expires_at).decide(self.rules) for name in some)
        assert self.redis.renew(some, expires_at=expires_at) == expected

    @rule(now=times)
    def sweep(self, now: float) -> None:
        # Those that ran out first come first; at the same moment, by name.
        due = sorted(self.rules.reservations, key=lambda name: (self.rules.reservations[name].expires_at, name))
        expected = [expired for name in due if (expired := Expire(name, now).decide(self.rules))]
        assert self.redis.sweep(now=now) == expected

    @rule(now=times)
    def reconcile(self, now: float) -> None:
        assert self.redis.reconcile(now=now) == []

    @rule(since=times, until=times, bucket_seconds=st.sampled_from([60, 3600, 7200]))
    def series(self, since: float, until: float, bucket_seconds: int) -> None:
        sums: dict[tuple[int, str], Amount] = {}
        for line in self.rules.lines:
            if since <= line.at < until and line.spent:
                key = int(line.at // bucket_seconds) * bucket_seconds, line.path
                sums[key] = sums.get(key, Amount()) + line.spent
        expected = [Bucket(start, path, spent) for (start, path), spent in sorted(sums.items())]
        assert self.redis.series(since=since, until=until, bucket_seconds=bucket_seconds) == expected

    @rule(node=st.sampled_from([None, "", "a", "c"]), name=st.one_of(st.none(), names), since=times, until=times)
    def journal(self, node: str | None, name: str | None, since: float, until: float) -> None:
        expected = [
            told(line)
            for line in reversed(self.rules.lines)
            if (name is None or line.reservation == name)
            and since <= line.at < until
            and (node is None or any(account.node == node for account in line.accounts))
        ]
        found = self.redis.journal(node=node, reservation=name, since=since, until=until, count=1000)
        assert [told(entry) for entry in found] == expected

    @invariant()
    def everything_agrees(self) -> None:
        assert self.redis.balances(ACCOUNTS) == self.rules.of(ACCOUNTS)
        lines: Iterator[Entry] = map(told, self.redis.journal(count=1000))
        assert list(lines) == [told(line) for line in reversed(self.rules.lines)]


def test_redis_follows_the_rules_of_ledgers() -> None:
    redis_url()
    run: Any = Ledgers.TestCase.settings
    Ledgers.TestCase.settings = settings(run, max_examples=100, stateful_step_count=40, deadline=None)
    Ledgers.TestCase("runTest").runTest()
