"""The scripted model answers from what it reads, with the tools that it is given."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import BaseTool, tool

from langchain_tokopt.demo.corpus import Corpus
from langchain_tokopt.demo.policy import MAX_STEPS, Bill, PolicyModel, next_message
from langchain_tokopt.demo.tools import corpus_tools
from langchain_tokopt.prefix import PromptCache
from langchain_tokopt.pricing import Rates
from langchain_tokopt.tokens import TokenCounter
from tests.demo.folders import make_folder

ANSWERS = {
    "What does the class `Item` do?": "Something that is sold. (shop/items.py, line 13)",
    "What is the purpose of the function `price_of`?": "The price of an item in cents. (shop/prices.py, line 4)",
    "What does the class `Book` do?": "I could not find out what `Book` does: it says nothing about itself.",
    "Which files use `price_of`?": "`price_of` is used in 2 Python files: shop/items.py, shop/prices.py.",
    "Which parameters does `total` take?": "`total` takes `count` and `rebate`.",
    "Where is the class `Book` defined?": "`Book` is defined in shop/items.py, line 29.",
    "Where is the class `Nothing` defined?": "I could not find out where `Nothing` is defined.",
    "Which methods does the class `Item` have?": "`Item` has `total` and `label`.",
    "Which modules does `shop/items.py` import?": "`shop/items.py` imports `__future__`, `decimal`, `json` and `shop`.",
    'What does the section "Opening hours" of `docs/guide.md` say?': (
        "The shop opens at nine and closes at five. On Sundays it stays closed. (docs/guide.md, line 5)"
    ),
    "Which sections does `docs/guide.md` have?": "`docs/guide.md` has 3 headings: Guide; Opening hours; Prices.",
    'How often does the word "price" occur in `docs/guide.md`?': (
        'The word "price" occurs 2 times in `docs/guide.md`.'
    ),
    "What is the value of `shop.name` in `settings.toml`?": '`shop.name` is "Corner".',
    "How many lines has `docs/guide.md`?": "`docs/guide.md` has 19 lines.",
    "Which file is longer, `docs/notes.txt` or `docs/guide.md`, and by how many lines?": (
        "`docs/guide.md` is longer than `docs/notes.txt` by 17 lines (19 against 2)."
    ),
    "What is the largest file in the folder `shop`?": "The largest file is shop/items.py with 592 bytes.",
    "When are the Sundays closed?": (
        "The shop opens at nine and closes at five. On Sundays it stays closed. See [prices](prices.md)."
        " (docs/guide.md, line 7)"
    ),
}


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> list[BaseTool]:
    return corpus_tools(Corpus(make_folder(tmp_path_factory.mktemp("folder"))))


def ask(tools: Sequence[BaseTool], question: str) -> list[BaseMessage]:
    agent = create_agent(PolicyModel(), list(tools))
    messages: list[BaseMessage] = agent.invoke({"messages": [HumanMessage(question)]})["messages"]
    return messages


def called(messages: Sequence[BaseMessage]) -> list[str]:
    return [call["name"] for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]


@pytest.mark.parametrize("question", ANSWERS)
def test_it_finds_the_answer_in_the_files(tools: list[BaseTool], question: str) -> None:
    messages = ask(tools, question)
    assert messages[-1].text == ANSWERS[question]
    assert 1 <= len(called(messages)) <= 8


BEST = {"find_definition", "find_references", "docstring_of", "signature_of", "class_members", "symbols"}
BEST |= {"list_imports", "outline", "section", "count_matches", "toml_query", "count_lines", "calculator"}
BEST |= {"largest_files", "tree", "find_files"}


@pytest.mark.parametrize("question", ANSWERS)
def test_second_best_tools_lead_to_the_same_answer(tools: list[BaseTool], question: str) -> None:
    messages = ask([tool for tool in tools if tool.name not in BEST], question)
    assert messages[-1].text == ANSWERS[question]
    assert not BEST & set(called(messages))


def test_without_tools_it_says_that_it_does_not_know() -> None:
    question = "Where is the class `Book` defined?"
    assert next_message([HumanMessage(question)], []).text == "I could not find out where `Book` is defined."
    assert next_message([HumanMessage("Who?")], []).text == "I do not understand the question."


def schema(*names: str) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": name, "parameters": {}}} for name in names]


SEARCH = {
    "type": "function",
    "function": {
        "name": "search_tools",
        "parameters": {"properties": {"k": {"type": "integer"}, "wanted": {"type": "string"}}},
    },
}


def after(messages: list[BaseMessage], said: str, tools: Collection[str] = (), *, search: bool = False) -> AIMessage:
    """The policy's next message, after its last one was answered with `said`."""
    last = messages[-1]
    assert isinstance(last, AIMessage)
    messages += [ToolMessage(said, tool_call_id=call["id"] or "", name=call["name"]) for call in last.tool_calls]
    message = next_message(messages, [*schema(*tools), *([SEARCH] if search else [])])
    messages.append(message)
    return message


