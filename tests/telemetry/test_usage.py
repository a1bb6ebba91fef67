"""`UsageMiddleware`: one `ModelCall` for each call that reaches the model, and nothing changed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from langchain.agents.middleware import ModelRetryMiddleware
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langgraph.errors import GraphInterrupt

from langchain_tokopt.events import Failure, ModelCall, Who
from langchain_tokopt.flow import drive, internal_call
from langchain_tokopt.pricing import Pricing, Rates
from langchain_tokopt.telemetry import Telemetry, UsageMiddleware
from tests.fakes import FakeClock, ListSink, ScriptedModel, ai
from tests.telemetry.watching import AGENT_WAYS, Way, agent, ask, invoke

RATES = Rates(
    provider="openai",
    model="gpt-4o-mini",
    input=Decimal(2),
    output=Decimal(8),
    cache_read=Decimal(1),
    caching="automatic",
    cache_ttl_seconds=300.0,
)
PRICING = Pricing(overrides={"gpt-4o-mini": RATES})


class Ticks:
    """A timer that goes on by one second each time that it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


def usage(sink: ListSink, **settings: Any) -> UsageMiddleware:
    return UsageMiddleware(sink=sink, pricing=PRICING, timer=Ticks(), **settings)


def request(model: Any, *texts: str, system: str | None = None, **settings: Any) -> ModelRequest[Any]:
    messages: Any = [HumanMessage(text) for text in texts or ("hi",)]
    return ModelRequest(
        model=model, messages=messages, system_message=SystemMessage(system) if system else None, **settings
    )


def answer(message: AIMessage) -> Any:
    return lambda _: ModelResponse(result=[message])


@pytest.mark.parametrize("way", AGENT_WAYS)
async def test_what_the_provider_reports_is_recorded_with_its_cost(sink: ListSink, way: Way) -> None:
    model = ScriptedModel(responses=[ai("hello you", input_tokens=1000, output_tokens=20, cache_read=400)])
    await way(agent(model, usage(sink)), ask(), {"configurable": {"thread_id": "t1"}})
    (call,) = sink.of(ModelCall)
    assert (call.provider, call.model, call.usage_source, call.error) == ("openai", "gpt-4o-mini", "provider", None)
    assert call.usage is not None
    assert (call.usage["input_tokens"], call.usage["output_tokens"]) == (1000, 20)
    assert call.usage["input_token_details"] == {"cache_read": 400}
    assert call.cost_usd == Decimal("0.00176")  # 600 x 2 + 400 x 1 + 20 x 8, per million
    assert call.latency_seconds == 1.0
    assert (call.who.thread, call.who.node) == ("t1", "model")
    assert call.request is not None
    assert not call.internal
    assert len(sink.events) == 1


@pytest.mark.parametrize("way", AGENT_WAYS)
async def test_without_reported_usage_it_is_estimated_and_says_so(sink: ListSink, way: Way) -> None:
    await way(agent(ScriptedModel(responses=["hello you"]), usage(sink)), ask("what is this?"), {})
    (call,) = sink.of(ModelCall)
    assert call.usage_source == "estimate"
    assert call.usage is not None
    assert call.usage["input_tokens"] > 3
    assert call.usage["output_tokens"] > 1
    assert call.cost_usd == Decimal(2 * call.usage["input_tokens"] + 8 * call.usage["output_tokens"]) / 1_000_000


def test_a_reported_zero_is_no_report(sink: ListSink) -> None:
    drive(usage(sink).run_flow, request(ScriptedModel()), answer(ai("x", input_tokens=0)))
    assert sink.of(ModelCall)[0].usage_source == "estimate"


@pytest.mark.parametrize(
    "metadata",
    [
        {"token_usage": {"prompt_tokens": 70, "completion_tokens": 3, "total_tokens": 73}},
        {"usage": {"input_tokens": 70, "output_tokens": 3}},
    ],
)
def test_usage_that_older_integrations_put_elsewhere_is_found(sink: ListSink, metadata: dict[str, Any]) -> None:
    drive(usage(sink).run_flow, request(ScriptedModel()), answer(AIMessage("x", response_metadata=metadata)))
    (call,) = sink.of(ModelCall)
    assert call.usage == {"input_tokens": 70, "output_tokens": 3, "total_tokens": 73}
    assert call.usage_source == "provider"


def test_a_model_without_a_price_has_no_cost(sink: ListSink) -> None:
    model = ScriptedModel(model_name="nobody-knows-me", provider="nowhere")
    drive(usage(sink).run_flow, request(model), answer(ai("x", input_tokens=10)))
    (call,) = sink.of(ModelCall)
    assert (call.model, call.cost_usd) == ("nobody-knows-me", None)


