"""The middleware that binds the tools a thread needs and answers the model's search for others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tokopt.caller import call_who
from langchain_tokopt.events import Decision, Mode, Sink
from langchain_tokopt.flow import Flow, FlowMiddleware
from langchain_tokopt.tools.selection import Selection, ToolSelection

_SEARCHES_PER_STEP = 4


class ToolSelectionMiddleware(FlowMiddleware):
    """Binds to each model call the tools that its thread needs; see `ToolSelection` for which these are.

    Narrowing is no security boundary: a tool that is not bound still runs when the model names it.

    Args:
        selection: The settings; by default those of `ToolSelection()`.
        sink: Who is told of each decision.
        mode: "optimize", or "shadow" to decide and record without changing anything.
        name: The middleware's name in the graph.
        escape_hatch: Whether a narrowed request gets the tool `search_tools`. Only an agent can run it: turn it off
            where a bare model is called, and each message picks twice as many tools instead.
    """

    part: ClassVar[str] = "tools"

    def __init__(
        self,
        selection: ToolSelection | None = None,
        *,
        sink: Sink | None = None,
        mode: Mode = "optimize",
        name: str | None = None,
        escape_hatch: bool = True,
    ) -> None:
        super().__init__(sink=sink, mode=mode, name=name)
        self.selection = selection or ToolSelection()
        self.escape_hatch = escape_hatch

    def flow(self, request: ModelRequest[Any]) -> Flow:
        asked: list[BaseMessage] = []
        for searches_left in range(_SEARCHES_PER_STEP, -1, -1):
            seen = _with(request, asked) if asked else request
            selection, decided = self._select(seen, escape_hatch=self.escape_hatch and searches_left > 0)
            narrowed = seen if selection.tools is None else seen.override(tools=_bindable(selection))
            try:
                response = yield narrowed
            except BaseException:
                self.sink.emit(decided)
                raise
            answers = _answers(response.result, selection.searcher)
            self.sink.emit(self._charged(decided, seen, response.result, answers))
            if not answers or self.mode == "shadow":
                break
            # The search is part of this step: no node of the graph has to know the tool, and nothing else changes.
            asked += [*response.result, *answers]
            if response.structured_response is not None or _has_open_calls(asked):
                return replace(response, result=asked)
        return replace(response, result=[*asked, *response.result]) if asked else response

    def _select(self, request: ModelRequest[Any], *, escape_hatch: bool) -> tuple[Selection, Decision]:
        started = time.perf_counter()
        selection = self.selection.select(request, escape_hatch=escape_hatch)
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


def _bindable(selection: Selection) -> list[Any]:
    """The tools to bind. The search tool goes as its schema: LangChain refuses tools that the agent cannot run."""
    return [
        convert_to_openai_tool(tool) if isinstance(tool, BaseTool) and tool is selection.searcher else tool
        for tool in selection.tools or []
    ]


def _answers(result: Sequence[BaseMessage], searcher: BaseTool | None) -> list[BaseMessage]:
    """The results of the searches that the model asked for."""
    if searcher is None:
        return []
    calls = [call for message in result if isinstance(message, AIMessage) for call in message.tool_calls]
    return [searcher.invoke({**call, "type": "tool_call"}) for call in calls if call["name"] == searcher.name]


def _has_open_calls(messages: Sequence[BaseMessage]) -> bool:
    """Whether a tool call is left for the agent to run."""
    answered = {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}
    calls = [call["id"] for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]
    return any(call_id not in answered for call_id in calls)
