from __future__ import annotations

from typing import Any

import pytest
from langchain.tools import ToolRuntime
from langchain_core.tools import BaseTool, StructuredTool, tool
from pydantic import BaseModel, Field

from langchain_tokopt.tools.schema import (
    ToolSpec,
    cache_mark,
    deferred,
    identity,
    marked,
    spec_of,
    tool_name,
    words,
)
from tests.tools.toolbox import anthropic_dict, openai_dict
from tests.tools.toolbox import tool as simple


class Address(BaseModel):
    street: str = Field(description="Street and number")


@tool
def book_room(city: str, nights: int | None = None, kind: str = "single", address: Address | None = None) -> str:
    """Book a hotel room. It can be cancelled."""
    return city


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("get_user_by_id", "get user by id"),
        ("getUserById", "get User By Id"),
        ("HTTPServer.start", "HTTP Server start"),
        ("math.hypot", "math hypot"),
        ("aws:s3/list-buckets", "aws s3 list buckets"),
        ("", ""),
    ],
)
def test_a_name_is_read_as_words(name: str, expected: str) -> None:
    assert words(name) == expected


def test_a_tool_is_found_by_its_name_description_and_parameters() -> None:
    spec = spec_of(book_room)
    assert spec is not None
    assert spec.text == (
        "book room: Book a hotel room. It can be cancelled. "
        "Parameters: city, nights, kind, address, street: Street and number"
    )


def test_injected_arguments_are_not_part_of_what_a_tool_is_found_by() -> None:
    @tool
    def look_up(topic: str, runtime: ToolRuntime) -> str:
        """Look something up."""
        return topic

    spec = spec_of(look_up)
    assert spec is not None
    assert spec.text == "look up: Look something up. Parameters: topic"


def test_a_signature_is_one_line_with_types_and_optional_marks() -> None:
    spec = ToolSpec(
        "plan",
        "",
        {
            "properties": {
                "city": {"type": "string"},
                "kind": {"enum": ["a", "b"]},
                "days": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                "tags": {"type": "array", "items": {"type": "string"}},
                "odd": {"type": ["number", "null"]},
                "any": {},
            },
            "required": ["city", "kind"],
        },
    )
    assert spec.signature == "plan(city: string, kind: a|b, days?: integer, tags?: string[], odd?: number, any?: any)"


def test_a_summary_is_the_first_sentence_and_never_long() -> None:
    assert ToolSpec("a", "Send a mail.\nThen more.").summary == "Send a mail."
    assert ToolSpec("a", "x" * 300).summary == "x" * 99 + "…"
    assert ToolSpec("a").summary == ""


@pytest.mark.parametrize(
    "given",
    [
        openai_dict("send", "Send it."),
        {"type": "function", "name": "send", "description": "Send it.", "parameters": {}},
        anthropic_dict("send", "Send it."),
        {"type": "custom", **anthropic_dict("send", "Send it.")},
        simple("send", "Send it."),
    ],
)
def test_function_tools_of_every_shape_are_read(given: Any) -> None:
    spec = spec_of(given)
    assert spec is not None
    assert (spec.name, spec.description) == ("send", "Send it.")
    assert tool_name(given) == "send"


@pytest.mark.parametrize(
    "given",
    [
        {"type": "web_search"},
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "computer_20250124", "name": "computer", "display_width_px": 1024},
        {"google_search": {}},
        {"type": "function", "function": {}},
        {"type": "function"},
        {"name": "no_schema"},
        {},
        None,
        print,
    ],
)
def test_what_the_provider_runs_and_unknown_shapes_are_not_read(given: Any) -> None:
    assert spec_of(given) is None
    assert tool_name(given) is None


class Unreadable(BaseTool):
    name: str = "odd"
    description: str = "Odd."

    @property
    def tool_call_schema(self) -> Any:
        raise ValueError

    def _run(self) -> str:
        return ""


def test_a_tool_whose_schema_cannot_be_read_is_found_by_its_name() -> None:
    assert spec_of(Unreadable()) == ToolSpec("odd", "Odd.", {})
    schemaless = StructuredTool(name="odd", description="Odd.", args_schema={"no": "schema"}, func=print)
    spec = spec_of(schemaless)
    assert spec is not None
    assert (spec.text, spec.signature) == ("odd: Odd.", "odd()")


def test_identity_is_the_same_for_copies_and_different_for_other_schemas() -> None:
    one = simple("send")
    copy = one.model_copy(update={"extras": {"cache_control": {"type": "ephemeral"}}})
    assert identity(one) == identity(copy)
    assert identity(one) != identity(simple("send"))
    assert identity({"type": "web_search"}) == identity({"type": "web_search"})
    assert identity({"type": "web_search"}) != identity({"type": "code_interpreter"})


@pytest.mark.parametrize("given", [simple("send"), anthropic_dict("send")])
def test_a_breakpoint_is_put_on_a_copy_and_taken_off(given: BaseTool | dict[str, Any]) -> None:
    mark = {"type": "ephemeral"}
    with_mark = marked(given, mark)
    assert cache_mark(given) is None
    assert cache_mark(with_mark) == mark
    assert cache_mark(marked(with_mark, None)) is None
    assert tool_name(with_mark) == "send"


def test_tools_that_the_provider_defers_are_told_apart() -> None:
    assert deferred(simple("send").model_copy(update={"extras": {"defer_loading": True}}))
    assert deferred({**anthropic_dict("send"), "defer_loading": True})
    assert not deferred(simple("send"))
    assert not deferred(openai_dict("send"))
