"""The databases that store tests run on: memory, a file, and PostgreSQL where a server is given."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

KINDS = ("memory", "file", "postgresql")


@contextmanager
def database_url(kind: str, folder: Path) -> Iterator[str | None]:
    """A URL for one test; on PostgreSQL a schema of its own that is dropped afterwards."""
    if kind == "memory":
        yield None
    elif kind == "file":
        yield f"sqlite:///{folder / 'tokopt.db'}"
    else:
        with _schema(postgres_url()) as url:
            yield url


def postgres_url() -> str:
    """The server to test on; skips the test when there is none."""
    url = os.environ.get("TOKOPT_TEST_POSTGRES_URL")
    if not url:
        pytest.skip("set TOKOPT_TEST_POSTGRES_URL to test on PostgreSQL")
    return url


def redis_url() -> str:
    """The Redis server to test on; skips the test when there is none."""
    url = os.environ.get("TOKOPT_TEST_REDIS_URL")
    if not url:
        pytest.skip("set TOKOPT_TEST_REDIS_URL to test on Redis")
    return url


@contextmanager
def _schema(url: str) -> Iterator[str]:
    import psycopg

    name = f"tokopt_test_{uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
        try:
            yield f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{name}"
        finally:
            connection.execute(f"DROP SCHEMA {name} CASCADE")
