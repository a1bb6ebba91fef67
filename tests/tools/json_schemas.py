"""Strategies for JSON schemas and for values that they may accept; parameters are often called like keywords."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NAMES = ["title", "description", "default", "$ref", "properties", "items", "required", "$defs", "street", "user_id"]
TEXTS = ["", " ", "The title.", "Where  to\n\n\n   look", "user id", "#/$defs/A"]
DEFINITIONS = ["A", "B", "C"]

atoms = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 3), st.sampled_from([0.5, 1.0]), st.sampled_from(["", "a", "title"])
)
values = st.one_of(
    atoms, atoms, st.lists(atoms, max_size=2), st.dictionaries(st.sampled_from(NAMES), atoms, max_size=2)
)
# What LangChain's own conversion changes or refuses inside of a default is not for these tests.
notes = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {},
        optional={
            "title": st.sampled_from(TEXTS),
            "description": st.sampled_from(TEXTS),
            "default": values,
            "examples": st.lists(values, max_size=2),
            "$comment": st.sampled_from(TEXTS),
        },
    ),
)
_types = st.sampled_from(["string", "integer", "number", "boolean", "null", "object", "array"])


@st.composite
def references(draw: st.DrawFn) -> dict[str, Any]:
    reference = draw(st.sampled_from([f"#/$defs/{name}" for name in DEFINITIONS] + ["#/definitions/A", "#"]))
    more = [{}, {}, {"description": "Where"}, {"title": "The title"}, {"additionalProperties": False}, {"minLength": 1}]
    return {"$ref": reference, **draw(st.sampled_from(more))}


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> dict[str, Any]:
    properties = draw(st.dictionaries(st.sampled_from(NAMES), inner, max_size=3))
    schema: dict[str, Any] = {"type": "object", **draw(notes)}
    if properties or draw(st.booleans()):
        schema["properties"] = properties
    if draw(st.booleans()):
        schema["required"] = draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
    return {**schema, **draw(st.fixed_dictionaries({}, optional={"additionalProperties": st.booleans() | inner}))}


@st.composite
def arrays(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> dict[str, Any]:
    shape = st.fixed_dictionaries({}, optional={"items": inner, "prefixItems": st.lists(inner, min_size=1, max_size=2)})
    return {"type": "array", **draw(shape), **draw(notes)}


def _either(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        objects(inner),
        arrays(inner),
        st.builds(lambda key, parts, more: {key: parts, **more}, st.sampled_from(["anyOf", "oneOf"]), several, notes),
        st.builds(lambda parts: {"allOf": parts}, several),
        st.builds(lambda part: {"not": part}, inner),
        st.builds(lambda key, part: {key: part}, st.sampled_from(["if", "then", "else"]), inner),
    )


_references = st.one_of(
    references(),
    references(),
    st.builds(lambda key, one: {key: [one]}, st.sampled_from(["oneOf", "anyOf", "allOf"]), references()),
)
_leaves = st.one_of(
    st.builds(lambda kind, more: {"type": kind, **more}, _types | st.lists(_types, min_size=1, max_size=2), notes),
    st.builds(lambda allowed, more: {"enum": allowed, **more}, st.lists(values, min_size=1, max_size=3), notes),
    st.builds(lambda value: {"const": value}, values) | notes | st.booleans(),
    st.builds(lambda more: {"type": "string", "additionalProperties": False, "minLength": 1, **more}, notes),
    _references,
    _references,
)
_parts = st.recursive(_leaves, _either, max_leaves=4)
# A definition refers to others only from inside a value, so that no reference leads back to itself at once.
_definitions = objects(_parts) | arrays(_parts) | st.builds(lambda kind, more: {"type": kind, **more}, _types, notes)


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Any]:
    """A tool's parameters, with all definitions that they may refer to."""
    schema = draw(objects(_parts))
    pointing = st.dictionaries(st.sampled_from(NAMES), _references | arrays(_references), min_size=1, max_size=3)
    schema["properties"] = {**schema.get("properties", {}), **draw(pointing)}
    schema.update(draw(st.fixed_dictionaries({}, optional={"$schema": st.just("urn:a"), "$id": st.just("urn:b")})))
    alias = st.builds(lambda more: {"$ref": "#/$defs/A", **more}, notes)
    schema["$defs"] = {name: draw(_definitions | alias if name == "B" else _definitions) for name in DEFINITIONS}
    schema["definitions"] = {"A": draw(_definitions)}
    return schema


@st.composite
def arguments(draw: st.DrawFn, schema: Any, root: dict[str, Any], depth: int = 4) -> Any:
    """A value that `schema` may well accept, and sometimes any other."""
    if not isinstance(schema, dict) or depth == 0 or draw(st.integers(0, 15)) == 0:
        return draw(values)
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].split("/")[1:]:
            target = target[part]
        return draw(arguments(target, root, depth - 1))
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return draw(arguments(draw(st.sampled_from(schema[key])), root, depth))
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = draw(st.sampled_from(kind))
    if kind == "object":
        properties = schema.get("properties", {})
        wanted = [name for name in properties if name in schema.get("required", ()) or draw(st.booleans())]
        made = {name: draw(arguments(properties[name], root, depth - 1)) for name in wanted}
        extra = draw(st.dictionaries(st.sampled_from(NAMES), values, max_size=1)) if draw(st.booleans()) else {}
        return {**extra, **made}
    if kind == "array":
        items = [*schema.get("prefixItems", []), schema.get("items", True)]
        return [draw(arguments(items[min(n, len(items) - 1)], root, depth - 1)) for n in range(draw(st.integers(0, 3)))]
    of_kind = {"string": ["", "a"], "integer": [0, 1], "number": [0.5], "boolean": [True, False], "null": [None]}
    return draw(st.sampled_from(of_kind[kind])) if kind in of_kind else draw(values)
