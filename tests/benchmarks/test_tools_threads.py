from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import BaseTool

from benchmarks.overhead import AtOnce
from benchmarks.tools_threads import (
    ANSWER_TOKENS,
    RESULT_TOKENS,
    SYSTEM_TOKENS,
    Conversation,
    Turn,
    Wrap,
    as_tools,
    can_call,
    drawn,
    filler,
    specs_of,
    steps,
)
from langchain_tokopt import TokenCounter

SCHEMA = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
SEARCHER = {"type": "function", "function": {"name": "search_tools", "parameters": SCHEMA}}
CALLER = {"type": "function", "function": {"name": "call_tool", "parameters": SCHEMA}}
TOOLS = as_tools([{"name": name, "description": f"Do {name}.", "parameters": SCHEMA} for name in "abcd"])


def played(turns: Sequence[Turn], wrap: Wrap, tools: Sequence[BaseTool] = TOOLS) -> Conversation:
    thread = Conversation("t", turns, tools, specs_of(tools), AtOnce(), {})
    thread.run(wrap)
    return thread


def only(names: str, *more: Any) -> Wrap:
    return lambda request, handler: handler(
        request.override(tools=[*more, *(tool for tool in request.tools if tool.name in names)])
    )


def called(thread: Conversation) -> list[list[str]]:
    return [[call["name"] for call in sent.answer.tool_calls] for sent in thread.sent]


def test_a_turn_is_two_calls_of_tools_and_an_answer() -> None:
    assert steps(["a"]) == [["a"], ["a"], ()]
    assert steps(["a", "b"]) == [["a"], ["b"], ()]
    assert steps(["a", "b", "c"]) == [["a", "c"], ["b"], ()]
    thread = played([Turn("first", ("a", "b")), Turn("second", ("c",))], only("abcd"))
    assert called(thread) == [["a"], ["b"], [], ["c"], ["c"], []]
    assert (thread.needed, thread.reached) == (3, 3)


def test_a_thread_is_a_valid_conversation_that_only_grows() -> None:
    thread = played([Turn("first", ("a", "b", "c")), Turn("second", ("c",))], only("abcd"))
    sent = [call.request.messages for call in thread.sent]
    for before, after in itertools.pairwise(sent):
        assert after[: len(before)] == before
    kinds = [HumanMessage, AIMessage, ToolMessage, ToolMessage, AIMessage, ToolMessage, AIMessage]
    assert [type(message) for message in sent[-1][:7]] == kinds
    calls = [call["id"] for message in sent[-1] if isinstance(message, AIMessage) for call in message.tool_calls]
    results = [message.tool_call_id for message in sent[-1] if isinstance(message, ToolMessage)]
    assert calls == results
    assert len(set(calls)) == len(calls)


def test_texts_have_the_sizes_that_are_named() -> None:
    counter = TokenCounter()
    for tokens in (SYSTEM_TOKENS, RESULT_TOKENS, ANSWER_TOKENS):
        assert abs(counter.text(filler(tokens, "x")) - tokens) <= 0.15 * tokens
    assert filler(20, "x", 1) == filler(20, "x", 1) != filler(20, "x", 2)


def test_a_tool_that_was_not_shown_is_not_reached() -> None:
    thread = played([Turn("first", ("a", "b"))], only("a"))
    assert called(thread) == [["a"], ["b"], []]
    assert (thread.needed, thread.reached) == (2, 1)


def searched(messages: Sequence[Any]) -> list[str]:
    """What the model asked the search tool for."""
    calls = [call for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]
    return [call["args"]["query"] for call in calls if call["name"] == "search_tools"]


def answering(found: dict[str, str]) -> Wrap:
    """Binds no tools but a search, and what it found: tools by query."""

    def wrap(request: Any, handler: Any) -> Any:
        names = [found.get(query) for query in searched(request.messages)]
        response = handler(request.override(tools=[SEARCHER, *(tool for tool in TOOLS if tool.name in names)]))
        if not searched(response.result):
            return response
        answers = [ToolMessage("ok", tool_call_id=call["id"]) for call in response.result[0].tool_calls]
        return wrap(request.override(messages=[*request.messages, *response.result, *answers]), handler)

    return wrap


def test_a_tool_that_is_not_bound_is_searched_for_first() -> None:
    thread = played([Turn("first", ("a", "b"))], answering({"Do a.": "a", "b": "b"}))
    assert called(thread) == [["search_tools"], ["a"], ["search_tools"], ["search_tools"], ["b"], []]
    assert [sent.kind for sent in thread.sent] == ["search", "step", "search", "search", "step", "step"]
    assert searched([sent.answer for sent in thread.sent]) == ["Do a.", "Do b.", "b"]
    assert (thread.needed, thread.reached) == (2, 2)


def test_the_model_gives_up_searching_and_calls_blindly() -> None:
    thread = played([Turn("first", ("a",))], answering({}))
    assert called(thread) == [["search_tools"], ["search_tools"], ["a"], ["a"], []]
    assert (thread.needed, thread.reached) == (1, 0)


def test_what_the_model_was_shown_counts_wherever_it_stands() -> None:
    specs = specs_of(TOOLS)
    thread = Conversation("t", [], TOOLS, specs, AtOnce(), {})
    told = HumanMessage("hello\n\nTools:\n- a: Do a.\n  id: string")
    found = ToolMessage("These:\n- b(id: string): Do b.", tool_call_id="1")
    block = {"type": "tool_addition", "tool": {"name": "c", "input_schema": {}}}
    added = SystemMessage([block])
    assert can_call(thread.request([], TOOLS[:1]), "a", specs)
    assert not can_call(thread.request([told], TOOLS[1:]), "a", specs)
    messages = [told, found, added]
    shown = {name: can_call(thread.request(messages, [CALLER]), name, specs) for name in "abcd"}
    assert shown == {"a": True, "b": True, "c": True, "d": False}


def test_a_hidden_tool_is_called_by_the_tool_that_calls_others() -> None:
    thread = played([Turn("text\n- a: Do a.", ("a",))], only("", CALLER))
    call = thread.sent[0].answer.tool_calls[0]
    assert (call["name"], call["args"]["name"], set(call["args"]["arguments"])) == ("call_tool", "a", {"id"})


def test_threads_need_no_tools_but_those_drawn() -> None:
    turns = [
        Turn(f"{dialog}{turn}", (name,), dialog)
        for dialog, names in (("x", "ab"), ("y", "cd"), ("z", "a"))
        for turn, name in enumerate(names)
    ]
    names = list("abcdefghij")
    for seed in range(5):
        chosen, threads = drawn(turns, names, 2, 6, seed)
        assert len(chosen) == 6
        assert [len(thread) for thread in threads] == [6, 6]
        assert {name for thread in threads for turn in thread for name in turn.tools} <= chosen
        order = [turn.text for turn in threads[0]]
        assert order.index("x1") == order.index("x0") + 1
    assert drawn(turns, names, 2, 6, 0) == drawn(turns, names, 2, 6, 0)
    assert drawn([Turn("x", ("a", "b", "c"))], names, 2, 2, 0)[1] == []
