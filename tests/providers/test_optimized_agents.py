"""Agents of both providers, optimised: the answers of the bare ones, valid requests, and the bill to the token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import BaseTool, StructuredTool, tool
from langgraph.checkpoint.memory import InMemorySaver

from langchain_tokopt import TokenOptimizer, ToolSelection
from tests.providers.agents import (
    APIS,
    RUNS,
    WAYS,
    Run,
    Way,
    apis,
    chat_model,
    make_agent,
    measured,
    optimizer,
    ours,
    providers,
    run,
)
from tests.providers.billing import Bill
from tests.providers.replies import Asked, Provider, Reply, ToolCall
from tests.providers.server import ProviderServer
from tests.providers.weather import Answer, look_up, weather

THREAD = {"configurable": {"thread_id": "1"}}
LOG = "\n".join(f"{n:03d} request {n * 7919 % 1000} took {n * 31 % 97} ms on worker {n % 5}" for n in range(120))


@tool
def read_log(day: str) -> str:
    """The log of a day."""
    return LOG


@pytest.fixture
def tokopt() -> Iterator[TokenOptimizer]:
    with optimizer() as running:
        yield running


def check_bill(way: Way, tokopt: TokenOptimizer, server: ProviderServer) -> None:
    """What was metered is what was billed; bare agents are not metered."""
    assert tokopt.report().failures == ()
    billed = server.billed
    expected = Bill() if way == "bare" else Bill(**{**vars(billed), "cache_write_1h": 0})
    assert measured(tokopt) == expected


@apis
@ours
@pytest.mark.parametrize("kind", RUNS)
def test_same_answers_and_the_bill_to_the_token(
    provider: ProviderServer, tokopt: TokenOptimizer, name: Provider, way: Way, kind: Run
) -> None:
    provider.policy = look_up
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}} if name == "anthropic" else {}
    model = chat_model(name, provider, **thinking)
    agent = make_agent(way, model, [weather], tokopt, system_prompt="Be brief.", checkpointer=InMemorySaver())
    for question in ("Rome and Oslo?", "And now?"):
        ran = run(kind, agent, [HumanMessage(question)], THREAD)
        assert ran.answer == "It is Rome: 21 c and Oslo: 21 c."
        if kind not in ("invoke", "ainvoke"):
            assert ran.streamed_text == "One moment.It is Rome: 21 c and Oslo: 21 c."
    assert len(ran.messages) == 10
    assert len({message.id for message in ran.messages}) == 10
    assert len(provider.answered) == 4
    check_bill(way, tokopt, provider)


@apis
@ours
@pytest.mark.parametrize("strategy", [ToolStrategy, ProviderStrategy])
@pytest.mark.parametrize("kind", ["invoke", "astream"])
def test_structured_output(
    provider: ProviderServer, tokopt: TokenOptimizer, name: Provider, way: Way, strategy: Any, kind: Run
) -> None:
    def policy(asked: Asked) -> Reply:
        if not asked.turn_results:
            return Reply(tool_calls=(ToolCall(name="weather", args={"city": "Rome"}),))
        if strategy is ToolStrategy:
            return Reply(tool_calls=(ToolCall(name="Answer", args={"city": "Rome", "degrees": 21}),))
        assert {"response_format", "text", "output_config"} & set(asked.body)
        return Reply(text='{"city": "Rome", "degrees": 21}')

    provider.policy = policy
    agent = make_agent(way, chat_model(name, provider), [weather], tokopt, response_format=strategy(Answer))
    assert run(kind, agent, [HumanMessage("Rome?")]).state["structured_response"] == Answer(city="Rome", degrees=21)
    check_bill(way, tokopt, provider)


@providers
@ours
@pytest.mark.parametrize("kind", ["invoke", "astream"])
def test_provider_cache_is_metered_and_stays_whole(
    provider: ProviderServer, tokopt: TokenOptimizer, name: Provider, way: Way, kind: Run
) -> None:
    provider.policy = look_up
    settings = {"model_kwargs": {"cache_control": {"type": "ephemeral"}}} if name == "anthropic" else {}
    prompt = "Be brief. " * 600
    agent = make_agent(
        way,
        chat_model(name, provider, **settings),
        [weather],
        tokopt,
        system_prompt=prompt,
        checkpointer=InMemorySaver(),
    )
    for question in ("Rome and Oslo?", "And now?"):
        run(kind, agent, [HumanMessage(question)], THREAD)
    bills = [record.bill for record in provider.answered if record.bill]
    assert [bill.cache_read > 1400 for bill in bills] == [False, True, True, True]
    check_bill(way, tokopt, provider)


def read_three_times(asked: Asked) -> Reply:
    """The same log again and again, then what its first copy says."""
    days = ("mon", "tue", "wed")
    if len(asked.turn_results) < len(days):
        return Reply(tool_calls=(ToolCall(name="read_log", args={"day": days[len(asked.turn_results)]}),))
    return Reply(text=f"The first line is {asked.results[0].splitlines()[0]}")


@apis
@pytest.mark.parametrize("way", WAYS)
def test_repeated_tool_outputs_are_sent_once(
    provider: ProviderServer, tokopt: TokenOptimizer, name: Provider, way: Way
) -> None:
    provider.policy = read_three_times
    agent = make_agent(way, chat_model(name, provider), [read_log], tokopt, checkpointer=InMemorySaver())
    ran = run("invoke", agent, [HumanMessage("What do the logs say?")], THREAD)
    assert ran.answer == f"The first line is {LOG.splitlines()[0]}"
    sent = provider.answered[-1].asked.results
    assert sent[0] == LOG
    assert [len(text) < len(LOG) / 4 for text in sent[1:]] == [way != "bare"] * 2
    assert [message.text for message in ran.messages if message.type == "tool"] == [LOG] * 3
    check_bill(way, tokopt, provider)
    run("invoke", agent, [HumanMessage("Again?")], THREAD)
    before, after = provider.answered[3].asked, provider.answered[4].asked
    assert after.results[: len(before.results)] == before.results


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["invoke", "astream"])
def test_history_that_the_provider_keeps_is_left_alone(
    provider: ProviderServer, tokopt: TokenOptimizer, way: Way, kind: Run
) -> None:
    provider.policy = read_three_times
    model = chat_model("responses", provider, use_previous_response_id=True)
    agent = make_agent(way, model, [read_log], tokopt, checkpointer=InMemorySaver())
    for question in ("What do the logs say?", "Again?"):
        assert run(kind, agent, [HumanMessage(question)], THREAD).answer == f"The first line is {LOG.splitlines()[0]}"
    assert max(len(record.body["input"]) for record in provider.answered) == 1
    assert set(provider.answered[-1].asked.results) == {LOG}
    check_bill(way, tokopt, provider)


def cost(bill: Bill) -> float:
    """Input units: a read is 0.1, a write 1.25, an output token 5."""
    plain = bill.input - bill.cache_read - bill.cache_write
    return plain + 0.1 * bill.cache_read + 1.25 * bill.cache_write + 5 * bill.output


@providers
@ours
@pytest.mark.parametrize("policy", [look_up, read_three_times], ids=["short", "repeats"])
def test_bill_is_never_larger_than_that_of_the_bare_agent(
    provider: ProviderServer, tokopt: TokenOptimizer, name: Provider, way: Way, policy: Any
) -> None:
    settings = {"model_kwargs": {"cache_control": {"type": "ephemeral"}}} if name == "anthropic" else {}
    spent: dict[Way, float] = {}
    for each in ("bare", way):
        model = chat_model(name, provider.renewed(policy), **settings)
        agent = make_agent(each, model, [weather, read_log], tokopt, checkpointer=InMemorySaver())
        for question in ("One?", "Two?", "Three?"):
            run("invoke", agent, [HumanMessage(question)], THREAD)
        assert provider.rejected == []
        spent[each] = cost(provider.billed)
    assert spent[way] <= spent["bare"]
    if policy is read_three_times:
        assert spent[way] < 0.7 * spent["bare"]


# --- many tools ------------------------------------------------------------------------------------------------------

NOUNS = ("invoice", "contract", "ticket", "meeting", "customer", "parcel", "payment", "photo", "recipe", "holiday")
VERBS = ("create", "find", "delete", "archive")


def many_tools() -> list[BaseTool]:
    """Forty tools about office work and one, the last but one, about satellites."""

    def work(subject: str, note: str = "") -> str:
        return f"done: {subject}"

    def forecast(satellite: str) -> str:
        return f"{satellite} passes at 21:14"

    made: list[BaseTool] = [
        StructuredTool.from_function(work, name=f"{verb}_{noun}", description=f"{verb.title()} a {noun} in the office.")
        for noun in NOUNS
        for verb in VERBS
    ]
    about = "Forecast when a satellite in orbit passes overhead."
    made.insert(-1, StructuredTool.from_function(forecast, name="orbit_forecast", description=about))
    return made


def wants_the_satellite(asked: Asked) -> Reply:
    """Calls the satellite tool; asks for it first when it is not there."""
    if any("passes at" in text for text in asked.turn_results):
        return Reply(text="At 21:14.")
    if "orbit_forecast" in asked.offered:
        return Reply(tool_calls=(ToolCall(name="orbit_forecast", args={"satellite": "ISS"}),))
    assert "search_tools" in asked.offered, "the tool is not offered and cannot be asked for"
    return Reply(tool_calls=(ToolCall(name="search_tools", args={"query": "forecast satellite orbit"}),))


@pytest.mark.parametrize(
    ("name", "kind"),
    [*(("openai", kind) for kind in RUNS), *((name, kind) for name in APIS[1:] for kind in ("invoke", "astream"))],
)
def test_model_asks_for_a_tool_that_was_not_bound(provider: ProviderServer, name: Provider, kind: Run) -> None:
    provider.policy = wants_the_satellite
    with optimizer(tools=ToolSelection(max_tools=5, mode="rebind")) as tokopt:
        agent = make_agent("middleware", chat_model(name, provider), many_tools(), tokopt, checkpointer=InMemorySaver())
        ran = run(kind, agent, [HumanMessage("Archive the contract, then create an invoice.")], THREAD)
        assert ran.answer == "At 21:14."
        first, second, third = [record.asked.offered for record in provider.answered]
        assert len(first) < 15
        assert "orbit_forecast" not in first
        assert second[: len(first) - 1] == first[:-1]
        assert "orbit_forecast" in second
        assert set(second) <= set(third)
        run(kind, agent, [HumanMessage("Thanks. And tomorrow?")], THREAD)
        assert "orbit_forecast" in provider.answered[3].asked.offered
        check_bill("middleware", tokopt, provider)


@providers
def test_wrapped_model_is_sent_fewer_tools_and_may_search_for_others(provider: ProviderServer, name: Provider) -> None:
    provider.script = [Reply(tool_calls=(ToolCall(name="archive_contract", args={"subject": "x"}),)), "Done."]
    with optimizer(tools=ToolSelection(max_tools=5, mode="rebind")) as tokopt:
        agent = create_agent(tokopt.wrap(chat_model(name, provider)), many_tools())
        assert run("invoke", agent, [HumanMessage("Archive the contract.")]).answer == "Done."
    offered = [record.asked.offered for record in provider.answered]
    assert all({"archive_contract", "search_tools"} <= set(names) and len(names) < 20 for names in offered)


@providers
@ours
def test_few_tools_are_left_alone(provider: ProviderServer, tokopt: TokenOptimizer, name: Provider, way: Way) -> None:
    provider.policy = look_up
    agent = make_agent(way, chat_model(name, provider), [weather, read_log], tokopt)
    assert isinstance(run("invoke", agent, [HumanMessage("Rome?")]).messages[-1], AIMessage)
    assert [record.asked.offered for record in provider.answered] == [["weather", "read_log"]] * 2
