"""Round figures for budget tests: a counter that counts words, and a model at 1 and 10 USD per million tokens."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import BaseMessage
from langchain_core.messages.ai import UsageMetadata

from langchain_tokopt.budget import Budget, WorstCase
from langchain_tokopt.pricing import Pricing, Rates
from langchain_tokopt.tokens import RequestTokens, TokenCounter

RATES = Rates(input=Decimal(1), output=Decimal(10))
PRICING = Pricing(overrides={"gpt-4o-mini": RATES})

# What a request of 100 counted tokens is reserved with: 5 % and 32 tokens more.
COUNTED = 100
INPUT = 137


class WordCounter(TokenCounter):
    """Every request has 100 tokens; a text has as many as it has words."""

    def source(self, model: str | None = None) -> Literal["tiktoken", "estimate"]:
        return "tiktoken"

    def text(self, text: str, model: str | None = None) -> int:
        return len(text.split())

    def message(self, message: BaseMessage, model: str | None = None, *, known_digest: bytes | None = None) -> int:
        return len(message.text.split())

    def request(self, request: ModelRequest[Any], *, corrected: bool = False) -> RequestTokens:
        return RequestTokens(system=0, tools=0, messages=(COUNTED,), reply=0)


def usage(input_tokens: int, output_tokens: int) -> UsageMetadata:
    return UsageMetadata(
        input_tokens=input_tokens, output_tokens=output_tokens, total_tokens=input_tokens + output_tokens
    )


def case(input_tokens: int = 100, output_tokens: int = 100, **settings: Any) -> WorstCase:
    """At most 0.0011 USD by default."""
    return WorstCase("gpt-4o-mini", "openai", input_tokens, input_tokens, output_tokens, **settings)


def root(budget: Budget) -> dict[str, Any]:
    """The figures of all calls together, under the limit where there is one."""
    return root_of(budget.status())


def root_of(status: Mapping[str, Any]) -> dict[str, Any]:
    """The same, of what a budget or an optimizer says of it."""
    found = [one for one in status["nodes"] if one["node"] == "global" and one["scope"] is None]
    return max(found, key=lambda one: one["origin"] is not None)


def scopes(budget: Budget) -> dict[str, dict[str, Any]]:
    """The figures of each run or thread."""
    return {one["scope"]: one for one in budget.status()["nodes"] if one["scope"] is not None}
