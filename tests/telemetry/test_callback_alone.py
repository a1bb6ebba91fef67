"""`UsageCallback` with nothing else around it: what it has seen so far, told apart, and as a `with` block."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.messages import AIMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import ModelCall, Who
from langchain_tokopt.pricing import Pricing, Rates
from langchain_tokopt.telemetry import Telemetry, UsageCallback, UsageMiddleware, tokopt_usage
from langchain_tokopt.telemetry.report import Usage
from langchain_tokopt.telemetry.totals import CallTotals, Totals
from tests.fakes import ListSink, ScriptedModel, ai
from tests.telemetry.watching import AGENT_WAYS, WAYS, Way, agent, ask

PRICING = Pricing(
    overrides={
        "gpt-4o-mini": Rates(provider="openai", model="gpt-4o-mini", input=Decimal(2), output=Decimal(8)),
        "small": Rates(provider="openai", model="small", input=Decimal(1), output=Decimal(1)),
    }
)


def answer(**settings: Any) -> ScriptedModel:
    return ScriptedModel(**{"responses": [ai("hello you", input_tokens=1000, output_tokens=20)], **settings})


def callback(**settings: Any) -> UsageCallback:
    return UsageCallback(pricing=PRICING, **settings)


ONE = CallTotals(
    calls=1,
    measured=Usage(calls=1, input_tokens=1000, output_tokens=20, cache_read_tokens=0, cost_usd=Decimal("0.00216")),
)
TWO = CallTotals(
    calls=2,
    measured=Usage(calls=2, input_tokens=2000, output_tokens=40, cache_read_tokens=0, cost_usd=Decimal("0.00432")),
)


# --- totals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_it_adds_up_what_it_sees(way: Way) -> None:
    watch = callback()
    assert watch.usage == CallTotals()
    chain = ChatPromptTemplate.from_template("{q}") | answer()
    for _ in range(2):
        await way(chain, {"q": "hi"}, {"callbacks": [watch]})
    assert watch.usage == TWO
    assert watch.by("model", "provider") == {("gpt-4o-mini", "openai"): TWO}


def test_what_is_measured_and_what_is_estimated_are_no_sum() -> None:
    watch = callback()
    for response in (ai("x", input_tokens=10, output_tokens=1), "without usage", ConnectionError("gone")):
        model = ScriptedModel(responses=[response])
        if isinstance(response, Exception):
            with pytest.raises(ConnectionError):
                model.invoke("hi", {"callbacks": [watch]})
        else:
            model.invoke("hi", {"callbacks": [watch]})
    seen = watch.usage
    assert (seen.calls, seen.failed, seen.measured.calls, seen.estimated.calls) == (3, 1, 1, 1)
    assert (seen.measured.input_tokens, seen.measured.cost_usd) == (10, Decimal("0.000028"))


def test_what_nobody_says_is_none_and_a_price_that_is_not_known_is_no_price_of_0() -> None:
    watch = callback()
    ScriptedModel(responses=[AIMessage("x", usage_metadata=_usage(7, 3))], model_name="strange").invoke(
        "hi", {"callbacks": [watch]}
    )
    assert watch.usage.measured == Usage(calls=1, input_tokens=7, output_tokens=3, unpriced=1)


def test_cached_and_reasoning_tokens_are_parts_of_the_sums() -> None:
    watch = callback()
    usage: Any = {
        **_usage(100, 50),
        "input_token_details": {"cache_read": 60, "cache_creation": 30},
        "output_token_details": {"reasoning": 40},
    }
    for _ in range(2):
        ScriptedModel(responses=[AIMessage("x", usage_metadata=usage)]).invoke("hi", {"callbacks": [watch]})
    seen = watch.usage.measured
    assert (seen.input_tokens, seen.output_tokens) == (200, 100)
    assert (seen.cache_read_tokens, seen.cache_write_tokens, seen.reasoning_tokens) == (120, 60, 80)


def test_it_agrees_with_langchains_own_handler() -> None:
    watch = callback()
    models = [answer(), answer(model_name="small", responses=[ai("x", input_tokens=5, output_tokens=2)])]
    with get_usage_metadata_callback() as theirs:
        for model in [*models, models[0]]:
            model.invoke("hi", {"callbacks": [watch]})
    assert watch.usage_metadata == theirs.usage_metadata
    assert watch.by("model")["small"].measured.cost_usd == Decimal("0.000007")


@pytest.mark.parametrize("way", AGENT_WAYS)
async def test_threads_and_agents_are_told_apart(way: Way) -> None:
    watch = callback()
    for name in ("writer", "critic"):
        runnable = agent(answer(), name=name, checkpointer=InMemorySaver())
        for thread in ("t1", "t2"):
            await way(runnable, ask(), {"callbacks": [watch], "configurable": {"thread_id": thread, "user_id": "7"}})
    assert watch.by("agent") == {"writer": TWO, "critic": TWO}
    assert watch.by("thread") == {"t1": TWO, "t2": TWO}
    assert watch.by("thread", "agent", "user")["t1", "critic", "7"] == ONE
    assert (watch.usage.calls, watch.usage.measured.cost_usd) == (4, Decimal("0.00864"))


def test_there_are_no_other_dimensions() -> None:
    with pytest.raises(ConfigurationError, match=r"^by='colour' cannot be used: use one of these: model, provider"):
        callback().by("colour")


def test_it_counts_what_the_middleware_has_put_on_record() -> None:
    telemetry = Telemetry(pricing=PRICING)
    watch = UsageCallback(telemetry)
    for _ in range(2):
        agent(answer(), UsageMiddleware(telemetry)).invoke(ask(), {"callbacks": [watch]})
    assert watch.usage == TWO
    assert len(list(telemetry.events(ModelCall))) == 2
    telemetry.close()


def test_a_fresh_start() -> None:
    watch = callback()
    answer().invoke("hi", {"callbacks": [watch]})
    watch.reset()
    assert (watch.usage, watch.by("model"), watch.usage_metadata) == (CallTotals(), {}, {})
    answer().invoke("hi", {"callbacks": [watch]})
    assert watch.usage == ONE


def test_threads_lose_nothing() -> None:
    watch, model = callback(), answer()
    config: Any = {"callbacks": [watch]}

    def work() -> None:
        for _ in range(25):
            model.invoke("hi", config)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (watch.usage.calls, watch.usage.measured.input_tokens) == (200, 200_000)


def test_memory_is_bounded_and_the_sums_stay_whole() -> None:
    totals = Totals()
    for n in range(10_050):
        totals.add(ModelCall(model="m", who=Who(thread=str(n)), usage=_usage(1, 1), usage_source="provider"))
    assert totals.all().calls == 10_050
    assert totals.by("model")["m"].calls == 10_050
    assert totals.by("thread")[None].calls == 51
    for n in range(10_050):
        totals.add(ModelCall(model=str(n)))
    assert len(totals._by) == 10_000
    assert totals.all().calls == 20_100


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", AGENT_WAYS)
async def test_each_run_of_a_graph_is_told_apart_with_the_agents_in_its_tools(way: Way) -> None:
    inner = agent(answer())

    @tool
    def research(question: str) -> str:
        """Look into something."""
        return str(inner.invoke(ask(question))["messages"][-1].text)

    call = {"name": "research", "args": {"question": "?"}}
    watch, runs = callback(follow_runs=True), []
    for run in ("018f3f5e-0000-7000-8000-00000000000a", "018f3f5e-0000-7000-8000-00000000000b"):
        outer = ScriptedModel(
            responses=[
                ai(tool_calls=[call], input_tokens=500, output_tokens=10),
                ai("done", input_tokens=500, output_tokens=10),
            ]
        )
        await way(agent(outer, tools=[research]), ask(), {"callbacks": [watch], "run_id": run})
        runs.append(run)
    found = watch.by("run")
    assert list(found) == runs
    assert {run: (seen.calls, seen.measured.input_tokens) for run, seen in found.items()} == dict.fromkeys(
        runs, (3, 2000)
    )
    assert watch._roots is not None
    assert watch._roots._root == {}


def test_runs_at_once_are_told_apart() -> None:
    watch = callback(follow_runs=True)
    branches = RunnableParallel(a=answer(), b=answer(), c=RunnableLambda(lambda _: answer().invoke("x")))
    branches.batch(["hi"] * 5, {"callbacks": [watch], "max_concurrency": 5})
    assert [seen.calls for seen in watch.by("run").values()] == [3] * 5


def test_a_run_that_fails_is_forgotten_when_it_has_ended() -> None:
    watch = callback(follow_runs=True)
    chain = RunnableLambda(lambda _: answer().invoke("x").text) | ScriptedModel(responses=[ValueError("no")])
    with pytest.raises(ValueError, match="no"):
        chain.invoke("hi", {"callbacks": [watch]})
    (seen,) = watch.by("run").values()
    assert (seen.calls, seen.failed) == (2, 1)
    assert watch._roots is not None
    assert watch._roots._root == {}


def test_without_being_asked_it_is_told_of_model_calls_only() -> None:
    watch = callback()
    assert (watch.ignore_chain, watch.ignore_agent, watch.ignore_retriever) == (True, True, True)
    agent(answer()).invoke(ask(), {"callbacks": [watch]})
    assert watch.by("run") == {None: ONE}


# --- a block ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_a_block_sees_what_happens_in_it_and_nothing_else(way: Way) -> None:
    model = answer()
    await way(model, "before", None)
    with tokopt_usage(pricing=PRICING) as watch:
        await way(model, "in it", None)
        await way(agent(model), ask(), {"callbacks": []})
    await way(model, "after", None)
    assert watch.usage == TWO


async def test_a_block_sees_tasks_and_the_threads_of_langchain() -> None:
    sink = ListSink()
    with tokopt_usage(sink=sink, pricing=PRICING) as watch:
        await asyncio.gather(*(answer().ainvoke("x") for _ in range(3)))
        answer().batch(["a", "b"])
        RunnableParallel(a=answer(), b=answer()).invoke("x")
    assert watch.usage.calls == len(sink.events) == 7


def test_blocks_may_be_nested() -> None:
    with tokopt_usage(pricing=PRICING) as outer:
        answer().invoke("x")
        with tokopt_usage(pricing=PRICING) as inner:
            answer().invoke("x")
        answer().invoke("x")
    assert inner.usage == ONE
    assert (outer.usage.calls, outer.usage.measured.input_tokens) == (3, 3000)


def test_a_block_ends_with_an_error_too() -> None:
    with pytest.raises(KeyError), tokopt_usage() as watch:
        raise KeyError("x")
    answer().invoke("x")
    assert watch.usage.calls == 0


def test_a_block_beside_a_handler_of_the_same_call() -> None:
    handler = callback()
    with tokopt_usage(pricing=PRICING) as watch:
        answer().invoke("x", {"callbacks": [handler, watch]})
    assert handler.usage == watch.usage == ONE


def test_blocks_leave_nothing_behind_in_langchain() -> None:
    from langchain_core.tracers.context import _configure_hooks

    with tokopt_usage():
        before = len(_configure_hooks)
    for _ in range(5):
        with tokopt_usage():
            pass
    assert len(_configure_hooks) == before


# --- showing ---------------------------------------------------------------------------------------------------------


def test_it_shows_itself_as_a_small_table() -> None:
    watch = callback()
    answer().invoke("hi", {"callbacks": [watch]})
    ScriptedModel(responses=["no usage"], model_name="<b>strange</b>").invoke("hi", {"callbacks": [watch]})
    with pytest.raises(ConnectionError):
        ScriptedModel(responses=[ConnectionError("gone")], model_name="gone").invoke("hi", {"callbacks": [watch]})
    shown = watch._repr_html_()
    assert "<td>gpt-4o-mini</td>" in shown
    assert ">$0.00216</td>" in shown
    assert "<td>&lt;b&gt;strange&lt;/b&gt; (estimated)</td>" in shown
    assert "<td>gone (no usage)</td>" in shown
    assert "<b>" not in shown
    assert "gpt-4o-mini: 1 calls, 1,000 + 20 tokens, $0.00216" in repr(watch)


def _usage(read: int, said: int) -> Any:
    return {"input_tokens": read, "output_tokens": said, "total_tokens": read + said}
