"""What OpenAI's Chat Completions API accepts as tools and as a response format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.providers.replies import text_of
from tests.providers.rules import openai_error, schema_faults

NAME = re.compile(r"[a-zA-Z0-9_-]+")
MAX_TOOLS = 128
MAX_NAME = 64


def check_tools(body: Mapping[str, Any]) -> None:
    tools = body.get("tools")
    if tools is None:
        for name in ("tool_choice", "parallel_tool_calls"):
            if body.get(name) is not None:
                raise openai_error(
                    f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified.", param=name
                )
        return
    if not tools:
        raise openai_error(empty_array("tools"), param="tools", code="empty_array")
    if len(tools) > MAX_TOOLS:
        raise openai_error(
            f"Invalid 'tools': array too long. Expected an array with maximum length {MAX_TOOLS}, but got an array "
            f"with length {len(tools)} instead.",
            param="tools",
            code="array_above_max_length",
        )
    names: set[str] = set()
    for n, tool in enumerate(tools):
        if tool.get("type") != "function":
            raise openai_error(
                f"Invalid value: '{tool.get('type')}'. Supported values are: 'function' and 'custom'.",
                param=f"tools[{n}].type",
                code="invalid_value",
            )
        _check_function(tool["function"], n)
        name = tool["function"]["name"]
        if name in names:  # stricter than the API: two tools of one name cannot be told apart
            raise openai_error(f"Invalid 'tools[{n}].function.name': duplicate tool name '{name}'.", param="tools")
        names.add(name)
    choice = body.get("tool_choice")
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        raise openai_error(
            f"Invalid value: '{choice}'. Supported values are: 'none', 'auto', and 'required'.",
            param="tool_choice",
            code="invalid_value",
        )
    if isinstance(choice, Mapping) and choice.get("type") == "function":
        wanted = choice["function"]["name"]
        if wanted not in names:
            raise openai_error(
                f"Invalid value for 'tool_choice': no function named '{wanted}' was specified in the 'tools' "
                "parameter.",
                param="tool_choice",
            )


def _check_function(function: Mapping[str, Any], n: int) -> None:
    name = function.get("name") or ""
    if len(name) > MAX_NAME:
        raise openai_error(
            f"Invalid 'tools[{n}].function.name': string too long. Expected a string with maximum length {MAX_NAME}, "
            f"but got a string with length {len(name)} instead.",
            param=f"tools[{n}].function.name",
            code="string_above_max_length",
        )
    if not NAME.fullmatch(name):
        raise openai_error(
            f"Invalid 'tools[{n}].function.name': string does not match pattern. Expected a string that matches the "
            "pattern '^[a-zA-Z0-9_-]+$'.",
            param=f"tools[{n}].function.name",
            code="invalid_value",
        )
    schema = function.get("parameters")
    if schema is None:
        return
    kind = schema.get("type")
    fault = None
    if kind != "object":
        got = f"'type: \"{kind}\"'" if kind else "'type: \"None\"'"
        fault = f"schema must be a JSON Schema of 'type: \"object\"', got {got}."
    elif "properties" not in schema:
        fault = "In context=(), object schema missing properties."
    else:
        fault = next(schema_faults(schema, strict=bool(function.get("strict"))), None)
    if fault:
        raise openai_error(
            f"Invalid schema for function '{name}': {fault}",
            param=f"tools[{n}].function.parameters",
            code="invalid_function_parameters",
        )


def check_response_format(body: Mapping[str, Any]) -> None:
    wanted = body.get("response_format")
    if wanted is None:
        return
    kind = wanted.get("type")
    if kind not in ("text", "json_object", "json_schema"):
        raise openai_error(
            f"Invalid value: '{kind}'. Supported values are: 'json_object', 'json_schema', and 'text'.",
            param="response_format.type",
            code="invalid_value",
        )
    if kind == "json_object" and not any("json" in text_of(m.get("content")).lower() for m in body["messages"]):
        raise openai_error(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
            param="messages",
        )
    if kind != "json_schema":
        return
    given = wanted.get("json_schema") or {}
    for name in ("name", "schema"):
        if not given.get(name):
            raise openai_error(
                f"Missing required parameter: 'response_format.json_schema.{name}'.",
                param=f"response_format.json_schema.{name}",
                code="missing_required_parameter",
            )
    if not NAME.fullmatch(given["name"]):
        raise openai_error(
            "Invalid 'response_format.json_schema.name': string does not match pattern. Expected a string that matches "
            "the pattern '^[a-zA-Z0-9_-]+$'.",
            param="response_format.json_schema.name",
            code="invalid_value",
        )
    schema = given["schema"]
    if schema.get("type") != "object":
        fault: str | None = f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{schema.get('type')}\"'."
    else:
        fault = next(schema_faults(schema, strict=bool(given.get("strict"))), None)
    if fault:
        raise openai_error(
            f"Invalid schema for response_format '{given['name']}': {fault}",
            param="response_format",
            code="invalid_schema",
        )


def empty_array(name: str) -> str:
    return f"Invalid '{name}': empty array. Expected an array with minimum length 1, but got an empty array instead."
