"""What earlier threads of an agent were like, so that it can be told how the next one will go."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from langchain_tokopt.context.policy import Expected, Prices

# So many of an agent's newest threads are counted.
THREADS_COUNTED: Final = 50
# So many threads are remembered in all.
THREADS_REMEMBERED: Final = 20_000


@dataclass(slots=True)
class ThreadRecord:
    """One thread: whose it is, what was expected of it when it began, and how it went so far.

    `trimmable`: the tokens that its new results lose by being shown in part.
    """

    agent: str
    expected: Expected
    calls: int = 0
    trimmable: int = 0


class Habits:
    """How the threads of each agent went. Safe to share between threads of execution.

    What is expected of a thread is fixed when it begins: what it is shown must not change by what others do.
    """

    def __init__(self) -> None:
        self._threads: OrderedDict[Hashable, ThreadRecord] = OrderedDict()
        self._agents: dict[str, OrderedDict[Hashable, ThreadRecord]] = {}
        self._lock = threading.Lock()

    def expected(self, thread: Hashable, agent: str, prices: Prices, tool_tokens: int) -> Expected:
        """What is expected of the thread, by those of this agent that began before it."""
        with self._lock:
            record = self._threads.get(thread)
            if record is None:
                record = ThreadRecord(agent, self._expect(agent, prices, tool_tokens))
                self._remember(thread, record)
            self._threads.move_to_end(thread)
            return record.expected

    def went(self, thread: Hashable, *, calls: int, trimmable: int) -> None:
        """Take note of how far the thread is by now."""
        with self._lock:
            record = self._threads.get(thread)
            if record is not None:
                record.calls = max(record.calls, calls)
                record.trimmable = max(record.trimmable, trimmable)

    def _expect(self, agent: str, prices: Prices, tool_tokens: int) -> Expected:
        records = list(self._agents.get(agent, {}).values())
        gain = sum(record.trimmable * (prices.write + prices.read * record.calls / 2) for record in records)
        cost = sum(tool_tokens * (prices.write + prices.read * record.calls) for record in records)
        return Expected(tuple(sorted(record.calls for record in records if record.calls)), gain > cost)

    def _remember(self, thread: Hashable, record: ThreadRecord) -> None:
        self._threads[thread] = record
        own = self._agents.setdefault(record.agent, OrderedDict())
        own[thread] = record
        while len(own) > THREADS_COUNTED:
            own.popitem(last=False)
        while len(self._threads) > THREADS_REMEMBERED:
            gone, old = self._threads.popitem(last=False)
            others = self._agents.get(old.agent, OrderedDict())
            others.pop(gone, None)
            if not others:
                self._agents.pop(old.agent, None)
