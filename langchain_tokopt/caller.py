"""Who is calling: read from the RunnableConfig and the runtime of the call that is running."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_tokopt.events import Who, lookup, who

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest
    from langchain_core.runnables import RunnableConfig


@dataclass(frozen=True, slots=True)
class ModelRun:
    """A run of a model, with the callback handlers that are told of it as far as they are known."""

    id: UUID
    handlers: tuple[Any, ...] = ()


_wrapped_config: contextvars.ContextVar[Any] = contextvars.ContextVar("tokopt_config", default=None)
_model_run: contextvars.ContextVar[ModelRun | None] = contextvars.ContextVar("tokopt_model_run", default=None)


@contextmanager
def using_config(config: RunnableConfig, run: ModelRun | None = None) -> Iterator[None]:
    """Inside, `active_config()` is `config`: for a model that is called without a graph or a chain around it.

    And `active_run()` is `run`: that of a wrapped model, if there is one.
    """
    token = _wrapped_config.set(config)
    try:
        with using_run(run):
            yield
    finally:
        _wrapped_config.reset(token)


@contextmanager
def using_run(run: ModelRun | None) -> Iterator[None]:
    """Inside, `active_run()` is `run`: for a model whose flows run within its own run."""
    token = _model_run.set(run)
    try:
        yield
    finally:
        _model_run.reset(token)


def active_run() -> ModelRun | None:
    """The run of the wrapped model that the flows run in; `None` in an agent's middleware."""
    return _model_run.get()


def handlers_of(callbacks: Any) -> tuple[Any, ...]:
    """The handlers in what a config or a model has as `callbacks`: a list, a manager, or nothing."""
    return tuple(callbacks if isinstance(callbacks, list) else getattr(callbacks, "handlers", ()))


def forget_run() -> None:
    """For the rest of this context there is no `active_run()`."""
    _model_run.set(None)


def forget_config() -> None:
    """For the rest of this context, `active_config()` is the config of the graph or the chain."""
    _wrapped_config.set(None)


def active_config() -> Any:
    """The RunnableConfig of the call that is running, or `None` outside of one."""
    config = _wrapped_config.get()
    if config is not None:
        return config
    from langchain_core.runnables.config import var_child_runnable_config

    return var_child_runnable_config.get()


def call_who(request: ModelRequest[Any]) -> Who:
    """Whom a request belongs to, from the runtime and the RunnableConfig that is active here."""
    found = who(config=active_config(), context=getattr(request.runtime, "context", None))
    info = getattr(request.runtime, "execution_info", None)
    if info is None or (found.thread and found.run):
        return found
    return replace(found, thread=found.thread or info.thread_id, run=found.run or info.run_id)


def call_value(request: ModelRequest[Any], *keys: str) -> str | None:
    """What the caller says under one of these keys: in the runtime context, `configurable` or `metadata`."""
    return next((value for source in call_sources(request) if (value := lookup(source, keys)) is not None), None)


def call_sources(request: ModelRequest[Any]) -> list[Any]:
    """Where a caller may say something: the runtime context, `configurable` and `metadata`, those that there are."""
    config = active_config() or {}
    places = (getattr(request.runtime, "context", None), config.get("configurable"), config.get("metadata"))
    return [place for place in places if place is not None]


def caller_is_known(request: ModelRequest[Any]) -> bool:
    """Whether `call_who` could look where callers are named.

    Before Python 3.11, LangGraph hands no config to async nodes: then nobody can tell one user from another.
    """
    return request.runtime is None or active_config() is not None
