"""Answers from logs, put into the cache so that later questions find them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.runnables import Runnable, RunnableBinding

from langchain_tokopt.cache.answers import why_not
from langchain_tokopt.cache.key import Bypass
from langchain_tokopt.caller import using_config
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.identity import model_identity

if TYPE_CHECKING:
    from langchain_tokopt.cache.semantic import SemanticCache

Like: TypeAlias = "ModelRequest[Any] | Runnable[Any, Any]"

_TOOL_KEYS = ("tools", "tool_choice", "parallel_tool_calls")
_KNOWN = frozenset(
    {"question", "answer", "system", "model", "tenant", "user", "input_tokens", "output_tokens", "usage_metadata"}
)


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that was not stored, counted from 0, and why."""

    row: int
    reason: str


@dataclass(slots=True)
class WarmUp:
    """What became of the rows of a log."""

    stored: int = 0
    refused: list[Refused] = field(default_factory=list)


def warm_up(cache: SemanticCache, rows: Iterable[Mapping[str, Any]], *, like: Like) -> WarmUp:
    """What became of the rows: each good one is stored as if the model had just answered it.

    A question finds an answer only if all that stands around it is equal: model and parameters, system prompt, tools,
    response format. A log row does not know these, so they are taken from `like`: what will ask later.

    - An agent: `ModelRequest(model=..., system_message=SystemMessage(...), tools=[...], messages=[])` with what
      `create_agent` is given, and `response_format` if it has one.
    - A model that is wrapped by an optimiser, or was bound to tools or parameters afterwards: the model itself.

    Each row has `question` and `answer`. It may have `system` (a system prompt in place of that of `like`), `tenant` or
    `user` (whose answer it is), `model` (a row of another model than that of `like` is refused) and `input_tokens` with
    `output_tokens` or `usage_metadata`, from which the worth of a hit is known. A row that cannot be stored is refused
    with the reason, and the others are stored.

    Raises:
        ConfigurationError: `like` is nothing that a scope can be taken from.
    """
    template = template_of(like)
    name = model_identity(template.model, template.model_settings).name
    done = WarmUp()
    for number, row in enumerate(rows):
        reason = _stored(cache, row, template, name)
        if reason is None:
            done.stored += 1
        else:
            done.refused.append(Refused(number, reason))
    return done


def _stored(cache: SemanticCache, row: Mapping[str, Any], template: ModelRequest[Any], name: str | None) -> str | None:
    """Store one row. Why that was not done, `None` if it was."""
    problem = _problem(row)
    if problem is not None:
        return problem
    if row.get("model") is not None and name is not None and row["model"] != name:
        return f"it was answered by {row['model']!r}, and like= is {name!r}"
    request = template.override(messages=[HumanMessage(row["question"])])
    if row.get("system") is not None:
        request = request.override(system_message=SystemMessage(row["system"]))
    whose = {key: row[name] for name, key in (("tenant", "tenant"), ("user", "user_id")) if row.get(name) is not None}
    with using_config({"configurable": whose}):
        key = cache.examine(request)
        if isinstance(key, Bypass):
            return key.reason
        if cache.rules.tenant is not None and whose:
            return "the cache's tenant function reads requests: give like= the context that it reads, one call a tenant"
        response = ModelResponse[Any](result=[_answer(row, name)])
        reason = why_not(response, key)
        if reason is not None:
            return reason
        return None if cache.store(key, response) else "the cache did not take it"


def _problem(row: Any) -> str | None:
    """What is wrong with the form of a row."""
    if not isinstance(row, Mapping):
        return f"it is a {type(row).__name__}, not a mapping"
    unknown = sorted(str(name) for name in row if name not in _KNOWN)
    if unknown:
        return f"unknown: {', '.join(unknown)}"
    for name in ("question", "answer"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            return f"{name} must be a text"
    for name in ("system", "model", "tenant", "user"):
        if row.get(name) is not None and not isinstance(row[name], str):
            return f"{name} must be a text"
    for name in ("input_tokens", "output_tokens"):
        value = row.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            return f"{name} must be a whole number"
    return None


def _answer(row: Mapping[str, Any], name: str | None) -> AIMessage:
    usage = row.get("usage_metadata")
    if usage is None and row.get("input_tokens") is not None:
        spent, made = row["input_tokens"], row.get("output_tokens") or 0
        usage = UsageMetadata(input_tokens=spent, output_tokens=made, total_tokens=spent + made)
    metadata = {"finish_reason": "stop", **({"model_name": name} if name is not None else {})}
    return AIMessage(row["answer"], usage_metadata=usage, response_metadata=metadata)


# --- what will ask ---------------------------------------------------------------------------------------------------


def template_of(like: Like) -> ModelRequest[Any]:
    """A request as `like` will make it, but for its messages.

    Raises:
        ConfigurationError: `like` is nothing that a request can be taken from.
    """
    if isinstance(like, ModelRequest):
        return like
    options: dict[str, Any] = {}
    model: Any = like
    while isinstance(model, RunnableBinding):
        options = {**model.kwargs, **options}
        model = model.bound
    if not isinstance(model, BaseChatModel):
        remedy = (
            "pass a chat model (wrapped or bound as it will be used), or for an agent "
            "ModelRequest(model=..., system_message=..., tools=[...], messages=[]) with what create_agent was given"
        )
        raise ConfigurationError("like", type(like).__name__, remedy)
    tools = list(options.get("tools") or [])
    choice = options.get("tool_choice")
    # A wrapped model remembers the tools that it was bound to; what a provider makes of them can look different.
    bound = getattr(model, "_bound", None)
    if bound is not None and options.get("tools") == bound.formatted:
        tools, choice = list(bound.tools), bound.tool_choice
    inner = getattr(model, "inner", None)
    return ModelRequest(
        model=inner if isinstance(inner, BaseChatModel) else model,
        messages=[],
        tools=tools,
        tool_choice=choice,
        model_settings={key: value for key, value in options.items() if key not in _TOOL_KEYS},
    )
