import gc
import weakref
from typing import Any, Literal

import pytest
from langchain_core.tools import BaseTool, StructuredTool, tool
from pydantic import BaseModel, Field

from langchain_tokopt.tool_schemas import ToolSchemas, compact_json


class Address(BaseModel):
    street: str = Field(description="Street and number")
    zip: str | None = None


@tool
def ship(to: Address, weight: float, speed: Literal["slow", "fast"] = "slow", tags: list[str] | None = None) -> str:
    """Ship a parcel.
    It must be packed."""
    return f"{to} {weight} {speed} {tags}"


@tool
def now() -> str:
    """The time."""
    return ""


def test_openai_sees_a_typescript_type() -> None:
    assert ToolSchemas()(ship).typescript == (
        "// Ship a parcel.\n"
        "//     It must be packed.\n"
        "type ship = (_: {\n"
        "to: {\n"
        "// Street and number\n"
        "street: string,\n"
        "zip?: string | null,\n"
        "},\n"
        "weight: number,\n"
        'speed?: "slow" | "fast", // default: "slow"\n'
        "tags?: string[] | null,\n"
        "}) => any;\n\n"
    )


def test_tool_without_arguments() -> None:
    schema = ToolSchemas()(now)
    assert schema.typescript == "// The time.\ntype now = () => any;\n\n"
    assert (
        schema.inner_json == '{"name":"now","description":"The time.","parameters":{"properties":{},"type":"object"}}'
    )


@pytest.mark.parametrize(
    "shape",
    [
        {"type": "function", "function": {"name": "a", "description": "b", "parameters": {"type": "object"}}},
        {"type": "function", "name": "a", "description": "b", "parameters": {"type": "object"}},
        {"name": "a", "description": "b", "input_schema": {"type": "object"}},
        {"toolSpec": {"name": "a", "description": "b", "inputSchema": {"json": {"type": "object"}}}},
        {"title": "a", "description": "b", "type": "object", "properties": {}},
    ],
)
def test_dictionaries_of_any_provider(shape: dict[str, Any]) -> None:
    schema = ToolSchemas()(shape)
    assert schema.name == "a"
    assert schema.typescript == "// b\ntype a = () => any;\n\n"


@pytest.mark.parametrize(
    ("own", "name"),
    [
        ({"type": "web_search_20250305", "name": "web_search"}, "web_search"),
        ({"type": "web_search"}, "web_search"),
        ({"google_search": {}}, "google_search"),
        ({}, "tool"),
    ],
)
def test_tools_that_the_provider_runs_are_taken_as_they_are(own: dict[str, Any], name: str) -> None:
    schema = ToolSchemas()(own)
    assert (schema.name, schema.function, schema.json) == (name, None, compact_json(own))


def test_functions_and_classes_are_tools_too() -> None:
    def look(at: int) -> str:
        """Look at it."""
        return str(at)

    schemas = ToolSchemas()
    assert schemas(look).name == "look"
    assert schemas(Address).name == "Address"


def test_tool_that_cannot_be_converted_is_known_by_name_and_description() -> None:
    class Odd(BaseTool):
        name: str = "odd"
        description: str = "Odd."
        args_schema: Any = 5

        def _run(self) -> str:
            return ""

    assert ToolSchemas()(Odd()).inner_json == '{"name":"odd","description":"Odd."}'


def test_schema_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    schemas = ToolSchemas()
    plain = {"name": "a", "description": "b", "input_schema": {"type": "object"}}
    first = [schemas(ship), schemas(plain), schemas(Address)]

    def fail(_: Any) -> Any:
        raise AssertionError("converted again")

    monkeypatch.setattr("langchain_tokopt.tool_schemas.convert_to_openai_tool", fail)
    assert all(
        again is once for again, once in zip([schemas(ship), schemas(plain), schemas(Address)], first, strict=True)
    )


def test_change_in_place_is_noticed() -> None:
    schemas = ToolSchemas()
    mutable = StructuredTool.from_function(lambda: "", name="a", description="Old.")
    plain: dict[str, Any] = {"name": "a", "description": "b", "input_schema": {"type": "object", "properties": {}}}
    before = schemas(mutable).digest, schemas(plain).digest
    mutable.description = "New."
    plain["input_schema"]["properties"]["x"] = {"type": "string"}
    assert "New." in schemas(mutable).json
    assert '"x"' in schemas(plain).json
    assert (schemas(mutable).digest, schemas(plain).digest) != before


def test_no_tool_is_kept_alive() -> None:
    schemas = ToolSchemas()
    short = StructuredTool.from_function(lambda: "", name="a", description="b")
    schemas(short)
    gone = weakref.ref(short), weakref.ref(short.args_schema)
    del short
    gc.collect()
    assert [one() for one in gone] == [None, None]


def test_marks_for_the_providers_cache_are_no_part_of_it() -> None:
    schemas = ToolSchemas()
    marked = now.model_copy(update={"extras": {"cache_control": {"type": "ephemeral"}}})
    deferred = now.model_copy(update={"extras": {"defer_loading": True}})
    assert schemas(marked).digest == schemas(now).digest
    assert schemas(deferred).digest != schemas(now).digest
    plain = {"name": "a", "description": "b", "input_schema": {"type": "object"}}
    assert schemas({**plain, "cache_control": {"type": "ephemeral"}}).digest == schemas(plain).digest


def test_schema_that_refers_to_itself_ends() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "value": {"type": "integer"}}}
    own = {"name": "a", "description": "", "input_schema": {**node, "$defs": {"node": node}}}
    assert ToolSchemas()(own).typescript.count("value?: number,") == 9


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "integer"}, "number"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"const": 3}, "3"),
        ({"enum": ["a", 1]}, '"a" | 1'),
        ({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "boolean"}}]}, "string | boolean[]"),
        ({"allOf": [{"$ref": "#/$defs/x"}]}, "string"),
        ({"$ref": "#/$defs/missing"}, "any"),
        ({"type": "object"}, "object"),
        ({"type": "array"}, "any[]"),
        ({}, "any"),
        (True, "any"),
    ],
)
def test_types(schema: Any, kind: str) -> None:
    parameters = {"type": "object", "properties": {"p": schema}, "$defs": {"x": {"type": "string"}}, "required": ["p"]}
    whole = {"type": "function", "function": {"name": "a", "parameters": parameters}}
    assert ToolSchemas()(whole).typescript == f"type a = (_: {{\np: {kind},\n}}) => any;\n\n"


def test_json_of_anything() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    assert compact_json({"a": [1, "é"]}) == '{"a":[1,"é"]}'
    assert compact_json({(1, 2): 3}) == "{(1, 2): 3}"
    assert compact_json(loop) == "{'self': {...}}"
