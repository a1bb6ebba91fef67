"""What each part did to a request stands in the metadata of the runs that a tracer keeps; nothing is sent by us."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any
from unittest.mock import MagicMock
from uuid import uuid4

import pytest
from langchain.agents.middleware.types import ModelRequest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tracers import BaseTracer, LangChainTracer, Run
from langsmith import tracing_context

from langchain_tokopt.caller import ModelRun, active_run, call_who, using_run
from langchain_tokopt.events import CacheLookup, Decision, Failure, Reservation, request_scope
from langchain_tokopt.flow import Flow, FlowMiddleware, compose
from langchain_tokopt.model import OptimizedChatModel
from langchain_tokopt.pricing import Pricing, Rates
from langchain_tokopt.surroundings import beside_the_run
from langchain_tokopt.telemetry import FanOut, RunMetadata, Telemetry, UsageMiddleware
from tests.fakes import ListSink, ScriptedModel, ai
from tests.telemetry.watching import AGENT_WAYS, WAYS, Way, agent, ask

PRICING = Pricing(
    overrides={"gpt-4o-mini": Rates(provider="openai", model="gpt-4o-mini", input=Decimal(2), output=Decimal(8))}
)

BEFORE = {
    "tokopt_cache_outcome": "miss",
    "tokopt_history_action": "applied",
    "tokopt_history_tokens_before": 100,
    "tokopt_history_tokens_after": 60,
    "tokopt_history_saved_tokens": 40,
    "tokopt_history_saved_cost_exact": "0.1",
    "tokopt_saved_cost_exact": "0.1",
    "tokopt_budget_reserved_cost_exact": "0.5",
}
AFTER = {"tokopt_cost_exact": "0.00216", "tokopt_tokens_input": 1000, "tokopt_budget_settled_cost_exact": "0.00216"}


class Parts(FlowMiddleware):
    """Says what the optimiser's parts say, before and after the call."""

    part = "parts"

    def flow(self, request: ModelRequest[Any]) -> Flow:
        who = call_who(request)
        self.sink.emit(CacheLookup(who=who, outcome="miss"))
        saved = {"tokens_before": 100, "tokens_after": 60, "saved_usd": Decimal("0.1")}
        self.sink.emit(Decision(who=who, part="history", action="applied", **saved))  # type: ignore[arg-type]
        self.sink.emit(Reservation(who=who, action="reserved", reservation="r", usd=Decimal("0.5")))
        response = yield request
        self.sink.emit(Reservation(who=who, action="settled", reservation="r", usd=Decimal("0.00216")))
        return response


class Recorded(BaseTracer):
    """A tracer that keeps the runs that it would send, when they end."""

    def __init__(self) -> None:
        super().__init__()
        self.roots: list[Run] = []

    def _persist_run(self, run: Run) -> None:
        self.roots.append(run)

    def metadata(self, kind: str, name: str | None = None) -> list[dict[str, Any]]:
        """Our part of the metadata of all runs of a kind."""
        found, todo = [], list(self.roots)
        while todo:
            run = todo.pop(0)
            todo.extend(run.child_runs)
            if run.run_type in kind.split("|") and name in (None, run.name):
                found.append(ours((run.extra or {}).get("metadata")))
        return found


