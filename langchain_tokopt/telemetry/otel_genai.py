"""Model calls by OpenTelemetry's GenAI conventions, in either of the versions that `otel_names` tells of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from langchain_tokopt.events import ModelCall
from langchain_tokopt.telemetry.otel_names import ERROR_TYPE, Conventions
from langchain_tokopt.telemetry.tally import Attributes, CallTokens, call_tokens, clean

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

# As the conventions advise.
TOKEN_BUCKETS: Final = [4**n for n in range(14)]
SECONDS_BUCKETS: Final = [0.01 * 2**n for n in range(14)]

_UNKNOWN: Final[Attributes] = {
    "gen_ai.token.modality": "unknown"
}  # LangChain does not say of what kind all of them are


class GenAIMetrics:
    """Records `gen_ai.client.*`. Tokens are those that the provider reports, never an estimate."""

    def __init__(self, meter: Meter, conventions: Conventions) -> None:
        self._latest = conventions != "1.41"
        histogram = meter.create_histogram
        tokens: dict[str, Any] = {"unit": "{token}", "explicit_bucket_boundaries_advisory": TOKEN_BUCKETS}
        self._duration = histogram(
            "gen_ai.client.inference.duration" if self._latest else "gen_ai.client.operation.duration",
            unit="s",
            description="Time from the request to the end of the response.",
            explicit_bucket_boundaries_advisory=SECONDS_BUCKETS,
        )
        if not self._latest:
            self._usage = histogram(
                "gen_ai.client.token.usage", description="Number of input and output tokens used.", **tokens
            )
            return
        self._of_a_call = {
            kind: histogram(
                f"gen_ai.client.inference.operation.{kind}_tokens", description=f"{kind} tokens of a call.", **tokens
            )
            for kind in ("input", "output")
        }
        self._counters = {
            name: meter.create_counter(f"gen_ai.client.inference.usage.{name}", "{token}", "Number of tokens used.")
            for name in (
                "input_tokens",
                "output_tokens",
                "cache_read.input_tokens",
                "cache_write.input_tokens",
                "reasoning.output_tokens",
            )
        }

    def record(self, call: ModelCall, about: Attributes) -> None:
        """Record one call; `about` is what is said of it on each metric."""
        if call.latency_seconds is not None:
            ended = {**about, ERROR_TYPE: clean(call.error)} if call.error else about
            self._duration.record(call.latency_seconds, ended)
        used = call_tokens(call) if call.usage_source == "provider" else None
        if self._latest:
            self._count(used, about)
        elif used is not None:
            self._usage.record(used.input, {**about, "gen_ai.token.type": "input"})
            self._usage.record(used.output, {**about, "gen_ai.token.type": "output"})

    def _count(self, used: CallTokens | None, about: Attributes) -> None:
        """Also calls without usage, at 0, as the conventions want it."""
        totals = {"input": used.input if used else 0, "output": used.output if used else 0}
        by_kind = {**about, **_UNKNOWN}
        for kind, count in totals.items():
            self._of_a_call[kind].record(count, about)
            self._counters[f"{kind}_tokens"].add(count, by_kind)
        if used is None:
            return
        for name, part in (
            ("cache_read.input_tokens", used.cache_read),
            ("cache_write.input_tokens", used.cache_write),
            ("reasoning.output_tokens", used.reasoning),
        ):
            if part is not None:
                self._counters[name].add(part, by_kind)


def usage_attributes(call: ModelCall, conventions: Conventions) -> Attributes:
    """The tokens of a call as attributes of its span, as far as the provider reports them."""
    used = call_tokens(call) if call.usage_source == "provider" else None
    if used is None:
        return {}
    written = "cache_creation" if conventions == "1.41" else "cache_write"
    known = {
        "gen_ai.usage.input_tokens": used.input,
        "gen_ai.usage.output_tokens": used.output,
        "gen_ai.usage.cache_read.input_tokens": used.cache_read,
        f"gen_ai.usage.{written}.input_tokens": used.cache_write,
        "gen_ai.usage.reasoning.output_tokens": used.reasoning,
    }
    return {key: count for key, count in known.items() if count is not None}
