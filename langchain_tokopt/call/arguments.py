"""`BaseChatModel`'s arguments as a `ModelRequest`, and what the flows give back as the model's result."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from langchain.agents.middleware.types import AgentState, ModelRequest, ModelResponse
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, BaseRunManager, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, SystemMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langchain_core.utils.utils import LC_ID_PREFIX

from langchain_tokopt.flow import Outcome, plain

# What of a request belongs to its tools: kept out of `model_settings`, and useless (for OpenAI: an error) without any.
_TOOL_KEYS = ("tools", "tool_choice", "parallel_tool_calls")


@dataclass(frozen=True)
class BoundTools:
    """The tools as the user gave them to `bind_tools`, beside what the provider's class made of them."""

    tools: tuple[BaseTool | dict[str, Any], ...]
    tool_choice: Any
    options: Mapping[str, Any]
    formatted: Sequence[Any]


@dataclass
class Call:
    """One call on its way in and out. `model` is the model inside, `kwargs` what was bound and given to it."""

    model: BaseChatModel
    bound: BoundTools | None
    messages: list[BaseMessage]
    stop: list[str] | None
    kwargs: dict[str, Any]
    request: ModelRequest[Any] = field(init=False)
    results: list[tuple[ModelResponse[Any], ChatResult | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        leads = bool(self.messages) and isinstance(self.messages[0], SystemMessage)
        settings = {key: value for key, value in self.kwargs.items() if key not in _TOOL_KEYS}
        if self.stop is not None:
            settings["stop"] = self.stop
        if self.bound is not None and self.kwargs.get("tools") != self.bound.formatted:
            self.bound = None  # bound again further out
        bound = self.bound
        tools = list(bound.tools) if bound else list(self.kwargs.get("tools") or [])
        choice = bound.tool_choice if bound else self.kwargs.get("tool_choice")
        conversation = self.messages[1:] if leads else list(self.messages)
        self.request = ModelRequest(
            model=self.model,
            messages=cast("list[AnyMessage]", conversation),
            system_message=cast("SystemMessage", self.messages[0]) if leads else None,
            tools=tools,
            tool_choice=choice,
            model_settings=settings,
            state=cast("AgentState[Any]", {"messages": conversation}),
        )

    def outgoing(self, request: ModelRequest[Any]) -> tuple[list[BaseMessage], dict[str, Any]]:
        """The messages and keyword arguments for the model inside."""
        messages: list[BaseMessage] = list(request.messages)
        if request.system_message is not None:
            messages.insert(0, request.system_message)
        options = {**request.model_settings, **self._tool_options(request)}
        options.setdefault("stop", None)
        return messages, options

    def _tool_options(self, request: ModelRequest[Any]) -> dict[str, Any]:
        given = {key: self.kwargs[key] for key in _TOOL_KEYS if key in self.kwargs}
        before = self.request
        # Tools were put into the words of the first model's class; a model of another one has words of its own.
        kin = type(request.model) is type(before.model)
        same = len(request.tools) == len(before.tools) and all(
            a is b for a, b in zip(request.tools, before.tools, strict=True)
        )
        if kin and same and request.tool_choice is before.tool_choice:
            return given
        if not request.tools:
            return {}
        if kin and self.bound is None and all(isinstance(tool, dict) for tool in request.tools):
            chosen = {} if request.tool_choice is None else {"tool_choice": request.tool_choice}
            return {**given, "tools": list(request.tools), **chosen}
        options = dict(self.bound.options) if self.bound and kin else {}
        if request.tool_choice is not None:
            options["tool_choice"] = request.tool_choice
        binding = request.model.bind_tools(request.tools, **options)
        made = dict(getattr(binding, "kwargs", {}))
        return {key: made[key] for key in _TOOL_KEYS if key in made}

    def answer_internally(
        self, request: ModelRequest[Any], run_manager: CallbackManagerForLLMRun | None = None
    ) -> ModelResponse[Any]:
        """The answer to a call of the optimiser's own; without `run_manager` nobody who watches the run is told."""
        messages, options = self.outgoing(request)
        return ModelResponse(result=[request.model.invoke(messages, _watched_by(run_manager), **options)])

    async def aanswer_internally(
        self, request: ModelRequest[Any], run_manager: AsyncCallbackManagerForLLMRun | None = None
    ) -> ModelResponse[Any]:
        """`answer_internally` on an event loop."""
        messages, options = self.outgoing(request)
        return ModelResponse(result=[await request.model.ainvoke(messages, _watched_by(run_manager), **options)])

    def received(self, result: ChatResult, run_manager: BaseRunManager | None = None) -> ModelResponse[Any]:
        """The model's result as a response; the flows see the metadata and the id that LangChain would add only later.

        A flow that returns a copy of the message thus returns one that is known by its id.
        """
        first = result.generations[0]
        if first.message.id is None and run_manager is not None:
            first.message.id = f"{LC_ID_PREFIX}-{run_manager.run_id}-0"
        if len(result.generations) == 1:
            first.message.response_metadata = {
                **(result.llm_output or {}),
                **(first.generation_info or {}),
                **first.message.response_metadata,
            }
        response: ModelResponse[Any] = ModelResponse(result=[first.message])
        self.results.append((response, result))
        return response

    def streamed(self, chunks: list[ChatGenerationChunk]) -> ModelResponse[Any]:
        """The answer in `chunks` as a response, with the metadata that LangChain adds to chunks as they go out."""
        first = generate_from_stream(iter(chunks)).generations[0]
        first.message.response_metadata = {**(first.generation_info or {}), **first.message.response_metadata}
        response: ModelResponse[Any] = ModelResponse(result=[first.message])
        self.results.append((response, None))
        return response

    def result(self, outcome: Outcome) -> ChatResult:
        """The model's own result when the flows gave its answer back, else a result made of theirs.

        Of several calls it has the usage of all, for all were billed.
        """
        message = answer_of(outcome)
        billed = [usage for response, _ in self.results if (usage := usage_of(response.result[0]))]
        if len(self.results) > 1 and billed:
            message = message.model_copy(update={"usage_metadata": functools.reduce(add_usage, billed)})
        # A copy that a flow changed has the metadata of the answer that it was made from.
        for own in reversed([own for _, own in self.results if own is not None]):
            first = own.generations[0]
            if first.message is message:
                return own
            if first.message.response_metadata == message.response_metadata:
                changed = ChatGeneration(message=message, generation_info=first.generation_info)
                return ChatResult(generations=[changed], llm_output=own.llm_output)
        return ChatResult(generations=[ChatGeneration(message=message)])


def answer_of(outcome: Outcome) -> BaseMessage:
    """What is said in the end: the last message of the model's."""
    result = plain(outcome).result
    return next((message for message in reversed(result) if isinstance(message, AIMessage)), result[0])


def usage_of(message: BaseMessage) -> UsageMetadata | None:
    """What the provider said that the message used."""
    return message.usage_metadata if isinstance(message, AIMessage) else None


def _watched_by(run_manager: BaseRunManager | None) -> RunnableConfig:
    """A config under which an internal call is seen by those who watch the outer one."""
    return {"callbacks": list(run_manager.inheritable_handlers)} if run_manager else {}
