"""One model call for equal questions that are asked at the same time: the first goes ahead, the others wait for it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Hashable, Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import asynccontextmanager, contextmanager

# What this context is ahead with: it must never wait for itself.
_ahead: contextvars.ContextVar[frozenset[tuple[int, Hashable]]] = contextvars.ContextVar(
    "tokopt_cache_ahead", default=frozenset()
)


class Flights:
    """Who is ahead with which key. Waiting is bounded in time, and done once: who has waited goes on in any case.

    A sync caller waits in its own thread. An async caller waits on its event loop and holds no worker thread, so that
    any number may wait while the first one needs such threads for its work.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Future[None]] = {}

    @contextmanager
    def turn(self, key: Hashable | None) -> Iterator[None]:
        """Inside, this caller is ahead with `key`, or whoever was ahead is done or too slow. `None`: no waiting."""
        flight, ahead = self._board(key)
        if flight is not None:
            wait_for([flight], timeout=self._timeout)
        if not ahead:
            yield
            return
        with self._ahead_with(key):
            yield

    @asynccontextmanager
    async def aturn(self, key: Hashable | None) -> AsyncIterator[None]:
        """`turn` for a caller on an event loop."""
        flight, ahead = self._board(key)
        if flight is not None:
            await asyncio.wait([asyncio.wrap_future(flight)], timeout=self._timeout)
        if not ahead:
            yield
            return
        with self._ahead_with(key):
            yield

    def _board(self, key: Hashable | None) -> tuple[Future[None] | None, bool]:
        """The flight to wait for, if any, and whether the caller is the one who is ahead."""
        if key is None or self._timeout <= 0 or (id(self), key) in _ahead.get():
            return None, False
        with self._lock:
            if key in self._flights:
                return self._flights[key], False
            self._flights[key] = Future()
            return None, True

    @contextmanager
    def _ahead_with(self, key: Hashable) -> Iterator[None]:
        token = _ahead.set(_ahead.get() | {(id(self), key)})
        try:
            yield
        finally:
            _ahead.reset(token)
            with self._lock:
                flight = self._flights.pop(key)
            flight.set_result(None)
