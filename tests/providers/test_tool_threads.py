"""Threads with tools that were not selected: stored, resumed, forked, shared by agents, and many at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_tokopt.tools.ways import SelectionMode
from tests.providers.agents import Run, at_once, run
from tests.providers.compared import THREAD, How, agent_of, narrowed, narrowing, tool_arrays
from tests.providers.long_threads import QUESTIONS, RULES, check_appends_only, client, policy, stable
from tests.providers.replies import Asked, Provider, Reply
from tests.providers.server import ProviderServer
from tests.providers.wanting import QUESTION, TOOLS, call, numbered, wants


@stable
@pytest.mark.parametrize(("how", "kind"), [("middleware", "invoke"), ("wrap", "astream")])
def test_a_thread_is_only_added_to_and_read_from_the_providers_cache(
    provider: ProviderServer, mode: SelectionMode, name: Provider, how: How, kind: Run
) -> None:
    model = client(name, provider.renewed(policy))
    with narrowing(mode) as tokopt:
        agent = agent_of(how, model, tokopt, system_prompt=RULES, checkpointer=InMemorySaver())
        for question, tool in QUESTIONS.items():
            assert run(kind, agent, [HumanMessage(question)], THREAD).answer == f"Done: {tool}:x"
    assert narrowed(provider.answered) == mode
    check_appends_only(provider.answered)


# --- stored threads --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[ProviderServer]:
    """Another server, so that the requests of another thread stand apart."""
    with ProviderServer() as server:
        yield server


@stable
def test_a_thread_goes_on_in_another_process_as_it_was(
    provider: ProviderServer, elsewhere: ProviderServer, tmp_path: Path, mode: SelectionMode, name: Provider
) -> None:
    """Each question comes to an optimiser that never saw the thread, and another thread has taught it in between."""
    model, memory = client(name, provider.renewed(policy)), InMemorySaver()
    other_model = client(name, elsewhere.renewed(policy))
    for question, tool in QUESTIONS.items():
        with narrowing(mode, data_dir=tmp_path) as tokopt:
            agent = agent_of("middleware", model, tokopt, system_prompt=RULES, checkpointer=memory)
            assert run("invoke", agent, [HumanMessage(question)], THREAD).answer == f"Done: {tool}:x"
            other = agent_of("middleware", other_model, tokopt, system_prompt=RULES)
            run("invoke", other, [HumanMessage(question)])
    assert narrowed(provider.answered) == mode
    check_appends_only(provider.answered)


def test_a_thread_goes_on_without_a_database_where_nothing_is_learned(provider: ProviderServer) -> None:
    model, memory = client("anthropic", provider.renewed(policy)), InMemorySaver()
    for question, tool in QUESTIONS.items():
        with narrowing("proxy", learn=False) as tokopt:
            agent = agent_of("middleware", model, tokopt, system_prompt=RULES, checkpointer=memory)
            assert run("invoke", agent, [HumanMessage(question)], THREAD).answer == f"Done: {tool}:x"
    check_appends_only(provider.answered)


@pytest.mark.parametrize(("mode", "name"), [("inline", "anthropic"), ("inline", "responses"), ("proxy", "openai")])
def test_a_thread_that_forks_begins_as_the_first_one(
    provider: ProviderServer, mode: SelectionMode, name: Provider
) -> None:
    first, second, other, _ = QUESTIONS
    model = client(name, provider.renewed(policy))
    with narrowing(mode) as tokopt:
        agent = agent_of("middleware", model, tokopt, system_prompt=RULES, checkpointer=InMemorySaver())
        run("invoke", agent, [HumanMessage(first)], THREAD)
        before, count = agent.get_state(THREAD).config, len(provider.answered)
        run("invoke", agent, [HumanMessage(second)], THREAD)
        again = len(provider.answered)
        assert run("invoke", agent, [HumanMessage(other)], before).answer == "Done: delete_parcel:x"
    check_appends_only([*provider.answered[:count], *provider.answered[again:]])


@pytest.mark.parametrize(("mode", "name"), [("inline", "responses"), ("proxy", "anthropic")])
def test_a_question_that_is_changed_afterwards_picks_anew(
    provider: ProviderServer, mode: SelectionMode, name: Provider
) -> None:
    first, _, other, last = QUESTIONS
    model = client(name, provider.renewed(policy))
    with narrowing(mode) as tokopt:
        agent = agent_of("middleware", model, tokopt, checkpointer=InMemorySaver())
        asked = run("invoke", agent, [HumanMessage(first)], THREAD).messages[0]
        agent.update_state(THREAD, {"messages": [HumanMessage(other, id=asked.id)]})
        assert run("invoke", agent, [HumanMessage(last)], THREAD).answer == "Done: export_server:x"
    sent = provider.answered[-1].raw.decode()
    assert "archive_contract" in sent
    assert "list_invoice" not in sent


# --- shared optimisers -----------------------------------------------------------------------------------------------

LAB = [numbered(f"lab_{tool.name}") for tool in TOOLS]


@pytest.mark.parametrize(("mode", "name"), [("inline", "anthropic"), ("proxy", "openai"), ("rebind", "responses")])
def test_an_agent_that_is_a_tool_shares_the_optimiser(
    provider: ProviderServer, mode: SelectionMode, name: Provider
) -> None:
    def hires(asked: Asked) -> Reply:
        if asked.last_user.startswith("In the lab"):
            return wants("lab_export_server")(asked)
        return wants([call("ask_lab", "In the lab: list the invoice."), call("create_ticket")])(asked)

    model = client(name, provider.renewed(hires))
    with narrowing(mode) as tokopt:
        specialist = agent_of("middleware", model, tokopt, LAB)

        def ask(item: str) -> str:
            return str(specialist.invoke({"messages": [HumanMessage(item)]})["messages"][-1].text)

        asking = numbered("ask_lab").model_copy(update={"func": ask})
        agent = agent_of("middleware", model, tokopt, [*TOOLS, asking], checkpointer=InMemorySaver())
        ran = run("invoke", agent, [HumanMessage(QUESTION)], THREAD)
    assert ran.answer == "Done: Done: lab_export_server:x create_ticket:x"
    lab = [record for record in provider.answered if record.asked.last_user.startswith("In the lab")]
    office = [record for record in provider.answered if record not in lab]
    assert (len(lab), len(office)) == (3, 3)
    assert narrowed(lab) == narrowed(office) == mode
    assert not any(each.name in record.raw.decode() for record in office for each in LAB[1:30])


@pytest.mark.parametrize(("mode", "name"), [("inline", "anthropic"), ("proxy", "openai")])
def test_agents_with_other_tools_share_an_optimiser_and_the_messages(
    provider: ProviderServer, mode: SelectionMode, name: Provider
) -> None:
    """The same thread in turn: each is offered its own tools only."""
    model, memory = client(name, provider), InMemorySaver()
    with narrowing(mode) as tokopt:
        office = agent_of("middleware", model, tokopt, TOOLS, checkpointer=memory)
        lab = agent_of("middleware", model, tokopt, LAB, checkpointer=memory)
        for question, tool in QUESTIONS.items():
            for agent, wanting, answer, others in (
                (office, policy, f"Done: {tool}:x", LAB),
                (lab, wants(f"lab_{tool}"), f"Done: lab_{tool}:x", TOOLS),
            ):
                provider.policy = wanting
                assert run("invoke", agent, [HumanMessage(question)], THREAD).answer == answer
                offered = {each for record in provider.answered for each in record.asked.offered}
                assert not offered & {each.name for each in others}
                assert (provider.rejected, provider.broken) == ([], [])
                provider.records.clear()


def test_fifty_threads_at_once(provider: ProviderServer) -> None:
    def exports(asked: Asked) -> Reply:
        return wants([call("export_server", asked.last_user.split()[5])])(asked)

    answers: dict[int, str] = {}
    model = client("anthropic", provider.renewed(exports))
    with narrowing("proxy") as tokopt:
        agent = agent_of("middleware", model, tokopt, checkpointer=InMemorySaver())

        def work(n: int) -> None:
            config: Any = {"configurable": {"thread_id": str(n)}}
            question = f"Please list the invoice of customer{n} now."
            answers[n] = run("invoke", agent, [HumanMessage(question)], config).answer

        at_once(50, work)
        assert tokopt.report().failures == ()
    assert answers == {n: f"Done: export_server:customer{n}" for n in range(50)}
    assert len(tool_arrays(provider.answered)) == 1
