"""Tool schemas as text: what a provider puts into the prompt for a tool."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tokopt.memo import Memo

Tool: TypeAlias = "BaseTool | dict[str, Any] | type | Callable[..., Any]"

# Marks that tell the provider what to cache; they are no part of the prompt.
CACHE_MARKS = frozenset({"cache_control", "cachePoint", "prompt_cache_breakpoint"})


@dataclass(frozen=True)
class ToolSchema:
    """A tool as a provider sees it.

    Attributes:
        name: The tool's name, or the type of a tool that the provider runs itself.
        json: The definition as compact JSON, without marks for the provider's cache.
        function: `name`, `description` and `parameters`; `None` for a tool that the provider runs itself.
    """

    name: str
    json: str
    function: Mapping[str, Any] | None = field(repr=False)

    @functools.cached_property
    def digest(self) -> bytes:
        """16 bytes that stand for the definition; equal in every process."""
        return hashlib.blake2b(self.json.encode("utf-8", "surrogatepass"), digest_size=16).digest()

    @functools.cached_property
    def inner_json(self) -> str:
        """Name, description and parameters as compact JSON, without OpenAI's wrapping: what other providers show."""
        return self.json if self.function is None else compact_json(self.function)

    @functools.cached_property
    def typescript(self) -> str:
        """The definition as a TypeScript type, which is how OpenAI's models see it.

        The form is documented at https://developers.openai.com/cookbook/articles/openai-harmony ("Function calling").
        """
        if self.function is None:
            return self.json
        parameters = self.function.get("parameters") or {}
        if not isinstance(parameters, Mapping):
            return self.json
        definitions = {**(parameters.get("definitions") or {}), **(parameters.get("$defs") or {})}
        members = _members(parameters, definitions, 0)
        arguments = f"_: {{\n{members}\n}}" if members else ""
        return f"{_comment(self.function.get('description'))}type {self.name} = ({arguments}) => any;\n\n"


class ToolSchemas:
    """The schemas of tools, each worked out once. Keeps no tool alive, and notices when a tool was changed in place."""

    def __init__(self) -> None:
        self._entries: Memo[tuple[Any, Any, ToolSchema]] = Memo(limit=4096)

    def __call__(self, tool: Tool) -> ToolSchema:
        """The tool's schema. Never raises: what cannot be converted is taken as it is."""
        # The id only finds the entry; whether it is the same tool is decided by what the entry holds.
        entry = self._entries.get(id(tool))
        if entry is not None and _same(tool, entry[0], entry[1]):
            return entry[2]
        schema = _schema(tool)
        try:
            identity = None if isinstance(tool, dict) else weakref.ref(tool)
            self._entries.put(id(tool), (identity, copy.deepcopy(_content(tool)), schema))
        except Exception:  # cannot be referred to weakly or copied: worked out again next time
            return schema
        return schema


def _same(tool: Tool, identity: weakref.ref[Any] | None, content: Any) -> bool:
    if identity is None:
        return isinstance(tool, dict) and bool(tool == content)
    return identity() is tool and bool(_content(tool) == content)


def _content(tool: Tool) -> Any:
    """What of a tool can be changed in place and would change its schema."""
    if isinstance(tool, BaseTool):
        schema = weakref.ref(tool.args_schema) if isinstance(tool.args_schema, type) else tool.args_schema
        metadata = tool.metadata or {}  # LangChain reads only this of it
        return (
            tool.name,
            tool.description,
            schema,
            getattr(tool, "extras", None),
            metadata.get("type"),
            metadata.get("format"),
        )
    return tool if isinstance(tool, dict) else (getattr(tool, "__name__", None), getattr(tool, "__doc__", None))


def _schema(tool: Tool) -> ToolSchema:
    converted = _converted(tool)
    function = _function(converted)
    extras = getattr(tool, "extras", None) if isinstance(tool, BaseTool) else None
    shown = {key: value for key, value in {**converted, **(extras or {})}.items() if key not in CACHE_MARKS}
    if function is not None:
        name = function["name"]
    else:
        name = str(converted.get("name") or converted.get("type") or next(iter(converted), "tool"))
    return ToolSchema(name, compact_json(shown), function)


