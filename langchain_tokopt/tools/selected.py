"""What is to be done with one request's tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decimal import Decimal

    from langchain.agents.middleware.types import ModelRequest
    from langchain_core.messages import AnyMessage

    from langchain_tokopt.tools.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What to do with one request's tools.

    Attributes:
        reason: Why, in a sentence.
        tools: What to bind; `None` to leave them as they are.
        messages: What to send; `None` to leave them as they are.
        tokens_before: Schema tokens of all tools.
        tokens_after: Tokens of those that the model is told of, in whatever place.
        saved_usd: For this one call, with the provider's prompt cache counted.
        detail: Counts for whoever wants to know more.
        plan: Which tools the model knows of; `None` when it knows all.
        problems: Failures that did not keep the tools from being chosen.
    """

    reason: str
    tools: list[Any] | None = None
    messages: list[AnyMessage] | None = None
    tokens_before: int | None = None
    tokens_after: int | None = None
    saved_usd: Decimal | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    plan: Plan | None = None
    problems: tuple[Exception, ...] = ()

    def sent(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        """The request with these tools and messages."""
        if self.tools is not None:
            request = request.override(tools=self.tools)
        return request if self.messages is None else request.override(messages=self.messages)
