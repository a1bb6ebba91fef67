"""The middleware that sends a thread the tools that it needs and answers the model's search for others."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, ClassVar

from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.messages import BaseMessage

from langchain_tokopt.asides import Heard, as_loss, with_asides, with_asked
from langchain_tokopt.caller import call_who
from langchain_tokopt.events import Decision, Mode, Sink
from langchain_tokopt.flow import Flow, FlowMiddleware, Held
from langchain_tokopt.kept import restored
from langchain_tokopt.tools.answers import understood
from langchain_tokopt.tools.selected import Selection
from langchain_tokopt.tools.selection import ToolSelection

# How many searches of one step are answered; so many more are told that it is enough. Then the tool that searches is
# gone, or, where the request's tools must not change, a call of it is dropped. That ends any loop.
_SEARCHES_PER_STEP = 4
_REFUSALS_PER_STEP = 2


class ToolSelectionMiddleware(FlowMiddleware):
    """Sends each model call the tools that its thread needs; see `ToolSelection` for which these are, and how.

    What the model asks of tools that the agent does not have - a search for others, a call of one through another - is
    dealt with here, so that the agent, its other middleware and whoever approves tool calls see real calls only.

    Narrowing is no security boundary: a tool that is not bound still runs when the model names it.

    Args:
        selection: The settings; by default those of `ToolSelection()`.
        sink: Who is told of each decision.
        mode: "optimize", or "shadow" to decide and record without changing anything.
        name: The middleware's name in the graph.
        keeps_searches: Whether what the model searched for becomes part of the thread, as it does in an agent. A bare
            model has one answer to give, which carries the search then, and only the model sees it again.
    """

    part: ClassVar[str] = "tools"

    def __init__(
        self,
        selection: ToolSelection | None = None,
        *,
        sink: Sink | None = None,
        mode: Mode = "optimize",
        name: str | None = None,
        keeps_searches: bool = True,
    ) -> None:
        super().__init__(sink=sink, mode=mode, name=name)
        self.selection = selection or ToolSelection()
        self.keeps_searches = keeps_searches

    def flow(self, request: ModelRequest[Any]) -> Flow:
        request = restored(request)
        self._learn(request)

        def one_round(
            asked: list[BaseMessage], left: int
        ) -> Generator[ModelRequest[Any] | Held, ModelResponse[Any], Heard]:
            return (yield from self._round(with_asked(request, asked), left))

        most = _SEARCHES_PER_STEP + _REFUSALS_PER_STEP
        return (yield from with_asides(one_round, most=most, keeps=self.keeps_searches))

    def _round(
        self, seen: ModelRequest[Any], left: int
    ) -> Generator[ModelRequest[Any] | Held, ModelResponse[Any], Heard]:
        """One call, and what the model asks in it of tools that the agent does not have."""
        selection, decided = self._select(seen, searches=left > 0)
        sent = selection.sent(seen)
        try:
            response = yield sent if selection.plan is None else Held(sent)
        except BaseException:
            self.sink.emit(decided)
            raise
        heard = Heard(response, response.result)
        if selection.plan is not None and self.mode != "shadow":
            result, answers = understood(response.result, selection.plan, refuse=left <= _REFUSALS_PER_STEP)
            heard = Heard(response, result, answers)
        self.sink.emit(
            as_loss(
                decided,
                seen,
                heard,
                counter=self.selection.counter_in_use,
                pricing=self.selection.pricing_in_use,
                remark="this call only searched for tools",
            )
        )
        return heard

    def _learn(self, request: ModelRequest[Any]) -> None:
        try:
            self.selection.learn_from(request)
        except Exception as error:  # a lesson that is lost costs the agent nothing
            self.failed(self.part, error, "request")

    def _select(self, request: ModelRequest[Any], *, searches: bool) -> tuple[Selection, Decision]:
        started = time.perf_counter()
        selection = self.selection.select(request, searches=searches)
        for problem in selection.problems:
            self.failed(self.part, problem, "request")
        decided = Decision(
            who=call_who(request),
            part=self.part,
            action="skipped" if selection.tools is None else "applied",
            tokens_before=selection.tokens_before,
            tokens_after=selection.tokens_after,
            saved_usd=selection.saved_usd,
            reason=selection.reason,
            detail=selection.detail,
            seconds=time.perf_counter() - started,
        )
        return selection, decided
