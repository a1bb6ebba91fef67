"""What `UsageCallback` records of the providers' own clients is what the server bills, to the token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware, ModelRetryMiddleware
from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableParallel
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel

from langchain_tokopt.events import Event, ModelCall
from langchain_tokopt.flow import Flow, Held, compose
from langchain_tokopt.model import OptimizedChatModel
from langchain_tokopt.telemetry import Telemetry, UsageCallback, UsageMiddleware
from langchain_tokopt.telemetry.tally import call_tokens
from langchain_tokopt.tools.search import search_schema
from tests.fakes import ListSink
from tests.providers.agents import APIS, RUNS, Run, apis, chat_model, make_agent, optimizer, run
from tests.providers.billing import Bill
from tests.providers.replies import Asked, Failure, Provider, Reply, ToolCall
from tests.providers.server import ProviderServer

ASK = {"messages": [HumanMessage("What is the largest moon of Saturn?")]}
THINKS: dict[str, Any] = {"thinking": {"type": "enabled", "budget_tokens": 1024}}


def recorded(events: Iterable[Event]) -> tuple[int, Bill]:
    """How many calls were recorded, and their tokens in the server's words."""
    used = [call_tokens(event) for event in events if isinstance(event, ModelCall) and event.error is None]
    total = Bill()
    for tokens in used:
        assert tokens is not None
        named = {field.name: getattr(tokens, field.name) or 0 for field in fields(tokens)}
        total = total + Bill(**named)
    return len(used), total


def billed(provider: ProviderServer) -> tuple[int, Bill]:
    """How many calls the server answered, and what it charged for them."""
    total = provider.billed
    written = total.cache_write + total.cache_write_1h
    return len(provider.answered), Bill(
        input=total.input,
        output=total.output,
        cache_read=total.cache_read,
        cache_write=written,
        reasoning=total.reasoning,
    )


class Answer(BaseModel):
    """An answer."""

    text: str


def _structured(asked: Asked) -> Reply:
    if asked.provider == "anthropic":
        return Reply(tool_calls=(ToolCall(name="Answer", args={"text": "Titan"}),))
    return Reply(text='{"text": "Titan"}')


def _in_subgraphs(model: Any, config: Any) -> None:
    inner = StateGraph(MessagesState)
    inner.add_node("ask", lambda state: {"messages": [model.invoke(state["messages"])]})
    inner.add_edge(START, "ask")
    inner.add_edge("ask", END)
    outer = StateGraph(MessagesState)
    for name in ("one", "two"):
        outer.add_node(name, inner.compile())
        outer.add_edge(START, name)
        outer.add_edge(name, END)
    outer.compile().invoke(ASK, config)  # type: ignore[call-overload]


ANY: dict[str, Callable[[Any, Any], Any]] = {
    "branches": lambda model, config: RunnableParallel(a=model, b=model, c=model).invoke("Titan?", config),
    "batch": lambda model, config: model.batch(["a", "b", "c"], config),
    "abatch": lambda model, config: asyncio.run(model.abatch(["a", "b", "c"], config)),
    "stream": lambda model, config: list(model.stream("Titan?", config)),
    "the same twice": lambda model, config: [list(model.stream("Titan?", config)) for _ in range(2)],
    "chain": lambda model, config: (ChatPromptTemplate.from_template("{q}") | model).invoke({"q": "Titan?"}, config),
    "subgraphs": _in_subgraphs,
}


@apis
@pytest.mark.parametrize("use", ANY.values(), ids=ANY)
def test_any_way_to_use_a_model(provider: ProviderServer, name: Provider, use: Callable[[Any, Any], Any]) -> None:
    provider.policy = lambda asked: Reply(text="Titan is big.")
    sink = ListSink()
    use(chat_model(name, provider), {"callbacks": [UsageCallback(sink=sink)]})
    assert recorded(sink.events) == billed(provider)
    assert {call.usage_source for call in sink.of(ModelCall)} == {"provider"}


@apis
def test_a_handler_that_model_and_config_both_have_counts_once(provider: ProviderServer, name: Provider) -> None:
    provider.policy = lambda asked: Reply(text="Titan is big.")
    sink = ListSink()
    callback = UsageCallback(sink=sink)
    model, config = chat_model(name, provider, callbacks=[callback]), {"callbacks": [callback]}
    model.invoke("Titan?", config)  # type: ignore[arg-type]
    list(create_agent(model).stream(ASK, config, stream_mode="messages"))  # type: ignore[arg-type]
    assert recorded(sink.events) == billed(provider) == (2, provider.billed)


@apis
@pytest.mark.parametrize("kind", RUNS)
def test_agents_in_tools_count_once_and_for_themselves(provider: ProviderServer, name: Provider, kind: Run) -> None:
    calls = tuple(ToolCall(name="research", args={"question": text}) for text in "ab")
    provider.policy = lambda asked: (
        "done" if asked.turn_results else Reply(tool_calls=calls) if "research" in str(asked.body) else "found"
    )
    inner = create_agent(chat_model(name, provider), name="helper")

    @tool
    async def research(question: str) -> str:
        """Look into something."""
        ran = await inner.ainvoke({"messages": [HumanMessage(question)]})
        return str(ran["messages"][-1].text)

    @tool("research")
    def research_now(question: str) -> str:
        """Look into something."""
        return str(inner.invoke({"messages": [HumanMessage(question)]})["messages"][-1].text)

    sink = ListSink()
    use = research_now if kind in ("invoke", "stream") else research
    outer = create_agent(chat_model(name, provider), [use], name="boss", checkpointer=InMemorySaver())
    config = {"callbacks": [UsageCallback(sink=sink)], "configurable": {"thread_id": "t1"}}
    assert run(kind, outer, ASK["messages"], config).answer == "done"
    assert recorded(sink.events) == billed(provider) == (4, provider.billed)
    assert [call.who.agent for call in sink.of(ModelCall)] == ["boss", "helper", "helper", "boss"]
    assert {call.who.thread for call in sink.of(ModelCall)} == {"t1"}


