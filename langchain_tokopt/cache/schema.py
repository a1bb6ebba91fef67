"""The cache's tables: scopes, each with a revision that grows with every change, their entries, and leases.

A removed entry stays for a while as an empty row that is no longer alive, so that other processes, which follow a
scope by its revision, learn of it. `purged` is the highest revision of the rows that are gone for good: who has seen
less reads the scope anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection

_TYPES = {
    "sqlite": {"key": "INTEGER PRIMARY KEY AUTOINCREMENT", "bytes": "BLOB"},
    "postgresql": {"key": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "bytes": "BYTEA"},
}
# SQLite knows OCTET_LENGTH since 3.43 only, and its LENGTH counts the characters of a text.
_OCTETS = {"sqlite": "LENGTH(CAST({} AS BLOB))", "postgresql": "OCTET_LENGTH({})"}


def _create_tables(connection: Connection) -> None:
    types = _TYPES[connection.dialect.name]
    for statement in (
        f"""CREATE TABLE tokopt_cache_scopes (
            id {types["key"]}, kind VARCHAR(16) NOT NULL, scope VARCHAR(64) NOT NULL UNIQUE,
            owner VARCHAR(64) NOT NULL, revision BIGINT NOT NULL, purged BIGINT NOT NULL)""",
        "CREATE INDEX tokopt_cache_owner ON tokopt_cache_scopes (kind, owner)",
        f"""CREATE TABLE tokopt_cache_entries (
            id {types["key"]}, scope_id BIGINT NOT NULL REFERENCES tokopt_cache_scopes (id), kind VARCHAR(16) NOT NULL,
            exact VARCHAR(64) NOT NULL, revision BIGINT NOT NULL, alive INTEGER NOT NULL, question TEXT NOT NULL,
            vector {types["bytes"]}, embedder VARCHAR(255), payload TEXT NOT NULL, spent TEXT, tags TEXT NOT NULL,
            created_at DOUBLE PRECISION NOT NULL, expires_at DOUBLE PRECISION, used_at DOUBLE PRECISION NOT NULL,
            hits BIGINT NOT NULL, UNIQUE (scope_id, exact))""",
        "CREATE INDEX tokopt_cache_changes ON tokopt_cache_entries (scope_id, revision)",
        "CREATE INDEX tokopt_cache_lru ON tokopt_cache_entries (kind, alive, used_at)",
        "CREATE INDEX tokopt_cache_expiry ON tokopt_cache_entries (expires_at)",
    ):
        connection.execute(text(statement))


def _add_answers_and_worth(connection: Connection) -> None:
    """`answer`: entries with the same number hold the same answer, `NULL` for an entry that is alone.

    `bytes` of payload, question and vector together. `value`: what one hit saves in nano-USD, `NULL` if unknown.
    `source`: who gave the answer ("model", "import", "audit", "prefetch").
    """
    for column in (
        "answer BIGINT",
        "bytes BIGINT NOT NULL DEFAULT 0",
        "value BIGINT",
        "source VARCHAR(16) NOT NULL DEFAULT 'model'",
    ):
        connection.execute(text(f"ALTER TABLE tokopt_cache_entries ADD COLUMN {column}"))
    octets = _OCTETS[connection.dialect.name]
    size = f"{octets.format('payload')} + {octets.format('question')} + COALESCE({octets.format('vector')}, 0)"
    connection.execute(text(f"UPDATE tokopt_cache_entries SET bytes = {size} WHERE alive = 1"))  # noqa: S608
    for statement in (
        # An entry never changes what it answers: a dead one gives the name of its question free for the next.
        "UPDATE tokopt_cache_entries SET exact = '#' || id WHERE alive = 0",
        "CREATE INDEX tokopt_cache_answers ON tokopt_cache_entries (scope_id, answer)",
        # Holds all that is asked about the whole: how many, how big, by which embedders.
        "CREATE INDEX tokopt_cache_census ON tokopt_cache_entries (kind, alive, embedder, bytes)",
        """CREATE TABLE tokopt_cache_leases (
            name VARCHAR(64) PRIMARY KEY, holder VARCHAR(64) NOT NULL, expires_at DOUBLE PRECISION NOT NULL)""",
    ):
        connection.execute(text(statement))


STEPS: Sequence[Callable[[Connection], None]] = (_create_tables, _add_answers_and_worth)
