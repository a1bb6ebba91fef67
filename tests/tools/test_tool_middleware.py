from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain.tools import InjectedState, ToolRuntime
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool as as_tool
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from langchain_tokopt.database import Database
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import Decision, Failure
from langchain_tokopt.tools import ToolSelection, ToolSelectionMiddleware
from tests.fakes import ListSink, ScriptedModel, TableEmbeddings, ai
from tests.tools.toolbox import openai_dict, tool, toolbox, wire

DELETE = "delete the invoice"
Ask = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    async def run(agent: Any, said: str | None, thread: str | None = None) -> list[Any]:
        given = None if said is None else {"messages": [HumanMessage(said)]}
        config = {"configurable": {"thread_id": thread}} if thread else {}
        result = agent.invoke(given, config) if request.param == "sync" else await agent.ainvoke(given, config)
        return list(result["messages"])

    return run


def call(name: str, call_id: str = "1", /, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args, "id": call_id}


def narrow(**settings: Any) -> ToolSelection:
    return ToolSelection(mode="rebind", **{"max_tools": 2, **settings})


def build(
    responses: list[Any], tools: list[Any] | None = None, selection: ToolSelection | None = None, **more: Any
) -> tuple[Any, ScriptedModel, ListSink]:
    model, sink = ScriptedModel(responses=responses), ListSink()
    around = more.pop("around", [])
    own = ToolSelectionMiddleware(selection or narrow(), sink=sink, **more.pop("middleware", {}))
    agent = create_agent(model, toolbox() if tools is None else tools, middleware=[*around, own], **more)
    return agent, model, sink


async def test_a_tool_that_was_not_selected_is_found_and_used(ask: Ask) -> None:
    agent, model, sink = build(
        [
            ai(tool_calls=[call("search_tools", "a", query="export the server", k=1)]),
            ai(tool_calls=[call("export_server", "b", item="web-1")]),
            "done",
        ]
    )
    messages = await ask(agent, DELETE)
    assert messages[2].text == "These tools can be called now:\n- export_server(item: string): export server"
    assert (messages[2].name, messages[2].status, messages[2].tool_call_id) == ("search_tools", "success", "a")
    assert messages[4].text == "export_server:web-1"
    assert messages[-1].text == "done"
    first = ["search_tools", "create_invoice", "delete_invoice"]
    assert [one.tool_names for one in model.calls] == [first, [*first, "export_server"], [*first, "export_server"]]
    assert [event.action for event in sink.of(Decision)] == ["applied"] * 3
    assert sink.of(Failure) == []


async def test_a_search_finds_what_several_words_or_names_ask_for(ask: Ask) -> None:
    agent, model, _ = build(
        [ai(tool_calls=[call("search_tools", query="export", names=["list_server", "qqq"], k=8)]), "done"]
    )
    messages = await ask(agent, DELETE)
    assert messages[2].text.splitlines()[-2:] == [
        "* export_shipment(item: string): export shipment",
        "There is no tool named 'qqq'.",
    ]
    exported = [f"export_{noun}" for noun in ("invoice", "ticket", "customer", "calendar")]
    assert model.calls[1].tool_names[3:] == ["list_server", *exported]


async def test_a_search_that_cannot_be_read_is_answered_and_the_agent_goes_on(ask: Ask) -> None:
    agent, _, sink = build([ai(tool_calls=[call("search_tools", query=7)]), "done"])
    messages = await ask(agent, DELETE)
    assert (messages[2].status, messages[-1].text) == ("error", "done")
    assert messages[2].text.startswith("The search could not be read: query: ")
    assert sink.of(Failure) == []


async def test_who_searches_without_end_is_told_to_stop_and_then_cannot(ask: Ask) -> None:
    searches = [ai(tool_calls=[call("search_tools", str(n), query="export_server", k=1)]) for n in range(7)]
    agent, model, _ = build([*searches[:6], "I give up", "later"], checkpointer=InMemorySaver())
    messages = await ask(agent, DELETE, "t1")
    results = [message.text for message in messages if isinstance(message, ToolMessage)]
    assert results[0].startswith("These tools can be called now:")
    assert [text.startswith("You have searched enough.") for text in results] == [False] * 4 + [True] * 2
    first = ["create_invoice", "delete_invoice", "export_server"]
    assert [one.tool_names for one in model.calls[1:6]] == [["search_tools", *first]] * 5
    assert model.calls[6].tool_names == first
    assert messages[-1].text == "I give up"
    await ask(agent, "yes", "t1")
    assert model.calls[7].tool_names == ["search_tools", *first]


