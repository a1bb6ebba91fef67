from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import ToolMessage

from langchain_tokopt.tools import ToolIndex, is_search_result
from langchain_tokopt.tools.search import (
    MOST_LOADED,
    MOST_RESULTS,
    answer,
    find,
    found_in,
    refusal,
    search_schema,
    searcher_name,
)
from tests.tools.toolbox import openai_dict, tool, toolbox

INDEX = ToolIndex(toolbox())


def search(index: ToolIndex = INDEX, known: tuple[str, ...] = (), **args: Any) -> ToolMessage:
    return answer({"name": "search_tools", "args": args, "id": "7", "type": "tool_call"}, index, known)


# --- what a search tells -------------------------------------------------------------------------------------------


def test_a_result_names_the_tools_with_signature_and_first_sentence() -> None:
    index = ToolIndex([openai_dict("send_mail", "Send a mail. Needs an account."), openai_dict("mail_box")])
    found = search(index, ("mail_box",), query="mail")
    assert found.text == (
        "These tools can be called now:\n"
        "- send_mail(item: string): Send a mail.\n"
        "- mail_box(item: string) (already bound)"
    )
    assert (found.name, found.tool_call_id, found.status) == ("search_tools", "7", "success")
    assert found.artifact == {"tokopt_found_tools": ["send_mail", "mail_box"]}


def test_five_can_be_called_at_once_and_the_others_are_named() -> None:
    text, names = find(INDEX, (), "export", k=7)
    assert names == [f"export_{noun}" for noun in ("invoice", "ticket", "customer", "calendar", "contract")]
    assert text.splitlines()[-3:] == [
        "Others that may fit; ask for them by their names to use them:",
        "* export_payment(item: string): export payment",
        "* export_shipment(item: string): export shipment",
    ]


@pytest.mark.parametrize(("k", "listed"), [(2, 2), (0, 1), (-5, 1), (1_000, MOST_RESULTS)])
def test_k_is_kept_within_reason(k: int, listed: int) -> None:
    text, names = find(ToolIndex([tool(f"export_{n}") for n in range(30)]), (), "export", k=k)
    assert text.count("(item: string)") == listed
    assert len(names) == min(listed, MOST_LOADED)


def test_tools_that_are_asked_for_by_name_come_first_and_can_all_be_called() -> None:
    asked = ["delete_server", *(f"export_{noun}" for noun in ("server", "report", "payment", "ticket", "invoice"))]
    _, names = find(INDEX, (), "", names=[*asked, "delete_server"])
    assert names == asked
    _, names = find(INDEX, (), "list the reports", names=["delete_server"], k=3)
    assert (names[:2], len(names)) == (["delete_server", "list_report"], 3)


def test_a_name_that_does_not_exist_is_answered_by_the_nearest_ones() -> None:
    text, names = find(INDEX, (), "", names=["exportServers", "delete_server"])
    assert names == ["delete_server"]
    assert text.splitlines()[-1] == (
        "There is no tool named 'exportServers'. The nearest names are: export_server, export_customer, create_server."
    )
    text, names = find(INDEX, (), "", names=["qqq"])
    assert names == []
    assert text == "There is no tool named 'qqq'. Try other words: a verb and an object, such as 'send email'."
    text, _ = find(INDEX, (), "", names=[f"{'x' * 500}{n}" for n in range(50)])
    assert text.count("There is no tool named") == 5
    assert len(text) < 1_000


def test_with_a_tool_that_calls_others_parameters_are_told_in_full() -> None:
    found = answer(
        {"name": "search_tools", "args": {"query": "delete the invoice", "k": 1}, "id": "7", "type": "tool_call"},
        INDEX,
        (),
        caller="call_tool",
    )
    assert found.text.splitlines() == [
        "Tools that may help here. Call them with call_tool(name, arguments); ? marks what may be left out:",
        "- delete_invoice: delete invoice",
        "  item: string",
    ]
    assert found_in(found) == ["delete_invoice"]


