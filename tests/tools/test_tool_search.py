from __future__ import annotations

import pytest
from langchain_core.messages import ToolMessage

from langchain_tokopt.tools import ToolIndex
from langchain_tokopt.tools.search import find, found_in, search_tool, searcher_name
from tests.tools.toolbox import openai_dict, tool, toolbox

INDEX = ToolIndex(toolbox())


def test_a_result_names_the_tools_with_signature_and_first_sentence() -> None:
    index = ToolIndex([openai_dict("send_mail", "Send a mail. Needs an account."), openai_dict("mail_box")])
    text, artifact = find(index, {"mail_box"}, "mail", 5)
    assert text == (
        "These tools can be called now:\n"
        "- send_mail(item: string): Send a mail.\n"
        "- mail_box(item: string) (already bound)"
    )
    assert artifact == {"tokopt_found_tools": ["send_mail", "mail_box"]}


@pytest.mark.parametrize(("k", "count"), [(2, 2), (0, 1), (-5, 1), (1000, 12)])
def test_k_is_kept_within_reason(k: int, count: int) -> None:
    _, artifact = find(INDEX, (), "export", k)
    assert len(artifact["tokopt_found_tools"]) == count
    _, artifact = find(ToolIndex([tool(f"export_{n}") for n in range(30)]), (), "export", 1000)
    assert len(artifact["tokopt_found_tools"]) == 20


def test_no_match_gives_a_hint() -> None:
    text, artifact = find(INDEX, (), "quantum " * 100, 5)
    assert text.startswith("None of the 48 tools matches 'quantum quantum ")
    assert text.endswith("…'. Try other words: a verb and an object, such as 'send email'.")
    assert artifact == {"tokopt_found_tools": []}


def test_an_empty_query_lists_names_and_finds_nothing() -> None:
    text, artifact = find(ToolIndex([tool(f"t{n}") for n in range(60)]), (), "  ", 5)
    assert text.startswith("Say in `query` what the tool should do. There are: t0, t1, ")
    assert text.endswith("t49 and 10 more.")
    assert artifact == {"tokopt_found_tools": []}
    assert found_in(ToolMessage(text, tool_call_id="1")) == []


def test_what_was_found_is_read_from_the_artifact_or_else_from_the_text() -> None:
    text, artifact = find(INDEX, {"delete_invoice"}, "delete the invoice", 2)
    names = artifact["tokopt_found_tools"]
    assert names == ["delete_invoice", "create_invoice"]
    assert found_in(ToolMessage(text, artifact=artifact, tool_call_id="1")) == names
    assert found_in(ToolMessage(text, tool_call_id="1")) == names
    assert found_in(ToolMessage([{"type": "text", "text": text}], tool_call_id="1")) == names
    assert found_in(ToolMessage(text, artifact={"other": 1}, tool_call_id="1")) == names
    assert found_in(ToolMessage("- name(x) went wrong", status="error", tool_call_id="1")) == []


def test_the_search_tool_has_a_name_of_its_own() -> None:
    assert searcher_name(()) == "search_tools"
    assert searcher_name({"search_tools"}) == "find_tools"
    taken = {"search_tools", "find_tools", "search_more_tools"}
    assert searcher_name(taken) == "search_tools_2"
    assert searcher_name({*taken, "search_tools_2"}) == "search_tools_3"


def test_the_search_tool_runs_by_itself() -> None:
    made = search_tool("search_tools", lambda query, k: (f"{query}/{k}", {"tokopt_found_tools": []}))
    answer = made.invoke({"type": "tool_call", "id": "1", "name": "search_tools", "args": {"query": "a"}})
    assert (answer.content, answer.artifact, answer.name) == ("a/5", {"tokopt_found_tools": []}, "search_tools")
    assert made.invoke({"type": "tool_call", "id": "1", "name": "search_tools", "args": {}}).content == "/5"
