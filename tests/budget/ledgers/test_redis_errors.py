"""What a ledger in Redis says when the server cannot be used, and what it warns of."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.redis_errors import store_error
from langchain_tokopt.budget.ledgers.redis_ledger import RedisLedger, budget_names
from langchain_tokopt.budget.ledgers.redis_server import masked
from langchain_tokopt.budget.ledgers.words import NOTHING, Account, Balance, Cap, Granted, StoredLimit
from langchain_tokopt.errors import ConfigurationError, MissingDependencyError, StoreError
from tests.budget.ledgers.contract import ROOT, all_at_once, balance, lines, reserve, settle
from tests.budget.ledgers.redis_servers import Wire, free_port, own_prefix, own_server
from tests.databases import redis_url

redis = pytest.importorskip("redis")

EVICTS = "evicts keys when its memory is full"


@pytest.fixture
def prefix() -> Iterator[str]:
    with own_prefix() as prefix:
        yield prefix


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.close()


def said(error: pytest.ExceptionInfo[StoreError]) -> str:
    return str(error.value)


# --- the server ---


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    port = free_port()
    with pytest.raises(StoreError) as error:
        RedisLedger(f"redis://me:secret@127.0.0.1:{port}/0")
    assert said(error).startswith(f"redis://me:***@127.0.0.1:{port}/0 cannot be used (")
    assert said(error).endswith("check that the server runs and can be reached, and that host and port are right")
    assert "secret" not in said(error)


def test_a_wrong_password_and_none_are_told_apart(tmp_path: Path) -> None:
    with own_server(tmp_path, "--requirepass", "right") as port:
        with pytest.raises(StoreError, match=r"check the user and the password$") as wrong:
            RedisLedger(f"redis://:wrong@127.0.0.1:{port}/0")
        assert "wrong@" not in said(wrong)
        with pytest.raises(StoreError, match=r"the server wants a password: redis://user:password@host$"):
            RedisLedger(f"redis://127.0.0.1:{port}/0")
        RedisLedger(f"redis://:right@127.0.0.1:{port}/0").close()


def test_a_user_without_rights_is_told_which_are_needed(tmp_path: Path) -> None:
    with own_server(tmp_path) as port, redis.Redis(port=port) as admin:
        admin.execute_command("ACL", "SETUSER", "reader", "on", ">word", "~*", "+@read", "+@connection")
        with pytest.raises(StoreError, match="let this user run EVAL"):
            RedisLedger(f"redis://reader:word@127.0.0.1:{port}/0")


def test_a_replica_is_refused(tmp_path: Path) -> None:
    remedy = r"this is a replica: give the URL of the primary server$"
    with own_server(tmp_path, "--replicaof", "127.0.0.1 1") as port, pytest.raises(StoreError, match=remedy):
        RedisLedger(f"redis://127.0.0.1:{port}/0")


def test_a_full_server_changes_nothing_and_is_used_again_when_there_is_room(tmp_path: Path) -> None:
    with own_server(tmp_path) as port, redis.Redis(port=port) as admin:
        ledger = RedisLedger(f"redis://127.0.0.1:{port}/0")
        admin.config_set("maxmemory", "1")
        with pytest.raises(StoreError, match=r"raise maxmemory, or use another server; nothing was written$"):
            reserve(ledger, "a", Amount(60, 10, 1))
        admin.config_set("maxmemory", "0")
        assert balance(ledger) == Balance()
        assert isinstance(reserve(ledger, "a", Amount(60, 10, 1)), Granted)
        ledger.close()


def test_a_server_that_stops_is_used_again_when_it_is_back(tmp_path: Path) -> None:
    kept = ("--appendonly", "yes", "--appendfsync", "always")
    with own_server(tmp_path, *kept) as port:
        ledger = RedisLedger(f"redis://127.0.0.1:{port}/0")
        reserve(ledger, "a", Amount(60, 10, 1))
    with pytest.raises(StoreError, match="check that the server runs"):
        settle(ledger, "a", Amount(50, 10, 1))
    with own_server(tmp_path, *kept, port=port):
        # The connection is new and the scripts are unknown there.
        assert settle(ledger, "a", Amount(50, 10, 1)).balances == {ROOT: Balance(Amount(50, 10, 1), NOTHING)}
    ledger.close()


def test_a_server_that_does_not_answer_is_waited_for_no_longer_than_asked(wire: Wire, prefix: str) -> None:
    wire.silent = True
    with pytest.raises(StoreError, match=r"timeout_seconds is too short; .* safe to ask again$"):
        RedisLedger(wire.url, prefix=prefix, timeout_seconds=0.2)


@pytest.mark.parametrize("key", ["balances", "reservations", "journal", "hours", "leases", "accounts:day:86400"])
def test_a_key_of_another_program_stops_a_reservation_before_anything_is_written(prefix: str, key: str) -> None:
    ledger = RedisLedger(redis_url(), prefix=prefix)
    base = f"{{{prefix}:budget:default}}"
    with redis.Redis.from_url(redis_url()) as client:
        client.set(f"{base}:{key}", "mine")
        before = sorted(client.scan_iter(match=f"{{{prefix}*"))
        with pytest.raises(StoreError, match=r"use another prefix, or another database number$"):
            reserve(ledger, "a", Amount(60, 10, 1))
        assert sorted(client.scan_iter(match=f"{{{prefix}*")) == before
        client.delete(f"{base}:{key}")
        reserve(ledger, "a", Amount(60, 10, 1))
        spent = f"{base}:spent:27"
        client.set(spent, "mine")
        with pytest.raises(StoreError, match="another prefix"):
            settle(ledger, "a", Amount(50, 10, 1))
        assert balance(ledger) == Balance(NOTHING, Amount(60, 10, 1))
        assert len(ledger.journal()) == 1
    ledger.close()


def test_what_one_of_many_threads_does_wrong_is_told_to_it_alone(prefix: str) -> None:
    """The calls of all threads are sent together."""
    ledger, other = RedisLedger(redis_url(), prefix=prefix), Account("", "day", 2 * 86_400)
    with redis.Redis.from_url(redis_url()) as client:
        client.set(f"{{{prefix}:budget:default}}:accounts:day:{other.period}", "mine")
    failed: list[str] = []

    def spend(thread: int) -> None:
        for n in range(10):
            name, caps = f"{thread}.{n}", (Cap(other if thread == 0 else ROOT),)
            try:
                assert isinstance(reserve(ledger, name, Amount(1, 1, 1), *caps), Granted)
            except StoreError:
                failed.append(name)

    all_at_once(*(lambda thread=thread: spend(thread) for thread in range(8)))  # type: ignore[misc]
    assert sorted(failed) == [f"0.{n}" for n in range(10)]
    assert balance(ledger) == Balance(NOTHING, Amount(70, 70, 70))
    ledger.close()


# --- answers that are lost ---


@pytest.fixture
def ledger_on_wire(wire: Wire, prefix: str) -> Iterator[RedisLedger]:
    """A ledger whose scripts the server knows, so that what is lost is no word about them."""
    ledger = RedisLedger(wire.url, prefix=prefix)
    other = RedisLedger(wire.url, budget="other", prefix=prefix)
    reserve(other, "a", Amount(1, 1, 1))
    settle(other, "a", Amount(1, 1, 1))
    other.claim("rebalance", now=1.0, until=2.0)
    other.put_limits([StoredLimit("a", "day", 1)], now=1.0)
    other.close()
    yield ledger
    ledger.close()


def test_a_reservation_and_a_settlement_whose_answers_are_lost_are_made_once(
    wire: Wire, ledger_on_wire: RedisLedger
) -> None:
    ledger = ledger_on_wire
    wire.lost = 1
    assert reserve(ledger, "a", Amount(60, 10, 1)) == Granted({ROOT: Balance(NOTHING, Amount(60, 10, 1))})
    wire.lost = 1
    assert settle(ledger, "a", Amount(50, 10, 1)).outcome == "again"
    assert balance(ledger) == Balance(Amount(50, 10, 1), NOTHING)
    assert lines(ledger) == [
        ("a", "reserved", NOTHING, Amount(60, 10, 1)),
        ("a", "settled", Amount(50, 10, 1), Amount(-60, -10, -1)),
    ]


def test_what_is_asked_again_by_the_caller_is_made_once(wire: Wire, ledger_on_wire: RedisLedger) -> None:
    ledger = ledger_on_wire
    wire.lost = 2  # also the answer to the greeting of the next connection
    with pytest.raises(StoreError, match="check that the server runs"):
        reserve(ledger, "a", Amount(60, 10, 1))
    assert reserve(ledger, "a", Amount(60, 10, 1)) == Granted({ROOT: Balance(NOTHING, Amount(60, 10, 1))})
    assert len(ledger.journal()) == 1


def test_a_claim_whose_answer_is_lost_is_told_when_it_is_asked_for_again(
    wire: Wire, ledger_on_wire: RedisLedger
) -> None:
    wire.lost = 1
    assert ledger_on_wire.claim("rebalance", now=1.0, until=2.0) is True
    assert ledger_on_wire.claim("rebalance", now=1.5, until=2.5) is False


def test_limits_whose_answer_is_lost_are_not_written_down_twice(wire: Wire, ledger_on_wire: RedisLedger) -> None:
    wire.lost = 1
    with pytest.raises(StoreError, match="check that the server runs"):
        ledger_on_wire.put_limits([StoredLimit("a", "day", 1)], now=1.0)
    assert ledger_on_wire.limits() == [StoredLimit("a", "day", 1)]
    assert len(ledger_on_wire.journal()) == 1


# --- what it is given ---


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:secret@host/1", "redis://:***@host/1"),
        ("rediss://me:se%40cret@[::1]:6380/1?ssl_ca_certs=/etc/ca.pem", "rediss://me:***@[::1]:6380/1?ssl_ca_certs=/etc/ca.pem"),
        ("unix:///run/redis.sock?db=1&password=secret", "unix:///run/redis.sock?db=1&password=***"),
        ("redis://[secret", "redis://..."),
    ],
)  # fmt: skip
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert masked(url) == shown


@pytest.mark.parametrize(
    "url", ["", "host:6379", "http://host", "redis://:secret@host:port/0", "redis://:secret@host/prod", 7, None]
)
def test_what_is_no_server_is_refused(url: object) -> None:
    with pytest.raises(ConfigurationError, match="give \"redis://user:password@host:6379/0\"") as error:  # fmt: skip
        RedisLedger(url)
    assert error.value.argument == "url_or_client"
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("budget", ""),
        ("budget", "a{b}"),
        ("prefix", "}"),
        ("connect_timeout_seconds", 0.0),
        ("timeout_seconds", -1.0),
        ("max_connections", 0),
        ("keep_seconds", 3600),
    ],
)
def test_settings_that_cannot_work_are_refused(argument: str, value: object) -> None:
    with pytest.raises(ConfigurationError) as error:
        RedisLedger("redis://127.0.0.1:1/0", **{argument: value})  # type: ignore[arg-type]
    assert (error.value.argument, error.value.value) == (argument, value)


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "langchain-tokopt\[redis\]"'):
        RedisLedger("redis://127.0.0.1:6379/0")


def test_keys_of_a_newer_version_are_left_alone(prefix: str) -> None:
    with redis.Redis.from_url(redis_url()) as client:
        client.set(f"{{{prefix}:budget:default}}:version", 2)
    with pytest.raises(StoreError, match=r"have version 2, .* versions up to 1: upgrade the package"):
        RedisLedger(redis_url(), prefix=prefix)


def test_a_closed_ledger_says_so_and_leaves_the_callers_client_open(prefix: str) -> None:
    with redis.Redis.from_url(redis_url(), decode_responses=True) as client:
        ledger = RedisLedger(client, prefix=prefix)
        reserve(ledger, "a", Amount(60, 10, 1), path="Zoë")
        assert [entry.path for entry in ledger.journal()] == ["Zoë"]
        assert budget_names(client, prefix=prefix) == ["default"]
        ledger.close()
        with pytest.raises(StoreError, match="is closed: make a new one"):
            ledger.balances([ROOT])
        assert client.ping() is True


def test_the_names_of_budgets_are_known(prefix: str) -> None:
    assert budget_names(redis_url(), prefix=prefix) == []
    for name in ("shop", "Zoë", "default"):
        RedisLedger(redis_url(), budget=name, prefix=prefix).close()
    assert budget_names(redis_url(), prefix=prefix) == ["Zoë", "default", "shop"]


# --- what may be lost ---


@pytest.mark.parametrize(
    ("options", "warnings"),
    [
        ((), ["keeps nothing on disk: budgets are gone when it stops; set appendonly yes, or save"]),
        (("--appendonly", "yes"), []),
        (("--save", "3600 1"), []),
        (
            ("--appendonly", "yes", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"),
            [f"{EVICTS} (maxmemory-policy allkeys-lru), budgets with them: set it to noeviction"],
        ),
        (("--appendonly", "yes", "--maxmemory-policy", "volatile-lru"), []),
    ],
)
def test_it_warns_once_of_what_may_be_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, options: tuple[str, ...], warnings: list[str]
) -> None:
    with own_server(tmp_path, *options) as port, caplog.at_level(logging.WARNING, "langchain_tokopt"):
        url = f"redis://127.0.0.1:{port}/0"
        ledger = RedisLedger(url)
        reserve(ledger, "a", Amount(60, 10, 1))
        ledger.close()
    assert caplog.messages == [f"{url} {warning}" for warning in warnings]


def test_it_works_where_it_may_not_ask_about_the_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with own_server(tmp_path) as port, redis.Redis(port=port) as admin:
        rights = ("~{tokopt:budget:*", "~tokopt:budgets", "+@all", "-@admin", "-@dangerous")
        admin.execute_command("ACL", "SETUSER", "worker", "on", ">word", *rights)
        ledger = RedisLedger(f"redis://worker:word@127.0.0.1:{port}/0")
        assert isinstance(reserve(ledger, "a", Amount(60, 10, 1)), Granted)
        assert ledger.reconcile(now=0.0) == []
        ledger.close()
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (lambda: redis.exceptions.BusyLoadingError("Redis is loading the dataset in memory"), "wait until it is ready"),
        (lambda: redis.ResponseError("BUSY Redis is busy running a script."), "end it with SCRIPT KILL"),
        (lambda: redis.ResponseError("MISCONF Redis is configured to save"), "free some space there"),
        (lambda: redis.ResponseError("NOREPLICAS Not enough good replicas"), "see its min-replicas-to-write"),
        (lambda: redis.ConnectionError("No connection available."), "raise max_connections"),
        (lambda: redis.exceptions.MovedError("1 127.0.0.1:7001"), "redis.RedisCluster.from_url(url)"),
        (lambda: redis.ResponseError("unknown command 'XADD'"), "use Redis 6.2 or newer, or Valkey"),
    ],
)
def test_what_the_server_says_comes_with_a_remedy(make: Callable[[], Exception], remedy: str) -> None:
    error = make()
    told = str(store_error("redis://host/0", error))
    assert told.startswith(f"redis://host/0 cannot be used ({error}): ")
    assert remedy in told
