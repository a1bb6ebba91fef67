"""A concern as one generator, and the two drivers that run it.

A flow receives the request, may change it (`request.override(...)`), yields it inwards, gets the response back and
returns a response. The idea is that of httpx's `Auth.auth_flow`: the logic is written once and knows neither sync
nor async. The drivers here are the only place in the package where the two differ.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from langchain.agents.middleware.internal_call_transformer import internal_call_metadata
from langchain.agents.middleware.types import (
    AgentMiddleware,
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
)
from langchain_core.messages import AIMessage
from langgraph.errors import GraphBubbleUp

from langchain_tokopt.background import Background
from langchain_tokopt.background import Later as Later
from langchain_tokopt.errors import BudgetExceededError, ConfigurationError
from langchain_tokopt.events import Failure, Mode, NullSink, ShadowSink, Sink, request_scope
from langchain_tokopt.surroundings import apart_from_the_call, silenced
from langchain_tokopt.threads import in_thread as in_thread

if TYPE_CHECKING:
    from typing import TypeAlias


log = logging.getLogger("langchain_tokopt")

Flow: TypeAlias = (
    "Generator[ModelRequest[Any] | Later | Pause, ModelResponse[Any], ModelResponse[Any] | ExtendedModelResponse[Any]]"
)
FlowFunction: TypeAlias = "Callable[[ModelRequest[Any]], Flow]"
Outcome: TypeAlias = "ModelResponse[Any] | ExtendedModelResponse[Any]"

Handler: TypeAlias = "Callable[[ModelRequest[Any]], Any]"
AsyncHandler: TypeAlias = "Callable[[ModelRequest[Any]], Awaitable[Any]]"

INTERNAL_TAG = "tokopt:internal"
BACKGROUND_TAG = "tokopt:background"

_NO_PLACE = "nobody makes calls in the background here"
_MUST_PASS = (GraphBubbleUp, BudgetExceededError)


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
        return _straight
    return functools.reduce(lambda inner, outer: _around(outer, inner), reversed(flows))


def _straight(request: ModelRequest[Any]) -> Flow:
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
                        outcome = yield from inner(value)
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


def plain(outcome: Any) -> ModelResponse[Any]:
    """The `ModelResponse` inside whatever a handler or a flow gave back."""
    if isinstance(outcome, ExtendedModelResponse):
        return outcome.model_response
    if isinstance(outcome, AIMessage):
        return ModelResponse(result=[outcome])
    response: ModelResponse[Any] = outcome
    return response


def advance(steps: Flow, response: Any = None, error: BaseException | None = None) -> tuple[bool, Any]:
    """One step of a flow: `(False, request, Later or Pause)` when it yields, `(True, response)` when it returns."""
    try:
        if error is not None:
            return False, steps.throw(error)
        return False, steps.send(response)
    except StopIteration as done:
        return True, done.value


# --- safety ----------------------------------------------------------------------------------------------------------


def guarded(
    flow: FlowFunction,
    *,
    part: str,
    failed: Callable[[str, BaseException, str], None],
    background: Callable[[], Background] | None = None,
) -> FlowFunction:
    """The flow, stepping aside when it fails: the call goes on as if it were not there.

    The handler's own errors pass through untouched, and so do `GraphBubbleUp` and `BudgetExceededError`. `failed` is
    called with the part's name, the error and the stage ("request", "response" or "background"). `background` is where
    the flow's calls in the background are made; without it they are not.
    """

    def flow_or_aside(request: ModelRequest[Any]) -> Flow:
        steps = flow(request)
        answer: Any = None
        raised: BaseException | None = None
        stage = "request"
        send: dict[str, Any] = {}
        try:
            while True:
                try:
                    done, value = advance(steps, **send)
                    if done and not isinstance(value, (ModelResponse, ExtendedModelResponse)):
                        msg = f"the flow returned {type(value).__name__}, not a ModelResponse"
                        raise TypeError(msg)
                except _MUST_PASS:
                    raise
                except Exception as error:
                    if error is raised:
                        raise
                    failed(part, error, stage)
                    if raised is not None:
                        raise raised from None
                    return answer if answer is not None else (yield request)
                if done:
                    outcome: Outcome = value
                    return outcome
                if isinstance(value, Later):
                    value = _placed(value, part, failed, background)
                try:
                    response = yield value
                except GeneratorExit:
                    raise
                except BaseException as error:
                    raised, send = error, {"error": error}
                else:
                    raised, send = None, {"response": response}
                    if not isinstance(value, (Later, Pause)) and not is_internal(value):
                        answer = response
                        stage = "response"
        finally:
            steps.close()

    return flow_or_aside


def shadowed(flow: FlowFunction, *, part: str, failed: Callable[[str, BaseException, str], None]) -> FlowFunction:
    """The flow, watching only: it sees the request and the response, and neither is changed.

    What it would have sent is dropped, an answer of its own is not served, and a further call that it asks for, now or
    in the background, is not made.
    """

    def flow_in_shadow(request: ModelRequest[Any]) -> Flow:
        steps = flow(request)
        try:
            done = True
            try:
                done, value = _past_asides(steps, *advance(steps))
                done = done or is_internal(value)
            except GraphBubbleUp:
                raise
            except BudgetExceededError:
                pass  # the refusal is on record; in shadow nothing is refused
            except Exception as error:
                failed(part, error, "request")
            try:
                response = yield request
            except GeneratorExit:
                raise
            except BaseException as error:
                if not done:
                    let_it_know(steps, error)
                raise
            if not done:
                try:
                    _past_asides(steps, *advance(steps, response=response))
                except Exception as error:
                    failed(part, error, "response")
            return response
        finally:
            steps.close()

    return flow_in_shadow


def _placed(
    later: Later,
    part: str,
    failed: Callable[[str, BaseException, str], None],
    background: Callable[[], Background] | None,
) -> Later:
    """The call with the place where it is made and whom to tell of errors, unless it has both."""
    if later.background is not None or background is None:
        return later
    return replace(later, background=background(), failed=lambda error: failed(part, error, "background"))


def _past_asides(steps: Flow, done: bool, value: Any) -> tuple[bool, Any]:
    """The flow's first step from here on that is a request or the end: no calls in the background, and no waiting."""
    while not done and isinstance(value, (Later, Pause)):
        if isinstance(value, Later):
            value.abandon("in shadow no further call is made")
        done, value = advance(steps)
    return done, value


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


