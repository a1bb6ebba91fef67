from __future__ import annotations

import numpy as np
import pytest
from langchain_core.tools import BaseTool

from langchain_tokopt.tools.categories import categories_of
from tests.tools.toolbox import anthropic_dict, openai_dict, tool


def of(*names: str) -> dict[str, str]:
    return categories_of([openai_dict(name) for name in names])


def with_more(name: str, **more: object) -> BaseTool:
    return tool(name).model_copy(update=more)


def test_a_tool_belongs_to_its_server() -> None:
    tools = [
        with_more("find_page", metadata={"server": "wiki"}, tags=["web"]),
        with_more("read_page", metadata={"mcp_server": "wiki"}),
        with_more("send_mail", tags=["mail", "write"]),
        with_more("other_tool", metadata={"server": 7}),
    ]
    assert categories_of(tools) == {
        "find_page": "wiki",
        "read_page": "wiki",
        "send_mail": "mail",
        "other_tool": "other",
    }


@pytest.mark.parametrize(
    "name",
    ["github__create_issue", "mcp__github__create_issue", "github.create_issue", "github:issues", "github/issues"],
)
def test_what_stands_before_a_separator_is_a_namespace(name: str) -> None:
    assert of(name) == {name: "github"}


def test_a_first_word_that_three_names_share_is_a_namespace_if_it_is_no_verb() -> None:
    names = ("jira_create", "jira_close", "jira_list", "slack_send", "slack_read", "get_a", "get_b", "get_c")
    found = of(*names)
    assert [found[name] for name in names] == ["jira"] * 3 + ["other"] * 5


def test_the_rest_is_grouped_by_meaning_and_named_after_what_tells_it_apart() -> None:
    names = ["send_mail", "read_mail", "sort_mail", "play_song", "stop_song", "find_song"]
    vectors = np.array([[1, 0.1 * at] if at < 3 else [0.1 * at, 1] for at in range(6)], dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = categories_of([tool(name) for name in names], vectors)
    assert [found[name] for name in names] == ["mail"] * 3 + ["song"] * 3


def test_groups_are_named_after_whole_words_and_rather_after_those_in_the_names() -> None:
    about = "One of the services of the office system."
    names = ["createInvoices", "payInvoice", "sendInvoices", "bookMeeting", "moveMeetings", "cancelMeetings"]
    vectors = np.repeat(np.eye(2, dtype=np.float32), 3, axis=0)
    found = categories_of([openai_dict(name, about) for name in names], vectors)
    assert [found[name] for name in names] == ["invoices"] * 3 + ["meetings"] * 3


def test_categories_do_not_depend_on_the_order_of_the_tools() -> None:
    tools = [
        openai_dict(f"{verb}{noun}") for noun in ("Mail", "Song", "Road") for verb in ("find", "keep", "lose", "sell")
    ]
    vectors = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    order = np.random.default_rng(0).permutation(len(tools))
    shuffled = categories_of([tools[at] for at in order], vectors[order])
    assert shuffled == categories_of(tools, vectors)
    assert sorted(set(shuffled.values())) == ["mail", "road", "song"]


def test_dictionaries_of_any_form_have_categories_and_provider_tools_have_none() -> None:
    tools = [anthropic_dict("a.one"), openai_dict("b.two"), {"type": "web_search_20250305", "name": "web_search"}]
    assert categories_of(tools) == {"a.one": "a", "b.two": "b"}


def test_no_tools_have_no_categories() -> None:
    assert categories_of([]) == {}
