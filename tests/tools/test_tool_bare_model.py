"""Tools chosen for a model that is called by hand: it has one answer to give, and nobody to run a search for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage

from langchain_tokopt.events import Decision, Failure
from langchain_tokopt.model import OptimizedChatModel
from langchain_tokopt.tools import ToolSelection, ToolSelectionMiddleware
from tests.fakes import ListSink, ScriptedModel, ai
from tests.tools.toolbox import openai_dict, toolbox, wire

DELETE = HumanMessage("delete the invoice")
Ask = Callable[..., Any]


@pytest.fixture(params=["invoke", "ainvoke", "stream", "astream"])
def ask(request: pytest.FixtureRequest) -> Ask:
    async def run(bound: Any, *messages: BaseMessage) -> AIMessage:
        given = list(messages)
        if request.param == "invoke":
            return bound.invoke(given)  # type: ignore[no-any-return]
        if request.param == "ainvoke":
            return await bound.ainvoke(given)  # type: ignore[no-any-return]
        chunks = list(bound.stream(given)) if request.param == "stream" else [one async for one in bound.astream(given)]
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole += chunk
        assert isinstance(whole, AIMessageChunk)
        return whole

    return run


def call(name: str, call_id: str, /, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args, "id": call_id, "type": "tool_call"}


def build(
    responses: list[Any], mode: Any = "rebind", tools: list[Any] | None = None
) -> tuple[Any, ScriptedModel, ListSink]:
    model, sink = ScriptedModel(responses=responses), ListSink()
    own = ToolSelectionMiddleware(ToolSelection(mode=mode, max_tools=2), sink=sink, keeps_searches=False)
    bound = OptimizedChatModel.around(model, own.run_flow).bind_tools(toolbox() if tools is None else tools)
    return bound, model, sink


async def test_a_search_leaves_one_answer(ask: Ask) -> None:
    search = ai("let me see", tool_calls=[call("search_tools", "a", query="export_server", k=1)])
    bound, model, sink = build([search, ai(tool_calls=[call("export_server", "b", item="x")])])
    answer = await ask(bound, DELETE)
    assert answer.tool_calls == [call("export_server", "b", item="x")]
    assert [one.tool_names for one in model.calls] == [
        ["search_tools", "create_invoice", "delete_invoice"],
        ["search_tools", "create_invoice", "delete_invoice", "export_server"],
    ]
    assert wire(model.calls[1].messages[:2]) == wire([DELETE, search])
    assert model.calls[1].messages[2].text.startswith("These tools can be called now:")
    assert [event.action for event in sink.of(Decision)] == ["applied"] * 2
    assert sink.of(Failure) == []


@pytest.mark.parametrize("mode", ["rebind", "proxy"])
async def test_the_model_sees_the_search_again_where_the_thread_goes_on(ask: Ask, mode: Any) -> None:
    used = call("export_server", "b", item="x")
    through = call("call_tool", "b", name="export_server", arguments={"item": "x"})
    search = ai(tool_calls=[call("search_tools", "a", query="export_server", k=1)])
    bound, model, _ = build([search, ai(tool_calls=[through if mode == "proxy" else used]), "done"], mode)
    answer = await ask(bound, DELETE)
    result = ToolMessage("ok", name="export_server", tool_call_id="b")
    assert (await ask(bound, DELETE, answer, result)).text == "done"
    before, after = model.calls[1:]
    assert after.tool_names == before.tool_names
    assert wire(after.messages[: len(before.messages)]) == wire(before.messages)
    assert [type(message).__name__.removesuffix("Chunk") for message in after.messages] == [
        *("HumanMessage", "AIMessage", "ToolMessage", "AIMessage", "ToolMessage"),
    ]


async def test_a_tool_that_was_used_is_known_without_the_search_that_found_it(ask: Ask) -> None:
    bound, model, _ = build(["done"])
    used = ai(tool_calls=[call("export_server", "b", item="x")])
    await ask(bound, DELETE, used, ToolMessage("ok", name="export_server", tool_call_id="b"))
    assert model.calls[0].tool_names == ["search_tools", "create_invoice", "delete_invoice", "export_server"]


async def test_beside_a_real_call_a_search_is_dropped(ask: Ask) -> None:
    both = ai(tool_calls=[call("search_tools", "a", query="export"), call("delete_invoice", "b", item="7")])
    bound, model, _ = build([both])
    assert (await ask(bound, DELETE)).tool_calls == [call("delete_invoice", "b", item="7")]
    assert len(model.calls) == 1


async def test_a_call_through_another_tool_is_a_real_one_and_shown_as_it_was_made(ask: Ask) -> None:
    said = ai(tool_calls=[call("call_tool", "a", name="delete_invoice", arguments={"item": "7"})])
    bound, model, _ = build([said, "done"], "proxy")
    real = await ask(bound, DELETE)
    assert real.tool_calls == [call("delete_invoice", "a", item="7")]
    await ask(bound, DELETE, real, ToolMessage("ok", name="delete_invoice", tool_call_id="a"))
    (shown,) = (one for one in model.calls[1].messages if isinstance(one, AIMessage))
    assert shown.tool_calls == said.tool_calls
    assert [one.tool_names for one in model.calls] == [["search_tools", "call_tool"]] * 2


async def test_a_call_that_stands_for_no_tool_is_answered_before_the_answer(ask: Ask) -> None:
    wrong = ai(tool_calls=[call("call_tool", "a", name="gone", arguments={})])
    right = ai(tool_calls=[call("call_tool", "b", name="list_server", arguments={"item": "x"})])
    bound, model, _ = build([wrong, right], "proxy")
    assert (await ask(bound, DELETE)).tool_calls == [call("list_server", "b", item="x")]
    assert model.calls[1].messages[-1].text.startswith("There is no tool named 'gone'.")


async def test_who_searches_without_end_gives_an_answer_in_the_end(ask: Ask) -> None:
    searches = [ai(tool_calls=[call("search_tools", str(n), query="export")]) for n in range(6)]
    bound, model, _ = build([*searches, "I give up"])
    answer = await ask(bound, DELETE)
    assert (answer.text, answer.tool_calls, len(model.calls)) == ("I give up", [], 7)


async def test_dict_tools_are_chosen_from_as_well(ask: Ask) -> None:
    tools = [openai_dict(one.name, one.description) for one in toolbox()]
    bound, model, _ = build(["done"], tools=tools)
    await ask(bound, HumanMessage("export"))
    assert model.calls[0].tools[1:] == tools[36:38]
