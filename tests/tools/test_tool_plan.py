from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolMessage
from pydantic import SecretStr

from langchain_tokopt.tokens import TokenCounter
from langchain_tokopt.tools import ToolIndex
from langchain_tokopt.tools.additions import Form
from langchain_tokopt.tools.plan import Plan
from langchain_tokopt.tools.registry import Registry
from langchain_tokopt.tools.thread import Batch
from langchain_tokopt.tools.worth import Way
from tests.fakes import ai
from tests.tools.toolbox import anthropic_dict, names, openai_dict, tool, toolbox, wire

COUNTER = TokenCounter()
MARK = {"type": "ephemeral"}
WEB, CODE = {"type": "web_search"}, {"type": "code_interpreter"}
FORMS: dict[Way, Form | None] = {"rebind": None, "inline": "anthropic", "proxy": None}
WAYS: list[Way] = ["rebind", "inline", "proxy"]

THREAD: list[AnyMessage] = [
    HumanMessage("delete the invoice", id="h1"),
    ai(tool_calls=[{"name": "delete_invoice", "args": {"item": "7"}, "id": "c1"}]),
    ToolMessage("gone", name="delete_invoice", tool_call_id="c1"),
    AIMessage("done"),
    HumanMessage("and the report", id="h2"),
]
BATCHES = [
    Batch(0, "asked", ("create_invoice", "delete_invoice")),
    Batch(2, "called", ("list_server",)),
    Batch(4, "asked", ("export_report",)),
]


def plan(way: Way, tools: Sequence[Any] | None = None, **more: Any) -> Plan:
    box = toolbox() if tools is None else tools
    given = {"always": [], "searches": True, "batches": BATCHES, "last": [], **more}
    return Plan(way, FORMS[way], Registry(box, ToolIndex(box)), **given)


# --- which tools, in which order -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "rest"),
    [
        ("rebind", ["create_invoice", "delete_invoice", "list_server", "export_report", "export_server"]),
        ("inline", ["export_server"]),
        ("proxy", ["call_tool", "export_server"]),
    ],
)
def test_what_all_threads_share_comes_first_and_what_is_for_this_call_last(way: Way, rest: list[str]) -> None:
    one = plan(way, [CODE, *toolbox(), WEB], always=["create_ticket", "list_ticket"], last=["export_server"])
    first = ["code_interpreter", "create_ticket", "list_ticket", "web_search", "search_tools"]
    assert names(one.tools) == [*first, *rest]
    assert one.bound == ["create_ticket", "list_ticket", *(name for name in rest if name != "call_tool")]
    told = [name for batch in BATCHES for name in batch.names]
    assert one.known == ["create_ticket", "list_ticket", *told, "export_server"]


def test_without_searches_there_is_no_tool_for_it_unless_it_would_be_the_only_one() -> None:
    assert names(plan("rebind", searches=False).tools)[0] == "create_invoice"
    assert names(plan("proxy", searches=False).tools) == ["call_tool"]
    assert names(plan("inline", searches=False, always=["list_ticket"]).tools) == ["list_ticket"]
    # A request that tells of tools among its messages needs one of its own.
    assert names(plan("inline", searches=False).tools) == ["search_tools"]


# --- messages --------------------------------------------------------------------------------------------------------


def test_where_tools_are_bound_anew_the_messages_stay_as_they_are() -> None:
    sent = plan("rebind").messages(THREAD, THREAD)
    assert all(a is b for a, b in zip(sent, THREAD, strict=True))


def test_inline_tools_are_defined_at_the_end_of_the_turn_that_needs_them() -> None:
    before = wire(THREAD)
    sent = plan("inline").messages(THREAD, THREAD)
    told = [
        (at, [block["tool"]["definition"]["name"] for block in message.content])  # type: ignore[index, call-overload]
        for at, message in enumerate(sent)
        if message.type == "system"
    ]
    assert told == [(1, ["create_invoice", "delete_invoice"]), (4, ["list_server"]), (7, ["export_report"])]
    assert wire([message for message in sent if message.type != "system"]) == before


def test_proxied_tools_are_told_in_the_users_message_and_their_calls_shown_as_the_model_made_them() -> None:
    before = wire(THREAD)
    one = plan("proxy")
    sent = one.messages(THREAD, THREAD)
    assert sent[0].text == f"delete the invoice\n\n{one.note(BATCHES[0])}"
    assert sent[4].text == f"and the report\n\n{one.note(BATCHES[2])}"
    assert isinstance(sent[1], AIMessage)
    assert [(call["name"], call["args"]) for call in sent[1].tool_calls] == [
        ("call_tool", {"name": "delete_invoice", "arguments": {"item": "7"}})
    ]
    assert (sent[2].name, sent[2].text, sent[3]) == ("call_tool", "gone", THREAD[3])
    assert wire(THREAD) == before


def test_a_call_of_a_tool_that_is_bound_is_shown_under_its_own_name() -> None:
    for bound in ({"always": ["delete_invoice"]}, {"last": ["delete_invoice"]}):
        sent = plan("proxy", **bound).messages(THREAD, THREAD)
        assert (sent[1], sent[2]) == (THREAD[1], THREAD[2])


