"""`ToolBinder`: the tool selection for graphs that are written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain.agents.middleware.types import ModelRequest
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langgraph.prebuilt import ToolNode

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import Mode, Sink
from langchain_tokopt.flow import Flow
from langchain_tokopt.model import OptimizedChatModel
from langchain_tokopt.tools import ToolSelection, ToolSelectionMiddleware


class ToolBinder:
    """The tools of a hand-written graph: `bind` for the node that calls the model, `node` for the one that runs tools.

    The model sees the tools that its thread needs, in the way that is cheapest with its provider. Its answer calls real
    tools by their own names, whatever it was shown, so that any `ToolNode`, interrupt or approval works as before.

    Args:
        tools: All tools of the graph.
        selection: The settings; by default those of `ToolSelection()`.
        sink: Who is told of each decision; `TokenOptimizer.telemetry` is one.
        mode: "optimize", or "shadow" to decide and record without changing anything.

    Raises:
        ConfigurationError: There are no tools, or two have the same name.
    """

    def __init__(
        self,
        tools: Sequence[BaseTool],
        *,
        selection: ToolSelection | None = None,
        sink: Sink | None = None,
        mode: Mode = "optimize",
    ) -> None:
        if not tools:
            raise ConfigurationError("tools", tools, "pass the tools that the graph can run")
        self.tools = list(tools)
        self.selection = selection or ToolSelection()
        self.selection.index(self.tools)  # raises for equal names now, not at the first call
        self._middleware = ToolSelectionMiddleware(self.selection, sink=sink, mode=mode, keeps_searches=False)

    def bind(
        self,
        model: BaseChatModel,
        messages: Sequence[BaseMessage] | None = None,
        *,
        tool_choice: Any = None,
        **options: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with these tools bound, of which each call sends those that its thread needs.

        Args:
            model: Any chat model that can bind tools, also one that was wrapped by a `TokenOptimizer`.
            messages: The thread as it is stored, where the model is called with a part of it only: what was needed
                earlier stays known. By default the messages of the call.
            tool_choice: As in the model's own `bind_tools`, and so are `options`.
        """
        thread = None if messages is None else list(messages)

        def flow(request: ModelRequest[Any]) -> Flow:
            if thread is not None:
                state: Any = {**request.state, "messages": thread}
                request = request.override(state=state)
            return self._middleware.run_flow(request)

        return OptimizedChatModel.around(model, flow).bind_tools(self.tools, tool_choice=tool_choice, **options)

    def node(self, **options: Any) -> ToolNode:
        """A node that runs any of the tools; `options` are those of LangGraph's `ToolNode`."""
        return ToolNode(self.tools, **options)
