from __future__ import annotations

import copy
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from langchain_tokopt.tools import ToolIndex
from langchain_tokopt.tools.answers import understood
from langchain_tokopt.tools.plan import Plan
from langchain_tokopt.tools.registry import Registry
from langchain_tokopt.tools.worth import Way
from tests.fakes import ai
from tests.tools.toolbox import toolbox

BOX = toolbox()
REGISTRY = Registry(BOX, ToolIndex(BOX))


def plan(way: Way, *, searches: bool = True) -> Plan:
    return Plan(way, None, REGISTRY, ["list_server"], searches, [], [])


def call(name: str, call_id: str, /, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args, "id": call_id}


def called(messages: list[BaseMessage]) -> list[tuple[str, str | None]]:
    return [
        (one["name"], one["id"]) for message in messages if isinstance(message, AIMessage) for one in message.tool_calls
    ]


def test_an_answer_without_asides_stays_the_same_object() -> None:
    for way in ("rebind", "proxy"):
        said = ai("done", tool_calls=[call("list_server", "a", item="x")])
        messages, answers = understood([said], plan(way))
        assert (messages[0] is said, answers) == (True, [])


def test_a_search_is_answered_and_knows_what_is_bound() -> None:
    said = ai(tool_calls=[call("search_tools", "a", names=["list_server", "export_report"])])
    messages, (found,) = understood([said], plan("rebind"))
    assert messages == [said]
    assert found.text.splitlines()[1:] == [
        "- list_server(item: string) (already bound): list server",
        "- export_report(item: string): export report",
    ]


def test_every_search_of_a_message_is_answered_in_its_order() -> None:
    said = ai(tool_calls=[call("search_tools", "a", query="ticket"), call("search_tools", "b", query="server")])
    _, answers = understood([said], plan("inline"))
    assert [answer.tool_call_id for answer in answers] == ["a", "b"]


def test_a_search_too_many_is_refused() -> None:
    said = ai(tool_calls=[call("search_tools", "a", query="ticket")])
    _, (refused,) = understood([said], plan("rebind"), refuse=True)
    assert refused.text.startswith("You have searched enough.")


def test_without_the_search_tool_a_call_of_it_is_the_agents_own_affair() -> None:
    said = ai(tool_calls=[call("search_tools", "a", query="ticket")])
    assert understood([said], plan("rebind", searches=False)) == ([said], [])


def test_a_call_through_another_tool_becomes_a_real_one() -> None:
    said = ai("on it", tool_calls=[call("call_tool", "a", name="export_report", arguments={"item": "May"})])
    before = copy.deepcopy(said)
    (real,), answers = understood([said], plan("proxy"))
    assert isinstance(real, AIMessage)
    assert real.tool_calls == [{"name": "export_report", "args": {"item": "May"}, "id": "a", "type": "tool_call"}]
    assert (real.text, answers, said) == ("on it", [], before)
    # Only there is such a tool.
    assert understood([said], plan("inline")) == ([said], [])


def test_a_call_that_cannot_be_made_is_answered_beside_a_search() -> None:
    said = ai(
        tool_calls=[
            call("call_tool", "a", name="export_reports", arguments={}),
            call("search_tools", "b", query="server"),
            call("call_tool", "c", name="list_ticket", arguments={"item": "x"}),
        ]
    )
    messages, answers = understood([said], plan("proxy"))
    assert called(messages) == [("call_tool", "a"), ("search_tools", "b"), ("list_ticket", "c")]
    assert [(one.tool_call_id, one.status) for one in answers] == [("a", "error"), ("b", "success")]
    assert answers[0].text.splitlines()[:2] == [
        "There is no tool named 'export_reports'. The nearest ones are:",
        "- export_report(item: string)",
    ]
    assert answers[1].text.startswith("Tools that may help here. Call them with call_tool(")
