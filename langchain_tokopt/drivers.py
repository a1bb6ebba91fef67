"""The drivers that run a flow around a handler: the only place in the package where sync and async differ."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING, Any

from langchain.agents.middleware.types import ModelRequest, ModelResponse

from langchain_tokopt.events import request_scope
from langchain_tokopt.later import Later
from langchain_tokopt.steps import (
    BACKGROUND_TAG,
    Flow,
    FlowFunction,
    Outcome,
    Pause,
    advance,
    internal_call,
    let_it_know,
    must_end,
    plain,
    request_of,
    straight,
)
from langchain_tokopt.surroundings import apart_from_the_call, silenced, watching
from langchain_tokopt.threads import in_thread

if TYPE_CHECKING:
    from typing import TypeAlias

Handler: TypeAlias = "Callable[[ModelRequest[Any]], Any]"
AsyncHandler: TypeAlias = "Callable[[ModelRequest[Any]], Awaitable[Any]]"

_NO_PLACE = "nobody makes calls in the background here"


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
                    response = handler(request_of(value))
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
                    response = await handler(request_of(value))
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
        aside.background.start(aside, lambda: plain(drive(aside.through or straight, _beside(aside.request), handler)))


async def aattend(aside: Later | Pause, handler: AsyncHandler) -> None:
    """Begin a call in the background, on this event loop; or wait, and hold no thread meanwhile."""
    if isinstance(aside, Pause):
        until = asyncio.wrap_future(aside.until)
        until.add_done_callback(lambda done: done.cancelled() or done.exception())  # or asyncio reports it as lost
        await asyncio.wait([until], timeout=max(0.0, aside.seconds))
        return

    async def call() -> ModelResponse[Any]:
        return plain(await adrive(aside.through or straight, _beside(aside.request), handler))

    refused = await aside.background.astart(aside, call) if aside.background is not None else _NO_PLACE
    if refused is not None:
        await in_thread(aside.abandon, refused)


def _beside(request: ModelRequest[Any]) -> ModelRequest[Any]:
    """The request as it is sent in the background: an internal one, which no cache of LangChain's may answer."""
    marked = internal_call(silenced(request))
    model = marked.model
    # A handler of the model's own, such as one that prints tokens, shows them to the user like one of the run's.
    alone = {"cache": False, "tags": [*(model.tags or []), BACKGROUND_TAG], "callbacks": watching(model.callbacks)}
    return marked.override(model=model.model_copy(update=alone))


def _suspended(steps: Flow) -> bool:
    return inspect.getgeneratorstate(steps) == inspect.GEN_SUSPENDED
