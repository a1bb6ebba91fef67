"""Reading a tool: its name, what it does, and its parameters, whatever shape it was handed over in."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tokopt.lexical import words
from langchain_tokopt.tool_schemas import compact_json

SUMMARY_CHARS = 100
_DEPTH = 3  # how deep nested parameters are read; deeper ones say little about what a tool is for

_SENTENCE = re.compile(r"(?<=[.!?])\s")


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What is known of one client-side tool. `parameters` is its JSON schema, empty when it has none."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def text(self) -> str:
        """What the tool is found by: name in words, description, parameter names and descriptions."""
        text = f"{words(self.name)}: {self.description}"
        described = ", ".join(_described(self.parameters))
        return f"{text} Parameters: {described}" if described else text

    @property
    def digest(self) -> bytes:
        """16 bytes that stand for the tool as the model sees it, equal in every process."""
        told = compact_json([self.name, self.description, self.parameters])
        return hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=16).digest()

    @property
    def signature(self) -> str:
        """The call in one line: `name(city: string, days?: integer)`; `?` marks what may be left out."""
        required = set(self.parameters.get("required") or ())
        inside = ", ".join(
            f"{name}{'' if name in required else '?'}: {_type(schema)}"
            for name, schema in _properties(self.parameters).items()
        )
        return f"{self.name}({inside})"

    @property
    def summary(self) -> str:
        """The first sentence of the description on one line, at most `SUMMARY_CHARS` characters."""
        line = " ".join(self.description.split())
        line = _SENTENCE.split(line, maxsplit=1)[0]
        return line if len(line) <= SUMMARY_CHARS else line[: SUMMARY_CHARS - 1].rstrip() + "…"


def spec_of(tool: object) -> ToolSpec | None:
    """What is known of a tool, or `None` for one that the provider runs (web search ...) or of an unknown shape.

    Read are `BaseTool` and the function dicts of OpenAI (Chat Completions and Responses) and Anthropic. A tool without
    a description is found by its name and parameters only.
    """
    if isinstance(tool, BaseTool):
        return ToolSpec(tool.name, tool.description or "", _parameters_of(tool))
    function = _function(tool)
    if function is None:
        return None
    parameters = function.get("parameters", function.get("input_schema"))
    return ToolSpec(
        function["name"],
        str(function.get("description") or ""),
        parameters if isinstance(parameters, Mapping) else {},
    )


def tool_name(tool: object) -> str | None:
    """The name of a tool that `spec_of` reads, without reading its schema; `None` for any other."""
    if isinstance(tool, BaseTool):
        return tool.name
    function = _function(tool)
    return None if function is None else str(function["name"])


def identity(tool: object) -> Hashable:
    """A key that stays equal while a tool does, also over the copies that middleware makes of it.

    Only good while something keeps the tool alive: schemas are told apart by their `id`.
    """
    if isinstance(tool, BaseTool):
        schema = id(tool.args_schema) if tool.args_schema is not None else type(tool)
        return (tool.name, tool.description, schema, deferred(tool))
    function = _function(tool)
    if function is None:
        return repr(tool)
    schema = id(function.get("parameters", function.get("input_schema")))
    return (function["name"], function.get("description"), schema, deferred(tool))


def deferred(tool: object) -> bool:
    """Whether the provider already keeps this tool out of the prompt (Anthropic's `defer_loading`)."""
    return bool(_extras(tool).get("defer_loading"))


def cache_mark(tool: object) -> Any:
    """The `cache_control` breakpoint that a tool carries, or `None`."""
    return _extras(tool).get("cache_control")


def marked(tool: Any, mark: Any) -> Any:
    """A copy of the tool that carries the breakpoint `mark` (`None`: carries none)."""
    extras = {**_extras(tool), "cache_control": mark}
    if mark is None:
        del extras["cache_control"]
    return tool.model_copy(update={"extras": extras}) if isinstance(tool, BaseTool) else extras


def in_anthropics_form(tool: Any) -> Any:
    """A function dict of OpenAI's as one of Anthropic's; any other tool as it is."""
    function = tool.get("function") if isinstance(tool, Mapping) and tool.get("type") == "function" else None
    if not isinstance(function, Mapping):
        return tool
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    return {"name": function["name"], "description": function.get("description", ""), "input_schema": parameters}


def _extras(tool: object) -> Mapping[str, Any]:
    if isinstance(tool, BaseTool):
        return tool.extras or {}
    return tool if isinstance(tool, Mapping) else {}


def _function(tool: object) -> Mapping[str, Any] | None:
    if not isinstance(tool, Mapping):
        return None
    kind = tool.get("type")
    if kind == "function":
        inner = tool.get("function", tool)  # Responses writes the function's fields beside the type
        return inner if isinstance(inner, Mapping) and isinstance(inner.get("name"), str) else None
    # Anthropic names its own tools with a dated type and gives them no schema.
    if kind in (None, "custom") and isinstance(tool.get("name"), str) and isinstance(tool.get("input_schema"), Mapping):
        return tool
    return None


def _parameters_of(tool: BaseTool) -> Mapping[str, Any]:
    try:
        parameters = convert_to_openai_tool(tool).get("function", {}).get("parameters")
    except Exception:  # one tool with an odd schema must not keep the others from being found
        return {}
    return parameters if isinstance(parameters, Mapping) else {}


def _properties(schema: object) -> Mapping[str, Any]:
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    return properties if isinstance(properties, Mapping) else {}


def _described(schema: object, depth: int = _DEPTH) -> Iterator[str]:
    for name, inner in _properties(schema).items():
        description = inner.get("description") if isinstance(inner, Mapping) else None
        yield f"{words(str(name))}: {description}" if isinstance(description, str) and description else words(str(name))
        if depth > 1 and isinstance(inner, Mapping):
            options = inner.get("anyOf") or inner.get("oneOf")
            for part in [inner, inner.get("items"), *(options if isinstance(options, list) else [])]:
                yield from _described(part, depth - 1)


def _type(schema: object) -> str:
    if not isinstance(schema, Mapping):
        return "any"
    if isinstance(schema.get("enum"), list):
        return "|".join(str(value) for value in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if isinstance(options := schema.get(key), list):
            kinds = [_type(option) for option in options]
            return "|".join(dict.fromkeys(kind for kind in kinds if kind != "null")) or "any"
    kind = schema.get("type")
    if isinstance(kind, list):
        return "|".join(str(one) for one in kind if one != "null") or "any"
    if kind == "array":
        return f"{_type(schema.get('items'))}[]"
    return kind if isinstance(kind, str) else "any"
