"""The price list of `genai-prices`: finds a model in it, and prices a call.

The package is imported here and not before a price is asked for: it takes a fifth of a second.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from genai_prices import Usage
from genai_prices.data_snapshot import get_snapshot

from langchain_tokopt.encodings import is_openai
from langchain_tokopt.provider_caching import caching_rules
from langchain_tokopt.rates import Rates, UsageParts

if TYPE_CHECKING:
    from langchain_tokopt.identity import ModelIdentity

# Providers that run models on the user's own machines: the list would name somebody else's price.
_SELF_HOSTED: Final = frozenset({"ollama", "llamacpp", "vllm", "huggingface_pipeline", "mlx", "gpt4all"})
_BEDROCK_NAME: Final = re.compile(r"(?:[a-z-]+\.)?(?P<maker>[a-z]+)\.(?P<model>[\w.-]+?)(?:-v\d+)?(?::\d+)?")
_MOST_REMEMBERED: Final = 4096


class PriceList:
    """Prices by model."""

    def __init__(self) -> None:
        self._snapshot: Any = None
        self._found: dict[ModelIdentity, tuple[Any, Any] | None] = {}

    def rates(self, identity: ModelIdentity, now: datetime) -> Rates | None:
        """The model's rates for prompts of any size, `None` when its price is not known."""
        found = self._find(identity)
        if found is None:
            return None
        provider, model = found
        prices = model.get_prices(now)
        small = _rates(provider, model, identity.name or "", prices, 0)
        if small is None:
            return None
        larger = [(start, _rates(provider, model, identity.name or "", prices, start + 1)) for start in _starts(prices)]
        return replace(small, tiers=tuple((start, rates) for start, rates in larger if rates is not None))

    def cost(self, identity: ModelIdentity, parts: UsageParts, now: datetime, *, tier: str | None) -> Decimal | None:
        """USD for a call, with all that the list knows: sizes of prompts, prices per request, service tiers.

        Returns `None` when the list does not know the model or cannot price the call.
        """
        found = self._find(identity)
        if found is None:
            return None
        provider, model = found
        counts = {
            "input_tokens": parts.input,
            "cache_read_tokens": parts.read,
            "cache_write_tokens": parts.write + parts.write_1h,
            "output_tokens": parts.output,
        }
        if parts.write_1h and getattr(model.get_prices(now), "cache_write_1h_mtok", None) is not None:
            counts["cache_write_1h_tokens"] = parts.write_1h
        # Older versions of the package know neither service tiers nor their argument.
        context: dict[str, Any] = {"price_context": {"service_tier": tier}} if tier else {}
        try:
            return Decimal(
                model.calc_price(Usage(**counts), provider, genai_request_timestamp=now, **context).total_price
            )
        except (TypeError, ValueError):
            return None

    def _find(self, identity: ModelIdentity) -> tuple[Any, Any] | None:
        snapshot = get_snapshot()
        if snapshot is not self._snapshot or len(self._found) >= _MOST_REMEMBERED:
            self._snapshot, self._found = snapshot, {}
        if identity not in self._found:
            self._found[identity] = next(filter(None, (_lookup(snapshot, *way) for way in _ways(identity))), None)
        return self._found[identity]


def _rates(provider: Any, model: Any, name: str, prices: Any, prompt_tokens: int) -> Rates | None:
    """The rates for a prompt of that size."""

    def price(key: str) -> Decimal | None:
        return _for_prompt(getattr(prices, key, None), prompt_tokens)

    plain = price("input_mtok")
    if plain is None:
        return None
    read, write, write_1h = price("cache_read_mtok"), price("cache_write_mtok"), price("cache_write_1h_mtok")
    rules = caching_rules(
        provider.id, name, has_read_price=read is not None, pays_for_writing=write is not None and write > plain
    )
    write = plain if write is None else write
    return Rates(
        provider=provider.id,
        model=model.id,
        input=plain,
        output=price("output_mtok") or Decimal(0),
        cache_read=plain if read is None else read,
        cache_write=write,
        cache_write_1h=write if write_1h is None else write_1h,
        caching=rules.caching,
        min_cache_tokens=rules.min_tokens,
        cache_increment=rules.increment,
        cache_ttl_seconds=rules.ttl_seconds,
    )


def _starts(prices: Any) -> list[int]:
    """The sizes of prompts beyond which a price rises."""
    tiers = [tier for price in vars(prices).values() for tier in getattr(price, "tiers", None) or ()]
    return sorted({int(tier.start) for tier in tiers})


def _ways(identity: ModelIdentity) -> Iterator[tuple[str, str | None, str | None]]:
    """Names under which the list may know the model: (model, provider, address), the surest first."""
    name, provider = identity.name, identity.provider
    if not name or provider in _SELF_HOSTED:
        return
    if identity.url is not None:
        # An OpenAI-compatible server: whose, tells its address. On a private one only OpenAI's own models are priced,
        # which nobody else can serve: there it is a gateway.
        if not _is_private(identity.url):
            yield name, None, identity.url
            yield name, None, None
        elif is_openai(name) and "gpt-oss" not in name:
            yield name, "openai", None
        return
    yield name, provider, None
    bedrock = _BEDROCK_NAME.fullmatch(name)
    if provider is not None and "bedrock" in provider and bedrock:
        yield f"{bedrock['maker']}.{bedrock['model']}", provider, None
        yield bedrock["model"], bedrock["maker"], None
    if provider is not None and not _knows(provider):
        yield name, None, None


def _lookup(snapshot: Any, name: str, provider: str | None, url: str | None) -> tuple[Any, Any] | None:
    try:
        found: tuple[Any, Any] = snapshot.find_provider_model(name, None, provider, url)
    except LookupError:
        return None
    return found


def _knows(provider: str) -> bool:
    try:
        get_snapshot().find_provider(None, provider, None)
    except LookupError:
        return False
    return True


def _for_prompt(price: Any, prompt_tokens: int) -> Decimal | None:
    """A price that may rise with the size of the prompt; then all its tokens are billed at the higher one."""
    if not hasattr(price, "tiers"):
        return price if isinstance(price, Decimal) else None
    reached = [tier.price for tier in price.tiers if prompt_tokens > tier.start]
    return Decimal(reached[-1] if reached else price.base)


def _is_private(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".localhost"))
