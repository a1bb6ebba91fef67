"""Single calls of both providers through the optimiser: cache hits, refusals, errors, streams that are left, shadow."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRetryMiddleware
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage

from langchain_tokopt import Budget, BudgetExceededError, TokenOptimizer
from tests.budget.figures import root_of
from tests.providers.agents import (
    Run,
    Way,
    apis,
    at_once,
    chat_model,
    make_agent,
    measured,
    optimizer,
    ours,
    providers,
    run,
)
from tests.providers.replies import Asked, Failure, Provider, Reply, ToolCall
from tests.providers.server import ProviderServer
from tests.providers.weather import weather

QUESTION = "Which is the largest moon of Saturn?"
STREAMED: list[Run] = ["stream", "astream"]
FOUR: list[Run] = ["invoke", "ainvoke", "stream", "astream"]


def held(tokopt: TokenOptimizer) -> tuple[Decimal, int]:
    status = root_of(tokopt.status()["budget"])
    return status["usd"]["held"], status["tokens"]["held"]


def until(true: Callable[[], bool]) -> bool:
    """Whether it becomes true; what runs in other threads needs a moment."""
    for _ in range(2_000):
        if true():
            return True
        time.sleep(0.005)
    return False


# --- cache -----------------------------------------------------------------------------------------------------------


@apis
@ours
@pytest.mark.parametrize("kind", FOUR)
def test_cache_hit_makes_no_request(provider: ProviderServer, name: Provider, way: Way, kind: Run) -> None:
    provider.script = ["Titan is the largest one."]
    with optimizer() as tokopt:
        agent = make_agent(way, chat_model(name, provider), [weather], tokopt, system_prompt="Be brief.")
        first = run(kind, agent, [HumanMessage(QUESTION)])
        second = run(kind, agent, [HumanMessage(QUESTION)])
        assert len(provider.records) == 1
        assert second.answer == first.answer == "Titan is the largest one."
        assert second.messages[-1].id != first.messages[-1].id
        report = tokopt.report()
        assert (report.cache.exact, report.measured.calls) == (1, 1)
        assert measured(tokopt) == provider.billed
        if kind in STREAMED:
            assert second.streamed_text == first.streamed_text
        if kind in STREAMED and way == "wrap":
            assert len([chunk for chunk in second.chunks if isinstance(chunk, AIMessageChunk) and chunk.text]) > 1


@apis
def test_cache_hit_of_a_wrapped_model_streams_in_chunks(provider: ProviderServer, name: Provider) -> None:
    provider.script = ["Titan is the largest one."]
    with optimizer() as tokopt:
        model = tokopt.wrap(chat_model(name, provider))
        fresh = list(model.stream(QUESTION))
        again = list(model.stream(QUESTION))

        async def collect() -> list[AIMessageChunk]:
            return [chunk async for chunk in model.astream(QUESTION)]

        for chunks in (again, asyncio.run(collect())):
            assert all(isinstance(chunk, AIMessageChunk) for chunk in chunks)
            assert len([chunk for chunk in chunks if chunk.text]) == 5
            assert "".join(chunk.text for chunk in chunks) == "".join(chunk.text for chunk in fresh)
    assert len(provider.records) == 1


@providers
@ours
def test_answer_after_a_tool_call_is_asked_for_again(provider: ProviderServer, name: Provider, way: Way) -> None:
    def policy(asked: Asked) -> Reply:
        call = ToolCall(name="weather", args={"city": "Rome"})
        return Reply(text=asked.turn_results[-1]) if asked.turn_results else Reply(tool_calls=(call,))

    provider.policy = policy
    with optimizer() as tokopt:
        agent = make_agent(way, chat_model(name, provider), [weather], tokopt)
        for _ in range(2):
            assert run("invoke", agent, [HumanMessage("How warm is it in Rome?")]).answer == "Rome: 21 c"
    assert len(provider.answered) == 4


@providers
@ours
def test_cut_answer_is_not_served_again(provider: ProviderServer, name: Provider, way: Way) -> None:
    provider.script = ["x" * 100, "y" * 100]
    with optimizer() as tokopt:
        agent = make_agent(way, chat_model(name, provider, max_tokens=5), [], tokopt)
        assert [run("invoke", agent, [HumanMessage(QUESTION)]).answer[0] for _ in range(2)] == ["x", "y"]


# --- budget ----------------------------------------------------------------------------------------------------------


@providers
@ours
@pytest.mark.parametrize("kind", FOUR)
def test_refused_call_makes_no_request(provider: ProviderServer, name: Provider, way: Way, kind: Run) -> None:
    with optimizer(budget=Budget(usd="0.000001")) as tokopt:
        agent = make_agent(way, chat_model(name, provider), [weather], tokopt)
        with pytest.raises(BudgetExceededError):
            run(kind, agent, [HumanMessage(QUESTION)])
        assert held(tokopt) == (0, 0)
        assert tokopt.report().refused_calls == 1
    assert provider.records == []


@providers
@ours
@pytest.mark.parametrize("kind", ["invoke", "astream"])
def test_run_ends_when_the_budget_says_so(provider: ProviderServer, name: Provider, way: Way, kind: Run) -> None:
    with optimizer(budget=Budget(tokens=10, on_exceeded="end")) as tokopt:
        ran = run(kind, make_agent(way, chat_model(name, provider), [weather], tokopt), [HumanMessage(QUESTION)])
    assert "budget" in ran.answer.lower()
    assert provider.records == []


@providers
@ours
@pytest.mark.parametrize("kind", FOUR)
def test_budget_books_what_was_billed(provider: ProviderServer, name: Provider, way: Way, kind: Run) -> None:
    provider.script = [Reply(text="I look.", tool_calls=(ToolCall(name="weather", args={"city": "Rome"}),)), "Warm."]
    with optimizer(budget=Budget(usd=5, tokens=1_000_000)) as tokopt:
        run(kind, make_agent(way, chat_model(name, provider), [weather], tokopt), [HumanMessage("Rome?")])
        status = root_of(tokopt.status()["budget"])
        assert status["tokens"]["spent"] == provider.billed.total
        assert status["usd"]["spent"] == tokopt.report().measured.cost_usd
        assert held(tokopt) == (0, 0)


@providers
@ours
def test_answer_is_kept_within_what_is_left(provider: ProviderServer, name: Provider, way: Way) -> None:
    provider.script = ["word " * 5_000]
    with optimizer(budget=Budget(tokens=600)) as tokopt:
        run("invoke", make_agent(way, chat_model(name, provider), [], tokopt), [HumanMessage(QUESTION)])
        sent = provider.answered[0].body
        limit = sent.get("max_completion_tokens") or sent["max_tokens"]
        assert 256 <= limit <= 600
        assert provider.billed.output == limit
        assert provider.billed.total <= 600
        assert held(tokopt) == (0, 0)


@ours
@pytest.mark.parametrize("tokens", [900, 1_400, 100_000])
def test_clamped_answer_still_leaves_room_to_think(provider: ProviderServer, way: Way, tokens: int) -> None:
    provider.script = [Reply(thinking="Hm.", text="Titan.")]
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    with optimizer(budget=Budget(tokens=tokens)) as tokopt:
        agent = make_agent(way, chat_model("anthropic", provider, **thinking), [], tokopt)
        if tokens < 1024:
            with pytest.raises(BudgetExceededError):
                run("invoke", agent, [HumanMessage(QUESTION)])
        else:
            assert run("invoke", agent, [HumanMessage(QUESTION)]).answer == "Titan."
        assert held(tokopt) == (0, 0)


# --- errors and retries ----------------------------------------------------------------------------------------------


@providers
@ours
@pytest.mark.parametrize(("kind", "status"), [("invoke", 429), ("ainvoke", 500), ("stream", 500), ("astream", 429)])
def test_error_is_the_providers_own_and_frees_the_budget(
    provider: ProviderServer, name: Provider, way: Way, kind: Run, status: int
) -> None:
    provider.script = [Failure(status=status), "Titan."]
    with optimizer(budget=Budget(usd=5)) as tokopt:
        agent = make_agent(way, chat_model(name, provider), [], tokopt)
        with pytest.raises(Exception, match=str(status)) as raised:
            run(kind, agent, [HumanMessage(QUESTION)])
        assert type(raised.value).__module__.split(".")[0] in (name, f"langchain_{name}")
        assert held(tokopt) == (0, 0)
        assert run(kind, agent, [HumanMessage(QUESTION)]).answer == "Titan."
        report = tokopt.report()
        assert (report.failed_calls, report.measured.calls, report.failures) == (1, 1, ())


@providers
@pytest.mark.parametrize("kind", ["invoke", "ainvoke"])
@pytest.mark.parametrize("inside", [True, False])
def test_every_attempt_of_a_retry_is_metered(provider: ProviderServer, name: Provider, kind: Run, inside: bool) -> None:
    provider.script = [Failure(status=500), Failure(status=500), "Titan."]
    retry = ModelRetryMiddleware(max_retries=3, initial_delay=0.0, jitter=False)
    with optimizer(budget=Budget(usd=5)) as tokopt:
        middleware = [retry, *tokopt.middleware] if inside else [*tokopt.middleware, retry]
        agent = create_agent(chat_model(name, provider), [], middleware=middleware)
        assert run(kind, agent, [HumanMessage(QUESTION)]).answer == "Titan."
        assert measured(tokopt) == provider.billed
        assert held(tokopt) == (0, 0)
        if inside:
            assert tokopt.report().failed_calls == 2


@providers
@ours
@pytest.mark.parametrize("kind", STREAMED)
def test_stream_that_breaks_is_an_error_and_frees_the_budget(
    provider: ProviderServer, name: Provider, way: Way, kind: Run
) -> None:
    provider.script = [Reply(text="one two three", break_after=2)]
    with optimizer(budget=Budget(usd=5)) as tokopt:
        agent = make_agent(way, chat_model(name, provider), [], tokopt)
        with pytest.raises(Exception, match=r"server had an error|Overloaded"):
            run(kind, agent, [HumanMessage(QUESTION)])
        assert held(tokopt) == (0, 0)


# --- streams that are left -------------------------------------------------------------------------------------------


@providers
def test_closed_stream_of_a_wrapped_model_frees_the_budget(provider: ProviderServer, name: Provider) -> None:
    gate = threading.Event()
    provider.script = [Reply(text="one two three four", gate=gate, pieces_before_gate=2)]
    with optimizer(budget=Budget(usd=5)) as tokopt:
        stream = tokopt.wrap(chat_model(name, provider)).stream(QUESTION)
        while not next(stream).text:
            pass
        assert held(tokopt) > (0, 0)
        stream.close()
        assert held(tokopt) == (0, 0)
        assert root_of(tokopt.status()["budget"])["usd"]["spent"] > 0
        gate.set()


@providers
@ours
def test_cancelled_async_stream_frees_the_budget(provider: ProviderServer, name: Provider, way: Way) -> None:
    gate = threading.Event()
    provider.script = [Reply(text="one two three four", gate=gate, pieces_before_gate=2)]
    with optimizer(budget=Budget(usd=5)) as tokopt:
        agent = make_agent(way, chat_model(name, provider), [], tokopt)

        async def leave() -> None:
            seen = asyncio.Event()

            async def read() -> None:
                ask = {"messages": [HumanMessage(QUESTION)]}
                async for _ in agent.astream(ask, stream_mode="messages"):
                    seen.set()

            reading = asyncio.create_task(read())
            await asyncio.wait_for(seen.wait(), 10)
            assert held(tokopt) > (0, 0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading

        asyncio.run(leave())
        gate.set()
        assert until(lambda: held(tokopt) == (0, 0))
        assert root_of(tokopt.status()["budget"])["usd"]["spent"] > 0


@providers
def test_cancelled_call_frees_the_budget(provider: ProviderServer, name: Provider) -> None:
    gate = threading.Event()

    def slow(asked: Asked) -> Reply:
        gate.wait(20)
        return Reply(text="late")

    provider.policy = slow
    with optimizer(budget=Budget(usd=5)) as tokopt:
        agent = make_agent("middleware", chat_model(name, provider), [], tokopt)

        async def leave() -> None:
            call = asyncio.create_task(agent.ainvoke({"messages": [HumanMessage(QUESTION)]}))
            while not provider.records:
                await asyncio.sleep(0.005)
            assert held(tokopt) > (0, 0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

        asyncio.run(leave())
        gate.set()
        assert until(lambda: held(tokopt) == (0, 0))


# --- shadow, off, and many threads -----------------------------------------------------------------------------------


def several(asked: Asked) -> Reply:
    """Two turns of calls with equal results, then an answer."""
    if len(asked.turn_results) < 2:
        return Reply(tool_calls=(ToolCall(name="weather", args={"city": "Rome"}),))
    return Reply(text="Warm.")


@apis
@ours
@pytest.mark.parametrize(("mode", "kind"), [("shadow", "invoke"), ("shadow", "astream"), ("off", "invoke")])
def test_shadow_sends_the_bytes_of_the_bare_agent(
    provider: ProviderServer, name: Provider, way: Way, kind: Run, mode: Any
) -> None:
    sent: dict[Way, list[bytes]] = {}
    for each in ("bare", way):
        budget = Budget(usd="0.000001")
        with optimizer(mode=mode, budget=budget) as tokopt:
            model = chat_model(name, provider.renewed(several))
            agent = make_agent(each, model, [weather], tokopt, system_prompt="Be brief.")
            for _ in range(2):
                assert run(kind, agent, [HumanMessage("Rome?")]).answer == "Warm."
            sent[each] = [record.raw for record in provider.records]
            if each != "bare":
                assert measured(tokopt) == provider.billed
    assert len(sent["bare"]) == 6
    assert sent[way] == sent["bare"]


@providers
@ours
def test_many_threads_at_once_are_metered_to_the_token(provider: ProviderServer, name: Provider, way: Way) -> None:
    def policy(asked: Asked) -> Reply:
        call = ToolCall(name="weather", args={"city": asked.last_user})
        return Reply(text=asked.turn_results[0]) if asked.turn_results else Reply(tool_calls=(call,))

    provider.policy = policy
    answers: dict[int, str] = {}
    with optimizer(budget=Budget(usd=5, tokens=1_000_000)) as tokopt:
        agent = make_agent(way, chat_model(name, provider), [weather], tokopt)

        def ask(n: int) -> None:
            answers[n] = run("invoke", agent, [HumanMessage(f"City{n}")]).answer

        at_once(8, ask)
        assert answers == {n: f"City{n}: 21 c" for n in range(8)}
        assert measured(tokopt) == provider.billed
        assert root_of(tokopt.status()["budget"])["tokens"]["spent"] == provider.billed.total
        assert held(tokopt) == (0, 0)


@providers
@pytest.mark.parametrize("kind", ["invoke", "ainvoke"])
def test_equal_questions_at_once_are_one_request(provider: ProviderServer, name: Provider, kind: Run) -> None:
    provider.policy = lambda asked: Reply(text="Titan.")
    with optimizer() as tokopt:
        agent = make_agent("middleware", chat_model(name, provider), [], tokopt)
        answers: list[str] = []
        at_once(6, lambda _: answers.append(run(kind, agent, [HumanMessage(QUESTION)]).answer))
        assert answers == ["Titan."] * 6
    assert len(provider.records) == 1


@apis
def test_callback_meters_a_bare_model(provider: ProviderServer, name: Provider) -> None:
    provider.script = ["Titan.", "Io."]
    with optimizer() as tokopt:
        model = chat_model(name, provider)
        assert isinstance(model.invoke(QUESTION, {"callbacks": [tokopt.callback]}), AIMessage)
        assert list(model.stream("And of Jupiter?", {"callbacks": [tokopt.callback]}))
        assert measured(tokopt) == provider.billed
