"""Which answers may be kept, how they are written down, and how they are given again as new messages."""

from __future__ import annotations

import inspect
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from langchain.agents.middleware.types import ModelResponse
from langchain.agents.structured_output import (
    AutoStrategy,
    OutputToolBinding,
    ProviderStrategy,
    ProviderStrategyBinding,
    ToolStrategy,
)
from langchain_core.load.load import load as _load
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage, message_chunk_to_message
from langchain_core.messages.ai import UsageMetadata, add_usage

from langchain_tokopt.cache.fingerprint import REASONING_BLOCKS
from langchain_tokopt.cache.key import CacheKey

# `load` is marked as beta and warns at each call. It is LangChain's own format for caches, and what is loaded here is
# limited to message classes.
load: Callable[..., Any] = inspect.unwrap(_load)

_VERSION = 1  # of what `written` writes
_MESSAGES: dict[str, Callable[..., BaseMessage]] = {
    "ai": partial(AIMessage, content=""),
    "tool": partial(ToolMessage, content=""),
}

# How providers spell "I have said all". Anything else (length, content filter, refusal, pause) is no complete answer.
_SAID = (
    "stop end_turn stop_sequence complete completed eos eos_token tool_calls tool_use function_call "
    "finish_reason_stop done end"
)
_COMPLETE = frozenset(_SAID.split())
_ENDINGS = ("finish_reason", "stop_reason", "stopReason", "done_reason", "completion_reason", "status")
# Metadata that is still true of an answer that is given again. Usage, response ids and headers are not.
_KEPT_METADATA = frozenset(
    (*_ENDINGS, "model_name", "model", "model_id", "model_provider", "output_version", "stop_sequence")
)
_DROPPED_KWARGS = frozenset({"tool_calls", "function_call", "refusal", "reasoning_content", "reasoning"})
_UNREPEATABLE_KWARGS = frozenset({"audio", "parsed"})
_CALL_BLOCKS = frozenset({"tool_use", "tool_call", "function_call"})


class UnreadableError(ValueError):
    """A stored answer that cannot be given again, by this version or under this response format."""


def pack(response: ModelResponse[Any], key: CacheKey) -> str | None:
    """The answer as text for `unpack`, or `None` when it must not be kept; `why_not` says why."""
    if why_not(response, key) is not None:
        return None
    return written([cleaned(message) for message in response.result])


def why_not(response: ModelResponse[Any], key: CacheKey) -> str | None:
    """Why an answer must not be kept, `None` if it may."""
    answer = response.result[0] if response.result else None
    if not isinstance(answer, AIMessage):
        return "no answer"
    if key.response_format is None:
        if len(response.result) > 1 or response.structured_response is not None:
            return "an unexpected form"
        return unfit(answer)
    return _unfit_structured(response, answer, key)


def unfit(answer: AIMessage, *, call: str | None = None) -> str | None:
    """Why one message must not be kept. `call`: id of the one tool call that it may hold (a structured response)."""
    if answer.invalid_tool_calls or [c["id"] for c in answer.tool_calls] != ([call] if call else []):
        return "tool calls"
    ending = unfit_ending(answer.response_metadata)
    if ending is not None:
        return ending
    extra = answer.additional_kwargs
    if extra.get("refusal"):
        return "refused"
    if extra.keys() & _UNREPEATABLE_KWARGS:
        return "content that cannot be repeated"
    if not json_safe({k: v for k, v in extra.items() if k not in _DROPPED_KWARGS}):
        return "content that cannot be written down"
    if not isinstance(answer.content, str):
        allowed = {"text", *REASONING_BLOCKS, *(_CALL_BLOCKS if call else ())}
        if any(not isinstance(block, str) and block.get("type") not in allowed for block in answer.content):
            return "content that is not text"  # also what a provider's own tools found, stale like any tool result
        if not json_safe(answer.content):
            return "content that cannot be written down"
    if not call and not answer.text.strip():
        return "empty"
    return None


