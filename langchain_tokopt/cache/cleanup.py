"""Removes in the background what nobody will find any more: the expired, what is over the limit, old tombstones."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from langchain_tokopt.cache.eviction import Room
from langchain_tokopt.cache.removal import Removal
from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.forks import follow_forks

log = logging.getLogger("langchain_tokopt")

_EXPIRED_AT_ONCE = 500  # what `Removal.remove_expired` takes in one transaction
_FORK_WAIT_SECONDS = 10.0

_by_database: weakref.WeakKeyDictionary[Database, Cleanup] = weakref.WeakKeyDictionary()
_making = threading.Lock()


@dataclass(frozen=True, slots=True)
class Cleaned:
    """How many entries were removed: because their time was up, and for want of room."""

    expired: int = 0
    evicted: int = 0

    def __add__(self, other: Cleaned) -> Cleaned:
        return Cleaned(self.expired + other.expired, self.evicted + other.evicted)


def clean(removal: Removal, room: Room | None, now: float, *, learn: bool = True) -> Cleaned:
    """Remove what has expired, what there is no room for, and tombstones that everybody had time to see.

    `learn`: see `Room.make`.
    """
    expired = last = removal.remove_expired(now)
    while last == _EXPIRED_AT_ONCE:
        last = removal.remove_expired(now)
        expired += last
    evicted = room.make(now, learn=learn) if room is not None else 0
    removal.purge(now)
    return Cleaned(expired, evicted)


class Charge:
    """One kind of entries that is kept clean for as long as somebody holds this. `room` is `None` without limits."""

    def __init__(self, owner: Cleanup, removal: Removal, room: Room | None) -> None:
        self.removal = removal
        self.room = room
        self._owner = owner

    def wake(self) -> None:
        """Have it cleaned now, in the background: there may be no room left."""
        self._owner.wake(self)

    def clean(self, now: float, *, learn: bool = True) -> Cleaned:
        """Clean it, in this thread. `learn`: see `Room.make`."""
        return clean(self.removal, self.room, now, learn=learn)

    def close(self) -> None:
        """Keep it clean no more; the thread ends with its last charge. What eviction has learnt is saved."""
        self._owner.forget(self)
        if self.room is not None:
            self.room.save()


class Cleanup:
    """The daemon thread that keeps a database clean; it starts with the first charge. One per database and process.

    It holds no reference to what it cleans, so that a cache that is dropped without `close()` is collected. An error is
    logged once and counted, and the thread goes on.

    Args:
        clock: Unix time in seconds, by which entries expire.
        every_seconds: How often it cleans when nobody wakes it, in real time.

    Attributes:
        runs: How often it has cleaned.
        failures: How many charges could not be cleaned.
    """

    _lock: threading.Lock
    _due: set[Charge]
    _wanted: threading.Event
    _thread: threading.Thread | None

    def __init__(self, *, clock: Callable[[], float] = time.time, every_seconds: float = 60.0) -> None:
        if not every_seconds > 0:
            raise ConfigurationError("every_seconds", every_seconds, "use a number of seconds above 0")
        self.runs = 0
        self.failures = 0
        self._clock = clock
        self._every = every_seconds
        self._charges: weakref.WeakSet[Charge] = weakref.WeakSet()
        self._failure_logged = False
        self._start_afresh()
        follow_forks(self, level=2)  # what it cleans rests below

    @classmethod
    def of(cls, database: Database, *, clock: Callable[[], float] = time.time, every_seconds: float = 60.0) -> Cleanup:
        """The one of this database; made at the first call, whose clock and interval count."""
        with _making:
            found = _by_database.get(database)
            if found is None:
                found = _by_database[database] = cls(clock=clock, every_seconds=every_seconds)
            return found

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()
        self._cleaning = threading.Lock()
        self._wanted = threading.Event()
        self._due: set[Charge] = set()
        self._thread = None

    def look_after(self, removal: Removal, room: Room | None = None) -> Charge:
        """Keep these entries clean from now on."""
        charge = Charge(self, removal, room)
        with self._lock:
            self._charges.add(charge)
            self._see_to_the_thread()
        return charge

    def forget(self, charge: Charge) -> None:
        """Clean these no more."""
        with self._lock:
            self._charges.discard(charge)
            self._due.discard(charge)
            thread = None if self._charges else self._thread
            if thread is not None:
                self._thread = None
                self._wanted.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5.0)

    def wake(self, charge: Charge) -> None:
        """Clean this charge soon, in the background."""
        with self._lock:
            if charge in self._charges:
                self._due.add(charge)
                self._see_to_the_thread()
        self._wanted.set()

    def run_once(self) -> Cleaned:
        """Clean everything, in this thread, and tell what was removed."""
        with self._lock:
            charges = list(self._charges)
            self._due.clear()
        return self._clean(charges)

    def _clean(self, charges: list[Charge]) -> Cleaned:
        cleaned = Cleaned()
        with self._cleaning:
            for charge in charges:
                try:
                    cleaned += charge.clean(self._clock())
                except Exception as error:
                    self.failures += 1
                    if not self._failure_logged:
                        self._failure_logged = True
                        log.warning("cache: the clean-up failed (%s): %s", type(error).__name__, error)
            self.runs += 1
        return cleaned

    # --- the thread --------------------------------------------------------------------------------------------------

    def _see_to_the_thread(self) -> None:
        if self._thread is not None:
            return
        self._wanted = threading.Event()
        weakref.finalize(self, self._wanted.set)
        thread = threading.Thread(
            target=_keep_clean, args=(weakref.ref(self), self._wanted, self._every), name="tokopt-cleanup", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            return  # the interpreter is going down
        self._thread = thread

    def turn(self, *, woken: bool) -> bool:
        """Clean what is due, or everything if it was not `woken` for something; whether to come back."""
        with self._lock:
            if self._thread is not threading.current_thread():
                return False
            self._wanted.clear()
            charges = list(self._due if woken else self._charges)
            self._due.clear()
        self._clean(charges)
        return True

    # --- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Let what is being cleaned come to an end, so that the child inherits no lock that is held."""
        self._resting = self._cleaning.acquire(timeout=_FORK_WAIT_SECONDS)

    def after_fork_in_parent(self) -> None:
        if self._resting:
            self._cleaning.release()

    def after_fork_in_child(self) -> None:
        """The thread is the parent's; one of the child's own starts when it is woken or has a new charge."""
        self._start_afresh()


def _keep_clean(cleanup: weakref.ref[Cleanup], wanted: threading.Event, every_seconds: float) -> None:
    while True:
        # Nothing here holds the owner while it waits.
        woken = wanted.wait(every_seconds)
        owner = cleanup()
        if owner is None or not owner.turn(woken=woken):
            return
        del owner
