"""Calls that do not go through LangChain: a reservation around a `with` block."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING

from langchain_core.messages.ai import UsageMetadata
from typing_extensions import Self

from langchain_tokopt.budget.hold import Hold
from langchain_tokopt.budget.nodes import Path
from langchain_tokopt.budget.worst_case import WorstCase, plain_usage
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import Sink, Who

if TYPE_CHECKING:
    from langchain_tokopt.budget.budget import Budget


class Spending:
    """A call inside `Budget.spend`: reserved when the block is entered, settled or released when it is left.

    Attributes:
        hold: What the call holds; `None` before the block is entered.
    """

    def __init__(
        self, budget: Budget, case: WorstCase, *, path: Path | None, who: Who | None, sink: Sink | None
    ) -> None:
        self.hold: Hold | None = None
        self._budget = budget
        self._case = case
        self._path = path
        self._who = who
        self._sink = sink
        self._settled = False

    @property
    def settled(self) -> bool:
        """Whether what the call took has been booked."""
        return self._settled

    def settle(self, usage: UsageMetadata | None = None, *, usd: Decimal | str | float | None = None) -> None:
        """Book what the call took. Settling twice changes nothing.

        `usage` is LangChain's `UsageMetadata`: cached tokens are part of `input_tokens`, reasoning is part of
        `output_tokens`. `usd` is what it really cost, where that does not follow from the tokens.

        Raises:
            ConfigurationError: `usd` is no amount from 0 up.
            RuntimeError: The block has not been entered.
        """
        if self.hold is None:
            msg = "settle() was called before the block was entered: use `with budget.spend(...) as call`"
            raise RuntimeError(msg)
        cost = None
        if usd is not None:
            try:
                cost = Decimal(str(usd))
            except ArithmeticError:
                cost = Decimal("NaN")
            if not cost.is_finite() or cost < 0:
                raise ConfigurationError("usd", usd, 'give what the call cost, such as "0.01", or 0')
        self._budget.settle(self.hold, usage, usd=cost, sink=self._sink)
        self._settled = True

    def __enter__(self) -> Self:
        if self.hold is not None:
            msg = "this block was entered before: call `budget.spend(...)` for each call"
            raise RuntimeError(msg)
        enforce = self._budget.enforced
        self.hold = self._budget.reserve(self._case, path=self._path, who=self._who, sink=self._sink, enforce=enforce)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.hold is None or self._settled:
            return
        if error is None:
            self._budget.settle(self.hold, sink=self._sink)
        elif isinstance(error, Exception):
            self._budget.release(self.hold, reason=type(error).__name__, sink=self._sink)
        else:
            seen = plain_usage(self._case.counted_tokens, 0)
            reason = f"{type(error).__name__}: the input is booked"
            self._budget.settle(self.hold, seen, reason=reason, sink=self._sink)

    async def __aenter__(self) -> Self:
        # A thread that is reserving goes on when the task is cancelled: what it then holds is let go again.
        entering = asyncio.ensure_future(asyncio.to_thread(self.__enter__))
        try:
            return await asyncio.shield(entering)
        except asyncio.CancelledError:
            entering.add_done_callback(self._let_go)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(asyncio.ensure_future(asyncio.to_thread(self.__exit__, kind, error, trace)))

    def _let_go(self, entering: asyncio.Future[Self]) -> None:
        if not entering.cancelled() and entering.exception() is None and self.hold is not None:
            self._budget.release(self.hold, reason="cancelled before the block was entered", sink=self._sink)
