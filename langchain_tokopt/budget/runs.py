"""Which run a call belongs to: one invocation of an agent, with all that its tools call in turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Annotated, Any

from langchain.agents.middleware.types import AgentState, PrivateStateAttr
from langgraph.channels.untracked_value import UntrackedValue
from typing_extensions import NotRequired

from langchain_tokopt.caller import call_who

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest
    from langgraph.prebuilt.tool_node import ToolCallRequest

RUN_KEY = "tokopt_run"

_outer: ContextVar[str | None] = ContextVar("tokopt_outer_run", default=None)


class RunState(AgentState[Any]):
    """Tells the runs of one thread apart: like LangChain's own `run_limit`, a run is one invocation."""

    tokopt_run: NotRequired[Annotated[str, UntrackedValue(str, guard=False), PrivateStateAttr]]


def run_of(request: ModelRequest[Any]) -> str | None:
    """The run that the call belongs to; `None` where nothing is known.

    Inside a tool it is the run of the agent that called the tool. Unless it was named, a run is known by its first
    model call. One that is tried again keeps its task id, so that all attempts count together.
    """
    found = _outer.get() or named_run(request) or request.state.get(RUN_KEY) or execution(request, "task_id")
    return None if found is None else str(found)


def named_run(request: ModelRequest[Any]) -> str | None:
    """The id that the caller gave to the run."""
    return call_who(request).run or execution(request, "run_id")


def named_thread(request: ModelRequest[Any]) -> str | None:
    """The id that the caller gave to the thread. Without a thread, a run is a thread of its own."""
    return call_who(request).thread or execution(request, "thread_id")


@contextmanager
def calling_tool(request: ToolCallRequest) -> Iterator[None]:
    """Inside, the models that are called belong to the run of the agent that calls the tool."""
    state = request.state
    run = _outer.get() or (state.get(RUN_KEY) if isinstance(state, dict) else None)
    token = _outer.set(None if run is None else str(run))
    try:
        yield
    finally:
        _outer.reset(token)


def execution(request: ModelRequest[Any], name: str) -> str | None:
    """A field of LangGraph's execution info, which is there inside a graph only."""
    return getattr(getattr(request.runtime, "execution_info", None), name, None)
