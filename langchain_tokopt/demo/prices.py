"""The price tables that the demo is run under: what the optimiser decides depends on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.pricing import Pricing, Rates

OPENAI, ANTHROPIC = "gpt-5-mini", "claude-sonnet-5"
# As langchain-anthropic's AnthropicPromptCachingMiddleware asks for it.
_ASK_FOR_CACHING: Mapping[str, Any] = {"cache_control": {"type": "ephemeral", "ttl": "5m"}}
UNCACHED = f"{OPENAI}-without-prompt-cache"


@dataclass(frozen=True, kw_only=True)
class PriceTable:
    """One model's prices and the way in which its provider caches prompts.

    Attributes:
        key: A short name: "openai", "anthropic", "uncached", or the live model's name.
        provider_title: For people.
        model_title: For people.
        caching: For people: how prompts are cached.
        model: The model's name, as `pricing` knows it.
        provider: The provider, as LangChain names it.
        rates: The prices, `None` for a live model whose price is not known.
        pricing: What tells the optimiser the same prices.
        settings: What every request asks of the provider, such as `cache_control`.
    """

    key: str
    provider_title: str
    model_title: str
    caching: str
    model: str
    provider: str
    rates: Rates | None
    pricing: Pricing
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Which prices these are, in a few words."""
        return f"{self.provider_title} {self.model_title}, {self.caching}"


def price_tables() -> tuple[PriceTable, ...]:
    """The three tables of the scripted model; prices are those of the price list that is installed."""
    listed = Pricing()
    openai, anthropic = _known(listed, OPENAI, "openai"), _known(listed, ANTHROPIC, "anthropic")
    uncached = replace(openai.without_caching(), model=UNCACHED)
    return (
        PriceTable(
            key="openai",
            provider_title="OpenAI",
            model_title=OPENAI,
            caching="automatic cache",
            model=OPENAI,
            provider="openai",
            rates=openai,
            pricing=listed,
        ),
        PriceTable(
            key="anthropic",
            provider_title="Anthropic",
            model_title=ANTHROPIC,
            caching="cache on request",
            model=ANTHROPIC,
            provider="anthropic",
            rates=anthropic,
            pricing=listed,
            settings=_ASK_FOR_CACHING,
        ),
        PriceTable(
            key="uncached",
            provider_title="another host",
            model_title=OPENAI,
            caching="no prompt cache",
            model=UNCACHED,
            provider="openai",
            rates=uncached,
            pricing=Pricing(overrides={UNCACHED: uncached}),
        ),
    )


def live_table(name: str) -> PriceTable:
    """The table of a live model "provider:name"."""
    provider, colon, model = name.partition(":")
    if not colon or not provider or not model:
        raise ConfigurationError("model", name, 'write it as "provider:name", such as "openai:gpt-5-mini"')
    pricing = Pricing()
    return PriceTable(
        key=name,
        provider_title=provider,
        model_title=model,
        caching="live",
        model=model,
        provider=provider,
        rates=pricing.rates(name),
        pricing=pricing,
        settings=_ASK_FOR_CACHING if provider == "anthropic" else {},
    )


def _known(pricing: Pricing, model: str, provider: str) -> Rates:
    rates = pricing.rates(model, provider)
    if rates is None:
        raise ConfigurationError("model", model, "its price is not in the installed genai-prices; install a newer one")
    return rates
