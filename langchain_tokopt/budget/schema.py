"""The ledger's tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

# SQLAlchemy is imported where it is used: importing the package must stay quick.
if TYPE_CHECKING:
    from sqlalchemy import Connection

COMPONENT = "budget"


def _first_tables(connection: Connection) -> None:
    """Version 1. Money is whole nano-USD; `period` is when the period starts, Unix time in seconds.

    One row in `reservations` is one call, whatever the number of accounts that it is held under: its state changes
    in one place.
    """
    from sqlalchemy import text

    sequence = "INTEGER" if connection.dialect.name == "sqlite" else "BIGINT GENERATED ALWAYS AS IDENTITY"
    names = ("spent_nano", "spent_tokens", "held_nano", "held_tokens")
    amounts = ", ".join(f"{name} BIGINT NOT NULL" for name in names)
    counters = (
        f"CREATE TABLE tokopt_budget_counters (key VARCHAR(512) NOT NULL, period BIGINT NOT NULL, {amounts}, "
        "opened_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (key, period))"
    )
    reservations = (
        "CREATE TABLE tokopt_budget_reservations (id VARCHAR(64) PRIMARY KEY, accounts TEXT NOT NULL, "
        "nano BIGINT NOT NULL, tokens BIGINT NOT NULL, state VARCHAR(16) NOT NULL, "
        "expires_at DOUBLE PRECISION NOT NULL)"
    )
    leases = "CREATE INDEX tokopt_budget_leases ON tokopt_budget_reservations (expires_at) WHERE state = 'held'"
    journal = (
        f"CREATE TABLE tokopt_budget_journal (id {sequence} PRIMARY KEY, at DOUBLE PRECISION NOT NULL, "
        "key VARCHAR(512) NOT NULL, period BIGINT NOT NULL, reservation VARCHAR(64) NOT NULL, "
        f"action VARCHAR(16) NOT NULL, {amounts}, reason TEXT)"
    )
    for statement in (counters, reservations, leases, journal):
        connection.execute(text(statement))


STEPS = (_first_tables,)
