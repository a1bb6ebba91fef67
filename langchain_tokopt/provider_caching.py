"""How the prompt caches of the providers work: when they cache, from which size on, in which steps, for how long."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True)
class CachingRules:
    """The rules of one model's prompt cache.

    Attributes:
        caching: Whether the provider caches by itself, only when the request asks for it, or not at all.
        min_tokens: A shorter prompt is not cached.
        increment: The cache is read in steps of so many tokens.
        ttl_seconds: How long a prefix is kept after its last use.
    """

    caching: Literal["automatic", "explicit", "none"]
    min_tokens: int = 0
    increment: int = 1
    ttl_seconds: float = 300.0


_NONE: Final = CachingRules("none")

# https://platform.claude.com/docs/en/build-with-claude/prompt-caching ("Cache limitations"): five minutes from the last
# use. The first pattern that is found holds; models that are not listed there are taken to need 1,024 tokens.
_CLAUDE_MINIMA: Final = (
    (re.compile(r"haiku-4-5|opus-4-[56]\b"), 4096),
    (re.compile(r"claude-3-(?:5-)?haiku|opus-4-7|mythos-preview"), 2048),
    (re.compile(r"opus-5|fable-5|mythos-5"), 512),
)
_CLAUDE_MINIMUM: Final = 1024

# https://developers.openai.com/api/docs/guides/prompt-caching: from 1,024 tokens on, in steps of 128, kept for 5 to 10
# minutes of inactivity. Since GPT-5.6 writing costs more than plain input, up to a breakpoint that OpenAI sets at the
# last message, and is kept for 30 minutes at least.
_OPENAI: Final = CachingRules("automatic", 1024, 128, 300.0)
_OPENAI_WITH_WRITES: Final = CachingRules("automatic", 1024, 1, 1800.0)

# https://ai.google.dev/gemini-api/docs/caching ("Implicit caching"): since Gemini 2.5, 2,048 tokens for 2.5 and 4,096
# for later models. How long is not said; a few minutes were seen.
_GEMINI: Final = re.compile(r"gemini-(\d+)(?:\.(\d+))?")

# https://api-docs.deepseek.com/guides/kv_cache: on disk, units of 64 tokens, kept for hours to days.
_DEEPSEEK: Final = CachingRules("automatic", 64, 64, 3600.0)

# https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html: cache checkpoints, Nova like Claude.
_NOVA: Final = CachingRules("explicit", 1024)


def caching_rules(provider: str, model: str, *, has_read_price: bool, pays_for_writing: bool = False) -> CachingRules:
    """The rules for a model, by the price list's id of the provider and the model's name.

    Without a price for reading from the cache there is none to count on.
    """
    name = model.lower().replace(".", "-") if "claude" in model.lower() else model.lower()
    if not has_read_price:
        return _NONE
    if "claude" in name:
        minimum = next((tokens for pattern, tokens in _CLAUDE_MINIMA if pattern.search(name)), _CLAUDE_MINIMUM)
        return CachingRules("explicit", minimum)
    if gemini := _GEMINI.search(name):
        version = (int(gemini[1]), int(gemini[2] or 0))
        if version < (2, 5):
            return _NONE  # older models cache only what was uploaded as a cache of its own
        return CachingRules("automatic", 2048 if version == (2, 5) else 4096)
    if "nova" in name and provider == "aws":
        return _NOVA
    if provider == "deepseek":
        return _DEEPSEEK
    # The others that have a price for reading from the cache work like OpenAI's.
    return _OPENAI_WITH_WRITES if pays_for_writing else _OPENAI
