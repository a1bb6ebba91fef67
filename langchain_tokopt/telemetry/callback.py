"""Usage, cost and latency of any model call, in any chain, agent, subagent or retry, by watching only."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langgraph.errors import GraphBubbleUp
from langgraph.runtime import get_runtime

from langchain_tokopt.caller import active_config
from langchain_tokopt.errors import BudgetExceededError
from langchain_tokopt.events import NullSink, Sink, Who, who
from langchain_tokopt.flow import INTERNAL_TAG
from langchain_tokopt.pricing import Pricing
from langchain_tokopt.telemetry.metering import Meter, Sent, SentPrefixes
from langchain_tokopt.telemetry.run_roots import FollowsRuns, RunRoots
from langchain_tokopt.telemetry.sightings import Sightings
from langchain_tokopt.telemetry.telemetry import Telemetry
from langchain_tokopt.telemetry.totals import SeenCalls
from langchain_tokopt.tokens import TokenCounter

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_MAX_RUNS: Final = 4096


@dataclass(slots=True)
class _Run:
    sent: Sent
    parent: UUID | None
    wraps: bool = False


class UsageCallback(SeenCalls, FollowsRuns):
    """A handler for `config={"callbacks": [...]}` that emits a `ModelCall` for each model call it is told of.

    It observes only: an error in it is logged by LangChain and never reaches the run. Answers from a cache (ours or a
    LangChain `BaseCache`) are no calls. A model that calls another model is not counted beside it. LangChain tells no
    callback about an `ainvoke` that is cancelled: only `UsageMiddleware` sees that.

    It needs nothing else: `usage` is what it has seen so far, `by("model")`, `by("agent")`, `by("thread")` and so on
    tell that apart, and a notebook shows it as a table. A call that somebody else has put on record counts here, too.

    Args:
        telemetry: Who is told, and what gives `pricing`, `counter` and `sightings` where they are not given.
        sink: Who is told instead.
        pricing: What calls cost.
        counter: Counts what a provider does not report.
        sightings: What was counted already, shared by all who may watch the same calls.
        follow_runs: Whether `by("run")` is to know the run of the whole chain or graph of each call. Without it only
            the runs that a caller has named are known. LangChain then tells this handler of every step of the run.
        clock: Unix time in seconds.
        timer: Seconds that only go forward, for latencies.
    """

    raise_error = False
    sees_background_calls = True  # they cost money, too, and go on when the run has ended

    def __init__(
        self,
        telemetry: Telemetry | None = None,
        *,
        sink: Sink | None = None,
        pricing: Pricing | None = None,
        counter: TokenCounter | None = None,
        sightings: Sightings | None = None,
        follow_runs: bool = False,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__()
        source = telemetry if telemetry is not None else sink
        known = source if isinstance(source, Telemetry) else None
        self._meter = Meter(
            sink=sink or telemetry or NullSink(),
            pricing=pricing or (known.pricing if known else Pricing()),
            counter=counter or (known.counter if known else TokenCounter()),
            sightings=sightings or (known.sightings if known else Sightings()),
            prefixes=known.prefixes if known else SentPrefixes(clock=clock),
            observer=f"callback {id(self)}",
            seen=self.saw,
            clock=clock,
            timer=timer,
        )
        self._roots = RunRoots() if follow_runs else None
        self._lock = threading.Lock()
        # Bounded, since a run may never end.
        self._runs: OrderedDict[UUID, _Run] = OrderedDict()
        self._ended: OrderedDict[UUID, None] = OrderedDict()

    # --- starts ------------------------------------------------------------------------------------------------------

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Count what is about to be sent."""
        params = kwargs.get("invocation_params") or {}
        name, provider = _named(metadata, params)
        request: ModelRequest[Any] = ModelRequest(
            model=cast("BaseChatModel", name or ""),  # nothing but its name is known here, or needed
            messages=cast("list[Any]", messages[0] if messages else []),
            tools=list(params.get("tools") or []),
        )
        sent = self._meter.sending(
            request, who=_who(metadata), internal=INTERNAL_TAG in (tags or ()), provider=provider
        )
        self._begin(run_id, parent_run_id, sent)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Count what is about to be sent to a model that takes plain text."""
        name, provider = _named(metadata, kwargs.get("invocation_params") or {})
        sent = self._meter.sending_text(
            "".join(prompts),
            who=_who(metadata),
            model=name,
            provider=provider,
            internal=INTERNAL_TAG in (tags or ()),
        )
        self._begin(run_id, parent_run_id, sent)

    # --- ends --------------------------------------------------------------------------------------------------------

    def on_llm_end(
        self, response: LLMResult, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Put the call on record, unless it was none."""
        run = self._end(run_id, parent_run_id)
        if run is None:
            return
        message, text = _answer(response.generations)
        self._meter.answered(run.sent, message, text=text, llm_output=response.llm_output, run=run_id)

    def on_llm_error(
        self,
        error: BaseException,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Put the failed call on record, unless the model was never reached."""
        run = self._end(run_id, parent_run_id)
        if run is None or isinstance(error, (GraphBubbleUp, BudgetExceededError)):
            return
        response = kwargs.get("response")
        message, _ = _answer(response.generations[:1]) if isinstance(response, LLMResult) else (None, None)
        # An error's own response (headers, status) comes as an empty message.
        partial = message if message is not None and (message.content or message.tool_calls) else None
        self._meter.failed(run.sent, error, partial, stopped=not isinstance(error, Exception), run=run_id)

    # --- runs --------------------------------------------------------------------------------------------------------

    def _begin(self, run_id: UUID, parent: UUID | None, sent: Sent) -> None:
        if self._roots is not None:
            sent = replace(sent, root=str(self._roots.of(run_id, parent)))
        with self._lock:
            self._runs[run_id] = _Run(sent, parent)
            while len(self._runs) > _MAX_RUNS:
                self._runs.popitem(last=False)

    def _end(self, run_id: UUID, parent: UUID | None) -> _Run | None:
        """The run that ended, the first time that it is told of; `None` for a model that only passed a call on."""
        with self._lock:
            if run_id in self._ended:
                return None
            self._ended[run_id] = None
            while len(self._ended) > _MAX_RUNS:
                self._ended.popitem(last=False)
            run = self._runs.pop(run_id, None)
            if run is None:
                return _Run(self._meter.unseen(_who(None)), parent)
            outer = self._runs.get(run.parent) if run.parent else None
            if outer is not None:
                outer.wraps = True
            return None if run.wraps else run


def _named(metadata: Mapping[str, Any] | None, params: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Model and provider, as LangChain's tracing knows them, or the call's own parameters."""
    known = metadata or {}
    names = (known.get("ls_model_name"), *(params.get(key) for key in ("model", "model_name", "model_id")))
    provider = known.get("ls_provider")
    return next((name for name in names if isinstance(name, str) and name), None), (
        provider if isinstance(provider, str) and provider else None
    )


def _who(metadata: Mapping[str, Any] | None) -> Who:
    """Whom the call belongs to: as in a middleware, from the graph's context, the active config and the metadata."""
    try:
        context = getattr(get_runtime(), "context", None)
    except (RuntimeError, KeyError):  # not inside a graph
        context = None
    return who(config=active_config(), context=context, metadata=metadata)


def _answer(generations: Sequence[Sequence[Any]]) -> tuple[AIMessage | None, str | None]:
    """The first answer: its message, or the text of a model that gives none."""
    first = next((generation for several in generations for generation in several), None)
    if isinstance(first, ChatGeneration) and isinstance(first.message, AIMessage):
        return first.message, None
    return None, getattr(first, "text", None)
