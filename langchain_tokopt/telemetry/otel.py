"""`OtelSink`: events as OpenTelemetry metrics and span attributes (extra `otel`)."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final, get_args

from langchain_tokopt.errors import ConfigurationError, MissingDependencyError
from langchain_tokopt.events import Event
from langchain_tokopt.telemetry.otel_metrics import EventMetrics
from langchain_tokopt.telemetry.otel_names import SCOPE, WHO, Conventions
from langchain_tokopt.telemetry.otel_spans import ActiveSpan, OwnSpans

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

log = logging.getLogger("langchain_tokopt")

_DEFAULT_WHO: Final = ("project", "agent")


class OtelSink:
    """A sink that passes events on to OpenTelemetry; what exports them is up to your providers.

    Metrics: `gen_ai.client.*` (tokens and durations of model calls) by the GenAI semantic conventions, and `tokopt.*`
    for the rest. Money is a double in USD; on spans an attribute that ends in `.exact` has all its digits. Without a
    provider, OpenTelemetry drops everything, at little cost.

    Spans: where a span is active, it gets what each part did, as `tokopt.*`. With `spans=True` each model call, and
    each answer from the cache, becomes a span of its own instead, with `gen_ai.*` and `tokopt.*`.

    Args:
        meter_provider: Where metrics go; by default the global provider, also when that is set later.
        tracer_provider: Where spans of its own go; likewise.
        spans: Whether to make spans. Leave it off beside an instrumentation that makes one of each model call.
        genai_metrics: Whether to record `gen_ai.client.*`. Turn it off beside an instrumentation that does.
        conventions: Which version of the GenAI conventions: "1.41", or "genai-0.1", which differs in the names of its
            metrics. By default the later one if the variable `OTEL_SEMCONV_STABILITY_OPT_IN` of the environment asks
            for `gen_ai_latest_experimental`, as the conventions say, else the earlier one.
        who: Fields of `Who` that become attributes of metrics. Each of their values is a time series of its own, so
            "thread", "run" and "user" are better left to spans, which have all.

    Raises:
        ConfigurationError: `who` has something that no event has, or there is no such version.
        MissingDependencyError: The package opentelemetry-api is not installed.
    """

    def __init__(
        self,
        *,
        meter_provider: MeterProvider | None = None,
        tracer_provider: TracerProvider | None = None,
        spans: bool = False,
        genai_metrics: bool = True,
        conventions: Conventions | None = None,
        who: Sequence[str] = _DEFAULT_WHO,
    ) -> None:
        if isinstance(who, str) or not all(name in WHO for name in who):
            raise ConfigurationError("who", who, f"give a list of these: {', '.join(WHO)}")
        if conventions is None:
            asked = os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "").split(",")
            conventions = "genai-0.1" if "gen_ai_latest_experimental" in map(str.strip, asked) else "1.41"
        if conventions not in get_args(Conventions):
            raise ConfigurationError("conventions", conventions, 'use "1.41" or "genai-0.1"')
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            msg = 'OtelSink needs the package opentelemetry-api: pip install "langchain-tokopt[otel]"'
            raise MissingDependencyError(msg) from error
        meter = metrics.get_meter(SCOPE, _version(), meter_provider)
        self._metrics = EventMetrics(meter, conventions=conventions if genai_metrics else None, who=tuple(who))
        tracer = trace.get_tracer(SCOPE, _version(), tracer_provider)
        self._spans = OwnSpans(tracer, conventions) if spans else ActiveSpan()
        self._failed: set[str] = set()
        self._lock = threading.Lock()

    def emit(self, event: Event) -> None:
        """Pass an event on; thread-safe, never raises. To be called where the event happened: it reads the context."""
        for take in (self._metrics.record, self._spans.tell):
            try:
                take(event)
            except Exception as error:
                self._log_once(error)

    def close(self) -> None:
        """End the spans that still wait for something. The providers are yours: flush them and shut them down."""
        try:
            self._spans.close()
        except Exception as error:
            self._log_once(error)

    def _log_once(self, error: Exception) -> None:
        kind = type(error).__name__
        with self._lock:
            if kind in self._failed:
                return
            self._failed.add(kind)
        log.warning("an event could not be passed on to OpenTelemetry: %s: %s; the agent goes on", kind, error)


def _version() -> str:
    try:
        return version("langchain-tokopt")
    except PackageNotFoundError:  # run from a folder
        return ""
