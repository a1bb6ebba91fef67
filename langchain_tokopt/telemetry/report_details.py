"""What a report holds beside its sums: how they went over time, whose they are, where budgets stand."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

# With fewer whole hours or days, a forecast is a guess.
FEWEST_STEPS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What happened in one stretch of the report's time, from `start` (Unix time) on.

    Attributes:
        start: When it begins; a multiple of the report's `slice_seconds`.
        calls: Model calls whose usage is known.
        measured_usd: What calls cost whose usage the provider reported; `None` when no price is known.
        estimated_usd: What the others cost, by our estimate.
        saved_usd: By all parts together, for real, before the optimiser's own calls; an estimate.
        hits: Lookups that the semantic cache answered.
        eligible: Lookups that it may have answered.
    """

    start: int
    calls: int = 0
    measured_usd: Decimal | None = None
    estimated_usd: Decimal | None = None
    saved_usd: Decimal | None = None
    hits: int = 0
    eligible: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpend:
    """What the calls of one agent cost. `agent` is `None` for calls of nobody who is known."""

    agent: str | None
    calls: int
    requests: int
    measured_usd: Decimal | None
    estimated_usd: Decimal | None
    unpriced: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenShares:
    """Where the tokens of calls go, as far as events know. Of agents' calls, without the optimiser's own.

    Attributes:
        input: Input tokens, as reported by the providers.
        output: Output tokens, as reported.
        reasoning: Of the output, as reported; `None` when nobody said.
        cache_read: Of the input, as reported; `None` when nobody said.
        tools: Of the input, schemas of tools, by our count; `None` when no request tells.
        grown: Of the input, what threads had grown by since the first of their calls on record: the conversation so
            far, by difference, at least; `None` without threads.
        since: From when on (Unix time), where what was before is kept as sums only; else `None`.
    """

    input: int
    output: int
    reasoning: int | None = None
    cache_read: int | None = None
    tools: int | None = None
    grown: int | None = None
    since: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanBefore:
    """The span of the same length before the report's own. Figures that nobody knows are `None`."""

    calls: int
    measured_usd: Decimal | None
    estimated_usd: Decimal | None
    unpriced: int
    net_saved_usd: Decimal | None
    hits: int
    eligible: int
    failed_calls: int
    refused_calls: int
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetLine:
    """One limit of a budget, in one unit. Amounts are USD as `Decimal`, or whole tokens or calls.

    Attributes:
        budget: Its name.
        node: Where in the hierarchy; "global" is the root.
        per: The kind of period.
        unit: What is counted.
        limit: The most that may be taken.
        spent: So far in the period.
        held: Reserved for calls that are under way.
        hard: Whether it stops calls.
        resets_at: When the period ends, Unix time; `None` for one that never does.
        expected: By the end of the period, by forecast; `None` without one.
        low: With the chance `coverage` it is from here
        high: to here.
        coverage: Such as 0.8.
        runs_out_at: When the limit will be reached, Unix time; `None` when it will not be, or there is no forecast.
        steps: How many whole hours or days the forecast is made from; `None` without one, or where it does not say.
    """

    budget: str
    node: str
    per: str
    unit: Literal["usd", "tokens", "calls"]
    limit: Decimal | int
    spent: Decimal | int
    held: Decimal | int
    hard: bool = True
    resets_at: float | None = None
    expected: Decimal | int | None = None
    low: Decimal | int | None = None
    high: Decimal | int | None = None
    coverage: float | None = None
    runs_out_at: float | None = None
    steps: int | None = None

    @property
    def share(self) -> float:
        """How much of the limit is spent or held."""
        taken: Any = self.spent + self.held
        return float(taken / self.limit) if self.limit else 1.0

    @property
    def rough(self) -> bool:
        """Whether the forecast is made from too little to go by."""
        return self.steps is not None and self.steps < FEWEST_STEPS