async def test_a_search_says_what_is_bound_already(ask: Ask) -> None:
    agent, _, _ = build([ai(tool_calls=[call("search_tools", query="delete_invoice", k=1)]), "done"])
    messages = await ask(agent, DELETE)
    assert messages[2].text.endswith("- delete_invoice(item: string) (already bound): delete invoice")


async def test_parallel_searches_and_calls_all_get_their_answer(ask: Ask) -> None:
    agent, model, _ = build(
        [
            ai(
                tool_calls=[
                    call("search_tools", "a", query="export_server", k=1),
                    call("delete_invoice", "b", item="7"),
                    call("search_tools", "c", query="list_report", k=1),
                    call("create_ticket", "d", item="hidden"),
                ]
            ),
            "done",
        ]
    )
    messages = await ask(agent, DELETE)
    answers = {message.tool_call_id: message.text for message in messages if isinstance(message, ToolMessage)}
    assert answers["b"] == "delete_invoice:7"
    assert answers["d"] == "create_ticket:hidden"
    assert "export_server(" in answers["a"]
    assert "list_report(" in answers["c"]
    first = ["search_tools", "create_invoice", "delete_invoice"]
    assert model.calls[1].tool_names == [*first, "create_ticket", "export_server", "list_report"]


@pytest.mark.parametrize("args", [{}, {"query": ""}, {"query": "x" * 200_000}, {"query": "server", "k": -3}])
async def test_any_search_is_answered(ask: Ask, args: dict[str, Any]) -> None:
    agent, _, _ = build([ai(tool_calls=[call("search_tools", **args)]), "done"])
    messages = await ask(agent, DELETE)
    assert messages[2].status == "success"
    assert len(messages[2].text) < 2_000


async def test_what_a_thread_bound_stays_bound_over_turns(ask: Ask) -> None:
    saver = InMemorySaver()
    responses = [
        ai(tool_calls=[call("search_tools", "a", query="export_server", k=1)]),
        ai(tool_calls=[call("export_server", "b", item="x")]),
        "first",
        "second",
        "third",
    ]
    agent, model, _ = build(responses, checkpointer=saver)
    for said in (DELETE, "list_report", "and export_server"):
        await ask(agent, said, "t1")
    sent = [one.tool_names for one in model.calls]
    assert sent[2] == ["search_tools", "create_invoice", "delete_invoice", "export_server"]
    assert sent[3][:4] == sent[2]
    assert "list_report" in sent[3][4:]
    assert sent[4][: len(sent[3])] == sent[3]


async def test_a_fresh_process_binds_the_same_tools(ask: Ask) -> None:
    saver = InMemorySaver()
    one, first, _ = build(
        [ai(tool_calls=[call("search_tools", "a", query="export_server", k=1)]), "first"], checkpointer=saver
    )
    await ask(one, DELETE, "t1")
    other, second, _ = build(["second"], checkpointer=saver)
    await ask(other, "yes", "t1")
    assert second.calls[0].tool_names == first.calls[-1].tool_names


async def test_a_search_is_answered_within_the_step_and_kept_in_the_thread(ask: Ask) -> None:
    searching = ai(tool_calls=[call("search_tools", "a", query="export_server", k=1)])
    agent, model, sink = build([searching, "done"], checkpointer=InMemorySaver(), interrupt_before=["tools"])
    messages = await ask(agent, DELETE, "t1")
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai"]
    assert [message.name for message in messages if isinstance(message, ToolMessage)] == ["search_tools"]
    assert "export_server" in model.calls[1].tool_names
    lost, _ = sink.of(Decision)
    assert "only searched for tools" in (lost.reason or "")
    assert lost.saved_usd is not None
    assert lost.saved_usd < 0