@apis
@pytest.mark.parametrize("how", ["retry", "fallback", "with_fallbacks", "with_retry"])
def test_each_attempt_counts_and_only_answers_are_billed(provider: ProviderServer, name: Provider, how: str) -> None:
    provider.script = [Failure(status=500), "Titan."]
    model, sink = chat_model(name, provider), ListSink()
    retry = ModelRetryMiddleware(max_retries=1, initial_delay=0, backoff_factor=0, jitter=False)
    runnable: Any = {
        "retry": create_agent(model, middleware=[retry]),
        "fallback": create_agent(model, middleware=[ModelFallbackMiddleware(model)]),
        "with_fallbacks": model.with_fallbacks([model]),
        "with_retry": model.with_retry(stop_after_attempt=2, wait_exponential_jitter=False),
    }[how]
    given = ASK if how in ("retry", "fallback") else "Titan?"
    runnable.invoke(given, {"callbacks": [UsageCallback(sink=sink)]})
    assert recorded(sink.events) == billed(provider) == (1, provider.billed)
    assert [call.error is None for call in sink.of(ModelCall)] == [False, True]


@apis
def test_structured_output_is_a_call_like_any(provider: ProviderServer, name: Provider) -> None:
    provider.policy = _structured
    sink = ListSink()
    model = chat_model(name, provider).with_structured_output(Answer)
    assert model.invoke("Titan?", {"callbacks": [UsageCallback(sink=sink)]}) == Answer(text="Titan")
    assert recorded(sink.events) == billed(provider)


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_a_stream_without_usage_is_an_estimate(provider: ProviderServer, name: Provider) -> None:
    provider.script = ["Titan is big."]
    sink = ListSink()
    list(chat_model(name, provider, stream_usage=False).stream("Titan?", {"callbacks": [UsageCallback(sink=sink)]}))
    (call,) = sink.of(ModelCall)
    assert call.usage_source == "estimate"


@pytest.mark.parametrize("kind", ["invoke", "stream"])
@pytest.mark.parametrize("way", ["bare", "middleware", "wrap"])
@pytest.mark.parametrize(("name", "settings"), [*((name, {}) for name in APIS), ("anthropic", THINKS)])
def test_cached_written_and_reasoning_tokens(
    provider: ProviderServer, name: Provider, settings: dict[str, Any], way: Any, kind: Run
) -> None:
    provider.policy = lambda asked: Reply(thinking="Saturn has many.", text="Titan.")
    block = {"type": "text", "text": "Be brief. " * 600, "cache_control": {"type": "ephemeral"}}
    system = SystemMessage([block] if name == "anthropic" else "Be brief. " * 600)
    sink = ListSink()
    with optimizer(cache=None) as tokopt:
        agent = make_agent(way, chat_model(name, provider, **settings), [], tokopt, system_prompt=system)
        for _ in range(2):
            run(kind, agent, ASK["messages"], {"callbacks": [UsageCallback(sink=sink), tokopt.callback]})
        assert recorded(sink.events) == recorded(tokopt.telemetry.events(ModelCall)) == billed(provider)
    _, total = billed(provider)
    assert total.cache_read > 1000
    assert (total.cache_write > 0) == (name == "anthropic")
    assert (total.reasoning > 0) == (name != "anthropic" or bool(settings))


# --- a step of several calls -----------------------------------------------------------------------------------------


def searching(request: ModelRequest[Any]) -> Flow:
    """Answers the model's searches itself, as the flow for tools does."""
    asked: list[Any] = []
    while True:
        response = yield Held(request.override(messages=[*request.messages, *asked]))
        calls = response.result[0].tool_calls  # type: ignore[union-attr]
        if not calls:
            return response
        asked += [*response.result, *(ToolMessage("none", tool_call_id=call["id"]) for call in calls)]


SEARCHES = Reply(text="I look.", tool_calls=(ToolCall(name="search_tools", args={"query": "moon"}),))


@pytest.mark.parametrize("kind", ["invoke", "ainvoke", "stream", "astream"])
@pytest.mark.parametrize(
    ("name", "settings"), [*((name, {}) for name in APIS), ("responses", {"output_version": "v0"})]
)
def test_a_wrapped_models_calls_are_those_that_were_made(
    provider: ProviderServer, name: Provider, settings: dict[str, Any], kind: str
) -> None:
    provider.script = [SEARCHES, "It is Titan."]
    telemetry, alone = Telemetry(), ListSink()
    usage = UsageMiddleware(telemetry)
    wrapped = OptimizedChatModel.around(
        chat_model(name, provider, **settings), compose(searching, usage.run_flow)
    ).bind_tools([convert_to_openai_tool(search_schema("search_tools"))])
    config: Any = {"callbacks": [UsageCallback(telemetry), UsageCallback(sink=alone)]}

    async def collect() -> None:
        async for _ in wrapped.astream("Titan?", config):
            pass

    if kind == "ainvoke":
        asyncio.run(wrapped.ainvoke("Titan?", config))
    elif kind == "astream":
        asyncio.run(collect())
    elif kind == "stream":
        list(wrapped.stream("Titan?", config))
    else:
        wrapped.invoke("Titan?", config)
    assert recorded(telemetry.events()) == billed(provider) == (2, provider.billed)
    # Who sees nothing but the callbacks is told of one run, with the usage of both calls.
    assert recorded(alone.events)[1] == provider.billed
    telemetry.close()
