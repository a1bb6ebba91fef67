"""All kinds of calls, of tools that the model was not given: they run, and end, as those of the bare agent."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from langchain.agents import AgentState, create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ModelRequest
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain.tools import InjectedState, InjectedStore, InjectedToolCallId, ToolRuntime
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool, ToolException, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command
from pydantic import BaseModel

from langchain_tokopt.tools.ways import SelectionMode
from tests.providers.agents import APIS, Run, chat_model, run
from tests.providers.compared import MODES, THREAD, How, agent_of, both, modes, narrowing, shown
from tests.providers.replies import Asked, Provider, Reply, ToolCall
from tests.providers.server import ProviderServer
from tests.providers.wanting import CALL, MODELS, QUESTION, SEARCH, TOOLS, call, made_calls, wants

# --- several calls at once -------------------------------------------------------------------------------------------


@modes
@pytest.mark.parametrize("kind", ["invoke", "astream"])
def test_hidden_tools_are_called_at_once(
    provider: ProviderServer, mode: SelectionMode, name: Provider, kind: Run
) -> None:
    policy = wants([call("export_server"), call("create_ticket", "y"), call("export_server", "z")])
    ran = both(provider, mode, name, policy, kind=kind)
    assert ran.answer == "Done: export_server:x create_ticket:y export_server:z"
    ran.check_same()


@modes
def test_a_search_beside_a_call_is_answered_beside_it(
    provider: ProviderServer, mode: SelectionMode, name: Provider
) -> None:
    ran = both(provider, mode, name, wants([call("list_invoice"), call("export_server")]))
    assert ran.answer == "Done: list_invoice:x export_server:x"
    first = ran.ours.messages[1]
    assert isinstance(first, AIMessage)
    assert [each["name"] for each in first.tool_calls] == ["list_invoice", SEARCH]
    assert [message.name for message in ran.ours.messages[2:4]] == [SEARCH, "list_invoice"]
    assert len(ran.records) == 3


@modes
@pytest.mark.parametrize(("how", "kind"), [("wrap", "astream"), ("graph", "invoke")])
def test_a_search_beside_a_call_is_dropped_by_a_bare_model(
    provider: ProviderServer, mode: SelectionMode, name: Provider, how: How, kind: Run
) -> None:
    ran = both(provider, mode, name, wants([call("list_invoice"), call("export_server")]), how=how, kind=kind)
    assert ran.answer == "Done: list_invoice:x export_server:x"
    calls = [[each["name"] for each in getattr(message, "tool_calls", [])] for message in ran.ours.messages]
    assert calls == [[], ["list_invoice"], [], ["export_server"], [], []]


@pytest.mark.parametrize("name", APIS)
@pytest.mark.parametrize("kind", ["invoke", "astream"])
def test_one_call_through_another_tool_and_one_direct(provider: ProviderServer, name: Provider, kind: Run) -> None:
    """`export_server` is bound, `list_invoice` is told of: in one message the model calls them in different ways."""
    policy = wants([call("export_server"), call("list_invoice", "y"), call("export_server", "z")])
    ran = both(provider, "proxy", name, policy, kind=kind, pinned=["export_server"])
    ran.check_same()
    assert [each for each, _ in made_calls(ran.records[-1].asked)] == ["export_server", CALL, "export_server"]


# --- what tools are given and give back ------------------------------------------------------------------------------


class Counting(AgentState[Any]):
    """A state with a field that tools read and write."""

    count: int


class Counter(AgentMiddleware[Any, Any, Any]):
    state_schema = Counting

    def before_agent(self, state: Any, runtime: Any) -> dict[str, Any]:
        return {"count": 7}


@tool
def read_state(item: str, state: Annotated[dict[str, Any], InjectedState]) -> str:
    """Reads the whole state."""
    asked = [message.text for message in state["messages"] if isinstance(message, HumanMessage)]
    return f"{item} {state['count']} {asked == [QUESTION]}"


@tool
def read_field(item: str, count: Annotated[int, InjectedState("count")]) -> str:
    """Reads a field of the state."""
    return f"{item} {count}"


@tool
def read_store(item: str, store: Annotated[BaseStore, InjectedStore()]) -> str:
    """Reads the store."""
    found = store.get(("office",), "desk")
    return f"{item} {found.value['at'] if found else None}"


@tool
def read_runtime(item: str, runtime: ToolRuntime[None, Any]) -> str:
    """Reads what the run knows."""
    thread = runtime.config["configurable"]["thread_id"]
    return f"{item} {runtime.state['count']} {thread} {bool(runtime.tool_call_id)} {runtime.store is not None}"


@tool
def read_call(item: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> ToolMessage:
    """Reads the id of the call."""
    return ToolMessage(f"{item} {bool(tool_call_id)}", tool_call_id=tool_call_id, name="read_call")


@tool
def write_state(item: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Writes into the state."""
    done = ToolMessage(f"wrote {item}", tool_call_id=tool_call_id, name="write_state", artifact={"kept": item})
    return Command(update={"count": 8, "messages": [done]})