async def test_over_a_long_loop_the_bound_tools_only_grow_at_the_end(ask: Ask) -> None:
    steps: list[Any] = [
        ai(tool_calls=[call("search_tools", "0", query="export", k=3)]),
        *(ai(tool_calls=[call(name, str(n), item="x")]) for n, name in enumerate(["list_server"] * 4, 1)),
        *(ai(tool_calls=[call("search_tools", str(n), query="ticket", k=2)]) for n in range(5, 8)),
        ai(tool_calls=[call("delete_invoice", "8", item="x"), call("create_campaign", "9", item="y")]),
        "done",
    ]
    agent, model, sink = build(steps)
    await ask(agent, DELETE)
    sent = [one.tool_names for one in model.calls]
    assert len(sent) == 10
    for before, after in itertools.pairwise(sent):
        assert after[: len(before)] == before
    assert [len(names) for names in sent] == [3, 6, 7, 7, 7, 7, 9, 9, 9, 10]
    schemas = [one.tools for one in model.calls]
    assert schemas[-1][:3] == schemas[0]
    assert all(event.saved_usd is not None for event in sink.of(Decision))


async def test_a_hidden_tool_that_the_model_names_runs_and_is_bound_from_then_on(ask: Ask) -> None:
    agent, model, _ = build([ai(tool_calls=[call("export_server", item="x")]), "done"])
    messages = await ask(agent, DELETE)
    assert messages[2].text == "export_server:x"
    assert model.calls[1].tool_names[-1] == "export_server"


async def test_a_tool_that_does_not_exist_is_left_to_the_agent(ask: Ask) -> None:
    responses = [ai(tool_calls=[call("no_such_tool")]), "done"]
    agent, _, _ = build(responses)
    plain = create_agent(ScriptedModel(responses=responses), toolbox())
    assert (await ask(agent, DELETE))[2].text == (await ask(plain, DELETE))[2].text


async def test_tools_get_their_state_and_runtime(ask: Ask) -> None:
    agent, _, _ = build(
        [ai(tool_calls=[call("count_messages", "a"), call("own_call", "b")]), "done"],
        [*toolbox(), count_messages, own_call],
    )
    messages = await ask(agent, DELETE)
    assert [message.text for message in messages if isinstance(message, ToolMessage)] == ["2", "b"]


@as_tool
def count_messages(state: Annotated[dict[str, Any], InjectedState]) -> str:
    """How many messages there are."""
    return str(len(state["messages"]))


@as_tool
def own_call(runtime: ToolRuntime) -> str:
    """The id of this call."""
    return str(runtime.tool_call_id)


async def test_an_agent_that_is_not_narrowed_is_unchanged(ask: Ask) -> None:
    responses = [ai(tool_calls=[call("search_tools", "a"), call("list_server", "b", item="x")]), "done"]
    few = [one for one in toolbox() if not one.name.startswith("export_")][-29:]
    agent, model, sink = build(responses, few, ToolSelection())
    plain_model = ScriptedModel(responses=responses)
    messages, expected = await ask(agent, DELETE), await ask(create_agent(plain_model, few), DELETE)
    assert [message.text for message in messages] == [message.text for message in expected]
    assert [one.tools for one in model.calls] == [one.tools for one in plain_model.calls]
    assert [one.kwargs for one in model.calls] == [one.kwargs for one in plain_model.calls]
    assert [event.action for event in sink.of(Decision)] == ["skipped", "skipped"]


async def test_an_agent_without_tools_works(ask: Ask) -> None:
    agent, model, sink = build(["hello"], [])
    assert (await ask(agent, DELETE))[-1].text == "hello"
    assert model.calls[0].tools == []
    assert [event.reason for event in sink.of(Decision)] == ["nothing to choose from: 0 function tools"]


