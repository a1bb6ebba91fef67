"""What earlier threads of an agent were like, so that it can be told how the next one will go."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from langchain_tokopt.context.habit_rows import HabitRows, ThreadRecord
from langchain_tokopt.context.policy import Expected, Prices
from langchain_tokopt.forks import follow_forks

if TYPE_CHECKING:
    from langchain_tokopt.database import Database

log = logging.getLogger("langchain_tokopt")

# So many of an agent's newest threads are counted.
THREADS_COUNTED: Final = 50
# A part that is asked for costs a call more and is sent whole after all: above such a share of all parts none pays. An
# agent that is shown none has new threads in the end, in which it asked for none, and then it is tried again.
MOST_ASKED: Final = 0.3
LEAST_ASKED: Final = 3
# So many threads are remembered in all; a database keeps the others, too.
THREADS_REMEMBERED: Final = 20_000
# How far threads are is written when so many have gone on, or after so long.
FLUSH_THREADS: Final = 64
FLUSH_SECONDS: Final = 10.0
# How often what other processes learned of an agent is read, and how long a database that failed is left alone.
REFRESH_SECONDS: Final = 30.0
_DAY_SECONDS: Final = 86_400.0


class Habits:
    """How the threads of each agent went. Safe to share between threads of execution, and by a database of processes.

    What is expected of a thread is fixed when it begins: what it is shown must not change by what others do. Only the
    first call of a thread waits for the database. One that fails raises nothing: its lessons are lost.

    Args:
        database: Where it is kept; `None`, or one in memory: in this object.
        clock: Seconds from any start.
    """

    def __init__(self, database: Database | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rows: HabitRows | None = None
        self._threads: OrderedDict[bytes, ThreadRecord] = OrderedDict()
        self._agents: dict[bytes, OrderedDict[bytes, ThreadRecord]] = {}
        self._unwritten: set[bytes] = set()
        self._refreshed: dict[bytes, float] = {}
        self._flushed_at = self._not_before = clock()
        self._cleaned_at: float | None = None
        self._said: set[str] = set()
        self._lock = threading.Lock()
        if database is not None:
            self.attach(database)
        follow_forks(self)

    def attach(self, database: Database) -> bool:
        """Keep everything in this database from now on, unless there is one already. Whether it is kept there."""
        if self._rows is not None or not database.persistent:
            return False
        return self._try(lambda: setattr(self, "_rows", HabitRows(database)))

    def knows(self, thread: str) -> bool:
        """Whether something was expected of the thread before, here or in another process with the same database."""
        key = _digest(thread)
        with self._lock:
            if key in self._threads:
                return True
        rows, found = self._rows, []
        if rows is None or not self._usable():
            return False
        self._try(lambda: found.append(rows.get(key)))
        return bool(found) and found[0] is not None

    def expected(self, thread: str, agent: str, prices: Prices, tool_tokens: int) -> Expected:
        """What is expected of the thread, by those of this agent that began before it."""
        key, owner = _digest(thread), _digest(agent)
        with self._lock:
            known = self._threads.get(key)
            if known is not None:
                self._threads.move_to_end(key)
                return known.expected
        kept = self._look_up(key, owner)
        with self._lock:
            record = kept or self._threads.get(key)
            if record is None:
                record = ThreadRecord(owner, self._expect(owner, prices, tool_tokens), time.time())
            if self._rows is None:
                return self._remember(key, record).expected
        record = self._begin(key, record) if kept is None else record
        with self._lock:
            return self._remember(key, record).expected

    def went(self, thread: str, *, calls: int, trimmable: int, parts: int = 0, asked: int = 0) -> None:
        """Take note of how far the thread is by now; see `ThreadRecord`."""
        key = _digest(thread)
        with self._lock:
            record = self._threads.get(key)
            now = ThreadRecord(b"", Expected(), 0.0, calls, trimmable, parts, asked)
            if record is None or not record.grow(now):
                return
            if self._rows is None:
                return
            self._unwritten.add(key)
            due = len(self._unwritten) >= FLUSH_THREADS or self._clock() - self._flushed_at >= FLUSH_SECONDS
            if due := due and self._usable():
                self._flushed_at = self._clock()
        if due:
            self.flush()

    def flush(self) -> None:
        """Write how far the threads are that went on since the last time."""
        rows = self._rows
        if rows is None:
            return
        with self._lock:
            going = {key: replace(self._threads[key]) for key in self._unwritten if key in self._threads}
            self._unwritten.clear()
            self._flushed_at = self._clock()
            cleans = self._cleaned_at is None or self._clock() - self._cleaned_at >= _DAY_SECONDS
        if not self._try(lambda: rows.keep(going)):
            with self._lock:
                self._unwritten.update(going)
        elif cleans and self._try(rows.cleanup):
            self._cleaned_at = self._clock()

    def close(self) -> None:
        """Write what was not written yet. The object can be used on."""
        if self._unwritten:
            self.flush()

    def _expect(self, agent: bytes, prices: Prices, tool_tokens: int) -> Expected:
        records = list(self._agents.get(agent, {}).values())
        gain = sum(record.trimmable * (prices.write + prices.read * record.calls / 2) for record in records)
        cost = sum(tool_tokens * (prices.write + prices.read * record.calls) for record in records)
        asked, parts = sum(record.asked for record in records), sum(record.parts for record in records)
        asks = asked >= LEAST_ASKED and asked > MOST_ASKED * parts
        calls = tuple(sorted(record.calls for record in records if record.calls))
        return Expected(calls, trims=gain > cost and not asks, asks=asks)

    def _remember(self, thread: bytes, record: ThreadRecord) -> ThreadRecord:
        """The record of the thread: this one, unless there is one already."""
        known = self._threads.setdefault(thread, record)
        self._threads.move_to_end(thread)
        if known is record:
            self._count(record.agent, {thread: record})
        while len(self._threads) > THREADS_REMEMBERED:
            gone, old = self._threads.popitem(last=False)
            self._unwritten.discard(gone)
            others = self._agents.get(old.agent, OrderedDict())
            others.pop(gone, None)
            if not others:
                self._agents.pop(old.agent, None)
                self._refreshed.pop(old.agent, None)
        return known

    def _count(self, agent: bytes, records: Mapping[bytes, ThreadRecord]) -> None:
        """Count these threads of the agent among its newest ones."""
        own = self._agents.setdefault(agent, OrderedDict())
        in_order = not own or all(next(reversed(own.values())).began <= record.began for record in records.values())
        own.update(records)
        if len(records) > 1 or not in_order:
            self._agents[agent] = own = OrderedDict(sorted(own.items(), key=lambda item: (item[1].began, item[0])))
        while len(own) > THREADS_COUNTED:
            own.popitem(last=False)

    # --- the database ------------------------------------------------------------------------------------------------

    def _look_up(self, thread: bytes, agent: bytes) -> ThreadRecord | None:
        """What is kept of the thread. Takes up what is kept of its agent's others now and then."""
        rows, found = self._rows, []
        if rows is None or not self._usable():
            return None
        if not self._try(lambda: found.append(rows.get(thread))) or found[0] is not None:
            return found[0] if found else None
        refreshed = self._refreshed.get(agent)
        if refreshed is None or self._clock() - refreshed >= REFRESH_SECONDS:
            self._refreshed[agent] = self._clock()
            self._try(lambda: self._take_up(agent, rows.newest(agent, THREADS_COUNTED)))
        return None

    def _take_up(self, agent: bytes, kept: Mapping[bytes, ThreadRecord]) -> None:
        with self._lock:
            for thread, record in reversed(list(kept.items())):
                known = self._remember(thread, record)
                known.grow(record)

    def _begin(self, thread: bytes, record: ThreadRecord) -> ThreadRecord:
        """The record as it is kept: another process may have begun the same thread."""
        rows, kept = self._rows, [record]
        if rows is not None and self._usable():
            self._try(lambda: kept.append(rows.begin(thread, record)))
        return kept[-1]

    def _usable(self) -> bool:
        return self._clock() >= self._not_before

    def _try(self, work: Callable[[], object]) -> bool:
        """Whether the work was done. What is not written now is written later, or forgotten: no agent waits for it."""
        try:
            work()
        except Exception as error:
            self._not_before = self._clock() + REFRESH_SECONDS
            said = f"{type(error).__name__}: {error}"
            if said not in self._said:
                self._said.add(said)
                log.warning("how threads of agents go cannot be kept (%s)", said)
            return False
        return True

    # --- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        return None

    def after_fork_in_parent(self) -> None:
        return None

    def after_fork_in_child(self) -> None:
        self._lock = threading.Lock()


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
