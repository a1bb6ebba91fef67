"""`FanOut`: one sink in the place of several."""

from __future__ import annotations

import logging

from langchain_tokopt.events import Event, Sink

log = logging.getLogger("langchain_tokopt")


class FanOut:
    """A sink that tells several others, each of them whatever becomes of the rest.

    Args:
        sinks: Who is told, in this order.
    """

    def __init__(self, *sinks: Sink) -> None:
        self.sinks = sinks
        self._failed: set[int] = set()

    def emit(self, event: Event) -> None:
        """Tell everybody. Never raises; what a sink raises is logged, once for each sink."""
        for n, sink in enumerate(self.sinks):
            try:
                sink.emit(event)
            except Exception as error:
                if n not in self._failed:
                    self._failed.add(n)
                    kind = type(error).__name__
                    log.warning("%s could not take an event: %s: %s", type(sink).__name__, kind, error)
