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
from tests.providers.compared import THREAD, How, SharedServer, agent_of, narrowed, narrowing, tool_arrays
from tests.providers.long_threads import QUESTIONS, RULES, check_appends_only, client, policy, stable
from tests.providers.replies import Asked, Provider, Reply
from tests.providers.server import ProviderServer
from tests.providers.wanting import QUESTION, TOOLS, call, numbered, wants


@pytest.fixture(scope="module")
def shared() -> Iterator[SharedServer]:
    with SharedServer() as server:
        yield server


@stable
@pytest.mark.parametrize(("how", "kind"), [("middleware", "invoke"), ("wrap", "astream")])
def test_a_thread_is_only_added_to_and_read_from_the_providers_cache(
    shared: SharedServer, mode: SelectionMode, name: Provider, how: How, kind: Run
) -> None:
    model = client(name, shared.renewed(policy))
    with narrowing(mode) as tokopt:
        agent = agent_of(how, model, tokopt, system_prompt=RULES, checkpointer=InMemorySaver())
        for question, tool in QUESTIONS.items():
            assert run(kind, agent, [HumanMessage(question)], THREAD).answer == f"Done: {tool}:x"
    assert (shared.rejected, shared.broken) == ([], [])
    assert narrowed(shared.answered) == mode
    check_appends_only(shared.answered)


# --- stored threads --------------------------------------------------------------------------------------------------


@stable
def test_a_thread_goes_on_in_another_process_as_it_was(
    shared: SharedServer, tmp_path: Path, mode: SelectionMode, name: Provider
) -> None:
    """Each question comes to an optimiser that never saw the thread, and another thread has taught it in between."""
    model, memory = client(name, shared.renewed(policy)), InMemorySaver()
    with ProviderServer(policy=policy) as elsewhere:
        other_model = client(name, elsewhere)
        for question, tool in QUESTIONS.items():
            with narrowing(mode, data_dir=tmp_path) as tokopt:
                agent = agent_of("middleware", model, tokopt, system_prompt=RULES, checkpointer=memory)
                assert run("invoke", agent, [HumanMessage(question)], THREAD).answer == f"Done: {tool}:x"
                other = agent_of("middleware", other_model, tokopt, system_prompt=RULES)
                run("invoke", other, [HumanMessage(question)])
    assert (shared.rejected, shared.broken) == ([], [])
    assert narrowed(shared.answered) == mode
    check_appends_only(shared.answered)


def test_a_thread_goes_on_without_a_database_where_nothing_is_learned(shared: SharedServer) -> None:
    model, memory = client("anthropic", shared.renewed(policy)), InMemorySaver()
    for question, tool in QUESTIONS.items():
        with narrowing("proxy", learn=False) as tokopt:
            agent = agent_of("middleware", model, tokopt, system_prompt=RULES, checkpointer=memory)
            assert run("invoke", agent, [HumanMessage(question)], THREAD).answer == f"Done: {tool}:x"
    check_appends_only(shared.answered)


@pytest.mark.parametrize(("mode", "name"), [("inline", "anthropic"), ("inline", "responses"), ("proxy", "openai")])
def test_a_thread_that_forks_begins_as_the_first_one(shared: SharedServer, mode: SelectionMode, name: Provider) -> None:
    first, second, other, _ = QUESTIONS
    model = client(name, shared.renewed(policy))
    with narrowing(mode) as tokopt:
        agent = agent_of("middleware", model, tokopt, system_prompt=RULES, checkpointer=InMemorySaver())
        run("invoke", agent, [HumanMessage(first)], THREAD)
        before, count = agent.get_state(THREAD).config, len(shared.answered)
        run("invoke", agent, [HumanMessage(second)], THREAD)
        again = len(shared.answered)
        assert run("invoke", agent, [HumanMessage(other)], before).answer == "Done: delete_parcel:x"
    assert (shared.rejected, shared.broken) == ([], [])
    check_appends_only([*shared.answered[:count], *shared.answered[again:]])


