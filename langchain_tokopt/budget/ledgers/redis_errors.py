"""What Redis says, as errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from langchain_tokopt.errors import StoreError

_AGAIN = "what was asked for was done wholly or not at all, and it is safe to ask again"

# The first that is in what the client or the server said. Their own words come first, those of the system last.
_REMEDIES: tuple[tuple[str, str], ...] = (
    ("TOKOPT_DAMAGED", "a counter is no whole number; reconcile() makes it anew from the journal"),
    ("WRONGTYPE", "something else writes keys of this name; use another prefix, or another database number"),
    ("WRONGPASS", "check the user and the password"),
    ("NOAUTH", "the server wants a password: redis://user:password@host"),
    ("invalid username-password", "check the user and the password"),
    ("invalid password", "check the user and the password"),
    ("Authentication required", "the server wants a password: redis://user:password@host"),
    ("AUTH <password> called without any password", "the server has no password: leave it out of the URL"),
    ("NOPERM", "let this user run EVAL, EVALSHA and the commands for strings, hashes, sets and streams on these keys"),
    ("no permissions", "let this user run EVAL, EVALSHA and the commands for strings, hashes, sets and streams"),
    ("READONLY", "this is a replica: give the URL of the primary server"),
    ("read only replica", "this is a replica: give the URL of the primary server"),
    ("OOM", "raise maxmemory, or use another server; nothing was written"),
    ("maxmemory", "raise maxmemory, or use another server; nothing was written"),
    ("MISCONF", "the server cannot save to its disk: free some space there, or give it the right to write"),
    ("NOREPLICAS", "too few replicas follow the primary server: see its min-replicas-to-write"),
    ("LOADING", "the server is still reading its data: wait until it is ready"),
    ("loading the dataset", "the server is still reading its data: wait until it is ready"),
    ("BUSY", "another program's script keeps the server busy: wait, or end it with SCRIPT KILL"),
    ("MASTERDOWN", "the replica has lost its primary server: give the URL of the primary server"),
    ("CLUSTERDOWN", "a part of the cluster is down: see CLUSTER INFO on the server"),
    ("Moved", "this server is a part of a cluster: give a client, redis.RedisCluster.from_url(url)"),
    ("CROSSSLOT", "something between here and the server does not keep hash tags; connect to the server itself"),
    ("unknown command", "use Redis 6.2 or newer, or Valkey"),
    ("syntax error", "use Redis 6.2 or newer, or Valkey"),
    ("Invalid stream ID", "use Redis 6.2 or newer, or Valkey"),
    ("DB index is out of range", "use a database number that the server has, such as redis://host:6379/0"),
    ("max number of clients", "raise maxclients on the server, or use fewer connections"),
    ("No connection available", "too many threads wait for a connection: raise max_connections"),
    ("imeout", f"the server is too slow, or cannot be reached, or timeout_seconds is too short; {_AGAIN}"),
    ("imed out", f"the server is too slow, or cannot be reached, or timeout_seconds is too short; {_AGAIN}"),
    ("CERTIFICATE", "check the server's certificate, and ssl_ca_certs in the URL"),
    ("SSL", "check whether the server speaks TLS (rediss://) or not (redis://)"),
)
_UNREACHABLE = "check that the server runs and can be reached, and that host and port are right"


@contextmanager
def as_store_error(shown: str) -> Iterator[None]:
    """Whatever the client or the server says is a ledger that cannot be used. `shown` is the URL without a password."""
    from redis.exceptions import ChildDeadlockedError, RedisClusterException, RedisError

    try:
        yield
    except (RedisError, RedisClusterException, ChildDeadlockedError, OSError) as error:
        raise store_error(shown, error) from error


def store_error(shown: str, error: Exception) -> StoreError:
    """The error for what was said, with the remedy if there is a known one."""
    from redis.exceptions import ConnectionError as NotConnected

    # The client leaves out the words by which a server begins, for the errors that it has a class for.
    said = " ".join(str(error).split()) or type(error).__name__
    known = f"{type(error).__name__} {said}"
    for sign, remedy in _REMEDIES:
        if sign in known:
            return StoreError(f"{shown} cannot be used ({said}): {remedy}")
    if isinstance(error, (NotConnected, OSError)):
        return StoreError(f"{shown} cannot be used ({said}): {_UNREACHABLE}")
    return StoreError(f"{shown} cannot be used: {said}")
