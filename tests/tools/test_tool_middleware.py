from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
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

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import Decision, Failure
from langchain_tokopt.tools import ToolSelection, ToolSelectionMiddleware
from tests.fakes import ListSink, ScriptedModel, TableEmbeddings, ai
from tests.tools.toolbox import openai_dict, request, tool, toolbox

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


def call(name: str, id: str = "1", **args: Any) -> dict[str, Any]:  # noqa: A002 - the call's own field
    return {"name": name, "args": args, "id": id}


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


async def test_shadow_decides_and_changes_nothing(ask: Ask) -> None:
    responses = [ai(tool_calls=[call("search_tools", query="export_server")]), "done"]
    agent, model, sink = build(responses, middleware={"mode": "shadow"})
    messages = await ask(agent, DELETE)
    assert messages[2].status == "error"
    assert model.calls[0].tool_names == [one.name for one in toolbox()]
    decisions = sink.of(Decision)
    assert [(event.mode, event.action) for event in decisions] == [("shadow", "applied")] * 2
    assert decisions[0].tokens_after < decisions[0].tokens_before  # type: ignore[operator]


async def test_without_the_escape_hatch_there_is_no_search_tool(ask: Ask) -> None:
    responses = [ai(tool_calls=[call("search_tools", query="export_server")]), "done"]
    agent, model, _ = build(responses, middleware={"escape_hatch": False})
    messages = await ask(agent, "export")
    assert model.calls[0].tool_names == ["export_invoice", "export_ticket", "export_customer", "export_calendar"]
    assert messages[2].status == "error"


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
    assert len(seen) == 50  # 48 tools, the message, the search
    assert loop_thread not in seen


def test_dict_tools_of_a_bare_model_are_filtered() -> None:
    tools = [openai_dict(one.name, one.description) for one in toolbox()]
    flow = ToolSelectionMiddleware(narrow(), escape_hatch=False).run_flow(request(tools, HumanMessage("export")))
    sent = next(flow)
    assert sent.tools == [one for one in tools if one["function"]["name"].startswith("export_")][:4]
    flow.close()


def test_a_middleware_of_its_own_has_default_settings() -> None:
    own = ToolSelectionMiddleware()
    assert (own.selection.mode, own.selection.max_tools, own.escape_hatch) == ("auto", 10, True)
    assert own.name == "ToolSelectionMiddleware"
    with pytest.raises(ConfigurationError, match="mode="):
        ToolSelectionMiddleware(mode="rebind")  # type: ignore[arg-type]
