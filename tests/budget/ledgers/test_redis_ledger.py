"""A ledger in Redis: exact numbers, keys, the journal under clocks that jump, and repairs."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers import redis_journal, redis_keeping, redis_ledger, redis_reconcile
from langchain_tokopt.budget.ledgers.redis_ledger import RedisLedger
from langchain_tokopt.budget.ledgers.words import (
    NOTHING,
    Account,
    Balance,
    Bucket,
    Cap,
    Correction,
    Granted,
    Refusal,
    StoredLimit,
    Valued,
)
from langchain_tokopt.errors import ConfigurationError, StoreError
from tests.budget.ledgers.contract import ALICE, PATH, ROOT, RUN, SHOP, all_at_once, balance, lines, reserve, settle
from tests.budget.ledgers.redis_servers import own_prefix, own_server
from tests.databases import redis_url

redis = pytest.importorskip("redis")

MOST = 10**19 - 1
HOUR = 3600


@pytest.fixture
def prefix() -> Iterator[str]:
    with own_prefix() as prefix:
        yield prefix


@pytest.fixture
def ledger(prefix: str) -> Iterator[RedisLedger]:
    ledger = RedisLedger(redis_url(), prefix=prefix)
    yield ledger
    ledger.close()


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url(), decode_responses=True) as client:
        yield client


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is done page by page takes several."""
    for module, names in (
        (redis_ledger, ("_ACCOUNTS_A_PAGE", "_LEASES_A_PAGE")),
        (redis_journal, ("_LINES_A_PAGE", "_HOURS_A_PAGE")),
        (redis_reconcile, ("_LINES_A_PAGE", "_ACCOUNTS_A_STEP", "_LINES_A_STEP")),
        (redis_keeping, ("_REPORTS_A_PAGE",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, 3)


# --- numbers ---


@pytest.mark.parametrize("spent", [10**15 - 1, 10**15, 2**53 - 1, 2**53, 10**18, 10**18 + 10**9 - 1, MOST - 10])
def test_a_limit_is_exact_whatever_its_size(ledger: RedisLedger, spent: int) -> None:
    """Numbers in Lua are doubles: 2**53 + 1 is the first whole number that is none."""
    settle(ledger, "a", Amount(spent, spent, spent))
    limit = spent + 3
    cap = Cap(ROOT, limit, limit, limit)
    assert isinstance(reserve(ledger, "b", Amount(1, 2, 3), cap), Granted)
    assert isinstance(reserve(ledger, "c", Amount(nano=3), cap), Refusal)
    assert isinstance(reserve(ledger, "d", Amount(nano=2, tokens=1), cap), Granted)
    assert isinstance(reserve(ledger, "e", Amount(tokens=1), cap), Refusal)
    assert settle(ledger, "b", Amount(2, 1, 1)).over == Amount(1, 0, 0)
    assert ledger.release("d", now=1.0) == Amount(2, 1, 0)
    assert balance(ledger) == Balance(Amount(spent + 2, spent + 1, spent + 1), NOTHING)
    assert ledger.reconcile(now=2.0) == []


def test_amounts_of_random_sizes_are_added_and_taken_away_exactly(ledger: RedisLedger) -> None:
    random_ = random.Random(7)

    def some() -> int:
        return random_.choice([0, 1, 10**9 - 1, 10**9, 10**15 - 1, random_.randrange(10 ** random_.randrange(1, 18))])

    spent, held = NOTHING, NOTHING
    for n in range(150):
        amount, actual = Amount(some(), some(), some()), Amount(some(), some(), some())
        reserve(ledger, f"{n}", amount, Cap(ROOT))
        if n % 3:
            assert settle(ledger, f"{n}", actual).over == actual.beyond(amount)
            spent += actual
        else:
            held += amount
        assert balance(ledger) == Balance(spent, held)
    assert ledger.reconcile(now=1.0) == []


def test_what_is_too_large_to_be_counted_is_refused_and_changes_nothing(ledger: RedisLedger) -> None:
    settle(ledger, "a", Amount(MOST - 5, 0, 1), accounts=[SHOP, ROOT])
    before = ledger.balances([ROOT, SHOP, ALICE])
    reserve(ledger, "b", Amount(0, MOST, 1), Cap(ROOT))
    with pytest.raises(
        StoreError, match=r"held tokens of 'global' per day would be more than a budget can count .19 digits"
    ):
        reserve(ledger, "c", Amount(0, 1, 1), Cap(ALICE), Cap(ROOT))
    with pytest.raises(StoreError, match="spent nano-USD of 'project=shop' per day would be more"):
        settle(ledger, "d", Amount(6, 0, 1), accounts=[ALICE, SHOP])
    assert ledger.release("b", now=1.0) == Amount(0, MOST, 1)
    assert ledger.balances([ROOT, SHOP, ALICE]) == before
    # It is a refusal where there is a limit.
    assert isinstance(reserve(ledger, "e", Amount(MOST, 0, 1), Cap(ROOT, MOST)), Refusal)
    with pytest.raises(StoreError, match="more than a budget can count"):
        reserve(ledger, "f", Amount(MOST + 1), Cap(ROOT))
    with pytest.raises(StoreError, match="more than a budget can count"):
        settle(ledger, "f", Amount(MOST + 1))
    with pytest.raises(ConfigurationError, match="nano=10000000000000000000 cannot be used"):
        reserve(ledger, "f", Amount(1), Cap(ROOT, MOST + 1))
    with pytest.raises(ConfigurationError, match="tokens=10000000000000000000 cannot be used"):
        ledger.put_limits([StoredLimit("", "day", 1, MOST + 1)], now=1.0)
    assert [entry.action for entry in ledger.journal()] == ["released", "reserved", "overage"]


# --- keys and scripts ---


def test_all_keys_of_a_budget_lie_in_one_slot(prefix: str, ledger: RedisLedger, client: redis.Redis) -> None:
    reserve(ledger, "a", Amount(60, 10, 1), Cap(ROOT), Cap(RUN))
    reserve(ledger, "b}{", Amount(60, 10, 1), Cap(ALICE))
    settle(ledger, "a", Amount(60, 10, 1))
    reserve(ledger, "c", Amount(60, 10, 1), Cap(ALICE))
    ledger.release("c", now=1.0)
    ledger.put_limits([StoredLimit("{a}", "day", 1)], now=1.0)
    ledger.claim("{rebalance}", now=1.0, until=2.0)
    ledger.value(Valued(1.0, "", 1))  # type: ignore[arg-type]
    base = f"{{{prefix}:budget:default}}"
    keys = sorted(client.scan_iter(match=f"*{prefix}*"))
    assert keys == [
        f"{prefix}:budgets",
        f"{base}:accounts:day:86400",
        f"{base}:accounts:run:0",
        f"{base}:balances",
        f"{base}:claim:{{rebalance}}",
        f"{base}:hours",
        f"{base}:journal",
        f"{base}:leases",
        f"{base}:limits",
        f"{base}:reservations",
        f"{base}:spent:27",
        f"{base}:values",
        f"{base}:version",
    ]
    # Nothing that counts ever expires; a claim is forgotten a day after it ran out.
    assert {key for key in keys if client.ttl(key) != -1} == {f"{base}:claim:{{rebalance}}"}
    assert 86_400 < client.ttl(f"{base}:claim:{{rebalance}}") <= 86_401


def test_a_cluster_has_budgets_on_its_nodes(tmp_path: Path) -> None:
    with own_server(tmp_path, "--cluster-enabled", "yes") as port:
        with redis.Redis(port=port) as node:
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            while b"cluster_state:ok" not in node.execute_command("CLUSTER", "INFO"):
                time.sleep(0.02)
        with redis.RedisCluster(host="127.0.0.1", port=port) as cluster:
            for name in ("a", "b", "c"):
                ledger = RedisLedger(cluster, budget=name)
                assert isinstance(reserve(ledger, "a", Amount(60, 10, 1), Cap(ROOT, 100), Cap(RUN)), Granted)
                assert isinstance(reserve(ledger, "b", Amount(60, 10, 1), Cap(ROOT, 100), Cap(RUN)), Refusal)
                settle(ledger, "a", Amount(50, 10, 1))
                ledger.put_limits([StoredLimit("a", "day", 1)], now=1.0)
                assert ledger.sweep(now=1e9) == []
                assert ledger.series(since=0.0, until=1e9, bucket_seconds=HOUR) == [
                    Bucket(97_200, PATH, Amount(50, 10, 1))
                ]
                assert len(ledger.journal()) == 3
                assert ledger.reconcile(now=1.0) == []
            assert redis_ledger.budget_names(cluster) == ["a", "b", "c"]


def test_scripts_that_the_server_forgot_are_sent_again(tmp_path: Path) -> None:
    start = threading.Barrier(9)

    def spend(ledger: RedisLedger, thread: int) -> None:
        start.wait()
        for n in range(40):
            assert isinstance(reserve(ledger, f"{thread}.{n}", Amount(1, 1, 1), Cap(ROOT)), Granted)

    def forget(client: redis.Redis) -> None:
        start.wait()
        for _ in range(40):
            client.script_flush()

    with own_server(tmp_path) as port, redis.Redis(port=port) as client:
        ledger = RedisLedger(f"redis://127.0.0.1:{port}/0")
        reserve(ledger, "a", Amount(60, 10, 1))
        client.script_flush()
        assert settle(ledger, "a", Amount(50, 10, 1)).outcome == "settled"
        spending = (lambda thread=thread: spend(ledger, thread) for thread in range(8))
        all_at_once(lambda: forget(client), *spending)  # type: ignore[misc]
        assert balance(ledger) == Balance(Amount(50, 10, 1), Amount(320, 320, 320))
        assert ledger.reconcile(now=1.0) == []
        ledger.close()


def test_more_threads_than_connections_wait_for_each_other(prefix: str) -> None:
    ledger = RedisLedger(redis_url(), prefix=prefix, max_connections=2)
    all_at_once(*(lambda n=n: ledger.value(Valued(float(n), "", n)) for n in range(60)))  # type: ignore[misc]
    assert [valued.at for valued in ledger.values(since=0.0, until=60.0)] == list(map(float, range(60)))
    ledger.close()


# --- the journal, under clocks that jump ---


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("bucket_seconds", [60, 1000, HOUR, 2 * HOUR, 5400, 86_400])
def test_a_series_is_right_whatever_the_clocks_said(ledger: RedisLedger, bucket_seconds: int) -> None:
    random_ = random.Random(bucket_seconds)
    spent: list[tuple[float, str, int]] = []
    for n in range(60):
        now = random_.choice([float(random_.randrange(0, 6 * HOUR)), float(random_.randrange(7) * HOUR)])
        path, nano = random_.choice(["", "a", "a/b"]), random_.randrange(1, 9)
        reserve(ledger, f"{n}", Amount(4, 1, 1), Cap(ROOT), path=path, now=now)
        settle(ledger, f"{n}", Amount(nano, 0, 1), now=now)
        spent.append((now, path, nano))
    for since, until in ((0.0, 7.0 * HOUR), (0.5, 5000.0), (1.0 * HOUR, 3.0 * HOUR), (1800.0, 1801.0), (9e9, 1e10)):
        expected: dict[tuple[int, str], Amount] = {}
        for at, path, nano in spent:
            if since <= at < until:
                key = int(at // bucket_seconds) * bucket_seconds, path
                expected[key] = expected.get(key, NOTHING) + Amount(nano, 0, 1)
        found = ledger.series(since=since, until=until, bucket_seconds=bucket_seconds)
        assert found == [Bucket(start, path, amount) for (start, path), amount in sorted(expected.items())]


@pytest.mark.usefixtures("small_pages")
def test_the_journal_is_in_the_order_of_writing_whatever_the_clocks_said(ledger: RedisLedger) -> None:
    times = [5000.0, 90_000.0, 100.0, 4000.0, 90_001.0, 5000.0, 101.0, 3999.5]
    for n, now in enumerate(times):
        reserve(ledger, str(n), Amount(1, 1, 1), Cap(ROOT if n % 2 else ALICE), now=now)

    def found(**which: object) -> list[str]:
        return [entry.reservation for entry in ledger.journal(**which)]  # type: ignore[arg-type]

    assert found() == ["7", "6", "5", "4", "3", "2", "1", "0"]
    assert found(since=3999.5, until=5000.0) == ["7", "3"]
    assert found(since=5000.0) == ["5", "4", "1", "0"]
    assert found(until=4000.0) == ["7", "6", "2"]
    assert found(until=5001.0, node="") == ["7", "5", "3"]
    assert found(until=5001.0, node="", count=2) == ["7", "5"]
    assert found(since=7200.0, until=7300.0) == []
    ids = [tuple(map(int, entry.id.split("-"))) for entry in ledger.journal()]
    assert ids == sorted(ids, reverse=True)


def test_a_node_is_not_found_by_the_end_of_its_name_alone(ledger: RedisLedger) -> None:
    for n, node in enumerate(["b", "a:b", "a/b", ":b", "b:", "ab"]):
        reserve(ledger, str(n), Amount(1, 1, 1), Cap(Account(node, "run", 0, "x:y")))
    assert [entry.reservation for entry in ledger.journal(node="b")] == ["0"]
    assert [entry.reservation for entry in ledger.journal(node="a:b")] == ["1"]
    assert [entry.reservation for entry in ledger.journal(node=":b")] == ["3"]


# --- pages ---


@pytest.mark.usefixtures("small_pages")
def test_everything_is_done_to_the_last_page(ledger: RedisLedger) -> None:
    accounts = [Account(f"user={n}", "day", 86_400) for n in range(10)]
    for n, account in enumerate(accounts):
        reserve(ledger, str(n), Amount(1, 1, 1), Cap(account))
        ledger.value(Valued(1.0, str(n), n))  # type: ignore[arg-type]
    held = Balance(NOTHING, Amount(1, 1, 1))
    assert ledger.balances(accounts) == dict.fromkeys(accounts, held)
    assert list(ledger.accounts(per="day", period=86_400)) == accounts[::-1]
    assert list(ledger.accounts(per="day", period=86_400, count=7)) == accounts[:2:-1]
    assert [valued.path for valued in ledger.values(since=1.0, until=2.0)] == [str(n) for n in range(10)]
    assert len(ledger.journal(count=8)) == 8
    assert ledger.renew([str(n) for n in range(7)], expires_at=200_000.0) == 7
    assert sorted(expired.reservation for expired in ledger.sweep(now=100_060.0)) == ["7", "8", "9"]
    assert len(ledger.sweep(now=200_000.0)) == 7
    assert ledger.balances(accounts) == dict.fromkeys(accounts, Balance())


# --- repairs ---


@pytest.mark.usefixtures("small_pages")
def test_counters_that_are_wrong_gone_or_invented_are_made_from_the_journal(
    prefix: str, ledger: RedisLedger, client: redis.Redis
) -> None:
    for n in range(10):
        reserve(ledger, str(n), Amount(10, 5, 1), Cap(ROOT), Cap(SHOP), Cap(ALICE), Cap(RUN))
        if n % 2:
            settle(ledger, str(n), Amount(12, 5, 1))
    right = Balance(Amount(60, 25, 5), Amount(50, 25, 5))
    balances = f"{{{prefix}:budget:default}}:balances"
    names = dict(zip((ROOT, SHOP, ALICE, RUN), client.hkeys(balances), strict=True))
    nobody = Account("user=nobody", "day", 86_400)
    client.hset(balances, names[ROOT], "60 25 5 49 25 5")
    client.hset(balances, names[SHOP], "60 25 five 50 25 5")
    client.hdel(balances, names[ALICE])
    client.hset(balances, "day:86400::user=nobody", "7 0 0 -1 0 0")
    with pytest.raises(StoreError, match=r"reconcile\(\) makes it anew from the journal$"):
        ledger.balances([SHOP])
    with pytest.raises(StoreError, match="makes it anew"):
        reserve(ledger, "new", Amount(1, 1, 1), Cap(ROOT), Cap(SHOP))
    assert ledger.reconcile(now=1.0) == [
        Correction(ROOT, Balance(Amount(60, 25, 5), Amount(49, 25, 5)), right),
        Correction(SHOP, Balance(), right),
        Correction(ALICE, Balance(), right),
        Correction(nobody, Balance(Amount(7, 0, 0), Amount(-1, 0, 0)), Balance()),
    ]
    assert ledger.balances([ROOT, SHOP, ALICE, RUN]) == dict.fromkeys((ROOT, SHOP, ALICE, RUN), right)
    assert set(ledger.accounts(per="day", period=86_400)) == {ROOT, SHOP, ALICE, nobody}
    assert ledger.reconcile(now=1.0) == []


def test_counters_are_corrected_while_others_go_on_spending(
    prefix: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_reconcile, "_LINES_A_PAGE", 50)
    monkeypatch.setattr(redis_reconcile, "_LINES_A_STEP", 30)
    spending, repairing = (RedisLedger(redis_url(), prefix=prefix) for _ in range(2))
    accounts = [Account(f"user={n}", "day", 86_400) for n in range(4)]
    caps = [Cap(account) for account in accounts]
    reserve(spending, "first", Amount(1, 1, 1), *caps)
    for account in accounts[:2]:
        client.hset(f"{{{prefix}:budget:default}}:balances", f"day:86400::{account.node}", "500 0 0 1 1 1")
    done = threading.Event()
    corrections: list[list[Correction]] = []

    def spend(thread: int) -> None:
        for n in range(60):
            reserve(spending, f"{thread}.{n}", Amount(2, 1, 1), *caps)
            settle(spending, f"{thread}.{n}", Amount(3, 1, 1))

    def repair() -> None:
        while not done.is_set():
            corrections.append(repairing.reconcile(now=1.0))

    repairs = threading.Thread(target=repair)
    repairs.start()
    all_at_once(*(lambda thread=thread: spend(thread) for thread in range(4)))  # type: ignore[misc]
    done.set()
    repairs.join()
    assert repairing.reconcile(now=1.0) == []
    assert [one.account for each in corrections for one in each] == accounts[:2]
    right = Balance(Amount(720, 240, 240), Amount(1, 1, 1))
    assert spending.balances(accounts) == dict.fromkeys(accounts, right)
    assert sum(amount.nano for _, _, amount, _ in lines(spending, count=2000)) == 720
    spending.close()
    repairing.close()


# --- a journal that is not kept for ever ---


@pytest.fixture
def shortened(prefix: str) -> Iterator[RedisLedger]:
    """A ledger that keeps its journal for a day."""
    ledger = RedisLedger(redis_url(), prefix=prefix, keep_seconds=86_400)
    yield ledger
    ledger.close()


def test_what_old_lines_add_up_to_is_carried_forward(
    prefix: str, shortened: RedisLedger, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_ledger, "_LINES_A_PAGE", 2)
    ledger = shortened
    for n in range(7):
        reserve(ledger, str(n), Amount(10, 5, 1), Cap(ROOT), Cap(ALICE), now=n * HOUR, seconds=9e9)
    for n in range(4):
        settle(ledger, str(n), Amount(12, 5, 1), now=(10 + n) * HOUR)
    ledger.release("4", now=14 * HOUR)
    ledger.put_limits([StoredLimit("", "day", 5)], now=15 * HOUR)
    series = ledger.series(since=0.0, until=1e6, bucket_seconds=HOUR)
    balances = ledger.balances([ROOT, ALICE])
    # The four settlements are two lines each, as they are over.
    assert len(ledger.journal()) == 7 + 8 + 1 + 1
    assert ledger.sweep(now=86_400.0) == []
    assert len(ledger.journal()) == 17
    assert ledger.sweep(now=86_400.0 + 12 * HOUR) == []
    assert [entry.reservation for entry in ledger.journal()] == ["", "4", "3", "3", "2", "2"]
    assert ledger.balances([ROOT, ALICE]) == balances
    assert ledger.series(since=0.0, until=1e6, bucket_seconds=HOUR) == series
    assert ledger.reconcile(now=1.0) == []
    base = f"{{{prefix}:budget:default}}"
    assert sorted(client.hkeys(f"{base}:reservations")) == ["2", "3", "4", "5", "6"]
    assert not client.exists(f"{base}:recounting")
    client.delete(f"{base}:balances")
    assert [correction.after for correction in ledger.reconcile(now=1.0)] == [balances[ROOT], balances[ALICE]]
    assert ledger.sweep(now=86_400.0 * 3) == []
    assert ledger.journal() == []
    assert sorted(client.hkeys(f"{base}:reservations")) == ["5", "6"]
    assert settle(ledger, "5", Amount(10, 5, 1)).outcome == "settled"
    assert settle(ledger, "5", Amount(10, 5, 1)).outcome == "again"
    assert settle(ledger, "0", Amount(1, 1, 1)).outcome == "late"
    assert balance(ledger) == Balance(Amount(59, 26, 6), Amount(10, 5, 1))
    assert ledger.reconcile(now=1.0) == []


def test_counters_stay_right_while_the_journal_is_shortened_and_recounted(
    prefix: str, shortened: RedisLedger, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_ledger, "_LINES_A_PAGE", 20)
    monkeypatch.setattr(redis_reconcile, "_LINES_A_PAGE", 20)
    ledger, corrections = shortened, list[Correction]()

    def spend(thread: int) -> None:
        for n in range(50):
            reserve(ledger, f"{thread}.{n}", Amount(2, 1, 1), Cap(ROOT), Cap(ALICE), seconds=9e9)
            settle(ledger, f"{thread}.{n}", Amount(3, 1, 1))

    def shorten() -> None:
        for _ in range(50):
            # Also when somebody recounts who cannot be asked to wait.
            client.delete(f"{{{prefix}:budget:default}}:recounting")
            ledger.sweep(now=100_002.0 + 86_400)

    def recount() -> None:
        for _ in range(10):
            corrections.extend(ledger.reconcile(now=1.0))

    all_at_once(shorten, recount, *(lambda thread=thread: spend(thread) for thread in range(4)))  # type: ignore[misc]
    assert corrections == []
    assert balance(ledger) == Balance(Amount(600, 200, 200), NOTHING)
    ledger.sweep(now=100_002.0 + 86_400)
    assert ledger.journal() == []
    assert ledger.reconcile(now=1.0) == []


def test_sums_are_made_anew_when_the_journal_was_shortened_meanwhile(
    prefix: str, shortened: RedisLedger, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve(shortened, "a", Amount(2, 1, 1), Cap(ROOT))
    settle(shortened, "a", Amount(3, 1, 1))
    reading = redis_reconcile.Recount._read
    times: list[int] = []

    def read(recount: redis_reconcile.Recount) -> None:
        reading(recount)
        times.append(1)
        client.delete(f"{{{prefix}:budget:default}}:recounting")
        shortened.sweep(now=100_002.0 + 86_400)

    monkeypatch.setattr(redis_reconcile.Recount, "_read", read)
    assert shortened.reconcile(now=1.0) == []
    assert len(times) == 2
    assert balance(shortened) == Balance(Amount(3, 1, 1), NOTHING)
