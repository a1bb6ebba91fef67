"""Flows made safe: one that fails steps aside, one in shadow only watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain.agents.middleware.types import ExtendedModelResponse, ModelRequest, ModelResponse
from langgraph.errors import GraphBubbleUp

from langchain_tokopt.errors import BudgetExceededError
from langchain_tokopt.later import Later
from langchain_tokopt.steps import (
    Flow,
    FlowFunction,
    Outcome,
    Pause,
    advance,
    is_internal,
    let_it_know,
    request_of,
)

if TYPE_CHECKING:
    from langchain_tokopt.background import Background

_MUST_PASS = (GraphBubbleUp, BudgetExceededError)


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
                    if not isinstance(value, (Later, Pause)) and not is_internal(request_of(value)):
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
                done = done or is_internal(request_of(value))
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