def test_the_name_that_the_provider_gives_prices_a_deployment_with_a_name_of_its_own(sink: ListSink) -> None:
    model = ScriptedModel(model_name="our-deployment", provider="openai")
    message = AIMessage(
        "x",
        usage_metadata={"input_tokens": 1000, "output_tokens": 0, "total_tokens": 1000},
        response_metadata={"model_name": "gpt-4o-mini"},
    )
    drive(usage(sink).run_flow, request(model), answer(message))
    (call,) = sink.of(ModelCall)
    assert (call.model, call.cost_usd) == ("our-deployment", Decimal("0.002"))


def test_a_model_in_the_settings_of_the_request_is_the_one_that_is_called(sink: ListSink) -> None:
    sent = request(ScriptedModel(model_name="other"), model_settings={"model": "gpt-4o-mini"})
    drive(usage(sink).run_flow, sent, answer(ai("x", input_tokens=1000)))
    assert (sink.of(ModelCall)[0].model, sink.of(ModelCall)[0].cost_usd) == ("gpt-4o-mini", Decimal("0.002"))


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", AGENT_WAYS)
async def test_a_failed_call_is_recorded_and_its_error_goes_on(sink: ListSink, way: Way) -> None:
    error = ConnectionError("gone")
    with pytest.raises(ConnectionError) as caught:
        await way(agent(ScriptedModel(responses=[error]), usage(sink)), ask(), {})
    assert caught.value is error
    (call,) = sink.of(ModelCall)
    assert (call.error, call.usage, call.usage_source, call.cost_usd) == ("ConnectionError", None, None, None)
    assert call.model == "gpt-4o-mini"
    assert len(sink.events) == 1


def test_every_attempt_of_a_retry_is_a_call(sink: ListSink) -> None:
    model = ScriptedModel(responses=[ValueError("a"), ValueError("b"), ai("x", input_tokens=10)])
    retry: Any = ModelRetryMiddleware(max_retries=3, initial_delay=0.0, jitter=False)
    agent(model, retry, usage(sink)).invoke(ask())
    assert [call.error for call in sink.of(ModelCall)] == ["ValueError", "ValueError", None]


def test_an_interrupt_is_no_call(sink: ListSink) -> None:
    def handler(_: Any) -> Any:
        raise GraphInterrupt

    with pytest.raises(GraphInterrupt):
        drive(usage(sink).run_flow, request(ScriptedModel()), handler)
    assert sink.events == []


async def test_a_cancelled_call_is_counted_at_its_input_as_an_estimate(sink: ListSink) -> None:
    started = asyncio.Event()

    async def handler(_: Any) -> Any:
        started.set()
        await asyncio.sleep(3600)

    task = asyncio.ensure_future(usage(sink).awrap_model_call(request(ScriptedModel()), handler))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (call,) = sink.of(ModelCall)
    assert (call.error, call.usage_source) == ("CancelledError", "estimate")
    assert call.usage is not None
    assert call.usage["input_tokens"] > 0


def test_what_was_streamed_before_an_error_is_counted_as_an_estimate(sink: ListSink) -> None:
    error = ConnectionError("gone")
    error.tokopt_partial = AIMessageChunk(content="half an answer")  # type: ignore[attr-defined]

    def handler(_: Any) -> Any:
        raise error

    with pytest.raises(ConnectionError):
        drive(usage(sink).run_flow, request(ScriptedModel()), handler)
    (call,) = sink.of(ModelCall)
    assert (call.error, call.usage_source) == ("ConnectionError", "estimate")
    assert call.usage is not None
    assert call.usage["output_tokens"] > 2


# --- what is no call -------------------------------------------------------------------------------------------------


def test_a_hit_of_langchains_cache_is_no_call(sink: ListSink) -> None:
    model = ScriptedModel(responses=[ai("x", input_tokens=10)], cache=InMemoryCache())
    runnable = agent(model, usage(sink))
    runnable.invoke(ask())
    runnable.invoke(ask())
    assert len(model.calls) == 1
    assert len(sink.of(ModelCall)) == 1


def test_a_hit_of_our_cache_is_no_call(sink: ListSink) -> None:
    message = AIMessage("x", response_metadata={"tokopt": {"cache": "exact"}})
    drive(usage(sink).run_flow, request(ScriptedModel()), answer(message))
    assert sink.events == []


def test_internal_calls_are_marked(sink: ListSink) -> None:
    drive(usage(sink).run_flow, internal_call(request(ScriptedModel())), answer(ai("x", input_tokens=10)))
    assert sink.of(ModelCall)[0].internal


# --- whose, and in which mode ----------------------------------------------------------------------------------------


@dataclass
class Context:
    tenant: str
    user_id: str


