from __future__ import annotations

import pytest
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, Field

from langchain_tokopt.tokens import TokenCounter
from langchain_tokopt.tools import ToolIndex
from langchain_tokopt.tools.notes import note_text
from langchain_tokopt.tools.registry import Registry
from tests.tools.toolbox import anthropic_dict, names, openai_dict, tool, toolbox

COUNTER = TokenCounter()
WEB = {"type": "web_search"}
LONG = openai_dict("write", "Write a letter to a customer. " * 40)


def registry(*tools: object, **settings: object) -> Registry:
    return Registry(tools, ToolIndex(tools), **settings)  # type: ignore[arg-type]


class Titled(BaseModel):
    """With the titles that pydantic makes."""

    item: str = Field(title="Item")


def titled(name: str) -> BaseTool:
    return StructuredTool.from_function(lambda item: item, name=name, description="x", args_schema=Titled)


def test_function_tools_and_others_are_told_apart_by_where_they_are() -> None:
    mixed = registry(WEB, tool("send"), openai_dict("list"), {"type": "code_interpreter"}, anthropic_dict("fetch"))
    assert mixed.at == {"send": 1, "list": 2, "fetch": 4}
    assert mixed.others == [0, 3]


def test_the_tools_that_find_and_call_others_have_names_of_their_own() -> None:
    assert (registry(tool("send")).searcher, registry(tool("send")).caller) == ("search_tools", "call_tool")
    taken = registry(tool("search_tools"), tool("call_tool"))
    assert (taken.searcher, taken.caller) == ("find_tools", "run_tool")
    assert names([taken.searcher_schema, taken.caller_schema]) == ["find_tools", "run_tool"]
    # Those of a tool that the provider runs are taken, too.
    assert registry({"type": "tool_search", "name": "search_tools"}, tool("send")).searcher == "find_tools"


def test_it_is_known_when_the_provider_keeps_tools_out_of_the_prompt() -> None:
    assert not registry(tool("send")).defers
    assert registry(tool("send"), {**anthropic_dict("fetch"), "defer_loading": True}).defers


def test_tools_are_sent_smaller_and_each_is_made_once() -> None:
    given = openai_dict("send", "Send  a   letter")
    one = registry(given, tool("list"))
    assert one.sent(0)["function"]["description"] == "Send a letter"
    assert one.sent(0) is one.sent(0)
    assert given["function"]["description"] == "Send  a   letter"


def test_without_shrinking_the_tools_given_are_sent() -> None:
    given = openai_dict("send", "Send  a   letter")
    one = registry(given, shrink=False)
    assert one.sent(0) is given
    assert one.all_sent() is None


def test_all_are_sent_as_they_are_when_nothing_is_gained() -> None:
    assert registry(openai_dict("send", "Send a letter"), WEB).all_sent() is None
    sent = registry(WEB, openai_dict("send", "Send  a   letter")).all_sent()
    assert sent is not None
    assert sent[0] is WEB
    assert names(sent) == ["web_search", "send"]


def test_long_descriptions_are_shortened_to_the_tokens_of_a_tool() -> None:
    whole, short = registry(LONG), registry(LONG, tool_tokens=60)
    assert len(whole.sent(0)["function"]["description"]) > 1_000
    description = short.sent(0)["function"]["description"]
    assert 40 <= len(description) <= 240
    assert LONG["function"]["description"].startswith(description.rstrip("…"))
    assert short.sent(0)["function"]["parameters"] == LONG["function"]["parameters"]


@pytest.mark.parametrize("model", [None, "gpt-4o-mini", "claude-opus-5-5"])
def test_what_the_tools_weigh_is_what_the_counter_says_of_those_that_are_sent(model: str | None) -> None:
    tools = [WEB, titled("send"), titled("list"), LONG]
    one = registry(*tools)
    assert one.tokens_given(COUNTER, model) == COUNTER.tools(tools, model)
    assert one.tokens(["send", "list"], COUNTER, model) == COUNTER.tools([one.sent(1), one.sent(2)], model)
    assert one.tokens(["send"], COUNTER, model, others=True) == COUNTER.tools([one.sent(1), WEB], model)
    assert one.tokens([], COUNTER, model) == COUNTER.tool_prompt(model)
    both = [one.searcher_schema, one.caller_schema]
    for searches, calls, helpers in ((True, True, both), (True, False, both[:1]), (False, False, [])):
        expected = sum(COUNTER.tool(helper, model) for helper in helpers)
        assert one.helper_tokens(COUNTER, model, searches=searches, calls=calls) == expected


def test_a_note_weighs_a_share_of_the_schemas() -> None:
    one = registry(*toolbox()[:20])
    note = COUNTER.text(note_text(one.index.specs, "call_tool"), "gpt-4o-mini")
    schemas = sum(COUNTER.tool(one.sent(at), "gpt-4o-mini") for at in range(20))
    assert one.note_share(COUNTER, "gpt-4o-mini") == round(note / schemas, 3)


def test_a_note_about_many_tools_is_weighed_by_some_of_them() -> None:
    many = registry(*(openai_dict(f"tool_{n}", "word " * (n % 7)) for n in range(200)))
    some = registry(*(openai_dict(f"tool_{n}", "word " * (n % 7)) for n in range(0, 200, 5)))
    assert many.note_share(COUNTER, None) == some.note_share(COUNTER, None)


def test_a_registry_is_known_by_the_names_of_its_function_tools_in_their_order() -> None:
    one = registry(tool("a"), WEB, tool("b"))
    assert one.names_digest == registry(tool("a", "other"), tool("b")).names_digest
    assert one.names_digest != registry(tool("b"), tool("a")).names_digest
    assert one.names_digest != registry(tool("ab")).names_digest


def test_tools_that_cannot_be_told_of_are_known_before() -> None:
    refused = {"name": "pick", "description": "x", "input_schema": {"anyOf": [{"type": "object"}]}}
    one = registry(WEB, tool("send"), refused)
    assert one.undefinable("anthropic") == ["pick"]
    assert one.undefinable("openai") == []
    assert one.definition("pick", "anthropic") is None
    made = one.definition("send", "anthropic")
    assert made is not None
    assert list(made) == ["name", "input_schema", "description"]
    assert one.definition("send", "anthropic") is made
