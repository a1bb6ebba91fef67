"""Digests of what a request consists of: equal for requests that a model cannot tell apart, free of ids and secrets."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import threading
import weakref
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from langchain.agents.structured_output import AutoStrategy, ProviderStrategy, ToolStrategy
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, SecretBytes, SecretStr, TypeAdapter

REASONING_BLOCKS = frozenset({"reasoning", "reasoning_content", "thinking", "redacted_thinking"})

# What belongs to the client, not to the question: it does not change what the model answers.
_CLIENT_FIELDS = (
    "async_client cache callbacks client custom_get_token_ids default_request_timeout disable_streaming "
    "http_async_client http_client http_socket_options include_response_headers max_retries metadata n_retries name "
    "profile rate_limiter request_timeout root_async_client root_client stream_usage streaming tags timeout verbose"
)
_PLUMBING = frozenset(_CLIENT_FIELDS.split())
_SECRET_NAME = re.compile(r"api_?key|secret|password|credential|(access|auth|bearer|session)_?token")
_SIMPLE = (str, int, float, bool, type(None))


class IncomparableError(TypeError):
    """A value that has no stable form: two requests that hold such values cannot be compared."""


def digest(value: Any) -> str:
    """64 hexadecimal digits, equal for equal values in every process. Raises `IncomparableError`."""
    return hashlib.blake2b(_json(value).encode("ascii"), digest_size=32).hexdigest()


def _json(value: Any) -> str:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    except TypeError as error:
        if isinstance(error, IncomparableError):
            raise
        # Keys that are no strings, or of several types.
        return json.dumps(_with_text_keys(value), sort_keys=True, separators=(",", ":"), default=_plain)


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, str) else f"{type(key).__name__}:{key}": _with_text_keys(v)
            for key, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_with_text_keys(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, (SecretStr, SecretBytes)):
        return "secret"
    if isinstance(value, Enum):
        return [_qualified(type(value)), value.value]
    if isinstance(value, type):
        return [_qualified(value), _schema_of(value)]
    if isinstance(value, BaseModel):
        return [_qualified(type(value)), value.model_dump(exclude={"id"})]
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(_json(item) for item in value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return ["bytes", hashlib.blake2b(bytes(value), digest_size=32).hexdigest()]
    if isinstance(value, (datetime, date, time, Decimal, UUID, PurePath)):
        return [type(value).__name__, str(value)]
    if callable(value) and "<" not in getattr(value, "__qualname__", "<"):
        return _qualified(value)
    msg = f"a {type(value).__name__} has no stable form"
    raise IncomparableError(msg)


def _qualified(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


# --- messages --------------------------------------------------------------------------------------------------------


def conversation(messages: Sequence[BaseMessage]) -> list[Any]:
    """What the model sees of `messages`, without ids: a tool call and its result are tied by their position."""
    calls: dict[str | None, int] = {}
    return [_seen(message, calls) for message in messages]


def _seen(message: BaseMessage, calls: dict[str | None, int]) -> list[Any]:
    seen: list[Any] = [message.type, content_of(message.content), message.name]
    if isinstance(message, AIMessage) and message.tool_calls:
        for call in message.tool_calls:
            calls[call["id"]] = len(calls)
        seen.append([[call["name"], call["args"]] for call in message.tool_calls])
    elif message.type == "tool":
        seen.append([calls.get(getattr(message, "tool_call_id", None), -1), getattr(message, "status", None)])
    return seen


def content_of(content: Any) -> Any:
    """Message content without block ids and without reasoning, which differs from one run to the next."""
    if isinstance(content, str):
        return content
    blocks = []
    for block in content:
        if isinstance(block, str):
            blocks.append({"type": "text", "text": block})
        elif block.get("type") not in REASONING_BLOCKS:
            blocks.append({k: v for k, v in block.items() if k not in ("id", "index", "cache_control")})
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"} and blocks[0]["type"] == "text":
        return blocks[0]["text"]
    return blocks


# --- models ----------------------------------------------------------------------------------------------------------

_lock = threading.Lock()
_models: dict[int, tuple[weakref.ref[Any], Any, str]] = {}
_tools: dict[int, tuple[weakref.ref[Any], Any, str]] = {}


def model_digest(model: BaseChatModel) -> str:
    """Digest of a model's class and parameters. Remembered per object until one of its fields changes."""
    fields = model.__dict__
    state = tuple((name, _state(value)) for name, value in fields.items() if name not in _PLUMBING)
    return _remembered(_models, model, state, lambda: digest([_qualified(type(model)), _parameters(model)]))


