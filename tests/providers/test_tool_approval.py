"""Approval of calls by a human: of the tool itself, by its name, also where the model called it through another."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

from langchain_tokopt.tools.ways import SelectionMode
from tests.providers.agents import APIS, chat_model, run
from tests.providers.compared import THREAD, How, agent_of, narrowed, narrowing, shown
from tests.providers.replies import Asked, Provider, Reply
from tests.providers.server import ProviderServer
from tests.providers.wanting import CALL, MODELS, QUESTION, SEARCH, TOOLS, call, made_calls, numbered, wants

DECISIONS: dict[str, dict[str, Any]] = {
    "approve": {"type": "approve"},
    "edit": {"type": "edit", "edited_action": {"name": "export_server", "args": {"item": "edited"}}},
    "edit to another tool": {"type": "edit", "edited_action": {"name": "delete_parcel", "args": {"item": "edited"}}},
    "reject": {"type": "reject", "message": "Not today."},
    "respond": {"type": "respond", "message": "Did it by hand."},
}
RESULTS = {
    "approve": "export_server:x",
    "edit": "export_server:edited",
    "edit to another tool": "delete_parcel:edited",
    "reject": "User rejected the tool call for `export_server` with reason: Not today.",
    "respond": "Did it by hand.",
}
CASES = [
    *(("proxy", name, decision, "batched") for name in APIS for decision in DECISIONS),
    *(("proxy", "anthropic", decision, "per_call") for decision in ("approve", "edit", "reject")),
    *((mode, name, "edit", "batched") for mode, name in (("rebind", "openai"), ("inline", "responses"))),
]
# Both tools are hidden; only the second has to be approved.
POLICY = wants([call("create_ticket", "y"), call("export_server")])


def reviewed(
    server: ProviderServer, how: How, mode: SelectionMode, name: Provider, decision: str, asking: Any
) -> tuple[dict[str, Any], Asked]:
    """The final state, and the last request."""
    model = chat_model(name, server.renewed(POLICY), **MODELS[name])
    review = HumanInTheLoopMiddleware({"export_server": True}, interrupt_mode=asking)
    with narrowing(mode) as tokopt:
        agent = agent_of(how, model, tokopt, middleware=[review], checkpointer=InMemorySaver())
        (stop,) = run("invoke", agent, [HumanMessage(QUESTION)], THREAD).state["__interrupt__"]
        seen = stop.value["action_requests"][0] if asking == "batched" else stop.value
        assert (seen["name"], seen["args"]) == ("export_server", {"item": "x"})
        choice = DECISIONS[decision]
        answer = {"decisions": [choice]} if asking == "batched" else {stop.id: choice}
        state = agent.invoke(Command(resume=answer), THREAD)
    assert (server.rejected, server.broken) == ([], [])
    assert narrowed(server.answered) == ("all" if how == "bare" else mode)
    return state, server.answered[-1].asked


@pytest.mark.parametrize(("mode", "name", "decision", "asking"), CASES)
def test_the_human_decides_on_the_real_call(
    provider: ProviderServer, mode: SelectionMode, name: Provider, decision: str, asking: Any
) -> None:
    bare, _ = reviewed(provider, "bare", mode, name, decision, asking)
    ours, asked = reviewed(provider, "middleware", mode, name, decision, asking)
    assert shown(ours) == shown(bare)
    results = [message.text for message in ours["messages"] if message.type == "tool" and message.name != SEARCH]
    assert len(results) == 2
    assert "create_ticket:y" in results
    assert any(RESULTS[decision] in result for result in results)
    # LangChain keeps the model's own call in the thread, and says in its result what became of it.
    through = (CALL, {"name": "export_server", "arguments": {"item": "x"}})
    assert made_calls(asked)[-1] == (through if mode == "proxy" else ("export_server", {"item": "x"}))


@pytest.mark.parametrize("name", APIS)
def test_a_call_that_was_edited_in_the_thread_is_shown_as_it_is_now(provider: ProviderServer, name: Provider) -> None:
    model = chat_model(name, provider.renewed(wants("export_server")), **MODELS[name])
    with narrowing("proxy") as tokopt:
        agent = agent_of("middleware", model, tokopt, checkpointer=InMemorySaver(), interrupt_before=["tools"])
        said = run("invoke", agent, [HumanMessage(QUESTION)], THREAD).messages[-1]
        assert isinstance(said, AIMessage)
        edited = said.model_copy(update={"tool_calls": [{**said.tool_calls[0], "args": {"item": "edited"}}]})
        agent.update_state(THREAD, {"messages": [edited]})
        provider.policy = lambda asked: Reply(text=" ".join(asked.results[1:]))
        assert agent.invoke(None, THREAD)["messages"][-1].text == "export_server:edited"
    through = (CALL, {"name": "export_server", "arguments": {"item": "edited"}})
    assert made_calls(provider.answered[-1].asked)[-1] == through


def test_a_hidden_tool_that_interrupts_is_resumed(provider: ProviderServer) -> None:
    def asks(item: str) -> str:
        return f"{item}: {interrupt({'which': item})}"

    asking = numbered("ask_boss").model_copy(update={"func": asks})
    model = chat_model("anthropic", provider.renewed(wants("ask_boss")), **MODELS["anthropic"])
    with narrowing("proxy") as tokopt:
        agent = agent_of("middleware", model, tokopt, [*TOOLS, asking], checkpointer=InMemorySaver())
        (stop,) = run("invoke", agent, [HumanMessage(QUESTION)], THREAD).state["__interrupt__"]
        assert stop.value == {"which": "x"}
        assert agent.invoke(Command(resume="the red one"), THREAD)["messages"][-1].text == "Done: x: the red one"
    assert len(provider.answered) == 3
