"""While the ledger cannot be used: said once, put on record every time, and what is owed is kept for later."""

from __future__ import annotations

import logging
from collections import deque
from typing import Literal, NamedTuple

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.hold import Hold
from langchain_tokopt.events import Failure, Sink

log = logging.getLogger("langchain_tokopt")

_KEPT = 10_000


class Owed(NamedTuple):
    """A settlement that could not be booked."""

    hold: Hold
    actual: Amount
    reason: str | None
    sink: Sink


class Outage:
    """The failures of one budget's ledger, and the settlements that wait for its end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._down = False
        self._owed: deque[Owed] = deque()

    def failed(self, error: BaseException, sink: Sink, stage: Literal["request", "response", "background"]) -> None:
        """Log the first failure of an outage and put every one on record."""
        if not self._down:
            self._down = True
            log.warning("budget %r: the ledger cannot be used: %s", self._name, error)
        sink.emit(Failure(part="budget", error=f"{type(error).__name__}: {error}", stage=stage))

    def over(self) -> None:
        """The ledger can be used again."""
        if self._down:
            self._down = False
            log.info("budget %r: the ledger can be used again", self._name)

    def keep(self, owed: Owed) -> None:
        if len(self._owed) >= _KEPT:
            log.error("budget %r: %d calls wait to be booked; one more is lost: %s", self._name, _KEPT, owed.actual)
            return
        self._owed.append(owed)

    def take(self) -> list[Owed]:
        """What is owed; whoever takes it books it, or keeps it again."""
        taken = []
        while self._owed:
            try:
                taken.append(self._owed.popleft())
            except IndexError:  # another thread took the last one
                break
        return taken
