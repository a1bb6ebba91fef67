"""Prices of one model, and what a call costs at them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

from langchain_tokopt.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_core.messages.ai import UsageMetadata

MILLION: Final = Decimal(1_000_000)
_NANO: Final = Decimal(1_000_000_000)
_AS_ABOVE: Final = Decimal("NaN")
_PRICES: Final = ("input", "output", "cache_read", "cache_write", "cache_write_1h")


def to_nano(usd: Decimal) -> int:
    """USD as whole nano-USD, rounded up: a sum of parts is never below the bill."""
    return int((usd * _NANO).to_integral_value(rounding=ROUND_CEILING))


def from_nano(nano: int) -> Decimal:
    """Nano-USD as USD."""
    return Decimal(nano) / _NANO


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Prices of one model, in USD per million tokens, and the rules of its provider's prompt cache.

    Attributes:
        provider: The provider as the price list names it.
        model: The model as the price list names it.
        input: Input tokens that are neither read from the cache nor written to it.
        output: Output tokens, reasoning included.
        cache_read: Tokens read from the cache; as `input` when there is no such price.
        cache_write: Tokens written to the cache; as `input` when there is no such price.
        cache_write_1h: Tokens written to Anthropic's cache of one hour; as `cache_write` when there is no such price.
        caching: Whether the provider caches by itself, only when the request asks for it, or not at all.
        min_cache_tokens: A shorter prompt is not cached.
        cache_increment: The cache is read in steps of so many tokens.
        cache_ttl_seconds: How long a prefix is kept after its last use.
        tiers: Where the prices of all tokens rise with the size of the prompt: `(tokens, rates)`, the rates for prompts
            of more tokens than that, in rising order. The prices above are those of a small prompt.

    Raises:
        ConfigurationError: A price is not a finite `Decimal` of 0 or more, or a rule makes no sense.
    """

    provider: str = ""
    model: str = ""
    input: Decimal
    output: Decimal
    cache_read: Decimal = _AS_ABOVE
    cache_write: Decimal = _AS_ABOVE
    cache_write_1h: Decimal = _AS_ABOVE
    caching: Literal["automatic", "explicit", "none"] = "none"
    min_cache_tokens: int = 0
    cache_increment: int = 1
    cache_ttl_seconds: float = 300.0
    tiers: tuple[tuple[int, Rates], ...] = ()

    def __post_init__(self) -> None:
        for name, above in (("cache_read", "input"), ("cache_write", "input"), ("cache_write_1h", "cache_write")):
            if getattr(self, name) is _AS_ABOVE:
                object.__setattr__(self, name, getattr(self, above))
        for name in _PRICES:
            price = getattr(self, name)
            if not isinstance(price, Decimal) or not price.is_finite() or price < 0:
                raise ConfigurationError(name, price, 'give USD per million tokens as a Decimal, as in Decimal("2.50")')
        if self.caching not in ("automatic", "explicit", "none"):
            raise ConfigurationError("caching", self.caching, 'use "automatic", "explicit" or "none"')
        if self.min_cache_tokens < 0:
            raise ConfigurationError("min_cache_tokens", self.min_cache_tokens, "use 0 or more tokens")
        if self.cache_increment < 1:
            raise ConfigurationError("cache_increment", self.cache_increment, "use 1 or more tokens")
        if not self.cache_ttl_seconds > 0:
            raise ConfigurationError("cache_ttl_seconds", self.cache_ttl_seconds, "use more than 0 seconds")
        starts = [start for start, _ in self.tiers]
        if any(start < 1 for start in starts) or starts != sorted(set(starts)):
            raise ConfigurationError(
                "tiers", self.tiers, "give ((200_000, Rates(...)), ...), with rising numbers of tokens"
            )

    def cost(self, usage: UsageMetadata) -> Decimal:
        """USD for one call. Cached tokens are part of the input, reasoning is part of the output: nothing twice."""
        parts = usage_parts(usage)
        rates = self.for_prompt(parts.input)
        return (
            rates.input * parts.plain
            + rates.cache_read * parts.read
            + rates.cache_write * parts.write
            + rates.cache_write_1h * parts.write_1h
            + rates.output * parts.output
        ) / MILLION

    def for_prompt(self, tokens: int) -> Rates:
        """The rates for a prompt of that size."""
        reached = [rates for start, rates in self.tiers if tokens > start]
        return reached[-1] if reached else self

    def without_caching(self) -> Rates:
        """The same prices for a request that does not use the provider's cache."""
        tiers = tuple((start, rates.without_caching()) for start, rates in self.tiers)
        plain = replace(self, cache_read=self.input, cache_write=self.input, cache_write_1h=self.input)
        return replace(plain, caching="none", tiers=tiers)


@dataclass(frozen=True)
class UsageParts:
    """One call's tokens by price, each counted once: `plain + read + write + write_1h` is the input."""

    plain: int
    read: int
    write: int
    write_1h: int
    output: int

    @property
    def input(self) -> int:
        """All input tokens."""
        return self.plain + self.read + self.write + self.write_1h


def usage_parts(usage: UsageMetadata) -> UsageParts:
    """A call's tokens by price. Where a report contradicts itself, its parts are cut down to the input it names.

    langchain-anthropic reports what was written as `cache_creation`, or by lifetime as `ephemeral_5m_input_tokens` and
    `ephemeral_1h_input_tokens` with `cache_creation` at 0. langchain-openai puts the service tier before the keys
    ("flex_cache_read").
    """
    details: Mapping[str, Any] = usage.get("input_token_details") or {}
    total = _count(usage.get("input_tokens"))
    read = min(_of_any_tier(details, "cache_read"), total)
    hour = min(_count(details.get("ephemeral_1h_input_tokens")), total - read)
    # Where both the sum and its parts are reported, they mean the same tokens.
    minutes = max(_count(details.get("ephemeral_5m_input_tokens")), _of_any_tier(details, "cache_creation") - hour)
    minutes = min(minutes, total - read - hour)
    return UsageParts(total - read - minutes - hour, read, minutes, hour, _count(usage.get("output_tokens")))


def service_tier(usage: UsageMetadata) -> str | None:
    """The service tier that a call was billed in, if it is not the standard one: "flex" or "priority"."""
    details: Mapping[str, Any] = usage.get("input_token_details") or {}
    return next((tier for tier in ("flex", "priority") if tier in details), None)


def _of_any_tier(details: Mapping[str, Any], key: str) -> int:
    return max(_count(details.get(name)) for name in (key, f"priority_{key}", f"flex_{key}"))


def _count(value: Any) -> int:
    return max(0, int(value)) if isinstance(value, (int, float)) and math.isfinite(value) else 0
