"""What Anthropic's `POST /v1/messages` accepts, and the errors it answers with.

Texts are those that the API gives (seen in public issue reports); `messages.N.content.M` paths count as its own do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.providers.rules import anthropic_error, schema_faults
from tests.providers.rules_anthropic_turns import (
    Signer,
    Turn,
    check_last,
    check_pairs,
    check_thinking,
    check_thinking_settings,
)

PARAMETERS = frozenset(
    {
        "model",
        "messages",
        "max_tokens",
        "cache_control",
        "container",
        "context_management",
        "inference_geo",
        "mcp_servers",
        "metadata",
        "output_config",
        "service_tier",
        "speed",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
TOOL_KEYS = frozenset(
    {
        "name",
        "description",
        "input_schema",
        "cache_control",
        "type",
        "strict",
        "defer_loading",
        "eager_input_streaming",
        "input_examples",
        "allowed_callers",
    }
)
BLOCK_KEYS = {
    "text": {"type", "text", "cache_control", "citations"},
    "image": {"type", "source", "cache_control"},
    "document": {"type", "source", "cache_control", "citations", "context", "title"},
    "tool_use": {"type", "id", "name", "input", "cache_control", "caller"},
    "tool_result": {"type", "tool_use_id", "content", "is_error", "cache_control"},
    "thinking": {"type", "thinking", "signature"},
    "redacted_thinking": {"type", "data"},
    "tool_addition": {"type", "tool", "cache_control"},
    "tool_removal": {"type", "tool", "cache_control"},
}
BLOCKS = {
    "user": {"text", "image", "document", "tool_result"},
    "assistant": {"text", "tool_use", "thinking", "redacted_thinking"},
    "system": {"text", "tool_addition", "tool_removal"},
}
# Models that take `system` turns among the messages, and tool changes in them.
MID_CONVERSATION = re.compile(r"claude-(opus-(4-8|5)|sonnet-5|haiku-5|fable-5|mythos-5)")
TOOL_CHANGES_BETA = "mid-conversation-tool-changes-2026-07-01"
INLINE_TOOLS_BETA = "inline-tools-2026-09-15"
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
ID = re.compile(r"[a-zA-Z0-9_-]+")
MAX_BREAKPOINTS = 4


def check(body: Mapping[str, Any], *, headers: Mapping[str, str], signer: Signer) -> None:
    """Raise `RejectedError` for a request that Anthropic would refuse."""
    if not headers.get("x-api-key") and not headers.get("authorization"):  # newer clients send a bearer token
        raise anthropic_error("x-api-key header is required", status=401, kind="authentication_error")
    if not headers.get("anthropic-version"):
        raise anthropic_error("anthropic-version: header is required")
    for name in ("model", "messages", "max_tokens"):
        if body.get(name) is None:
            raise anthropic_error(f"{name}: Field required")
    for name in body:
        if name not in PARAMETERS:
            raise anthropic_error(f"{name}: Extra inputs are not permitted")
    if not isinstance(body["max_tokens"], int):
        raise anthropic_error("max_tokens: Input should be a valid integer")
    if body["max_tokens"] < 1:
        raise anthropic_error("max_tokens: Input should be greater than or equal to 1")
    betas = {name.strip() for name in (headers.get("anthropic-beta") or "").split(",")}
    _check_system(body.get("system"))
    turns = _turns(body, betas)
    check_thinking_settings(body)
    _check_tools(body, turns)
    check_pairs(turns)
    check_thinking(turns, body, signer)
    check_last(turns[-1])
    _check_breakpoints(body)
    _check_format(body)


def breakpoints(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every block or tool that may carry a `cache_control`, in the order of the prompt."""
    yield from body.get("tools") or []
    if isinstance(body.get("system"), list):
        yield from body["system"]
    for message in body["messages"]:
        if not isinstance(message["content"], list):
            continue
        for block in message["content"]:
            yield block
            yield from defined(block)
            if block.get("type") == "tool_result" and isinstance(block.get("content"), list):
                yield from block["content"]


