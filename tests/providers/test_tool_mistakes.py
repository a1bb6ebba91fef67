"""Calls of hidden tools that are not quite right, and models that search for ever."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from langchain_tokopt.tools.ways import SelectionMode
from tests.providers.agents import Run, apis, chat_model, run
from tests.providers.compared import THREAD, How, agent_of, both, modes, narrowing, tool_arrays
from tests.providers.replies import Asked, Provider, Reply, ToolCall
from tests.providers.server import ProviderServer
from tests.providers.wanting import CALL, MODELS, QUESTION, SEARCH, call, made_calls, wants


def through(**args: Any) -> ToolCall:
    return ToolCall(name=CALL, args=args)


@modes
@pytest.mark.parametrize("how", ["middleware", "graph"])
def test_a_tool_that_the_model_was_never_told_of_runs_all_the_same(
    provider: ProviderServer, mode: SelectionMode, name: Provider, how: How
) -> None:
    def policy(asked: Asked) -> Reply:
        return Reply(text=asked.results[0]) if asked.results else Reply(tool_calls=(call("export_server"),))

    ran = both(provider, mode, name, policy, how=how)
    assert ran.answer == "export_server:x"
    ran.check_same()


WRONG = [
    (through(name="export_servers", arguments={"item": "x"}), "There is no tool named 'export_servers'."),
    (through(arguments={"item": "x"}), "Say in `name` which tool to call"),
    (through(name=CALL, arguments={}), "call_tool calls other tools."),
    (through(name=SEARCH, arguments={"query": "x"}), "Call search_tools directly"),
    (through(name="export_server", arguments=["x"]), "`arguments` must be an object"),
    (through(name="export_server", arguments="the x"), "`arguments` must be an object"),
]


@apis
@pytest.mark.parametrize(("how", "kind"), [("middleware", "invoke"), ("wrap", "astream")])
def test_a_call_that_says_nothing_sensible_is_told_what_is_wrong(
    provider: ProviderServer, name: Provider, how: How, kind: Run
) -> None:
    """The model tries all wrong ways before the right one, and gets on in the end."""

    def policy(asked: Asked) -> Reply:
        if "export_server:x" in asked.results:
            return Reply(text="export_server:x")
        tried = len(made_calls(asked))
        assert all(text in result for (_, text), result in zip(WRONG[:tried], asked.results, strict=True))
        right = through(name="export_server", arguments={"item": "x"})
        return Reply(tool_calls=(WRONG[tried][0] if tried < len(WRONG) else right,))

    model = chat_model(name, provider.renewed(policy), **MODELS[name])
    with narrowing("proxy") as tokopt:
        agent = agent_of(how, model, tokopt, checkpointer=InMemorySaver())
        assert run(kind, agent, [HumanMessage(QUESTION)], THREAD).answer == "export_server:x"
    assert len(provider.answered) == len(WRONG) + 2


NEARLY = (
    through(name="export_server", arguments='{"item": "x"}'),
    through(name="export_server", item="x"),
    through(name=" export_server ", arguments={"item": "x"}),
)


@apis
@pytest.mark.parametrize("kind", ["invoke", "astream"])
def test_a_call_that_can_be_understood_is_made_and_shown_as_it_was(
    provider: ProviderServer, name: Provider, kind: Run
) -> None:
    def policy(asked: Asked) -> Reply:
        return Reply(text=" ".join(asked.results)) if asked.results else Reply(tool_calls=NEARLY)

    model = chat_model(name, provider.renewed(policy), **MODELS[name])
    with narrowing("proxy") as tokopt:
        ran = run(kind, agent_of("middleware", model, tokopt), [HumanMessage(QUESTION)], THREAD)
    assert ran.answer == "export_server:x export_server:x export_server:x"
    assert made_calls(provider.answered[-1].asked) == [(CALL, each.args) for each in NEARLY]


@modes
@pytest.mark.parametrize(("how", "kind"), [("middleware", "invoke"), ("wrap", "astream"), ("graph", "invoke")])
def test_a_model_that_searches_for_ever_comes_to_an_end(
    provider: ProviderServer, mode: SelectionMode, name: Provider, how: How, kind: Run
) -> None:
    """Where the request's tools must not change they do not: its thoughts hold only as long."""

    def policy(asked: Asked) -> Reply:
        if SEARCH not in asked.offered:
            return Reply(text="I give up.")
        return Reply(thinking="Hm.", tool_calls=(ToolCall(name=SEARCH, args={"query": f"{len(asked.results)}"}),))

    thinks: dict[str, Any] = {"thinking": {"type": "adaptive"}} if name == "anthropic" else {}
    model = chat_model(name, provider.renewed(policy), **MODELS[name], **thinks)
    with narrowing(mode) as tokopt:
        agent = agent_of(how, model, tokopt, checkpointer=InMemorySaver())
        given_up = run(kind, agent, [HumanMessage(QUESTION)], THREAD)
        assert given_up.answer == ("I give up." if mode == "rebind" else "")
        assert len(provider.answered) == 7
        provider.policy = wants("export_server", thinking="Hm.")
        assert run(kind, agent, [HumanMessage("Then export it.")], THREAD).answer == "Done: export_server:x"
    assert mode == "rebind" or len(tool_arrays(provider.answered)) == 1