def test_whose_call_it_is_is_read_from_the_context(sink: ListSink) -> None:
    runnable = agent(ScriptedModel(), usage(sink), context_schema=Context)
    runnable.invoke(ask(), {"metadata": {"project": "p"}}, context=Context("acme", "u1"))
    assert sink.of(ModelCall)[0].who == Who(tenant="acme", user="u1", project="p", node="model")


def test_a_call_is_a_fact_in_shadow_mode_too(sink: ListSink) -> None:
    agent(ScriptedModel(responses=[ai("x", input_tokens=10)]), usage(sink, mode="shadow")).invoke(ask())
    assert [call.mode for call in sink.of(ModelCall)] == ["optimize"]


def test_the_request_and_the_response_are_not_touched(sink: ListSink) -> None:
    sent, response = request(ScriptedModel()), ModelResponse[Any](result=[ai("x")])
    seen: list[Any] = []

    def handler(given: ModelRequest[Any]) -> Any:
        seen.append(given)
        return response

    assert drive(usage(sink).run_flow, sent, handler) is response
    assert seen[0] is sent


def test_a_counter_that_fails_does_not_stop_the_call(sink: ListSink) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("cannot count")

    broken: Any = Broken()
    result = agent(ScriptedModel(responses=["fine"]), usage(sink, counter=broken)).invoke(ask())
    assert result["messages"][-1].text == "fine"
    assert [failure.part for failure in sink.of(Failure)] == ["usage"]


def test_it_tells_the_telemetry_that_it_is_given() -> None:
    telemetry = Telemetry(pricing=PRICING)
    model = ScriptedModel(responses=[ai("x", input_tokens=1000)])
    agent(model, UsageMiddleware(telemetry)).invoke(ask())
    agent(model, UsageMiddleware(sink=telemetry)).invoke(ask())
    assert [call.cost_usd for call in telemetry.events(ModelCall) if isinstance(call, ModelCall)] == [
        Decimal("0.002")
    ] * 2
    telemetry.close()


async def test_without_anybody_to_tell_it_is_silent() -> None:
    model = ScriptedModel()
    await invoke(agent(model, UsageMiddleware()), ask(), {})
    assert len(model.calls) == 1


# --- the repeated prefix ---------------------------------------------------------------------------------------------


def repeated(sink: ListSink) -> list[int | None]:
    return [call.repeated_prefix_tokens for call in sink.of(ModelCall)]


def test_the_prefix_that_was_sent_before_is_measured_in_the_providers_tokens(sink: ListSink) -> None:
    flow = usage(sink).run_flow
    model = ScriptedModel()
    drive(flow, request(model, "one", system="s" * 400), answer(ai("x", input_tokens=1000)))
    drive(flow, request(model, "one", system="s" * 400), answer(ai("x", input_tokens=1000)))
    drive(flow, request(model, "other", system="s" * 400), answer(ai("x", input_tokens=1000)))
    drive(flow, request(model, "one", system="t" * 400), answer(ai("x", input_tokens=1000)))
    first, same, start, none = repeated(sink)
    assert (first, same, none) == (0, 1000, 0)
    assert start is not None
    assert 800 < start < 1000


def test_a_prefix_is_forgotten_after_the_providers_time(sink: ListSink) -> None:
    clock = FakeClock()
    flow = usage(sink, clock=clock).run_flow
    for wait in (0, 299, 299, 301):
        clock.advance(wait)
        drive(flow, request(ScriptedModel()), answer(ai("x", input_tokens=100)))
    assert repeated(sink) == [0, 100, 100, 0]
    assert [call.at for call in sink.of(ModelCall)][-1] == clock()


def test_models_do_not_share_a_prefix(sink: ListSink) -> None:
    flow = usage(sink).run_flow
    for name in ("gpt-4o-mini", "gpt-4o", "gpt-4o-mini"):
        drive(flow, request(ScriptedModel(model_name=name)), answer(ai("x", input_tokens=100)))
    assert repeated(sink) == [0, 0, 100]


def test_a_call_that_failed_left_nothing_at_the_provider(sink: ListSink) -> None:
    flow = usage(sink).run_flow

    def fails(_: Any) -> Any:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        drive(flow, request(ScriptedModel()), fails)
    drive(flow, request(ScriptedModel()), answer(ai("x", input_tokens=100)))
    assert repeated(sink)[-1] == 0


def test_the_memory_of_prefixes_is_bounded() -> None:
    from langchain_tokopt.telemetry.metering import SentPrefixes

    prefixes = SentPrefixes(max_entries=10, clock=FakeClock())
    for n in range(100):
        prefixes.sent([bytes([n])], 60.0)
    assert len(prefixes._expires) == 10
    assert prefixes.repeated([bytes([99])]) == 1
    assert prefixes.repeated([bytes([0])]) == 0
