"""The middleware that binds the tools a thread needs and answers the model's search for others."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import BaseTool

from langchain_tokopt.caller import call_who
from langchain_tokopt.events import Decision, Mode, Sink
from langchain_tokopt.flow import Flow, FlowMiddleware
from langchain_tokopt.tools.schema import tool_name
from langchain_tokopt.tools.search import find, is_searcher_name, search_tool, searcher_name
from langchain_tokopt.tools.selection import Selection, ToolSelection
from langchain_tokopt.weighted_memo import WeightedMemo

if TYPE_CHECKING:
    from langchain.tools.tool_node import ToolCallRequest
    from langgraph.types import Command

_SEARCHES_KEPT = 2_048


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
        # Which search tool an answer's call is for, by the answer's id. Only a shortcut: see `_search_for`.
        self._searches: WeightedMemo[BaseTool | Literal["not ours"]] = WeightedMemo(weight_limit=_SEARCHES_KEPT)

    def flow(self, request: ModelRequest[Any]) -> Flow:
        started = time.perf_counter()
        selection = self.selection.select(request, escape_hatch=self.escape_hatch)
        for problem in selection.problems:
            self.failed(self.part, problem, "request")
        self.sink.emit(
            Decision(
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
        )
        if selection.tools is None:
            response = yield request
        else:
            response = yield request.override(tools=selection.tools)
        for message in response.result:
            self._remember(message, selection)
        return response

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        """Run a search for tools; any other call goes straight on."""
        return handler(self._with_search(request))

    async def awrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> ToolMessage | Command[Any]:
        """Run a search for tools (in a worker thread); any other call goes straight on."""
        return await handler(self._with_search(request))

    def _with_search(self, request: ToolCallRequest) -> ToolCallRequest:
        known = request.tool is not None or not is_searcher_name(request.tool_call["name"])
        if known or not self.escape_hatch or self.mode == "shadow" or self.selection.mode == "off":
            return request
        search = self._search_for(request)
        return request if search is None else request.override(tool=search)

    def _search_for(self, request: ToolCallRequest) -> BaseTool | None:
        """The search tool that the model was given when it made this call, `None` if it was given none.

        A call that another process resumes is not remembered here: then the tools are those of the tool node.
        """
        name = request.tool_call["name"]
        messages: list[BaseMessage] = request.state.get("messages", []) if isinstance(request.state, dict) else []
        caller = next((message for message in reversed(messages) if _makes(message, request.tool_call["id"])), None)
        known = self._searches.get(caller.id) if caller is not None else None
        if known is not None:
            return known if isinstance(known, BaseTool) and known.name == name else None
        tools = getattr(request.runtime, "tools", None) or []
        if name != searcher_name({tool_name(tool) or "" for tool in tools}):
            return None

        def look(query: str, k: int) -> tuple[str, dict[str, list[str]]]:
            index, bound = self.selection.bound_for(tools, messages)
            return find(index, bound, query, k)

        return search_tool(name, look) if tools else None

    def _remember(self, message: BaseMessage, selection: Selection) -> None:
        if not isinstance(message, AIMessage) or message.id is None:
            return
        if any(is_searcher_name(call["name"]) for call in message.tool_calls):
            self._searches.put(message.id, selection.searcher or "not ours")


def _makes(message: BaseMessage, call_id: str | None) -> bool:
    return isinstance(message, AIMessage) and any(call["id"] == call_id for call in message.tool_calls)
