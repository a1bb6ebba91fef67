"""What a store does beside the calls that it answers: notes, snapshots, embedding anew."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable

from langchain_tokopt.forks import follow_forks

log = logging.getLogger("langchain_tokopt")

_FORK_WAIT_SECONDS = 10.0


class Chores:
    """A daemon thread that does what is asked for, one thing after another. It starts with the first and ends when
    nothing is left to do.

    A chore that fails is logged once, by its name, and counted; it can be asked for again.

    Attributes:
        failures: How many chores have failed.
    """

    def __init__(self) -> None:
        self.failures = 0
        self._logged: set[str] = set()
        self._closed = False
        self._start_anew()
        follow_forks(self, level=1)  # the database rests below
        # When the interpreter ends: a thread that comes back from a C library after that can crash it.
        weakref.finalize(self, _end, weakref.ref(self))

    def _start_anew(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._due: dict[str, Callable[[], object]] = {}
        self._at_work = False
        self._resting = False
        self._thread: threading.Thread | None = None

    def ask(self, name: str, work: Callable[[], object]) -> None:
        """Have `work` done soon. What is asked for again under the same name before it has begun is done once."""
        with self._changed:
            if self._closed or name in self._due:
                return
            self._due[name] = work
            if self._thread is None:
                thread = threading.Thread(target=_work, args=(weakref.ref(self),), name="tokopt-cache", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return  # the interpreter is going down
                self._thread = thread

    @property
    def wanted(self) -> bool:
        """Whether a long chore may go on: it should stop soon when the store is closed or the process forks."""
        return not self._closed and not self._resting

    def settle(self, timeout_seconds: float = 30.0) -> bool:
        """Whether all that was asked for is done, within this time."""
        until = time.monotonic() + timeout_seconds
        with self._changed:
            while self._thread is not None and (self._due or self._at_work):
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def close(self, timeout_seconds: float = 5.0) -> None:
        """Let the chore that is being done finish, for so long, and forget the others."""
        with self._changed:
            self._closed = True
            self._due.clear()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=timeout_seconds)

    def _do_one(self) -> bool:
        """Do what has waited longest; whether there was anything."""
        with self._changed:
            while self._resting:
                self._changed.wait()
            if not self._due:
                self._thread = None
                return False
            name = next(iter(self._due))
            work = self._due.pop(name)
            self._at_work = True
        try:
            work()
        except Exception as error:
            self.failures += 1
            if name not in self._logged:
                self._logged.add(name)
                log.warning("the cache could not do a chore (%s): %s: %s", name, type(error).__name__, error)
        finally:
            with self._changed:
                self._at_work = False
                self._changed.notify_all()
        return True

    # --- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Let what is being done come to an end, so that the child does not inherit its locks."""
        with self._changed:
            self._resting = True
            if self._thread is not threading.current_thread():
                self._changed.wait_for(lambda: not self._at_work, timeout=_FORK_WAIT_SECONDS)

    def after_fork_in_parent(self) -> None:
        with self._changed:
            self._resting = False
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        """What was due is the parent's to do."""
        self._start_anew()


def _end(chores: weakref.ref[Chores]) -> None:
    owner = chores()
    if owner is not None:
        owner.close()


def _work(chores: weakref.ref[Chores]) -> None:
    # Between two chores nothing here holds the owner, so that a store that nobody uses any more can go.
    while (owner := chores()) is not None and owner._do_one():  # noqa: SLF001 - this is its thread
        del owner