@pytest.mark.parametrize("mode", ["rebind", "proxy", "inline", "auto"])
async def test_shadow_decides_and_changes_nothing(ask: Ask, mode: Any) -> None:
    responses = [
        ai(tool_calls=[call("search_tools", "a", query="export_server"), call("list_server", "b", item="x")]),
        ai(tool_calls=[call("call_tool", "c", name="list_server", arguments={"item": "x"})]),
        "done",
    ]
    selection = ToolSelection(mode=mode, max_tools=2, min_tools=0)
    agent, model, sink = build(responses, selection=selection, middleware={"mode": "shadow"})
    plain_model = ScriptedModel(responses=responses)
    messages, expected = await ask(agent, DELETE), await ask(create_agent(plain_model, toolbox()), DELETE)
    assert [message.text for message in messages] == [message.text for message in expected]
    assert [one.tools for one in model.calls] == [one.tools for one in plain_model.calls]
    assert [wire(one.messages) for one in model.calls] == [wire(one.messages) for one in plain_model.calls]
    decisions = sink.of(Decision)
    assert {event.mode for event in decisions} == {"shadow"}
    if mode in ("rebind", "proxy"):
        assert [event.action for event in decisions] == ["applied"] * 3
        assert decisions[0].tokens_after < decisions[0].tokens_before  # type: ignore[operator]


async def test_a_tool_of_the_user_named_search_tools_is_the_users(ask: Ask) -> None:
    agent, model, _ = build(
        [
            ai(
                tool_calls=[call("search_tools", "a", item="mine"), call("find_tools", "b", query="export_server", k=1)]
            ),
            "done",
        ],
        toolbox(tool("search_tools")),
    )
    messages = await ask(agent, DELETE)
    results = {message.tool_call_id: message.text for message in messages if isinstance(message, ToolMessage)}
    assert results["a"] == "search_tools:mine"
    assert "export_server(" in results["b"]
    assert model.calls[0].tool_names[0] == "find_tools"
    assert model.calls[1].tool_names[-2:] == ["search_tools", "export_server"]


async def test_tools_that_another_middleware_adds_can_be_found_and_run(ask: Ask) -> None:
    late = tool("late_report", "Weekly figures")

    class Adds(AgentMiddleware[Any, Any, Any]):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            return handler(request.override(tools=[*request.tools, late]))

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            return await handler(request.override(tools=[*request.tools, late]))

        def wrap_tool_call(self, request: Any, handler: Any) -> Any:
            mine = request.tool_call["name"] == late.name
            return handler(request.override(tool=late) if mine else request)

        async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
            mine = request.tool_call["name"] == late.name
            return await handler(request.override(tool=late) if mine else request)

    agent, model, _ = build(
        [
            ai(tool_calls=[call("search_tools", "a", query="weekly figures", k=1)]),
            ai(tool_calls=[call("late_report", "b", item="May")]),
            "done",
        ],
        around=[Adds()],
    )
    messages = await ask(agent, DELETE)
    assert messages[4].text == "late_report:May"
    assert model.calls[1].tool_names[-1] == "late_report"


async def test_structured_output_keeps_its_tool(ask: Ask) -> None:
    class Answer(BaseModel):
        text: str

    agent, model, _ = build(
        [
            ai(tool_calls=[call("search_tools", "a", query="export_server", k=1)]),
            ai(tool_calls=[call("Answer", "b", text="ok")]),
        ],
        response_format=ToolStrategy(Answer),
    )
    await ask(agent, DELETE)
    first = ["search_tools", "create_invoice", "delete_invoice"]
    assert [one.tool_names for one in model.calls] == [[*first, "Answer"], [*first, "export_server", "Answer"]]


async def test_trimming_what_is_shown_does_not_unbind_tools(ask: Ask) -> None:
    class ShowsTheLast(AgentMiddleware[Any, Any, Any]):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            return handler(request.override(messages=request.messages[-1:]))

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            return await handler(request.override(messages=request.messages[-1:]))

    agent, model, _ = build(["first", "second"], around=[ShowsTheLast()], checkpointer=InMemorySaver())
    await ask(agent, DELETE, "t1")
    await ask(agent, "list_report", "t1")
    assert model.calls[1].messages == [model.calls[1].messages[-1]]
    assert model.calls[1].tool_names[:3] == model.calls[0].tool_names