class Starts(BaseCallbackHandler):
    """A handler that is no tracer of LangChain's, such as Langfuse's: it reads the metadata when a run begins."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, Any]] = []

    def on_chat_model_start(self, *args: Any, metadata: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.metadata.append(ours(metadata))


def ours(metadata: Any) -> dict[str, Any]:
    return {key: value for key, value in (metadata or {}).items() if key.startswith("tokopt_")}


def holds(metadata: dict[str, Any], expected: dict[str, Any]) -> bool:
    return expected.items() <= metadata.items()


def flows() -> tuple[list[FlowMiddleware], ListSink]:
    runs, events = RunMetadata(), ListSink()
    sink = FanOut(events, runs)
    usage = UsageMiddleware(sink=sink, pricing=PRICING, run_metadata=runs)
    return [Parts(sink=sink), usage], events


def model(**settings: Any) -> ScriptedModel:
    return ScriptedModel(**{"responses": [ai("hello you", input_tokens=1000, output_tokens=20)], **settings})


def wrapped() -> OptimizedChatModel:
    return OptimizedChatModel.around(model(), compose(*(middleware.run_flow for middleware in flows()[0])))


@pytest.mark.parametrize("way", AGENT_WAYS)
async def test_in_an_agent_the_models_run_has_what_was_done_before_and_the_step_has_all(way: Way) -> None:
    tracer, starts = Recorded(), Starts()
    await way(agent(model(), *flows()[0]), ask(), {"callbacks": [tracer, starts], "metadata": {"mine": 1}})
    (of_model,) = tracer.metadata("llm|chat_model")
    assert holds(of_model, BEFORE)
    assert not AFTER.keys() & of_model.keys()
    assert starts.metadata == [of_model]
    (of_step,) = tracer.metadata("chain", "model")
    assert holds(of_step, {**BEFORE, **AFTER})
    (root,) = tracer.roots
    assert (ours(root.metadata), root.metadata["mine"]) == ({}, 1)


@pytest.mark.parametrize("way", WAYS)
async def test_the_run_of_a_wrapped_model_has_all(way: Way) -> None:
    tracer = Recorded()
    await way(wrapped(), "hi", {"callbacks": [tracer], "metadata": {"mine": 1}})
    (found,) = tracer.metadata("llm|chat_model")
    assert holds(found, {**BEFORE, **AFTER})
    (root,) = tracer.roots
    assert root.metadata["mine"] == 1


@pytest.mark.parametrize("way", WAYS)
async def test_in_a_chain_only_the_run_of_the_wrapped_model_has_it(way: Way) -> None:
    tracer = Recorded()
    await way(ChatPromptTemplate.from_template("{q}") | wrapped(), {"q": "hi"}, {"callbacks": [tracer]})
    assert [holds(found, {**BEFORE, **AFTER}) for found in tracer.metadata("llm|chat_model")] == [True]
    assert tracer.metadata("chain|prompt") == [{}, {}]


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
@pytest.mark.parametrize("how", ["agent", "wrap"])
def test_langsmiths_tracer_sends_it_with_the_run_as_any_metadata(how: str, way: str) -> None:
    client = MagicMock()
    tracer = LangChainTracer(client=client, project_name="test")
    runnable: Any = agent(model(), *flows()[0]) if how == "agent" else wrapped()
    given, config = ask() if how == "agent" else "hi", {"callbacks": [tracer]}

    async def collect() -> None:
        async for _ in runnable.astream(given, config):
            pass

    if way == "invoke":
        runnable.invoke(given, config)
    elif way == "ainvoke":
        asyncio.run(runnable.ainvoke(given, config))
    elif way == "stream":
        list(runnable.stream(given, config))
    else:
        asyncio.run(collect())
    updates = [update.kwargs for update in client.update_run.call_args_list]
    (of_model,) = [update for update in updates if update["run_type"] in ("llm", "chat_model")]
    assert holds(of_model["extra"]["metadata"], BEFORE if how == "agent" else {**BEFORE, **AFTER})
    if how == "agent":
        (of_step,) = [update for update in updates if update["name"] == "model"]
        assert holds(of_step["extra"]["metadata"], {**BEFORE, **AFTER})


def test_tracing_that_is_turned_on_without_a_handler() -> None:
    client = MagicMock()
    with tracing_context(enabled=True, client=client):
        wrapped().invoke("hi")
        list((ChatPromptTemplate.from_template("{q}") | wrapped()).stream({"q": "hi"}))
    updates = [update.kwargs for update in client.update_run.call_args_list]
    of_models = [update["extra"]["metadata"] for update in updates if update["run_type"] in ("llm", "chat_model")]
    assert [holds(found, {**BEFORE, **AFTER}) for found in of_models] == [True, True]


@pytest.mark.parametrize("way", AGENT_WAYS)
async def test_a_hit_in_an_agent_is_on_the_run_of_the_step(way: Way) -> None:
    class Hits(FlowMiddleware):
        part = "cache"

        def flow(self, request: ModelRequest[Any]) -> Flow:
            self.sink.emit(CacheLookup(outcome="semantic", similarity=0.97, saved_usd=Decimal("0.01")))
            from langchain.agents.middleware.types import ModelResponse

            return ModelResponse(result=[AIMessage("known")])
            yield request  # type: ignore[unreachable]

    tracer = Recorded()
    await way(agent(model(), Hits(sink=RunMetadata())), ask(), {"callbacks": [tracer]})
    assert tracer.metadata("llm|chat_model") == []
    (of_step,) = tracer.metadata("chain", "model")
    assert holds(of_step, {"tokopt_cache_outcome": "semantic", "tokopt_cache_saved_cost_exact": "0.01"})


@pytest.mark.parametrize("way", AGENT_WAYS)
async def test_without_a_tracer_the_model_is_called_as_it_is(way: Way) -> None:
    seen: list[Any] = []

    class Inner(FlowMiddleware):
        part = "inner"

        def flow(self, request: ModelRequest[Any]) -> Flow:
            seen.append(request.model)
            return (yield request)

    bare = model()
    await way(agent(bare, *flows()[0], Inner()), ask(), {})
    assert seen == [bare]
    assert seen[0] is bare


def test_the_users_own_metadata_and_model_stay_as_they_were() -> None:
    tracer, mine = Recorded(), {"mine": 1}
    named = model(metadata={"of_model": True})
    runnable = agent(named, *flows()[0])
    before = dict(named.metadata or {})
    for _ in range(2):
        runnable.invoke(ask(), {"callbacks": [tracer], "metadata": mine})
    assert (mine, named.metadata) == ({"mine": 1}, before)
    first, second = tracer.metadata("llm|chat_model")
    assert first == second
    last = next(child for child in tracer.roots[-1].child_runs if child.name == "model")
    assert last.child_runs[-1].metadata["of_model"] is True


def test_parallel_requests_are_kept_apart() -> None:
    tracer = Recorded()
    agent(model(), *flows()[0]).batch([ask()] * 8, {"callbacks": [tracer], "max_concurrency": 8})
    assert [found["tokopt_history_tokens_before"] for found in tracer.metadata("llm|chat_model")] == [100] * 8
    assert [found["tokopt_tokens_input"] for found in tracer.metadata("chain", "model")] == [1000] * 8


def test_a_failure_is_there_too_and_sums_grow_with_each_call() -> None:
    class Twice(FlowMiddleware):
        part = "twice"

        def flow(self, request: ModelRequest[Any]) -> Flow:
            self.sink.emit(Failure(part="tools", error="ValueError: no"))
            yield request
            return (yield request)

    runs = RunMetadata()
    tracer = Recorded()
    usage = UsageMiddleware(sink=runs, pricing=PRICING, run_metadata=runs)
    agent(model(), Twice(sink=runs), usage).invoke(ask(), {"callbacks": [tracer]})
    (of_step,) = tracer.metadata("chain", "model")
    expected = {"tokopt_tools_error": "ValueError: no", "tokopt_calls": 2, "tokopt_cost_exact": "0.00432"}
    assert holds(of_step, expected)
    first, second = tracer.metadata("llm|chat_model")
    assert (first.get("tokopt_calls"), second.get("tokopt_calls")) == (None, 1)


def test_it_never_raises_and_memory_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(BaseCallbackHandler):
        @property
        def run_map(self) -> Any:
            raise RuntimeError("no")

    runs = RunMetadata()
    handler = Broken()
    flow: Any = compose(UsageMiddleware(sink=runs, run_metadata=runs).run_flow)
    for _ in range(2):
        OptimizedChatModel.around(model(), flow).invoke("hi", {"callbacks": [handler]})
    assert [record.getMessage() for record in caplog.records if "metadata" in record.getMessage()] == [
        "a run's metadata could not be written: RuntimeError: no"
    ]
    for _ in range(5000):
        with request_scope():
            runs._added(runs._requests, str(_), CacheLookup(outcome="miss"))
    assert len(runs._requests) == 4096


def test_a_call_in_the_background_is_not_part_of_the_run_that_it_came_from() -> None:
    with using_run(ModelRun(uuid4())):
        assert active_run() is not None
        assert beside_the_run().run(active_run) is None


def test_outside_of_any_run_nothing_happens() -> None:
    RunMetadata().emit(CacheLookup(outcome="miss"))
    telemetry = Telemetry()
    usage = UsageMiddleware(telemetry, sink=FanOut(telemetry, RunMetadata()), run_metadata=RunMetadata())
    OptimizedChatModel.around(model(), usage.run_flow).invoke([HumanMessage("hi")])
    assert telemetry.report().measured.calls == 1
    telemetry.close()
