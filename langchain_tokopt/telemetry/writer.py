"""Events on their way to the database: taken quickly, written in batches by a thread of their own."""

from __future__ import annotations

import logging
import multiprocessing.util
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from langchain_tokopt.errors import StoreError
from langchain_tokopt.events import Event
from langchain_tokopt.forks import follow_forks

log = logging.getLogger("langchain_tokopt")

_BATCH = 500
_LONGEST_WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class WriterStatus:
    """How far the writing is. `dropped` events are lost: the queue was full, or they could not be stored."""

    queued: int
    written: int
    dropped: int
    last_error: str | None


class BatchWriter:
    """A bounded queue and the daemon thread that empties it; the thread starts with the first event.

    Args:
        write: Writes a batch; raises `StoreError` when it should be tried again later.
        flush_seconds: How long an event waits for others to be written with.
        max_queue: How many events wait at most; then the oldest are dropped.
        between: Something small to do between two batches, in the thread that writes them; it says whether there is
            more, and never raises.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Event]], None],
        *,
        flush_seconds: float,
        max_queue: int,
        between: Callable[[], bool] = lambda: False,
    ) -> None:
        self._write = write
        self._between = between
        self._flush_seconds = flush_seconds
        self._max_queue = max_queue
        self._written = 0
        self._dropped = 0
        self._last_error: str | None = None
        self._failures = 0
        self._closed = False
        self._resting = False
        self._start_anew()
        follow_forks(self, level=1)  # the database rests below

    def _start_anew(self) -> None:
        self._queue: deque[Event] = deque()
        self._in_hand: Sequence[Event] = ()
        self._waiting_since = 0.0  # when the queue got its first event
        # Reentrant: the garbage collector may close a flow, which emits, while this thread is inside `put`.
        self._lock = threading.RLock()
        self._writing = threading.Lock()
        self._some = threading.Event()
        self._now = threading.Event()
        self._thread: threading.Thread | None = None

    # --- taking ------------------------------------------------------------------------------------------------------

    def put(self, event: Event, *, urgent: bool = False) -> None:
        """Take an event. `urgent`: write it as soon as possible. Never raises, never waits for the database."""
        with self._lock:
            if self._closed:
                self._dropped += 1
                return
            if len(self._queue) >= self._max_queue:
                self._queue.popleft()
                self._dropped += 1
            self._queue.append(event)
            waiting = len(self._queue)
            if waiting == 1:
                self._waiting_since = time.monotonic()
            if self._thread is None:
                self._start_thread()
        if waiting == 1 or urgent or waiting == _BATCH:
            self._some.set()
            if urgent or waiting == _BATCH:
                self._now.set()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._run, name="tokopt-telemetry", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return  # the interpreter is going down: `close` will write what is queued
        self._thread = thread
        if multiprocessing.parent_process() is not None:
            # A child of `multiprocessing` ends without the hooks of the interpreter.
            multiprocessing.util.Finalize(self, _flush, args=(weakref.ref(self),), exitpriority=100)

    def pending(self) -> list[Event]:
        """What is not written yet, oldest first."""
        with self._lock:
            return [*self._in_hand, *self._queue]

    def status(self) -> WriterStatus:
        with self._lock:
            waiting = len(self._in_hand) + len(self._queue)
            return WriterStatus(waiting, self._written, self._dropped, self._last_error)

    # --- writing -----------------------------------------------------------------------------------------------------

    def flush(self) -> bool:
        """Write all that is queued, in this thread; whether that worked."""
        with self._writing:
            while batch := self._take():
                if not self._store(batch):
                    return False
        return True

    def close(self) -> None:
        """Write what is queued and end the thread; what is put afterwards is dropped."""
        with self._lock:
            self._closed = True
        if not self.flush():
            log.warning("telemetry is closed with %d events that could not be written", self.status().queued)
        self._some.set()
        self._now.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=_LONGEST_WAIT_SECONDS)

    def _run(self) -> None:
        while not self._closed:
            self._some.wait()
            self._now.wait(self._pause())
            self._some.clear()
            self._now.clear()
            if not self.flush():
                self._some.set()
            elif self._done_between():
                if not self._queue:
                    self._waiting_since = time.monotonic()
                self._some.set()

    def _pause(self) -> float:
        """Seconds until the next batch: what is left of the time that the first event waits; longer after failures."""
        if self._failures:
            return min(self._flush_seconds * float(2**self._failures), max(_LONGEST_WAIT_SECONDS, self._flush_seconds))
        return max(0.0, self._waiting_since + self._flush_seconds - time.monotonic())

    def _done_between(self) -> bool:
        if self._closed:
            return False
        with self._writing:  # so that a fork waits for it
            return self._between()

    def _take(self) -> list[Event]:
        with self._lock:
            batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
            self._in_hand = batch
            return batch

    def _store(self, batch: list[Event]) -> bool:
        try:
            self._write(batch)
        except StoreError as error:
            self._later(batch, error)
            return False
        except Exception as error:
            if len(batch) == 1:
                self._drop(error)
                return True
            # One bad event must not cost the others.
            stored = [self._store([event]) for event in batch]
            return all(stored)
        with self._lock:
            self._written += len(batch)
            self._in_hand = ()
            self._failures = 0
        return True

    def _later(self, batch: list[Event], error: StoreError) -> None:
        with self._lock:
            self._in_hand = ()
            room = max(0, self._max_queue - len(self._queue))
            self._dropped += max(0, len(batch) - room)
            self._queue.extendleft(reversed(batch[-room:] if room else []))
            if not self._failures:
                log.warning("telemetry goes on in memory, until the database can be used again: %s", error)
            self._failures = min(self._failures + 1, 16)
            self._last_error = str(error)

    def _drop(self, error: Exception) -> None:
        with self._lock:
            self._in_hand = ()
            self._dropped += 1
            said = f"{type(error).__name__}: {error}"
            if self._last_error != said:
                log.warning("telemetry could not store an event and dropped it: %s", said)
            self._last_error = said

    # --- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Let the thread finish its batch: what it holds meanwhile, the child would find held for ever."""
        self._resting = self._writing.acquire(timeout=_LONGEST_WAIT_SECONDS)

    def after_fork_in_parent(self) -> None:
        if self._resting:
            self._writing.release()

    def after_fork_in_child(self) -> None:
        """What was queued is the parent's to write, and its thread is not here."""
        self._start_anew()
        self._written = self._dropped = 0


def _flush(writer: weakref.ref[BatchWriter]) -> None:
    found = writer()
    if found is not None:
        found.flush()
