"""Leases of reservations: renewed while their calls run, so that only those of dead processes run out."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Sequence

from langchain_tokopt.errors import StoreError
from langchain_tokopt.forks import follow_forks

log = logging.getLogger("langchain_tokopt")


class Leases:
    """The reservations of this process that are under way, and the daemon thread that renews them.

    The thread starts with the first reservation and ends when it finds none under way. It holds no reference to this
    object, so that one that is dropped without `close()` is collected.

    Args:
        renew: Called with the ids under way, from the thread.
        every_seconds: How often, in real time.
    """

    _lock: threading.Lock
    _live: set[str]
    _thread: threading.Thread | None
    _stop: threading.Event

    def __init__(self, renew: Callable[[Sequence[str]], object], *, every_seconds: float) -> None:
        self._renew = renew
        self._every = every_seconds
        self._failed = False
        self._start_afresh()
        follow_forks(self)

    def add(self, reservation: str) -> None:
        with self._lock:
            self._live.add(reservation)
            if self._thread is None:
                stop = self._stop = threading.Event()
                weakref.finalize(self, stop.set)
                self._thread = threading.Thread(
                    target=_keep_renewing,
                    args=(weakref.ref(self), stop, self._every),
                    name="tokopt-budget-leases",
                    daemon=True,
                )
                self._thread.start()

    def discard(self, reservation: str) -> None:
        with self._lock:
            self._live.discard(reservation)

    def close(self) -> None:
        """Stop renewing. What is still under way can be settled; its lease runs out otherwise."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._live.clear()
            self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5.0)

    def renew_all(self) -> bool:
        """Renew what is under way; whether there is a reason to come back."""
        with self._lock:
            if not self._live:
                self._thread = None
                return False
        self.renew()
        return True

    def renew(self) -> None:
        """Renew what is under way."""
        with self._lock:
            live = sorted(self._live)
        if not live:
            return
        try:
            self._renew(live)
            self._failed = False
        except StoreError as error:
            if not self._failed:
                log.warning("budget: the leases of %d calls under way could not be renewed: %s", len(live), error)
            self._failed = True

    # --- forks: the thread and what is under way stay in the parent ---

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()
        self._live = set()
        self._thread = None
        self._stop = threading.Event()

    def before_fork(self) -> None:
        return None

    def after_fork_in_parent(self) -> None:
        return None

    def after_fork_in_child(self) -> None:
        self._start_afresh()


def _keep_renewing(leases: weakref.ref[Leases], stop: threading.Event, every: float) -> None:
    while not stop.wait(every):
        one = leases()
        if one is None or not one.renew_all():
            return
        del one
