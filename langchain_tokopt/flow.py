"""`FlowMiddleware`: an `AgentMiddleware` whose model hook is one flow; and all that is needed to write flows."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Literal, cast

from langchain.agents.middleware.types import AgentMiddleware, ModelRequest

from langchain_tokopt.background import Background
from langchain_tokopt.drivers import aattend, adrive, attend, drive
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import Failure, Mode, NullSink, ShadowSink, Sink
from langchain_tokopt.later import Later
from langchain_tokopt.safety import guarded, shadowed
from langchain_tokopt.steps import (
    BACKGROUND_TAG,
    INTERNAL_TAG,
    Flow,
    FlowFunction,
    Held,
    Outcome,
    Pause,
    StreamClosed,
    advance,
    compose,
    internal_call,
    is_background,
    is_internal,
    let_it_know,
    must_end,
    partial_answer,
    plain,
    request_of,
    straight,
)
from langchain_tokopt.threads import in_thread

__all__ = [
    "BACKGROUND_TAG",
    "INTERNAL_TAG",
    "Flow",
    "FlowFunction",
    "FlowMiddleware",
    "Held",
    "Later",
    "Outcome",
    "Pause",
    "StreamClosed",
    "aattend",
    "adrive",
    "advance",
    "attend",
    "compose",
    "drive",
    "guarded",
    "in_thread",
    "internal_call",
    "is_background",
    "is_internal",
    "let_it_know",
    "must_end",
    "partial_answer",
    "plain",
    "request_of",
    "shadowed",
]

log = logging.getLogger("langchain_tokopt")


def _always() -> bool:
    return True


class FlowMiddleware(AgentMiddleware[Any, Any, Any]):
    """An `AgentMiddleware` whose model hook is one flow, for sync and async agents alike.

    Subclasses set `part` and define `flow`. One instance serves many threads at once: nothing of a single run may be
    kept on `self`.

    Args:
        sink: Who is told what happened; nobody by default.
        mode: "optimize", or "shadow" to compute and record without changing anything.
        name: The middleware's name in the graph; two instances in one agent need different names.
    """

    part: ClassVar[str]

    def __init__(self, *, sink: Sink | None = None, mode: Mode = "optimize", name: str | None = None) -> None:
        super().__init__()
        if mode not in ("optimize", "shadow"):
            raise ConfigurationError("mode", mode, 'use "optimize" or "shadow"')
        self.mode: Mode = mode
        self.sink: Sink = ShadowSink(sink or NullSink()) if mode == "shadow" else sink or NullSink()
        self.tools = []
        self._name = name
        self._failures_logged: set[str] = set()
        self.background = Background()
        if mode == "shadow":
            self._safe_flow = shadowed(self.flow, part=self.part, failed=self.failed)
        else:
            place = self._background
            self._safe_flow = guarded(self.flow, part=self.part, failed=self.failed, background=place)
        self.allowed: Callable[[], bool] = _always
        self.owner: str | None = None

    @property
    def name(self) -> str:
        return self._name or type(self).__name__

    def _background(self) -> Background:
        return self.background

    def rename(self, name: str) -> None:
        """Give the middleware another name, before it is handed to an agent."""
        self._name = name

    def run_flow(self, request: ModelRequest[Any]) -> Flow:
        """The flow as the drivers run it: made safe, and passed by while it is not `allowed`.

        A model that was wrapped by the same optimiser carries the flows itself: they are not run twice.
        """
        # Read from `__dict__`, where a pydantic model keeps its fields: a failing `getattr` on one takes microseconds.
        carried = self.owner is not None and getattr(request.model, "__dict__", {}).get("tokopt_owner") == self.owner
        return straight(request) if carried or not self.allowed() else self._safe_flow(request)

    @abstractmethod
    def flow(self, request: ModelRequest[Any]) -> Flow:
        """The concern itself: yield requests inwards, return the response.

        It may also yield a `Held`, a request whose answer it may change or follow with another; a `Later`, a call in
        the background that is made in `self.background`; and a `Pause`.
        """

    def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Any]) -> Any:
        return drive(self.run_flow, request, handler)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[Any]]
    ) -> Any:
        return await adrive(self.run_flow, request, handler)

    def failed(self, part: str, error: BaseException, stage: str) -> None:
        """Log each kind of failure once and put every one on record."""
        kind = f"{stage}:{type(error).__name__}"
        if kind not in self._failures_logged:
            self._failures_logged.add(kind)
            log.warning(
                "%s stepped aside (%s): %s: %s; the agent goes on without it", part, stage, type(error).__name__, error
            )
        where: Literal["request", "response", "background"] = "request"
        if stage in ("response", "background"):
            where = cast('Literal["response", "background"]', stage)
        self.sink.emit(Failure(part=part, error=f"{type(error).__name__}: {error}", stage=where))
