"""The Redis server that a ledger talks to: how it is reached, and how the ledger's scripts are run there."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from langchain_tokopt.budget.ledgers.combining import Combiner
from langchain_tokopt.budget.ledgers.redis_errors import as_store_error, store_error
from langchain_tokopt.budget.ledgers.redis_scripts import Script, script
from langchain_tokopt.errors import ConfigurationError, MissingDependencyError, StoreError

# redis is imported where it is used: it is an extra, and importing the package must stay quick.
if TYPE_CHECKING:
    from redis import ConnectionPool, Redis, RedisCluster

    Client = Redis | RedisCluster

log = logging.getLogger("langchain_tokopt")

_FORMS = 'give "redis://user:password@host:6379/0" (or rediss://, unix://, valkey://), or a client of the redis package'
_SCHEMES = {"redis": "redis", "rediss": "rediss", "unix": "unix", "valkey": "redis", "valkeys": "rediss"}
_IDLE_SECONDS_BEFORE_A_CHECK = 30
_SECONDS_BEFORE_ANOTHER_TRY = 0.05


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a ledger waits, in seconds: for a connection, and for an answer or a free connection."""

    connect: float
    answer: float


@dataclass(frozen=True, slots=True)
class _Call:
    """A script, how many of the texts are keys, and the texts that it is sent."""

    script: Script
    keys: int
    texts: Sequence[bytes]


class RedisServer:
    """A server, or a cluster, that runs scripts. Threads share it, and a forked child may go on using it.

    Args:
        url_or_client: A URL, or a client of the redis package that stays the caller's own.
        timeouts: For connections that are made here; a client has its own.
        max_connections: How many threads can talk to the server at once; more of them wait.

    Attributes:
        shown: The URL as it may be shown, without a password.

    Raises:
        ConfigurationError: It is neither.
        MissingDependencyError: The redis package is not installed.
    """

    def __init__(self, url_or_client: object, *, timeouts: Timeouts, max_connections: int) -> None:
        try:
            import redis
        except ImportError as error:
            msg = 'a budget in Redis needs the redis package: pip install "langchain-tokopt[redis]"'
            raise MissingDependencyError(msg) from error
        self._closed = False
        self._client: Client
        self._pool: ConnectionPool | None = None
        if isinstance(url_or_client, str):
            self.shown = masked(url_or_client)
            self._pool = _connections(url_or_client, timeouts, max_connections)
            self._client = redis.Redis(connection_pool=self._pool)
        elif isinstance(url_or_client, (redis.Redis, redis.RedisCluster)):
            self._client = url_or_client
            self.shown = _address(url_or_client)
        else:
            raise ConfigurationError("url_or_client", url_or_client, _FORMS)
        # A pipeline of a cluster's client cannot have scripts.
        clustered = isinstance(self._client, redis.RedisCluster)
        self._combined: Combiner[_Call] | None = None if clustered else Combiner(self._ask)

    def __repr__(self) -> str:
        return f"RedisServer({self.shown!r})"

    def run(
        self,
        name: str,
        keys: Sequence[str],
        arguments: Sequence[str | float],
        *,
        again: bool = True,
        together: bool = False,
    ) -> Any:
        """What the script of that name returns, its texts as bytes.

        `again` is whether it may be sent a second time when the connection broke before its answer came. `together` is
        for what many threads ask at once: it is sent in one message with what others ask.

        Raises:
            StoreError: The server cannot be used.
        """
        if self._closed:
            msg = f"this ledger on {self.shown} is closed: make a new one"
            raise StoreError(msg)
        texts = [str(part).encode("utf-8", "surrogatepass") for part in (*keys, *arguments)]
        call = _Call(script(name), len(keys), texts)
        if together and self._combined is not None:
            answer = self._combined(call)
        else:
            (answer,) = self._ask([call], again=again)
        if isinstance(answer, Exception):
            raise store_error(self.shown, answer) from answer
        return answer

    def _ask(self, calls: Sequence[_Call], *, again: bool = True) -> list[Any]:
        """The answers; an error where the server refused one call and not all of them."""
        from redis.exceptions import AuthenticationError, BusyLoadingError
        from redis.exceptions import ConnectionError as NotConnected

        with as_store_error(self.shown):
            try:
                return self._send(calls)
            except (AuthenticationError, BusyLoadingError):
                raise
            except NotConnected:
                if not again:
                    raise
            time.sleep(_SECONDS_BEFORE_ANOTHER_TRY)
            return self._send(calls)

    def _send(self, calls: Sequence[_Call]) -> list[Any]:
        from redis.exceptions import NoScriptError

        if len(calls) == 1:
            try:
                return [self._execute(calls[0], "EVALSHA")]
            except NoScriptError:
                return [self._execute(calls[0], "EVAL")]
        execute: Any
        with self._client.pipeline(transaction=False) as pipeline:
            execute = pipeline.execute_command
            for call in calls:
                execute("EVALSHA", call.script.sha, call.keys, *call.texts, **_raw())
            answers = pipeline.execute(raise_on_error=False)
        # A server that was started again knows no scripts.
        return [
            self._execute(call, "EVAL") if isinstance(answer, NoScriptError) else answer
            for call, answer in zip(calls, answers, strict=True)
        ]

    def _execute(self, call: _Call, command: Literal["EVAL", "EVALSHA"]) -> Any:
        execute: Any = self._client.execute_command
        text = call.script.sha if command == "EVALSHA" else call.script.text
        return execute(command, text, call.keys, *call.texts, **_raw())

    def add_name(self, key: str, name: str) -> None:
        """Add a name to a set. It has a key, and in a cluster a place, of its own."""
        with as_store_error(self.shown):
            self._client.sadd(key, name.encode("utf-8", "surrogatepass"))

    def names(self, key: str) -> list[str]:
        """The names in such a set, sorted."""
        execute: Any = self._client.execute_command
        with as_store_error(self.shown):
            return sorted(name.decode("utf-8", "surrogatepass") for name in execute("SMEMBERS", key, **_raw()))

    def warn_of_losses(self, key: str) -> None:
        """Write to the log when what this server acknowledges may be lost; nothing where it does not say."""
        from redis.exceptions import RedisError

        try:
            memory, persistence = self._told(key, "memory"), self._told(key, "persistence")
        except (RedisError, OSError):
            return
        policy = str(memory.get("maxmemory_policy", "noeviction"))
        # Only "allkeys" policies: the others evict keys that expire, and the ledger's balances never do.
        if policy.startswith("allkeys"):
            log.warning(
                "%s evicts keys when its memory is full (maxmemory-policy %s), budgets with them: set it to noeviction",
                self.shown,
                policy,
            )
        if not int(persistence.get("aof_enabled", 1)) and self._saves(key) is False:
            log.warning(
                "%s keeps nothing on disk: budgets are gone when it stops; set appendonly yes, or save", self.shown
            )

    def _told(self, key: str, section: str) -> Mapping[str, Any]:
        told = self._client.info(section, **self._node_of(key))
        return told if isinstance(told, Mapping) else {}

    def _saves(self, key: str) -> bool | None:
        """Whether the server makes snapshots; `None` where it does not say."""
        from redis.exceptions import RedisError

        try:
            told = self._client.config_get("save", **self._node_of(key))
        except (RedisError, OSError):
            return None
        # A client may decode its answers or not.
        return None if not isinstance(told, Mapping) or not told else any(bool(value) for value in told.values())

    def _node_of(self, key: str) -> dict[str, Any]:
        from redis import RedisCluster

        client = self._client
        if not isinstance(client, RedisCluster):
            return {}
        return {"target_nodes": client.get_node_from_key(key)}  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Close the connections that were made here. A later command raises `StoreError`."""
        self._closed = True
        if self._pool is not None:
            self._pool.disconnect()


def _raw() -> dict[str, Any]:
    """For answers in bytes: a client of the caller's may decode them, which not every name would survive."""
    from redis.client import NEVER_DECODE

    return {NEVER_DECODE: True}


