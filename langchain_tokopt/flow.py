"""A concern as one generator, and the two drivers that run it.

A flow receives the request, may change it (`request.override(...)`), yields it inwards, gets the response back and
returns a response. The idea is that of httpx's `Auth.auth_flow`: the logic is written once and knows neither sync
nor async. The drivers here are the only place in the package where the two differ.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from langchain.agents.middleware.internal_call_transformer import internal_call_metadata
from langchain.agents.middleware.types import (
    AgentMiddleware,
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
)
from langchain_core.messages import AIMessage
from langgraph.errors import GraphBubbleUp

from langchain_tokopt.errors import BudgetExceededError, ConfigurationError
from langchain_tokopt.events import Failure, Mode, NullSink, ShadowSink, Sink, request_scope

if TYPE_CHECKING:
    from typing import TypeAlias


log = logging.getLogger("langchain_tokopt")

Flow: TypeAlias = "Generator[ModelRequest[Any], ModelResponse[Any], ModelResponse[Any] | ExtendedModelResponse[Any]]"
FlowFunction: TypeAlias = "Callable[[ModelRequest[Any]], Flow]"
Outcome: TypeAlias = "ModelResponse[Any] | ExtendedModelResponse[Any]"

INTERNAL_TAG = "tokopt:internal"

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
                    outcome = yield from inner(value)
                except GeneratorExit:
                    raise
                except BaseException as error:
                    done, value = advance(steps, error=error)
                else:
                    done, value = advance(steps, response=plain(outcome))
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
    """One step of a flow: `(False, request)` when it yields, `(True, response)` when it returns."""
    try:
        if error is not None:
            return False, steps.throw(error)
        return False, steps.send(response)
    except StopIteration as done:
        return True, done.value


# --- safety ----------------------------------------------------------------------------------------------------------


def guarded(flow: FlowFunction, *, part: str, failed: Callable[[str, BaseException, str], None]) -> FlowFunction:
    """The flow, stepping aside when it fails: the call goes on as if it were not there.

    The handler's own errors pass through untouched, and so do `GraphBubbleUp` and `BudgetExceededError`. `failed` is
    called with the part's name, the error and the stage ("request" or "response").
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
                try:
                    response = yield value
                except GeneratorExit:
                    raise
                except BaseException as error:
                    raised, send = error, {"error": error}
                else:
                    raised, send = None, {"response": response}
                    if not is_internal(value):
                        answer = response
                        stage = "response"
        finally:
            steps.close()

    return flow_or_aside


def shadowed(flow: FlowFunction, *, part: str, failed: Callable[[str, BaseException, str], None]) -> FlowFunction:
    """The flow, watching only: it sees the request and the response, and neither is changed.

    What it would have sent is dropped, an answer of its own is not served, and a further call that it asks for is not
    made.
    """

    def flow_in_shadow(request: ModelRequest[Any]) -> Flow:
        steps = flow(request)
        try:
            done = True
            try:
                done, value = advance(steps)
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
                    advance(steps, response=response)
                except Exception as error:
                    failed(part, error, "response")
            return response
        finally:
            steps.close()

    return flow_in_shadow


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


def drive(flow: FlowFunction, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Any]) -> Outcome:
    """Run a flow around a sync `handler` and give back what it returns."""
    with request_scope():
        steps = flow(request)
        try:
            done, value = advance(steps)
            while not done:
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
    flow: FlowFunction, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[Any]]
) -> Outcome:
    """Run a flow around an async `handler`; each step runs in a worker thread, so the event loop is never blocked."""
    with request_scope():
        steps = flow(request)
        try:
            done, value = await in_thread(advance, steps)
            while not done:
                try:
                    response = await handler(value)
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


def _suspended(steps: Flow) -> bool:
    return inspect.getgeneratorstate(steps) == inspect.GEN_SUSPENDED


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call `function` in a worker thread with this task's context; on cancellation wait for it to end first.

    A generator cannot be closed while a thread is inside it, so a cancelled step is waited for before the
    cancellation goes on.
    """
    context = contextvars.copy_context()
    future = asyncio.get_running_loop().run_in_executor(None, functools.partial(context.run, function, *args))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue
        future.exception()  # retrieved, so that it is not reported as lost
        raise


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
        wrapper = shadowed if mode == "shadow" else guarded
        self._safe_flow: FlowFunction = wrapper(self.flow, part=self.part, failed=self.failed)
        self.allowed: Callable[[], bool] = _always
        self.owner: str | None = None

    @property
    def name(self) -> str:
        return self._name or type(self).__name__

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
        """The concern itself: yield requests inwards, return the response."""

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
        where: Literal["request", "response"] = "response" if stage == "response" else "request"
        self.sink.emit(Failure(part=part, error=f"{type(error).__name__}: {error}", stage=where))
