"""Stand-ins for tests: a model that follows a script, embeddings from a table, a sink and a clock that can be read."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field, PrivateAttr

from langchain_tokopt.events import Event

E = TypeVar("E", bound=Event)
T = TypeVar("T")


@dataclass
class Call:
    """What a scripted model was sent."""

    messages: list[BaseMessage]
    tools: list[dict[str, Any]]
    kwargs: dict[str, Any]

    @property
    def tool_names(self) -> list[str]:
        return [tool["function"]["name"] for tool in self.tools if "function" in tool]


Step = AIMessage | str | BaseException | Callable[[list[BaseMessage]], AIMessage | str]


def ai(
    text: str = "",
    *,
    tool_calls: Sequence[Mapping[str, Any]] = (),
    input_tokens: int | None = None,
    output_tokens: int = 0,
    cache_read: int = 0,
    id: str | None = None,  # noqa: A002 - the message's own field
) -> AIMessage:
    """An AIMessage; with `input_tokens` it carries usage."""
    usage = None
    if input_tokens is not None:
        usage = UsageMetadata(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            total_tokens=input_tokens + output_tokens,
            input_token_details={"cache_read": cache_read},
        )
    calls = [{"type": "tool_call", "id": f"call_{n}", **call} for n, call in enumerate(tool_calls)]
    return AIMessage(content=text, tool_calls=calls, usage_metadata=usage, id=id)


class ScriptedModel(BaseChatModel):
    """A chat model that gives its `responses` one after the other (the last one for ever) and records its calls."""

    responses: list[Any] = Field(default_factory=lambda: ["ok"])
    model_name: str = "gpt-4o-mini"
    provider: str = "openai"
    can_stream: bool = True
    _calls: list[Call] = PrivateAttr(default_factory=list)
    _turn: Any = PrivateAttr(default_factory=itertools.count)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    @property
    def calls(self) -> list[Call]:
        return self._calls

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {**super()._get_ls_params(stop=stop, **kwargs), "ls_provider": self.provider}

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: Any = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _next(self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]) -> AIMessage:
        with self._lock:
            tools = kwargs.get("tools") or []
            rest = {k: v for k, v in kwargs.items() if k != "tools"}
            self._calls.append(Call(list(messages), list(tools), {**rest, "stop": stop} if stop else rest))
            step = self.responses[min(next(self._turn), len(self.responses) - 1)]
        if callable(step) and not isinstance(step, (type, BaseException)):
            step = step(messages)
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, str):
            return AIMessage(content=step)
        return step.model_copy(deep=True)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        message = self._next(messages, stop, kwargs)
        return ChatResult(generations=[ChatGeneration(message=message)], llm_output={"model_name": self.model_name})

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        message = self._next(messages, stop, kwargs)
        words = message.text.split(" ") if message.text else []
        for n, word in enumerate(words):
            text = word if n == len(words) - 1 else word + " "
            yield ChatGenerationChunk(message=AIMessageChunk(content=text, id=message.id))
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                content="",
                id=message.id,
                tool_call_chunks=[
                    {"name": c["name"], "args": _json(c["args"]), "id": c["id"], "index": n, "type": "tool_call_chunk"}
                    for n, c in enumerate(message.tool_calls)
                ],
                usage_metadata=message.usage_metadata,
                response_metadata={"model_name": self.model_name},
                chunk_position="last",
            )
        )

    def _should_stream(self, **kwargs: Any) -> bool:
        return self.can_stream and super()._should_stream(**kwargs)


def _json(args: Any) -> str:
    import json

    return json.dumps(args)


class TableEmbeddings(Embeddings):
    """Embeddings looked up in a table, so that every similarity is known; unknown texts get their own direction."""

    def __init__(self, table: Mapping[str, Sequence[float]] | None = None, *, dim: int = 8) -> None:
        self.table = dict(table or {})
        self.dim = dim
        self.asked: list[str] = []

    def embed_query(self, text: str) -> list[float]:
        self.asked.append(text)
        vector = np.zeros(self.dim, dtype=np.float64)
        if text in self.table:
            given = np.asarray(self.table[text], dtype=np.float64)
            vector[: len(given)] = given
        else:
            seed = int.from_bytes(text.encode("utf-8", "replace")[:64], "big") % (2**32)
            vector = np.random.default_rng(seed).normal(size=self.dim)
        return [float(x) for x in vector / np.linalg.norm(vector)]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


@dataclass
class ListSink:
    """Keeps what it is told."""

    events: list[Event] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


class FakeClock:
    """A clock that moves only when it is told to. Seconds since the epoch."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def awaited(awaitable: Awaitable[T]) -> T:
    """Its result, from an event loop of its own.

    `asyncio.run` makes the text of the result of its task twice, when it takes back its handler of interrupts
    (`signal.getsignal` of CPython 3.11): of the state of an agent that takes longer than the agent did.
    """
    results: list[T] = []

    async def keep() -> None:
        results.append(await awaitable)

    asyncio.run(keep())
    return results[0]
