"""Calls of the tool that gives back what is shown in part, answered where the model is called."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import BaseTool

from langchain_tokopt.asides import Heard, with_asides
from langchain_tokopt.context.retrieval import (
    Originals,
    answer,
    refusal,
    retrieval_name,
    retrieval_schema,
    unreadable,
)
from langchain_tokopt.flow import Flow, Held
from langchain_tokopt.strictness import needs_strict
from langchain_tokopt.thoughts import binds_thoughts

if TYPE_CHECKING:
    from typing import TypeAlias

# How often the model is answered in one step; so many times more it is told that it is enough. Then the tool is gone.
RETRIEVALS_PER_STEP: Final = 6
REFUSALS_PER_STEP: Final = 2

Send: TypeAlias = "Callable[[Sequence[BaseMessage]], ModelRequest[Any]]"
Told: TypeAlias = "Callable[[ModelRequest[Any], Heard | None], None]"


def name_beside(tools: Sequence[Any]) -> str:
    """The name that the tool has beside these, which a request comes with."""
    return retrieval_name({name for tool in tools if (name := _name(tool)) is not None})


def with_retrieval(request: ModelRequest[Any], name: str) -> ModelRequest[Any]:
    """The request with the tool as the last of its tools."""
    return request.override(tools=[*request.tools, retrieval_schema(name, strict=needs_strict(request))])


def retrieving(
    send: Send, originals: Originals, name: str, *, keeps: bool, told: Told | None = None, shadow: bool = False
) -> Flow:
    """The response in the end: the request is sent, and again with answers, while the model asks for originals.

    Calls of other tools beside such a call are left open for the agent, which finds ours answered. See `with_asides`.

    Args:
        send: The request to send, given the messages that were asked and answered in this step so far; with the tool
            bound (`with_retrieval`), and with those messages at its end. What it sends before them must be the same
            each time.
        originals: Where the texts are.
        name: The tool's name in these requests.
        keeps: Whether what was asked becomes part of the thread, as in an agent. A bare model's answer carries it.
        told: Hears of each call: what was sent, and what came of it (`None` if it raised). With `asides.as_loss` a
            call that brought nothing but this can be booked.
        shadow: Whether the answer is to another request, so that nothing in it is answered.
    """

    def one_round(
        asked: list[BaseMessage], left: int
    ) -> Generator[ModelRequest[Any] | Held, ModelResponse[Any], Heard]:
        request = send(asked)
        heard: Heard | None = None
        try:
            response = yield Held(request if left else _without_tool(request, name))
            reply = refusal if left <= REFUSALS_PER_STEP else lambda call: answer(call, originals)
            said = [] if shadow else response.result
            answers = [one for message in said for one in _answers(message, name, reply)]
            heard = Heard(response, response.result, answers)
        finally:
            if told is not None:
                told(request, heard)
        return heard

    return (yield from with_asides(one_round, most=RETRIEVALS_PER_STEP + REFUSALS_PER_STEP, keeps=keeps))


def _answers(message: BaseMessage, name: str, reply: Callable[[Any], ToolMessage]) -> list[ToolMessage]:
    if not isinstance(message, AIMessage):
        return []
    good = [reply(call) for call in message.tool_calls if call["name"] == name]
    return good + [unreadable(call) for call in message.invalid_tool_calls if call["name"] == name]


def _without_tool(request: ModelRequest[Any], name: str) -> ModelRequest[Any]:
    """The request without the tool; the same one where providers would refuse it, and the call is dropped.

    Anthropic takes no calls in a history without any tools, and signed thoughts hold with the same tools only.
    """
    others = [tool for tool in request.tools if _name(tool) != name]
    return request if not others or binds_thoughts(request) else request.override(tools=others)


def _name(tool: Any) -> str | None:
    if isinstance(tool, BaseTool):
        return tool.name
    if not isinstance(tool, Mapping):
        return None
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else None