def masked(url: str) -> str:
    """The URL with `***` in the place of a password."""
    try:
        parts = urlsplit(url)
        place = parts.netloc
        if parts.password is not None:
            place = f"{parts.username or ''}:***@{place.rpartition('@')[2]}"
        query = [(name, "***" if "password" in name else value) for name, value in parse_qsl(parts.query)]
        return f"{parts.scheme}://{place}{parts.path}{'?' if query else ''}{urlencode(query, safe='*/')}"
    except ValueError:
        return url.partition("://")[0] + "://..."


def _connections(url: str, timeouts: Timeouts, max_connections: int) -> ConnectionPool:
    """Connections, each made when it is first needed."""
    from redis import BlockingConnectionPool
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ConfigurationError("url_or_client", masked(url), _FORMS)
    database = urlsplit(url).path.strip("/")
    # The client would take a database that is no number for number 0.
    if scheme != "unix" and database and not database.isdecimal():
        raise ConfigurationError("url_or_client", masked(url), f"{database!r} is no number of a database; {_FORMS}")
    try:
        return BlockingConnectionPool.from_url(
            f"{_SCHEMES[scheme]}://{rest}",
            max_connections=max_connections,
            timeout=timeouts.answer,
            socket_connect_timeout=timeouts.connect,
            socket_timeout=timeouts.answer,
            health_check_interval=_IDLE_SECONDS_BEFORE_A_CHECK,
            # What may be sent again is decided for each command.
            retry=Retry(NoBackoff(), 0),
        )
    except (ValueError, TypeError) as error:
        raise ConfigurationError("url_or_client", masked(url), f"{error}; {_FORMS}") from error


def _address(client: Client) -> str:
    """Where a client is connected to, as a URL without user and password."""
    from redis import RedisCluster

    if isinstance(client, RedisCluster):
        node = client.get_default_node()  # type: ignore[no-untyped-call]
        return f"redis://{node.host}:{node.port}" if node is not None else "redis://(cluster)"
    told = client.connection_pool.connection_kwargs
    if told.get("path"):
        return f"unix://{quote(str(told['path']))}"
    return f"redis://{told.get('host', 'localhost')}:{told.get('port', 6379)}/{told.get('db') or 0}"