def unfit_ending(metadata: Mapping[str, Any]) -> str | None:
    """Why an answer with this metadata is no complete one, `None` if it may be."""
    for name in _ENDINGS:
        value = metadata.get(name)
        if value is not None and str(value).lower().removeprefix("finishreason.") not in _COMPLETE:
            return f"{name}={value}"
    if metadata.get("incomplete_details") or metadata.get("error"):
        return "incomplete"
    if metadata.get("logprobs"):
        return "log probabilities were asked for"
    return None


def json_safe(value: Any) -> bool:
    """Whether a value can be written as JSON."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _unfit_structured(response: ModelResponse[Any], answer: AIMessage, key: CacheKey) -> str | None:
    if response.structured_response is None:
        return "no structured response"
    call = None
    if not json_safe([answer.tool_calls, [message.content for message in response.result[1:]]]):
        return "content that cannot be written down"
    if answer.tool_calls:
        result = response.result[1] if len(response.result) == 2 else None
        call = answer.tool_calls[0]["id"]
        if not isinstance(result, ToolMessage) or result.tool_call_id != call or call is None:
            return "tool calls"
    elif len(response.result) > 1:
        return "an unexpected form"
    problem = unfit(answer, call=call)
    if problem is not None:
        return problem
    try:
        same = bool(_structured(key.response_format, answer) == response.structured_response)
    except Exception as error:  # the user's schema classes may do anything
        return f"a structured response that cannot be rebuilt ({type(error).__name__})"
    return None if same else "a structured response that cannot be rebuilt"


def _structured(response_format: Any, answer: AIMessage) -> Any:
    """The structured response that an agent would read from `answer`."""
    known = isinstance(response_format, (AutoStrategy, ToolStrategy, ProviderStrategy))
    schema = response_format.schema if known else response_format
    if not answer.tool_calls:
        provider = response_format if isinstance(response_format, ProviderStrategy) else ProviderStrategy(schema)
        binding: ProviderStrategyBinding[Any] = ProviderStrategyBinding.from_schema_spec(provider.schema_spec)
        return binding.parse(answer)
    call = answer.tool_calls[0]
    tool = response_format if isinstance(response_format, ToolStrategy) else ToolStrategy(schema)
    for spec in tool.schema_specs:
        if spec.name == call["name"]:
            return OutputToolBinding.from_schema_spec(spec).parse(call["args"])
    msg = f"the response format has no schema {call['name']!r}"
    raise UnreadableError(msg)


# --- writing ---------------------------------------------------------------------------------------------------------


def cleaned(message: BaseMessage) -> BaseMessage:
    """A copy without what belongs to one run only: ids, usage, headers, reasoning."""
    if isinstance(message, ToolMessage):
        return ToolMessage(
            content=message.content, name=message.name, tool_call_id=message.tool_call_id, status=message.status
        )
    answer: Any = message_chunk_to_message(message) if isinstance(message, AIMessageChunk) else message
    content = answer.content
    if not isinstance(content, str):
        calls = {call["id"] for call in answer.tool_calls}
        content = [
            block if isinstance(block, str) else _clean_block(block, calls)
            for block in content
            if isinstance(block, str) or block.get("type") not in REASONING_BLOCKS
        ]
    return AIMessage(
        content=content,
        name=answer.name,
        tool_calls=answer.tool_calls,
        additional_kwargs={k: v for k, v in answer.additional_kwargs.items() if k not in _DROPPED_KWARGS},
        response_metadata={k: v for k, v in answer.response_metadata.items() if k in _KEPT_METADATA and json_safe(v)},
    )


def _clean_block(block: dict[str, Any], calls: set[str | None]) -> dict[str, Any]:
    return {k: v for k, v in block.items() if k != "index" and not (k == "id" and v not in calls)}


def written(messages: Sequence[BaseMessage]) -> str:
    """Cleaned messages as text for `read`: plain JSON of their fields, which is read ten times as fast as `dumps`."""
    return json.dumps({"version": _VERSION, "messages": [_fields(message) for message in messages]})


def _fields(message: BaseMessage) -> dict[str, Any]:
    names: tuple[str, ...] = ("content", "name", "tool_call_id", "status")
    if isinstance(message, AIMessage):
        names = ("content", "name", "tool_calls", "additional_kwargs", "response_metadata")
    fields = {name: getattr(message, name) for name in names}
    return {"type": message.type, **{name: value for name, value in fields.items() if value}}


def usage_of(response: ModelResponse[Any], spent: UsageMetadata | None = None) -> UsageMetadata | None:
    """What the whole turn used: the answer, and the calls before it."""
    answer = response.result[0]
    own = answer.usage_metadata if isinstance(answer, AIMessage) else None
    return add_usage(own, spent) if own is not None or spent is not None else None


# --- giving again ----------------------------------------------------------------------------------------------------


def unpack(payload: str, key: CacheKey, note: dict[str, Any]) -> ModelResponse[Any]:
    """A stored answer as new messages, with ids of their own and no usage; `note` goes into the metadata.

    Raises:
        UnreadableError: The text is not such an answer, or does not fit the response format.
    """
    messages = read(payload, [AIMessage, ToolMessage])
    if not isinstance(messages, list) or not messages or not isinstance(messages[0], AIMessage):
        msg = "the stored answer holds no message"
        raise UnreadableError(msg)
    answer = renewed(messages[0], note, name=key.agent if messages[0].name else None)
    result: list[BaseMessage] = [answer]
    for message in messages[1:]:
        # The new id of the call that it answers: a stored answer holds one call at most.
        result.append(message.model_copy(update={"id": new_id(), "tool_call_id": answer.tool_calls[0]["id"]}))
    if key.response_format is None:
        return ModelResponse(result=result)
    try:
        return ModelResponse(result=result, structured_response=_structured(key.response_format, answer))
    except Exception as error:
        msg = f"the stored answer does not fit the response format: {error}"
        raise UnreadableError(msg) from error


def read(payload: str, classes: list[type[Any]] | Literal["messages"]) -> Any:
    """The objects in `payload`, of these classes only; what `written` wrote, or LangChain's `dumps`.

    Raises:
        UnreadableError: It is damaged, or holds something else.
    """
    try:
        found = json.loads(payload)
        if isinstance(found, dict) and found.get("version") == _VERSION:
            return [_MESSAGES[fields.pop("type")](**fields) for fields in found["messages"]]
        return load(found, allowed_objects=classes)
    except Exception as error:  # a damaged row can fail anywhere in the loader
        msg = f"{type(error).__name__}: {error}"
        raise UnreadableError(msg) from error


def renewed(answer: AIMessage, note: dict[str, Any], *, name: str | None) -> AIMessage:
    """The answer as a message of its own, which `add_messages` appends and observers count as nothing spent."""
    ids = {call["id"]: f"call_{uuid.uuid4().hex}" for call in answer.tool_calls}
    content: Any = answer.content
    if not isinstance(content, str):
        content = [block if isinstance(block, str) else _renumbered(block, ids) for block in content]
    return AIMessage(
        content=content,
        id=new_id(),
        name=name,
        tool_calls=[{**call, "id": ids[call["id"]]} for call in answer.tool_calls],
        additional_kwargs=answer.additional_kwargs,
        response_metadata={**answer.response_metadata, "tokopt": note},
        usage_metadata=UsageMetadata(input_tokens=0, output_tokens=0, total_tokens=0),
    )


def _renumbered(block: dict[str, Any], ids: dict[str | None, str]) -> dict[str, Any]:
    return {k: ids.get(v, v) if k in ("id", "call_id") else v for k, v in block.items()}


def new_id() -> str:
    return str(uuid.uuid4())