# --- drivers ---------------------------------------------------------------------------------------------------------


def drive(
    flow: FlowFunction, request: ModelRequest[Any], handler: Handler, *, beside: Handler | None = None
) -> Outcome:
    """Run a flow around a sync `handler` and give back what it returns.

    Calls in the background are made by `beside`; by default by a `handler` that shares no state with the user's call.
    """
    with request_scope():
        steps = flow(request)
        try:
            done, value = advance(steps)
            while not done:
                if isinstance(value, (Later, Pause)):
                    attend(value, beside or apart_from_the_call(handler))
                    done, value = advance(steps)
                    continue
                try:
                    response = handler(value)
                except BaseException as error:
                    if must_end(error):
                        let_it_know(steps, error)
                        raise
                    done, value = advance(steps, error=error)
                else:
                    done, value = advance(steps, response=plain(response))
            outcome: Outcome = value
            return outcome
        finally:
            steps.close()


async def adrive(
    flow: FlowFunction, request: ModelRequest[Any], handler: AsyncHandler, *, beside: AsyncHandler | None = None
) -> Outcome:
    """`drive` around an async `handler`; each step runs in a worker thread, so the event loop is never blocked."""
    with request_scope():
        steps = flow(request)
        try:
            done, value = await in_thread(advance, steps)
            while not done:
                if isinstance(value, (Later, Pause)):
                    await aattend(value, beside or apart_from_the_call(handler))
                    done, value = await in_thread(advance, steps)
                    continue
                try:
                    response = await handler(value)
                except GeneratorExit as error:  # the event loop is gone: nothing can be awaited any more
                    let_it_know(steps, error)
                    raise
                except BaseException as error:
                    if must_end(error):
                        await in_thread(let_it_know, steps, error)
                        raise
                    done, value = await in_thread(advance, steps, None, error)
                else:
                    done, value = await in_thread(advance, steps, plain(response))
            outcome: Outcome = value
            return outcome
        except asyncio.CancelledError as error:
            if _suspended(steps):
                await in_thread(let_it_know, steps, error)
            raise
        finally:
            if _suspended(steps):
                await in_thread(steps.close)


def attend(aside: Later | Pause, handler: Handler) -> None:
    """Begin a call in the background, in a thread of its own; or wait."""
    if isinstance(aside, Pause):
        wait_for([aside.until], timeout=max(0.0, aside.seconds))
    elif aside.background is None:
        aside.abandon(_NO_PLACE)
    else:
        aside.background.start(aside, lambda: plain(drive(aside.through or _straight, _beside(aside.request), handler)))


