"""What OpenAI's `POST /v1/chat/completions` accepts, and the errors it answers with.

Texts, `param` and `code` are those that the API gives (seen in public issue reports). Where the API is laxer than a
careful client should be (ids used twice in one conversation, tool names used twice, arguments that are not JSON), this
module refuses too, and says so in a comment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tests.providers.replies import tool_name
from tests.providers.rules import openai_error
from tests.providers.rules_openai_tools import NAME, check_response_format, check_tools, empty_array

PARAMETERS = frozenset(
    {
        "messages",
        "model",
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "metadata",
        "modalities",
        "moderation",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    }
)
KEYS = {
    "system": {"role", "content", "name"},
    "developer": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {"role", "content", "name", "tool_calls", "refusal", "audio", "function_call"},
    "tool": {"role", "content", "tool_call_id"},
    "function": {"role", "content", "name"},
}
PARTS = {
    "system": {"text"},
    "developer": {"text"},
    "user": {"text", "image_url", "input_audio", "file"},
    "assistant": {"text", "refusal"},
    "tool": {"text"},
    "function": {"text"},
}
SPEAKER = re.compile(r"[^\s<|\\/>]+")
REASONING = re.compile(r"(o\d|gpt-[5-9])")


def check(body: Mapping[str, Any], *, authorization: str | None) -> None:
    """Raise `RejectedError` for a request that OpenAI would refuse."""
    if not (authorization or "").startswith("Bearer "):
        raise openai_error("You didn't provide an API key.", status=401)
    for name in body:
        if name not in PARAMETERS:
            raise openai_error(f"Unrecognized request argument supplied: {name}")
    if not body.get("model"):
        raise openai_error("you must provide a model parameter")
    if "messages" not in body:
        raise openai_error(
            "Missing required parameter: 'messages'.", param="messages", code="missing_required_parameter"
        )
    _check_limits(body)
    check_tools(body)
    _check_messages(body["messages"])
    check_response_format(body)


def _check_limits(body: Mapping[str, Any]) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int):
            raise openai_error(
                f"Invalid type for '{name}': expected an integer, but got {_json_type(value)} instead.",
                param=name,
                code="invalid_type",
            )
        if value < 1:
            raise openai_error(
                f"Invalid '{name}': integer below minimum value. Expected a value >= 1, but got {value} instead.",
                param=name,
                code="integer_below_min_value",
            )
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        raise openai_error(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            param="max_tokens",
            code="invalid_parameter_combination",
        )
    if body.get("max_tokens") is not None and REASONING.match(body["model"]):
        raise openai_error(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            param="max_tokens",
            code="unsupported_parameter",
        )
    if body.get("n") not in (None, 1):
        raise openai_error("Invalid 'n': this server gives one choice.", param="n")
    if body.get("stream_options") is not None and not body.get("stream"):
        raise openai_error(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )


def _check_messages(messages: list[Mapping[str, Any]]) -> None:
    if not messages:
        raise openai_error(empty_array("messages"), param="messages", code="empty_array")
    seen: set[str] = set()
    waiting: dict[str, None] = {}
    answered: set[str] = set()
    asked_at = 0
    for n, message in enumerate(messages):
        role = message.get("role")
        if role not in KEYS:
            raise openai_error(
                f"Invalid value: '{role}'. Supported values are: 'system', 'assistant', 'user', 'function', 'tool', "
                "and 'developer'.",
                param=f"messages[{n}].role",
                code="invalid_value",
            )
        for key in message:
            if key not in KEYS[role]:
                raise openai_error(
                    f"Unknown parameter: 'messages[{n}].{key}'.", param=f"messages[{n}].{key}", code="unknown_parameter"
                )
        if "name" in message and not SPEAKER.fullmatch(str(message["name"])):
            raise openai_error(
                f"Invalid 'messages[{n}].name': string does not match pattern. Expected a string that matches the "
                "pattern '^[^\\s<|\\\\/>]+$'.",
                param=f"messages[{n}].name",
                code="invalid_value",
            )
        if role == "tool":
            _check_tool_message(message, n, waiting, answered)
            continue
        if waiting:
            raise _unanswered(waiting, asked_at)
        answered = set()
        _check_content(message, role, n)
        for call in _calls(message, n):
            if call["id"] in seen:  # stricter than the API across turns: a replayed call would run its tool again
                raise openai_error(
                    f"Invalid parameter: Duplicate value for 'tool_call_id' of '{call['id']}' in message[{n}].",
                    param=f"messages.[{n}].tool_calls",
                )
            seen.add(call["id"])
            waiting[call["id"]] = None
            asked_at = n
    if waiting:
        raise _unanswered(waiting, asked_at)


def _unanswered(waiting: Mapping[str, None], at: int) -> Exception:
    return openai_error(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
        f"The following tool_call_ids did not have response messages: {', '.join(waiting)}",
        param=f"messages.[{at + 1}].role",
    )


def _check_tool_message(message: Mapping[str, Any], n: int, waiting: dict[str, None], answered: set[str]) -> None:
    call_id = message.get("tool_call_id")
    if not call_id:
        raise openai_error(
            "Missing parameter 'tool_call_id': messages with role 'tool' must have a 'tool_call_id'.",
            param=f"messages.[{n}].tool_call_id",
        )
    if call_id in answered:
        raise openai_error(
            f"Invalid parameter: Duplicate value for 'tool_call_id' of '{call_id}' in message[{n}].",
            param=f"messages.[{n}].tool_call_id",
        )
    if call_id not in waiting:
        raise openai_error(
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
            "'tool_calls'.",
            param=f"messages.[{n}].role",
        )
    del waiting[call_id]
    answered.add(call_id)
    _check_content(message, "tool", n)


def _calls(message: Mapping[str, Any], n: int) -> list[Mapping[str, Any]]:
    calls = message.get("tool_calls")
    if calls is None:
        return []
    if not calls:
        name = f"messages[{n}].tool_calls"
        raise openai_error(empty_array(name), param=name, code="empty_array")
    for k, call in enumerate(calls):
        where = f"messages[{n}].tool_calls[{k}]"
        if not call.get("id") or call.get("type") != "function":
            raise openai_error(
                f"Missing required parameter: '{where}.id'.", param=where, code="missing_required_parameter"
            )
        if not NAME.fullmatch(tool_name(call)):
            raise openai_error(
                f"Invalid '{where}.function.name': string does not match pattern. Expected a string that matches the "
                "pattern '^[a-zA-Z0-9_-]+$'.",
                param=f"{where}.function.name",
                code="invalid_value",
            )
        try:  # stricter than the API, which takes any string
            json.loads(call["function"]["arguments"])
        except (TypeError, ValueError):
            raise openai_error(
                f"Invalid '{where}.function.arguments': not valid JSON.", param=f"{where}.function.arguments"
            ) from None
    return list(calls)


def _check_content(message: Mapping[str, Any], role: str, n: int) -> None:
    content = message.get("content")
    if content is None:
        if role == "assistant" and (message.get("tool_calls") or message.get("audio") or message.get("refusal")):
            return
        raise openai_error("Invalid value for 'content': expected a string, got null.", param=f"messages.[{n}].content")
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise openai_error(
            f"Invalid type for 'messages[{n}].content': expected one of a string or array of objects, but got "
            f"{_json_type(content)} instead.",
            param=f"messages[{n}].content",
            code="invalid_type",
        )
    if not content:
        name = f"messages[{n}].content"
        raise openai_error(empty_array(name), param=name, code="empty_array")
    for k, part in enumerate(content):
        kind = part.get("type")
        if kind == "image_url" and role != "user":
            raise openai_error(
                "Image URLs are only allowed for messages with role 'user', but this message with role "
                f"'{role}' contains an image URL.",
                param=f"messages[{n}]",
                code="invalid_value",
            )
        if kind not in PARTS[role]:
            allowed = " and ".join(f"'{name}'" for name in sorted(PARTS[role]))
            raise openai_error(
                f"Invalid value: '{kind}'. Supported values are: {allowed}.",
                param=f"messages[{n}].content[{k}].type",
                code="invalid_value",
            )
        if kind == "text" and set(part) - {"type", "text", "prompt_cache_breakpoint"}:
            extra = min(set(part) - {"type", "text", "prompt_cache_breakpoint"})
            name = f"messages[{n}].content[{k}].{extra}"
            raise openai_error(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")


def _json_type(value: object) -> str:
    names = {bool: "a boolean", str: "a string", float: "a decimal number", type(None): "null", dict: "an object"}
    return names.get(type(value), "an array")
