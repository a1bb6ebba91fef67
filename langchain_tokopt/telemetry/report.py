"""What a report holds. Measured (reported by the provider) and estimated figures stand side by side, never as a sum."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from langchain_tokopt.telemetry.report_details import AgentSpend, BudgetLine, Slice, SpanBefore, TokenShares

if TYPE_CHECKING:
    from rich.console import RenderableType

    from langchain_tokopt.pricing import Rates
    from langchain_tokopt.telemetry.recommendation import Recommendation

MOST_AGENTS: Final = 10


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens and cost of some calls. A figure that nobody gave is `None`; one that some calls lack is a lower bound.

    Attributes:
        calls: How many calls these are.
        input_tokens: Cached tokens included.
        output_tokens: Reasoning included.
        cache_read_tokens: Read from the provider's prompt cache.
        cache_write_tokens: Written to the provider's prompt cache.
        reasoning_tokens: Part of `output_tokens`.
        cost_usd: Of the calls with a known price, at list prices.
        unpriced: How many calls have no known price.
    """

    calls: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: Decimal | None = None
    unpriced: int = 0


@dataclass(frozen=True, kw_only=True)
class ModelUsage:
    """What one model used: `measured` by the provider, and `estimated` by us where the provider said nothing."""

    provider: str | None
    model: str | None
    measured: Usage
    estimated: Usage


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What a part did and saved, by our estimate.

    Attributes:
        applied: How often the part changed a request, or answered it.
        tokens: Fewer tokens sent (or not spent at all); `None` when no one knows.
        usd: Of the times whose price is known; may be negative; `None` when none is.
        unpriced: How often it was applied at a price that is not known.
    """

    applied: int = 0
    tokens: int | None = None
    usd: Decimal | None = None
    unpriced: int = 0


@dataclass(frozen=True, kw_only=True)
class PartReport:
    """One part: what it did (`real`), what it would have done in shadow mode, and why it left requests alone."""

    part: str
    real: Saved
    shadow: Saved
    skipped: int = 0
    reasons: tuple[tuple[str, int], ...] = ()

    @property
    def rank(self) -> tuple[Decimal, str]:
        """Sorts the parts by what they saved or lost, the most first."""
        return -max(abs(saved.usd or Decimal(0)) for saved in (self.real, self.shadow)), self.part


@dataclass(frozen=True, kw_only=True)
class CacheReport:
    """Lookups in the semantic cache. `hit_rate` is hits per eligible lookup, `None` without any."""

    exact: int = 0
    semantic: int = 0
    misses: int = 0
    bypassed: int = 0

    @property
    def hits(self) -> int:
        return self.exact + self.semantic

    @property
    def eligible(self) -> int:
        """Lookups that could have been served: those that were not passed by."""
        return self.hits + self.misses

    @property
    def hit_rate(self) -> float | None:
        return self.hits / self.eligible if self.eligible else None


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """Seconds, over `count` observations."""

    count: int
    p50: float
    p95: float


@dataclass(frozen=True, kw_only=True)
class FailureReport:
    """How often a part failed and stepped aside, and its most frequent errors."""

    part: str
    count: int
    errors: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Repriced:
    """What the recorded calls would have cost at other rates, by our estimate.

    Attributes:
        provider: Of the rates.
        model: Of the rates.
        calls: How many calls could be priced.
        cost_usd: For these calls.
        without_prefix: How many of them were priced as if nothing had been in the provider's prompt cache, since it
            is not known what was: for these the cost is an upper bound.
        unknown: How many calls have no token counts at all and are left out.
    """

    provider: str
    model: str
    calls: int
    cost_usd: Decimal
    without_prefix: int
    unknown: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """What happened in a span of time.

    Attributes:
        hours: The span that was asked for, `None` for all.
        first: Unix time of the first event in it, `None` without events.
        last: The same of the last one.
        events: How many events there are.
        findings: What matters most, in sentences.
        measured: Calls whose usage the provider reported.
        estimated: Calls that succeeded, or were stopped half-way, without the provider saying what they used.
        failed_calls: Calls that ended with an error; what they are billed at is not known, unless they were stopped.
        models: The same by model, the dearest first.
        parts: What each part did and saved.
        saved: All parts together, for real.
        saved_in_shadow: All parts together, in shadow mode.
        overhead: What the optimiser's own calls cost as measured; they are in `measured`, too.
        overhead_estimated: The same where the provider did not report.
        net_saved_usd: `saved.usd` less the cost of the optimiser's own calls; an estimate; `None` if that is unknown.
        cache: Lookups in the semantic cache.
        cache_in_shadow: The same in shadow mode.
        budget: How often each step of a budget reservation happened.
        refused_calls: Calls that the budget refused.
        refused_in_shadow: Calls that it would have refused.
        added_seconds: The time that the optimiser added to a request.
        latency_seconds: The time that the models took.
        failures: Parts that failed and stepped aside.
        slice_seconds: How long each of `slices` is; 0 without any.
        slices: The span in stretches of time, the first to the last in which something happened, without gaps.
        agents: Who spent most, the dearest first, at most `MOST_AGENTS` of them.
        agent_count: How many agents there are, calls of nobody who is known as one of them.
        tokens: Where the tokens of agents' calls go.
        before: The span of the same length before; `None` where no hours were asked for, or nothing is on record.
        budgets: Where limits stand, with their forecasts, as the caller gave them.
        budget_errors: Budgets whose standing could not be read, and why.
        recommendations: What to change, by the money that it saves.
        replayed_since: From when on (Unix time) events are behind the recommendations, where these are too many to go
            through all; else `None`.
        too_little: Why there are no recommendations about money yet, if there are not.
    """

    hours: float | None = None
    first: float | None = None
    last: float | None = None
    events: int = 0
    findings: tuple[str, ...] = ()
    measured: Usage = field(default_factory=Usage)
    estimated: Usage = field(default_factory=Usage)
    failed_calls: int = 0
    models: tuple[ModelUsage, ...] = ()
    parts: tuple[PartReport, ...] = ()
    saved: Saved = field(default_factory=Saved)
    saved_in_shadow: Saved = field(default_factory=Saved)
    overhead: Usage = field(default_factory=Usage)
    overhead_estimated: Usage = field(default_factory=Usage)
    net_saved_usd: Decimal | None = None
    cache: CacheReport = field(default_factory=CacheReport)
    cache_in_shadow: CacheReport = field(default_factory=CacheReport)
    budget: tuple[tuple[str, int], ...] = ()
    refused_calls: int = 0
    refused_in_shadow: int = 0
    added_seconds: Percentiles | None = None
    latency_seconds: Percentiles | None = None
    failures: tuple[FailureReport, ...] = ()
    slice_seconds: int = 0
    slices: tuple[Slice, ...] = ()
    agents: tuple[AgentSpend, ...] = ()
    agent_count: int = 0
    tokens: TokenShares | None = None
    before: SpanBefore | None = None
    budgets: tuple[BudgetLine, ...] = ()
    budget_errors: tuple[tuple[str, str], ...] = ()
    recommendations: tuple[Recommendation, ...] = ()
    replayed_since: float | None = None
    too_little: str | None = None
    _reprice: Callable[[Sequence[Rates]], list[Repriced]] | None = field(default=None, repr=False, compare=False)

    def cost_at(self, rates: Sequence[Rates]) -> list[Repriced]:
        """What the same calls would have cost at each of `rates`, by the rules of that provider's prompt cache.

        An estimate: another model would count and answer in other tokens. The calls are read again, so the database
        must still be open.

        Raises:
            StoreError: The database cannot be read any more.
        """
        return self._reprice(rates) if self._reprice else []

    def with_notes(self, notes: Sequence[str]) -> Report:
        """The same report with further findings, which come first."""
        return replace(self, findings=(*notes, *self.findings))

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values that JSON can hold; money as exact decimal text."""
        plain: dict[str, Any] = _plain(self)
        return plain

    def to_json(self, *, indent: int | None = 2) -> str:
        """The report as JSON."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    def to_markdown(self) -> str:
        """The report as Markdown, the findings first."""
        from langchain_tokopt.telemetry.render import to_markdown

        return to_markdown(self)

    def to_text(self, *, width: int = 100) -> str:
        """The report as plain text of at most `width` columns."""
        from langchain_tokopt.telemetry.render import to_text

        return to_text(self, width=width)

    def to_html(self) -> str:
        """The report as a whole HTML page, with pictures, that needs nothing else."""
        from langchain_tokopt.telemetry.render_html import to_page

        return to_page(self)

    def _repr_html_(self) -> str:
        from langchain_tokopt.telemetry.render_html import to_html

        return to_html(self)

    def __rich__(self) -> RenderableType:
        from langchain_tokopt.telemetry.render_terminal import ReportView

        return ReportView(self)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        shown = {
            each.name: _plain(getattr(value, each.name)) for each in fields(value) if not each.name.startswith("_")
        }
        if isinstance(value, CacheReport):
            shown["hit_rate"] = value.hit_rate
        if isinstance(value, BudgetLine):
            shown["share"] = value.share
        return shown
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Decimal) else value
