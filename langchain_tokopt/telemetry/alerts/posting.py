"""Notices on their way to somewhere slow: taken quickly, sent one after the other by a thread of their own."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from langchain_tokopt.forks import follow_forks
from langchain_tokopt.telemetry.alerts.words import Notice

log = logging.getLogger("langchain_tokopt")

Send: TypeAlias = Callable[[Notice, Callable[[float], object]], bool]


class Posting:
    """A bounded queue and the daemon thread that empties it; the thread starts with the first notice.

    Args:
        host: Where notices go, for the log.
        send: Sends one, as often as it is worth it; whether it was taken. Its second argument waits so many seconds
            before the next try, and returns something true when there is no more time.
        max_queue: How many notices wait at most; then the oldest is dropped.
        pause: Waits instead.
    """

    def __init__(
        self, *, host: str, send: Send, max_queue: int, pause: Callable[[float], object] | None = None
    ) -> None:
        self._host = host
        self._send = send
        self._max_queue = max_queue
        self._given_pause = pause
        self.dropped = 0
        self._start_anew()
        follow_forks(self)

    def _start_anew(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._ending = threading.Event()
        self._queue: deque[Notice] = deque()
        self._busy = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def put(self, notice: Notice) -> None:
        """Queue a notice. Never waits for the thread."""
        with self._changed:
            if self._closed:
                self.dropped += 1
                return
            if len(self._queue) >= self._max_queue:
                self._queue.popleft()
                self._lose("too many wait: the oldest was dropped")
            self._queue.append(notice)
            self._changed.notify_all()
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="tokopt-webhook", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return  # the interpreter is going down
                self._thread = thread

    def _lose(self, why: str) -> None:
        if not self.dropped:
            log.warning("the webhook at %s loses alerts: %s", self._host, why)
        self.dropped += 1

    def _run(self) -> None:
        while True:
            with self._taken() as notice:
                if notice is None:
                    return
                if not self._send(notice, self._pause):
                    with self._changed:
                        self.dropped += 1

    @contextmanager
    def _taken(self) -> Iterator[Notice | None]:
        """The next notice; `None` when there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            notice = self._queue.popleft() if self._queue else None
            self._busy = notice is not None
        try:
            yield notice
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _pause(self, seconds: float) -> object:
        if self._ending.is_set():
            return True
        return self._ending.wait(seconds) if self._given_pause is None else self._given_pause(seconds)

    def settle(self, timeout_seconds: float) -> bool:
        """Whether all that was queued is done with, within this time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._busy, timeout=timeout_seconds)

    def close(self, timeout_seconds: float) -> None:
        """Try once to send what is queued, within this time, and stop."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        self._ending.set()  # what fails now is not tried again
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=timeout_seconds)

    # --- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None: ...

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None:
        """What was queued is the parent's to send, and its thread is not here."""
        self._start_anew()
        self.dropped = 0
