from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tokopt.tools.shrink_schema import equivalent, nodes
from tests.tools.json_schemas import arguments, schemas

STREET = {"type": "object", "properties": {"street": {"type": "string"}}, "required": ["street"]}


def parameters(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


# --- what says nothing -----------------------------------------------------------------------------------------------


def test_notes_that_say_nothing_go_at_every_depth() -> None:
    leaf = {"title": "Leaf", "$comment": "made by hand", "type": "integer", "default": None, "description": " "}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://example.com/tool",
        "title": "Tool",
        "type": "object",
        "properties": {"either": {"title": "Either", "anyOf": [leaf, {"type": "null", "title": "No"}]}},
        "patternProperties": {"^x": leaf},
        "additionalProperties": leaf,
        "required": [],
        "allOf": [{"if": leaf, "then": leaf}, {"properties": {"list": {"prefixItems": [leaf], "items": leaf}}}],
    }
    short = {"type": "integer"}
    assert equivalent(schema) == {
        "type": "object",
        "properties": {"either": {"anyOf": [short, {"type": "null"}]}},
        "patternProperties": {"^x": short},
        "additionalProperties": short,
        "allOf": [{"if": short, "then": short}, {"properties": {"list": {"prefixItems": [short], "items": short}}}],
    }


def test_properties_that_are_called_like_keywords_are_properties() -> None:
    names = ["title", "description", "default", "examples", "required", "$ref", "$defs", "$id", "$comment", "enum"]
    schema = parameters(**{name: {"type": "string"} for name in names}, properties=parameters(title={"const": 1}))
    assert equivalent(schema) == schema


def test_nothing_inside_a_value_is_touched() -> None:
    value = {"title": "A", "description": "", "default": None, "required": [], "$ref": "#/$defs/A", "$comment": "b"}
    schema = {
        "type": "object",
        "properties": {"a": {"enum": [value]}, "b": {"const": value}, "c": {"default": value, "examples": [value]}},
        "x-unknown": value,
        "$defs": {"A": STREET},
    }
    assert equivalent(schema) == schema


