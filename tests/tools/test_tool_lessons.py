from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_tokopt.tools.lessons import Lesson, newest_lesson
from tests.fakes import ai

DELETE = HumanMessage("delete the invoice")
SUMMARY = HumanMessage("So far: tools were used.", additional_kwargs={"lc_source": "summarization"})


def calls(**named: str) -> AIMessage:
    """An answer that calls tools: `calls(a="list_server")` with the id "a"."""
    return ai(tool_calls=[{"name": name, "args": {}, "id": call_id} for call_id, name in named.items()])


def result(call_id: str, name: str | None = None, **more: Any) -> ToolMessage:
    return ToolMessage("ok", tool_call_id=call_id, name=name, **more)


def test_calls_that_succeeded_teach_which_tools_a_question_leads_to() -> None:
    thread = [DELETE, calls(a="list_invoice", b="delete_invoice"), result("a"), result("b")]
    assert newest_lesson(thread) == Lesson("delete the invoice", ("list_invoice", "delete_invoice"), (), ("a", "b"))


def test_the_last_two_successful_calls_before_are_told() -> None:
    thread = [
        DELETE,
        calls(a="one"),
        result("a"),
        calls(b="two"),
        result("b", status="error"),
        calls(c="three", d="four"),
        result("c"),
        result("d"),
        calls(e="five"),
        result("e"),
    ]
    assert newest_lesson(thread) == Lesson("delete the invoice", ("five",), ("three", "four"), ("e",))


def test_a_tool_that_was_called_twice_is_one_tool_and_two_calls() -> None:
    thread = [DELETE, calls(a="one", b="one"), result("a"), result("b")]
    assert newest_lesson(thread) == Lesson("delete the invoice", ("one",), (), ("a", "b"))


def test_failed_calls_teach_nothing() -> None:
    failed = result("a", status="error")
    assert newest_lesson([DELETE, calls(a="one"), failed]) is None
    both = newest_lesson([DELETE, calls(a="one", b="two"), failed, result("b")])
    assert both == Lesson("delete the invoice", ("two",), (), ("b",))


@pytest.mark.parametrize("agreement", ["yes, do it", "OK", "go ahead please!"])
def test_an_agreement_teaches_the_question_before_it(agreement: str) -> None:
    thread = [DELETE, AIMessage("Shall I?"), HumanMessage(agreement), calls(a="delete_invoice"), result("a")]
    assert newest_lesson(thread) == Lesson("delete the invoice", ("delete_invoice",), (), ("a",))


def test_the_newest_question_is_the_one_that_led_to_the_calls() -> None:
    thread = [DELETE, AIMessage("done"), HumanMessage("now list them"), calls(a="list_invoice"), result("a")]
    lesson = newest_lesson(thread)
    assert lesson is not None
    assert lesson.text == "now list them"


def test_a_summary_is_no_question() -> None:
    thread = [SUMMARY, HumanMessage("now list them"), calls(a="list_invoice"), result("a")]
    lesson = newest_lesson(thread)
    assert lesson is not None
    assert lesson.text == "now list them"


@pytest.mark.parametrize(
    "thread",
    [
        [],
        [DELETE],
        [DELETE, calls(a="one")],
        [DELETE, calls(a="one"), result("a"), AIMessage("done")],  # taught when the results were new
        [DELETE, calls(a="one"), result("a"), HumanMessage("and?")],
        [result("a")],
        [DELETE, result("a", "one")],
        [calls(a="one"), result("a")],  # nobody asked
        [HumanMessage([{"type": "image_url", "image_url": {"url": "x"}}]), calls(a="one"), result("a")],
    ],
)
def test_without_a_question_and_new_results_there_is_no_lesson(thread: list[BaseMessage]) -> None:
    assert newest_lesson(thread) is None


def test_a_result_without_its_call_is_known_by_its_own_name() -> None:
    # As when the arguments of the call could not be parsed, or a human answered in the tool's place.
    thread = [DELETE, calls(a="one"), result("a"), result("x", "other"), result("y")]
    assert newest_lesson(thread) == Lesson("delete the invoice", ("one", "other"), (), ("a", "x"))
