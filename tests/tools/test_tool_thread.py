from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokopt.tools import ToolIndex
from langchain_tokopt.tools.thread import Batch, batches, called, chosen, last_question, question, thread_messages
from tests.fakes import ai
from tests.tools.toolbox import request, toolbox

INDEX = ToolIndex(toolbox())
IMAGE = HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}])
SUMMARY = HumanMessage("So far: export_report was used.", additional_kwargs={"lc_source": "summarization"})


def added(messages: list[BaseMessage], *, bound: tuple[str, ...] = ()) -> list[Batch]:
    def pick(at: int, text: str) -> list[str]:
        assert text == messages[at].text.strip()
        return INDEX.top(text, 2) if text else list(INDEX.names)

    return batches(messages, INDEX, bound=bound, searcher="search_tools", pick=pick)


def call(name: str, id: str = "1") -> AIMessage:  # noqa: A002 - the call's own field
    return ai(tool_calls=[{"name": name, "args": {}, "id": id}])


def test_each_message_adds_what_it_needs_in_registration_order() -> None:
    thread = [
        HumanMessage("delete the ticket or the invoice"),
        call("list_server"),
        ToolMessage("ok", name="list_server", tool_call_id="1"),
        call("search_tools", "2"),
        ToolMessage(
            "- export_report(item: string)\n- create_report(item: string)", name="search_tools", tool_call_id="2"
        ),
        AIMessage("done"),
        HumanMessage("now export_campaign and delete_ticket"),
    ]
    assert added(thread) == [
        Batch(0, "asked", ("delete_invoice", "delete_ticket")),
        Batch(1, "called", ("list_server",)),
        Batch(4, "found", ("create_report", "export_report")),
        Batch(6, "asked", ("export_campaign",)),
    ]


def test_what_is_always_bound_is_not_added_again() -> None:
    assert added([HumanMessage("delete the invoice, delete it")], bound=("delete_invoice",)) == [
        Batch(0, "asked", ("create_invoice",))
    ]


def test_calls_that_cannot_be_parsed_or_answered_count_as_calls() -> None:
    broken = AIMessage("", invalid_tool_calls=[{"name": "list_server", "args": "{", "id": "1", "error": "x"}])
    assert [batch.names for batch in added([broken, call("export_report")])] == [("list_server",), ("export_report",)]
    assert called([broken, call("a"), HumanMessage("b")]) == ["list_server", "a"]


def test_a_result_without_a_name_belongs_to_its_call() -> None:
    found = ToolMessage("- export_report(item: string)", tool_call_id="7")
    assert added([call("search_tools", "7"), found]) == [Batch(1, "found", ("export_report",))]


def test_unknown_tools_are_not_added() -> None:
    assert added([call("gone"), ToolMessage("ok", name="gone", tool_call_id="1")]) == []


@pytest.mark.parametrize("text", ["yes", "OK, go ahead!", "Thank you."])
def test_a_message_that_only_agrees_adds_nothing(text: str) -> None:
    first = HumanMessage("delete the invoice, delete it")
    assert added([first, HumanMessage(text)]) == added([first])
    assert len(added([HumanMessage(text)])) == 1


def test_a_message_without_text_adds_what_is_picked_for_it_at_the_end() -> None:
    first, rest = added([HumanMessage("delete the invoice, delete it"), IMAGE])
    assert (first.at, rest.at) == (0, 1)
    assert [*first.names, *rest.names] == [*first.names, *(name for name in INDEX.names if name not in first.names)]


def test_a_summary_is_not_ranked_but_the_names_in_it_count() -> None:
    thread = [SUMMARY, HumanMessage("delete the invoice, delete it")]
    assert added(thread)[0] == Batch(0, "called", ("export_report",))
    assert added([SUMMARY])[0].kind == "asked"


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], None),
        ([AIMessage("hello"), SystemMessage("x")], None),
        ([AIMessage("hello"), HumanMessage(" first "), HumanMessage("second")], "first"),
        ([IMAGE, HumanMessage("second")], ""),
        ([SUMMARY, HumanMessage("second")], "second"),
        ([SUMMARY, AIMessage("x")], SUMMARY.text),
        ([HumanMessage([{"type": "text", "text": "look"}, *IMAGE.content])], "look"),
    ],
)
def test_the_first_user_message_is_the_question(messages: list[BaseMessage], expected: str | None) -> None:
    assert question(messages) == expected


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], None),
        ([AIMessage("hello")], None),
        ([HumanMessage("first"), AIMessage("x"), HumanMessage(" second ")], "second"),
        ([HumanMessage("first"), HumanMessage("yes, go ahead")], "first"),
        ([HumanMessage("yes"), HumanMessage("ok")], "yes"),
        ([HumanMessage("first"), IMAGE], "first"),
        ([HumanMessage("first"), SUMMARY, HumanMessage("ok")], "first"),
        ([SUMMARY, HumanMessage("ok")], "ok"),
        ([SUMMARY], SUMMARY.text),
        ([IMAGE], ""),
    ],
)
def test_the_last_question_is_the_last_message_that_asks_for_something(
    messages: list[BaseMessage], expected: str | None
) -> None:
    assert last_question(messages) == expected


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, []),
        (True, []),
        ("auto", []),
        ("any", []),
        ("required", []),
        ("none", []),
        ("send", ["send"]),
        ({"type": "function", "function": {"name": "send"}}, ["send"]),
        ({"type": "function", "name": "send"}, ["send"]),
        ({"type": "tool", "name": "send"}, ["send"]),
        ({"type": "any"}, []),
        ({"type": "web_search"}, []),
        ({"type": "allowed_tools", "tools": [{"type": "function", "name": "a"}, {"type": "web_search"}]}, ["a"]),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "a"}}]},
            },
            ["a"],
        ),
        ({"function": None, "tools": None}, []),
    ],
)
def test_the_names_in_a_tool_choice(choice: Any, expected: list[str]) -> None:
    assert chosen(choice) == expected


def test_the_stored_thread_counts_not_the_part_that_is_shown() -> None:
    stored = [HumanMessage("first"), AIMessage("x"), HumanMessage("second")]
    shown = stored[2:]
    assert thread_messages(request([], *shown, state={"messages": stored})) == stored
    assert thread_messages(request([], *shown, state={"messages": []})) == shown
    assert thread_messages(request([], *shown, state={})) == shown


STEPS = st.one_of(
    st.sampled_from(["delete the invoice", "export", "yes", "", "list the employees please"]).map(HumanMessage),
    st.sampled_from([*INDEX.names[:5], "gone", "search_tools"]).map(call),
    st.sampled_from(INDEX.names).map(lambda name: ToolMessage(f"- {name}(x)", name="search_tools", tool_call_id="1")),
)


@given(st.lists(STEPS, max_size=8), STEPS)
def test_a_longer_thread_only_appends(thread: list[BaseMessage], more: BaseMessage) -> None:
    before, after = added(thread), added([*thread, more])
    assert after[: len(before)] == before
    names = [name for batch in after for name in batch.names]
    assert len(names) == len(set(names))
