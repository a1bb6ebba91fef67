"""What models cost for a budget, and what becomes of calls whose price is not known."""

from __future__ import annotations

import logging
from typing import Literal

from langchain_tokopt.budget.hold import Hold
from langchain_tokopt.budget.refusals import UnknownPriceError, no_price
from langchain_tokopt.budget.rules import Ruled
from langchain_tokopt.pricing import Pricing, Rates

log = logging.getLogger("langchain_tokopt")


class Prices:
    """Prices of models, with the policy for those that have none.

    Args:
        pricing: Knows what models cost; prices that come with the package where it is `None`.
        unknown: "tokens" leaves calls without a price out of limits in USD, "refuse" stops them, `Rates` are taken as
            their price.

    Attributes:
        pricing: As given.
    """

    def __init__(self, pricing: Pricing | None, unknown: Literal["tokens", "refuse"] | Rates) -> None:
        self.pricing = pricing
        self._unknown = unknown
        self._said: set[str | None] = set()

    def rates(self, model: str | None, provider: str | None) -> Rates | None:
        """Prices of the model, `None` when they are not known."""
        if self.pricing is None:
            self.pricing = Pricing()
        found = None if model is None else self.pricing.rates(model, provider)
        if found is None and isinstance(self._unknown, Rates):
            return self._unknown
        return found

    def check(self, name: str, hold: Hold) -> UnknownPriceError | None:
        """Why the call is stopped that lacks a price under a limit in USD; `None` when it may go on."""
        ruled = _outside(hold)
        if ruled is None:
            return None
        if self._unknown == "refuse":
            return no_price(name, hold.case.model, ruled)
        if hold.case.model not in self._said:
            self._said.add(hold.case.model)
            log.warning(
                "budget %r: the price of model %r is not known, so its calls are outside the limit in USD; give its "
                "rates with Pricing(overrides=...), or set unknown_price",
                name,
                hold.case.model,
            )
        return None

    def why(self, hold: Hold) -> str | None:
        """What has to be said of a reservation without a price."""
        if _outside(hold) is None:
            return None
        return f"the price of {hold.case.model} is not known: outside the limit in USD"


def _outside(hold: Hold) -> Ruled | None:
    """The limit in USD that the call is outside of, because its price is not known."""
    if hold.rates is not None or hold.case.nano is not None or not hold.reserved.tokens:
        return None
    return next((one for one in hold.terms.ruled if one.rule.limit.nano is not None), None)
