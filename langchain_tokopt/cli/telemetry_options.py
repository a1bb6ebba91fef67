"""What the commands that look at events share: their options, the events that are named, the span of time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_tokopt.cli.common import clear_errors, named_by_options, named_database, nothing
from langchain_tokopt.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_tokopt.database import Database
    from langchain_tokopt.telemetry.readings import Span
    from langchain_tokopt.telemetry.store import EventStore

Hours = Annotated[float, typer.Option("--hours", help="The last so many hours.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Watch = Annotated[
    float | None, typer.Option("--watch", help="Draw it anew every so many seconds.", min=0.2, show_default=False)
]

clock: Callable[[], float] = time.time

# Somebody waits at a terminal: a lock that an agent holds for a moment is waited for, one that stays is told.
LOCK_TIMEOUT_SECONDS = 5.0
# Fifty years: no event is older, and every system's calendar can still tell when that was.
LONGEST_HOURS = 438_000.0
_OPTIONS = {"url": "--db"}


def now() -> float:
    """Unix time in seconds."""
    return clock()


def span_of(hours: float) -> Span:
    """The last so many hours, as KPIs and pages have them: what another clock dates later is not in it yet.

    Raises:
        ConfigurationError: It is no span.
    """
    check_hours(hours)
    from langchain_tokopt.telemetry.readings import Span

    until = now()
    return Span(until - hours * 3600, until)


def check_hours(hours: float) -> None:
    """Refuses what is no span of time.

    Raises:
        ConfigurationError: It is not a number above 0, or more than fifty years.
    """
    if not 0 < hours <= LONGEST_HOURS:
        raise ConfigurationError("--hours", hours, "give a number of hours above 0, such as 24")


@contextmanager
def opened_database(db: str | None, data_dir: Path | None, *, hours: float | None = None) -> Iterator[Database]:
    """The database that is named. Errors are one line on stderr and exit code 2. `hours` are checked first."""
    with clear_errors(), named_by_options(_OPTIONS):
        if hours is not None:
            check_hours(hours)
        database = named_database(db, data_dir, lock_timeout_seconds=LOCK_TIMEOUT_SECONDS)
        try:
            yield database
        finally:
            database.close()


@contextmanager
def opened_events(db: str | None, data_dir: Path | None, *, hours: float | None = None) -> Iterator[EventStore]:
    """The events in the database that is named; exit code 1 where none were ever kept. `hours` are checked first."""
    with opened_database(db, data_dir, hours=hours) as database:
        if not has_events(database):
            nothing(f"No events were ever kept in {database.url}.")
        from langchain_tokopt.telemetry.store import EventStore

        store = EventStore(database)
        store.prepare()
        yield store


def has_events(database: Database) -> bool:
    """Whether the database has a table of events: looking for one must not make it."""
    from sqlalchemy import inspect

    from langchain_tokopt.telemetry.store import TABLE

    with database.read() as connection:
        return inspect(connection).has_table(TABLE)


def empty_span(store: EventStore, hours: float, nothing_happened: str = "Nothing was recorded") -> str:
    """What to say of a span without events."""
    from langchain_tokopt.cli.shown import age
    from langchain_tokopt.telemetry.readings import Readings, Span

    said = f"{nothing_happened} in the last {'hour' if hours == 1 else f'{hours:g} hours'}"
    last = Readings(store).extent(Span()).last
    if last is None:
        return f"{said}, or ever."
    gone = now() - last
    if gone <= 0 or gone < hours * 3600:
        return f"{said}."
    return f"{said}; the newest event is {age(gone)} old: use --hours {math.ceil((gone + 60) / 3600)}."


def check_watch(watch: float | None, *, is_terminal: bool, json: bool) -> None:
    """Refuses to draw anew where nothing can be drawn over.

    Raises:
        ConfigurationError: There is no terminal.
    """
    if watch is not None and (json or not is_terminal):
        raise ConfigurationError("--watch", watch, "it needs a terminal, and no --json; leave it out")
