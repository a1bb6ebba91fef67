from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain.tools import InjectedState, ToolRuntime
from langchain_anthropic.chat_models import convert_to_anthropic_tool
from langchain_core.tools import BaseTool, InjectedToolArg, StructuredTool, Tool, tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

from langchain_tokopt.tool_schemas import compact_json
from langchain_tokopt.tools.shrink import TOOL_LEAST_CHARS, shrunk
from langchain_tokopt.tools.shrink_schema import equivalent
from tests.fakes import ScriptedModel, ai
from tests.tools.json_schemas import schemas

LONG = "Look for flights that leave from one place and arrive at another.  All times are local. Prices are in euros."
PARAMETERS = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "start": {"type": "string", "title": "Start", "description": "The airport where it starts, as a code."},
        "cabin": {"enum": ["first", "second"], "description": "The cabin", "default": None, "examples": ["first"]},
    },
    "required": ["start"],
    "additionalProperties": False,
}
SHORT = {
    "type": "object",
    "properties": {
        "start": {"type": "string", "description": "The airport where it starts, as a code."},
        "cabin": {"enum": ["first", "second"], "examples": ["first"]},
    },
    "required": ["start"],
    "additionalProperties": False,
}
FUNCTION = {"name": "fly", "description": LONG, "parameters": PARAMETERS}


class Address(BaseModel):
    """Where somebody lives."""

    street: str = Field(description="Street  and\n   number")
    kind: Literal["home", "work"] | None = None


@tool(response_format="content_and_artifact", extras={"defer_loading": True, "cache_control": {"type": "ephemeral"}})
def send(
    to: Address | None,
    user_id: Annotated[str, InjectedToolArg],
    state: Annotated[dict[str, Any], InjectedState],
    runtime: ToolRuntime,
    copies: Annotated[int | None, "Number of copies"] = None,
) -> tuple[str, int]:
    """Send a letter.

    Args:
        to: Whom to send it to.
    """
    return f"{to} {copies} {user_id} {len(state['messages'])}", 1


def shown(given_tool: Any, *, strict: bool | None = None) -> dict[str, Any]:
    """The function that LangChain sends for a tool."""
    function = convert_to_openai_tool(given_tool, strict=strict)["function"]
    assert isinstance(function, dict)
    return function


# --- function dicts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_tool", "expected"),
    [
        (
            {"type": "function", "function": {**FUNCTION, "strict": False}},
            {
                "type": "function",
                "function": {
                    "name": "fly",
                    "description": LONG.replace("  ", " "),
                    "parameters": SHORT,
                    "strict": False,
                },
            },
        ),
        (
            {"type": "function", **FUNCTION, "description": "Fly."},
            {"type": "function", "name": "fly", "description": "Fly.", "parameters": SHORT},
        ),
        (
            {"name": "fly", "description": "", "input_schema": PARAMETERS, "cache_control": {"type": "ephemeral"}},
            {"name": "fly", "description": "", "input_schema": SHORT, "cache_control": {"type": "ephemeral"}},
        ),
        (
            {"type": "custom", "name": "fly", "input_schema": PARAMETERS},
            {"type": "custom", "name": "fly", "input_schema": SHORT},
        ),
    ],
    ids=["chat completions", "responses", "anthropic", "anthropic, typed"],
)
def test_a_function_of_any_form_keeps_its_form(given_tool: dict[str, Any], expected: dict[str, Any]) -> None:
    before = copy.deepcopy(given_tool)
    assert shrunk(given_tool) == expected
    assert list(shrunk(given_tool)) == list(given_tool)
    assert given_tool == before


@pytest.mark.parametrize(
    "given_tool",
    [
        {"type": "web_search"},
        {"type": "web_search_20250305", "name": "web_search", "description": "a  b"},
        {"google_search": {}},
        {"toolSpec": {"name": "a", "description": "a  b", "inputSchema": {"json": PARAMETERS}}},
        {"title": "a", "description": "a  b", "properties": {"b": {"title": "B"}}},
        {"type": "function"},
        {"type": "function", "function": {"name": "a", "description": 7, "parameters": 7}},
        {},
        None,
        "a  b",
        print,
        Address,
    ],
)
def test_what_is_not_known_comes_back_as_it_is(given_tool: Any) -> None:
    assert shrunk(given_tool, max_tokens=1) is given_tool


def test_a_tool_that_cannot_be_read_comes_back_as_it_is() -> None:
    endless: dict[str, Any] = {"name": "a", "input_schema": {"properties": {}}}
    endless["input_schema"]["properties"]["again"] = endless["input_schema"]
    assert shrunk(endless) is endless
    schemaless = StructuredTool(name="a", description="b  c", args_schema={"$ref": "#/$defs/none"}, func=print)
    assert shrunk(schemaless) is schemaless


def test_a_counter_that_fails_changes_nothing() -> None:
    def failing(text: str) -> int:
        raise ValueError(text)

    given_tool = {"type": "function", "function": FUNCTION}
    assert shrunk(given_tool, count=failing) is given_tool


