"""Real clients against the provider server, and every way to run an agent with them."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_openai import ChatOpenAI

from langchain_tokopt import TokenOptimizer
from tests.fakes import TableEmbeddings, awaited
from tests.providers.billing import Bill
from tests.providers.replies import Provider
from tests.providers.server import ProviderServer

PROVIDERS: list[Provider] = ["openai", "anthropic"]
APIS: list[Provider] = [*PROVIDERS, "responses"]
Way = Literal["bare", "middleware", "wrap"]
WAYS: list[Way] = ["bare", "middleware", "wrap"]
OURS: list[Way] = ["middleware", "wrap"]
providers = pytest.mark.parametrize("name", PROVIDERS)
apis = pytest.mark.parametrize("name", APIS)
ours = pytest.mark.parametrize("way", OURS)
Run = Literal["invoke", "ainvoke", "stream", "astream", "astream_events"]
RUNS: list[Run] = ["invoke", "ainvoke", "stream", "astream", "astream_events"]


def chat_model(provider: Provider, server: ProviderServer, **settings: Any) -> BaseChatModel:
    """The provider's own client, talking to the server."""
    if provider in ("openai", "responses"):
        settings.setdefault("use_responses_api", provider == "responses")
        options = {"model": "gpt-4.1-mini", "stream_usage": True, "max_retries": 0, **settings}
        return ChatOpenAI(base_url=server.openai_url, api_key="test", **options)
    options = {"model_name": "claude-sonnet-4-6", "max_tokens": 2000, "max_retries": 0, **settings}
    return ChatAnthropic(base_url=server.root, api_key="test", **options)


def optimizer(**settings: Any) -> TokenOptimizer:
    """An optimiser in memory whose embedder needs no model: equal texts are equal, all others far apart."""
    return TokenOptimizer(**{"embeddings": TableEmbeddings(dim=64), **settings})


def make_agent(way: Way, model: BaseChatModel, tools: Sequence[Any], tokopt: TokenOptimizer, **more: Any) -> Any:
    """An agent: bare, with the optimiser's middleware, or with a wrapped model."""
    ours = tokopt.middleware if way == "middleware" else []
    return create_agent(
        tokopt.wrap(model) if way == "wrap" else model,
        tools,
        middleware=[*ours, *more.pop("middleware", ())],
        **more,
    )


def measured(tokopt: TokenOptimizer) -> Bill:
    """What the optimiser's report says that the provider measured, in the server's words."""
    used = tokopt.report().measured
    return Bill(
        input=used.input_tokens or 0,
        output=used.output_tokens or 0,
        cache_read=used.cache_read_tokens or 0,
        cache_write=used.cache_write_tokens or 0,
        reasoning=used.reasoning_tokens or 0,
    )


@dataclass
class Ran:
    """What came of a run: the state at its end, and what was streamed on the way."""

    state: dict[str, Any] = field(default_factory=dict)
    chunks: list[BaseMessage] = field(default_factory=list)

    @property
    def messages(self) -> list[BaseMessage]:
        return list(self.state["messages"])

    @property
    def answer(self) -> str:
        return str(self.messages[-1].text)

    @property
    def streamed_text(self) -> str:
        """Text of all streamed model messages."""
        return "".join(str(chunk.text) for chunk in self.chunks if isinstance(chunk, (AIMessage, AIMessageChunk)))


def run(kind: Run, agent: Any, messages: Sequence[Any], config: Any = None, **more: Any) -> Ran:
    """Run an agent to its end in one of the ways that users do."""
    ask = {"messages": list(messages)}
    if kind == "invoke":
        return Ran(state=agent.invoke(ask, config, **more))
    if kind == "ainvoke":
        return Ran(state=awaited(agent.ainvoke(ask, config, **more)))
    if kind == "stream":
        return _collected(agent.stream(ask, config, stream_mode=["messages", "values"], **more))
    if kind == "astream":
        return awaited(_acollected(agent.astream(ask, config, stream_mode=["messages", "values"], **more)))
    return awaited(_events(agent, ask, config, **more))


def _collected(stream: Iterator[tuple[str, Any]]) -> Ran:
    ran = Ran()
    for mode, data in stream:
        _take(ran, mode, data)
    return ran


async def _acollected(stream: AsyncIterator[tuple[str, Any]]) -> Ran:
    ran = Ran()
    async for mode, data in stream:
        _take(ran, mode, data)
    return ran


def _take(ran: Ran, mode: str, data: Any) -> None:
    if mode == "values":
        ran.state = data
    else:
        ran.chunks.append(data[0])


async def _events(agent: Any, ask: Any, config: Any, **more: Any) -> Ran:
    ran = Ran()
    async for event in agent.astream_events(ask, config, version="v2", **more):
        if event["event"] == "on_chat_model_stream":
            ran.chunks.append(event["data"]["chunk"])
        if event["event"] == "on_chain_end" and not event["parent_ids"]:
            ran.state = event["data"]["output"]
    return ran


def at_once(count: int, work: Callable[[int], None]) -> None:
    """Call `work` with 0 .. count-1 in as many threads."""
    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