def test_no_match_gives_a_hint() -> None:
    text, names = find(INDEX, (), "quantum " * 100)
    assert text.startswith("None of the 48 tools matches 'quantum quantum ")
    assert text.endswith("…'. Try other words: a verb and an object, such as 'send email'.")
    assert names == []


def test_an_empty_search_lists_names_and_finds_nothing() -> None:
    found = search(ToolIndex([tool(f"t{n}") for n in range(60)]), query="  ")
    assert found.text.startswith("Say in `query` what the tool should do. There are: t0, t1, ")
    assert found.text.endswith("t49 and 10 more.")
    assert found_in(found) == []
    assert search().text == search(names=[]).text


def test_a_huge_search_is_answered_in_few_words() -> None:
    assert len(search(query="x" * 200_000).text) < 200
    assert len(search(query="export " + "x" * 200_000).text) < 1_000


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ({"query": 7}, "query: Input should be a valid string"),
        ({"query": None}, "query: Input should be a valid string"),
        ({"query": "a", "k": "many"}, "k: Input should be a valid integer"),
        ({"names": "export_server"}, "names: Input should be a valid list"),
        ({"names": [1]}, "names.0: Input should be a valid string"),
    ],
)
def test_arguments_that_cannot_be_read_are_answered_by_what_is_wrong(args: dict[str, Any], problem: str) -> None:
    found = search(**args)
    assert found.status == "error"
    assert found.text.startswith(f"The search could not be read: {problem}")
    assert found_in(found) == []


def test_one_search_too_many_is_refused_as_a_search_that_found_nothing() -> None:
    refused = refusal({"name": "search_tools", "args": {"query": "export"}, "id": "7", "type": "tool_call"})
    assert refused.text == (
        "You have searched enough. Go on with the tools that you found, or say what cannot be done."
    )
    assert (refused.name, refused.tool_call_id, found_in(refused)) == ("search_tools", "7", [])
    assert is_search_result(refused)


# --- reading it again ------------------------------------------------------------------------------------------------


def test_what_was_found_is_read_from_the_artifact_or_else_from_the_text() -> None:
    found = search(known=("delete_invoice",), query="delete the invoice", k=2)
    names = found.artifact["tokopt_found_tools"]
    assert names == ["delete_invoice", "create_invoice"]
    assert found_in(found) == names
    assert found_in(ToolMessage(found.text, tool_call_id="1")) == names
    assert found_in(ToolMessage([{"type": "text", "text": found.text}], tool_call_id="1")) == names
    assert found_in(ToolMessage(found.text, artifact={"other": 1}, tool_call_id="1")) == names
    assert found_in(ToolMessage("- name(x) went wrong", status="error", tool_call_id="1")) == []


def test_those_that_are_only_named_are_not_found() -> None:
    text, names = find(INDEX, (), "export", k=7)
    assert found_in(ToolMessage(text, tool_call_id="1")) == names


def test_a_search_result_is_told_by_its_artifact() -> None:
    assert is_search_result(search(query="export"))
    assert not is_search_result(ToolMessage("- x()", name="search_tools", tool_call_id="1"))
    assert not is_search_result(ToolMessage("x", artifact={"other": 1}, tool_call_id="1"))


# --- the tool --------------------------------------------------------------------------------------------------------


def test_the_search_tool_has_a_name_of_its_own() -> None:
    assert searcher_name(()) == "search_tools"
    assert searcher_name({"search_tools"}) == "find_tools"
    taken = {"search_tools", "find_tools", "search_more_tools"}
    assert searcher_name(taken) == "search_tools_2"
    assert searcher_name({*taken, "search_tools_2"}) == "search_tools_3"


def test_the_search_tool_is_sent_as_a_schema_of_which_nothing_is_required() -> None:
    function = search_schema("find_tools")["function"]
    assert function["name"] == "find_tools"
    assert list(function["parameters"]["properties"]) == ["query", "names", "k"]
    assert function["parameters"].get("required", []) == []
