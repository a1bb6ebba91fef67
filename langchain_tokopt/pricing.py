"""What a call costs: usage and model in, USD as `Decimal` out, `None` when the price is not known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.identity import ModelIdentity, model_identity
from langchain_tokopt.rates import MILLION, Rates, UsageParts, from_nano, service_tier, to_nano, usage_parts

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages.ai import UsageMetadata

    from langchain_tokopt.price_list import PriceList

__all__ = [
    "MILLION",
    "ModelIdentity",
    "Pricing",
    "Rates",
    "UsageParts",
    "from_nano",
    "model_identity",
    "to_nano",
    "usage_parts",
]


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


class Pricing:
    """Prices of models: your own, then those of the `genai-prices` package (dated, offline).

    Args:
        overrides: Your own rates, by model name or by "provider:model name".
        clock: The time, timezone-aware; prices change on known days and with the time of day.

    Raises:
        ConfigurationError: An override is not a `Rates`.
    """

    def __init__(
        self, *, overrides: Mapping[str, Rates] | None = None, clock: Callable[[], datetime] = _utc_now
    ) -> None:
        for name, rates in (overrides or {}).items():
            if not isinstance(rates, Rates):
                raise ConfigurationError(f"overrides[{name!r}]", rates, "give Rates(input=..., output=...)")
        self._overrides = dict(overrides or {})
        self._clock = clock
        self._price_list: PriceList | None = None

    def rates(self, model: BaseChatModel | str, provider: str | None = None) -> Rates | None:
        """The model's rates now, `None` when its price is not known. Its prices are those of a small prompt."""
        return self._rates(_identity(model, provider))

    def request_rates(self, request: ModelRequest[Any]) -> Rates | None:
        """The rates of the model that a request will call, a `model` in its settings included."""
        return self._rates(model_identity(request.model, request.model_settings))

    def cost(self, usage: UsageMetadata, model: BaseChatModel | str, provider: str | None = None) -> Decimal | None:
        """USD for one call, `None` when the model's price is not known.

        Prices that rise with the size of the prompt are those for this call's prompt.
        """
        identity = _identity(model, provider)
        own = self._own(identity)
        if own is not None:
            return own.cost(usage)
        if identity.name is None:
            return None
        parts, now = usage_parts(usage), self._clock()
        cost = self._listed().cost(identity, parts, now, tier=service_tier(usage))
        if cost is not None:
            return cost
        rates = self._listed().rates(identity, now)
        return None if rates is None else rates.cost(usage)

    def _rates(self, identity: ModelIdentity) -> Rates | None:
        own = self._own(identity)
        if own is not None or identity.name is None:
            return own
        return self._listed().rates(identity, self._clock())

    def _own(self, identity: ModelIdentity) -> Rates | None:
        return self._overrides.get(f"{identity.provider}:{identity.name}") or self._overrides.get(identity.name or "")

    def _listed(self) -> PriceList:
        if self._price_list is None:
            from langchain_tokopt.price_list import PriceList

            self._price_list = PriceList()
        return self._price_list


def _identity(model: BaseChatModel | str, provider: str | None) -> ModelIdentity:
    identity = model_identity(model)
    return replace(identity, provider=provider) if provider else identity
