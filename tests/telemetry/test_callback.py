"""`UsageCallback`: the same record for any model call in any chain, agent, subagent or retry, by watching only."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import CallbackManager, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, FakeListLLM
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, Generation, LLMResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langgraph.errors import GraphInterrupt

from langchain_tokopt.errors import BudgetExceededError
from langchain_tokopt.events import ModelCall, Who
from langchain_tokopt.flow import INTERNAL_TAG
from langchain_tokopt.pricing import Pricing, Rates
from langchain_tokopt.telemetry import Telemetry, UsageCallback
from tests.fakes import FakeClock, ListSink, ScriptedModel, ai
from tests.telemetry.watching import AGENT_WAYS, WAYS, Way, agent, ask

PRICING = Pricing(
    overrides={"gpt-4o-mini": Rates(provider="openai", model="gpt-4o-mini", input=Decimal(2), output=Decimal(8))}
)


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


@pytest.fixture
def callback(sink: ListSink) -> UsageCallback:
    return UsageCallback(sink=sink, pricing=PRICING)


def watched(callback: UsageCallback, **config: Any) -> RunnableConfig:
    given: Any = {"callbacks": [callback], **config}
    return cast("RunnableConfig", given)


# --- what is recorded ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_a_chain_is_measured(sink: ListSink, callback: UsageCallback, way: Way) -> None:
    model = ScriptedModel(responses=[ai("hello you", input_tokens=1000, output_tokens=20)])
    chain = ChatPromptTemplate.from_template("{q}") | model | StrOutputParser()
    await way(chain, {"q": "hi"}, watched(callback, metadata={"tenant": "acme", "user_id": 7}))
    (call,) = sink.of(ModelCall)
    assert (call.provider, call.model, call.usage_source) == ("openai", "gpt-4o-mini", "provider")
    assert call.usage is not None
    assert (call.usage["input_tokens"], call.usage["output_tokens"]) == (1000, 20)
    assert call.cost_usd == Decimal("0.00216")
    assert call.who == Who(tenant="acme", user="7")
    assert call.latency_seconds is not None
    assert call.latency_seconds > 0


@pytest.mark.parametrize("way", AGENT_WAYS)
async def test_an_agent_is_measured(sink: ListSink, callback: UsageCallback, way: Way) -> None:
    model = ScriptedModel(responses=[ai("hello you", input_tokens=1000, output_tokens=20)])
    await way(agent(model), ask(), watched(callback, configurable={"thread_id": "t1"}))
    (call,) = sink.of(ModelCall)
    assert call.cost_usd == Decimal("0.00216")
    assert (call.who.thread, call.who.node) == ("t1", "model")


@pytest.mark.parametrize("way", WAYS)
async def test_without_reported_usage_it_is_estimated_and_says_so(
    sink: ListSink, callback: UsageCallback, way: Way
) -> None:
    await way(ScriptedModel(responses=["hello you"]), "what is this?", watched(callback))
    (call,) = sink.of(ModelCall)
    assert call.usage_source == "estimate"
    assert call.usage is not None
    assert call.usage["input_tokens"] > 3
    assert call.usage["output_tokens"] > 1
    assert call.cost_usd is not None


def test_usage_is_not_lost_without_a_model_name(sink: ListSink, callback: UsageCallback) -> None:
    class Nameless(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "nameless"

        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            return ChatResult(generations=[ChatGeneration(message=ai("x", input_tokens=10, output_tokens=2))])

    Nameless().invoke("hi", watched(callback))
    (call,) = sink.of(ModelCall)
    assert call.usage is not None
    assert (call.usage["input_tokens"], call.model, call.cost_usd) == (10, None, None)


def test_usage_of_the_whole_result_is_found(sink: ListSink, callback: UsageCallback) -> None:
    class Older(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "older"

        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            several = [ChatGeneration(message=AIMessage(text)) for text in "ab"]
            usage = {"prompt_tokens": 70, "completion_tokens": 6, "total_tokens": 76}
            return ChatResult(generations=several, llm_output={"token_usage": usage, "model_name": "gpt-4o-mini"})

    Older().invoke("hi", watched(callback))
    (call,) = sink.of(ModelCall)
    assert call.usage == {"input_tokens": 70, "output_tokens": 6, "total_tokens": 76}
    assert (call.model, call.cost_usd) == ("gpt-4o-mini", Decimal("0.000188"))


@pytest.mark.parametrize("way", WAYS)
async def test_a_plain_text_model_is_measured(sink: ListSink, callback: UsageCallback, way: Way) -> None:
    await way(FakeListLLM(responses=["some more text"]), "a few words", watched(callback))
    (call,) = sink.of(ModelCall)
    assert (call.usage_source, call.error) == ("estimate", None)
    assert call.usage is not None
    assert call.usage["input_tokens"] > 2
    assert call.usage["output_tokens"] > 2


def test_each_call_of_a_batch_counts(sink: ListSink, callback: UsageCallback) -> None:
    ScriptedModel(responses=[ai("x", input_tokens=10)]).batch(["a", "b", "c"], watched(callback))
    assert len(sink.of(ModelCall)) == 3


def test_one_message_object_given_by_a_fake_fifty_times_at_once_is_fifty_calls(
    sink: ListSink, callback: UsageCallback
) -> None:
    class Same(BaseChatModel):
        message: AIMessage = ai("x", input_tokens=10)

        @property
        def _llm_type(self) -> str:
            return "same"

        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            return ChatResult(generations=[ChatGeneration(message=self.message)])

    Same().batch(["a"] * 50, watched(callback, max_concurrency=8))
    assert len(sink.of(ModelCall)) == 50


@dataclass
class Context:
    tenant: str


@pytest.mark.parametrize("way", AGENT_WAYS)
async def test_whose_call_it_is_is_read_from_the_context_as_in_the_middleware(
    sink: ListSink, callback: UsageCallback, way: Way
) -> None:
    class WithContext:
        """An agent that is always given the same context."""

        def __init__(self) -> None:
            self._agent = agent(ScriptedModel(), context_schema=Context)

        def __getattr__(self, name: str) -> Any:
            method = getattr(self._agent, name)
            return lambda *args, **kwargs: method(*args, **kwargs, context=Context("acme"))

    await way(WithContext(), ask(), watched(callback))
    assert [call.who.tenant for call in sink.of(ModelCall)] == ["acme"]


def test_a_subagent_in_a_tool_counts_too(sink: ListSink, callback: UsageCallback) -> None:
    inner = agent(ScriptedModel(responses=[ai("inner", input_tokens=300)]))

    @tool
    def research(question: str) -> str:
        """Look into something."""
        return str(inner.invoke(ask(question))["messages"][-1].text)

    outer = ScriptedModel(
        responses=[
            ai(tool_calls=[{"name": "research", "args": {"question": "?"}}], input_tokens=10),
            ai("done", input_tokens=20),
        ]
    )
    agent(outer, tools=[research]).invoke(ask(), watched(callback))
    used = [call.usage["input_tokens"] for call in sink.of(ModelCall) if call.usage]
    assert used == [10, 300, 20]


def test_each_attempt_of_a_retry_counts(sink: ListSink, callback: UsageCallback) -> None:
    model = ScriptedModel(responses=[ValueError("a"), ai("x", input_tokens=10)])
    model.with_retry(wait_exponential_jitter=False).invoke("hi", watched(callback))
    assert [call.error for call in sink.of(ModelCall)] == ["ValueError", None]


def test_calls_of_the_optimiser_are_marked(sink: ListSink, callback: UsageCallback) -> None:
    ScriptedModel(tags=[INTERNAL_TAG]).invoke("hi", watched(callback))
    assert [call.internal for call in sink.of(ModelCall)] == [True]


def test_the_repeated_prefix_is_measured_with_tools_and_in_the_providers_tokens(
    sink: ListSink, callback: UsageCallback
) -> None:
    @tool
    def search(query: str) -> str:
        """Find something."""
        return query

    model = ScriptedModel(responses=[ai("x", input_tokens=1000)])
    for runnable in (model, model, model.bind_tools([search]), model.bind_tools([search])):
        runnable.invoke("hi", watched(callback))
    assert [call.repeated_prefix_tokens for call in sink.of(ModelCall)] == [0, 1000, 0, 1000]


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_a_failed_call_is_recorded(sink: ListSink, callback: UsageCallback, way: Way) -> None:
    with pytest.raises(ConnectionError):
        await way(ScriptedModel(responses=[ConnectionError("gone")]), "hi", watched(callback))
    (call,) = sink.of(ModelCall)
    assert (call.error, call.usage, call.cost_usd) == ("ConnectionError", None, None)
    assert call.model == "gpt-4o-mini"


class Halfway(ScriptedModel):
    """Streams two words, then fails or goes on."""

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for word in ("some ", "words "):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        raise ConnectionError("gone")


def test_what_was_streamed_before_an_error_is_counted_as_an_estimate(sink: ListSink, callback: UsageCallback) -> None:
    with pytest.raises(ConnectionError):
        list(Halfway().stream("hi", watched(callback)))
    (call,) = sink.of(ModelCall)
    assert (call.error, call.usage_source) == ("ConnectionError", "estimate")
    assert call.usage is not None
    assert call.usage["output_tokens"] > 2


def test_a_stream_that_is_closed_is_counted_as_an_estimate(sink: ListSink, callback: UsageCallback) -> None:
    stream: Any = ScriptedModel(responses=["a b c d e f"]).stream("hi", watched(callback))
    next(stream)
    stream.close()
    (call,) = sink.of(ModelCall)
    assert (call.error, call.usage_source) == ("StreamClosed", "estimate")


async def test_a_cancelled_stream_is_counted_at_its_input_as_an_estimate(
    sink: ListSink, callback: UsageCallback
) -> None:
    started = asyncio.Event()

    class Slow(ScriptedModel):
        async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
            started.set()
            await asyncio.sleep(3600)
            yield ChatGenerationChunk(message=AIMessageChunk(content="late"))

    async def read() -> None:
        async for _ in Slow().astream("hi", watched(callback)):
            pass

    task = asyncio.ensure_future(read())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (call,) = sink.of(ModelCall)
    assert (call.error, call.usage_source) == ("CancelledError", "estimate")
    assert call.usage is not None
    assert call.usage["input_tokens"] > 0


@pytest.mark.parametrize(
    "error",
    [GraphInterrupt(), BudgetExceededError("no", limit=1, spent=1, needed=1, unit="usd")],
    ids=["gate", "budget"],
)
def test_what_never_reached_the_model_is_no_call(sink: ListSink, callback: UsageCallback, error: BaseException) -> None:
    with pytest.raises(type(error)):
        ScriptedModel(responses=[error]).invoke("hi", watched(callback))
    assert sink.events == []


def test_an_error_in_the_callback_does_not_reach_the_run(sink: ListSink) -> None:
    class Broken:
        def emit(self, event: Any) -> None:
            raise RuntimeError("cannot tell")

    model = ScriptedModel(responses=["fine"])
    assert model.invoke("hi", watched(UsageCallback(sink=Broken()))).text == "fine"


# --- what is no call -------------------------------------------------------------------------------------------------


def test_a_hit_of_langchains_cache_is_no_call(sink: ListSink, callback: UsageCallback) -> None:
    for response in (ai("x", input_tokens=10), "without usage"):
        model = ScriptedModel(responses=[response], cache=InMemoryCache())
        for _ in range(3):
            model.invoke("hi", watched(callback))
        assert len(model.calls) == 1
    assert len(sink.of(ModelCall)) == 2


def test_a_hit_of_our_cache_is_no_call(sink: ListSink, callback: UsageCallback) -> None:
    hit = AIMessage("x", response_metadata={"tokopt": {"cache": "semantic"}})
    ScriptedModel(responses=[hit]).invoke("hi", watched(callback))
    assert sink.events == []


class Wrapper(BaseChatModel):
    """Passes calls on to another model."""

    inner: BaseChatModel

    @property
    def _llm_type(self) -> str:
        return "wrapper"

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any
    ) -> ChatResult:
        assert run_manager is not None
        config: Any = {"callbacks": CallbackManager(run_manager.handlers, parent_run_id=run_manager.run_id)}
        message = self.inner.invoke(messages, config)
        return ChatResult(generations=[ChatGeneration(message=message.model_copy(update={"id": None}))])


def test_a_model_that_passes_calls_on_is_not_counted_beside_them(sink: ListSink, callback: UsageCallback) -> None:
    model = Wrapper(inner=ScriptedModel(responses=[ai("x", input_tokens=10)]))
    model.invoke("hi", watched(callback))
    assert [call.model for call in sink.of(ModelCall)] == ["gpt-4o-mini"]


# --- odd ways to be told ---------------------------------------------------------------------------------------------


def test_an_end_without_a_start_still_counts_what_it_says(sink: ListSink, callback: UsageCallback) -> None:
    message = AIMessage(
        "x",
        usage_metadata={"input_tokens": 10, "output_tokens": 1, "total_tokens": 11},
        response_metadata={"model_name": "gpt-4o-mini"},
    )
    callback.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]), run_id=uuid.uuid4())
    (call,) = sink.of(ModelCall)
    assert (call.model, call.cost_usd, call.latency_seconds) == ("gpt-4o-mini", Decimal("0.000028"), None)


def test_an_end_without_a_start_or_usage_is_a_call_of_unknown_size(sink: ListSink, callback: UsageCallback) -> None:
    callback.on_llm_end(LLMResult(generations=[[Generation(text="x")]]), run_id=uuid.uuid4())
    callback.on_llm_end(LLMResult(generations=[]), run_id=uuid.uuid4())
    assert [(call.usage, call.usage_source, call.cost_usd) for call in sink.of(ModelCall)] == [(None, None, None)] * 2


def test_a_run_that_is_told_of_twice_counts_once(sink: ListSink, callback: UsageCallback) -> None:
    run = uuid.uuid4()
    callback.on_chat_model_start({}, [[HumanMessage("hi")]], run_id=run)
    for _ in range(2):
        message = ai("x", input_tokens=10)
        callback.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]), run_id=run)
    assert len(sink.of(ModelCall)) == 1


def test_runs_that_never_end_do_not_pile_up(callback: UsageCallback) -> None:
    for _ in range(5000):
        callback.on_llm_start({}, ["x"], run_id=uuid.uuid4())
        callback.on_llm_end(LLMResult(generations=[]), run_id=uuid.uuid4())
    assert len(callback._runs) == 4096
    assert len(callback._ended) == 4096


def test_only_model_events_are_asked_for(callback: UsageCallback) -> None:
    assert (callback.ignore_llm, callback.ignore_chat_model, callback.raise_error) == (False, False, False)
    assert callback.ignore_chain
    assert callback.ignore_agent
    assert callback.ignore_retriever
    assert callback.ignore_retry


def test_other_runs_go_by_unnoticed(sink: ListSink, callback: UsageCallback) -> None:
    RunnableLambda(lambda x: x).invoke(1, watched(callback))
    assert sink.events == []


def test_the_clock_that_is_given_dates_the_event(sink: ListSink) -> None:
    clock = FakeClock()
    ScriptedModel().invoke("hi", watched(UsageCallback(sink=sink, clock=clock)))
    assert [call.at for call in sink.of(ModelCall)] == [clock()]


def test_it_tells_the_telemetry_that_it_is_given() -> None:
    telemetry = Telemetry(pricing=PRICING)
    model = ScriptedModel(responses=[ai("x", input_tokens=1000)])
    for callback in (UsageCallback(telemetry), UsageCallback(sink=telemetry)):
        model.invoke("hi", watched(callback))
    assert telemetry.report().measured.cost_usd == Decimal("0.004")
    telemetry.close()
