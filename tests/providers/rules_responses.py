"""What OpenAI's `POST /v1/responses` accepts, and the errors it answers with.

The pairing rules of this API are about items: a call and its output, and a reasoning item and the item that came with
it. Texts are those that the API gives (seen in public issue reports).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.providers.rules import openai_error, schema_faults

PARAMETERS = frozenset(
    {
        "background",
        "context_management",
        "conversation",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "parallel_tool_calls",
        "previous_response_id",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_p",
        "truncation",
        "user",
    }
)
PARTS = {
    "user": {"input_text", "input_image", "input_file"},
    "system": {"input_text"},
    "developer": {"input_text"},
    "assistant": {"output_text", "refusal"},
}
PREFIXES = {"message": "msg", "function_call": "fc", "reasoning": "rs"}
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
MIN_OUTPUT = 16


def check(
    body: Mapping[str, Any],
    *,
    authorization: str | None,
    items: Sequence[Mapping[str, Any]],
    reasoned: Mapping[str, str],
) -> None:
    """Raise `RejectedError` for a request that OpenAI would refuse.

    Args:
        body: The request.
        authorization: Its header.
        items: The input as items, those of earlier responses that it goes on from included.
        reasoned: Ids of items that the server gave after a reasoning item, and the id of that.
    """
    if not (authorization or "").startswith("Bearer "):
        raise openai_error("You didn't provide an API key.", status=401)
    for name in body:
        if name not in PARAMETERS:
            raise openai_error(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
    if not body.get("model"):
        raise openai_error("Missing required parameter: 'model'.", param="model", code="missing_required_parameter")
    if not items:
        raise openai_error("Missing required parameter: 'input'.", param="input", code="missing_required_parameter")
    limit = body.get("max_output_tokens")
    if limit is not None and limit < MIN_OUTPUT:
        raise openai_error(
            f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= {MIN_OUTPUT}, but got "
            f"{limit} instead.",
            param="max_output_tokens",
            code="integer_below_min_value",
        )
    names = _check_tools(body.get("tools") or [], items)
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") == "function" and choice.get("name") not in names:
        raise openai_error(f"Tool choice '{choice.get('name')}' not found in 'tools' parameter.", param="tool_choice")
    _check_items(items)
    _check_calls(items)
    _check_reasoning(items, reasoned)
    _check_format((body.get("text") or {}).get("format"))


def _check_tools(tools: Sequence[Mapping[str, Any]], items: Sequence[Mapping[str, Any]]) -> set[str]:
    added = [tool for item in items if item.get("type") == "additional_tools" for tool in item.get("tools") or []]
    names: set[str] = set()
    for n, tool in enumerate([*tools, *added]):
        if tool.get("type") != "function":
            continue
        name = tool.get("name")
        if name is None:
            raise openai_error(
                f"Missing required parameter: 'tools[{n}].name'.",
                param=f"tools[{n}].name",
                code="missing_required_parameter",
            )
        if not NAME.fullmatch(name):
            raise openai_error(
                f"Invalid 'tools[{n}].name': string does not match pattern. Expected a string that matches the pattern "
                "'^[a-zA-Z0-9_-]+$'.",
                param=f"tools[{n}].name",
                code="invalid_value",
            )
        if name in names:  # stricter than the API: two tools of one name cannot be told apart
            raise openai_error(f"Invalid 'tools[{n}].name': duplicate tool name '{name}'.", param="tools")
        names.add(name)
        schema = tool.get("parameters") or {"type": "object", "properties": {}}
        if schema.get("type") != "object":
            fault: str | None = (
                f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{schema.get('type')}\"'."
            )
        else:
            fault = next(schema_faults(schema, strict=bool(tool.get("strict"))), None)
        if fault:
            raise openai_error(
                f"Invalid schema for function '{name}': {fault}",
                param=f"tools[{n}].parameters",
                code="invalid_function_parameters",
            )
    return names


def _check_items(items: Sequence[Mapping[str, Any]]) -> None:
    ids: set[str] = set()
    for n, item in enumerate(items):
        kind = item.get("type", "message")
        prefix, item_id = PREFIXES.get(kind), item.get("id")
        if item_id is not None and prefix is not None and not str(item_id).startswith(prefix):
            raise openai_error(
                f"Invalid 'input[{n}].id': '{item_id}'. Expected an ID that begins with '{prefix}'.",
                param=f"input[{n}].id",
                code="invalid_value",
            )
        if item_id is not None and item_id in ids:
            raise openai_error(
                f"Duplicate item found with id {item_id}. Remove duplicate items from your input and try again.",
                param="input",
            )
        if item_id is not None:
            ids.add(item_id)
        if kind == "message":
            _check_message(item, n)
        elif kind == "additional_tools":
            _check_additional(item, n)
        elif kind not in ("function_call", "function_call_output", "reasoning"):
            raise openai_error(
                f"Invalid value: '{kind}'. Supported values are: 'function_call', 'function_call_output', 'message', "
                "'reasoning', and others that this server does not have.",
                param=f"input[{n}].type",
                code="invalid_value",
            )


def _check_additional(item: Mapping[str, Any], n: int) -> None:
    if item.get("role") != "developer":
        raise openai_error(
            f"Invalid value: '{item.get('role')}'. Supported values are: 'developer'.",
            param=f"input[{n}].role",
            code="invalid_value",
        )
    for key in item:
        if key not in ("type", "role", "tools", "id"):
            raise openai_error(
                f"Unknown parameter: 'input[{n}].{key}'.", param=f"input[{n}].{key}", code="unknown_parameter"
            )


def _check_message(item: Mapping[str, Any], n: int) -> None:
    role = item.get("role")
    if role not in PARTS:
        raise openai_error(
            f"Invalid value: '{role}'. Supported values are: 'assistant', 'system', 'developer', and 'user'.",
            param=f"input[{n}].role",
            code="invalid_value",
        )
    for key in item:
        if key not in ("type", "role", "content", "id", "status", "phase"):
            raise openai_error(
                f"Unknown parameter: 'input[{n}].{key}'.", param=f"input[{n}].{key}", code="unknown_parameter"
            )
    content = item.get("content")
    for k, part in enumerate(content if isinstance(content, list) else []):
        if part.get("type") not in PARTS[role]:
            allowed = " and ".join(f"'{name}'" for name in sorted(PARTS[role]))
            raise openai_error(
                f"Invalid value: '{part.get('type')}'. Supported values are: {allowed}.",
                param=f"input[{n}].content[{k}]",
                code="invalid_value",
            )


def _check_calls(items: Sequence[Mapping[str, Any]]) -> None:
    open_calls: dict[str, None] = {}
    seen: set[str] = set()
    for n, item in enumerate(items):
        if item.get("type") == "function_call":
            call_id = item["call_id"]
            if call_id in seen:  # stricter than the API: a replayed call would run its tool again
                raise openai_error(f"Duplicate function call with call_id {call_id}.", param="input")
            try:
                json.loads(item["arguments"])
            except (TypeError, ValueError):
                raise openai_error(f"Invalid 'input[{n}].arguments': not valid JSON.", param="input") from None
            seen.add(call_id)
            open_calls[call_id] = None
        elif item.get("type") == "function_call_output":
            call_id = item["call_id"]
            if call_id not in open_calls:
                raise openai_error(
                    f"No tool call found for function call output with call_id {call_id}.", param="input"
                )
            del open_calls[call_id]
    for call_id in open_calls:
        raise openai_error(f"No tool output found for function call {call_id}.", param="input")


def _check_reasoning(items: Sequence[Mapping[str, Any]], reasoned: Mapping[str, str]) -> None:
    seen: set[str] = set()
    for n, item in enumerate(items):
        if item.get("type") == "reasoning":
            if not item.get("id"):
                raise openai_error(f"Missing required parameter: 'input[{n}].id'.", param="input")
            seen.add(item["id"])
            follower = items[n + 1] if n + 1 < len(items) else {}
            if follower.get("type") not in ("function_call", "reasoning") and follower.get("role") != "assistant":
                raise openai_error(
                    f"Item '{item['id']}' of type 'reasoning' was provided without its required following item.",
                    param="input",
                )
        needed = reasoned.get(str(item.get("id")))
        if needed is not None and needed not in seen:
            raise openai_error(
                f"Item '{item['id']}' of type '{item['type']}' was provided without its required 'reasoning' item: "
                f"'{needed}'.",
                param="input",
            )


def _check_format(wanted: Mapping[str, Any] | None) -> None:
    if not wanted or wanted.get("type") != "json_schema":
        return
    for name in ("name", "schema"):
        if not wanted.get(name):
            raise openai_error(
                f"Missing required parameter: 'text.format.{name}'.",
                param=f"text.format.{name}",
                code="missing_required_parameter",
            )
    fault = next(schema_faults(wanted["schema"], strict=bool(wanted.get("strict"))), None)
    if fault:
        raise openai_error(
            f"Invalid schema for response_format '{wanted['name']}': {fault}",
            param="text.format.schema",
            code="invalid_json_schema",
        )