@pytest.mark.parametrize(
    ("name", "note", "expected"),
    [
        ("user_id", {"description": "The user's ID."}, {"description": "The user's ID."}),
        ("user_id", {"description": "The user ID."}, {}),
        ("userId", {"description": "ID of the user"}, {}),
        ("is_open", {"description": "is not open"}, {"description": "is not open"}),
        ("price", {"description": "Price ($)"}, {"description": "Price ($)"}),
        ("user_id", {"title": "User Id"}, {}),
        ("user_id", {"title": "Account number", "description": "As printed"}, {"description": "As printed"}),
        ("user_id", {"title": "Account number"}, {"title": "Account number"}),
        ("date", {"title": "Day of travel", "description": "The date"}, {"title": "Day of travel"}),
    ],
)
def test_what_only_repeats_the_name_of_a_parameter_goes(
    name: str, note: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert equivalent(parameters(**{name: note})) == parameters(**{name: expected})


@pytest.mark.parametrize("given_there", [False, True, {"type": "string"}])
def test_additional_properties_stay_where_they_could_matter(given_there: Any) -> None:
    schema = {**STREET, "additionalProperties": given_there}
    assert equivalent(schema) == schema
    untyped = {"additionalProperties": given_there}
    assert equivalent(untyped) == untyped


def test_additional_properties_of_what_is_no_object_go() -> None:
    schema = parameters(
        a={"type": "string", "additionalProperties": False},
        b={"type": ["array", "null"], "additionalProperties": True},
        c={"type": ["object", "null"], "additionalProperties": False},
    )
    assert equivalent(schema) == parameters(
        a={"type": "string"}, b={"type": ["array", "null"]}, c=schema["properties"]["c"]
    )


def test_an_empty_list_of_what_is_required_stays_where_strict_mode_needs_it() -> None:
    assert equivalent({"type": "object", "properties": {}, "required": []}) == {"type": "object", "properties": {}}
    assert equivalent({"type": "object", "required": []}) == {"type": "object", "required": []}


# --- references ------------------------------------------------------------------------------------------------------


def test_what_is_used_once_is_put_in_place_and_what_is_not_used_goes() -> None:
    schema = {
        **parameters(home={"$ref": "#/$defs/Address", "description": "Where to send it", "title": "Home"}),
        "$defs": {
            "Address": {"title": "Address", **parameters(town={"$ref": "#/definitions/Town"})},
            "Unused": {"$ref": "#/$defs/Address"},
        },
        "definitions": {"Town": {"title": "Town", "type": "string"}},
    }
    assert equivalent(schema) == parameters(
        home={**parameters(town={"type": "string"}), "description": "Where to send it"}
    )


def test_what_is_used_twice_stays_and_so_does_what_contains_itself() -> None:
    node = parameters(next={"$ref": "#/$defs/Node"}, at={"$ref": "#/$defs/Point"})
    point = parameters(x={"type": "number"})
    schema = {
        **parameters(a={"$ref": "#/$defs/Twice"}, b={"$ref": "#/$defs/Twice"}, c={"$ref": "#/$defs/Node"}, all=True),
        "$defs": {"Node": node, "Point": point, "Twice": {"enum": ["x", "y"]}},
    }
    assert equivalent(schema) == {
        "type": "object",
        "properties": schema["properties"],
        "$defs": {"Node": parameters(next={"$ref": "#/$defs/Node"}, at=point), "Twice": {"enum": ["x", "y"]}},
    }


def test_a_definition_that_becomes_the_parameter_may_repeat_its_name() -> None:
    schema = {
        **parameters(street={"$ref": "#/$defs/Street"}),
        "$defs": {"Street": {"type": "string", "description": "The street"}},
    }
    assert equivalent(schema) == parameters(street={"type": "string"})


@pytest.mark.parametrize(
    "beside",
    [
        {"description": "Another one"},  # both are said of it
        {"additionalProperties": False},  # would mean another set of properties
        {"minProperties": 1},
    ],
)
def test_a_reference_with_something_of_its_own_beside_it_stays(beside: dict[str, Any]) -> None:
    schema = {
        **parameters(a={"$ref": "#/$defs/A", **beside}),
        "$defs": {"A": {**STREET, "description": "One"}},
    }
    assert equivalent(schema) == schema


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(
            {
                **parameters(pet={"oneOf": [{"$ref": "#/$defs/Cat"}], "discriminator": {"map": {"c": "#/$defs/Cat"}}}),
                "$defs": {"Cat": STREET},
            },
            id="named by a discriminator",
        ),
        pytest.param(
            {**parameters(a={"oneOf": [{"$ref": "#/$defs/A"}]}), "$defs": {"A": STREET}},
            id="where strict mode looks only into the definition",
        ),
        pytest.param(
            {**parameters(a={"$ref": "#/$defs/A/properties/street"}), "$defs": {"A": STREET}}, id="into a definition"
        ),
        pytest.param({**parameters(a={"$ref": "#/$defs/a%20b"}), "$defs": {"a b": STREET}}, id="escaped"),
        pytest.param({**parameters(a={"$ref": "#here"}), "$defs": {"A": {"$anchor": "here", **STREET}}}, id="anchor"),
        pytest.param(
            {**parameters(a={"$ref": "other.json"}), "$id": "https://example.com/", "$defs": {"A": STREET}},
            id="another document",
        ),
        pytest.param(
            {**parameters(a={"$id": "urn:a", "$ref": "#/$defs/A", "$defs": {"A": True}}), "$defs": {"A": STREET}},
            id="a document inside",
        ),
        pytest.param({**parameters(a={"$ref": "#/$defs/A"}), "$defs": {"A": True}}, id="no schema with keys"),
        pytest.param({**parameters(a={"$ref": "#/$defs/B"}), "$defs": 1}, id="not defined"),
        pytest.param({**parameters(a={"$ref": 7}), "$defs": {"A": STREET}}, id="no reference"),
    ],
)
def test_references_that_are_not_plain_stay_as_they_are(schema: dict[str, Any]) -> None:
    assert equivalent(schema) == schema


# --- for any schema --------------------------------------------------------------------------------------------------


def _size(schema: Any) -> int:
    return len(json.dumps(schema))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_same_arguments_are_accepted(data: st.DataObject) -> None:
    validator = pytest.importorskip("jsonschema").Draft202012Validator
    schema = data.draw(schemas())
    before = copy.deepcopy(schema)
    short = equivalent(schema)
    assert schema == before
    assert _size(short) <= _size(schema)
    assert equivalent(short) == short
    for node in nodes(short):
        assert not {"$schema", "$id", "$comment"} & node.keys()
        assert node.get("description") != ""
        assert node.get("default", 0) is not None
    for value in data.draw(st.lists(arguments(schema, schema), min_size=6, max_size=6)):
        assert validator(short).is_valid(value) == validator(schema).is_valid(value), value


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_same_arguments_are_accepted_in_strict_mode(data: st.DataObject) -> None:
    validator = pytest.importorskip("jsonschema").Draft202012Validator
    schema = data.draw(schemas())

    def strict(parameters: dict[str, Any]) -> dict[str, Any]:
        made = convert_to_openai_tool({"name": "f", "parameters": parameters}, strict=True)["function"]["parameters"]
        assert isinstance(made, dict)
        return made

    given_one, short = strict(schema), strict(equivalent(schema))
    for value in data.draw(st.lists(arguments(given_one, given_one), min_size=6, max_size=6)):
        assert validator(short).is_valid(value) == validator(given_one).is_valid(value), value
