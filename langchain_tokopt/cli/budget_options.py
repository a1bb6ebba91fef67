"""What the commands of `tokopt budget` share: their options, the budget that is named, errors that name options."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_tokopt.cli.common import clear_errors, named_by_options, named_store
from langchain_tokopt.cli.common import nothing as nothing
from langchain_tokopt.cli.common import print_json as print_json
from langchain_tokopt.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_tokopt.budget import Budget
    from langchain_tokopt.database import Database


class PerName(str, Enum):
    """What a limit is for."""

    run = "run"
    thread = "thread"
    hour = "hour"
    day = "day"
    week = "week"
    month = "month"
    forever = "forever"


class UnitName(str, Enum):
    """What is counted."""

    usd = "usd"
    tokens = "tokens"
    calls = "calls"


Store = Annotated[
    str | None,
    typer.Option(
        "--db", help="The database's URL or file, or a Redis server: redis://host:6379/0.", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Option("--name", help="The budget's name.")]
Node = Annotated[
    str, typer.Argument(metavar="NODE", help='Such as "project=shop/agent=writer", or "global" for the root.')
]
Pattern = Annotated[
    str, typer.Argument(metavar="NODE", help='Such as "project=shop", "global", or "user=*" for each user.')
]
MaybeNode = Annotated[
    str | None,
    typer.Argument(metavar="NODE", help='Such as "project=shop/agent=writer" or "user=*".', show_default=False),
]
MaybePer = Annotated[
    PerName | None, typer.Option("--per", help="Which of its limits, by its period.", show_default=False)
]
MaybeUnit = Annotated[UnitName | None, typer.Option("--unit", help="What is counted.", show_default=False)]

clock: Callable[[], float] = time.time

_NAMES_SHOWN = 5
_OPTIONS = {
    "node": "NODE",
    "limits": "NODE",
    "floors": "--floor",
    "caps": "--cap",
    "priorities": "--priority",
    "children": "--child",
    "hard": "--soft",
    "store": "--db",
    "url": "--db",
    "url_or_client": "--db",
}


@contextmanager
def opened_with_store(db: str | None, data_dir: Path | None, name: str) -> Iterator[tuple[Budget, Database | str]]:
    """The budget of that name, as it is kept in the store that is named, and the store.

    Errors are one line on stderr and exit code 2.
    """
    with clear_errors(), named_by_options(_OPTIONS), _said_once(), named_store(db, data_dir) as store:
        from langchain_tokopt.budget import Budget

        try:
            budget = Budget.opened(store, name=name, clock=now)
        except ConfigurationError as error:
            if error.argument != "name":
                raise
            raise ConfigurationError("--name", name, _there_are(store, name)) from None
        try:
            yield budget, store
        finally:
            budget.close()


def _there_are(store: Database | str, name: str) -> str:
    """Why there is no budget of that name, with those that there are, the likeliest first."""
    from difflib import SequenceMatcher

    from langchain_tokopt.budget.ledgers.opening import budget_names

    names = [known for known in budget_names(store) if known != name]
    if not names:
        return "no program has spent from a budget of that name here: run one, or name another store"
    names.sort(key=lambda known: -SequenceMatcher(None, known, name).ratio())
    more = f" and {len(names) - _NAMES_SHOWN:,} more" if len(names) > _NAMES_SHOWN else ""
    return f"no program has spent from it here; there are: {', '.join(map(repr, names[:_NAMES_SHOWN]))}{more}"


@contextmanager
def _said_once() -> Iterator[None]:
    """What several connections warn of, such as that a server keeps nothing on disk, is said once."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        new = text not in said
        said.add(text)
        return new

    log = logging.getLogger("langchain_tokopt")
    log.addFilter(is_new)
    try:
        yield
    finally:
        log.removeFilter(is_new)


@contextmanager
def opened(db: str | None, data_dir: Path | None, name: str) -> Iterator[Budget]:
    """The same without the store."""
    with opened_with_store(db, data_dir, name) as (budget, _):
        yield budget


def now() -> float:
    """Unix time in seconds."""
    return clock()