async def aattend(aside: Later | Pause, handler: AsyncHandler) -> None:
    """Begin a call in the background, on this event loop; or wait, and hold no thread meanwhile."""
    if isinstance(aside, Pause):
        until = asyncio.wrap_future(aside.until)
        until.add_done_callback(lambda done: done.cancelled() or done.exception())  # or asyncio reports it as lost
        await asyncio.wait([until], timeout=max(0.0, aside.seconds))
        return

    async def call() -> ModelResponse[Any]:
        return plain(await adrive(aside.through or _straight, _beside(aside.request), handler))

    refused = await aside.background.astart(aside, call) if aside.background is not None else _NO_PLACE
    if refused is not None:
        await in_thread(aside.abandon, refused)


def _beside(request: ModelRequest[Any]) -> ModelRequest[Any]:
    """The request as it is sent in the background: an internal one, which no cache of LangChain's may answer."""
    marked = internal_call(silenced(request))
    tags = [*(marked.model.tags or []), BACKGROUND_TAG]
    return marked.override(model=marked.model.model_copy(update={"cache": False, "tags": tags}))


def _suspended(steps: Flow) -> bool:
    return inspect.getgeneratorstate(steps) == inspect.GEN_SUSPENDED


def _always() -> bool:
    return True


# --- middleware ------------------------------------------------------------------------------------------------------


class FlowMiddleware(AgentMiddleware[Any, Any, Any]):
    """An `AgentMiddleware` whose model hook is one flow, for sync and async agents alike.

    Subclasses set `part` and define `flow`. One instance serves many threads at once: nothing of a single run may be
    kept on `self`.

    Args:
        sink: Who is told what happened; nobody by default.
        mode: "optimize", or "shadow" to compute and record without changing anything.
        name: The middleware's name in the graph; two instances in one agent need different names.
    """

    part: ClassVar[str]

    def __init__(self, *, sink: Sink | None = None, mode: Mode = "optimize", name: str | None = None) -> None:
        super().__init__()
        if mode not in ("optimize", "shadow"):
            raise ConfigurationError("mode", mode, 'use "optimize" or "shadow"')
        self.mode: Mode = mode
        self.sink: Sink = ShadowSink(sink or NullSink()) if mode == "shadow" else sink or NullSink()
        self.tools = []
        self._name = name
        self._failures_logged: set[str] = set()
        self.background = Background()
        if mode == "shadow":
            self._safe_flow = shadowed(self.flow, part=self.part, failed=self.failed)
        else:
            place = self._background
            self._safe_flow = guarded(self.flow, part=self.part, failed=self.failed, background=place)
        self.allowed: Callable[[], bool] = _always
        self.owner: str | None = None

    @property
    def name(self) -> str:
        return self._name or type(self).__name__

    def _background(self) -> Background:
        return self.background

    def rename(self, name: str) -> None:
        """Give the middleware another name, before it is handed to an agent."""
        self._name = name

    def run_flow(self, request: ModelRequest[Any]) -> Flow:
        """The flow as the drivers run it: made safe, and passed by while it is not `allowed`.

        A model that was wrapped by the same optimiser carries the flows itself: they are not run twice.
        """
        # Read from `__dict__`, where a pydantic model keeps its fields: a failing `getattr` on one takes microseconds.
        carried = self.owner is not None and getattr(request.model, "__dict__", {}).get("tokopt_owner") == self.owner
        return _straight(request) if carried or not self.allowed() else self._safe_flow(request)

    @abstractmethod
    def flow(self, request: ModelRequest[Any]) -> Flow:
        """The concern itself: yield requests inwards, return the response.

        It may also yield a `Later`, a call in the background that is made in `self.background`, and a `Pause`.
        """

    def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Any]) -> Any:
        return drive(self.run_flow, request, handler)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[Any]]
    ) -> Any:
        return await adrive(self.run_flow, request, handler)

    def failed(self, part: str, error: BaseException, stage: str) -> None:
        """Log each kind of failure once and put every one on record."""
        kind = f"{stage}:{type(error).__name__}"
        if kind not in self._failures_logged:
            self._failures_logged.add(kind)
            log.warning(
                "%s stepped aside (%s): %s: %s; the agent goes on without it", part, stage, type(error).__name__, error
            )
        where: Literal["request", "response", "background"] = "request"
        if stage in ("response", "background"):
            where = cast('Literal["response", "background"]', stage)
        self.sink.emit(Failure(part=part, error=f"{type(error).__name__}: {error}", stage=where))
