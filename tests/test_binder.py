"""The tool selection in graphs that are written by hand."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition

from langchain_tokopt import TokenOptimizer
from langchain_tokopt.binder import ToolBinder
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import Decision
from langchain_tokopt.tools import ToolSelection
from tests.fakes import ListSink, ScriptedModel, ai
from tests.tools.toolbox import tool, toolbox

DELETE = HumanMessage("delete the invoice")
FIRST = ["search_tools", "create_invoice", "delete_invoice"]


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def call(name: str, call_id: str, /, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args, "id": call_id, "type": "tool_call"}


def binder(mode: Any = "rebind", **more: Any) -> ToolBinder:
    return ToolBinder(toolbox(), selection=ToolSelection(mode=mode, max_tools=2), **more)


def graph(tools: ToolBinder, model: ScriptedModel) -> Any:
    """A graph of two nodes, as anybody would write it."""

    def answer(state: State) -> dict[str, Any]:
        return {"messages": [tools.bind(model).invoke(state["messages"])]}

    async def aanswer(state: State) -> dict[str, Any]:
        return {"messages": [await tools.bind(model).ainvoke(state["messages"])]}

    built = StateGraph(State)
    built.add_node("answer", RunnableLambda(answer, aanswer))
    built.add_node("tools", tools.node())
    built.add_edge(START, "answer")
    built.add_conditional_edges("answer", tools_condition, {"tools": "tools", END: END})
    built.add_edge("tools", "answer")
    return built.compile(checkpointer=InMemorySaver())


@pytest.mark.parametrize("run", ["invoke", "ainvoke"])
@pytest.mark.parametrize("mode", ["rebind", "proxy"])
async def test_a_graph_runs_tools_that_were_not_selected(mode: Any, run: str) -> None:
    export = call("export_server", "b", item="x")
    through = call("call_tool", "b", name="export_server", arguments={"item": "x"})
    model = ScriptedModel(
        responses=[
            ai(tool_calls=[call("search_tools", "a", query="export_server", k=1)]),
            ai(tool_calls=[through if mode == "proxy" else export]),
            "done",
            "again",
        ]
    )
    agent = graph(binder(mode), model)
    config = {"configurable": {"thread_id": "1"}}

    async def ask(said: HumanMessage) -> list[AnyMessage]:
        given = {"messages": [said]}
        result = agent.invoke(given, config) if run == "invoke" else await agent.ainvoke(given, config)
        return list(result["messages"])

    messages = await ask(DELETE)
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert messages[1].tool_calls == [export]  # type: ignore[union-attr]
    assert (messages[2].name, messages[2].text, messages[3].text) == ("export_server", "export_server:x", "done")
    assert [message.text for message in await ask(HumanMessage("thanks"))][-2:] == ["thanks", "again"]
    sent = [one.tool_names for one in model.calls]
    if mode == "proxy":
        assert sent == [["search_tools", "call_tool"]] * 4
    else:
        assert sent == [FIRST] + [[*FIRST, "export_server"]] * 3


def test_the_node_runs_every_tool_of_the_graph() -> None:
    node = binder().node(handle_tool_errors=False)
    assert isinstance(node, ToolNode)
    assert list(node.tools_by_name) == [one.name for one in toolbox()]


def test_what_the_thread_needed_before_the_part_that_is_sent_stays_known() -> None:
    used = ai(tool_calls=[call("export_server", "b", item="x")])
    thread = [DELETE, used, ToolMessage("ok", name="export_server", tool_call_id="b"), AIMessage("done")]
    thread.append(HumanMessage("yes"))
    model = ScriptedModel()
    tools = binder()
    tools.bind(model, thread).invoke(thread[-1:])
    tools.bind(model).invoke(thread[-1:])
    assert model.calls[0].tool_names == [*FIRST, "export_server"]
    assert "export_server" not in model.calls[1].tool_names
    assert [len(one.messages) for one in model.calls] == [1, 1]


def test_options_of_bind_tools_are_passed_on() -> None:
    model = ScriptedModel()
    binder().bind(model, tool_choice="export_server", parallel_tool_calls=False).invoke([DELETE])
    assert model.calls[0].kwargs == {"tool_choice": "export_server", "parallel_tool_calls": False}
    assert model.calls[0].tool_names == [*FIRST, "export_server"]


def test_the_model_that_is_given_stays_as_it_is() -> None:
    model = ScriptedModel()
    binder().bind(model).invoke([DELETE])
    model.bind_tools(toolbox()).invoke([DELETE])
    assert [len(one.tools) for one in model.calls] == [3, 48]


def test_each_decision_is_told() -> None:
    sink = ListSink()
    binder(sink=sink).bind(ScriptedModel()).invoke([DELETE])
    (event,) = sink.of(Decision)
    assert (event.part, event.action, event.mode, event.detail["mode"]) == ("tools", "applied", "optimize", "rebind")


def test_in_shadow_all_tools_are_bound() -> None:
    sink, model = ListSink(), ScriptedModel()
    tools = ToolBinder(toolbox(), selection=ToolSelection(mode="rebind"), sink=sink, mode="shadow")
    tools.bind(model).invoke([DELETE])
    assert len(model.calls[0].tools) == 48
    assert [(event.mode, event.action) for event in sink.of(Decision)] == [("shadow", "applied")]


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ([], "tools=.* cannot be used: pass the tools that the graph can run"),
        ([tool("send"), tool("send")], "tools='send' cannot be used: two tools have this name"),
    ],
)
def test_tools_that_cannot_work_are_refused_at_once(tools: list[Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ToolBinder(tools)


def test_by_default_the_cheapest_way_is_chosen() -> None:
    own = ToolBinder(toolbox())
    assert (own.selection.mode, own.selection.max_tools) == ("auto", 10)


def test_a_model_that_an_optimizer_has_wrapped_can_be_given() -> None:
    call = {"name": "call_tool", "args": {"name": "delete_invoice", "arguments": {"item": "7"}}, "id": "a"}
    model = ScriptedModel(responses=[ai(tool_calls=[call], input_tokens=40, output_tokens=2)])
    with TokenOptimizer(cache=None, tools=None, history=None) as tokopt:
        binder = ToolBinder(toolbox(), selection=ToolSelection(mode="proxy", max_tools=2))
        answer = binder.bind(tokopt.wrap(model)).invoke([HumanMessage("delete the invoice")])
        assert tokopt.report().measured.calls == 1
    assert model.calls[0].tool_names == ["search_tools", "call_tool"]
    assert [call["name"] for call in answer.tool_calls] == ["delete_invoice"]