def defined(block: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The definition of the tool that a block adds, if it carries one."""
    tool = block["tool"] if block.get("type") == "tool_addition" else {}
    return [tool["definition"]] if tool.get("type") == "tool_definition" else []


def _check_system(system: Any) -> None:
    if system is None or isinstance(system, str):
        return
    for n, block in enumerate(system):
        if block.get("type") != "text":
            raise anthropic_error(f"system.{n}.type: Input should be 'text'")
        if not block.get("text"):
            raise anthropic_error("system: text content blocks must be non-empty")
        _check_keys(block, f"system.{n}", "text")


def _check_keys(block: Mapping[str, Any], path: str, kind: str) -> None:
    for key in block:
        if key not in BLOCK_KEYS[kind]:
            raise anthropic_error(f"{path}.{kind}.{key}: Extra inputs are not permitted")


def _turns(body: Mapping[str, Any], betas: set[str]) -> list[Turn]:
    messages = body["messages"]
    if not messages:
        raise anthropic_error("messages: at least one message is required")
    turns: list[Turn] = []
    for n, message in enumerate(messages):
        role = message.get("role")
        if role not in BLOCKS:
            raise anthropic_error(f"messages.{n}.role: Input should be 'user' or 'assistant'")
        if role == "system":
            _check_system_turn(body, n)
        for key in message:
            if key not in ("role", "content"):
                raise anthropic_error(f"messages.{n}.{key}: Extra inputs are not permitted")
        if n == 0 and role != "user":
            raise anthropic_error('messages: first message must use the "user" role')
        blocks = tuple(_blocks(message, n, last=n == len(messages) - 1, betas=betas))
        if turns and turns[-1].role == role:
            turns[-1] = Turn(role, turns[-1].at, turns[-1].blocks + blocks)
        else:
            turns.append(Turn(role, n, blocks))
    return turns


def _check_system_turn(body: Mapping[str, Any], n: int) -> None:
    messages = body["messages"]
    if not MID_CONVERSATION.match(body["model"]):
        raise anthropic_error("role 'system' is not supported on this model")
    if n == 0:
        raise anthropic_error("messages.0: use the top-level 'system' parameter for the initial system prompt")
    if messages[n - 1]["role"] == "assistant":
        raise anthropic_error(f"messages.{n}: role 'system' must follow a user message")
    if n + 1 < len(messages) and messages[n + 1]["role"] == "user":
        raise anthropic_error(f"messages.{n}: role 'system' must be last or precede an assistant message")


def _blocks(message: Mapping[str, Any], n: int, *, last: bool, betas: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    role, content = message["role"], message.get("content")
    if content is None:
        raise anthropic_error(f"messages.{n}.content: Field required")
    if not content and not (last and role == "assistant"):
        raise anthropic_error(
            f"messages.{n}: all messages must have non-empty content except for the optional final assistant message"
        )
    if isinstance(content, str):
        if content and not content.strip():
            raise anthropic_error("messages: text content blocks must contain non-whitespace text")
        yield f"messages.{n}.content.0", {"type": "text", "text": content}
        return
    for k, block in enumerate(content):
        path = f"messages.{n}.content.{k}"
        kind = block.get("type")
        if kind not in BLOCK_KEYS:
            raise anthropic_error(
                f"{path}: Input tag '{kind}' found using 'type' does not match any of the expected tags"
            )
        if kind not in BLOCKS[role]:
            owner = next(name for name, kinds in BLOCKS.items() if kind in kinds)
            raise anthropic_error(f"messages.{n}: `{kind}` blocks can only be in `{owner}` messages")
        _check_keys(block, path, kind)
        _check_block(block, path, kind, betas)
        yield path, block


def _check_block(block: Mapping[str, Any], path: str, kind: str, betas: set[str]) -> None:
    if kind == "text":
        if not block.get("text"):
            raise anthropic_error("messages: text content blocks must be non-empty")
        if not block["text"].strip():
            raise anthropic_error("messages: text content blocks must contain non-whitespace text")
    if kind == "tool_use":
        for key in ("id", "name", "input"):
            if block.get(key) is None:
                raise anthropic_error(f"{path}.tool_use.{key}: Field required")
        if not ID.fullmatch(block["id"]):
            raise anthropic_error(f"{path}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
        if not isinstance(block["input"], dict):
            raise anthropic_error(f"{path}.tool_use.input: Input should be a valid dictionary")
    if kind == "tool_result" and not block.get("tool_use_id"):
        raise anthropic_error(f"{path}.tool_result.tool_use_id: Field required")
    if kind == "tool_result" and isinstance(block.get("content"), list):
        for part in block["content"]:
            if part.get("type") == "text" and not part.get("text"):
                raise anthropic_error("messages: text content blocks must be non-empty")
    if kind == "thinking" and "signature" not in block:
        raise anthropic_error(f"{path}.thinking.signature: Field required")
    if kind in ("tool_addition", "tool_removal"):
        needed = INLINE_TOOLS_BETA if defined(block) else TOOL_CHANGES_BETA
        if needed not in betas and INLINE_TOOLS_BETA not in betas:
            raise anthropic_error(f"{path}: `{kind}` requires the beta header {needed}")
        for definition in defined(block):
            if definition.get("cache_control") and block.get("cache_control"):
                raise anthropic_error(f"{path}: cache_control goes on the block or in the definition, not both")
            if definition.get("defer_loading") and (definition.get("cache_control") or block.get("cache_control")):
                raise anthropic_error(f"{path}: a deferred definition cannot carry cache_control")


def _check_tools(body: Mapping[str, Any], turns: list[Turn]) -> None:
    tools = list(body.get("tools") or [])
    declared: dict[str, str] = {}  # names, and what type of tool each is
    for n, tool in enumerate(tools):
        if _check_tool(tool, f"tools.{n}") in declared:
            raise anthropic_error("tools: Tool names must be unique.")
        declared[tool["name"]] = tool.get("type") or "custom"
    for turn in turns:
        for path, block in turn.of("tool_addition", "tool_removal"):
            for definition in defined(block):  # under a known name it takes the place of the one before
                name, kind = _check_tool(definition, f"{path}.tool.definition"), definition.get("type") or "custom"
                if declared.setdefault(name, kind) != kind:
                    raise anthropic_error(f"{path}: tool '{name}' is already defined as a different type of tool")
            if not defined(block) and block["tool"].get("name") not in declared:
                raise anthropic_error(f"{path}: tool '{block['tool'].get('name')}' is not declared")
    choice = body.get("tool_choice")
    if choice is not None:
        if choice.get("type") not in ("auto", "any", "tool", "none"):
            raise anthropic_error(
                f"tool_choice: Input tag '{choice.get('type')}' found using 'type' does not match any of the expected "
                "tags: 'any', 'auto', 'none', 'tool'"
            )
        if not declared:
            raise anthropic_error("tool_choice: tool_choice may only be specified while providing tools")
        if choice["type"] == "tool" and choice.get("name") not in declared:
            raise anthropic_error(f"tool_choice: Tool '{choice.get('name')}' not found in provided tools")
    if not declared and any(turn.of("tool_use", "tool_result") for turn in turns):
        raise anthropic_error(
            "Requests which have `tool_use` or `tool_result` blocks in their messages must define tools"
        )


def _check_tool(tool: Mapping[str, Any], path: str) -> str:
    name = str(tool.get("name") or "")
    if not TOOL_NAME.fullmatch(name):
        raise anthropic_error(f"{path}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if tool.get("type") not in (None, "custom"):
        return name  # a tool of Anthropic's own, with keys of its own
    for key in tool:
        if key not in TOOL_KEYS:
            raise anthropic_error(f"{path}.custom.{key}: Extra inputs are not permitted")
    schema = tool.get("input_schema")
    if schema is None:
        raise anthropic_error(f"{path}.custom.input_schema: Field required")
    if schema.get("type") != "object":
        raise anthropic_error(f"{path}.custom.input_schema.type: Input should be 'object'")
    if {"oneOf", "allOf", "anyOf"} & set(schema):
        raise anthropic_error(
            f"{path}.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level"
        )
    if any("not valid under" in fault for fault in schema_faults(schema, strict=False)):
        raise anthropic_error(
            f"{path}.custom.input_schema: JSON schema is invalid. It must match JSON Schema draft 2020-12 "
            "(https://json-schema.org/draft/2020-12)."
        )
    return name


def _check_breakpoints(body: Mapping[str, Any]) -> None:
    marked = [block["cache_control"] for block in breakpoints(body) if block.get("cache_control")]
    marked += [body["cache_control"]] if body.get("cache_control") else []
    if len(marked) > MAX_BREAKPOINTS:
        raise anthropic_error(
            f"A maximum of {MAX_BREAKPOINTS} blocks with cache_control may be provided. Found {len(marked)}."
        )
    short = False
    for mark in marked:
        if mark.get("type") != "ephemeral" or mark.get("ttl", "5m") not in ("5m", "1h"):
            raise anthropic_error("cache_control: Input should be {'type': 'ephemeral', 'ttl': '5m' or '1h'}")
        if mark.get("ttl") == "1h" and short:
            raise anthropic_error(
                "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. Note that blocks "
                "are processed in the following order: `tools`, `system`, `messages`."
            )
        short = short or mark.get("ttl", "5m") == "5m"


def _check_format(body: Mapping[str, Any]) -> None:
    wanted = (body.get("output_config") or {}).get("format")
    if wanted is None:
        return
    if wanted.get("type") != "json_schema" or not wanted.get("schema"):
        raise anthropic_error("output_config.format.schema: Field required")
    if next(_open_objects(wanted["schema"]), None) is not None:
        raise anthropic_error(
            "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false"
        )


def _open_objects(schema: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(schema, Mapping):
        if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
            yield schema
        for child in schema.values():
            yield from _open_objects(child)
    elif isinstance(schema, list):
        for child in schema:
            yield from _open_objects(child)