@tool(response_format="content_and_artifact")
def with_artifact(item: str) -> tuple[str, dict[str, Any]]:
    """Returns an artifact."""
    return item, {"of": item}


def fails(item: str) -> str:
    msg = f"no {item} today"
    raise ToolException(msg)


FAILS = StructuredTool.from_function(fails, name="fails", description="Fails.", handle_tool_error=True)
SPECIAL = [read_state, read_field, read_store, read_runtime, read_call, write_state, with_artifact, FAILS]


def equipment() -> dict[str, Any]:
    store = InMemoryStore()
    store.put(("office",), "desk", {"at": "the window"})
    return {"middleware": [Counter()], "store": store, "checkpointer": InMemorySaver()}


@pytest.mark.parametrize("kind", ["invoke", "ainvoke"])
@modes
def test_tools_are_given_what_they_ask_for_and_give_what_they_like(
    provider: ProviderServer, mode: SelectionMode, name: Provider, kind: Run
) -> None:
    policy = wants([call(each.name, f"{n}") for n, each in enumerate(SPECIAL)], [call("read_field", "again")])
    ran = both(provider, mode, name, policy, [*SPECIAL, *TOOLS], kind=kind, more=equipment)
    assert ran.answer == "Done: 0 7 True 1 7 2 the window 3 7 1 True True 4 True wrote 5 6 no 7 today again 8"
    assert ran.ours.state["count"] == 8
    ran.check_same()


@modes
def test_arguments_that_do_not_fit_are_told_to_the_model(
    provider: ProviderServer, mode: SelectionMode, name: Provider
) -> None:
    def policy(asked: Asked) -> Reply:
        failed = any("Error invoking tool" in text for text in asked.turn_results)
        return wants([call("export_server") if failed else ToolCall(name="export_server", args={"thing": "x"})])(asked)

    ran = both(provider, mode, name, policy)
    assert ran.answer.endswith("export_server:x")
    ran.check_same()


@modes
def test_an_error_that_a_tool_raises_is_the_agents(
    provider: ProviderServer, mode: SelectionMode, name: Provider
) -> None:
    def broken(item: str) -> str:
        msg = f"{item} is broken"
        raise RuntimeError(msg)

    tools = [*TOOLS, StructuredTool.from_function(broken, name="break_it", description="Breaks it.")]
    model = chat_model(name, provider.renewed(wants("break_it")), **MODELS[name])
    with narrowing(mode) as tokopt:
        agent = agent_of("middleware", model, tokopt, tools)
        with pytest.raises(RuntimeError, match="x is broken"):
            run("invoke", agent, [HumanMessage(QUESTION)])


@modes
def test_a_result_that_is_the_answer_ends_the_run(
    provider: ProviderServer, mode: SelectionMode, name: Provider
) -> None:
    def answer(item: str) -> str:
        return f"It is {item}."

    direct = StructuredTool.from_function(answer, name="direct", description="Answers.", return_direct=True)
    ran = both(provider, mode, name, wants("direct"), [*TOOLS, direct])
    assert ran.answer == "It is x."
    ran.check_same()


# --- thinking --------------------------------------------------------------------------------------------------------

THINKS: dict[str, Any] = {"thinking": {"type": "adaptive"}}
MUST_THINK: dict[str, Any] = {
    "model_name": "claude-sonnet-4-6",
    "thinking": {"type": "enabled", "budget_tokens": 1024},
}


@pytest.mark.parametrize(
    ("mode", "settings"),
    [("inline", THINKS), ("proxy", THINKS), ("proxy", MUST_THINK)],
    ids=["inline", "proxy", "proxy, must think"],
)
@pytest.mark.parametrize(("how", "kind"), [("middleware", "astream"), ("wrap", "astream"), ("graph", "invoke")])
def test_signed_thoughts_stay_valid(
    provider: ProviderServer, mode: SelectionMode, settings: dict[str, Any], how: How, kind: Run
) -> None:
    """Those of newer models hold only after all that came before them."""
    policy = wants("export_server", [call("list_invoice"), call("create_ticket")], thinking="Hm.", text="One moment.")
    ran = both(provider, mode, "anthropic", policy, settings=settings, kind=kind, how=how)
    assert ran.answer == ran.bare.answer == "Done: export_server:x list_invoice:x create_ticket:x"