async def test_a_decision_says_what_was_done_for_whom(ask: Ask) -> None:
    agent, _, sink = build(["done"], checkpointer=InMemorySaver())
    await ask(agent, DELETE, "t1")
    (event,) = sink.of(Decision)
    assert (event.part, event.who.thread, event.reason) == ("tools", "t1", "asked for by mode='rebind'")
    assert event.detail["hidden"] == 46
    assert event.seconds is not None


# --- calls through another tool --------------------------------------------------------------------------------------


def proxy(**settings: Any) -> ToolSelection:
    return ToolSelection(mode="proxy", **{"max_tools": 2, **settings})


async def test_the_agent_sees_real_calls_and_the_model_what_it_said(ask: Ask) -> None:
    said = ai(
        "on it",
        tool_calls=[
            call("call_tool", "a", name="delete_invoice", arguments={"item": "7"}),
            call("list_report", "b", item="May"),
        ],
    )
    agent, model, sink = build(
        [said, "done", "again"], selection=proxy(pinned=["list_report"]), checkpointer=InMemorySaver()
    )
    messages = await ask(agent, DELETE, "t1")
    assert [(one["name"], one["args"], one["id"]) for one in messages[1].tool_calls] == [
        ("delete_invoice", {"item": "7"}, "a"),
        ("list_report", {"item": "May"}, "b"),
    ]
    assert [(message.name, message.text) for message in messages[2:4]] == [
        ("delete_invoice", "delete_invoice:7"),
        ("list_report", "list_report:May"),
    ]
    await ask(agent, "list the servers", "t1")
    assert [one.tool_names for one in model.calls] == [["list_report", "search_tools", "call_tool"]] * 3
    for one in model.calls[1:]:
        assert wire([one.messages[1]]) == wire([said])
        assert [message.name for message in one.messages[2:4]] == ["call_tool", "list_report"]
    before, after = (wire(one.messages) for one in model.calls[1:])
    assert after[: len(before)] == before
    assert messages[0].text == DELETE
    assert sink.of(Failure) == []


async def test_a_call_that_stands_for_no_tool_is_answered_within_the_step(ask: Ask) -> None:
    agent, model, _ = build(
        [
            ai(tool_calls=[call("call_tool", "a", name="delete_invoices", arguments={"item": "7"})]),
            ai(tool_calls=[call("call_tool", "b", name="delete_invoice", arguments={"item": "7"})]),
            "done",
        ],
        selection=proxy(),
    )
    messages = await ask(agent, DELETE)
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai", "tool", "ai"]
    assert (messages[2].status, messages[2].name) == ("error", "call_tool")
    assert messages[2].text.splitlines()[:2] == [
        "There is no tool named 'delete_invoices'. The nearest ones are:",
        "- delete_invoice(item: string)",
    ]
    assert messages[4].text == "delete_invoice:7"
    assert len(model.calls) == 3


async def test_a_hidden_tool_that_is_found_is_called_through_the_other(ask: Ask) -> None:
    agent, model, _ = build(
        [
            ai(tool_calls=[call("search_tools", "a", query="export_server", k=1)]),
            ai(tool_calls=[call("call_tool", "b", name="export_server", arguments={"item": "x"})]),
            "done",
        ],
        selection=proxy(),
    )
    messages = await ask(agent, DELETE)
    assert messages[2].text.splitlines()[1:] == ["- export_server: export server", "  item: string"]
    assert messages[4].text == "export_server:x"
    assert [one.tool_names for one in model.calls] == [["search_tools", "call_tool"]] * 3


async def test_a_hidden_tool_that_the_model_calls_by_its_own_name_runs_too(ask: Ask) -> None:
    agent, model, _ = build([ai(tool_calls=[call("export_server", item="x")]), "done"], selection=proxy())
    messages = await ask(agent, DELETE)
    assert messages[2].text == "export_server:x"
    shown = model.calls[1].messages[1]
    assert isinstance(shown, AIMessage)
    assert shown.tool_calls[0]["args"] == {"name": "export_server", "arguments": {"item": "x"}}


