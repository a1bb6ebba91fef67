"""Tools that a model is told of in the middle of a conversation, so that the request's tools never change.

A change of the tools that a request begins with loses all that the provider's prompt cache holds of the thread. A
definition among the messages loses nothing. Anthropic takes it as a `tool_addition` block
(https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages), OpenAI's Responses API as an
item `additional_tools`; LangChain's clients send either from a `SystemMessage`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_tokopt.identity import client_of, model_identity
from langchain_tokopt.tools.schema import tool_name

if TYPE_CHECKING:
    pass

Form: TypeAlias = Literal["anthropic", "openai"]

_OWN_HOSTS: Final[dict[Form, str]] = {"anthropic": "api.anthropic.com", "openai": "api.openai.com"}
# Requests that go on from what the provider keeps: what it was told there is not ours to know.
_GOES_ON: Final = ("previous_response_id", "conversation")
# Of a definition: a breakpoint would move with the thread and count to the few that a request may have, and a tool that
# is told of is meant to be seen.
_LEFT_OUT: Final = frozenset({"cache_control", "defer_loading"})
# What Anthropic refuses at the top of a tool's schema; its client leaves such tools out when they are bound.
_REFUSED: Final = frozenset({"oneOf", "anyOf", "allOf"})


# --- which models can be told ----------------------------------------------------------------------------------------


def form_of(model: Any, settings: Mapping[str, Any] | None = None) -> Form | None:
    """How this chat model is told of more tools, `None` when it cannot be, or when that is not known.

    The client carries them (`carried_form`), the model's profile says `mid_conversation_tools`, and the client talks to
    the provider itself: a gateway may have anything behind it. `settings` are those of the request (`model_settings`).
    """
    form = carried_form(model, settings)
    client = client_of(model)
    if form is None or _host(client, form) != _OWN_HOSTS[form]:
        return None
    if (settings or {}).get("model") and model_identity(client, settings).name != model_identity(client).name:
        return None  # another model than the one whose profile this is
    return form if _profile(client, form).get("mid_conversation_tools") else None


def carried_form(model: Any, settings: Mapping[str, Any] | None = None) -> Form | None:
    """How this chat model's client would tell a model of more tools, `None` when it has no way to.

    Whether the model understands it is another question: this is for models that are newer than their profiles, and for
    gateways that are known to pass everything on. Of Anthropic's client the profile has to say
    `mid_conversation_system_messages` all the same: otherwise it moves the message to the front and drops the tools.
    """
    client = client_of(model)
    classes = {(base.__module__.partition(".")[0], base.__name__) for base in type(client).__mro__}
    kind = getattr(client, "_llm_type", None)  # subclasses for other services (Bedrock ...) have one of their own
    if kind == "anthropic-chat" and ("langchain_anthropic", "ChatAnthropic") in classes:
        return "anthropic" if (client.profile or {}).get("mid_conversation_system_messages") else None
    if kind == "openai-chat" and ("langchain_openai", "ChatOpenAI") in classes:
        # The API may depend on whether a request has tools; one that is told of more has some.
        sent = {**client.model_kwargs, **(settings or {}), "tools": [{"type": "function"}]}
        if client.use_previous_response_id or any(sent.get(name) for name in _GOES_ON):
            return None
        return "openai" if client._use_responses_api(sent) else None  # noqa: SLF001 - the client's own decision
    return None


def _host(client: Any, form: Form) -> str | None:
    sdk = getattr(client, "root_client", None) or getattr(client, "root_async_client", None)
    url = client.anthropic_api_url if form == "anthropic" else getattr(sdk, "base_url", None)
    host = urlsplit(str(url)).hostname
    own = _OWN_HOSTS[form]
    return own if host is not None and host.endswith(f".{own}") else host  # eu.api.openai.com


def _profile(client: Any, form: Form) -> Mapping[str, Any]:
    """What is known of the model, as its client says it or as the user does."""
    known: Mapping[str, Any] = client.profile or {}
    if form == "openai" and known == client._resolve_model_profile():  # noqa: SLF001 - not overridden by the user
        # Where the API depends on the request, the client claims nothing: asked again as if it were settled.
        settled = client.model_copy(update={"use_responses_api": True})
        return settled._resolve_model_profile() or {}  # noqa: SLF001
    return known


# --- telling ---------------------------------------------------------------------------------------------------------


def definition(tool: Any, form: Form, *, strict: bool | None = None) -> dict[str, Any] | None:
    """The tool as the provider's client would bind it; `None` for one that has to be bound, not told of.

    These are tools that the provider runs, OpenAI's custom ones, those that Anthropic would refuse, and those that
    cannot be converted. A definition may be given in a tool's place, which is faster. `strict` as in `bind_tools`.
    """
    if tool_name(tool) is None:
        return None
    try:
        return _openai(tool, strict) if form == "openai" else _anthropic(tool, strict)
    except Exception:  # when it is bound, the client says what is wrong with it
        return None


def tellable(tool: Any, parameters: Mapping[str, Any], form: Form) -> bool:
    """Whether the tool with these parameters has a `definition`, as far as that can be seen at once."""
    if form == "anthropic":
        return _REFUSED.isdisjoint(parameters)
    return not (isinstance(tool, BaseTool) and (tool.metadata or {}).get("type") == "custom_tool")


def with_additions(
    messages: Sequence[AnyMessage],
    additions: Sequence[tuple[int, Sequence[Any]]],
    form: Form,
    *,
    strict: bool | None = None,
) -> list[AnyMessage]:
    """The messages, with the definitions of tools put where the model is told of them.

    `additions` are `(at, tools)`: what became known with the message at that position. All that became known in one
    turn of the user's - messages and tool results up to the next answer - is one message at the turn's end, where
    Anthropic takes one. What became known with an answer waits for the turn after it; without one it goes to the last
    turn. A tool is told of once; one without a `definition` is left out.

    A pure function: what stands before an answer stays as it is, to the byte, whatever is appended later. No message is
    changed. The request has to have tools of its own: told of its first ones, Anthropic reads the whole prompt anew.
    Its cache looks 20 blocks back, and each tool is one: told of more than a dozen in one turn, it may not be found.
    """
    turns = list(_turns(messages, form))
    if not turns:
        return list(messages)
    stops = [stop for _, stop in turns]
    told: dict[int, list[dict[str, Any]]] = {}
    seen: set[str] = set()
    for at, tools in additions:
        last, _ = turns[min(bisect_right(stops, at), len(turns) - 1)]
        for tool in tools:
            made = definition(tool, form, strict=strict)
            if made is not None and made["name"] not in seen:
                seen.add(made["name"])
                told.setdefault(last, []).append(made)
    shown: list[AnyMessage] = []
    for at, message in enumerate(messages):
        shown.append(message)
        if at in told:
            shown.append(SystemMessage(_content(told[at], form)))
    return shown


def _turns(messages: Sequence[AnyMessage], form: Form) -> Iterator[tuple[int, int]]:
    """The user's turns: position of the last message of each, and of the answer after it (or the end)."""
    last = None
    for at, message in enumerate(messages):
        if isinstance(message, (HumanMessage, ToolMessage)):
            last = at
        elif last is not None and isinstance(message, AIMessage) and (form == "openai" or _is_sent(message)):
            yield last, at
            last = None
    if last is not None:
        yield last, len(messages)


