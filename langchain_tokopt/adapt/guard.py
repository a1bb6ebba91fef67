"""Setting a part aside when what it does costs more than it saves."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import Decision, Event, Sink


@dataclass
class _Record:
    savings: deque[Decimal]
    aside_until: float | None = field(default=None)


class SavingsGuard:
    """Watches what each part says that its decisions saved, the provider's cache counted, and acts on the sum.

    A part whose last `window` decisions together lost money is set aside for `pause_seconds`; requests pass it
    untouched. After that it is tried again, with a fresh record. Decisions without a known price do not count.

    Args:
        window: How many of a part's latest decisions are summed up; nothing is concluded from fewer.
        pause_seconds: How long a part stays aside.
        clock: Unix time in seconds.
    """

    def __init__(
        self, *, window: int = 50, pause_seconds: float = 3600.0, clock: Callable[[], float] = time.time
    ) -> None:
        if window < 1:
            raise ConfigurationError("window", window, "give a number of decisions, 1 or more")
        if not pause_seconds > 0:
            raise ConfigurationError("pause_seconds", pause_seconds, "give a time in seconds above 0")
        self.window = window
        self.pause_seconds = pause_seconds
        self._clock = clock
        self._records: dict[str, _Record] = {}
        self._lock = threading.Lock()

    def allows(self, part: str) -> bool:
        """Whether the part may work now."""
        with self._lock:
            record = self._records.get(part)
            if record is None or record.aside_until is None:
                return True
            if self._clock() < record.aside_until:
                return False
            record.aside_until = None
            record.savings.clear()
            return True

    def allowing(self, part: str) -> Callable[[], bool]:
        """`allows` for one part, to be asked before each request."""
        return lambda: self.allows(part)

    def watching(self, sink: Sink) -> Sink:
        """A sink that passes everything on to `sink` and keeps the record."""
        return _Watching(self, sink)

    def note(self, decision: Decision) -> Decision | None:
        """Count a decision; when it sets its part aside, the decision to record about that."""
        if decision.saved_usd is None or decision.mode != "optimize":
            return None
        with self._lock:
            record = self._records.setdefault(decision.part, _Record(deque(maxlen=self.window)))
            record.savings.append(decision.saved_usd)
            total = sum(record.savings, Decimal(0))
            if record.aside_until is not None or len(record.savings) < self.window or total >= 0:
                return None
            record.aside_until = self._clock() + self.pause_seconds
        return Decision(
            part=decision.part,
            action="skipped",
            who=decision.who,
            reason=f"set aside for {self.pause_seconds:g} s: its last {self.window} decisions cost {-total} USD",
        )


class _Watching:
    def __init__(self, guard: SavingsGuard, sink: Sink) -> None:
        self._guard = guard
        self._sink = sink

    def emit(self, event: Event) -> None:
        self._sink.emit(event)
        if isinstance(event, Decision):
            verdict = self._guard.note(event)
            if verdict is not None:
                self._sink.emit(verdict)
