"""The middleware that sends a thread the tools that it needs and answers the model's search for others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata

from langchain_tokopt.caller import call_who
from langchain_tokopt.events import Decision, Mode, Sink
from langchain_tokopt.flow import Flow, FlowMiddleware, Held
from langchain_tokopt.tools.answers import understood, without
from langchain_tokopt.tools.kept import carrying, restored
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
        asked: list[BaseMessage] = []
        for left in range(_SEARCHES_PER_STEP + _REFUSALS_PER_STEP, -1, -1):
            seen = _with(request, asked) if asked else request
            selection, decided = self._select(seen, searches=left > 0)
            sent = selection.sent(seen)
            try:
                response = yield sent if selection.plan is None else Held(sent)
            except BaseException:
                self.sink.emit(decided)
                raise
            result: Sequence[BaseMessage] = response.result
            answers: list[ToolMessage] = []
            if selection.plan is not None:
                result, answers = understood(
                    response.result,
                    selection.plan,
                    refuse=left <= _REFUSALS_PER_STEP,
                    drop_asides=not self.keeps_searches,
                )
            self.sink.emit(self._charged(decided, seen, response.result, answers))
            if self.mode == "shadow":
                return response
            if not left:
                result, answers = without(result, answers) if answers else result, []
            if not answers or response.structured_response is not None:
                break
            # The search is part of this step: no node of the graph has to know the tool, and nothing else changes.
            asked += [*result, *answers]
            if _has_open_calls(asked):
                return replace(response, result=asked)
        if not asked and result is response.result:
            return response
        return replace(response, result=[*asked, *result] if self.keeps_searches else carrying(result, asked))

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

    def _charged(
        self,
        decided: Decision,
        request: ModelRequest[Any],
        result: Sequence[BaseMessage],
        answers: Sequence[BaseMessage],
    ) -> Decision:
        """The decision, as a loss if the call brought nothing but a search: without narrowing it had not been made."""
        searched = {answer.tool_call_id for answer in answers if isinstance(answer, ToolMessage)}
        calls = {call["id"] for message in result if isinstance(message, AIMessage) for call in message.tool_calls}
        if not answers or calls - searched or self.mode == "shadow":
            return decided
        usage = next((m.usage_metadata for m in result if isinstance(m, AIMessage) and m.usage_metadata), None)
        if usage is None:
            counted = self.selection.counter_in_use.request(request).total
            usage = UsageMetadata(input_tokens=counted, output_tokens=0, total_tokens=counted)
        cost = self.selection.pricing_in_use.cost(usage, request.model)
        return replace(
            decided,
            tokens_after=(decided.tokens_before or 0) + usage["total_tokens"],
            saved_usd=None if cost is None else -cost,
            reason=f"{decided.reason}; this call only searched for tools",
        )


def _with(request: ModelRequest[Any], asked: list[BaseMessage]) -> ModelRequest[Any]:
    """The request as it would be if the searches of this step were part of the thread already."""
    messages = cast("list[AnyMessage]", [*request.messages, *asked])
    state: Any = {**request.state, "messages": [*request.state.get("messages", request.messages), *asked]}
    return request.override(messages=messages, state=state)


def _has_open_calls(messages: Sequence[BaseMessage]) -> bool:
    """Whether a tool call is left for the agent to run."""
    answered = {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}
    calls = [call["id"] for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]
    return any(call_id not in answered for call_id in calls)