async def test_a_search_beside_a_call_through_the_other_tool(ask: Ask) -> None:
    both = ai(
        tool_calls=[
            call("search_tools", "a", query="export_server", k=1),
            call("call_tool", "b", name="delete_invoice", arguments={"item": "7"}),
        ]
    )
    agent, model, _ = build([both, "done"], selection=proxy())
    messages = await ask(agent, DELETE)
    results = {message.tool_call_id: message.name for message in messages if isinstance(message, ToolMessage)}
    assert results == {"a": "search_tools", "b": "delete_invoice"}
    assert wire([model.calls[1].messages[1]]) == wire([both])


# --- what is learned -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["rebind", "proxy"])
async def test_what_one_thread_needed_the_next_one_gets(ask: Ask, mode: Any) -> None:
    paperwork = "sort out the paperwork"
    hidden = call("call_tool", name="export_contract", arguments={"item": "x"})
    needed = hidden if mode == "proxy" else call("export_contract", item="x")
    agent, model, sink = build(
        [ai(tool_calls=[needed]), "done", "done"], selection=ToolSelection(mode=mode, max_tools=1)
    )
    await ask(agent, paperwork)
    await ask(agent, f"{paperwork} of Ada")
    told = str(model.calls[2].messages[0].text) + str(model.calls[2].tool_names)
    assert "export_contract" in told
    assert "create_invoice" not in told
    assert sink.of(Decision)[2].detail["asked"] == 1


# --- what may go wrong -----------------------------------------------------------------------------------------------


