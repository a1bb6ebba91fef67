"""What a model call finds around it, made fit for a call that goes on when the run it came from has ended."""

from __future__ import annotations

import contextvars
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from langchain_tokopt.caller import active_config, forget_config, forget_run

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest
    from langchain_core.runnables import RunnableConfig
    from langgraph.runtime import Runtime

_F = TypeVar("_F", bound=Callable[..., Any])

_CHAIN = "langchain.agents.factory"
_GRAPH = "__pregel_"
_RUNTIME = "__pregel_runtime"
_CHECKPOINT = ("checkpoint_ns", "checkpoint_map", "checkpoint_id")


def beside_the_run() -> contextvars.Context:
    """A copy of the current context in which a call belongs to the same caller and to no run any more.

    The RunnableConfig keeps tags, metadata and the caller's own `configurable`, and loses what ties it to the run: its
    callbacks, its streams, its checkpointer. Handlers that a context manager has set (`get_usage_metadata_callback()`
    and the like) are gone, too. A callback handler with a true attribute `sees_background_calls` stays.
    """
    context = contextvars.copy_context()
    context.run(_leave_run)
    return context


def _leave_run() -> None:
    from langchain_core.runnables.config import var_child_runnable_config
    from langchain_core.tracers import context as tracers
    from langsmith import run_helpers

    config = active_config()
    if config is not None:
        var_child_runnable_config.set(apart(config))
        forget_config()
    forget_run()
    for hook in getattr(tracers, "_configure_hooks", ()):
        hook[0].set(None)
    tracers.tracing_v2_callback_var.set(None)
    # A LangSmith trace of its own, in the same project. Set for good, since nobody else has this context: a context
    # manager would have to be left in the context that it was entered in, and a closed event loop cannot do that.
    traced = run_helpers.get_tracing_context()
    run_helpers._set_tracing_context({**traced, "parent": None, "distributed_parent_id": None})  # noqa: SLF001


def apart(config: RunnableConfig) -> RunnableConfig:
    """The config without what ties it to a run; for whom the call is stays readable."""
    given = config.get("configurable") or {}
    kept = {key: value for key, value in given.items() if not key.startswith(_GRAPH) and key not in _CHECKPOINT}
    if _RUNTIME in given:
        kept[_RUNTIME] = silent(given[_RUNTIME])
    if config.get("run_id") is not None:
        kept.setdefault("run_id", str(config["run_id"]))  # named, but not taken: a second run has an id of its own
    rest = {key: value for key, value in config.items() if key not in ("callbacks", "run_id", "run_name")}
    return cast("RunnableConfig", {**rest, "configurable": kept, "callbacks": watching(config.get("callbacks"))})


def watching(callbacks: Any) -> list[Any] | None:
    """The handlers that are to be told of calls in the background, `None` if there are none."""
    handlers = callbacks if isinstance(callbacks, list) else getattr(callbacks, "inheritable_handlers", ())
    return [handler for handler in handlers if getattr(handler, "sees_background_calls", False)] or None


def silent(runtime: Runtime[Any]) -> Runtime[Any]:
    """LangGraph's runtime, whose writer and heartbeat reach nobody."""
    return runtime.override(stream_writer=_ignore, heartbeat=_ignore)


def silenced(request: ModelRequest[Any]) -> ModelRequest[Any]:
    """The request, with a runtime that does not write into the run's stream."""
    if request.runtime is None or not hasattr(request.runtime, "override"):
        return request
    changed: dict[str, Any] = {"runtime": silent(request.runtime)}
    return request.override(**changed)


def _ignore(*_: object) -> None:
    return None


def apart_from_the_call(handler: _F) -> _F:
    """The handler that LangChain gave to a middleware, with copies of the lists that it has closed over; or any other.

    LangChain's chain of middleware collects the commands of a call in such a list, and empties it when its handler is
    called again: a call in the background would take the commands of the user's call, or add its own to them.
    """
    if not isinstance(handler, types.FunctionType) or handler.__module__ != _CHAIN:
        return handler
    cells = tuple(_own(cell) for cell in handler.__closure__ or ())
    copy = types.FunctionType(handler.__code__, handler.__globals__, handler.__name__, handler.__defaults__, cells)
    copy.__kwdefaults__ = handler.__kwdefaults__
    return cast("_F", copy)


def _own(cell: types.CellType) -> types.CellType:
    try:
        value = cell.cell_contents
    except ValueError:  # not bound yet
        return cell
    return types.CellType(list(value)) if type(value) is list else cell
