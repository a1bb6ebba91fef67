"""What is done beside the writing of events, in the same thread: upkeep, and snapshots of what is watched."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from langchain_tokopt.forks import follow_forks
from langchain_tokopt.telemetry.rollups_upkeep import Upkeep
from langchain_tokopt.telemetry.snapshots import Taken
from langchain_tokopt.telemetry.store import EventStore

log = logging.getLogger("langchain_tokopt")

_EVERY_SECONDS: Final = 60.0  # how often it is looked whether something is due
_AT_ONCE_SECONDS: Final = 0.1  # how long events wait for upkeep at most, but for the step that is under way


@dataclass
class _Watched:
    figures: Callable[[], Mapping[str, Any]]
    every: float
    due: float


class Chores:
    """Bounded pieces of work for the writer's thread, which calls this object between two batches.

    Args:
        store: Gives the tables.
        keep_days: For how long events are kept one by one; `None`: always.
        hourly_days: For how long sums by the hour are kept.
        clock: Unix time in seconds.
        timer: Seconds of a clock that never jumps.
    """

    def __init__(
        self,
        store: Callable[[], EventStore],
        *,
        keep_days: float | None,
        hourly_days: float,
        clock: Callable[[], float],
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._keep_days = keep_days
        self._hourly_days = hourly_days
        self._clock = clock
        self._timer = timer
        self._upkeep: Upkeep | None = None
        self._next = timer() + _EVERY_SECONDS
        self._watched: dict[str, _Watched] = {}
        self._said: set[str] = set()
        self._one_at_a_time = threading.Lock()
        follow_forks(self, level=1)  # the database rests below

    def watch(self, name: str, figures: Callable[[], Mapping[str, Any]], *, every_seconds: float) -> None:
        """Take a snapshot of `figures()` now and then."""
        self._watched[name] = _Watched(figures, every_seconds, self._timer())

    def __call__(self) -> bool:
        """Do a little of what is due; whether there is more. Never raises."""
        try:
            self._take_snapshots()
            if self._keep_days is None or self._timer() < self._next:
                return False
            until = self._timer() + _AT_ONCE_SECONDS
            while self._of_upkeep(lambda upkeep: upkeep.step()):
                if self._timer() >= until:
                    return True
        except Exception as error:
            self._say("upkeep", error)
        self._next = self._timer() + _EVERY_SECONDS
        return False

    def all(self) -> int:
        """Do all upkeep that is due; how many events were rolled up.

        Raises:
            StoreError: The database cannot be used.
        """
        return 0 if self._keep_days is None else self._of_upkeep(lambda upkeep: upkeep.all())

    def _of_upkeep(self, work: Callable[[Upkeep], int]) -> int:
        with self._one_at_a_time:
            if self._upkeep is None and self._keep_days is not None:
                self._upkeep = Upkeep(
                    self._store(), keep_days=self._keep_days, hourly_days=self._hourly_days, clock=self._clock
                )
            return 0 if self._upkeep is None else work(self._upkeep)

    def _take_snapshots(self) -> None:
        now = self._timer()
        for name, watched in list(self._watched.items()):
            if now < watched.due:
                continue
            watched.due = now + watched.every
            try:
                figures = dict(watched.figures())
                self._store().write([Taken(name=name, figures=figures, at=self._clock(), request=None)])
            except Exception as error:
                self._say(name, error)

    def _say(self, what: str, error: Exception) -> None:
        if what not in self._said:
            self._said.add(what)
            log.warning("telemetry: %s failed and is tried again later: %s: %s", what, type(error).__name__, error)

    # --- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None: ...

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None:
        """Nothing that another thread of the parent held is held here."""
        self._one_at_a_time = threading.Lock()
