"""What an answer says of the call that it came from: whether there was one, and what it used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata


def from_a_cache(message: AIMessage) -> bool:
    """Whether no model was called for this answer: it is a hit of our cache, or of a LangChain `BaseCache`."""
    ours = message.response_metadata.get("tokopt")
    if isinstance(ours, Mapping) and ours.get("cache"):
        return True
    usage: Mapping[str, Any] = message.usage_metadata or {}
    return "total_cost" in usage and usage["total_cost"] == 0


def reported_usage(message: AIMessage | None, llm_output: Mapping[str, Any] | None) -> UsageMetadata | None:
    """What the provider says that was used, wherever the integration put it; `None` when it does not say."""
    if message is not None and message.usage_metadata:
        usage = message.usage_metadata
        counts = [usage.get("input_tokens"), usage.get("output_tokens")]
        if all(isinstance(count, int) for count in counts) and any(counts):
            return usage
    for place in (message.response_metadata if message is not None else None, llm_output):
        for key in ("token_usage", "usage"):
            found = (place or {}).get(key)
            if isinstance(found, Mapping) and (used := _token_usage(found)):
                return used
    return None


def _token_usage(found: Mapping[str, Any]) -> UsageMetadata | None:
    """Usage in the form of OpenAI's API or Anthropic's, as older integrations pass it on."""
    counts = [
        next((found[key] for key in keys if isinstance(found.get(key), int)), 0)
        for keys in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
    ]
    return usage_of(*counts) if any(counts) else None


def usage_of(input_tokens: int, output_tokens: int) -> UsageMetadata:
    """Usage of which nothing but the two sums is known."""
    return UsageMetadata(
        input_tokens=input_tokens, output_tokens=output_tokens, total_tokens=input_tokens + output_tokens
    )
