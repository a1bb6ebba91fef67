"""A ledger in Redis or Valkey, for high rates and many machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.redis_journal import RedisJournal
from langchain_tokopt.budget.ledgers.redis_keeping import RedisKeeping
from langchain_tokopt.budget.ledgers.redis_keys import (
    account_of,
    accounts_in,
    as_json,
    distinct,
    keys_of,
    name_of,
    pages,
    registry,
)
from langchain_tokopt.budget.ledgers.redis_reconcile import Recount
from langchain_tokopt.budget.ledgers.redis_replies import (
    amount_of,
    amount_text,
    balances_of,
    by_account,
    limit_text,
    reason_text,
    text,
)
from langchain_tokopt.budget.ledgers.redis_server import RedisServer, Timeouts
from langchain_tokopt.budget.ledgers.words import (
    Account,
    Balance,
    Bucket,
    Cap,
    Correction,
    Entry,
    Expired,
    Granted,
    Refusal,
    Settlement,
    Short,
    Source,
    StoredLimit,
    Valued,
)
from langchain_tokopt.budget.periods import Per
from langchain_tokopt.errors import ConfigurationError, StoreError

VERSION = 1
_ACCOUNTS_A_PAGE = 500
_LEASES_A_PAGE = 100
_LINES_A_PAGE = 200
_PAGES_A_SWEEP = 50
_SHORTEST_KEEP_SECONDS = 86_400
_TIMEOUTS = Timeouts(connect=5.0, answer=10.0)
_CONNECTIONS = 64


class RedisLedger:
    """Counters, reservations, limits and the journal of one budget, in a Redis or Valkey server (6.2 or newer).

    Each command is one Lua script, which Redis runs alone: it happens wholly or not at all, however many machines ask.
    All keys of a budget have one hash tag, so that a Redis Cluster keeps them together; different budgets may be on
    different nodes. A forked child may go on using the object.

    Everything is in memory, about 1 kB for a call; give `keep_seconds` where that adds up to too much. What was
    acknowledged is as durable as the server is set up to be (`appendonly yes`; `appendfsync always` for every single
    call). At construction a warning is logged when it keeps nothing on disk or may evict keys.

    A command whose answer was lost is sent once more where that changes nothing: all but `put_limits` and
    `drop_limit`. A settlement may then be told "again" by the second try although the first one booked it.

    Args:
        url_or_client: "redis://user:password@host:6379/0" (or `rediss://`, `unix://`, `valkey://`, `valkeys://`), whose
            query may have what the redis package takes, such as `?ssl_ca_certs=...`; or a `redis.Redis` or
            `redis.RedisCluster` of your own, with its own timeouts.
        budget: The name of the budget.
        prefix: What all keys begin with, so that several applications can share a server.
        connect_timeout_seconds: How long to wait for a connection.
        timeout_seconds: How long to wait for an answer, or for a connection that another thread uses.
        max_connections: How many threads of a process can ask at once.
        keep_seconds: How long the journal is kept, at least a day; `None` for ever. `sweep` carries older lines
            forward: only what they add up to is kept, for `reconcile`, and what each path has spent in each hour, for
            `series`. A reservation that ended as long ago is forgotten; settling it again would book it again.

    Attributes:
        url: The server as it may be shown, without a password.

    Raises:
        ConfigurationError: An argument cannot be used.
        MissingDependencyError: The redis package is not installed.
        StoreError: The server cannot be used, or was written to by a newer version of this package.
    """

    def __init__(
        self,
        url_or_client: object,
        *,
        budget: str = "default",
        prefix: str = "tokopt",
        connect_timeout_seconds: float = _TIMEOUTS.connect,
        timeout_seconds: float = _TIMEOUTS.answer,
        max_connections: int = _CONNECTIONS,
        keep_seconds: float | None = None,
    ) -> None:
        for argument, seconds in (
            ("connect_timeout_seconds", connect_timeout_seconds),
            ("timeout_seconds", timeout_seconds),
        ):
            if not seconds > 0:
                raise ConfigurationError(argument, seconds, "use a number of seconds above 0")
        if not max_connections >= 1:
            raise ConfigurationError("max_connections", max_connections, "use a whole number from 1 up")
        if keep_seconds is not None and not keep_seconds >= _SHORTEST_KEEP_SECONDS:
            raise ConfigurationError("keep_seconds", keep_seconds, "use 86400 (a day) or more, or None for ever")
        self._keep_seconds = keep_seconds
        self._keys = keys_of(budget, prefix)
        timeouts = Timeouts(connect_timeout_seconds, timeout_seconds)
        self._server = RedisServer(url_or_client, timeouts=timeouts, max_connections=max_connections)
        self.url = self._server.shown
        self._fixed = [self._keys(part) for part in ("journal", "hours", "leases", "reservations", "balances")]
        self._journal = RedisJournal(self._server, self._keys)
        self._kept = RedisKeeping(self._server, self._keys)
        try:
            self._check_version()
            self._server.add_name(registry(prefix), budget)
            self._server.warn_of_losses(self._keys.base)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"RedisLedger({self.url!r}, {self._keys.base!r})"

    def _check_version(self) -> None:
        stored = self._server.run("open", [self._keys("version")], [VERSION])
        if not stored.isdigit() or int(stored) > VERSION:
            msg = (
                f"{self.url}: the keys {self._keys.base} have version {text(stored)}, and this langchain-tokopt knows "
                f"versions up to {VERSION}: upgrade the package (pip install -U langchain-tokopt), or use another "
                "prefix or budget name"
            )
            raise StoreError(msg)

    # --- the life of a reservation ---

    def reserve(
        self, reservation: str, caps: Sequence[Cap], amount: Amount, *, path: str, now: float, expires_at: float
    ) -> Granted | Refusal:
        accounts = [cap.account for cap in caps]
        names = [name_of(account) for account in accounts]
        limits = " ".join(map(limit_text, caps))
        said, raw = self._server.run(
            "reserve",
            [*self._fixed, *self._indexes(names)],
            [self._keys.base, reservation, path, now, expires_at, amount_text(amount), as_json(names), limits],
            together=True,
        )
        if said == b"granted":
            return Granted(by_account(accounts, raw))
        verdict, _, rest = text(said).partition(" ")
        if verdict == "large":
            raise self._too_large(rest)
        balances = balances_of(raw)
        short = [int(number) - 1 for number in rest.split()]
        return Refusal(tuple(Short(caps[number], balance) for number, balance in zip(short, balances, strict=True)))

    def settle(
        self,
        reservation: str,
        actual: Amount,
        *,
        accounts: Sequence[Account],
        path: str,
        now: float,
        reason: str | None = None,
    ) -> Settlement:
        names = distinct(map(name_of, accounts))
        said, over, listed, raw = self._server.run(
            "settle",
            [*self._fixed, self._keys("spent", str(int(now // 3600))), *self._indexes(names)],
            [self._keys.base, reservation, path, now, amount_text(actual), as_json(names), reason_text(reason)],
            together=True,
        )
        if said == b"again":
            return Settlement("again")
        if said == b"settled":
            return Settlement("settled", amount_of(over), by_account(accounts_in(text(listed)), raw))
        if said == b"late":
            return Settlement("late", amount_of(over), by_account(accounts_in(text(listed)), raw))
        raise self._too_large(text(said).partition(" ")[2])

    def release(self, reservation: str, *, now: float, reason: str | None = None) -> Amount | None:
        freed = self._free("released", now, reason, reservation)
        return freed[0].amount if freed else None

    def renew(self, reservations: Sequence[str], *, expires_at: float) -> int:
        return sum(
            self._server.run("renew", [self._keys("leases")], [expires_at, *page])
            for page in pages(distinct(reservations), _ACCOUNTS_A_PAGE)
        )

    def sweep(self, *, now: float) -> list[Expired]:
        expired: list[Expired] = []
        while True:
            # Other commands get their turn between the pages.
            page = self._free("expired", now, "the lease ran out", str(_LEASES_A_PAGE))
            expired += page
            if len(page) < _LEASES_A_PAGE:
                break
        if self._keep_seconds is not None:
            self._shorten(now - self._keep_seconds)
        return expired

    def _shorten(self, before: float) -> None:
        """Carry forward what is older, some of it at each sweep."""
        keys = [self._keys(part) for part in ("journal", "reservations", "carried", "recounting")]
        for _ in range(_PAGES_A_SWEEP):
            if self._server.run("shorten", keys, [self._keys.base, before, _LINES_A_PAGE]) < _LINES_A_PAGE:
                return

    def _free(self, action: str, now: float, reason: str | None, which: str) -> list[Expired]:
        arguments: list[str | float] = [self._keys.base, action, now, reason_text(reason), which]
        freed = self._server.run("release", self._fixed, arguments, together=action == "released")
        return [Expired(text(id_), text(path), amount_of(amount)) for id_, path, amount in freed]

    # --- looking ---

    def balances(self, accounts: Sequence[Account]) -> dict[Account, Balance]:
        balances: dict[Account, Balance] = {}
        for page in pages(accounts, _ACCOUNTS_A_PAGE):
            raw = self._server.run("balances", [self._keys("balances")], list(map(name_of, page)))
            balances.update(by_account(page, raw))
        return balances

    def accounts(self, *, per: Per, period: int, count: int = 1000) -> dict[Account, Balance]:
        found: dict[Account, Balance] = {}
        keys = [self._keys("accounts", per, str(period)), self._keys("balances")]
        for start in range(0, count, _ACCOUNTS_A_PAGE):
            last = min(count, start + _ACCOUNTS_A_PAGE) - 1
            names, raw = self._server.run("accounts", keys, [start, last])
            found.update(by_account([account_of(text(name)) for name in names], raw))
            if len(names) <= last - start:
                break
        return found

    def journal(
        self,
        *,
        node: str | None = None,
        reservation: str | None = None,
        since: float | None = None,
        until: float | None = None,
        count: int = 100,
    ) -> list[Entry]:
        """The newest entries that all of this is true of, newest first.

        Newest by the server's clock, in the order in which they were written; `since` and `until` are about the
        callers' clock. The server knows which part of the journal has an hour of it, and only that part is read. A node
        that few entries are about is looked for back to the first of them: give `since` where the journal is long.
        """
        return self._journal.entries(node=node, reservation=reservation, since=since, until=until, count=count)

    def series(self, *, since: float, until: float, bucket_seconds: int) -> list[Bucket]:
        """What was spent per path and bucket, by start and path; a bucket starts at a multiple of its length.

        Whole hours come from sums that are kept beside the journal, when buckets are of whole hours; what is finer is
        read from the journal.
        """
        return self._journal.series(since=since, until=until, bucket_seconds=bucket_seconds)

    # --- repairing ---

    def reconcile(self, *, now: float) -> list[Correction]:
        """Rebuild every counter from the journal; the counters that were wrong, in the order of their accounts.

        The journal is read and added up here, page by page, while others go on spending. Only then do short scripts
        add what was written meanwhile, and correct some accounts at a time: each is corrected in one step, and Redis
        is never kept busy for longer than a page takes.
        """
        return Recount(self._server, self._keys).corrections()

    # --- limits and feedback ---

    def limits(self) -> list[StoredLimit]:
        return self._kept.limits()

    def put_limits(
        self, limits: Sequence[StoredLimit], *, reasons: Mapping[str, str] | None = None, now: float
    ) -> None:
        self._kept.put_limits(limits, reasons=reasons or {}, now=now)

    def drop_limit(self, node: str, per: Per, *, source: Source, now: float, reason: str | None = None) -> bool:
        return self._kept.drop_limit(node, per, source=source, now=now, reason=reason)

    def claim(self, task: str, *, now: float, until: float) -> bool:
        return self._kept.claim(task, now=now, until=until)

    def value(self, valued: Valued) -> None:
        self._kept.value(valued)

    def values(self, *, since: float, until: float) -> list[Valued]:
        return self._kept.values(since=since, until=until)

    def close(self) -> None:
        self._server.close()

    # --- keys ---

    def _indexes(self, names: Sequence[str]) -> list[str]:
        return distinct(map(self._keys.index, names))

    def _too_large(self, which: str) -> StoreError:
        field, _, name = which.partition("\n")
        account = account_of(name)
        return StoreError(
            f"{self.url}: {field} of {account.node or 'global'!r} per {account.per} would be more than a budget can "
            "count (19 digits); use another budget name"
        )


def budget_names(url_or_client: object, *, prefix: str = "tokopt") -> list[str]:
    """The names of the budgets with that prefix that were ever opened on a server, sorted.

    Raises:
        ConfigurationError: An argument cannot be used.
        MissingDependencyError: The redis package is not installed.
        StoreError: The server cannot be used.
    """
    key = registry(prefix)
    server = RedisServer(url_or_client, timeouts=_TIMEOUTS, max_connections=1)
    try:
        return server.names(key)
    finally:
        server.close()
