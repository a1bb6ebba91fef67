"""What the model asks of tools that the agent does not have, and the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langchain_tokopt.tools.proxy import unwrapped
from langchain_tokopt.tools.search import answer, refusal

if TYPE_CHECKING:
    from langchain_tokopt.tools.plan import Plan


def understood(
    result: Sequence[BaseMessage], plan: Plan, *, refuse: bool = False, drop_asides: bool = False
) -> tuple[list[BaseMessage], list[ToolMessage]]:
    """The model's messages with real calls only, and answers to those that the agent cannot run.

    A call through another tool becomes a call of that tool. Searches, and calls that cannot be understood, are
    answered; with `refuse`, searches by a request to go on without. With `drop_asides` an answer that also calls real
    tools keeps these alone: there the agent goes on, and nobody would find the rest of it answered.
    """
    registry = plan.registry
    messages: list[BaseMessage] = list(result)
    errors: list[ToolMessage] = []
    if plan.way == "proxy":
        messages, errors = unwrapped(result, registry.caller, registry.index.by_name, searcher=registry.searcher)
    caller = registry.caller if plan.way == "proxy" else None
    searches = [
        refusal(call) if refuse else answer(call, registry.index, plan.known, caller=caller)
        for message in messages
        if plan.searches and isinstance(message, AIMessage)
        for call in message.tool_calls
        if call["name"] == registry.searcher
    ]
    answers = [*errors, *searches]
    if not drop_asides or not answers:
        return messages, answers
    real = without(messages, answers)
    if any(message.tool_calls for message in real if isinstance(message, AIMessage)):
        return real, []
    return messages, answers


def without(messages: Sequence[BaseMessage], answers: Sequence[ToolMessage]) -> list[BaseMessage]:
    """The messages without the calls that these answer."""
    asides = {one.tool_call_id for one in answers}
    return [_without(message, asides) if isinstance(message, AIMessage) else message for message in messages]


def _without(message: AIMessage, call_ids: set[str]) -> AIMessage:
    """The message without these calls, in any form."""
    content = message.content
    if isinstance(content, list):
        content = [block for block in content if not (isinstance(block, dict) and _call_id(block) in call_ids)]
    kept = dict(message.additional_kwargs)
    if isinstance(kept.get("tool_calls"), list):
        kept["tool_calls"] = [raw for raw in kept["tool_calls"] if raw.get("id") not in call_ids]
    calls = [call for call in message.tool_calls if call["id"] not in call_ids]
    invalid = [call for call in message.invalid_tool_calls if call["id"] not in call_ids]
    if not (calls or invalid or message.text):  # OpenAI refuses a thought that nothing follows
        content = [] if isinstance(content, list) else content
        kept.pop("reasoning", None)
    return message.model_copy(
        update={"content": content, "tool_calls": calls, "invalid_tool_calls": invalid, "additional_kwargs": kept}
    )


def _call_id(block: dict[str, Any]) -> str | None:
    return block.get("call_id") or block.get("id")
