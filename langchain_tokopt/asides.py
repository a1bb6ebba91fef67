"""Calls of a tool that the agent does not have: answered inside the flow, and the model is called again.

The flow binds the tool, finds calls of it in what the model says, answers them, and sends the request once more with
both. No node of the graph has to know the tool; who approves or runs tool calls sees those of the agent's own tools.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata

from langchain_tokopt.kept import carrying

if TYPE_CHECKING:
    from typing import TypeAlias

    from langchain_tokopt.events import Decision
    from langchain_tokopt.pricing import Pricing
    from langchain_tokopt.steps import Flow, Held
    from langchain_tokopt.tokens import TokenCounter


@dataclass(frozen=True)
class Heard:
    """What came of one call.

    Attributes:
        response: The response as it was received.
        result: Its messages as the flow understands them.
        answers: Answers to those of its calls that are the flow's own affair.
    """

    response: ModelResponse[Any]
    result: Sequence[BaseMessage]
    answers: Sequence[ToolMessage] = ()


# Makes one call: given what was asked and answered in this step so far, and how many calls may still follow.
Round: TypeAlias = "Callable[[list[BaseMessage], int], Generator[ModelRequest[Any] | Held, ModelResponse[Any], Heard]]"


def with_asides(one_round: Round, *, most: int, keeps: bool) -> Flow:
    """The response in the end: `one_round` is run until the model asks nothing more of the flow.

    Calls of other tools beside those that are answered are left open for the agent, and end the step. With a
    structured answer, and after `most` rounds, the flow's own calls are taken out of the last answer instead.

    Args:
        one_round: Yields a request, and says what the response means. It is run `most + 1` times at most.
        most: How often the model is called again.
        keeps: Whether what was asked becomes part of the thread, as it does in an agent. Otherwise the answer carries
            it; and beside calls of other tools it is taken out, since nobody would find it answered there.
    """
    asked: list[BaseMessage] = []
    for left in range(most, -1, -1):
        heard = yield from one_round(asked, left)
        response, result, answers = heard.response, heard.result, heard.answers
        if not answers:
            break
        alone = without(result, answers)
        if not left or response.structured_response is not None or (not keeps and has_open_calls(alone)):
            result = alone
            break
        said = [*result, *answers]
        asked = [*asked, *said]
        if has_open_calls(said):  # of this round alone: some providers count the ids of calls from 0 in each answer
            return replace(response, result=asked)
    if not asked and result is response.result:
        return response
    return replace(response, result=[*asked, *result] if keeps else carrying(result, asked))


def with_asked(request: ModelRequest[Any], asked: Sequence[BaseMessage]) -> ModelRequest[Any]:
    """The request as it would be if what was asked in this step were part of the thread already."""
    if not asked:
        return request
    messages = cast("list[AnyMessage]", [*request.messages, *asked])
    state: Any = {**request.state, "messages": [*request.state.get("messages", request.messages), *asked]}
    return request.override(messages=messages, state=state)


def as_loss(
    decided: Decision,
    request: ModelRequest[Any],
    heard: Heard,
    *,
    counter: TokenCounter,
    pricing: Pricing,
    remark: str,
) -> Decision:
    """The decision, as a loss if the call brought nothing but the flow's own affair: it had not been made otherwise."""
    own = {answer.tool_call_id for answer in heard.answers}
    result = heard.response.result
    calls = {call["id"] for message in result if isinstance(message, AIMessage) for call in message.tool_calls}
    if not own or calls - own:
        return decided
    usage = next((m.usage_metadata for m in result if isinstance(m, AIMessage) and m.usage_metadata), None)
    if usage is None:
        counted = counter.request(request).total
        usage = UsageMetadata(input_tokens=counted, output_tokens=0, total_tokens=counted)
    cost = pricing.cost(usage, request.model)
    return replace(
        decided,
        tokens_after=(decided.tokens_before or 0) + usage["total_tokens"],
        saved_usd=None if cost is None else -cost,
        reason=f"{decided.reason}; {remark}",
    )


def has_open_calls(messages: Sequence[BaseMessage]) -> bool:
    """Whether a tool call is left for the agent to run."""
    answered = {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}
    calls = [call["id"] for message in messages if isinstance(message, AIMessage) for call in message.tool_calls]
    return any(call_id not in answered for call_id in calls)


def without(messages: Sequence[BaseMessage], answers: Sequence[ToolMessage]) -> list[BaseMessage]:
    """The messages without the calls that these answer."""
    own = {one.tool_call_id for one in answers}
    return [_without(message, own) if isinstance(message, AIMessage) else message for message in messages]


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