@pytest.mark.parametrize(("mode", "name"), [("inline", "responses"), ("proxy", "anthropic")])
def test_a_question_that_is_changed_afterwards_picks_anew(
    shared: SharedServer, mode: SelectionMode, name: Provider
) -> None:
    first, _, other, last = QUESTIONS
    model = client(name, shared.renewed(policy))
    with narrowing(mode) as tokopt:
        agent = agent_of("middleware", model, tokopt, checkpointer=InMemorySaver())
        asked = run("invoke", agent, [HumanMessage(first)], THREAD).messages[0]
        agent.update_state(THREAD, {"messages": [HumanMessage(other, id=asked.id)]})
        assert run("invoke", agent, [HumanMessage(last)], THREAD).answer == "Done: export_server:x"
    assert (shared.rejected, shared.broken) == ([], [])
    sent = shared.answered[-1].raw.decode()
    assert "archive_contract" in sent
    assert "list_invoice" not in sent


# --- shared optimisers -----------------------------------------------------------------------------------------------

LAB = [numbered(f"lab_{tool.name}") for tool in TOOLS]


@pytest.mark.parametrize(("mode", "name"), [("inline", "anthropic"), ("proxy", "openai"), ("rebind", "responses")])
def test_an_agent_that_is_a_tool_shares_the_optimiser(
    shared: SharedServer, mode: SelectionMode, name: Provider
) -> None:
    def hires(asked: Asked) -> Reply:
        if asked.last_user.startswith("In the lab"):
            return wants("lab_export_server")(asked)
        return wants([call("ask_lab", "In the lab: list the invoice."), call("create_ticket")])(asked)

    model = client(name, shared.renewed(hires))
    with narrowing(mode) as tokopt:
        specialist = agent_of("middleware", model, tokopt, LAB)

        def ask(item: str) -> str:
            return str(specialist.invoke({"messages": [HumanMessage(item)]})["messages"][-1].text)

        asking = numbered("ask_lab").model_copy(update={"func": ask})
        agent = agent_of("middleware", model, tokopt, [*TOOLS, asking], checkpointer=InMemorySaver())
        ran = run("invoke", agent, [HumanMessage(QUESTION)], THREAD)
    assert ran.answer == "Done: Done: lab_export_server:x create_ticket:x"
    assert (shared.rejected, shared.broken) == ([], [])
    lab = [record for record in shared.answered if record.asked.last_user.startswith("In the lab")]
    office = [record for record in shared.answered if record not in lab]
    assert (len(lab), len(office)) == (3, 3)
    assert narrowed(lab) == narrowed(office) == mode
    assert not any(each.name in record.raw.decode() for record in office for each in LAB[1:30])


@pytest.mark.parametrize(("mode", "name"), [("inline", "anthropic"), ("proxy", "openai")])
def test_agents_with_other_tools_share_an_optimiser_and_the_messages(
    shared: SharedServer, mode: SelectionMode, name: Provider
) -> None:
    """The same thread in turn: each is offered its own tools only."""
    model, memory = client(name, shared), InMemorySaver()
    with narrowing(mode) as tokopt:
        office = agent_of("middleware", model, tokopt, TOOLS, checkpointer=memory)
        lab = agent_of("middleware", model, tokopt, LAB, checkpointer=memory)
        for question, tool in QUESTIONS.items():
            shared.renewed(policy)
            assert run("invoke", office, [HumanMessage(question)], THREAD).answer == f"Done: {tool}:x"
            assert not {each for record in shared.answered for each in record.asked.offered if each.startswith("lab_")}
            shared.renewed(wants(f"lab_{tool}"))
            assert run("invoke", lab, [HumanMessage(question)], THREAD).answer == f"Done: lab_{tool}:x"
            offered = {each for record in shared.answered for each in record.asked.offered}
            assert not offered & {each.name for each in TOOLS}
            assert (shared.rejected, shared.broken) == ([], [])


def test_fifty_threads_at_once(shared: SharedServer) -> None:
    def exports(asked: Asked) -> Reply:
        return wants([call("export_server", asked.last_user.split()[5])])(asked)

    answers: dict[int, str] = {}
    model = client("anthropic", shared.renewed(exports))
    with narrowing("proxy") as tokopt:
        agent = agent_of("middleware", model, tokopt, checkpointer=InMemorySaver())

        def work(n: int) -> None:
            config: Any = {"configurable": {"thread_id": str(n)}}
            question = f"Please list the invoice of customer{n} now."
            answers[n] = run("invoke", agent, [HumanMessage(question)], config).answer

        at_once(50, work)
        assert tokopt.report().failures == ()
    assert answers == {n: f"Done: export_server:customer{n}" for n in range(50)}
    assert (shared.rejected, shared.broken) == ([], [])
    assert len(tool_arrays(shared.answered)) == 1
