"""A concern as one generator: what it may yield, how several run around each other, and how one step is made.

A flow receives the request, may change it (`request.override(...)`), yields it inwards, gets the response back and
returns a response. The idea is that of httpx's `Auth.auth_flow`: the logic is written once and knows neither sync
nor async.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from langchain.agents.middleware.internal_call_transformer import internal_call_metadata
from langchain.agents.middleware.types import ExtendedModelResponse, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage
from langgraph.errors import GraphBubbleUp

from langchain_tokopt.later import Later

if TYPE_CHECKING:
    from typing import TypeAlias

log = logging.getLogger("langchain_tokopt")

Flow: TypeAlias = (
    "Generator[ModelRequest[Any] | Held | Later | Pause, ModelResponse[Any],"
    " ModelResponse[Any] | ExtendedModelResponse[Any]]"
)
FlowFunction: TypeAlias = "Callable[[ModelRequest[Any]], Flow]"
Outcome: TypeAlias = "ModelResponse[Any] | ExtendedModelResponse[Any]"

INTERNAL_TAG = "tokopt:internal"
BACKGROUND_TAG = "tokopt:background"


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait for something that happens elsewhere. A flow yields it and is resumed, with `None`, when it may go on.

    A flow must not wait by itself: on an event loop its steps run in the few worker threads that all share, and those
    it waits for may need one. A sync caller waits in its own thread, an async one on its event loop. In shadow nobody
    waits.

    Attributes:
        until: Ends the wait when it is done; its result or error is not looked at.
        seconds: Ends the wait in any case.
    """

    until: Future[Any]
    seconds: float


@dataclass(frozen=True, slots=True)
class Held:
    """A request whose answer is not final yet: the flow may change its tool calls, or drop them and call again.

    A flow yields it in the place of the request. Where the answer is streamed, text goes out as it comes, and the tool
    calls wait: they go out when the flow returns, as they are in what it returns, and never if it calls again. Anywhere
    else it is the request.
    """

    request: ModelRequest[Any]


def request_of(value: ModelRequest[Any] | Held) -> ModelRequest[Any]:
    """The request that a flow yielded, held or not."""
    return value.request if isinstance(value, Held) else value


def internal_call(request: ModelRequest[Any]) -> ModelRequest[Any]:
    """The request marked as a call of the optimiser's own: kept out of the user's token stream, counted as overhead.

    A middleware that makes such calls also declares `transformers = (InternalCallTransformer,)`, which keeps them out
    of LangChain's event stream.
    """
    model = request.model
    marked = model.model_copy(
        update={
            "tags": [*(model.tags or []), "nostream", INTERNAL_TAG],
            "metadata": {**(model.metadata or {}), **internal_call_metadata()},
        }
    )
    return request.override(model=marked)


def is_internal(request: ModelRequest[Any]) -> bool:
    """Whether the request was marked by `internal_call`."""
    return INTERNAL_TAG in (getattr(request.model, "tags", None) or ())


def is_background(request: ModelRequest[Any]) -> bool:
    """Whether the request is made beside the user's answer (`Later`): nobody sees what is said instead of an answer."""
    return BACKGROUND_TAG in (getattr(request.model, "tags", None) or ())


class StreamClosed(BaseException):
    """Thrown into a flow when the consumer closed the stream.

    Python's own `GeneratorExit` would not do: a generator that delegates to another closes it with a new one, and what
    was streamed before (`partial_answer`) would be lost on the way in.
    """


def partial_answer(error: BaseException) -> AIMessage | None:
    """What a model had streamed before `error` ended the call, as far as the driver saw it."""
    return getattr(error, "tokopt_partial", None)


# --- composing -------------------------------------------------------------------------------------------------------


def compose(*flows: FlowFunction) -> FlowFunction:
    """One flow that runs `flows` around each other, the first outermost; without any, the request goes straight in.

    The command of an inner flow's `ExtendedModelResponse` is dropped: a composed flow has no graph to apply it to.
    """
    if not flows:
        return straight
    return functools.reduce(lambda inner, outer: _around(outer, inner), reversed(flows))


def straight(request: ModelRequest[Any]) -> Flow:
    """The flow that does nothing."""
    return (yield request)


def _around(outer: FlowFunction, inner: FlowFunction) -> FlowFunction:
    def flow(request: ModelRequest[Any]) -> Flow:
        steps = outer(request)
        try:
            done, value = advance(steps)
            outcome: Outcome
            while not done:
                try:
                    if isinstance(value, Later):
                        through = inner if value.through is None else _around(value.through, inner)
                        response = yield replace(value, through=through)
                    elif isinstance(value, Pause):
                        response = yield value
                    else:
                        outcome = yield from _through(inner, value)
                        response = plain(outcome)
                except GeneratorExit:
                    raise
                except BaseException as error:
                    done, value = advance(steps, error=error)
                else:
                    done, value = advance(steps, response=response)
            outcome = value
            return outcome
        finally:
            steps.close()

    return flow


def _through(inner: FlowFunction, value: ModelRequest[Any] | Held) -> Flow:
    """The inner flow for what the outer one yielded: what it makes of a held request stays held."""
    if not isinstance(value, Held):
        return inner(value)
    return inner(value.request) if inner is _held else _around(inner, _held)(value.request)


def _held(request: ModelRequest[Any]) -> Flow:
    return (yield Held(request))


def plain(outcome: Any) -> ModelResponse[Any]:
    """The `ModelResponse` inside whatever a handler or a flow gave back."""
    if isinstance(outcome, ExtendedModelResponse):
        return outcome.model_response
    if isinstance(outcome, AIMessage):
        return ModelResponse(result=[outcome])
    response: ModelResponse[Any] = outcome
    return response


def advance(steps: Flow, response: Any = None, error: BaseException | None = None) -> tuple[bool, Any]:
    """One step of a flow: `(False, what it yields)`, or `(True, response)` when it returns."""
    try:
        if error is not None:
            return False, steps.throw(error)
        return False, steps.send(response)
    except StopIteration as done:
        return True, done.value


def let_it_know(steps: Flow, error: BaseException) -> None:
    """Throw `error` into the flow so that it can clean up; whatever it makes of it is dropped."""
    try:
        advance(steps, error=error)
    except BaseException as other:
        if other is not error:
            log.debug("a flow raised %r while cleaning up after %r", other, error)


def must_end(error: BaseException) -> bool:
    """Whether no flow may turn this error into an answer: interrupts, cancellation, the end of the process."""
    return isinstance(error, GraphBubbleUp) or not isinstance(error, Exception)
