"""The innermost flow: puts every call that reaches the model on record."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.messages import AIMessage
from langgraph.errors import GraphBubbleUp

from langchain_tokopt.caller import active_run, call_who
from langchain_tokopt.events import Mode, NullSink, Sink
from langchain_tokopt.flow import Flow, FlowMiddleware, is_internal, partial_answer
from langchain_tokopt.pricing import Pricing
from langchain_tokopt.telemetry.metering import Meter, SentPrefixes
from langchain_tokopt.telemetry.run_metadata import RunMetadata
from langchain_tokopt.telemetry.sightings import Sightings
from langchain_tokopt.telemetry.telemetry import Telemetry
from langchain_tokopt.tokens import TokenCounter

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest


class UsageMiddleware(FlowMiddleware):
    """Emits a `ModelCall` for each call that reaches the model. It changes no prompt, so it is the same in both modes.

    Usage is what the provider reports, else our estimate, and the event says which. A call that `UsageCallback` has
    put on record in the same `telemetry` is not counted again.

    Args:
        telemetry: Who is told, and what gives `pricing`, `counter` and `sightings` where they are not given.
        sink: Who is told instead.
        pricing: What calls cost.
        counter: Counts what a provider does not report.
        sightings: What was counted already, shared by all who may watch the same calls.
        run_metadata: Writes what parts did to a request into the metadata of the model's run, for whoever traces it.
        mode: Taken for the sake of the other middleware: a call that was made is a fact in shadow mode, too.
        name: The middleware's name in the graph.
        clock: Unix time in seconds.
        timer: Seconds that only go forward, for latencies.
    """

    part: ClassVar[str] = "usage"

    def __init__(
        self,
        telemetry: Telemetry | None = None,
        *,
        sink: Sink | None = None,
        pricing: Pricing | None = None,
        counter: TokenCounter | None = None,
        sightings: Sightings | None = None,
        run_metadata: RunMetadata | None = None,
        mode: Mode = "optimize",
        name: str | None = None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__(sink=sink, mode=mode, name=name)
        self.sink = sink or telemetry or NullSink()
        source = telemetry if telemetry is not None else sink
        known = source if isinstance(source, Telemetry) else None
        self._run_metadata = run_metadata
        self._meter = Meter(
            sink=self.sink,
            pricing=pricing or (known.pricing if known else Pricing()),
            counter=counter or (known.counter if known else TokenCounter()),
            sightings=sightings or (known.sightings if known else Sightings()),
            prefixes=known.prefixes if known else SentPrefixes(clock=clock),
            observer=f"usage {id(self)}",
            clock=clock,
            timer=timer,
        )

    def flow(self, request: ModelRequest[Any]) -> Flow:
        """The request and the response as they are; what the call used is put on record."""
        run = active_run()
        if run is not None:
            self._meter.counts_within(run.id)
        sent = self._meter.sending(request, who=call_who(request), internal=is_internal(request))
        try:
            response = yield request if self._run_metadata is None else self._run_metadata.noted(request)
        except GraphBubbleUp:
            raise
        except BaseException as error:
            stopped = not isinstance(error, Exception)
            self._meter.failed(sent, error, partial_answer(error), stopped=stopped)
            raise
        message = next((message for message in response.result if isinstance(message, AIMessage)), None)
        self._meter.answered(sent, message)
        return response
