"""LangChain's `LLMToolSelectorMiddleware`, with a selector that always picks exactly the tools that are needed.

How well a live model picks is not measured here; what its extra call costs is. So the selector is a perfect one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain.agents.middleware import LLMToolSelectorMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool

Chosen = Callable[[], Sequence[str]]
Told = Callable[[list[BaseMessage], list[dict[str, Any]], AIMessage], None]


class PerfectSelector(BaseChatModel):
    """Answers each selection with what `chosen()` gives, and tells `told` what it was sent and what it answered."""

    chosen: Any
    told: Any

    @property
    def _llm_type(self) -> str:
        return "perfect-selector"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Any:
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools])

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        (schema,) = kwargs["tools"]
        call = {"name": schema["function"]["name"], "args": {"tools": list(self.chosen())}, "id": "selection"}
        answer = AIMessage("", tool_calls=[call])
        self.told(messages, kwargs["tools"], answer)
        return ChatResult(generations=[ChatGeneration(message=answer)])


def selector(max_tools: int, chosen: Chosen, told: Told) -> LLMToolSelectorMiddleware[Any, Any]:
    """The middleware as an agent uses it, but for the model that it asks."""
    return LLMToolSelectorMiddleware(model=PerfectSelector(chosen=chosen, told=told), max_tools=max_tools)
