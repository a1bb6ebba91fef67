"""Whether another model makes a call cheaper in what it is short of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_tokopt.budget.hold import Shortage

if TYPE_CHECKING:
    from langchain_tokopt.budget.budget import Budget
    from langchain_tokopt.budget.refusals import CallRefusedError
    from langchain_tokopt.budget.worst_case import WorstCase


def why_not(
    budget: Budget, refused: Shortage | CallRefusedError | None, before: WorstCase, after: WorstCase
) -> str | None:
    """Why the call as it would be after a change of the model is of no use; `None` where it is.

    `refused` is why the call does not fit before that: what it is short of, or that its price is not known.
    """
    new, old = budget.rates(after.model, after.provider), budget.rates(before.model, before.provider)
    if not isinstance(refused, Shortage):
        return f"the price of {after.model} is not known either" if new is None else None
    if old is not None and new is None:
        return f"the price of {after.model} is not known"
    missing, most, least = refused.hold.reserved.beyond(refused.left), before.amount(old), after.amount(new)
    if missing.nano:
        return f"{after.model} would not be cheaper" if least.nano >= most.nano else None
    if missing.tokens:
        return f"{after.model} would not take fewer tokens" if least.tokens >= most.tokens else None
    return "it would be one call as well"
