"""What is shown in part is given back through the providers' own clients, in all ways that users build agents."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import BaseModel

from langchain_tokopt import HistoryCompression, ToolBinder, ToolSelection
from langchain_tokopt.flow import FlowMiddleware, compose
from langchain_tokopt.model import OptimizedChatModel
from langchain_tokopt.tools import ToolSelectionMiddleware
from tests.context.partly import Partly
from tests.providers.agents import APIS, RUNS, Ran, Run, chat_model, make_agent, optimizer, run
from tests.providers.compared import THREAD, Alike
from tests.providers.replies import Asked, Failure, Provider, Reply, ToolCall, compact, tool_name
from tests.providers.server import ProviderServer, Record
from tests.providers.wanting import CALL, SEARCH, TOOLS

How = Literal["middleware", "wrap", "graph"]
OURS = "retrieve_original"
SECRET = "the secret is 4711"
FILE = "\n".join([*(f"line {n} of the file" for n in range(40)), SECRET])
apis = pytest.mark.parametrize("name", APIS)
WAYS = [*(("middleware", kind) for kind in RUNS), ("wrap", "invoke"), ("wrap", "astream"), ("graph", "invoke")]
ways = pytest.mark.parametrize(("how", "kind"), WAYS)
few = pytest.mark.parametrize(("how", "kind"), [("middleware", "astream"), ("wrap", "astream"), ("graph", "invoke")])


@tool
def read_file(path: str) -> str:
    """Read a file."""
    return FILE.replace("4711", path)


@tool
def export_server(item: str) -> str:
    """Export a server."""
    return f"export_server:{item}"


# --- agents ----------------------------------------------------------------------------------------------------------


def agent_of(
    how: How,
    model: BaseChatModel,
    *,
    outside: Sequence[FlowMiddleware] = (),
    tools: Sequence[Any] = (read_file, export_server),
    always: bool = False,
    **more: Any,
) -> Any:
    """An agent that shows results in part, with other flows of ours `outside`."""
    flows = [*outside, Partly(keeps=how == "middleware", always=always)]
    if how == "middleware":
        return create_agent(model, tools, middleware=flows, **more)
    wrapped = OptimizedChatModel.around(model, compose(*(flow.run_flow for flow in flows)))
    if how == "wrap":
        return create_agent(wrapped, tools, **more)
    return graph_of(wrapped.bind_tools(tools), ToolNode(tools), **more)


def graph_of(bound: Any, tools: ToolNode, **more: Any) -> Any:
    """A graph that is written by hand."""
    graph = StateGraph(MessagesState)
    graph.add_node("model", RunnableLambda(lambda state: {"messages": [bound.invoke(state["messages"])]}))
    graph.add_node("tools", tools)
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph.compile(**more)


def asks(agent: Any, kind: Run, question: str = "What is the secret?") -> Ran:
    return run(kind, agent, [HumanMessage(question)], THREAD)


# --- the model -------------------------------------------------------------------------------------------------------


def ids_in(asked: Asked) -> list[str]:
    """Ids of the texts that are shown in part."""
    return re.findall(rf'{OURS}\(id="(\w+)"\)', "\n".join(asked.turn_results))


def curious(*paths: str, text: str = "", thinking: str = "", beside: Sequence[ToolCall] = ()) -> Any:
    """A model that reads the files at once, asks for all that it was not shown at once, and tells the secrets."""

    def policy(asked: Asked) -> Reply:
        results, told = asked.turn_results, {"text": text, "thinking": thinking}
        if not results:
            return Reply(tool_calls=tuple(ToolCall(name="read_file", args={"path": path}) for path in paths), **told)
        secrets = re.findall(r"the secret is (\w+)", "\n".join(results))
        if len(secrets) < len(paths):
            assert OURS in asked.offered
            wanted = tuple(ToolCall(name=OURS, args={"id": each}) for each in ids_in(asked))
            return Reply(tool_calls=(*beside, *wanted) if len(results) == len(paths) else wanted, **told)
        return Reply(text=f"It is {' and '.join(secrets)}.", thinking=thinking)

    return policy


# --- what was sent ---------------------------------------------------------------------------------------------------


def conversation(record: Record) -> list[str]:
    """The items of a request in their order."""
    return [compact(_unmarked(item)) for item in record.body.get("messages") or record.body["input"]]


def _unmarked(value: Any) -> Any:
    """Without cache breakpoints, which move with the end."""
    if isinstance(value, dict):
        return {key: _unmarked(inner) for key, inner in value.items() if key != "cache_control"}
    return [_unmarked(inner) for inner in value] if isinstance(value, list) else value


def check_grows(records: Sequence[Record]) -> None:
    """Each request begins with the whole of the one before it."""
    sent = [conversation(record) for record in records]
    for before, after in pairwise(sent):
        assert len(after) >= len(before)
        assert [pair for pair in zip(before, after, strict=False) if pair[0] != pair[1]] == []


def tools_of(records: Sequence[Record]) -> list[list[str]]:
    return [[tool_name(each) for each in record.body["tools"]] for record in records]


# --- one retrieval ---------------------------------------------------------------------------------------------------


@apis
@ways
def test_what_is_shown_in_part_is_given_back_in_every_turn(
    provider: ProviderServer, name: Provider, how: How, kind: Run
) -> None:
    agent = agent_of(
        how, chat_model(name, provider.renewed(curious("a", text="One moment."))), checkpointer=InMemorySaver()
    )
    assert asks(agent, kind).answer.endswith("It is a.")
    provider.policy = curious("b")
    second = asks(agent, kind, "And of b?")
    assert second.answer.endswith("It is b.")
    records = provider.answered
    assert len(records) == 6
    check_grows(records)
    own = ["read_file", "export_server"]
    assert tools_of(records) == [own, *[[*own, OURS]] * 5]
    called = [one["name"] for message in second.messages for one in getattr(message, "tool_calls", [])]
    expected = ["read_file", OURS] if how == "middleware" else ["read_file"]
    assert called == expected * 2


@apis
@few
def test_several_texts_are_asked_for_at_once(provider: ProviderServer, name: Provider, how: How, kind: Run) -> None:
    agent = agent_of(how, chat_model(name, provider.renewed(curious("a", "b", "c"))))
    assert asks(agent, kind).answer == "It is a and b and c."
    assert len(provider.answered) == 3
    check_grows(provider.answered)


@apis
@few
def test_beside_a_call_of_another_tool(provider: ProviderServer, name: Provider, how: How, kind: Run) -> None:
    """A bare model has to ask again: nobody would find the answer beside a call that is still open."""
    export = ToolCall(name="export_server", args={"item": "x"})
    agent = agent_of(how, chat_model(name, provider.renewed(curious("a", beside=[export]))))
    ran = asks(agent, kind)
    assert ran.answer == "It is a."
    assert [message.text for message in ran.messages if message.name == "export_server"] == ["export_server:x"]
    assert len(provider.answered) == (3 if how == "middleware" else 4)
    if how == "middleware":
        check_grows(provider.answered)


@apis
@few
def test_words_and_lines_can_be_asked_for(provider: ProviderServer, name: Provider, how: How, kind: Run) -> None:
    def policy(asked: Asked) -> Reply:
        results = asked.turn_results
        if not results:
            return Reply(tool_calls=(ToolCall(name="read_file", args={"path": "a"}),))
        if len(results) == 3:
            return Reply(text=results[-1])
        args = {"start": 41} if len(results) == 2 else {"query": "nothing like it", "start": 0}
        return Reply(tool_calls=(ToolCall(name=OURS, args={"id": ids_in(asked)[0], **args}),))

    agent = agent_of(how, chat_model(name, provider.renewed(policy)))
    assert asks(agent, kind).answer == "the secret is a"


@apis
@few
def test_a_model_that_asks_for_ever_comes_to_an_end(
    provider: ProviderServer, name: Provider, how: How, kind: Run
) -> None:
    def policy(asked: Asked) -> Reply:
        if not asked.results:
            return Reply(tool_calls=(ToolCall(name="read_file", args={"path": "a"}),))
        if OURS not in asked.offered:
            return Reply(text="I give up.")
        return Reply(tool_calls=(ToolCall(name=OURS, args={"id": ids_in(asked)[0]}),))

    agent = agent_of(how, chat_model(name, provider.renewed(policy)), checkpointer=InMemorySaver())
    assert asks(agent, kind).answer == "I give up."
    assert len(provider.answered) == 10
    provider.policy = curious("b")
    assert asks(agent, kind, "And of b?").answer == "It is b."
    check_grows(provider.answered)


# --- thinking, structured output, being forced -----------------------------------------------------------------------

THINKS: list[dict[str, Any]] = [
    {"model_name": "claude-opus-5-5", "thinking": {"type": "adaptive"}},
    {"model_name": "claude-sonnet-4-6", "thinking": {"type": "enabled", "budget_tokens": 1024}},
]


@pytest.mark.parametrize("settings", THINKS, ids=["bound", "unbound"])
@few
def test_signed_thoughts_stay_valid(provider: ProviderServer, settings: dict[str, Any], how: How, kind: Run) -> None:
    """Where they hold only after all that came before them, the tool is there from the beginning."""
    model = chat_model("anthropic", provider.renewed(curious("a", text="One moment.", thinking="Hm.")), **settings)
    agent = agent_of(how, model, always=True, checkpointer=InMemorySaver())
    assert asks(agent, kind).answer.endswith("It is a.")
    assert asks(agent, kind, "And again?").answer.endswith("It is a.")
    check_grows(provider.answered)


@few
def test_signed_thoughts_stay_valid_when_the_model_asks_for_ever(provider: ProviderServer, how: How, kind: Run) -> None:
    def policy(asked: Asked) -> Reply:
        if not asked.results:
            return Reply(tool_calls=(ToolCall(name="read_file", args={"path": "a"}),), thinking="Hm.")
        return Reply(tool_calls=(ToolCall(name=OURS, args={"id": ids_in(asked)[0]}),), thinking="Hm.")

    agent = agent_of(
        how, chat_model("anthropic", provider.renewed(policy), **THINKS[0]), always=True, checkpointer=InMemorySaver()
    )
    assert asks(agent, kind).answer == ""
    assert len(provider.answered) == 10
    provider.policy = curious("b", thinking="Hm.")
    assert asks(agent, kind, "And of b?").answer.endswith("It is b.")


class Answer(BaseModel):
    """The final answer."""

    said: str


@apis
@pytest.mark.parametrize(
    ("strategy", "kind"), [(ToolStrategy, "invoke"), (ToolStrategy, "astream"), (ProviderStrategy, "invoke")]
)
@pytest.mark.parametrize("how", ["middleware", "wrap"])
def test_structured_output(provider: ProviderServer, name: Provider, strategy: Any, kind: Run, how: How) -> None:
    def policy(asked: Asked) -> Reply:
        reply = curious("a")(asked)
        if reply.tool_calls:
            return reply  # type: ignore[no-any-return]
        if strategy is ToolStrategy:
            return Reply(tool_calls=(ToolCall(name="Answer", args={"said": reply.text}),))
        return Reply(text=json.dumps({"said": reply.text}))

    agent = agent_of(how, chat_model(name, provider.renewed(policy)), response_format=strategy(Answer))
    assert asks(agent, kind).state["structured_response"] == Answer(said="It is a.")


@apis
def test_a_model_that_must_call_some_tool_may_call_this_one(provider: ProviderServer, name: Provider) -> None:
    """`tool_choice` is the same in both requests."""

    def exports(asked: Asked) -> Reply:
        if SECRET in "\n".join(asked.results):
            return Reply(tool_calls=(ToolCall(name="export_server", args={"item": "4711"}),))
        return Reply(tool_calls=(ToolCall(name=OURS, args={"id": ids_in(asked)[0]}),))

    model = OptimizedChatModel.around(chat_model(name, provider.renewed(exports)), Partly(keeps=False).run_flow)
    bound = model.bind_tools([read_file, export_server], tool_choice="any")
    read = AIMessage("", tool_calls=[{"name": "read_file", "args": {"path": "a"}, "id": "call_1"}])
    answer = bound.invoke(
        [HumanMessage("What is it?"), read, ToolMessage(FILE, name="read_file", tool_call_id="call_1")]
    )
    assert [(each["name"], each["args"]) for each in answer.tool_calls] == [("export_server", {"item": "4711"})]
    choices = {compact(record.body["tool_choice"]) for record in provider.answered}
    assert (len(choices), len(provider.answered)) == (1, 2)


# --- errors ----------------------------------------------------------------------------------------------------------


@apis
@pytest.mark.parametrize(("how", "kind"), [("middleware", "invoke"), ("middleware", "astream"), ("wrap", "astream")])
def test_a_call_that_fails_after_a_retrieval_can_be_made_again(
    provider: ProviderServer, name: Provider, how: How, kind: Run
) -> None:
    def fails(asked: Asked) -> Any:
        if any(SECRET.replace("4711", "a") in text for text in asked.turn_results):
            return Failure(status=500, message="overloaded")
        return curious("a", text="One moment.")(asked)

    agent = agent_of(how, chat_model(name, provider.renewed(fails)), checkpointer=InMemorySaver())
    with pytest.raises(Exception, match="overloaded"):
        asks(agent, kind)
    assert [record.status for record in provider.records] == [200, 200, 500]
    provider.policy = curious("a", text="One moment.")
    assert agent.invoke(None, THREAD)["messages"][-1].text.endswith("It is a.")
    provider.records[:] = provider.answered  # the error was the test's own


# --- beside the selection of tools -----------------------------------------------------------------------------------


def selecting(mode: Any, *, keeps: bool) -> ToolSelectionMiddleware:
    selection = ToolSelection(mode=mode, max_tools=3, min_tools=5, pinned=["read_file"])
    return ToolSelectionMiddleware(selection.attach(embeddings=Alike()), keeps_searches=keeps)


def reads_then_exports(asked: Asked) -> Reply:
    """Reads, searches for the tool it lacks, asks for the original, exports what it says."""
    results = asked.turn_results
    if not results:
        return Reply(tool_calls=(ToolCall(name="read_file", args={"path": "a"}),), text="First.", thinking="Hm.")
    if not any("export_server" in text for text in results):
        search = ToolCall(name=SEARCH, args={"query": "export server", "names": ["export_server"]})
        return Reply(tool_calls=(search,), text="Second.", thinking="Hm.")
    if not any("the secret is a" in text for text in results):
        return Reply(tool_calls=(ToolCall(name=OURS, args={"id": ids_in(asked)[0]}),), text="Third.", thinking="Hm.")
    done = [text for text in results if text.startswith("export_server:")]
    if done:
        return Reply(text=f"Done: {done[0]}", thinking="Hm.")
    export = ToolCall(name="export_server", args={"item": "a"})
    if CALL in asked.offered:
        export = ToolCall(name=CALL, args={"name": "export_server", "arguments": {"item": "a"}})
    return Reply(tool_calls=(export,), text="Fourth.", thinking="Hm.")


BOTH = [(name, "proxy", {}) for name in APIS] + [("openai", "rebind", {}), ("anthropic", "proxy", THINKS[0])]


@pytest.mark.parametrize(("name", "mode", "settings"), BOTH)
@few
def test_a_thread_with_searches_and_retrievals_goes_on_as_it_was_sent(
    provider: ProviderServer, name: Provider, mode: Any, settings: dict[str, Any], how: How, kind: Run
) -> None:
    tools = [read_file, *(each for each in TOOLS if each.name != "export_server"), export_server]
    agent = agent_of(
        how,
        chat_model(name, provider.renewed(reads_then_exports), **settings),
        outside=[selecting(mode, keeps=how == "middleware")],
        tools=tools,
        always=True,
        checkpointer=InMemorySaver(),
    )
    assert asks(agent, kind, "Export what the file says.").answer.endswith("Done: export_server:a")
    assert asks(agent, kind, "Export what the file says again.").answer.endswith("Done: export_server:a")
    check_grows(provider.answered)
    assert len(provider.answered) >= 9


# --- the history part itself -----------------------------------------------------------------------------------------

FRUITS = ("apple", "cherry", "grape", "lemon", "melon", "peach", "plum")


@tool
def read_book(path: str) -> str:
    """Read a book."""
    return "\n".join(f"line {n} of {path} is about {FRUITS[n * n % 7]} and {FRUITS[n % 5]}" for n in range(300))


def looks_up(number: int) -> Any:
    """A model that reads a book, and looks up a line of it that it was not shown."""

    def policy(asked: Asked) -> Reply:
        results = asked.turn_results
        if not results:
            return Reply(tool_calls=(ToolCall(name="read_book", args={"path": f"book{number}"}),))
        found = re.search(rf"line {number} of book{number} is about (\w+ and \w+)", "\n".join(results))
        if found:
            return Reply(text=f"About {found[1]}.")
        marks = re.findall(rf'{OURS}\("(\w+)"\)', "\n".join(results))
        look = ToolCall(name=OURS, args={"id": marks[0], "query": f"line {number}"})
        return Reply(text="Let me see.", tool_calls=(look,))

    return policy


@apis
@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("middleware", "astream"),
        ("middleware", "invoke"),
        ("wrap", "astream"),
        ("graph", "invoke"),
        ("binder", "stream"),
    ],
)
def test_an_optimised_agent_looks_up_what_it_was_not_shown(
    provider: ProviderServer, name: Provider, how: Any, kind: Run
) -> None:
    history = HistoryCompression(max_result_tokens=200, old_result_tokens=None)
    model = chat_model(name, provider.renewed(looks_up(133)))
    with optimizer(cache=None, tools=None, history=history) as tokopt:
        more: dict[str, Any] = {"checkpointer": InMemorySaver()}
        tools = [read_book, export_server]
        if how == "graph":
            agent = graph_of(tokopt.wrap(model).bind_tools(tools), ToolNode(tools), **more)
        elif how == "binder":
            binder = ToolBinder(tools)
            agent = graph_of(binder.bind(tokopt.wrap(model)), binder.node(), **more)
        else:
            agent = make_agent(how, model, tools, tokopt, **more)
        long = "Some words that come first. " * 400
        assert asks(agent, kind, f"{long}What is line 133 about?").answer.endswith("About apple and lemon.")
        provider.policy = looks_up(205)
        assert asks(agent, kind, "And line 205 of the next?").answer.endswith("About melon and apple.")
        assert tokopt.report().failures == ()
    check_grows(provider.answered)
    assert [OURS in names for names in tools_of(provider.answered)] == [False, *[True] * 5]