@pytest.mark.parametrize("way", WAYS)
def test_the_list_of_all_tools_in_an_error_is_left_out(way: Way) -> None:
    listed = ", ".join(toolbox()[at].name for at in range(48))
    error = f"Error: gone is not a valid tool, try one of [{listed}]."
    thread: list[AnyMessage] = [
        THREAD[0],
        ai(tool_calls=[{"name": "gone", "args": {}, "id": "c1"}]),
        ToolMessage(error, name="gone", tool_call_id="c1", status="error"),
    ]
    (sent,) = (m for m in plan(way, batches=[]).messages(thread, thread) if isinstance(m, ToolMessage))
    assert sent.text.startswith("Error: gone is not a valid tool. The nearest names are: ")
    assert len(sent.text) < 150


@pytest.mark.parametrize(
    "shown",
    [
        THREAD[4:],
        [HumanMessage("and the report, shortened", id="h2")],  # a copy that another middleware made
    ],
)
def test_what_became_known_before_the_part_that_is_shown_is_told_at_its_beginning(shown: list[AnyMessage]) -> None:
    one = plan("proxy")
    (sent,) = one.messages(shown, THREAD)
    assert sent.text == "\n\n".join([shown[0].text, one.note(BATCHES[0]), one.note(BATCHES[2])])
    inline = plan("inline").messages(shown, THREAD)
    assert [message.type for message in inline] == ["human", "system"]
    assert len(inline[1].content) == 4


def test_without_a_message_of_the_users_a_note_waits() -> None:
    shown = THREAD[1:4]
    assert wire(plan("proxy", batches=BATCHES[:1]).messages(shown, THREAD)[2:]) == wire(shown[2:])


# --- what it weighs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [None, "gpt-4o-mini", "claude-opus-5-5"])
@pytest.mark.parametrize("way", ["rebind", "inline"])
def test_tools_weigh_the_same_wherever_the_model_is_told_of_them(way: Way, model: str | None) -> None:
    one = plan(way, [WEB, *toolbox()], always=["create_ticket"], last=["export_server"])
    registry = one.registry
    core, added, last = one.weights(COUNTER, model)
    sent = {name: COUNTER.tool(registry.sent(at), model) for name, at in registry.at.items()}
    provider_adds = COUNTER.tool_prompt(model)
    helper = COUNTER.tool(registry.searcher_schema, model)
    assert core == provider_adds + COUNTER.tool(WEB, model) + sent["create_ticket"] + helper
    assert added == [sum(sent[name] for name in batch.names) for batch in BATCHES]
    assert last == sent["export_server"]
    if way == "rebind":
        assert core + sum(added) + last == COUNTER.tools(one.tools, model)


def test_a_note_weighs_its_text_and_what_was_called_nothing() -> None:
    one = plan("proxy")
    core, added, last = one.weights(COUNTER, "gpt-4o-mini")
    helpers = [one.registry.searcher_schema, one.registry.caller_schema]
    assert core == COUNTER.tools(helpers, "gpt-4o-mini")
    first, second = (COUNTER.text(one.note(batch), "gpt-4o-mini") for batch in (BATCHES[0], BATCHES[2]))
    assert (added, last) == ([first, 0, second], 0)


# --- breakpoints -----------------------------------------------------------------------------------------------------


def marks(tools: Sequence[Any]) -> list[Any]:
    return [(one if isinstance(one, dict) else one.extras or {}).get("cache_control") for one in tools]


def with_mark(one: Any) -> Any:
    return (
        {**one, "cache_control": MARK}
        if isinstance(one, dict)
        else one.model_copy(update={"extras": {"cache_control": MARK}})
    )


@pytest.mark.parametrize("last", [tool("last"), anthropic_dict("last", "x"), openai_dict("last"), WEB])
@pytest.mark.parametrize("way", WAYS)
def test_the_breakpoint_of_the_last_tool_goes_to_the_last_that_is_sent(way: Way, last: Any) -> None:
    marked = with_mark(last)
    sent = plan(way, [*toolbox(), marked]).tools
    assert marks(sent) == [None] * (len(sent) - 1) + [MARK]
    assert marks([marked]) == [MARK]


def test_the_carrier_loses_its_breakpoint_only_when_it_is_not_the_last() -> None:
    marked = with_mark(tool("last"))
    assert marks(plan("rebind", [*toolbox(), marked], always=["last"]).tools)[0] is None
    (alone,) = plan("rebind", [*toolbox(), marked], searches=False, always=["last"], batches=[]).tools
    assert (alone.name, marks([alone])) == ("last", [MARK])


def test_other_breakpoints_stay_where_they_are() -> None:
    tools = [with_mark(one) if one.name == "delete_invoice" else one for one in toolbox()]
    sent = plan("rebind", tools).tools
    assert [name for name, mark in zip(names(sent), marks(sent), strict=True) if mark] == ["delete_invoice"]


@pytest.mark.parametrize("last", [tool("last"), anthropic_dict("last", "x")])
@pytest.mark.parametrize("way", WAYS)
def test_anthropics_client_sends_the_breakpoint(way: Way, last: Any) -> None:
    claude: Any = ChatAnthropic(model_name="claude-opus-5-5", api_key=SecretStr("test"))  # type: ignore[call-arg]
    one = plan(way, [*toolbox(), with_mark(last)])
    payload = claude._get_request_payload([HumanMessage("Hi")], **claude.bind_tools(one.tools).kwargs)
    assert names(payload["tools"]) == names(one.tools)
    assert marks(payload["tools"]) == [None] * (len(one.tools) - 1) + [MARK]
    assert all(one["input_schema"]["type"] == "object" for one in payload["tools"])


def test_messages_of_a_thread_may_be_any_sequence() -> None:
    shown: Sequence[BaseMessage] = tuple(THREAD)
    assert len(plan("proxy").messages(shown, shown)) == 5  # type: ignore[arg-type]
