"""Notes that tell a model of tools that are not bound."""

from __future__ import annotations

from typing import Any, Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from langchain_tokopt.tools.notes import note_text, with_notes
from langchain_tokopt.tools.schema import ToolSpec, spec_of
from tests.strategies import message_lists
from tests.tools.toolbox import anthropic_dict, openai_dict


def lines(*tools: Any) -> list[str]:
    specs = [one if isinstance(one, ToolSpec) else spec_of(one) for one in tools]
    return note_text([spec for spec in specs if spec is not None], "call_tool").split("\n")[1:]


def parameters(properties: dict[str, Any], *required: str, **more: Any) -> list[str]:
    return lines(ToolSpec("t", "", {"type": "object", "properties": properties, "required": list(required), **more}))[
        1:
    ]


# --- what a note says ------------------------------------------------------------------------------------------------


class Line(BaseModel):
    sku: str = Field(description="Stock number.")
    count: int = 1


class Address(BaseModel):
    street: str
    country: Literal["DE", "FR"] = "DE"


@tool
def order(
    lines: list[Line],
    to: Address,
    note: Optional[str] = None,  # noqa: UP045 - as users write it
    tags: dict[str, int] | None = None,
    mode: Literal["fast", "slow"] = "fast",
) -> str:
    """Order goods. Needs an account."""
    return ""


def test_a_tool_is_told_with_all_that_it_takes_to_call_it() -> None:
    assert note_text([spec for spec in [spec_of(order)] if spec], "call_tool") == (
        "Tools that may help here. Call them with call_tool(name, arguments); ? marks what may be left out:\n"
        "- order: Order goods. Needs an account.\n"
        "  lines: {sku: string, count?: integer = 1}[]\n"
        "  lines.sku - Stock number.\n"
        '  to: {street: string, country?: "DE"|"FR" = "DE"}\n'
        "  note?: string|null\n"
        "  tags?: {[key]: integer}|null\n"
        '  mode?: "fast"|"slow" = "fast"'
    )


def test_tools_of_every_form_are_told_in_the_order_given() -> None:
    assert lines(openai_dict("one", "First."), anthropic_dict("two")) == ["- one: First.", "  item: string", "- two"]


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        ({}, "any"),
        (True, "any"),
        ({"type": "string", "format": "date"}, "string<date>"),
        ({"type": ["integer", "null"]}, "integer|null"),
        ({"enum": ["a", 1, None]}, '"a"|1|null'),
        ({"const": "only"}, '"only"'),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "integer"}]}, "integer|string"),
        ({"oneOf": [{"type": "array", "items": {"enum": [1, 2]}}, {"type": "null"}]}, "(1|2)[]|null"),
        ({"type": "array"}, "any[]"),
        ({"type": "array", "items": {"type": "array", "items": {"type": "number"}}}, "number[][]"),
        ({"type": "object"}, "object"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "{[key]: string}"),
        ({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}, "{a: integer}"),
        ({"type": "boolean", "default": False}, "boolean = false"),
        ({"type": "array", "default": ["ä"]}, 'any[] = ["ä"]'),
        ({"$ref": "#/$defs/Kind"}, '"x"|"y"'),
        ({"allOf": [{"$ref": "#/$defs/Kind"}], "default": "x"}, '"x"|"y" = "x"'),
        ({"$ref": "#/$defs/Missing"}, "any"),
    ],
)
def test_types_are_told_in_full(schema: Any, shown: str) -> None:
    assert parameters({"p": schema}, "p", **{"$defs": {"Kind": {"enum": ["x", "y"]}}}) == [f"  p: {shown}"]


def test_a_type_that_contains_itself_ends() -> None:
    inner = {f"n{n}": {"$ref": "#/$defs/Node", "description": "More."} for n in range(3)}
    node = {"type": "object", "properties": {**inner, "v": {"type": "integer"}}}
    assert parameters({"p": {"$ref": "#/$defs/Node"}}, **{"$defs": {"Node": node}}) == [
        "  p?: {n0?: any, n1?: any, n2?: any, v?: integer}",
        "  p.n0 - More.",
        "  p.n1 - More.",
        "  p.n2 - More.",
    ]


def test_what_is_nested_deeply_is_told_as_an_object() -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(8):
        schema = {"type": "object", "properties": {"a": schema}}
    assert parameters({"p": schema}) == ["  p?: " + "{a?: " * 5 + "object" + "}" * 5]


@pytest.mark.parametrize(
    ("description", "told"),
    [
        ("  One.\n  Two.  ", ": One. Two."),
        ("One. " + "x" * 300, ": One."),
        ("One. Two! " + "x" * 300, ": One. Two!"),
        ("word " * 100, ": " + " ".join(["word"] * 59) + "…"),
        ("x" * 400, ": " + "x" * 299 + "…"),
        ("", ""),
    ],
)
def test_whole_sentences_are_told_as_long_as_they_fit(description: str, told: str) -> None:
    assert lines(ToolSpec("t", description)) == [f"- t{told}"]


def test_odd_schemas_are_told_as_far_as_they_can_be_read() -> None:
    assert lines(ToolSpec("t", "", {"properties": None}), ToolSpec("u", "", {"properties": {"a": None}})) == [
        "- t",
        "- u",
        "  a?: any",
    ]


# --- where it is -----------------------------------------------------------------------------------------------------

NO_ID = SystemMessage("be brief")


def test_a_note_stands_at_the_end_of_the_users_message() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:"}}
    thread = [NO_ID, HumanMessage("hi", id="a"), AIMessage("yes"), HumanMessage([picture]), HumanMessage("")]
    told = with_notes(thread, [(1, "one"), (3, "two"), (1, "three"), (4, "four")])
    assert [message.content for message in told] == [
        "be brief",
        "hi\n\none\n\nthree",
        "yes",
        [picture, {"type": "text", "text": "two"}],
        "four",
    ]
    assert told[1].id == "a"
    assert [thread[1].content, thread[3].content] == ["hi", [picture]]
    assert (told[0], told[2]) == (thread[0], thread[2])


def test_a_note_for_another_message_waits_for_the_next_user() -> None:
    thread: list[BaseMessage] = [HumanMessage("hi"), AIMessage("yes"), ToolMessage("x", tool_call_id="1")]
    assert with_notes(thread, [(2, "note"), (9, "late"), (-1, "")]) == thread
    told = with_notes([*thread, HumanMessage("go on"), HumanMessage("now")], [(1, "a"), (2, "b")])
    assert [message.content for message in told] == ["hi", "yes", "x", "go on\n\na\n\nb", "now"]


@given(message_lists(), st.lists(st.tuples(st.integers(0, 12), st.text(max_size=5)), max_size=4), st.data())
def test_a_longer_thread_changes_nothing_that_was_sent(
    messages: list[BaseMessage], notes: list[tuple[int, str]], data: st.DataObject
) -> None:
    end = data.draw(st.integers(0, len(messages)))
    assert with_notes(messages, notes)[:end] == with_notes(messages[:end], notes)
