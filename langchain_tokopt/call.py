"""One call to a wrapped model: `BaseChatModel`'s arguments as a `ModelRequest`, the answer back, streams and all."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from langchain.agents.middleware.types import AgentState, ModelRequest, ModelResponse
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, BaseRunManager, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, BaseMessage, SystemMessage, ToolCall
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool

from langchain_tokopt.flow import Outcome, StreamClosed, plain

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
        same = len(request.tools) == len(before.tools) and all(
            a is b for a, b in zip(request.tools, before.tools, strict=True)
        )
        if same and request.tool_choice is before.tool_choice:
            return given
        if not request.tools:
            return {}
        if self.bound is None and all(isinstance(tool, dict) for tool in request.tools):
            chosen = {} if request.tool_choice is None else {"tool_choice": request.tool_choice}
            return {**given, "tools": list(request.tools), **chosen}
        options = dict(self.bound.options) if self.bound else {}
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

    def received(self, result: ChatResult) -> ModelResponse[Any]:
        """The model's result as a response; the flows see the metadata that LangChain would add only later."""
        first = result.generations[0]
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
        result = generate_from_stream(iter(chunks))
        response: ModelResponse[Any] = ModelResponse(result=[result.generations[0].message])
        self.results.append((response, None))
        return response

    def result(self, outcome: Outcome) -> ChatResult:
        """The model's own result when the flows gave its answer back, else a result made of theirs."""
        message = plain(outcome).result[0]
        for response, result in self.results:
            if result is not None and response.result[0] is message:
                return result
        return ChatResult(generations=[ChatGeneration(message=message)])

    def unsent(self, outcome: Outcome) -> Iterator[ChatGenerationChunk]:
        """Chunks of an answer that did not come from the stream (a cache hit); nothing when it did."""
        if self.results:
            return
        yield from chunks_of(plain(outcome).result[0])


def chunks_of(message: BaseMessage) -> Iterator[ChatGenerationChunk]:
    """A complete answer as a stream of chunks: text word by word, everything else in one chunk, then the end."""
    given = message if isinstance(message, AIMessage) else AIMessage(content=message.content)
    content: Any = given.content
    if isinstance(content, str):
        for word in _words(content):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word, id=given.id))
        content = ""
    elif all(isinstance(block, dict) for block in content):
        for n, block in enumerate(content):
            for piece in _pieces({"index": n, **block}):
                yield ChatGenerationChunk(message=AIMessageChunk(content=[piece], id=given.id))
        content = []
    last = AIMessageChunk(
        content=content,
        id=given.id,
        name=given.name,
        additional_kwargs=given.additional_kwargs,
        response_metadata=given.response_metadata,
        usage_metadata=given.usage_metadata,
        tool_call_chunks=[_chunk_of(n, tool_call) for n, tool_call in enumerate(given.tool_calls)],
        chunk_position="last",
    )
    yield ChatGenerationChunk(message=last)


def _chunk_of(index: int, call: ToolCall) -> ToolCallChunk:
    return tool_call_chunk(
        name=call["name"], args=json.dumps(call["args"], ensure_ascii=False), id=call["id"], index=index
    )


def _pieces(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A content block word by word if it is text, else as it is; chunks of one `index` become one block again."""
    words = _words(block["text"]) if block.get("type") == "text" and isinstance(block.get("text"), str) else []
    if len(words) < 2:
        yield block
        return
    yield {**block, "text": words[0]}
    for word in words[1:]:
        yield {"type": "text", "text": word, "index": block["index"]}


def _words(text: str) -> list[str]:
    if len(text) > 4096:
        return text.splitlines(keepends=True)
    words: list[str] = []
    for part in text.split(" "):
        words.append(part + " ")
    if words:
        words[-1] = words[-1][:-1]
    return [word for word in words if word]


def model_chunks(
    model: BaseChatModel, messages: list[BaseMessage], options: dict[str, Any]
) -> Iterator[ChatGenerationChunk]:
    if type(model)._stream is BaseChatModel._stream:
        yield from chunks_of(model._generate(messages, **options).generations[0].message)
        return
    yield from model._stream(messages, **options)


async def amodel_chunks(
    model: BaseChatModel, messages: list[BaseMessage], options: dict[str, Any]
) -> AsyncIterator[ChatGenerationChunk]:
    kind = type(model)
    if kind._astream is BaseChatModel._astream and kind._stream is BaseChatModel._stream:
        for chunk in chunks_of((await model._agenerate(messages, **options)).generations[0].message):
            yield chunk
        return
    async for chunk in model._astream(messages, **options):
        yield chunk


def _watched_by(run_manager: BaseRunManager | None) -> RunnableConfig:
    """A config under which an internal call is seen by those who watch the outer one."""
    return {"callbacks": list(run_manager.inheritable_handlers)} if run_manager else {}


def told(error: BaseException, chunks: list[ChatGenerationChunk]) -> BaseException:
    """What a flow is told when a stream ends early: the error with what was streamed before it (`partial_answer`)."""
    if isinstance(error, GeneratorExit):
        error = StreamClosed()
    if chunks:
        with contextlib.suppress(Exception):  # chunks that do not fit, a class with slots: then it is the error alone
            error.tokopt_partial = generate_from_stream(iter(chunks)).generations[0].message  # type: ignore[attr-defined]
    return error