# --- BaseTool --------------------------------------------------------------------------------------------------------


def test_a_copy_shows_the_same_call_in_fewer_words() -> None:
    bound = shrunk(send)
    assert isinstance(bound, BaseTool)
    assert shown(send)["parameters"]["properties"]["to"]["anyOf"][0]["title"] == "Address"
    assert shown(bound) == {
        "name": "send",
        "description": "Send a letter.\n\nArgs:\n to: Whom to send it to.",
        "parameters": {
            "properties": {
                "to": {
                    "anyOf": [
                        {
                            "description": "Where somebody lives.",
                            "properties": {
                                "street": {"description": "Street and\nnumber", "type": "string"},
                                "kind": {"anyOf": [{"enum": ["home", "work"], "type": "string"}, {"type": "null"}]},
                            },
                            "required": ["street"],
                            "type": "object",
                        },
                        {"type": "null"},
                    ]
                },
                "copies": {"anyOf": [{"type": "integer"}, {"type": "null"}], "description": "Number of copies"},
            },
            "required": ["to"],
            "type": "object",
        },
    }


def test_a_copy_keeps_everything_else_and_the_original_is_not_touched() -> None:
    description, schema = send.description, send.args_schema
    bound = shrunk(send)
    assert (send.description, send.args_schema) == (description, schema)
    assert bound is not send
    for field in set(type(send).model_fields) - {"description", "args_schema"}:
        assert getattr(bound, field) == getattr(send, field), field


def test_providers_read_the_copy_as_they_read_the_original() -> None:
    bound = shrunk(send)
    assert convert_to_anthropic_tool(bound) == {
        "name": "send",
        "description": shown(bound)["description"],
        "input_schema": shown(bound)["parameters"],
        "defer_loading": True,
        "cache_control": {"type": "ephemeral"},
    }
    sent = ChatOpenAI(model="gpt-5", api_key="none").bind_tools([bound]).kwargs["tools"]  # type: ignore[attr-defined]
    assert sent == [{"type": "function", "function": shown(bound), "defer_loading": True}]


def test_strict_mode_makes_the_same_of_the_copy() -> None:
    def bare(schema: Any) -> Any:
        if isinstance(schema, dict):
            return {key: bare(value) for key, value in schema.items() if key not in ("title", "description", "default")}
        return [bare(part) for part in schema] if isinstance(schema, list) else schema

    assert bare(shown(shrunk(send), strict=True)["parameters"]) == bare(shown(send, strict=True)["parameters"])


def test_a_tool_with_one_text_argument_keeps_it() -> None:
    plain = Tool(name="ask", description="Ask  somebody.", func=str)
    assert shown(shrunk(plain)) == {
        "name": "ask",
        "description": "Ask somebody.",
        "parameters": {"type": "object", "properties": {"__arg1": {"type": "string"}}, "required": ["__arg1"]},
    }


class OwnSchema(BaseTool):
    name: str = "own"
    description: str = "Own  schema."

    @property
    def tool_call_schema(self) -> Any:
        return {"description": "Always  this.", "type": "object", "properties": {"a": {"title": "A"}}}

    def _run(self) -> str:
        return ""


@pytest.mark.parametrize(
    "given_tool",
    [
        OwnSchema(),
        Tool(name="a", description="b  c", func=str, metadata={"type": "custom_tool"}),
        StructuredTool.from_function(
            lambda code: code,
            name="a",
            description="b  c",
            args_schema={"type": "object", "properties": {}},
            extras={"provider_tool_definition": {"type": "bash_20250124", "name": "bash"}},
        ),
    ],
    ids=["own schema", "custom tool", "provider tool"],
)
def test_a_tool_that_is_shown_in_its_own_way_comes_back_as_it_is(given_tool: BaseTool) -> None:
    assert shrunk(given_tool) is given_tool


def test_nothing_gained_is_the_tool_itself() -> None:
    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    assert shrunk(add) is add
    bound = shrunk(send)
    assert shrunk(bound) is bound


class Shrinking(AgentMiddleware):
    def wrap_model_call(self, request: ModelRequest, handler: Callable[[ModelRequest], ModelResponse]) -> ModelResponse:
        return handler(request.override(tools=[shrunk(one, max_tokens=30) for one in request.tools]))


def test_an_agent_runs_the_original_with_what_is_injected() -> None:
    call = {"name": "write", "args": {"to": {"street": "Main  street 1"}, "copies": 2}}

    @tool
    def write(to: Address, copies: int, state: Annotated[dict[str, Any], InjectedState], runtime: ToolRuntime) -> str:
        """Write a letter to somebody who lives at an address that you know already, and keep a copy of it."""
        return f"{to.street} {copies} {len(state['messages'])} {runtime.tool_call_id}"

    model = ScriptedModel(responses=[ai(tool_calls=[call]), ai("Done.")])
    agent = create_agent(model, [write], middleware=[Shrinking()])
    result = agent.invoke({"messages": [("user", "Write.")]})
    assert result["messages"][2].content == "Main  street 1 2 2 call_0"
    bound = model.calls[0].tools[0]["function"]
    assert bound["description"] == "Write a letter to somebody who lives at…"
    assert sorted(bound["parameters"]["properties"]) == ["copies", "to"]


