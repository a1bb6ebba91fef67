"""What is measured: the words of each KPI, and what finds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from langchain_tokopt.telemetry import kpis_figures as of
from langchain_tokopt.telemetry.kpis_found import Found
from langchain_tokopt.telemetry.kpis_window import Window

Group: TypeAlias = Literal["cost", "tokens", "cache", "quality", "health"]
Unit: TypeAlias = Literal["usd", "share", "times", "seconds", "count"]
Better: TypeAlias = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A KPI as it is defined. `by_part`: there is one for each part, and `find` is asked for the parts' own."""

    name: str
    group: Group
    title: str
    definition: str
    formula: str
    trace: str
    unit: Unit
    better: Better
    target: float | None = None
    find: Callable[[Window], Found] | None = None
    by_part: Callable[[Window], dict[str | None, Found]] | None = None


MEASURES: Final[tuple[Measure, ...]] = (
    Measure(
        name="cost.spend",
        group="cost",
        title="Spend",
        definition="What the model calls cost at list prices, the optimiser's own calls included.",
        formula="sum of the cost of all calls whose usage the provider reported (of our estimates, where none did)",
        trace="Readings.calls(span): measured.cost_usd; ModelCall events by usage_source, column cost_nano",
        unit="usd",
        better="lower",
        find=of.spend,
    ),
    Measure(
        name="cost.saved_net",
        group="cost",
        title="Saved, net",
        definition="What the parts saved by our estimate, less what the optimiser's own calls cost.",
        formula="sum of saved USD over all that was done for real - cost of the optimiser's own calls",
        trace=(
            "Readings.parts(span): real.usd, and Readings.calls(span): own_measured, own_estimated; Decision and "
            "CacheLookup events outside shadow mode, column saved_nano, and ModelCall events with internal = 1"
        ),
        unit="usd",
        better="higher",
        target=0.0,
        find=of.saved_net,
    ),
    Measure(
        name="cost.per_answer",
        group="cost",
        title="Cost per answer",
        definition="What one answer cost on average, whether a model or the cache gave it.",
        formula="spend / (answered calls with a known price that are not the optimiser's own + cache hits)",
        trace=(
            "Readings.calls(span): measured, own_measured, and Readings.lookups(span): real.hits; ModelCall events, "
            "and CacheLookup events with action 'exact' or 'semantic'"
        ),
        unit="usd",
        better="lower",
        find=of.per_answer,
    ),
    Measure(
        name="tokens.reduction",
        group="tokens",
        title="Token reduction",
        definition="The share of tokens that did not have to be paid for, the optimiser's own calls taken off.",
        formula="saved / (sent + saved), saved being tokens saved - tokens of the optimiser's own calls",
        trace=(
            "Readings.parts(span): real.tokens, and Readings.calls(span); Decision and CacheLookup events outside "
            "shadow mode, column saved_tokens, and ModelCall events, columns input_tokens and output_tokens"
        ),
        unit="share",
        better="higher",
        find=of.reduction,
    ),
    Measure(
        name="tokens.compression",
        group="tokens",
        title="Compression of histories",
        definition="How many times smaller requests were sent whose history was shortened.",
        formula="tokens before / tokens after, which a call that only asked for what was left out adds to in full",
        trace="Decision events of part 'history', applied, outside shadow mode, columns tokens_before and tokens_after",
        unit="times",
        better="higher",
        find=of.compression,
    ),
    Measure(
        name="tokens.provider_cache",
        group="tokens",
        title="Read from the provider's cache",
        definition="The share of input tokens that providers read from their prompt cache.",
        formula="cache read tokens / input tokens, of the calls whose usage the provider reported",
        trace="Readings.calls(span): measured; ModelCall events, columns cache_read_tokens and input_tokens",
        unit="share",
        better="higher",
        find=of.provider_cache,
    ),
    Measure(
        name="cache.hit_rate",
        group="cache",
        title="Cache hit rate",
        definition="The share of requests that the semantic cache answered, of those that it may answer.",
        formula="(exact + semantic hits) / (hits + misses)",
        trace="Readings.lookups(span): real; CacheLookup events outside shadow mode by action",
        unit="share",
        better="higher",
        find=of.hit_rate,
    ),
    Measure(
        name="cache.audited_error",
        group="cache",
        title="Audited error of the cache",
        definition="The share of all requests that were answered wrongly from the cache, as audits tell.",
        formula="share of wrong answers among audited ones, each weighted by how rarely it is drawn, x share answered",
        trace="SemanticCache.stats()['decision']: audited_error, from the cache's record of audits",
        unit="share",
        better="lower",
        find=of.audited_error,
    ),
    Measure(
        name="quality.evidence",
        group="quality",
        title="Enough was shown",
        definition="How often a model that was sent a shortened history did without what was left out.",
        formula="1 - calls in which the model only asked for what was left out / calls with a shortened history",
        trace="Decision events of part 'history', applied, outside shadow mode, by what their reason says of the call",
        unit="share",
        better="higher",
        target=0.9,
        find=of.evidence,
    ),
    Measure(
        name="quality.tools_found",
        group="quality",
        title="The right tools were shown",
        definition="How often a model that was sent a selection of tools did not search for others.",
        formula="1 - calls in which the model only searched for tools / calls with selected tools",
        trace="Decision events of part 'tools', applied, outside shadow mode, by what their reason says of the call",
        unit="share",
        better="higher",
        target=0.9,
        find=of.tools_found,
    ),
    Measure(
        name="quality.fallback_rate",
        group="quality",
        title="Answered by a cheaper model",
        definition="The share of requests that a budget sent to its fallback model.",
        formula="requests with the step 'fallback' / requests that reached a model",
        trace="Decision events of part 'budget' whose reason begins with 'fallback:'; Readings.calls(span): requests",
        unit="share",
        better="lower",
        target=0.1,
        find=of.fallback,
    ),
    Measure(
        name="health.added_p95",
        group="health",
        title="Added latency, 95th percentile",
        definition="The time that the optimiser added to a request; 95 of 100 had less.",
        formula="95th percentile, by nearest rank, of the time of all parts together in each request",
        trace="Readings.times(span): added.p95; all events of a request, column seconds",
        unit="seconds",
        better="lower",
        target=0.25,
        find=of.added_p95,
    ),
    Measure(
        name="health.model_errors",
        group="health",
        title="Failed model calls",
        definition="The share of model calls that ended with an error, and not because nobody waited any more.",
        formula="failed / (failed + answered calls), without streams that were closed and calls that were cancelled",
        trace="ModelCall events, column error; Readings.calls(span): failed counts those that were broken off, too",
        unit="share",
        better="lower",
        target=0.05,
        find=of.model_errors,
    ),
    Measure(
        name="health.refused",
        group="health",
        title="Refused calls",
        definition="The share of calls that a budget refused.",
        formula="refused / (reserved + refused)",
        trace="Readings.reservations(span); Reservation events with action 'refused' or 'reserved'",
        unit="share",
        better="lower",
        find=of.refused,
    ),
    Measure(
        name="health.errors",
        group="health",
        title="Errors of a part",
        definition="How often a part failed and stepped aside, of all the times that it had something to do.",
        formula="failures / (failures + decisions, lookups or reservations of the part)",
        trace="Readings.failures and Readings.parts(span, by=('part',)); Failure events by part",
        unit="share",
        better="lower",
        target=0.01,
        by_part=of.part_errors,
    ),
)
