"""The nearest names, and errors that tell only those."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from langchain_tokopt.tools.nearest import nearest_names, with_short_errors
from tests.tools.toolbox import toolbox

NAMES = ["list_invoices", "fetch_user", "getUsers", "delete_user", "get_user_info", "send-mail", "weather", "a"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("get_user", ["getUsers", "get_user_info", "fetch_user"]),
        ("getusr", ["getUsers", "get_user_info", "fetch_user"]),
        ("GET_USER_INFO", ["get_user_info", "getUsers", "fetch_user"]),
        ("sendMail", ["send-mail"]),
        ("wether", ["weather"]),
        ("a", ["a"]),
        ("zzz", []),
        ("", []),
        ("§" * 100_000, []),
    ],
)
def test_names_are_near_by_their_words_and_their_spelling(name: str, nearest: list[str]) -> None:
    assert nearest_names(name, NAMES)[: len(nearest) or 3] == nearest


def test_no_more_than_k_are_given() -> None:
    assert nearest_names("user", NAMES, k=1) == ["getUsers"]
    assert nearest_names("user", NAMES, k=0) == []


def plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter not in "_-.")


@settings(deadline=None)
@given(st.text(max_size=30), st.lists(st.text(max_size=30), unique=True, max_size=80))
def test_a_name_that_exists_is_nearest_to_itself(name: str, others: list[str]) -> None:
    found = nearest_names(name, [*others, name])
    assert len(found) <= 3
    assert set(found) <= {*others, name}
    if plain(name):
        assert plain(found[0]) == plain(name)


# --- LangGraph's error -----------------------------------------------------------------------------------------------


def answered(name: str) -> list[BaseMessage]:
    """A thread in which LangGraph has answered a call of `name`, with forty-eight tools."""
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode(toolbox()))
    graph.add_edge(START, "tools")
    call = AIMessage("", tool_calls=[{"name": name, "args": {"item": "x"}, "id": "1"}])
    return list(graph.compile().invoke({"messages": [HumanMessage("hi"), call]})["messages"])


def test_the_error_for_an_unknown_tool_tells_three_names_and_not_all() -> None:
    thread = answered("create_invoices")
    assert len(thread[-1].text) > 700
    short = with_short_errors(thread)
    assert short[-1].text == (
        "Error: create_invoices is not a valid tool. The nearest names are: create_invoice, delete_invoice, "
        "create_ticket."
    )
    assert short[:-1] == thread[:-1]
    assert len(thread[-1].text) > 700
    fields = ("id", "name", "tool_call_id", "status")
    assert [getattr(short[-1], field) for field in fields] == [getattr(thread[-1], field) for field in fields]
    assert with_short_errors(short)[-1] is short[-1]


def test_the_error_for_a_name_like_no_other_tells_none() -> None:
    assert with_short_errors(answered("§§§"))[-1].text == "Error: §§§ is not a valid tool."


def test_everything_else_is_left_alone() -> None:
    text = answered("create_invoices")[-1].text
    messages: list[BaseMessage] = [
        HumanMessage(text),
        AIMessage(text),
        ToolMessage(text, tool_call_id="1"),
        ToolMessage([{"type": "text", "text": text}], tool_call_id="1", status="error"),
        ToolMessage(f"{text} And more.", tool_call_id="1", status="error"),
        ToolMessage("Error: x is not a valid tool, try one of [a, b].", tool_call_id="1", status="error"),
        answered("create_invoice")[-1],
    ]
    assert all(one is other for one, other in zip(with_short_errors(messages), messages, strict=True))
