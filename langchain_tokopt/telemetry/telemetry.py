"""`Telemetry`: the sink that keeps events in a database and reports on them."""

from __future__ import annotations

import logging
import math
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage
from typing_extensions import Self

from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError, StoreError
from langchain_tokopt.events import Event, Failure, ModelCall, Reservation
from langchain_tokopt.pricing import Pricing, Rates
from langchain_tokopt.telemetry.measure import rolled_up_note
from langchain_tokopt.telemetry.metering import SentPrefixes
from langchain_tokopt.telemetry.report import Report
from langchain_tokopt.telemetry.report_budgets import Budgets, Forecasts
from langchain_tokopt.telemetry.report_reading import read_report
from langchain_tokopt.telemetry.rollups_chores import Chores
from langchain_tokopt.telemetry.sightings import Sightings
from langchain_tokopt.telemetry.snapshots import Snapshot, Taken
from langchain_tokopt.telemetry.store import EventStore
from langchain_tokopt.telemetry.writer import BatchWriter
from langchain_tokopt.tokens import TokenCounter

log = logging.getLogger("langchain_tokopt")


class Telemetry:
    """Keeps what happened, and reports on it.

    `emit` only queues an event; a background thread writes what is queued, at once after an error and at the latest
    after `flush_seconds`. What is queued is also written at `flush`, at `close`, when the object goes away and when
    the interpreter ends. A process that is killed loses the events of the last `flush_seconds`, what is being written
    at that moment, and no more.

    When the database fails, that is logged once, and events wait in memory (`max_queue` of them, the newest) until it
    can be used again. Nothing here ever raises into an agent.

    Events are kept one by one for `keep_days`. Then they are rolled up into sums by the hour, and after `hourly_days`
    into sums by the day, which stay; whatever adds up gives the same figures as before. Threads, runs, single requests,
    reasons, errors and costs at other prices are not in the sums, and percentiles are known to 5 %; whoever asks for
    more is told. One of the processes that share a database does this, a little at a time, in the thread that writes.
    Where every process ends within a minute, none does: let something call `roll_up` now and then.

    Args:
        database: Where events are kept; one in memory by default.
        pricing: What calls cost, for those who watch calls.
        counter: Counts tokens that no provider reports, for those who watch calls.
        flush_seconds: The longest time that an event waits to be written.
        max_queue: How many events wait at most; then the oldest are dropped, and `status` says so.
        max_rows_in_memory: How many events, the newest, a database in memory keeps. Files and servers have no such
            bound.
        keep_days: For how many days events, and snapshots, are kept one by one; `None` keeps all. Of processes that
            share a database, the one that keeps them for the shortest time decides.
        hourly_days: For how many days, at least, sums by the hour are kept.
        clock: Unix time in seconds.

    Raises:
        ConfigurationError: A setting cannot work.
    """

    def __init__(
        self,
        *,
        database: Database | None = None,
        pricing: Pricing | None = None,
        counter: TokenCounter | None = None,
        flush_seconds: float = 1.0,
        max_queue: int = 100_000,
        max_rows_in_memory: int = 100_000,
        keep_days: float | None = 90.0,
        hourly_days: float = 120.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not 0 < flush_seconds < math.inf:
            raise ConfigurationError("flush_seconds", flush_seconds, "give a time in seconds above 0")
        if max_queue < 1:
            raise ConfigurationError("max_queue", max_queue, "give a number of events, 1 or more")
        if max_rows_in_memory < 1:
            raise ConfigurationError("max_rows_in_memory", max_rows_in_memory, "give a number of events, 1 or more")
        if keep_days is not None and not 0 < keep_days < math.inf:
            raise ConfigurationError("keep_days", keep_days, "give a number of days above 0, or None to keep all")
        if not 0 < hourly_days < math.inf:
            raise ConfigurationError("hourly_days", hourly_days, "give a number of days above 0")
        self.sightings = Sightings()
        self.prefixes = SentPrefixes(clock=clock)
        self._pricing = pricing
        self._counter = counter
        self._clock = clock
        self._events = _Events(database, max_rows_in_memory)
        self._chores = Chores(self._events.store, keep_days=keep_days, hourly_days=hourly_days, clock=clock)
        self._writer = BatchWriter(
            self._events.write, flush_seconds=flush_seconds, max_queue=max_queue, between=self._chores
        )
        # Also when the interpreter ends.
        self._finalizer = weakref.finalize(self, self._writer.close)

    def attach(
        self,
        *,
        database: Database | None = None,
        pricing: Pricing | None = None,
        counter: TokenCounter | None = None,
    ) -> Self:
        """This object, with what it was not given before. The database is fixed by the first event that is written."""
        self._events.attach(database)
        self._pricing = self._pricing or pricing
        self._counter = self._counter or counter
        return self

    @property
    def pricing(self) -> Pricing:
        """What calls cost."""
        if self._pricing is None:
            self._pricing = Pricing()
        return self._pricing

    @property
    def counter(self) -> TokenCounter:
        """Counts tokens that no provider reports."""
        if self._counter is None:
            self._counter = TokenCounter()
        return self._counter

    # --- taking ------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Make the table now instead of at the first event, so that a database that cannot be used is refused here.

        Raises:
            StoreError: The database cannot be used, or was written by a newer version of this package.
        """
        self._events.store().prepare()

    def emit(self, event: Event) -> None:
        """Take an event; it is written soon. Never raises, never waits for the database."""
        self._writer.put(event, urgent=_urgent(event))

    def snapshot(self, name: str, figures: Mapping[str, Any]) -> None:
        """Note how something stands now, such as `("cache", {"entries": 5})`; it is written soon. Never raises.

        `figures`: what JSON can hold, at most 65,536 characters of it.
        """
        try:
            # A copy: what the caller changes later is not what was seen now.
            self._writer.put(Taken(name=name, figures=dict(figures), at=self._clock(), request=None))
        except Exception:
            log.warning("telemetry: a snapshot of %r could not be taken", name, exc_info=True)

    def watch(self, name: str, figures: Callable[[], Mapping[str, Any]], *, every_seconds: float = 300.0) -> None:
        """Take a snapshot of `figures()` about every so many seconds, as long as events come.

        It is called in the thread that writes, and is to be quick; what it raises is logged once. It must not hold this
        object, which would never go away by itself then.

        Raises:
            ConfigurationError: `every_seconds` is not above 0.
        """
        if not 0 < every_seconds < math.inf:
            raise ConfigurationError("every_seconds", every_seconds, "give a time in seconds above 0")
        self._chores.watch(name, figures, every_seconds=every_seconds)

    def first_sight(self, message: BaseMessage, *, by: str | None = None) -> bool:
        """Whether the call that gave this answer was not counted yet; see `Sightings.first`."""
        return self.sightings.first(message, by=by)

    def flush(self) -> bool:
        """Write all that is queued; whether that worked. Waits for the database."""
        return self._writer.flush()

    def close(self) -> None:
        """Write all that is queued and stop. Events that come later are dropped; reading goes on working."""
        self._finalizer()

    def roll_up(self) -> int:
        """Roll up now what is older than `keep_days`, in this thread; how many events that were.

        This happens by itself while events are written. Nothing is done while another process is at it.

        Raises:
            StoreError: The database cannot be used.
        """
        self.flush()
        return self._chores.all()

    # --- giving ------------------------------------------------------------------------------------------------------

    def report(
        self,
        hours: float | None = None,
        *,
        budgets: Budgets | None = None,
        forecasts: Forecasts | None = None,
        candidates: Sequence[Rates | str] = (),
    ) -> Report:
        """What was spent, saved, refused and failed in the last `hours` (`None`: ever), and what to change.

        When the database cannot be used, the report covers the events that wait in memory, and says so.

        Args:
            hours: How far back.
            budgets: What `Budget.status()` gives, of one budget or several; or a callable that gives that.
            forecasts: What `Budget.forecast(node)` gives, by node; or a callable that gives it for a node.
            candidates: Models that may answer instead of those in use: rates, or names for `pricing`. By default the
                next smaller ones of the same family.

        Raises:
            ConfigurationError: `hours` is not above 0.
        """
        since = self._since(hours)
        self.flush()
        notes = []

        def read(store: EventStore) -> Report:
            return read_report(
                store,
                now=self._clock(),
                hours=hours,
                pricing=self.pricing,
                candidates=candidates,
                budgets=budgets,
                forecasts=forecasts,
            )

        try:
            store = self._events.store()
            report = read(store)
            if note := rolled_up_note(store, since):
                notes.append(note)
            if store.cut:
                notes.append("Only the newest events are kept in memory: give a database file to keep all.")
        except StoreError as error:
            waiting = self._writer.pending()
            notes.append(f"This covers only the {len(waiting)} events in memory, because of this: {error}")
            aside = EventStore(Database())
            aside.write(waiting)
            report = read(aside)
        if dropped := self._writer.status().dropped:
            notes.append(f"{dropped} events were dropped by this process and are not in these figures.")
        return report.with_notes(notes)

    def events(
        self, kind: type[Event] | str | None = None, hours: float | None = None, thread: str | None = None
    ) -> Iterator[Event]:
        """The events as they were emitted (money to the nano-USD), oldest first.

        Args:
            kind: Only those of one class, or of its name.
            hours: Only those of the last `hours`.
            thread: Only those of one thread.

        Raises:
            ConfigurationError: `hours` is not above 0.
            StoreError: The database cannot be read.
        """
        since = self._since(hours)
        self.flush()
        name = None if kind is None or kind is Event else kind if isinstance(kind, str) else kind.__name__
        return self._events.store().events(kind=name, since=since, thread=thread)

    def snapshots(self, name: str | None = None, hours: float | None = None) -> tuple[Snapshot, ...]:
        """How things stood, oldest first, at most the newest 10,000 times.

        Args:
            name: Only snapshots of that name.
            hours: Only those of the last `hours`.

        Raises:
            ConfigurationError: `hours` is not above 0.
            StoreError: The database cannot be read.
        """
        since = self._since(hours)
        self.flush()
        return self._events.store().snapshots(name, since=since)

    def store(self) -> EventStore:
        """Where events are kept, for whoever reads there, such as `Readings`. What is queued is not there yet.

        Raises:
            StoreError: The database cannot be used.
        """
        return self._events.store()

    def status(self) -> dict[str, Any]:
        """How the writing is: events `queued`, `written` and `dropped`, the `database`, and the `last_error`."""
        writer = self._writer.status()
        return {
            "queued": writer.queued,
            "written": writer.written,
            "dropped": writer.dropped,
            "database": self._events.url,
            "last_error": writer.last_error,
        }

    def _since(self, hours: float | None) -> float | None:
        if hours is None:
            return None
        if isinstance(hours, bool) or not isinstance(hours, (int, float)) or not 0 < hours < math.inf:
            raise ConfigurationError("hours", hours, "give a number of hours above 0, or None for all")
        return self._clock() - hours * 3600


class _Events:
    """The store, made when it is first needed, so that a database can still be attached."""

    def __init__(self, database: Database | None, max_rows: int) -> None:
        self._database = database
        self._max_rows = max_rows
        self._store: EventStore | None = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self._database.url if self._database is not None else "sqlite://"

    def attach(self, database: Database | None) -> None:
        with self._lock:
            self._database = self._database if self._database is not None else database

    def store(self) -> EventStore:
        with self._lock:
            if self._store is None:
                if self._database is None:
                    self._database = Database()
                keep = None if self._database.persistent else self._max_rows
                self._store = EventStore(self._database, max_rows=keep)
            return self._store

    def write(self, events: Any) -> None:
        self.store().write(events)


def _urgent(event: Event) -> bool:
    """Whether the process may be about to end with this event."""
    if isinstance(event, ModelCall):
        return event.error is not None
    return isinstance(event, Failure) or (isinstance(event, Reservation) and event.action == "refused")