async def test_a_mode_that_the_model_does_not_allow_is_on_record_and_once_in_the_log(
    ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    agent, model, sink = build(["done"], selection=ToolSelection(mode="inline", max_tools=2))
    for _ in range(2):
        await ask(agent, DELETE)
    assert [event.error[:51] for event in sink.of(Failure)] == [
        "ConfigurationError: mode='inline' cannot be used: u"
    ] * 2
    assert len(caplog.records) == 1
    assert len(model.calls) == 2


async def test_a_database_that_fails_is_on_record_and_the_agent_goes_on(ask: Ask, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'tokopt.db'}")
    agent, model, sink = build(
        [ai(tool_calls=[call("delete_invoice", item="7")]), "done"],
        selection=narrow(database=database, embeddings=TableEmbeddings()),
    )
    database.close()
    assert (await ask(agent, DELETE))[-1].text == "done"
    assert model.calls[0].tool_names == ["search_tools", "create_invoice", "delete_invoice"]
    assert {event.error.split(":")[0] for event in sink.of(Failure)} == {"StoreError"}
    assert [event.detail["embedded"] for event in sink.of(Decision)] == [True, True]


async def test_tools_that_change_in_the_middle_of_a_run_are_followed(ask: Ask) -> None:
    late, other = tool("late_invoice", "Delete the late invoice"), tool("delete_invoice", "Now otherwise")
    boxes = [toolbox(), toolbox(late), [one for one in toolbox() if one.name != "create_invoice"]]
    boxes.append([other if one.name == "delete_invoice" else one for one in toolbox()])
    turn = iter(boxes)

    class Changes(AgentMiddleware[Any, Any, Any]):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            return handler(request.override(tools=next(turn)))

        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            return await handler(request.override(tools=next(turn)))

        def wrap_tool_call(self, request: Any, handler: Any) -> Any:
            return handler(request)

        async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
            return await handler(request)

    calls = [ai(tool_calls=[call("list_server", str(n), item="x")]) for n in range(3)]
    agent, model, sink = build([*calls, "done"], around=[Changes()])
    assert (await ask(agent, DELETE))[-1].text == "done"
    assert [one.tool_names for one in model.calls] == [
        ["search_tools", "create_invoice", "delete_invoice"],
        ["search_tools", "create_invoice", "delete_invoice", "list_server"],
        ["search_tools", "delete_invoice", "list_server"],
        ["search_tools", "create_invoice", "delete_invoice", "list_server"],
    ]
    assert model.calls[3].tools[2]["function"]["description"] == "Now otherwise"
    assert sink.of(Failure) == []


@pytest.mark.parametrize("mode", ["rebind", "proxy", "inline", "auto"])
async def test_tools_with_schemas_that_cannot_be_read_are_sent_as_they_are(ask: Ask, mode: Any) -> None:
    odd = [
        {
            "type": "function",
            "function": {"name": "odd", "description": None, "parameters": {"type": 7, "$ref": "#/x"}},
        },
        {"type": "function", "function": {"name": "bare"}},
        {"type": "function", "function": {"name": "list", "parameters": {"properties": ["a"]}}},
    ]
    agent, model, sink = build(
        ["done"], [*toolbox(), *odd], ToolSelection(mode=mode, max_tools=2, min_tools=0, pinned=["odd", "bare", "list"])
    )
    assert (await ask(agent, DELETE))[-1].text == "done"
    assert {"odd", "bare", "list"}.issubset(model.calls[0].tool_names)
    assert [event.error for event in sink.of(Failure) if "mode=" not in event.error] == []


async def test_an_error_of_the_model_passes_and_the_decision_is_on_record(ask: Ask) -> None:
    agent, _, sink = build([ValueError("overloaded")])
    with pytest.raises(ValueError, match="overloaded"):
        await ask(agent, DELETE)
    assert [event.action for event in sink.of(Decision)] == ["applied"]
    assert sink.of(Failure) == []


async def test_equal_names_are_put_on_record_and_the_call_goes_on(ask: Ask) -> None:
    tools = [openai_dict(one.name) for one in toolbox()] + [openai_dict("delete_invoice")]
    agent, model, sink = build(["done"], tools)
    await ask(agent, DELETE)
    assert len(model.calls[0].tools) == 49
    assert [event.error.split(":")[0] for event in sink.of(Failure)] == ["ConfigurationError"]
    assert [event.action for event in sink.of(Decision)] == ["skipped"]


async def test_a_failing_embedder_is_reported_once_and_the_agent_goes_on(
    ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(TableEmbeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            raise OSError("no network")

    agent, model, sink = build(["done"], selection=narrow(embeddings=Broken()))
    for _ in range(3):
        await ask(agent, DELETE)
    assert [event.error for event in sink.of(Failure)] == ["OSError: no network"]
    assert len(caplog.records) == 1
    assert model.calls[2].tool_names == ["search_tools", "create_invoice", "delete_invoice"]


async def test_many_threads_at_once_each_get_their_own_tools(ask: Ask) -> None:
    nouns = ["invoice", "ticket", "server", "report"]

    def answer(messages: list[Any]) -> AIMessage | str:
        said = messages[0].text
        if len(messages) == 1:
            return ai(tool_calls=[call("search_tools", "same-id", query=f"export_{said.split()[-1]}", k=1)])
        return messages[-1].text

    agent, _, _ = build([answer])
    lock, results = threading.Lock(), dict[str, str]()

    async def one(noun: str) -> None:
        messages = await ask(agent, f"delete the {noun}")
        with lock:
            results[noun] = messages[-1].text

    await asyncio.gather(*(one(noun) for noun in nouns))
    assert results == {
        noun: f"These tools can be called now:\n- export_{noun}(item: string): export {noun}" for noun in nouns
    }


async def test_no_step_of_an_async_agent_runs_on_the_event_loop() -> None:
    loop_thread = threading.get_ident()
    seen: list[int] = []

    class Watched(TableEmbeddings):
        def embed_query(self, text: str) -> list[float]:
            seen.append(threading.get_ident())
            return super().embed_query(text)

    agent, _, _ = build(
        [ai(tool_calls=[call("search_tools", query="server")]), "done"], selection=narrow(embeddings=Watched())
    )
    await agent.ainvoke({"messages": [HumanMessage(DELETE)]})
    assert len(seen) == 98  # two texts of each of 48 tools, the message, the search
    assert loop_thread not in seen


def test_a_middleware_of_its_own_has_default_settings() -> None:
    own = ToolSelectionMiddleware()
    assert (own.selection.mode, own.selection.max_tools, own.keeps_searches) == ("auto", 10, True)
    assert own.name == "ToolSelectionMiddleware"
    with pytest.raises(ConfigurationError, match="mode="):
        ToolSelectionMiddleware(mode="rebind")  # type: ignore[arg-type]
