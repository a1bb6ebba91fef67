"""`RunMetadata`: what each part did, in the metadata of the runs that LangSmith, Langfuse and other tracers keep."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from langchain_core.language_models import BaseChatModel

from langchain_tokopt.caller import active_config, active_run, handlers_of
from langchain_tokopt.events import Event, request_scope
from langchain_tokopt.telemetry.tally import Attributes, Tally

if TYPE_CHECKING:
    from uuid import UUID

    from langchain.agents.middleware.types import ModelRequest

log = logging.getLogger("langchain_tokopt")

_MAX_KEPT: Final = 4096

# They pass on what happens and keep no runs.
_NO_TRACERS: Final = (
    "langchain_tokopt.",
    "langgraph.",
    "langchain_core.tracers.event_stream",
    "langchain_core.tracers.log_stream",
    "langchain_core.callbacks.",
)


class RunMetadata:
    """A sink that writes what happens into the metadata of the runs around it, for whoever traces them.

    It sends nothing: it acts only where a tracer is among the callbacks, because tracing is on or because you passed
    one. Keys begin with `tokopt_`; numbers are sums over what happened in a run, texts are those of the last time.

    - The run of a model in an agent gets what parts did *before* the call, as the metadata of the model that is called
      (`noted`), which every callback handler is given when the run begins. The run of the agent's step around it gets
      everything, costs and settlements too, while it is open, where its tracer is one of LangChain's
      (`BaseTracer`, such as `LangChainTracer`): LangChain has no way to tell other handlers of anything later.
    - The run of a wrapped model is open while its parts work, so it gets everything in the second way.

    A hit of the cache in an agent has no run of a model: it is on the run of the step.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: OrderedDict[str, Tally] = OrderedDict()
        self._runs: OrderedDict[str, Tally] = OrderedDict()
        self._failed = False

    def emit(self, event: Event) -> None:
        """Write an event into the runs around it; never raises."""
        try:
            run_id, handlers = _around()
            if not handlers:
                return
            if event.request is not None and active_run() is None:
                self._added(self._requests, event.request, event)
            runs = _open_runs(run_id, handlers)
            changed = self._added(self._runs, str(run_id), event) if runs else {}
            for run in runs:
                # Never in place: the dict may be that of the caller's config, or of other runs.
                run.extra["metadata"] = {**(run.extra.get("metadata") or {}), **_keys(changed)}
        except Exception as error:
            if not self._failed:
                self._failed = True
                log.warning("a run's metadata could not be written: %s: %s", type(error).__name__, error)

    def noted(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        """The request with what parts did to it so far in its model's metadata; as it is where nobody traces it."""
        model = request.model
        if active_run() is not None or not isinstance(model, BaseChatModel):
            return request
        if not _around()[1] and not _tracers(handlers_of(model.callbacks)):
            return request
        with request_scope() as scope, self._lock:
            tally = self._requests.get(scope)
            known = dict(tally.attributes) if tally is not None else {}
        if not known:
            return request
        metadata = {**(model.metadata or {}), **_keys(known)}
        return request.override(model=model.model_copy(update={"metadata": metadata}))

    def _added(self, tallies: OrderedDict[str, Tally], key: str, event: Event) -> Attributes:
        with self._lock:
            changed = tallies.setdefault(key, Tally()).add(event)
            tallies.move_to_end(key)
            while len(tallies) > _MAX_KEPT:
                tallies.popitem(last=False)
            return changed


def _keys(attributes: Attributes) -> Attributes:
    return {key.replace(".", "_"): value for key, value in attributes.items()}


def _around() -> tuple[UUID | None, Sequence[Any]]:
    """The innermost run that is open here, and the tracers that are told of it."""
    run = active_run()
    if run is not None:
        return run.id, _tracers(run.handlers)
    callbacks = (active_config() or {}).get("callbacks")
    return getattr(callbacks, "parent_run_id", None), _tracers(handlers_of(callbacks))


def _tracers(handlers: Sequence[Any]) -> list[Any]:
    return [handler for handler in handlers if not type(handler).__module__.startswith(_NO_TRACERS)]


def _open_runs(run_id: UUID | None, handlers: Sequence[Any]) -> list[Any]:
    """That run, as each of the tracers keeps it that keeps it where it can be reached."""
    runs = (getattr(handler, "run_map", {}).get(str(run_id)) for handler in handlers)
    return [run for run in runs if isinstance(getattr(run, "extra", None), dict)]
