"""Ways to make a model call that is watched, sync and async, whole and streamed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage

Config = Any


def agent(model: BaseChatModel, *middleware: Any, tools: Sequence[Any] = (), **settings: Any) -> Any:
    return create_agent(model, tools=list(tools), middleware=list(middleware), **settings)


def ask(text: str = "hi") -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


async def invoke(runnable: Any, given: Any, config: Config) -> None:
    runnable.invoke(given, config)


async def ainvoke(runnable: Any, given: Any, config: Config) -> None:
    await runnable.ainvoke(given, config)


async def stream(runnable: Any, given: Any, config: Config) -> None:
    list(runnable.stream(given, config))


async def astream(runnable: Any, given: Any, config: Config) -> None:
    async for _ in runnable.astream(given, config):
        pass


async def astream_events(runnable: Any, given: Any, config: Config) -> None:
    async for _ in runnable.astream_events(given, config, version="v2"):
        pass


async def stream_messages(runnable: Any, given: Any, config: Config) -> None:
    list(runnable.stream(given, config, stream_mode="messages"))


async def astream_messages(runnable: Any, given: Any, config: Config) -> None:
    async for _ in runnable.astream(given, config, stream_mode="messages"):
        pass


Way = Callable[[Any, Any, Config], Awaitable[None]]
WAYS: list[Way] = [invoke, ainvoke, stream, astream, astream_events]
AGENT_WAYS: list[Way] = [*WAYS, stream_messages, astream_messages]
