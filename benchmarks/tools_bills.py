"""What threads of an agent cost at a provider: each model call billed with the prompt cache, at listed prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from importlib.util import find_spec
from typing import Any

from langchain_core.language_models import BaseChatModel

from benchmarks.tools_threads import Sent
from langchain_tokopt import Pricing, TokenCounter
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.identity import model_identity
from langchain_tokopt.prefix import PromptCache, Segment, rates_in_use, segments
from langchain_tokopt.pricing import MILLION, Rates


@dataclass(frozen=True)
class PriceTable:
    """A model, and whether its provider's prompt cache is in use."""

    name: str
    model: BaseChatModel
    cached: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)


def price_tables() -> list[PriceTable]:
    """Models that can be told of more tools in a conversation ("+inline") and models that cannot; never called.

    A provider whose LangChain package is not installed has no tables.
    """
    tables = []
    if find_spec("langchain_anthropic"):
        from langchain_anthropic import ChatAnthropic

        claude: Any = partial(ChatAnthropic, api_key="none")
        caching = {"cache_control": {"type": "ephemeral"}}
        tables += [
            PriceTable("anthropic", claude(model="claude-sonnet-4-6"), settings=caching),
            PriceTable("anthropic+inline", claude(model="claude-opus-4-8"), settings=caching),
            PriceTable("uncached", claude(model="claude-sonnet-4-6"), cached=False),
        ]
    if find_spec("langchain_openai"):
        from langchain_openai import ChatOpenAI

        gpt: Any = partial(ChatOpenAI, api_key="none")
        tables += [
            PriceTable("openai", gpt(model="gpt-5-mini")),
            PriceTable("openai+inline", gpt(model="gpt-5.5", use_responses_api=True)),
        ]
    return tables


@dataclass(frozen=True)
class Bill:
    """USD for the model calls of some threads."""

    input: Decimal = Decimal(0)
    output: Decimal = Decimal(0)

    def __add__(self, other: Bill) -> Bill:
        return Bill(self.input + other.input, self.output + other.output)

    @property
    def total(self) -> Decimal:
        """Input and output."""
        return self.input + self.output


@dataclass(frozen=True)
class Weighed:
    """One model call as it is billed: prices, prompt, tokens of the answer."""

    kind: str
    rates: Rates
    prompt: Sequence[Segment]
    output: int


class Biller:
    """Bills threads at one price table.

    Raises:
        ConfigurationError: The price of the model is not known.
    """

    def __init__(self, table: PriceTable, counter: TokenCounter, pricing: Pricing) -> None:
        self._table = table
        self._counter = counter
        rates = pricing.rates(table.model)
        if rates is None:
            raise ConfigurationError("model", model_identity(table.model).name, "use a model whose price is known")
        self._rates = rates

    def bills(self, threads: Sequence[Sequence[Sent]]) -> tuple[Bill, Bill]:
        """What the threads cost: each with what the others began with in the cache, and each with an empty cache."""
        weighed = [[self._weighed(sent) for sent in thread] for thread in threads]
        beginnings = [list({call.kind: call for call in reversed(thread)}.values()) for thread in weighed]
        warm = cold = Bill()
        for number, thread in enumerate(weighed):
            cold += _bill(thread, _cache())
            cache = _cache()
            for call in (call for at, calls in enumerate(beginnings) if at != number for call in calls):
                cache.observe(call.prompt, call.rates)
            warm += _bill(thread, cache)
        return warm, cold

    def _weighed(self, sent: Sent) -> Weighed:
        request = sent.request.override(model=self._table.model, model_settings=dict(self._table.settings))
        output = self._counter.message(sent.answer, self._rates.model)
        return Weighed(sent.kind, rates_in_use(request, self._rates), segments(request, self._counter), output)


def _cache() -> PromptCache:
    return PromptCache(clock=lambda: 0.0)  # all calls come in time


def _bill(thread: Sequence[Weighed], cache: PromptCache) -> Bill:
    bill = Bill()
    for call in thread:
        cost = cache.observe(call.prompt, call.rates).cost(call.rates)
        bill += Bill(cost, call.output * call.rates.output / MILLION)
    return bill
