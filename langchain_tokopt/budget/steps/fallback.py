"""The request as another model can take it: without what only the first model, or only its provider, knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast

from langchain.agents.middleware.types import ModelRequest
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, is_data_content_block
from langchain_core.tools import BaseTool

from langchain_tokopt.identity import client_of, model_identity

# What a model is told about itself: another one may refuse it, or be called by the first one's name.
_OF_THE_MODEL: Final = frozenset(
    {
        "effort",
        "include_thoughts",
        "model",
        "model_name",
        "previous_response_id",
        "reasoning",
        "reasoning_effort",
        "reasoning_format",
        "thinking",
        "thinking_budget",
        "thinking_level",
        "verbosity",
    }
)
# Of the other settings every provider's class in LangChain takes these.
_OF_EVERYBODY: Final = frozenset({"stop"})
# How providers are told what form an answer must have; the parser behind it waits for just that.
FORMS: Final = ("response_format", "output_format", "output_config", "response_schema", "response_mime_type", "format")
_OUTPUT: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_tokens_to_sample", "num_predict")

_THOUGHTS: Final = frozenset({"thinking", "redacted_thinking", "reasoning", "reasoning_content"})
# These say once more what is in `tool_calls`, with ids that belong to one model's answer.
_CALLS: Final = frozenset({"tool_use", "tool_call", "tool_call_chunk", "function_call", "input_json_delta"})
_MEDIA: Final = {
    "image": "image_inputs",
    "image_url": "image_inputs",
    "audio": "audio_inputs",
    "input_audio": "audio_inputs",
    "video": "video_inputs",
    "file": "pdf_inputs",
    "document": "pdf_inputs",
}


class Unfit(Exception):  # noqa: N818 - said to whoever climbs, and never raised out of it
    """Why the other model cannot take the request."""


def for_model(request: ModelRequest[Any], model: BaseChatModel) -> ModelRequest[Any]:
    """The request to `model`. The messages and tools of the given one stay as they are.

    What the first model said is handed on as text and tool calls: its thoughts are of use to nobody else, and are
    refused where they are signed. Settings go along where both models are of one provider, and only those that do not
    belong to a model; what the answer may have at most is for the caller to say again (`asked_for`).

    Raises:
        Unfit: The request has something that the model cannot take.
    """
    first, profile = client_of(request.model), getattr(model, "profile", None) or {}
    here, there = model_identity(first, request.model_settings), model_identity(model)
    if (here.provider, here.name) == (there.provider, there.name) and here.url == there.url:
        raise Unfit("it is the model that is called already")
    kin = type(first) is type(client_of(model)) and here.provider == there.provider
    needs_tools = bool(request.tools) or isinstance(request.response_format, ToolStrategy)
    if needs_tools and profile.get("tool_calling") is False:
        raise Unfit("it cannot call tools")
    if isinstance(request.response_format, ProviderStrategy) and profile.get("structured_output") is False:
        raise Unfit("it cannot answer in the form that is asked for")
    changed: dict[str, Any] = {
        "model": model,
        "messages": list(_messages(request.messages, profile, kin=kin)),
        "model_settings": _settings(request.model_settings, profile, kin=kin, provider=here.provider),
    }
    if not kin:
        changed["tools"] = [_tool(tool, here.provider) for tool in request.tools]
        changed["tool_choice"] = _choice(request.tool_choice)
        if request.system_message is not None:
            changed["system_message"] = _message(request.system_message, profile, kin=False)
    return request.override(**changed)


def asked_for(request: ModelRequest[Any]) -> int | None:
    """What the caller lets the answer have at most, in whatever words of whatever provider."""
    for name in _OUTPUT:
        tokens = request.model_settings.get(name)
        if isinstance(tokens, int) and not isinstance(tokens, bool) and tokens > 0:
            return tokens
    return None


def _settings(
    given: Mapping[str, Any], profile: Mapping[str, Any], *, kin: bool, provider: str | None
) -> dict[str, Any]:
    if not kin and (form := next((name for name in FORMS if given.get(name) is not None), None)):
        raise Unfit(f"{form} says in the words of {provider or 'another provider'} what form the answer must have")
    left = {name: value for name, value in given.items() if name not in _OUTPUT}
    if not kin:
        return {name: value for name, value in left.items() if name in _OF_EVERYBODY}
    fixed = {"temperature"} if profile.get("temperature") is False else set()
    return {name: value for name, value in left.items() if name not in _OF_THE_MODEL and name not in fixed}


# --- messages --------------------------------------------------------------------------------------------------------


def _messages(given: Iterable[AnyMessage], profile: Mapping[str, Any], *, kin: bool) -> Iterator[AnyMessage]:
    for message in given:
        one = _message(message, profile, kin=kin)
        if one is message or one.content or not isinstance(one, AIMessage) or one.tool_calls:
            yield one  # of an answer that was cut off while it was thought, nothing is left


def _message(message: AnyMessage | BaseMessage, profile: Mapping[str, Any], *, kin: bool) -> AnyMessage:
    if isinstance(message, AIMessage):
        return _said(message, kin=kin)
    if not isinstance(message.content, list):
        return cast("AnyMessage", message)
    for block in message.content:
        _taken(block, profile, kin=kin)
    if kin or not any(_marked(block) for block in message.content):
        return cast("AnyMessage", message)
    return cast("AnyMessage", message.model_copy(update={"content": _unmarked(message.content)}))


def _said(message: AIMessage, *, kin: bool) -> AIMessage:
    """What a model said, as text and tool calls; blocks of other kinds go along to a model of the same provider."""
    content: str | list[str | dict[Any, Any]] = str(message.text)
    if isinstance(message.content, list):
        rest = [block for block in message.content if _kind(block) not in _THOUGHTS | _CALLS]
        other = [_kind(block) for block in rest if _kind(block) != "text"]
        if other and not kin:
            raise Unfit(f"the history has a block of type {other[0]!r}, which only its provider takes back")
        if other:
            content = [_bare(block) for block in rest]
    if content == message.content and not message.additional_kwargs and not message.response_metadata:
        return message
    return AIMessage(content=content, tool_calls=message.tool_calls, id=message.id, name=message.name)


def _taken(block: str | dict[Any, Any], profile: Mapping[str, Any], *, kin: bool) -> None:
    """Raise where the model does not take the block, as far as can be known."""
    kind = _kind(block)
    if kind == "text":
        return
    ability = _MEDIA.get(kind)
    if ability is not None and profile.get(ability) is False:
        raise Unfit(f"it takes no {kind.partition('_')[0]} input")
    if kin:
        return
    if not (kind == "image_url" or (isinstance(block, dict) and is_data_content_block(block))):
        raise Unfit(f"the history has a block of type {kind!r}, which only its provider takes")
    if isinstance(block, Mapping) and _uploaded(block):
        raise Unfit(f"the {kind} was uploaded to the provider of the first model")


def _uploaded(block: Mapping[str, Any]) -> bool:
    inside = [value for value in block.values() if isinstance(value, Mapping)]
    return any("file_id" in part or part.get("source_type") == "id" for part in (block, *inside))


def _kind(block: str | dict[Any, Any]) -> str:
    return str(block.get("type", "text")) if isinstance(block, dict) else "text"


def _bare(block: str | dict[Any, Any]) -> str | dict[Any, Any]:
    return (
        {"type": "text", "text": block.get("text", "")} if isinstance(block, dict) and _kind(block) == "text" else block
    )


def _marked(block: str | dict[Any, Any]) -> bool:
    return isinstance(block, dict) and "cache_control" in block


def _unmarked(blocks: Iterable[str | dict[Any, Any]]) -> list[str | dict[Any, Any]]:
    return [
        {key: value for key, value in block.items() if key != "cache_control"} if isinstance(block, dict) else block
        for block in blocks
    ]


# --- tools -----------------------------------------------------------------------------------------------------------


def _tool(tool: BaseTool | dict[str, Any], provider: str | None) -> BaseTool | dict[str, Any]:
    if isinstance(tool, BaseTool):
        if not tool.extras or "cache_control" not in tool.extras:
            return tool
        rest = {key: value for key, value in tool.extras.items() if key != "cache_control"}
        return tool.model_copy(update={"extras": rest or None})
    if not (tool.get("type") == "function" and isinstance(tool.get("function"), Mapping)):
        name = tool.get("name") or tool.get("type")
        raise Unfit(f"the tool {name!r} is described in the words of {provider or 'another provider'}")
    return {key: value for key, value in tool.items() if key != "cache_control"}


def _choice(given: Any) -> Any:
    """The choice in words that LangChain's classes of all providers understand."""
    if not isinstance(given, Mapping):
        return given
    name = given.get("name") or (given.get("function") or {}).get("name")
    if not isinstance(name, str) and given.get("type") not in ("any", "auto", "none"):
        raise Unfit("the choice of a tool is in the words of the first model's provider")
    return name if isinstance(name, str) else given["type"]
