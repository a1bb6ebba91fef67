"""Who does the upkeep of the tables, and when: one process at a time, in small steps."""

from __future__ import annotations

import os
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from langchain_tokopt.telemetry.rollups import Sums, hour_into_day
from langchain_tokopt.telemetry.rollups_tables import DAY, HOUR, ROLLUPS, UPKEEP
from langchain_tokopt.telemetry.snapshots import forget_snapshots
from langchain_tokopt.telemetry.store import TABLE, EventStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

_STEP = 1000  # events looked at in a step
_IN = 400  # values in one question: older SQLite takes 999 at most
_MOST_EVENTS = 5000  # a request with more is rolled up in pieces
_CLAIM_SECONDS = 60.0
_LONGEST_CLAIM_SECONDS = 3600.0  # what a clock that is wrong may have written


class Upkeep:
    """Rolls up what is old enough and deletes it: events into sums by the hour, these into sums by the day.

    Every step is one short transaction: what it deletes is in the sums that it writes, or nothing happens. Of the
    processes that share a database, one holds a claim and does the work; should two take themselves for the one, the
    second finds its events gone and does nothing.

    An event is rolled up with the rest of its request, so that requests are counted once. It waits for the others of
    its request for at most a day; what is written later still counts as a request of its own. Of a request with more
    than 5,000 events every piece counts.

    Args:
        store: Whose tables.
        keep_days: For how long events are kept one by one.
        hourly_days: For how long sums by the hour are kept.
        clock: Unix time in seconds.
    """

    def __init__(self, store: EventStore, *, keep_days: float, hourly_days: float, clock: Callable[[], float]) -> None:
        self._store = store
        self._keep_seconds = keep_days * DAY
        self._hourly_seconds = hourly_days * DAY
        self._clock = clock
        self._id = uuid.uuid4().hex
        self._done = 0  # up to which time nothing is left to be done
        self._after: tuple[int, float, int] = (0, -1.0, 0)  # how far this round has come: its end, and the last event
        self._rolled = 0

    def step(self) -> bool:
        """Do a little of what is due; whether more is.

        Raises:
            StoreError: The database cannot be used now; nothing was changed.
        """
        now = self._clock()
        end = self._end(now)
        if end <= self._done:
            return False
        if self._done_by_anybody() >= end:
            self._done = end
            return False
        return self._claimed() and self._work(now, end)

    def all(self) -> int:
        """Do all that is due, and look for what came late, unless another process is at it; how many events it were.

        Raises:
            StoreError: The database cannot be used now; some steps may be done.
        """
        now = self._clock()
        self._rolled, self._after = 0, (0, -1.0, 0)
        while self._claimed() and self._work(now, self._end(now)):
            pass
        return self._rolled

    def _end(self, now: float) -> int:
        return int((now - self._keep_seconds) // HOUR) * HOUR

    def _work(self, now: float, end: int) -> bool:
        return self._events(end) or self._hours(now) or self._rest(now, end)

    # --- the claim ---------------------------------------------------------------------------------------------------

    @property
    def _holder(self) -> str:
        return f"{self._id}:{os.getpid()}"  # a forked child is another

    def _done_by_anybody(self) -> int:
        from sqlalchemy import text

        with self._store.reading() as connection:
            return int(connection.execute(text(f"SELECT MAX(done) FROM {UPKEEP}")).scalar() or 0)  # noqa: S608

    def _claimed(self) -> bool:
        """Whether this process has the claim now."""
        from sqlalchemy import text

        self._store.prepare()
        now = self._clock()
        mine = {"me": self._holder, "until": now + _CLAIM_SECONDS, "now": now, "far": now + _LONGEST_CLAIM_SECONDS}
        with self._store.database.write() as connection:
            taken = connection.execute(
                text(
                    f"INSERT INTO {UPKEEP} (name, holder, until, done) VALUES ('events', :me, :until, 0) "  # noqa: S608
                    "ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until "
                    f"WHERE {UPKEEP}.holder = :me OR {UPKEEP}.until < :now OR {UPKEEP}.until > :far"
                ),
                mine,
            ).rowcount
        return bool(taken)

    def _still_mine(self, connection: Connection) -> bool:
        from sqlalchemy import text

        query = text(f"UPDATE {UPKEEP} SET until = :until WHERE name = 'events' AND holder = :me")  # noqa: S608
        found = connection.execute(query, {"me": self._holder, "until": self._clock() + _CLAIM_SECONDS})
        return bool(found.rowcount)

    # --- events ------------------------------------------------------------------------------------------------------

    def _events(self, end: int) -> bool:
        """Roll up some events from before `end`; whether there may be more."""
        from sqlalchemy import text

        if self._after[0] != end:
            self._after = (end, -1.0, 0)
        at, seq = self._after[1:]
        query = text(
            f"SELECT * FROM {TABLE} WHERE at < :end AND at >= :at AND (at > :at OR seq > :seq) "  # noqa: S608
            "ORDER BY at, seq LIMIT :page"
        )
        with self._store.database.read() as connection:
            given = {"end": end, "at": at, "seq": seq, "page": _STEP}
            page = [dict(row) for row in connection.execute(query, given).mappings()]
            used, requests = _whole_requests(connection, page, end)
        sums = Sums()
        for rows in requests:
            sums.add(rows)
        gone = [row["seq"] for rows in requests for row in rows]
        if gone and not self._moved(sums, gone):
            return False
        self._rolled += len(gone)
        if used:
            self._after = (end, used[-1]["at"], used[-1]["seq"])
        return len(page) == _STEP or len(used) < len(page)

    def _moved(self, sums: Sums, gone: Sequence[int]) -> bool:
        from sqlalchemy import bindparam, text

        delete = text(f"DELETE FROM {TABLE} WHERE seq IN :seqs").bindparams(bindparam("seqs", expanding=True))  # noqa: S608
        try:
            with self._store.database.write() as connection:
                if not self._still_mine(connection):
                    raise _TakenOverError
                deleted = sum(connection.execute(delete, {"seqs": some}).rowcount for some in _chunks(gone))
                if deleted != len(gone):
                    raise _TakenOverError
                sums.write(connection)
        except _TakenOverError:
            return False
        return True

    # --- the rest ----------------------------------------------------------------------------------------------------

    def _hours(self, now: float) -> bool:
        """Add the oldest hour that is old enough to its day; whether there was one."""
        from sqlalchemy import text

        end = int((now - self._hourly_seconds) // DAY) * DAY
        query = text(f"SELECT MIN(start) FROM {ROLLUPS} WHERE seconds = {HOUR} AND start < :end")  # noqa: S608
        with self._store.database.write() as connection:
            if not self._still_mine(connection):
                return False
            hour = connection.execute(query, {"end": end}).scalar()
            return hour is not None and bool(hour_into_day(connection, int(hour)))

    def _rest(self, now: float, end: int) -> bool:
        from sqlalchemy import text

        with self._store.database.write() as connection:
            if self._still_mine(connection):
                forget_snapshots(connection, before=now - self._keep_seconds)
                free = text(f"UPDATE {UPKEEP} SET done = :end, until = 0 WHERE name = 'events'")  # noqa: S608
                connection.execute(free, {"end": end})
                self._done = end
        return False


class _TakenOverError(Exception):
    """Another process has done it."""


def _whole_requests(
    connection: Connection, page: Sequence[dict[str, Any]], end: int
) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """As much of the page as is enough for a step; its events by request, with what else these have.

    Those that wait for others of their request are left out.
    """
    from sqlalchemy import bindparam, text

    keys = list(dict.fromkeys(row["request"] for row in page if row["request"] is not None))
    about = text(
        f"SELECT request, COUNT(*) AS n, MAX(at) AS last FROM {TABLE} WHERE request IN :keys GROUP BY request"  # noqa: S608
    ).bindparams(bindparam("keys", expanding=True))
    whole = text(f"SELECT * FROM {TABLE} WHERE request IN :keys").bindparams(bindparam("keys", expanding=True))  # noqa: S608
    known: dict[str, tuple[int, float]] = {}
    for some in _chunks(keys):
        for request, count, latest in connection.execute(about, {"keys": some}):
            known[request] = int(count), float(latest)
    requests: dict[str, list[dict[str, Any]]] = {}
    pieces: dict[str, list[dict[str, Any]]] = defaultdict(list)
    used: list[dict[str, Any]] = []
    total = 0
    for row in page:
        n, last = known.get(row["request"], (1, row["at"]))
        whole_one = last < end and n <= _MOST_EVENTS and row["request"] is not None
        more = 0 if row["request"] in requests else n if whole_one else 1
        if total and total + more > _MOST_EVENTS:
            break
        used.append(row)
        if whole_one:
            total += more
            requests.setdefault(row["request"], [])
        elif last < end or row["at"] < end - DAY:
            total += more
            pieces[row["id"] if row["request"] is None else row["request"]].append(row)
    for some in _chunks(list(requests)):
        for found in connection.execute(whole, {"keys": some}).mappings():
            requests[found["request"]].append(dict(found))
    for rows in requests.values():
        rows.sort(key=lambda row: (row["at"], row["seq"]))
    return used, [rows for rows in (*requests.values(), *pieces.values()) if rows]


def _chunks(values: Sequence[Any]) -> list[list[Any]]:
    return [list(values[first : first + _IN]) for first in range(0, len(values), _IN)]
