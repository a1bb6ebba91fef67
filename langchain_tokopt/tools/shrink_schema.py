"""JSON schemas that accept the same values in fewer words (Draft 2020-12).

Only places where the standard puts a schema are looked into: a property that is called `title` is no title, and what
is inside `enum`, `const`, `default` or an unknown keyword is a value.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from langchain_tokopt.tools.shrink_text import repeats, without_needless_space

Schema: TypeAlias = "dict[str, Any]"

_DEFINITIONS = ("$defs", "definitions")
# Where schemas are: in an object by name; alone or in a list.
_BY_NAME = frozenset({"properties", "patternProperties", "dependentSchemas", "dependencies", *_DEFINITIONS})
_INNER = frozenset(
    {
        *("items", "prefixItems", "additionalItems", "unevaluatedItems", "contains"),
        *("additionalProperties", "unevaluatedProperties", "propertyNames"),
        *("anyOf", "oneOf", "allOf", "not", "if", "then", "else", "contentSchema"),
    }
)
# Where LangChain's and OpenAI's strict mode make a schema strict. A definition is made strict whoever uses it, so
# putting it anywhere else would change what is accepted then.
_MADE_STRICT = frozenset({"properties", "items", "anyOf", "allOf"})
_NOTES = frozenset({"title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly"})
_VALUES = frozenset({*_NOTES, "enum", "const", "$comment", "$schema", "$id"})
# With one of these a reference may mean something else than it says.
_ANCHORS = frozenset({"$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef"})
_REFERENCE = re.compile(r"#/(?:\$defs|definitions)/[^/~%]+")


def equivalent(schema: Schema) -> Schema:
    """A schema that accepts exactly what `schema` accepts and says the same, shorter. The given one is not changed.

    Raises:
        RecursionError: The schema is an object that contains itself.
    """
    tidied = _tidy(schema)
    uses = _uses(schema)
    if uses is None:
        return _tidy(schema, ids=True)
    if not any(key in tidied for key in _DEFINITIONS):
        return tidied
    return _tidy(_put_in_place(tidied, uses))  # again: a description came beside its parameter's name


def mapped(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """A copy of a schema in which every schema directly inside it is changed."""
    return {key: _changed(key, value, change) for key, value in schema.items()}


def nodes(schema: Schema) -> Iterator[Schema]:
    """The schema and every schema inside it."""
    yield schema
    for key, value in schema.items():
        for inner in _inside(key, value):
            yield from nodes(inner)


def _inside(key: str, value: Any) -> Iterator[Schema]:
    if key in _BY_NAME and isinstance(value, dict):
        parts = list(value.values())
    elif key in _INNER:
        parts = value if isinstance(value, list) else [value]
    else:
        return
    yield from (part for part in parts if isinstance(part, dict))


def _changed(key: str, value: Any, change: Callable[[Schema], Schema]) -> Any:
    if key in _BY_NAME and isinstance(value, dict):
        return {name: change(part) if isinstance(part, dict) else part for name, part in value.items()}
    if key in _INNER and isinstance(value, list):
        return [change(part) if isinstance(part, dict) else part for part in value]
    return change(value) if key in _INNER and isinstance(value, dict) else value


# --- what says nothing -----------------------------------------------------------------------------------------------


def _tidy(schema: Schema, name: str = "", *, ids: bool = False) -> Schema:
    """The schema without what says nothing; `name` is that of the property that it describes."""

    def property_of(key: str, value: Any) -> Any:
        return _tidy(value, str(key), ids=ids) if isinstance(value, dict) else value

    kept: Schema = {}
    for key, value in schema.items():
        if key == "properties" and isinstance(value, dict):
            kept[key] = {inner: property_of(inner, part) for inner, part in value.items()}
        elif key == "description" and isinstance(value, str):
            kept[key] = without_needless_space(value)
        elif not _says_nothing(key, value, schema) or (ids and key == "$id"):
            kept[key] = _changed(key, value, lambda part: _tidy(part, ids=ids))
    description, title = kept.get("description"), kept.get("title")
    if isinstance(description, str) and (not description or repeats(description, name)):
        del kept["description"]
    # Most titles are made of names. One that a person wrote may be all that is said of a parameter.
    if isinstance(title, str) and (not name or "description" in kept or not title.strip() or repeats(title, name)):
        del kept["title"]
    return kept


def _says_nothing(key: str, value: Any, schema: Schema) -> bool:
    if key in ("$schema", "$id", "$comment"):
        return isinstance(value, str)
    if key == "required":
        # Strict mode takes a schema for an object's by either of the two.
        return value == [] and "properties" in schema
    if key == "additionalProperties":
        return not _may_be_object(schema)
    return key == "default" and value is None


def _may_be_object(schema: Schema) -> bool:
    kind = schema.get("type")
    return "object" in kind if isinstance(kind, (str, list)) else True


# --- references ------------------------------------------------------------------------------------------------------


def _uses(schema: Schema) -> Counter[str] | None:
    """How often each definition is used; twice where it has to stay. `None`: not every reference is a plain one."""
    uses: Counter[str] = Counter()
    definitions = _definitions(schema)
    root = {key: value for key, value in schema.items() if key not in _DEFINITIONS}
    waiting: list[tuple[Schema, bool]] = [(root, True)]
    has_ids = False
    while waiting:
        node, made_strict = waiting.pop()
        has_ids = has_ids or ("$id" in node and node is not root)
        found: list[tuple[Any, int]] = []
        for key, value in node.items():
            if key in _ANCHORS:
                return None
            if key == "$ref":
                found.append((value, 1 if made_strict else 2))
            elif key in _BY_NAME or key in _INNER:
                strict = made_strict and key in _MADE_STRICT and not (key == "items" and isinstance(value, list))
                waiting += [(part, strict) for part in _inside(key, value)]
            elif key not in _VALUES:
                found += [(text, 2) for text in _pointers(value)]  # such as the mapping of a discriminator
        for reference, weight in found:
            if not isinstance(reference, str) or not (reference == "#" or _REFERENCE.fullmatch(reference)):
                return None
            if reference not in uses and isinstance(definitions.get(reference), dict):
                waiting.append((definitions[reference], True))
            uses[reference] += weight
    return None if has_ids and uses else uses


def _definitions(schema: Schema) -> dict[str, Any]:
    """All definitions by the reference that names them."""
    return {
        f"#/{key}/{name}": body
        for key in _DEFINITIONS
        if isinstance(schema.get(key), dict)
        for name, body in schema[key].items()
    }


def _pointers(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value.startswith("#"):
        yield value
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _pointers(inner)


def _put_in_place(schema: Schema, uses: Counter[str]) -> Schema:
    """The schema with every definition that is used once put where it is used, and without those that are not used."""
    definitions = _definitions(schema)
    kept: dict[str, Any] = {}

    def keep(reference: str) -> None:
        if reference in kept or reference not in definitions:
            return
        body = kept[reference] = definitions[reference]  # before the next line: it may refer to itself
        if isinstance(body, dict):
            kept[reference] = place(body)

    def place(node: Schema) -> Schema:
        node = mapped(node, place)
        reference = node.get("$ref")
        if not isinstance(reference, str):
            return node
        target = definitions.get(reference)
        # What is used once cannot contain itself: one use would be inside of it, and another outside.
        if uses[reference] == 1 and isinstance(target, dict) and not set(target) & {*_DEFINITIONS}:
            notes = {key: value for key, value in node.items() if key != "$ref"}
            if notes.keys() <= _NOTES and all(target.get(key, value) == value for key, value in notes.items()):
                return {**place(target), **notes}
        keep(reference)
        return node

    body = place({key: value for key, value in schema.items() if key not in _DEFINITIONS})
    for reference, count in uses.items():
        if count > 1:
            keep(reference)
    for key in _DEFINITIONS:
        if isinstance(schema.get(key), dict):
            left = {name: kept[f"#/{key}/{name}"] for name in schema[key] if f"#/{key}/{name}" in kept}
            if left:
                body[key] = left
        elif key in schema:
            body[key] = schema[key]
    return body
