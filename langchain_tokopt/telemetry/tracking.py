"""`tokopt_usage`: what the model calls inside a `with` block used and cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from langchain_tokopt.events import Sink
from langchain_tokopt.pricing import Pricing
from langchain_tokopt.telemetry.callback import UsageCallback
from langchain_tokopt.tokens import TokenCounter

_current: ContextVar[Any] = ContextVar("tokopt_usage", default=None)


@cache
def _hooked() -> None:
    """LangChain gives the handler that the variable holds to every run; registered once, since it keeps all hooks."""
    from langchain_core.tracers.context import register_configure_hook

    register_configure_hook(_current, inheritable=True)


@contextmanager
def tokopt_usage(
    *,
    sink: Sink | None = None,
    pricing: Pricing | None = None,
    counter: TokenCounter | None = None,
    follow_runs: bool = False,
) -> Iterator[UsageCallback]:
    """A `UsageCallback` that sees every model call that is made inside the block, with nothing passed to any of them.

    As LangChain's `get_usage_metadata_callback`, with cost, failures, and estimates where a provider says nothing. It
    sees what runs in this context: tasks, LangChain's own threads (`batch`, parallel branches), tools and their agents,
    but no thread that you start without the context. Blocks may be nested: the outer one counts the inner one's, too.

    Args:
        sink: Who is told of each call, beside the totals.
        pricing: What calls cost.
        counter: Counts what a provider does not report.
        follow_runs: Whether `by("run")` is to know the run of the whole chain or graph of each call.
    """
    _hooked()
    outer = _current.get()
    callback = UsageCallback(sink=sink, pricing=pricing, counter=counter, follow_runs=follow_runs).within(outer)
    token = _current.set(callback)
    try:
        yield callback
    finally:
        _current.reset(token)
