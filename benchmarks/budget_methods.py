"""What the budget benchmark measures here: this project's budgets, and a counter that is read and then added to."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from decimal import Decimal
from typing import Any

from langchain_core.messages.ai import UsageMetadata

from benchmarks.budget_load import (
    MODEL,
    NANO_PER_INPUT,
    NANO_PER_OUTPUT,
    WORST_INPUT,
    WORST_NANO,
    WORST_OUTPUT,
    Call,
)
from langchain_tokopt.budget import Budget, Limit, WorstCase
from langchain_tokopt.errors import BudgetExceededError, StoreError
from langchain_tokopt.pricing import Pricing, Rates, from_nano, to_nano

LEASE_SECONDS = 30.0
CASE = WorstCase(MODEL, None, WORST_INPUT, WORST_INPUT, WORST_OUTPUT)
PRICING = Pricing(
    overrides={MODEL: Rates(input=Decimal(NANO_PER_INPUT) / 1000, output=Decimal(NANO_PER_OUTPUT) / 1000)}
)


def opened(store: str, name: str, limits: Mapping[str, int], *, clock: Callable[[], float] = time.time) -> Budget:
    """The budget of that name, as each process has it. `limits`: nano-USD by node, or by pattern of nodes."""
    return Budget(
        limits={node: Limit(usd=from_nano(nano)) for node, nano in limits.items()},
        name=name,
        store=store,
        pricing=PRICING,
        lease_seconds=LEASE_SECONDS,
        on_store_failure="closed",
        clock=clock,
    )


def booked(budget: Budget) -> tuple[int, int]:
    """What all calls together have spent, and what they hold, in nano-USD."""
    root = next(node for node in budget.status()["nodes"] if node["node"] == "global")
    return to_nano(root["usd"]["spent"]), to_nano(root["usd"]["held"])


class Ours:
    """A budget of this project, wherever it is kept."""

    def __init__(self, *, store: str, name: str, limits: Mapping[str, int]) -> None:
        self._budget = opened(store, name, limits)
        booked(self._budget)  # the ledger is opened now

    def reserve(self, call: Call) -> Any | None:
        """The hold, `None` when the call does not fit."""
        try:
            return self._budget.reserve(CASE, path=call.path or None)
        except BudgetExceededError as refused:
            if isinstance(refused, StoreError):  # it could not be checked
                raise
            return None

    def settle(self, held: Any, call: Call) -> None:
        """Book what the provider billed."""
        total = call.input_tokens + call.output_tokens
        self._budget.settle(
            held,
            UsageMetadata(input_tokens=call.input_tokens, output_tokens=call.output_tokens, total_tokens=total),
        )

    def release(self, held: Any) -> None:
        """Free what is held."""
        self._budget.release(held)

    def close(self) -> None:
        """Book what is owed."""
        self._budget.close()


class CheckThenSpend:
    """A counter in a SQLite file: read it, call if there is room, add what it took. Nothing is reserved.

    Args:
        path: The file.
        limit: Nano-USD.
    """

    def __init__(self, *, path: str, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._own = threading.local()
        self._connection().execute("CREATE TABLE IF NOT EXISTS spent (nano INTEGER NOT NULL)")

    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._own, "connection"):
            connection = sqlite3.connect(self._path, timeout=60, isolation_level=None)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            self._own.connection = connection
        found: sqlite3.Connection = self._own.connection
        return found

    def reserve(self, call: Call) -> Any | None:
        """Whether the call at its longest fits beside what is spent."""
        (spent,) = self._connection().execute("SELECT COALESCE(SUM(nano), 0) FROM spent").fetchone()
        return True if spent + WORST_NANO <= self._limit else None

    def settle(self, held: Any, call: Call) -> None:
        """Add what the provider billed."""
        connection = self._connection()
        if not connection.execute("UPDATE spent SET nano = nano + ?", (call.nano,)).rowcount:
            connection.execute("INSERT INTO spent VALUES (?)", (call.nano,))

    def release(self, held: Any) -> None:
        """Nothing was held."""

    def close(self) -> None:
        """Close this thread's connection; those of the others ended with them."""
        self._connection().close()


def spent_in_file(path: str) -> int:
    """What `CheckThenSpend` has on its books, in nano-USD."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT COALESCE(SUM(nano), 0) FROM spent").fetchone()
    return int(found[0])
