"""How a database is found and opened: its path or URL read and checked, its connections set up."""

from __future__ import annotations

import sqlite3
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_tokopt.errors import ConfigurationError, MissingDependencyError, StoreError

# SQLAlchemy is imported where it is used: importing the package must stay quick.
if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

_FORMS = 'give a file path, "sqlite:///file.db" or "postgresql://user:password@host/name"'
_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
}


def parse_url(url: str | Path | None) -> URL:
    """The SQLAlchemy URL for a path, a URL, or `None` (memory), with the one driver that is supported.

    Raises:
        ConfigurationError: It is not a URL, or not of SQLite or PostgreSQL.
    """
    from sqlalchemy import URL, make_url
    from sqlalchemy.exc import ArgumentError

    if url is None or url == ":memory:":
        return URL.create("sqlite")
    if not isinstance(url, (str, Path)) or url == "":
        raise ConfigurationError("url", url, _FORMS)
    if isinstance(url, Path) or "://" not in url:
        return URL.create("sqlite", database=str(Path(url).expanduser()))
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The value is not shown: it may hold a password that could not be found, let alone masked.
        raise ConfigurationError("url", url.partition("://")[0] + "://...", f"it is not a URL; {_FORMS}") from None
    if parsed.drivername not in _DRIVERS:
        raise ConfigurationError("url", masked(parsed), f"{parsed.drivername!r} is not supported; {_FORMS}")
    return parsed.set(drivername=_DRIVERS[parsed.drivername])


def masked(url: URL) -> str:
    """The URL as it may be shown: without the password, wherever it stands."""
    hidden = {key: "hidden" for key in url.query if "password" in key.lower()}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def in_memory(url: URL) -> bool:
    """Whether the URL names a SQLite database without a file."""
    if url.get_backend_name() != "sqlite":
        return False
    name = url.database or ":memory:"
    return name == ":memory:" or name.startswith("file::memory:") or url.query.get("mode") == "memory"


def file_of(url: URL) -> Path | None:
    """The path of a SQLite file; `None` for a server, for memory, and for a `file:` URI, whatever that names."""
    if url.get_backend_name() != "sqlite" or in_memory(url) or not url.database or url.query.get("uri"):
        return None
    return Path(url.database).absolute()


def _check_path(url: URL) -> None:
    """Say what is wrong with a path, which SQLite ("unable to open database file") does not.

    Raises:
        StoreError: There is a folder of that name, or the folder for the file is missing.
    """
    if not url.database or url.query.get("uri"):
        return
    path = Path(url.database)
    if path.is_dir():
        msg = f"{path} is a folder: give the path of a file in it, such as {path / 'tokopt.db'}"
        raise StoreError(msg)
    if path.parent.exists() and not path.parent.is_dir():
        msg = f"{path} cannot be made: {path.parent} is not a folder; use another path"
        raise StoreError(msg)
    if not path.parent.is_dir():
        msg = f"{path} cannot be made: the folder {path.parent} does not exist; create it, or use another path"
        raise StoreError(msg)


# --- opening ---------------------------------------------------------------------------------------------------------


def open_engine(url: URL, *, timeout_seconds: float) -> Engine:
    """The SQLAlchemy engine for a URL of `parse_url`; SQLite leaves it to the caller to begin transactions.

    Raises:
        MissingDependencyError: The driver for PostgreSQL is not installed.
        StoreError: The path cannot be that of a file.
    """
    if url.get_backend_name() == "postgresql":
        return _postgresql(url, timeout_seconds)
    _check_path(url)
    return _sqlite(url, timeout_seconds, persistent=not in_memory(url))


def _sqlite(url: URL, timeout_seconds: float, *, persistent: bool) -> Engine:
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import QueuePool, StaticPool

    args: dict[str, Any] = {"isolation_level": None, "timeout": timeout_seconds, "check_same_thread": False}
    if sys.version_info >= (3, 12):
        # Python may change its default; transactions are begun here by hand and need this one.
        args["autocommit"] = sqlite3.LEGACY_TRANSACTION_CONTROL
    pool: dict[str, Any] = {"poolclass": StaticPool}
    if persistent:
        pool = {"poolclass": QueuePool, "pool_size": 8, "max_overflow": 56, "pool_timeout": timeout_seconds}
    engine = create_engine(url, connect_args=args, hide_parameters=True, **pool)
    event.listen(engine, "connect", partial(_sqlite_opened, timeout_seconds, persistent))
    return engine


def _sqlite_opened(
    timeout_seconds: float, persistent: bool, connection: sqlite3.Connection, _record: object = None
) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    if not persistent:
        return
    connection.execute("PRAGMA synchronous = NORMAL")
    give_up = time.monotonic() + timeout_seconds
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "readonly" in str(error):
                return  # what is there can still be read
            # Switching needs the file to itself for a moment, and SQLite does not always wait for that.
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise
        time.sleep(0.005)


def _postgresql(url: URL, timeout_seconds: float) -> Engine:
    from sqlalchemy import create_engine, event

    args = {} if "connect_timeout" in url.query else {"connect_timeout": 10}
    # A server takes 100 connections, unless it is told otherwise, and refuses more: many threads rather wait for one.
    pool: dict[str, Any] = {"pool_size": 8, "max_overflow": 0, "pool_timeout": timeout_seconds, "pool_pre_ping": True}
    try:
        engine = create_engine(url, connect_args=args, hide_parameters=True, **pool)
    except ImportError as error:
        msg = f'{masked(url)} needs psycopg, which is not installed: pip install "langchain-tokopt[postgres]"'
        raise MissingDependencyError(msg) from error
    event.listen(engine, "connect", partial(_postgresql_opened, timeout_seconds))
    return engine


def _postgresql_opened(timeout_seconds: float, connection: Any, _record: object = None) -> None:
    connection.execute(f"SET lock_timeout = {int(timeout_seconds * 1000)}")
    connection.commit()
