"""Tools as they are bound: with a schema that accepts the same arguments in fewer tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tokopt.tool_schemas import compact_json
from langchain_tokopt.tools.schema import tool_name
from langchain_tokopt.tools.shrink_schema import equivalent, mapped, nodes
from langchain_tokopt.tools.shrink_text import cut, without_needless_space

T = TypeVar("T")

# A tool is chosen by its description: something of it always stays.
TOOL_LEAST_CHARS = 40
# To find how much of the descriptions fits, a tool is counted at most so often; it is near enough to the budget then.
_TRIES, _CAUTION, _CLOSE = 6, 0.98, 0.95


def shrunk(tool: T, *, max_tokens: int | None = None, count: Callable[[str], int] | None = None) -> T:
    """A copy of the tool to bind in its place, or the tool itself when nothing is gained. Never raises.

    The copy has the same name and accepts the same arguments, also under `strict=True`. What says nothing is gone:
    `title` (but not one that is all that is said of a parameter), `$schema`, `$id` and `$comment`, empty `required`
    and `description`, `default: null`, definitions that are not used, descriptions that only repeat a parameter's
    name, needless space. A definition that is used once is put where it is used. The copy is for the model's eyes:
    run, index and validate with the tool that was given.

    Left alone are tools that the provider runs, unknown shapes, and `additionalProperties` of objects: without `false`
    a schema accepts more, and without `true` OpenAI may take it for one that can be made strict.

    Args:
        tool: A `BaseTool`, or a function dict of OpenAI (Chat Completions or Responses) or Anthropic.
        max_tokens: Shorten descriptions until name, description and schema have at most this many tokens as compact
            JSON; `None` shortens none. Examples go first, then all descriptions are cut to the same length, so the
            longest lose most. What cannot fit is cut as far as that goes; types, names and values stay.
        count: Tokens of a text; by default a quarter of its characters.
    """
    try:
        return _shrunk(tool, max_tokens, count or _quarter)
    except Exception:  # what cannot be read is bound as it is
        return tool


@dataclass(frozen=True, slots=True)
class _Definition:
    """What a provider shows of a tool."""

    name: str
    description: Any
    parameters: Any

    @property
    def json(self) -> str:
        return compact_json({"name": self.name, "description": self.description, "parameters": self.parameters})


def _shrunk(tool: T, max_tokens: int | None, count: Callable[[str], int]) -> T:
    before = _definition(tool)
    if before is None:
        return tool
    after = _fitted(_compact(before), max_tokens, count)
    if after == before or count(after.json) >= count(before.json):
        return tool
    return cast(T, _with(tool, after))


def _quarter(text: str) -> int:
    return -(-len(text) // 4)


# --- tools -----------------------------------------------------------------------------------------------------------


def _definition(tool: object) -> _Definition | None:
    """What the provider is shown of the tool, after what LangChain does to it; `None` where that is not known."""
    if isinstance(tool, BaseTool):
        if "provider_tool_definition" in (tool.extras or {}):  # langchain-anthropic sends that instead
            return None
        function = convert_to_openai_tool(tool).get("function")
        return None if function is None else _Definition(tool.name, function["description"], function["parameters"])
    if not isinstance(tool, dict) or tool_name(tool) is None:
        return None
    function, key = _function(tool)
    return _Definition(function["name"], function.get("description"), function.get(key))


def _with(tool: Any, definition: _Definition) -> Any:
    if not isinstance(tool, BaseTool):
        function, key = _function(tool)
        changed = {"description": definition.description, key: definition.parameters}
        # Every key stays: langchain-anthropic knows its own form by them.
        inner = {name: changed.get(name, value) for name, value in function.items()}
        return {**tool, "function": inner} if "function" in tool else inner
    # A schema as a dictionary is sent as it is. Arguments that are injected are not in it already.
    update = {"description": definition.description or tool.description, "args_schema": definition.parameters}
    copy = tool.model_copy(update=update)
    return copy if _definition(copy) == definition else tool  # a subclass may show something of its own


def _function(tool: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The part of a function dict that defines the function, and the key of its schema."""
    function = tool.get("function", tool)
    return function, "input_schema" if "input_schema" in function else "parameters"


# --- the budget ------------------------------------------------------------------------------------------------------


def _compact(definition: _Definition) -> _Definition:
    description, parameters = definition.description, definition.parameters
    if isinstance(description, str):
        description = without_needless_space(description)
    if isinstance(parameters, dict):
        parameters = equivalent(parameters)
    return replace(definition, description=description, parameters=parameters)


def _fitted(definition: _Definition, max_tokens: int | None, count: Callable[[str], int]) -> _Definition:
    if max_tokens is None or count(definition.json) <= max_tokens:
        return definition
    bare = replace(definition, parameters=_without_examples(definition.parameters))
    most = count(bare.json)
    if most <= max_tokens:
        return bare
    best = _limited(bare, 0)
    least = count(best.json)
    lengths = sorted(map(len, _descriptions(bare)))
    low, high = 0, sum(lengths)
    for _ in range(_TRIES if least < max_tokens else 0):
        # As many characters as the tokens found on both sides let expect, and a little less.
        room = low + int((high - low) * (max_tokens - least) / (most - least) * _CAUTION)
        tried = _limited(bare, _level(lengths, room))
        tokens = count(tried.json)
        if tokens > max_tokens:
            high, most = room, tokens
            continue
        best, low, least = tried, room, tokens
        if tokens > _CLOSE * max_tokens:
            break
    return _compact(best)  # what is left may only repeat a name


def _level(lengths: list[int], room: int) -> int:
    """The highest limit at which texts of these lengths, shortest first, have at most `room` characters together."""
    for position, length in enumerate(lengths):
        share = room // (len(lengths) - position)
        if share <= length:
            return share
        room -= length
    return lengths[-1]


def _limited(definition: _Definition, limit: int) -> _Definition:
    description = definition.description
    if isinstance(description, str):
        description = cut(description, max(limit, TOOL_LEAST_CHARS))
    return replace(definition, description=description, parameters=_with_limit(definition.parameters, limit))


def _with_limit(schema: Any, limit: int) -> Any:
    if not isinstance(schema, dict):
        return schema
    schema = mapped(schema, lambda inner: _with_limit(inner, limit))
    description = schema.get("description")
    if isinstance(description, str):
        schema["description"] = cut(description, limit)
        if not schema["description"]:
            del schema["description"]
    return schema


def _without_examples(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    schema = mapped(schema, _without_examples)
    return {key: value for key, value in schema.items() if key not in ("examples", "example", "title")}


def _descriptions(definition: _Definition) -> Iterator[str]:
    inner = nodes(definition.parameters) if isinstance(definition.parameters, dict) else ()
    for text in (definition.description, *(node.get("description") for node in inner)):
        if isinstance(text, str):
            yield text