def _is_sent(answer: AIMessage) -> bool:
    """Whether Anthropic's client sends this answer. It leaves out an empty one, and the turns around it become one."""
    if answer.tool_calls or any(call.get("id") and call.get("name") for call in answer.invalid_tool_calls):
        return True
    if isinstance(answer.content, str):
        return bool(answer.content)
    unsent = () if answer.response_metadata.get("model_provider") == "anthropic" else ("reasoning", "function_call")
    return any(
        isinstance(block, str)
        or (str(block.get("text", "")).strip() if block.get("type") == "text" else block.get("type") not in unsent)
        for block in answer.content
    )


def _content(definitions: list[dict[str, Any]], form: Form) -> list[str | dict[Any, Any]]:
    if form == "openai":
        return [{"type": "additional_tools", "role": "developer", "tools": definitions}]
    return [{"type": "tool_addition", "tool": {"type": "tool_definition", "definition": one}} for one in definitions]


def _anthropic(tool: Any, strict: bool | None) -> dict[str, Any] | None:
    from langchain_anthropic.chat_models import convert_to_anthropic_tool  # here only with a client of this package

    made = dict(convert_to_anthropic_tool(tool, strict=strict))
    schema = made.get("input_schema")
    return _shown(made) if isinstance(schema, Mapping) and _REFUSED.isdisjoint(schema) else None


def _openai(tool: Any, strict: bool | None) -> dict[str, Any] | None:
    made = convert_to_openai_tool(tool, strict=strict)
    if made["type"] != "function":
        return None
    extras = (tool.extras or {}) if isinstance(tool, BaseTool) else {}
    # Responses writes what is under "function" beside the type; "async" is the one extra that its client passes on.
    beside = {key: value for key, value in made.items() if key != "function"}
    passed = {key: value for key, value in extras.items() if key == "async"}
    return _shown({**beside, **made.get("function", {}), **passed})


def _shown(made: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in made.items() if key not in _LEFT_OUT}
