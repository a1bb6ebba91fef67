"""The end of a run: what is said in the place of an answer, and what the calls that are still open get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langchain_tokopt.budget.steps.fallback import FORMS
from langchain_tokopt.flow import is_background, is_internal

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest

FINISH_REASON: Final = "budget_exceeded"
_NOT_RUN: Final = "This was not done: the budget does not allow the run to go on."


def last_words(request: ModelRequest[Any], text: str) -> list[BaseMessage]:
    """The messages that end the run: a result for each call that is still open, and the message itself.

    It calls no tool, and its `finish_reason` tells a cache that it is no answer. A bare model has one message to give.
    """
    said = AIMessage(content=text, response_metadata={"finish_reason": FINISH_REASON})
    if request.runtime is None:
        return [said]
    return [*_results(request.messages), said]


def is_end(messages: Sequence[Any]) -> bool:
    """Whether the newest message of a model is one that ends the run."""
    last = next((message for message in reversed(messages) if isinstance(message, AIMessage)), None)
    return last is not None and last.response_metadata.get("finish_reason") == FINISH_REASON


def why_not(request: ModelRequest[Any]) -> str | None:
    """Why no message can take the place of the answer, `None` where one can."""
    if is_background(request) or is_internal(request):
        return "it would be taken for an answer to a call beside the run"
    if request.runtime is not None:
        return None
    # A parser stands behind a bare model that is told what form its answer must have.
    forced = request.tool_choice not in (None, "auto", "none")
    if forced or any(request.model_settings.get(name) is not None for name in FORMS):
        return "an answer in a form of its own is awaited, and there is no run to end"
    return None


def _results(messages: Sequence[BaseMessage]) -> list[ToolMessage]:
    """Results for the calls at the end of the messages that have none: providers refuse a call without its result."""
    done = set()
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            done.add(message.tool_call_id)
        elif isinstance(message, AIMessage):
            return [
                ToolMessage(content=_NOT_RUN, name=call["name"], tool_call_id=call["id"] or "", status="error")
                for call in message.tool_calls
                if call["id"] not in done
            ]
        else:
            break
    return []
