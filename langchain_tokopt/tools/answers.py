"""What the model asks of tools that the agent does not have, and the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langchain_tokopt.tools.proxy import unwrapped
from langchain_tokopt.tools.search import answer, refusal

if TYPE_CHECKING:
    from langchain_tokopt.tools.plan import Plan


def understood(
    result: Sequence[BaseMessage], plan: Plan, *, refuse: bool = False
) -> tuple[list[BaseMessage], list[ToolMessage]]:
    """The model's messages with real calls only, and answers to those that the agent cannot run.

    A call through another tool becomes a call of that tool. Searches, and calls that cannot be understood, are
    answered; with `refuse`, searches by a request to go on without.
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
    return messages, [*errors, *searches]
