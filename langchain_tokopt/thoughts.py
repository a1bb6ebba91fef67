"""Models whose thoughts are signed, so that they hold only after what they were thought after."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from langchain_core.messages import AIMessage

from langchain_tokopt.identity import client_of, model_identity

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest

# Claude from 5.1 on binds its thoughts to what came before them, and thinks unless it is told not to, if it can be.
# https://platform.claude.com/docs/en/build-with-claude/preserved-thinking
_CLAUDE_VERSION: Final = re.compile(r"claude-[a-z]+-(\d+)(?:[.-](\d{1,2}))?(?!\d)")
_BINDS_SINCE: Final = (5, 1)


def binds_thoughts(request: ModelRequest[Any]) -> bool:
    """Whether the model's thoughts may be refused when the tools before them change: Claude's, when it thinks.

    The signature of a thought covers, with newer models, all that came before it.
    """
    client = client_of(request.model)
    if getattr(client, "_llm_type", None) != "anthropic-chat":
        return False
    thinking = request.model_settings.get("thinking", getattr(client, "thinking", None))
    if isinstance(thinking, Mapping) and thinking.get("type") != "disabled":
        return True
    version = _version(request)
    if thinking is None and version is not None and version >= _BINDS_SINCE:
        return True
    return any(
        isinstance(block, Mapping) and block.get("type") in ("thinking", "redacted_thinking")
        for message in request.messages
        if isinstance(message, AIMessage) and isinstance(message.content, list)
        for block in message.content
    )


def binds_history(request: ModelRequest[Any]) -> bool:
    """Whether the model's thoughts are refused when any message before them changes: not those of an older Claude."""
    version = _version(request)
    return binds_thoughts(request) and (version is None or version >= _BINDS_SINCE)


def _version(request: ModelRequest[Any]) -> tuple[int, int] | None:
    """Of a Claude whose name tells it."""
    found = _CLAUDE_VERSION.search(model_identity(client_of(request.model), request.model_settings).name or "")
    return (int(found[1]), int(found[2] or 0)) if found else None
