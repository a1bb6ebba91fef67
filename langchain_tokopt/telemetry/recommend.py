"""What to change, and what that would save: conclusions from the events on record, none without enough of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from langchain_tokopt.telemetry.recommend_budgets import about_budgets
from langchain_tokopt.telemetry.recommend_models import about_models, about_prices
from langchain_tokopt.telemetry.recommend_parts import about_parts
from langchain_tokopt.telemetry.recommendation import FEWEST_EVENTS, Recommendation
from langchain_tokopt.telemetry.report_figures import times

if TYPE_CHECKING:
    from langchain_tokopt.pricing import Pricing, Rates
    from langchain_tokopt.telemetry.recommend_evidence import Evidence
    from langchain_tokopt.telemetry.report_details import BudgetLine

__all__ = ["Recommendation", "recommendations", "too_little"]


def recommendations(
    evidence: Evidence,
    *,
    pricing: Pricing | None = None,
    candidates: Sequence[Rates | str] = (),
    budgets: Sequence[BudgetLine] = (),
) -> tuple[Recommendation, ...]:
    """What to change, by the money that it saves; then what is not about money. Deterministic, reads nothing.

    Args:
        evidence: Of a span of events; see `read_evidence`.
        pricing: What models cost; without it no model is compared with another.
        candidates: Models that may answer instead, beside the next smaller ones of the same family and those that
            are in use: rates, or names for `pricing`.
        budgets: Where budgets stand, with their forecasts.
    """
    found = [
        *about_models(evidence, pricing, candidates),
        *about_parts(evidence),
        *about_budgets(evidence, budgets),
        *about_prices(evidence),
    ]
    return _sorted(found)


def too_little(evidence: Evidence) -> str | None:
    """Why there can be no recommendations about money yet; `None` when there is enough to go by."""
    if evidence.calls >= FEWEST_EVENTS or any(part.applied >= FEWEST_EVENTS for part in evidence.parts):
        return None
    return (
        f"Recommendations about money need at least {FEWEST_EVENTS} model calls of agents, or as many times that a "
        f"part worked; so far there {'is' if evidence.calls == 1 else 'are'} {times(evidence.calls, 'call')}."
    )


def _sorted(found: Iterable[Recommendation]) -> tuple[Recommendation, ...]:
    """By what they save; those that save no money stay in their order, after the others."""

    def place(one: Recommendation) -> tuple[bool, Decimal]:
        return one.saves_usd is None, -(one.saves_usd or Decimal(0))

    return tuple(sorted(found, key=place))
