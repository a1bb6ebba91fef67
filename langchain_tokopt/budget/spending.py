"""Calls that do not go through LangChain: a reservation around a `with` block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from langchain_core.messages.ai import UsageMetadata

from langchain_tokopt.budget.hold import Hold
from langchain_tokopt.budget.worst_case import WorstCase, plain_usage
from langchain_tokopt.events import Sink, Who

if TYPE_CHECKING:
    from langchain_tokopt.budget.budget import Budget


class Spending:
    """A call under way inside `Budget.spend`."""

    def __init__(self, budget: Budget, hold: Hold, sink: Sink | None) -> None:
        self._budget = budget
        self._sink = sink
        self._settled = False
        self.hold = hold

    @property
    def settled(self) -> bool:
        return self._settled

    def settle(self, usage: UsageMetadata) -> None:
        """Book what the call took. Settling twice changes nothing.

        `usage` is LangChain's `UsageMetadata`: cached tokens are part of `input_tokens`, reasoning is part of
        `output_tokens`.
        """
        self._budget.settle(self.hold, usage, sink=self._sink)
        self._settled = True


@contextmanager
def spending(budget: Budget, case: WorstCase, who: Who | None, sink: Sink | None) -> Iterator[Spending]:
    """A reservation for `case`, to be settled in the block."""
    hold = budget.reserve(case, who=who, sink=sink)
    call = Spending(budget, hold, sink)
    try:
        yield call
    except BaseException as error:
        if not call.settled and isinstance(error, Exception):
            budget.release(hold, reason=type(error).__name__, sink=sink)
        elif not call.settled:
            budget.settle(
                hold,
                plain_usage(case.counted_tokens, 0),
                reason=f"{type(error).__name__}: the input is booked",
                sink=sink,
            )
        raise
    if not call.settled:
        budget.settle(hold, sink=sink)
