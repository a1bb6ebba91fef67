"""A ledger for whatever a user calls a store: a database, a URL, a file, a Redis server."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any, cast

from langchain_tokopt.budget.ledgers.contract import Ledger
from langchain_tokopt.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_tokopt.database import Database

_REDIS = ("redis://", "rediss://", "unix://", "valkey://", "valkeys://")
_FORMS = (
    'use a Database, its URL ("postgresql://host/name", a file path), a Redis URL ("redis://host:6379/0"), or None for '
    "the optimizer's own database"
)


def is_redis(store: object) -> bool:
    """Whether this is the URL of a Redis server."""
    return isinstance(store, str) and store.startswith(_REDIS)


def check_store(store: object) -> None:
    """Refuse what can be no store, without opening it.

    Raises:
        ConfigurationError: It is none.
    """
    from langchain_tokopt.database import Database

    if store is None or (isinstance(store, (str, PathLike, Database)) and store != ""):
        return
    if not (callable(getattr(store, "reserve", None)) and callable(getattr(store, "settle", None))):
        raise ConfigurationError("store", store, _FORMS)


def open_ledger(store: Any, *, budget: str) -> tuple[Ledger, Database | None]:
    """The ledger of the budget of that name, and the database that was opened for it and has to be closed with it.

    `None` is a database in memory, for this object only.

    Raises:
        StoreError: The store cannot be used.
        MissingDependencyError: Its driver is not installed.
    """
    if is_redis(store):
        from langchain_tokopt.budget.ledgers.redis_ledger import RedisLedger

        return RedisLedger(store, budget=budget), None
    from langchain_tokopt.database import Database

    if store is not None and not isinstance(store, (str, PathLike, Database)):
        return cast("Ledger", store), None
    from langchain_tokopt.budget.ledgers.sql_ledger import SqlLedger

    if isinstance(store, Database):
        return SqlLedger(store, budget=budget), None
    database = Database(None if store is None else str(store))
    try:
        return SqlLedger(database, budget=budget), database
    except BaseException:
        database.close()
        raise


def budget_names(store: Database | str | PathLike[str]) -> list[str]:
    """The names of the budgets in the store.

    Raises:
        StoreError: The store cannot be used.
    """
    if is_redis(store):
        from langchain_tokopt.budget.ledgers.redis_ledger import budget_names as names_in_redis

        return names_in_redis(str(store))
    from langchain_tokopt.budget.ledgers.sql_reading import budget_names as names_in_sql
    from langchain_tokopt.database import Database

    if isinstance(store, Database):
        return names_in_sql(store)
    database = Database(str(store))
    try:
        return names_in_sql(database)
    finally:
        database.close()