def _converted(tool: Tool) -> dict[str, Any]:
    if isinstance(tool, dict) and _is_providers_own(tool):
        return tool
    try:
        return convert_to_openai_tool(tool)
    except Exception:  # a provider's own form, or a schema that cannot be made
        if isinstance(tool, dict):
            return tool
        name = getattr(tool, "name", None) or getattr(tool, "__name__", None) or type(tool).__name__
        description = getattr(tool, "description", None) or getattr(tool, "__doc__", None) or ""
        return {"type": "function", "function": {"name": str(name), "description": str(description)}}


def _is_providers_own(tool: dict[str, Any]) -> bool:
    """Whether a dictionary names a tool by its type instead of defining it, as in `{"type": "web_search"}`."""
    defines = ("function", "parameters", "input_schema", "properties")
    return tool.get("type", "function") != "function" and not any(key in tool for key in defines)


def _function(tool: Mapping[str, Any]) -> Mapping[str, Any] | None:
    function = tool.get("function", tool if tool.get("type") == "function" else None)
    return function if isinstance(function, Mapping) and isinstance(function.get("name"), str) else None


def compact_json(value: Any) -> str:
    """JSON without spaces; what JSON does not know is written as its `repr`."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=repr)
    except (TypeError, ValueError, RecursionError):  # keys that are no strings, a structure that contains itself
        return repr(value)


# --- TypeScript ------------------------------------------------------------------------------------------------------

_PLAIN_TYPES = {"integer": "number", "number": "number", "string": "string", "boolean": "boolean", "null": "null"}
_DEEPEST = 8  # a schema may refer to itself


def _members(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> str:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return ""
    required = schema.get("required") or ()
    lines = []
    for name, value in properties.items():
        member = _resolved(value, definitions)
        mark = "" if name in required else "?"
        default = f" // default: {compact_json(member['default'])}" if member.get("default") is not None else ""
        lines.append(
            f"{_comment(member.get('description'))}{name}{mark}: {_type(member, definitions, depth)},{default}"
        )
    return "\n".join(lines)


def _type(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> str:
    schema = _resolved(schema, definitions)
    if depth > _DEEPEST:
        return "any"
    if isinstance(schema.get("enum"), list):
        return " | ".join(compact_json(value) for value in schema["enum"])
    if "const" in schema:
        return compact_json(schema["const"])
    for either in ("anyOf", "oneOf"):
        if isinstance(schema.get(either), list):
            return " | ".join(_type(option, definitions, depth + 1) for option in schema[either])
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(_PLAIN_TYPES.get(str(one), str(one)) for one in kind)
    if kind == "array":
        return f"{_type(schema.get('items') or {}, definitions, depth + 1)}[]"
    if kind == "object" or "properties" in schema:
        members = _members(schema, definitions, depth + 1)
        return f"{{\n{members}\n}}" if members else "object"
    return _PLAIN_TYPES.get(str(kind), "any")


def _resolved(schema: Any, definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema with a `$ref`, or an `allOf` of one part, put in its place."""
    found: dict[str, Any] = dict(schema) if isinstance(schema, Mapping) else {}
    for _ in range(_DEEPEST):
        parts = found.pop("allOf", None)
        if isinstance(parts, list) and len(parts) == 1 and isinstance(parts[0], Mapping):
            found = {**parts[0], **found}
        reference = found.pop("$ref", None)
        if not isinstance(reference, str):
            break
        target = definitions.get(reference.rsplit("/", 1)[-1])
        found = {**target, **found} if isinstance(target, Mapping) else found
    return found


def _comment(text: Any) -> str:
    return "".join(f"// {line}\n" for line in str(text).splitlines()) if text else ""