# --- a budget --------------------------------------------------------------------------------------------------------


def tokens(given_tool: Any) -> int:
    function = shown(given_tool)
    return len(compact_json({key: function.get(key) for key in ("name", "description", "parameters")}))


def budget(given_tool: Any, max_tokens: int) -> dict[str, Any]:
    return shown(shrunk(given_tool, max_tokens=max_tokens, count=len))


def test_examples_go_before_descriptions_are_cut() -> None:
    given_tool = {"type": "function", "function": {**FUNCTION, "parameters": SHORT}}
    one_less = tokens(shrunk(given_tool, count=len)) - 1
    without = copy.deepcopy(SHORT)
    del without["properties"]["cabin"]["examples"]
    assert budget(given_tool, one_less) == {**FUNCTION, "description": LONG.replace("  ", " "), "parameters": without}


def test_the_longest_descriptions_are_cut_to_one_length() -> None:
    properties = {
        "a": {"type": "string", "description": "Short and to the point."},
        "b": {"type": "string", "description": "A text of many words " * 9},
        "c": {"type": "object", "properties": {"d": {"description": "Another text of words " * 9}}},
    }
    given_tool = {"name": "go", "description": "Do it at once. " * 9, "input_schema": {"properties": properties}}
    bound = shrunk(given_tool, max_tokens=420, count=len)
    assert bound["description"] == "Do it at once. Do it at once. Do it at once. Do it at once."
    assert bound["input_schema"]["properties"] == {
        "a": {"type": "string", "description": "Short and to the point."},
        "b": {"type": "string", "description": "A text of many words A text of many words A text of many words A…"},
        "c": {
            "type": "object",
            "properties": {"d": {"description": "Another text of words Another text of words Another text of words…"}},
        },
    }
    assert tokens(bound) <= 420


def test_what_cannot_fit_keeps_what_no_description_is() -> None:
    bound = budget({"type": "function", "function": FUNCTION}, 10)
    assert bound == {
        "name": "fly",
        "description": "Look for flights that leave from one…",
        "parameters": {
            "type": "object",
            "properties": {"start": {"type": "string"}, "cabin": {"enum": ["first", "second"]}},
            "required": ["start"],
            "additionalProperties": False,
        },
    }
    assert len(bound["description"]) <= TOOL_LEAST_CHARS


def test_without_a_counter_a_token_is_four_characters() -> None:
    given_tool = {"type": "function", "function": FUNCTION}
    assert shrunk(given_tool, max_tokens=80) == shrunk(given_tool, max_tokens=320, count=len)


described = st.text(st.sampled_from("ab .\n…"), max_size=120)


@settings(max_examples=40, deadline=None)
@given(schemas(), described, st.dictionaries(st.sampled_from("abc"), described), st.integers(0, 400))
def test_a_budget_is_kept_and_only_descriptions_pay(
    schema: dict[str, Any], description: str, texts: dict[str, str], max_tokens: int
) -> None:
    schema["properties"].update({name: {"type": "string", "description": text} for name, text in texts.items()})
    given_tool = {"type": "function", "function": {"name": "f", "description": description, "parameters": schema}}
    before = copy.deepcopy(given_tool)
    whole, bound = shrunk(given_tool, count=len), shrunk(given_tool, max_tokens=max_tokens, count=len)
    least = shrunk(given_tool, max_tokens=0, count=len)
    assert given_tool == before
    assert tokens(least) <= tokens(bound) <= tokens(whole) <= tokens(given_tool)
    assert tokens(bound) <= max(max_tokens, tokens(least))
    assert shrunk(bound, max_tokens=max_tokens, count=len) is bound
    assert _accepts(bound) == _accepts(whole)


@settings(max_examples=25, deadline=None)
@given(schemas())
def test_a_base_tool_is_shown_as_its_schema_is(schema: dict[str, Any]) -> None:
    given_tool = StructuredTool(name="f", description="Do  it.", args_schema=schema, func=print)
    bound = shrunk(given_tool, count=len)
    if bound is given_tool:
        return
    sent = {"type": "function", "function": shown(given_tool)}
    assert shown(bound) == shrunk(sent, count=len)["function"]


def _accepts(tool: dict[str, Any]) -> dict[str, Any]:
    """What the tool takes. A definition that had a description of its own may have moved to where it is used."""
    return equivalent(_without_notes(tool["function"].get("parameters", {})))


def _without_notes(value: Any) -> Any:
    if isinstance(value, dict):
        notes = ("description", "examples", "title")
        return {
            key: _without_notes(inner) for key, inner in value.items() if key not in notes or isinstance(inner, dict)
        }
    return [_without_notes(inner) for inner in value] if isinstance(value, list) else value
