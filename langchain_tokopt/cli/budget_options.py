"""What the commands of `tokopt budget` share: their options, the budget that is named, errors that name options."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_tokopt.cli.common import clear_errors, named_store
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
    typer.Argument(metavar="[NODE]", help='Such as "project=shop/agent=writer" or "user=*".', show_default=False),
]
MaybePer = Annotated[
    PerName | None, typer.Option("--per", help="Which of its limits, by its period.", show_default=False)
]
MaybeUnit = Annotated[UnitName | None, typer.Option("--unit", help="What is counted.", show_default=False)]

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
    with clear_errors(), _named_by_options(), named_store(db, data_dir) as store:
        from langchain_tokopt.budget import Budget

        budget = Budget.opened(store, name=name, clock=now)
        try:
            yield budget, store
        finally:
            budget.close()


@contextmanager
def opened(db: str | None, data_dir: Path | None, name: str) -> Iterator[Budget]:
    """The same without the store."""
    with opened_with_store(db, data_dir, name) as (budget, _):
        yield budget


def now() -> float:
    """Unix time in seconds."""
    return time.time()


@contextmanager
def _named_by_options() -> Iterator[None]:
    """Turns the argument that an error names into the option that it was given with."""
    try:
        yield
    except ConfigurationError as error:
        argument = error.argument
        if not argument.startswith("--") and not argument.isupper():
            argument = _OPTIONS.get(argument, f"--{argument.replace('_', '-')}")
        raise ConfigurationError(argument, error.value, error.remedy) from None


def print_json(content: Any) -> None:
    """Print JSON for people and programs. ASCII: a terminal obeys some characters beyond it, and names are others'."""
    import json

    typer.echo(json.dumps(content, indent=2))


def nothing(said: str) -> None:
    """Say that nothing was found: exit code 1."""
    from langchain_tokopt.cli.shown import safe

    typer.echo(safe(said), err=True)
    raise typer.Exit(1)
