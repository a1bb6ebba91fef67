"""A model call beside the user's answer, as a flow asks for it; and how it is made sure that it ends once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_tokopt.errors import BudgetExceededError, TokOptError

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest, ModelResponse

    from langchain_tokopt.background import Background

log = logging.getLogger("langchain_tokopt")


class AbandonedError(TokOptError):
    """A call in the background was not made, or given up before it was answered; `reason` says why.

    Raised by a flow inside of one that asked for the call, it gives the call up, and is no failure.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the call in the background was given up: {reason}")
        self.reason = reason


def nothing(_: BaseException) -> None:
    """What is done about an error by default."""
    return


@dataclass(frozen=True, slots=True)
class Later:
    """One more model call, made beside the user's answer.

    A flow yields it and is resumed at once, with `None`. The call goes through the flows inside of the one that asked,
    marked as an internal one, and past LangChain's own cache. It belongs to the caller (`configurable` and `metadata`
    are kept) and no longer to the run: none of the run's callbacks, streams and checkpoints is told of it, nor are the
    model's own callbacks. A handler with a true attribute `sees_background_calls` is, such as `UsageCallback`.

    In the end exactly one of `then` and `otherwise` is called, once; in a worker thread, if the call was begun.
    `otherwise` is told the error: the call's own, or an `AbandonedError` when it was not made (in shadow, too many
    under way) or not finished (the event loop closed, the process ended). What either of them raises is put on record.

    Attributes:
        request: What the model is sent.
        then: Takes the response.
        otherwise: Takes the error.
        through: The flows inside of the one that asked. This and what follows is filled in on the way to the driver.
        background: Where the call is made.
        failed: Is told of errors.
    """

    request: ModelRequest[Any]
    then: Callable[[ModelResponse[Any]], None]
    otherwise: Callable[[BaseException], None] = nothing
    through: Callable[[ModelRequest[Any]], Any] | None = None
    background: Background | None = None
    failed: Callable[[BaseException], None] = nothing

    def abandon(self, reason: str) -> None:
        """Call `otherwise`: the call will not be made."""
        Errand(self).missed(AbandonedError(reason))


class Errand:
    """A call on its way. Whoever is first says how it ended; later comers are not heard."""

    def __init__(self, later: Later) -> None:
        self._later = later
        self._once = threading.Lock()
        self.outcome = "abandoned"
        self.go: Future[None] = Future()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def over(self) -> bool:
        """Whether it has been said how it ended."""
        return self._once.locked()

    def hurry(self) -> None:
        """Let it begin now, if it has not begun."""
        with contextlib.suppress(InvalidStateError):  # somebody else was quicker
            self.go.set_result(None)

    def answered(self, response: ModelResponse[Any]) -> None:
        """Call `then`, if nobody has said yet how it ended."""
        if self._is_over("answered"):
            self._safely(self._later.then, response)

    def missed(self, error: BaseException) -> None:
        """Call `otherwise`, if nobody has said yet how it ended."""
        given_up = isinstance(error, AbandonedError)
        if not self._is_over("abandoned" if given_up else "failed"):
            return
        # A refusal is on record as the budget's own event, and nothing failed.
        if not given_up and not isinstance(error, BudgetExceededError):
            self._tell(error)
        self._safely(self._later.otherwise, error)

    def _is_over(self, outcome: str) -> bool:
        """Whether this is the first to say so."""
        first = self._once.acquire(blocking=False)
        if first:
            self.outcome = outcome
        return first

    def _safely(self, function: Callable[[Any], None], value: Any) -> None:
        try:
            function(value)
        except Exception as error:
            self._tell(error)

    def _tell(self, error: BaseException) -> None:
        try:
            self._later.failed(error)
        except Exception:
            log.exception("an error in the background could not be put on record")