def test_it_asks_for_a_tool_that_is_not_bound_and_uses_it_once_it_is() -> None:
    messages: list[BaseMessage] = [HumanMessage("How many lines has `a.md`?")]
    messages.append(next_message(messages, [*schema("find_files", "file_info"), SEARCH]))
    assert called(messages) == ["find_files"]
    after(messages, "a.md", ["find_files", "file_info"], search=True)
    asked = after(messages, '{"path": "a.md"}', ["find_files", "file_info"], search=True)
    assert [(call["name"], call["args"]) for call in asked.tool_calls] == [
        ("search_tools", {"wanted": "count the lines of a file"})
    ]
    found = after(messages, "- count_lines(path)", ["find_files", "file_info", "count_lines"], search=True)
    assert [(call["name"], call["args"]) for call in found.tool_calls] == [("count_lines", {"path": "a.md"})]
    assert after(messages, "a.md: 7 lines, 6 not blank").text == "`a.md` has 7 lines."


def test_it_asks_only_once_and_then_takes_the_second_best() -> None:
    messages: list[BaseMessage] = [HumanMessage("How many lines has `a.md`?")]
    bound = ["find_files", "text_statistics"]
    messages.append(next_message(messages, [*schema(*bound), SEARCH]))
    after(messages, "a.md", bound, search=True)
    assert called(messages[-1:]) == ["search_tools"]
    after(messages, "nothing found", bound, search=True)
    assert called(messages[-1:]) == ["text_statistics"]


def test_what_is_hidden_from_it_changes_its_answer(tools: list[BaseTool]) -> None:
    question = "How many lines has `docs/guide.md`?"
    messages = ask(tools, question)[:-1]
    schemas = schema(*(tool.name for tool in tools))
    assert next_message(messages, schemas).text == "`docs/guide.md` has 19 lines."
    hidden: list[BaseMessage] = [
        m.model_copy(update={"content": "[removed]"}) if isinstance(m, ToolMessage) else m for m in messages
    ]
    assert next_message(hidden, schemas).text == "I could not find out how long `docs/guide.md` is."
    dropped = [m for m in messages if not (isinstance(m, ToolMessage) and m.name == "count_lines")]
    assert called([next_message(dropped, schemas)]) == ["count_lines"]


def test_it_does_not_go_on_for_ever() -> None:
    messages: list[BaseMessage] = [HumanMessage("How many lines has `a.md`?")]
    messages += [AIMessage("thinking")] * (MAX_STEPS + 1)
    message = next_message(messages, schema("count_lines"))
    assert (message.text, message.tool_calls) == ("I could not find out how long `a.md` is.", [])


def test_the_same_prompt_gives_the_same_message_and_new_ids_for_new_calls(tools: list[BaseTool]) -> None:
    one, two = ask(tools, next(iter(ANSWERS))), ask(tools, next(iter(ANSWERS)))
    ids = [call["id"] for message in one if isinstance(message, AIMessage) for call in message.tool_calls]
    assert ids == [call["id"] for message in two if isinstance(message, AIMessage) for call in message.tool_calls]
    assert len(set(ids)) == len(ids) == len(called(one))


# --- what it says that it used ---------------------------------------------------------------------------------------

RATES = Rates(
    provider="p",
    model="m",
    input=Decimal(10),
    output=Decimal(20),
    cache_read=Decimal(1),
    cache_write=Decimal(12),
    caching="automatic",
    min_cache_tokens=0,
)


@tool
def count_lines(path: str) -> str:
    """Count the lines of a file."""
    return f"{path}: 1 lines"


def usage(rates: Rates, **settings: Any) -> list[Any]:
    counter = TokenCounter()
    model = PolicyModel(bill=Bill(rates, counter, PromptCache()), model_name="m", provider="p")
    bound = model.bind_tools([count_lines], **settings)
    prompt = [SystemMessage("You count."), HumanMessage("How many lines has `a.md`?")]
    expected = counter.tools([count_lines], "m") + counter.messages(prompt, "m")
    found = []
    for _ in range(2):
        message = bound.invoke(prompt)
        assert message.usage_metadata is not None
        assert message.usage_metadata["input_tokens"] == expected
        assert message.usage_metadata["output_tokens"] > 0
        assert message.response_metadata["finish_reason"] == "tool_calls"
        details = message.usage_metadata["input_token_details"]
        found.append((details["cache_read"] / expected, details["cache_creation"] / expected))
    return found


def test_usage_counts_what_was_sent_and_what_the_provider_had_cached() -> None:
    assert usage(RATES) == [(0, 1), (1, 0)]


def test_usage_without_a_prompt_cache() -> None:
    assert usage(RATES.without_caching()) == [(0, 0), (0, 0)]


def test_a_cache_on_request_is_used_only_on_request() -> None:
    from dataclasses import replace

    explicit = replace(RATES, caching="explicit")
    assert usage(explicit) == [(0, 0), (0, 0)]
    assert usage(explicit, cache_control={"type": "ephemeral"}) == [(0, 1), (1, 0)]


def test_the_folder_is_not_touched(tmp_path: Path) -> None:
    root = make_folder(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in sorted(root.rglob("*"))}
    ask(corpus_tools(Corpus(root)), next(iter(ANSWERS)))
    assert {path: path.stat().st_mtime_ns for path in sorted(root.rglob("*"))} == before