def _state(value: Any) -> Any:
    if isinstance(value, _SIMPLE):
        return value
    return repr(value) if isinstance(value, (dict, list, tuple)) else id(value)


def _parameters(model: BaseChatModel) -> dict[str, Any]:
    """What decides what the model answers, from the declarations that LangChain's integrations make.

    A class that can be serialised declares every parameter as a field. Another one may name its parameters in
    `_identifying_params`; if it does not do that either, all its fields count.
    """
    named: dict[str, Any] = {}
    # The property is LangChain's own hook for caches; it has no public name.
    own = type(model)._identifying_params is not BaseChatModel._identifying_params  # noqa: SLF001
    if own:
        params = model._identifying_params  # noqa: SLF001
        named = {key: value for key, value in params.items() if not _SECRET_NAME.search(key)}
    if not own or model.is_lc_serializable():
        secrets = model.lc_secrets
        for name in type(model).model_fields:
            value = getattr(model, name, None)
            if value is not None and name not in _PLUMBING and name not in secrets and not _SECRET_NAME.search(name):
                named[f"field:{name}"] = value
    return {key: _comparable(value) for key, value in named.items()}


def _comparable(value: Any) -> Any:
    try:
        return json.loads(_json(value))
    except (TypeError, ValueError):
        return _qualified(type(value))  # a client or another object that carries no parameter


def _remembered(memo: dict[int, tuple[weakref.ref[Any], Any, str]], thing: Any, state: Any, make: Any) -> str:
    known = memo.get(id(thing))
    if known is not None and known[0]() is thing and known[1] == state:
        return known[2]
    made: str = make()
    key = id(thing)
    with _lock:
        memo[key] = (weakref.ref(thing, lambda _: memo.pop(key, None)), state, made)
    return made


def setting(model: BaseChatModel, settings: Mapping[str, Any], name: str) -> Any:
    """A parameter that was set on purpose: in the request's settings or on the model; `None` if it was left alone."""
    if settings.get(name) is not None:
        return settings[name]
    extra = getattr(model, "model_kwargs", None)
    if isinstance(extra, Mapping) and extra.get(name) is not None:
        return extra[name]
    value = getattr(model, name, None) if name in model.model_fields_set else None
    # ChatOpenAI sets 1 by itself for o1, which accepts nothing else.
    if name == "temperature" and value == 1 and re.match(r"o1\b", str(getattr(model, "model_name", ""))):
        return None
    return value


# --- tools and schemas -----------------------------------------------------------------------------------------------


def tools_digest(tools: Sequence[Any]) -> list[str]:
    """Digests of the tools' names and schemas, sorted: the order in which they are bound does not change the answer."""
    return sorted(_tool_digest(tool) for tool in tools)


def _tool_digest(tool: Any) -> str:
    if isinstance(tool, dict):
        return digest(tool)
    if not isinstance(tool, BaseTool):
        return digest(_tool_schema(tool))
    state = (tool.name, tool.description, id(tool.args_schema))
    return _remembered(_tools, tool, state, lambda: digest(_tool_schema(tool)))


def _tool_schema(tool: Any) -> Any:
    try:
        return convert_to_openai_tool(tool)
    except Exception as error:
        msg = f"the tool {getattr(tool, 'name', tool)!r} has no schema"
        raise IncomparableError(msg) from error


def response_format_of(response_format: Any) -> Any:
    """What a response format asks for: strategy, schema, strictness. Raises `IncomparableError`."""
    if response_format is None:
        return None
    if isinstance(response_format, ToolStrategy):
        return ["tool", schema_of(response_format.schema), response_format.tool_message_content]
    if isinstance(response_format, ProviderStrategy):
        return ["provider", schema_of(response_format.schema), response_format.schema_spec.strict]
    if isinstance(response_format, AutoStrategy):
        return ["auto", schema_of(response_format.schema)]
    return ["auto", schema_of(response_format)]


def schema_of(schema: Any) -> Any:
    """A JSON schema for a schema in any of the forms that LangChain takes."""
    return schema if isinstance(schema, dict) else [str(schema), _schema_of(schema)]


@functools.lru_cache(maxsize=256)
def _schema_of(schema: Any) -> Any:
    try:
        return TypeAdapter(schema).json_schema()
    except Exception as error:
        msg = f"{schema!r} has no JSON schema"
        raise IncomparableError(msg) from error