# --- structured output and tool_choice -------------------------------------------------------------------------------


class Answer(BaseModel):
    """The final answer."""

    said: str


@modes
@pytest.mark.parametrize(
    ("strategy", "kind"), [(ToolStrategy, "invoke"), (ToolStrategy, "astream"), (ProviderStrategy, "invoke")]
)
def test_structured_output_with_hidden_tools(
    provider: ProviderServer, mode: SelectionMode, name: Provider, strategy: Any, kind: Run
) -> None:
    def policy(asked: Asked) -> Reply:
        reply = wants("export_server", [call("list_invoice"), call("create_ticket")])(asked)
        if reply.tool_calls:
            return reply
        if strategy is ToolStrategy:
            return Reply(tool_calls=(ToolCall(name="Answer", args={"said": reply.text}),))
        return Reply(text=json.dumps({"said": reply.text}))

    ran = both(provider, mode, name, policy, kind=kind, more=lambda: {"response_format": strategy(Answer)})
    said = Answer(said="Done: export_server:x list_invoice:x create_ticket:x")
    assert ran.ours.state["structured_response"] == ran.bare.state["structured_response"] == said


@modes
def test_structured_output_beside_a_search_leaves_no_open_call(
    provider: ProviderServer, mode: SelectionMode, name: Provider
) -> None:
    def policy(asked: Asked) -> Reply:
        answer = ToolCall(name="Answer", args={"said": asked.last_user.split()[0]})
        search = ToolCall(name=SEARCH, args={"query": "export server"})
        return Reply(tool_calls=(answer,) if asked.last_user.startswith("Again") else (search, answer))

    model = chat_model(name, provider.renewed(policy), **MODELS[name])
    with narrowing(mode) as tokopt:
        more: dict[str, Any] = {"checkpointer": InMemorySaver(), "response_format": ToolStrategy(Answer)}
        agent = agent_of("middleware", model, tokopt, **more)
        for question in (QUESTION, "Again ?"):
            ran = run("invoke", agent, [HumanMessage(question)], THREAD)
            assert ran.state["structured_response"] == Answer(said=question.split()[0])


# Newer ones refuse to be forced.
FORCED: dict[Provider, dict[str, Any]] = {**MODELS, "anthropic": {"model_name": "claude-opus-4-8"}}


class Forcing(AgentMiddleware[Any, Any, Any]):
    """Makes the model's first call in a turn one of `export_server`."""

    def wrap_model_call(self, request: ModelRequest[Any], handler: Any) -> Any:
        first = isinstance(request.messages[-1], HumanMessage)
        return handler(request.override(tool_choice="export_server") if first else request)


def obeys(asked: Asked) -> Reply:
    """Makes the call that it is forced to, and then one that it wants itself."""
    choice = asked.body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") in ("tool", "function"):
        assert choice.get("name", choice.get("function", {}).get("name")) == "export_server"
        assert "export_server" in asked.offered
        return Reply(tool_calls=(call("export_server", "forced"),))
    return wants("create_ticket")(asked)


@pytest.mark.parametrize(
    ("mode", "name"), [*MODES, ("proxy", "openai"), ("proxy", "responses"), ("inline", "anthropic")]
)
def test_a_hidden_tool_that_is_forced_is_called(provider: ProviderServer, mode: SelectionMode, name: Provider) -> None:
    """By middleware outside, for one call."""
    ended = []
    model = chat_model(name, provider, **FORCED[name])
    for ours in (False, True):
        provider.renewed(obeys)
        with narrowing(mode) as tokopt:
            agent = create_agent(model, TOOLS, middleware=[Forcing(), *(tokopt.middleware if ours else ())])
            ended.append(run("invoke", agent, [HumanMessage(QUESTION)]))
            assert (provider.rejected, provider.broken) == ([], [])
    assert ended[1].answer == "Done: export_server:forced create_ticket:x"
    assert shown(ended[1].state) == shown(ended[0].state)
    assert len(provider.answered[0].body["tools"]) < len(TOOLS)


@modes
def test_a_wrapped_model_is_forced_to_call_a_hidden_tool(
    provider: ProviderServer, mode: SelectionMode, name: Provider
) -> None:
    model = chat_model(name, provider.renewed(obeys), **FORCED[name])
    with narrowing(mode) as tokopt:
        message = tokopt.wrap(model).bind_tools(TOOLS, tool_choice="export_server").invoke(QUESTION)
    assert [(each["name"], each["args"]) for each in message.tool_calls] == [("export_server", {"item": "forced"})]
    assert len(provider.answered[0].body["tools"]) < len(TOOLS)
